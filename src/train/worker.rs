//! The thread that trains. It owns the trained tensors; the handle sends it requests and reads what
//! it publishes.

use super::batches::Rows;
use super::config::RunConfig;
use super::folder::{Folder, Place};
use super::history::StepReport;
use super::status::State;
use super::step::{self, Learned};
use crate::error::{Error, Result};
use crate::model::Model;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two snapshots while training.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

/// What the handle asks of the worker.
pub(super) enum Request {
    /// Train: `start` has published how far.
    Go,
    /// Stop, take a snapshot, answer when it is on disk.
    Pause(Sender<Result<()>>),
    /// Stop for good, without a snapshot; answer when the folder is let go of.
    End(Sender<()>),
}

/// What the worker publishes: readable at any moment, also in the middle of a step. Adapters are
/// never changed in place, so a copy taken here stays what it was.
pub(super) struct Shared {
    public: Mutex<Public>,
    changed: Condvar,
    /// Set to have an unfinished step thrown away.
    pub stop: AtomicBool,
}

pub(super) struct Public {
    pub state: State,
    pub step: u64,
    pub target: u64,
    pub snapshot: Option<u64>,
    pub history: Vec<StepReport>,
    pub learned: Learned,
}

impl Shared {
    pub fn new(public: Public) -> Self {
        Self { public: Mutex::new(public), changed: Condvar::new(), stop: AtomicBool::new(false) }
    }

    pub fn read(&self) -> MutexGuard<'_, Public> {
        self.public.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn update<R>(&self, change: impl FnOnce(&mut Public) -> R) -> R {
        let answer = change(&mut self.read());
        self.changed.notify_all();
        answer
    }

    /// Waits for a change, at most this long.
    pub fn wait(&self, limit: Duration) {
        let guard = self.read();
        drop(self.changed.wait_timeout(guard, limit));
    }
}

pub(super) struct Worker {
    pub model: Model,
    pub rows: Arc<Rows>,
    pub config: RunConfig,
    pub shared: Arc<Shared>,
    folder: Folder,
    learned: Learned,
    /// The target in it is that of the newest snapshot.
    place: Place,
    saved: Instant,
}

/// However the thread ends: nobody waits for it any longer, and nothing can be started.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.update(|public| public.state = State::Ended);
    }
}

impl Worker {
    /// A worker that goes on from `place`, the newest snapshot.
    pub fn new(
        model: Model,
        rows: Rows,
        config: RunConfig,
        folder: Folder,
        learned: Learned,
        place: Place,
        history: Vec<StepReport>,
    ) -> Self {
        let target = place.target.max(place.step);
        let shared = Shared::new(Public {
            state: if target > place.step { State::Paused } else { State::Idle },
            step: place.step,
            target,
            snapshot: Some(place.step),
            history,
            learned: learned.clone(),
        });
        let (rows, shared) = (Arc::new(rows), Arc::new(shared));
        Self { model, rows, config, folder, shared, learned, place, saved: Instant::now() }
    }

    /// Answers requests until one of them is to end, or the run is dropped.
    pub fn work(mut self, requests: &Receiver<Request>, pool: &rayon::ThreadPool) {
        loop {
            // Whoever sets `stop` sends a request right after: the unfinished step waits for it.
            let busy =
                self.shared.read().state == State::Training && !self.shared.stop.load(Ordering::Relaxed);
            let request = if busy { requests.try_recv().ok() } else { requests.recv().ok() };
            match request {
                Some(Request::Go) => {} // it wakes the thread; the state says the rest
                Some(Request::Pause(answer)) => {
                    self.shared.stop.store(false, Ordering::Relaxed);
                    let saved = guarded(|| self.save());
                    self.shared.update(|public| {
                        // A failure stays to be read.
                        if public.state == State::Training {
                            let left = public.target > public.step;
                            public.state = if left { State::Paused } else { State::Idle };
                        }
                    });
                    let _ = answer.send(saved); // a handle that went away needs no answer
                }
                Some(Request::End(answer)) => {
                    drop(self);
                    let _ = answer.send(());
                    return;
                }
                None if !busy => return,
                None => match pool.install(|| guarded(|| self.one_step())) {
                    Err(error) if !error.is_interrupted() => {
                        let message = error.to_string();
                        self.shared.update(|public| public.state = State::Failed(message));
                    }
                    _ => {}
                },
            }
        }
    }

