//! The status of a run.

use crate::devices::DeviceStatus;
use crate::display::{self, Align, Bundle, Progress, Show, Table, advice};
use crate::train::{Goal, StepReport};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing to do: no steps were asked for, or all of them are done.
    Idle,
    /// The run trains.
    Running,
    /// Steps are left; `resume` goes on.
    Paused,
    /// The run has ended by itself: its schedule or a cooldown is over, or it stopped early. Going on needs another
    /// schedule, a rewind or a fork.
    Finished,
    /// A step failed, with the message; what was learned before it is kept, and `resume` tries again.
    Failed(String),
    /// It was closed or replaced, or its thread broke down: [`Run::open`](crate::run::Run::open) reads it
    /// from disk.
    Closed,
}

/// Why a run is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its learning rate has ended: that of the schedule or of a cooldown.
    Rate {
        /// At this step.
        step: u64,
    },
    /// Its patience is used up.
    Early {
        /// The number of evaluations in a row
        evaluations: u64,
        /// that were no better than the one after this step.
        best: u64,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { step } => write!(f, "its learning rate ended at step {step}"),
            Self::Early { evaluations, best } => {
                let s = if *evaluations == 1 { "" } else { "s" };
                write!(f, "stopped early: {evaluations} evaluation{s} no better than step {best}")
            }
        }
    }
}

/// The status of a run.
#[derive(Debug, Clone)]
pub struct Status {
    /// The run's name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Steps done.
    pub step: u64,
    /// Where it will stop.
    pub goal: Goal,
    /// The step after which it is finished, if it has an end of its own.
    pub end: Option<u64>,
    /// Why it is finished, if it is.
    pub ending: Option<Ending>,
    /// The losses of the latest steps, for a picture in one line.
    pub losses: Vec<f64>,
    /// Notes for a person: why it paused, what was wrong on disk.
    pub notes: Vec<String>,
    /// Notes on the rows: how many are left out, and what was found before the first step. The run always shows them;
    /// a status shows them once, unless the run was shown before.
    pub about_rows: Vec<String>,
    /// Whether it was shown.
    pub(crate) told: Arc<AtomicBool>,
    /// The numbers of the latest step.
    pub last: Option<StepReport>,
    /// The learning rate of the next step, where there may be one.
    pub next_lr: Option<f64>,
    /// The step of the newest snapshot on disk.
    pub snapshot: Option<u64>,
    /// Seconds that it took to write.
    pub snapshot_seconds: Option<f64>,
    /// Time that the steps left will take, at the pace of the latest ones, where the run trains or is paused.
    pub left: Option<Duration>,
    /// What each device has done, where the run trains on several.
    pub devices: Vec<DeviceStatus>,
    /// Where the run lies on disk.
    pub folder: PathBuf,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Running => f.write_str("running"),
            Self::Paused => write!(f, "paused: {} goes on", advice("resume()", "--resume")),
            Self::Finished => f.write_str("finished"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Closed => f.write_str(advice("closed: Run::open(folder)? reads it from disk", "closed")),
        }
    }
}

impl Status {
    /// The step after which it stops, where that is known.
    fn last_step(&self) -> Option<u64> {
        [self.goal.step, self.end].into_iter().flatten().min()
    }

    /// Reports the steps done so far, counted from the run's beginning, and the latest loss.
    pub fn report(&self, progress: &mut Progress) {
        let note = self.last.as_ref().map_or(String::new(), |step| format!("loss {:.3}", step.loss));
        progress.set_total(self.last_step().unwrap_or(0));
        progress.advance(self.step.saturating_sub(progress.done()), &note);
    }

    /// The steps done, and the goal: `40 of 200`.
    pub fn progress(&self) -> String {
        let mut text = self
            .last_step()
            .filter(|last| *last > 0)
            .map_or(self.step.to_string(), |last| format!("{} of {last}", self.step));
        if let Some(loss) = self.goal.loss {
            text += &format!(", until the loss is below {loss}");
        }
        if let Some(loss) = self.goal.eval_loss {
            text += &format!(", until the loss in evaluation is below {loss}");
        }
        text
    }

    /// The learning rate of the latest step, and that of the next one where it differs.
    fn rates(&self, last: &StepReport) -> String {
        match self.next_lr.filter(|next| *next != last.lr) {
            Some(next) => {
                format!("{:.2e} in step {}, {next:.2e} in step {}", last.lr, last.step, self.step + 1)
            }
            None => format!("{:.2e}", last.lr),
        }
    }
}

impl Show for Status {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption(&self.name).whole();
        let state = match self.ending {
            Some(ending @ Ending::Early { best, .. }) => {
                let back = advice(format!("run.rewind({best})"), "--resume --rewind best".to_string());
                format!("finished, {ending}; {back}")
            }
            Some(ending) => format!("finished: {ending}"),
            None => self.state.to_string(),
        };
        table.row(["state".to_string(), state]);
        table.row(["step".to_string(), self.progress()]);
        if let Some(last) = &self.last {
            let curve = crate::plot::sparkline(&self.losses);
            table.row(["loss".to_string(), format!("{:.4} {curve}", last.loss)]);
            table.row(["gradient norm".to_string(), format!("{:.3}", last.gradient_norm)]);
            table.row(["learning rate".to_string(), self.rates(last)]);
            table.row([
                "speed".to_string(),
                format!("{:.0} tokens/s, {:.1} s a step", last.tokens_per_second(), last.seconds),
            ]);
            if let Some(memory) = last.memory {
                table.row(["memory".to_string(), display::bytes(memory)]);
            }
        }
        self.devices.iter().for_each(|device| table.row([device.name.clone(), device.to_string()]));
        if let (None, Some(lr)) = (&self.last, self.next_lr) {
            table.row(["first step".to_string(), format!("at a learning rate of {lr:.2e}")]);
        }
        if let Some(left) = self.left {
            table.row(["time left".to_string(), display::duration(left)]);
        }
        if let Some(snapshot) = self.snapshot {
            table.row(["on disk".to_string(), format!("step {snapshot} in {}", self.folder.display())]);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            self.about_rows.iter().for_each(|note| table.row(["note", note.as_str()]));
        }
        for note in &self.notes {
            table.row(["note", note]);
        }
        table.show()
    }
}
