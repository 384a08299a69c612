//! What a run is doing.

use super::history::StepReport;
use crate::display::{self, Align, Bundle, Show, Table};
use std::path::PathBuf;
use std::time::Duration;

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing to do: no steps were asked for, or all of them are done.
    Idle,
    /// It trains.
    Training,
    /// Steps are left; `resume` goes on.
    Paused,
    /// A step failed, with the message; what was learned before it is kept, and `resume` tries again.
    Failed(String),
    /// It was closed or replaced, or its thread broke down: [`Run::open`](super::Run::open) reads it
    /// from disk.
    Ended,
}

/// Where a run stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// The run's name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Steps done.
    pub step: u64,
    /// The step at which it will stop.
    pub target: u64,
    /// The numbers of the latest step.
    pub last: Option<StepReport>,
    /// The step of the newest snapshot on disk.
    pub snapshot: Option<u64>,
    /// Time that the steps left will take, at the pace of the latest ones.
    pub left: Option<Duration>,
    /// Where the run lies on disk.
    pub folder: PathBuf,
}

impl Show for Status {
    fn show(&self) -> Bundle {
        let state = match &self.state {
            State::Idle => "idle".to_string(),
            State::Training => "training".to_string(),
            State::Paused => "paused".to_string(),
            State::Failed(why) => format!("failed: {why}"),
            State::Ended => "ended: Run::open(folder)? reads it from disk".to_string(),
        };
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption(&self.name);
        table.row(["state".to_string(), state]);
        table.row(["step".to_string(), format!("{} of {}", self.step, self.target)]);
        if let Some(last) = &self.last {
            table.row(["loss".to_string(), format!("{:.4}", last.loss)]);
            table.row(["gradient norm".to_string(), format!("{:.3}", last.gradient_norm)]);
            table.row(["learning rate".to_string(), format!("{:.2e}", last.lr)]);
            table.row([
                "speed".to_string(),
                format!("{:.0} tokens/s, {:.1} s a step", last.tokens_per_second(), last.seconds),
            ]);
            if let Some(memory) = last.memory {
                table.row(["memory".to_string(), display::bytes(memory)]);
            }
        }
        if let Some(left) = self.left {
            table.row(["time left".to_string(), display::duration(left)]);
        }
        if let Some(snapshot) = self.snapshot {
            table.row(["on disk".to_string(), format!("step {snapshot} in {}", self.folder.display())]);
        }
        table.show()
    }
}