    /// One optimiser step, then what follows from it: evaluation, history, snapshot. Until it is
    /// complete nothing of the run has changed.
    fn one_step(&mut self) -> Result<()> {
        let begun = Instant::now();
        let step = self.place.step + 1;
        let go_on = || !self.shared.stop.load(Ordering::Relaxed);
        let (packs, position) =
            self.rows.train.at(self.place.position, self.config.batch, self.config.seed)?;
        let lr = self.config.lr * self.config.schedule.factor(step);
        let model = &self.model.decoder().with_recompute(self.config.recompute);
        let (learned, numbers) =
            step::step(model, &self.learned, &packs, lr, self.config.clip, &self.config.optimizer, &go_on)
                .map_err(|e| e.step(step))?;
        let seconds = begun.elapsed().as_secs_f64();
        let due = self.config.eval_every.is_some_and(|every| step.is_multiple_of(every));
        let eval_loss = match &self.rows.eval {
            Some(eval) if due => Some(step::evaluate(model, &learned.adapters, &eval.all()?, &go_on)?.0),
            _ => None,
        };
        let report = StepReport {
            step,
            epoch: position.epoch as f64 + position.consumed as f64 / self.rows.train.rows() as f64,
            loss: numbers.loss,
            gradient_norm: numbers.gradient_norm,
            lr,
            tokens: numbers.tokens,
            trained_tokens: numbers.trained_tokens,
            seconds,
            memory: memory(),
            eval_loss,
        };
        self.folder.append(&report)?;
        let (updates, target) = (learned.optimizer.updates(), self.place.target);
        self.place = Place { step, target, position, updates, eval_loss };
        self.learned = learned;
        let (done, best) = self.shared.update(|public| {
            let mut earlier = public.history.iter().filter_map(|s| s.eval_loss);
            let best = eval_loss.is_some_and(|loss| earlier.all(|other| loss.total_cmp(&other).is_lt()));
            public.step = step;
            public.learned = self.learned.clone();
            public.history.push(report);
            (step >= public.target, best)
        });
        if done || best || self.saved.elapsed() >= SNAPSHOT_EVERY {
            self.save()?;
        }
        if done {
            // The state was Training up to here, in which `start` refuses: the target is the same.
            self.shared.update(|public| public.state = State::Idle);
        }
        Ok(())
    }

    /// Writes a snapshot, unless this step has one with the same target.
    fn save(&mut self) -> Result<()> {
        let (target, snapshot) = {
            let public = self.shared.read();
            (public.target, public.snapshot)
        };
        let place = Place { target, ..self.place };
        if snapshot != Some(place.step) || place != self.place {
            self.folder.save(&self.learned, &place)?;
            self.place = place;
            self.shared.update(|public| public.snapshot = Some(place.step));
        }
        self.saved = Instant::now();
        Ok(())
    }
}

/// Does work in which a panic is an error like others, and the thread lives on.
fn guarded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|s| (*s).to_string());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::compute(format!("panic: {what}")).help("this is a defect of lorascope: please report it"))
    })
}

/// Threads of its own for a run, below the notebook's in priority, so that cells stay responsive.
pub(super) fn pool(name: &str) -> Result<rayon::ThreadPool> {
    let name = name.to_string();
    rayon::ThreadPoolBuilder::new()
        .thread_name(move |i| format!("{name}-{i}"))
        .start_handler(|_| lower_priority())
        .build()
        .map_err(|e| Error::compute(format!("cannot start threads: {e}")))
}

fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: plain system calls on the calling thread; a refusal changes nothing and is no harm.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, thread, 5);
    }
}

/// Resident memory of this process in bytes, where the system tells.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
