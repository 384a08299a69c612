//! The numbers of each step as they come.

use super::handle::Run;
use super::state::status::State;
use crate::display::stop_requested;
use crate::train::StepReport;
use std::time::Duration;

/// Time between two looks for a new report and at the stop button.
const LOOK: Duration = Duration::from_millis(50);

/// The reports of a run's steps, one after the other: [`next`](Iterator::next) waits for a step that is being
/// done, and there is no next one when the run rests. The stop button of the notebook pauses the run.
#[derive(Debug, Clone)]
pub struct Reports {
    run: Run,
    seen: usize,
}

impl Run {
    /// The reports of the steps after this one, those that are done and those that come while the run trains.
    ///
    /// # Examples
    /// ```no_run
    /// # let run = lorascope::run::Run::get("school-math")?;
    /// let done = run.start(200)?.step;
    /// for report in run.reports(done) {
    ///     println!("{}", report.json()?); // one line of JSON for each step
    /// }
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn reports(&self, after: u64) -> Reports {
        Reports { run: self.clone(), seen: usize::try_from(after).unwrap_or(usize::MAX) }
    }
}

impl Iterator for Reports {
    type Item = StepReport;

    fn next(&mut self) -> Option<StepReport> {
        let shared = &self.run.0.shared;
        loop {
            {
                let current = shared.read();
                if let Some(report) = current.history.get(self.seen) {
                    self.seen += 1;
                    return Some(report.clone());
                }
                self.seen = self.seen.min(current.history.len()); // the run went back
                if current.state != State::Running {
                    return None;
                }
            }
            if stop_requested() {
                if let Err(error) = self.run.pause() {
                    shared.note(format!("not paused: {error}"));
                }
                return None;
            }
            shared.wait(LOOK);
        }
    }
}
