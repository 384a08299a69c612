//! A panel that shows a run while it trains in the background.

use crate::display::{Bundle, Displayed, Show, before_sync, brief, dashboard, in_kernel, work_in_background};
use crate::plot::Figure;
use crate::run::{History, Run, State, Status};
use crate::train::StepReport;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Time between two looks at a run.
const LOOK: Duration = Duration::from_millis(500);
/// Drawing takes this part of the time at most: the rest belongs to the training.
const SHARE: u32 = 10;
/// Points of a curve at most: a long run is drawn in means of some steps each.
const POINTS: usize = 400;
/// Panels of a run that are updated: a cell that is executed again leaves one behind that nobody sees.
const PANELS: usize = 16;

/// What [`Run::live`] gives: in the lorascope kernel nothing, as the panel is in the cell already; elsewhere the panel as
/// it was when it was made.
#[derive(Clone, PartialEq, Eq)]
pub struct LivePanel(Bundle);

brief!(LivePanel);

impl Show for LivePanel {
    fn show(&self) -> Bundle {
        self.0.clone()
    }
}

impl Run {
    /// Puts a panel into the cell that goes on following the run while it trains in the background and other cells are
    /// executed, at most twice a second: state, step, loss, learning rate, speed, memory of each device, time left,
    /// curves, effective ranks and singular values. It rests with the run, moves on with it, and ends with its last
    /// figures.
    ///
    /// This needs the lorascope kernel. In the stock kernel it is the same panel once, as of now.
    ///
    /// # Examples
    /// ```no_run
    /// # let run = lorascope::run::Run::get("school-math")?;
    /// run.start(200)?;
    /// run.live() // the cell has ended, and its panel goes on
    /// # ; Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn live(&self) -> LivePanel {
        if !in_kernel() {
            return LivePanel(panel(self));
        }
        let first = {
            let mut panels = panels(self);
            let first = panels.is_empty();
            panels.push(Displayed::new("run-live", &panel(self)));
            let more = panels.len().saturating_sub(PANELS);
            panels.drain(..more);
            first
        };
        if first {
            let _ = self.0.show_end.set(finish); // unless another cell was as fast
            watch(self);
        }
        LivePanel(().show())
    }
}

fn panels(run: &Run) -> MutexGuard<'_, Vec<Displayed>> {
    run.0.panels.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The run as it is now: its status, and the figures that there are.
fn panel(run: &Run) -> Bundle {
    // The notes on the rows stay in a panel, and are told elsewhere as if there were none.
    let status = Status { told: Arc::default(), ..run.status() };
    let spectra = run.spectra().ok().filter(|spectra| !spectra.is_empty());
    // Before the first step there is no loss, and all singular values are zero.
    let (history, begun) = (curve(run), run.status().last.is_some());
    let figures = [
        history.curves().ok(),
        spectra.as_ref().and_then(|spectra| spectra.heat_map().ok()),
        spectra.as_ref().and_then(|spectra| spectra.plot().ok()),
    ];
    let figures: Vec<Figure> = figures.into_iter().flatten().filter(|_| begun).collect();
    let parts = std::iter::once(&status as &dyn Show).chain(figures.iter().map(|figure| figure as &dyn Show));
    dashboard(run.footer(), &parts.collect::<Vec<_>>()).show()
}

/// The history with no more points than a panel draws, without what takes memory.
fn curve(run: &Run) -> History {
    let current = run.0.shared.read();
    let evaluated = run.0.shared.evaluated(&current.history);
    let each = current.history.len().div_ceil(POINTS).max(1);
    let points = current.history.chunks(each).filter_map(mean).collect();
    drop(current);
    let footer = match each {
        1 => run.footer(),
        each => format!("{} · means of {each} steps", run.footer()),
    };
    History::new(points, footer).with_evaluations(evaluated)
}

