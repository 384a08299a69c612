//! The thread that trains. It owns the trained tensors; the handle sends it requests and reads what
//! it publishes.

use super::process::give_back;
use super::snapshot_cache::SnapshotCache;
use crate::devices::{DeviceGroup, guarded};
use crate::error::Result;
use crate::lora::Adapters;
use crate::model::{Decoder, Model};
use crate::run::answers::Answer;
use crate::run::disk::folder::Folder;
use crate::run::disk::snapshot::RunProgress;
use crate::run::journal::Journal;
use crate::run::segments::Segments;
use crate::run::state::shared::{RunState, Shared};
use crate::run::state::status::State;
use crate::train::batches::Batches;
use crate::train::step::Learned;
use crate::train::{Devices, Goal, Placement, RunConfig, StepReport};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Time between two checks whether a full disk has room again.
const ROOM: Duration = Duration::from_secs(2);
/// Bytes of room beside those of a snapshot's tensors: for the history and for what others write meanwhile.
const SPARE: u64 = 16 << 20;

/// What the handle asks of the worker.
pub(crate) enum Request {
    /// Train: `start` has published how far.
    Go,
    /// Stop, take a snapshot, answer when it is on disk.
    Pause(Sender<Result<()>>),
    /// Stop and go back to a step; answer when it is reached.
    Rewind(u64, Sender<Result<()>>),
    /// Apply a manually accumulated gradient.
    Update(Sender<Result<StepReport>>),
    /// Train on other devices from the next step on.
    Devices(Devices, Placement, Sender<Result<()>>),
    /// Stop for good, without a snapshot; answer when the folder is let go of.
    End(Sender<()>),
}

pub(crate) struct Worker {
    pub model: Model,
    /// The same weights, with what the config says of precision and recomputing.
    pub(super) decoder: Decoder,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub config: RunConfig,
    pub shared: Arc<Shared>,
    pub(super) folder: Folder,
    pub(super) learned: Learned,
    pub(super) place: RunProgress,
    /// The state of step 0.
    pub(super) fresh: Adapters,
    pub(super) devices: Devices,
    pub(super) placement: Placement,
    /// Their threads, from the first step that uses them.
    pub(super) group: Option<DeviceGroup>,
    pub(super) cache: SnapshotCache,
    pub(super) saved: Instant,
    /// The disk is full, and the run goes on when there is room.
    waits: bool,
    /// Steps since it last rested.
    pub(super) steps: u64,
}

/// However the thread ends, the run is closed then: nobody waits for it any longer.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.update(|current| current.state = State::Closed);
    }
}

/// What a worker begins with.
pub(crate) struct Begin {
    pub model: Model,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub config: RunConfig,
    pub folder: Folder,
    pub fresh: Adapters,
    pub learned: Learned,
    pub place: RunProgress,
    /// Whether that place has a snapshot on disk.
    pub saved: bool,
    pub goal: Goal,
    pub journal: Journal,
    pub history: Vec<StepReport>,
    pub answers: Vec<Answer>,
    pub notes: Vec<String>,
    pub about_rows: Vec<String>,
}

/// Returns false to cancel.
pub(super) type GoOn<'a> = &'a dyn Fn() -> bool;

impl Worker {
    /// A worker that goes on from here.
    pub fn new(begin: Begin) -> Self {
        let Begin { model, segments, eval, config, folder, fresh, learned, place, .. } = begin;
        let mut cache = SnapshotCache::new(config.snapshots.memory);
        cache.push(&learned, &place);
        let shared = Shared::new(RunState {
            state: State::Idle,
            place,
            goal: begin.goal,
            begun: place.step,
            recent: 0,
            snapshot: begin.saved.then_some(place.step),
            snapshot_seconds: None,
            history: begin.history,
            learned: learned.clone(),
            journal: begin.journal,
            notes: begin.notes,
            about_rows: begin.about_rows,
            gradients: None,
            batch: None,
            partial: None,
            answers: begin.answers,
            devices: Vec::new(),
        });
        let worker = Self {
            decoder: config.decoder_of(&model),
            devices: config.devices.clone(),
            placement: config.placement,
            group: None,
            model,
            segments,
            eval,
            config,
            shared: Arc::new(shared),
            folder,
            learned,
            place,
            fresh,
            cache,
            saved: Instant::now(),
            waits: false,
            steps: 0,
        };
        worker.shared.update(|current| current.rest(&worker.config));
        worker
    }

    /// Answers requests until one of them is to end, or the run is dropped. All of it happens in one thread of the
    /// pool: the buffers that a product keeps for its thread (tens of megabytes for a head) then exist once.
    pub fn work(self, requests: Receiver<Request>, pool: &rayon::ThreadPool) {
        pool.install(|| self.serve(requests));
    }

