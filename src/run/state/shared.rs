//! What the worker publishes, readable at any moment, also in the middle of a step.

use super::status::State;
use crate::devices::DeviceStatus;
use crate::error::Result;
use crate::lora::Gradients;
use crate::run::answers::Answer;
use crate::run::disk::snapshot::RunProgress;
use crate::run::journal::Journal;
use crate::train::step::{Accumulated, Learned};
use crate::train::{Batch, Goal, StepReport};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shared by a run's handles and its worker.
pub(crate) struct Shared {
    current: Mutex<RunState>,
    changed: Condvar,
    turn: Mutex<()>,
    evaluations: Mutex<Vec<Evaluated>>,
    /// Set to cancel the unfinished step.
    pub stop: AtomicBool,
    /// Whether the notes on the rows were shown.
    pub told: Arc<AtomicBool>,
}

/// An evaluation outside of the steps.
struct Evaluated {
    step: u64,
    /// The report of that step, which tells whether the run still has it after a rewind; `None` before the first.
    after: Option<StepReport>,
    loss: f64,
}

/// The published state of a run. Adapters are never changed in place, so a copy taken here stays what it was.
pub(crate) struct RunState {
    pub state: State,
    pub place: RunProgress,
    pub goal: Goal,
    /// The step that is being done, or the last one that was begun. It changes in its [turn](Shared::changing).
    pub begun: u64,
    /// The number of changes since it was begun, which are the last ones of the journal.
    pub recent: usize,
    pub snapshot: Option<u64>,
    /// Seconds that it took to write it.
    pub snapshot_seconds: Option<f64>,
    pub history: Vec<StepReport>,
    pub learned: Learned,
    pub journal: Journal,
    /// Notes for a person: why the run paused, what was wrong on disk.
    pub notes: Vec<String>,
    /// What was found of the rows before the first step.
    pub about_rows: Vec<String>,
    /// The gradients of the latest step, summed over its tokens.
    pub gradients: Option<Arc<Held>>,
    /// The rows of the latest step.
    pub batch: Option<Arc<Batch>>,
    /// Manually accumulated gradients that wait for their update.
    pub partial: Option<Partial>,
    /// Answers to the prompts that are watched.
    pub answers: Vec<Answer>,
    /// What each device has done, where there are several.
    pub devices: Vec<DeviceStatus>,
}

/// Gradients that are sums over tokens.
#[derive(Debug)]
pub(crate) struct Held {
    pub gradients: Gradients,
    pub tokens: usize,
}

/// Gradients that `forward_backward` accumulated, with their batches.
pub(crate) struct Partial {
    pub accumulated: Accumulated,
    pub batches: Vec<Batch>,
}

impl Partial {
    /// The same, which more gradients leave as it is.
    pub fn copied(&self) -> Result<Self> {
        Ok(Self { accumulated: self.accumulated.copied()?, batches: self.batches.clone() })
    }
}

impl Shared {
    pub fn new(current: RunState) -> Self {
        Self {
            current: Mutex::new(current),
            changed: Condvar::new(),
            turn: Mutex::new(()),
            evaluations: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            told: Arc::default(),
        }
    }

    pub fn read(&self) -> MutexGuard<'_, RunState> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn to change the run. It is held from reading the journal until it is on disk and published, and by
    /// the worker while it begins a step: no change is lost, and readers do not wait for the disk. It is taken before
    /// [`read`](Self::read).
    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn update<R>(&self, change: impl FnOnce(&mut RunState) -> R) -> R {
        let answer = change(&mut self.read());
        self.changed.notify_all();
        answer
    }

    /// Waits for a change, at most this long.
    pub fn wait(&self, limit: Duration) {
        let guard = self.read();
        drop(self.changed.wait_timeout(guard, limit));
    }

    /// Keeps the loss of an evaluation after a step, for the curve.
    pub fn evaluate(&self, step: u64, after: Option<StepReport>, loss: f64) {
        let mut all = self.evaluations.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| (other.step, &other.after) != (step, &after));
        all.push(Evaluated { step, after, loss });
    }

    /// The evaluations after those of these steps: step and loss.
    pub fn evaluated(&self, history: &[StepReport]) -> Vec<(u64, f64)> {
        let all = self.evaluations.lock().unwrap_or_else(PoisonError::into_inner);
        let is_now = |one: &&Evaluated| match &one.after {
            None => true,
            Some(after) => history.contains(after),
        };
        all.iter().filter(is_now).map(|one| (one.step, one.loss)).collect()
    }

    /// Adds a note for a person.
    pub fn note(&self, note: impl Into<String>) {
        const MOST: usize = 20;
        self.update(|current| {
            let note = note.into();
            if current.notes.last() != Some(&note) {
                current.notes.push(note);
            }
            let more = current.notes.len().saturating_sub(MOST);
            current.notes.drain(..more);
        });
    }
}