/// The numbers that are drawn of some steps in a row: the means of loss and gradient norm, the latest of the others.
fn mean(steps: &[StepReport]) -> Option<StepReport> {
    let last = steps.last()?;
    let mean = |of: fn(&StepReport) -> f64| steps.iter().map(of).sum::<f64>() / steps.len() as f64;
    Some(StepReport {
        step: last.step,
        lr: last.lr,
        loss: mean(|step| step.loss),
        gradient_norm: mean(|step| step.gradient_norm),
        eval_loss: steps.iter().rev().find_map(|step| step.eval_loss),
        ..StepReport::default()
    })
}

/// Shows in all panels of a run what it is now, at once.
fn finish(run: &Run) {
    let panels = panels(run); // first: of two that draw, the later one has the later state
    let bundle = panel(run);
    panels.iter().for_each(|shown| shown.finish(&bundle));
}

/// Follows a run for its panels until it is closed. It does not keep the run alive.
struct Watch {
    run: Weak<crate::run::handle::RunInner>,
    shown: Option<Mark>,
}

/// What tells whether there is something new to show.
#[derive(Debug, Clone, PartialEq)]
struct Mark {
    state: State,
    step: u64,
    seconds: f64,
    goal: Option<u64>,
    notes: Vec<String>,
    snapshot: Option<u64>,
}

impl Mark {
    fn of(status: Status) -> Self {
        let seconds = status.last.as_ref().map_or(0.0, |last| last.seconds);
        let Status { state, step, goal, notes, snapshot, .. } = status;
        Self { state, step, seconds, goal: goal.step, notes, snapshot }
    }
}

/// Which runs are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that do not train: nothing more comes of them, and a notebook that ends with this cell keeps it.
    Resting,
}

impl Watch {
    /// Updates the panels where there is something new; returns false once nothing more comes.
    fn look(&mut self, which: Which) -> bool {
        let Some(inner) = self.run.upgrade().filter(|_| in_kernel()) else { return false };
        let run = Run(inner);
        let mark = Mark::of(run.status());
        let trains = mark.state == State::Running;
        if trains && which == Which::Resting {
            return true;
        }
        let over = mark.state == State::Closed;
        if self.shown.as_ref() != Some(&mark) {
            match trains {
                true => {
                    let panels = panels(&run);
                    let bundle = panel(&run);
                    panels.iter().for_each(|shown| shown.replace(&bundle));
                }
                false => finish(&run),
            }
            self.shown = Some(mark);
        }
        !over
    }
}

/// Starts the thread that follows a run.
fn watch(run: &Run) {
    let watch = Arc::new(Mutex::new(Watch { run: Arc::downgrade(&run.0), shown: None }));
    let look = |watch: &Mutex<Watch>, which| watch.lock().unwrap_or_else(PoisonError::into_inner).look(which);
    let followed = Arc::downgrade(&watch);
    before_sync(move || followed.upgrade().is_some_and(|watch| look(&watch, Which::Resting)));
    let thread = std::thread::Builder::new().name(format!("panel of {}", run.name()));
    let begun = thread.spawn(move || {
        work_in_background();
        loop {
            let begun = Instant::now();
            if !look(&watch, Which::All) {
                return;
            }
            std::thread::sleep(LOOK.max(begun.elapsed() * SHARE));
        }
    });
    if let Err(error) = begun {
        run.0.shared.note(format!("the panel does not move: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_a_long_run_is_a_mean_of_steps() {
        let step = |step: u64, eval_loss| StepReport {
            step,
            loss: step as f64,
            gradient_norm: 2.0 * step as f64,
            lr: 1.0 / step as f64,
            eval_loss,
            tokens: 9,
            ..StepReport::default()
        };
        let steps = [step(2, None), step(4, Some(0.5)), step(9, None)];
        let point = StepReport {
            step: 9,
            loss: 5.0,
            gradient_norm: 10.0,
            lr: 1.0 / 9.0,
            eval_loss: Some(0.5),
            ..StepReport::default()
        };
        assert!(mean(&steps) == Some(point));
        assert!(mean(&steps[..1]).is_some_and(|one| (one.loss, one.eval_loss) == (2.0, None)));
        assert!(mean(&[]).is_none());
    }
}