    fn serve(mut self, requests: Receiver<Request>) {
        loop {
            // Whoever sets `stop` sends a request right after: the unfinished step waits for it.
            let busy =
                self.shared.read().state == State::Running && !self.shared.stop.load(Ordering::Relaxed);
            // After a single step it would take more time than it is worth.
            if !busy && std::mem::take(&mut self.steps) > 1 {
                give_back();
            }
            let request = match (busy, self.waits) {
                (true, _) => requests.try_recv().ok(),
                (false, false) => match requests.recv() {
                    Ok(request) => Some(request),
                    Err(_) => return,
                },
                (false, true) => match requests.recv_timeout(ROOM) {
                    Ok(request) => Some(request),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        self.look_for_room();
                        None
                    }
                },
            };
            match request {
                Some(Request::End(answer)) => {
                    drop(self);
                    let _ = answer.send(()); // a handle that went away needs no answer
                    return;
                }
                Some(request) => self.answer(request),
                None if busy => {
                    let done = guarded(|| self.train());
                    self.settle(done);
                }
                None => {}
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Go => {
                self.waits = false;
                let goal = self.shared.read().goal;
                let written = guarded(|| self.folder.write_goal(&goal));
                self.settle(written);
            }
            Request::Pause(answer) => {
                self.waits = false;
                self.shared.stop.store(false, Ordering::Relaxed);
                let saved = guarded(|| self.save());
                self.rest();
                let _ = answer.send(saved);
            }
            Request::Rewind(step, answer) => {
                self.waits = false;
                self.shared.stop.store(false, Ordering::Relaxed);
                let done = guarded(|| self.rewind(step));
                self.rest();
                give_back(); // what the steps left behind held
                let _ = answer.send(done);
            }
            Request::Update(answer) => {
                let done = guarded(|| self.by_hand());
                self.rest();
                let _ = answer.send(done);
            }
            Request::Devices(devices, placement, answer) => {
                self.throw_away();
                self.shared.stop.store(false, Ordering::Relaxed);
                let _ = answer.send(guarded(|| self.set_devices(devices, placement)));
            }
            Request::End(_) => {}
        }
    }

    /// Rests until the next request.
    fn rest(&self) {
        self.throw_away();
        self.shared.update(|current| {
            // A failure stays to be read.
            if current.state == State::Running {
                current.rest(&self.config);
            }
        });
    }

    /// Drops a step that was begun and not finished. Changes that were made meanwhile hold for it when it is repeated.
    fn throw_away(&self) {
        let _turn = self.shared.changing();
        let redated = self.shared.update(|current| {
            let begun = std::mem::replace(&mut current.begun, current.place.step);
            let recent = std::mem::take(&mut current.recent);
            if begun <= current.place.step || recent == 0 {
                return None;
            }
            current.journal = current.journal.redated(recent, current.place.step);
            Some(current.journal.clone())
        });
        if let Some(Err(error)) = redated.map(|journal| Folder::write_journal(self.folder.path(), &journal)) {
            self.shared.note(format!("changes were not written down: {error}"));
        }
    }

    /// Handles work that failed: waits for room on the disk, or publishes the error.
    fn settle(&mut self, done: Result<()>) {
        if done.is_err() {
            self.throw_away();
        }
        match done {
            Err(error) if error.is_disk_full() => {
                self.waits = true;
                self.shared.note(format!("paused: {error}; the run goes on when there is room"));
                self.shared.update(|current| current.state = State::Paused);
            }
            Err(error) if !error.is_interrupted() => {
                // The steps before it are on disk, so that the way back is there in another process, too.
                if let Err(unsaved) = guarded(|| self.save()) {
                    let step = self.place.step;
                    self.shared.note(format!("there is no snapshot of step {step}: {unsaved}"));
                }
                let message = error.to_string();
                self.shared.update(|current| current.state = State::Failed(message));
            }
            _ => {}
        }
    }

    fn look_for_room(&mut self) {
        if self.folder.has_room(self.learned.bytes() + SPARE) {
            self.waits = false;
            self.shared.note("there is room on the disk again: the run goes on");
            self.shared.update(|current| current.state = State::Running);
        }
    }

    /// Makes one step towards the goal, and a snapshot, a note or an end where they are due.
    fn train(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        self.watch(); // what a pause cut short
        self.one_step(&|| !shared.stop.load(Ordering::Relaxed))?;
        self.watch();
        let (over, best, spike) = self.shared.update(|current| {
            let over = current.is_over(&self.config);
            (over, current.is_best(), current.spike(&self.config))
        });
        let due = self.saved.elapsed().as_secs_f64() >= self.config.snapshots.every_seconds;
        if over || best || due || spike.is_some() {
            self.save()?;
        }
        if let Some(spike) = &spike {
            self.shared.note(spike.clone());
        }
        if over || spike.is_some() {
            self.shared.update(|current| current.rest(&self.config));
        }
        Ok(())
    }
}
