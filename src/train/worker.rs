//! The thread that trains. It owns the trained tensors; the handle sends it requests and reads what
//! it publishes.

use super::batches::{Batch, Batches, Position};
use super::config::{Adaptation, RunConfig};
use super::folder::Folder;
use super::history::StepReport;
use super::journal::{Change, Journal, Settings};
use super::process::{give_back, memory};
use super::ring::Ring;
use super::segments::Segments;
use super::shared::{Answer, Held, Public, Shared};
use super::snapshot::{Context, Place};
use super::spectra::StepSpectra;
use super::status::State;
use super::step::{self, Accumulated, Learned};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::model::{Decoder, GenerateConfig, Model};
use crate::text::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Time between two looks whether a full disk has room again.
const ROOM: Duration = Duration::from_secs(2);
/// Tokens of an answer to a prompt that is watched, at most.
const ANSWER: usize = 64;

/// What the handle asks of the worker.
pub(super) enum Request {
    /// Train: `start` has published how far.
    Go,
    /// Stop, take a snapshot, answer when it is on disk.
    Pause(Sender<Result<()>>),
    /// Stop and go back to a step; answer when it is reached.
    Rewind(u64, Sender<Result<()>>),
    /// Make a step of what was found by hand.
    Update(Sender<Result<StepReport>>),
    /// Stop for good, without a snapshot; answer when the folder is let go of.
    End(Sender<()>),
}

pub(super) struct Worker {
    pub model: Model,
    /// The same weights, with what the config says of recomputing.
    decoder: Decoder,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub config: RunConfig,
    pub shared: Arc<Shared>,
    folder: Folder,
    learned: Learned,
    place: Place,
    /// The state of step 0.
    fresh: Adapters,
    ring: Ring,
    saved: Instant,
    /// The disk is full, and the run goes on when there is room.
    waits: bool,
    /// Steps since it last rested.
    steps: u64,
}

/// However the thread ends: nobody waits for it any longer, and nothing can be started.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.update(|public| public.state = State::Closed);
    }
}

/// What a worker begins with.
pub(super) struct Begin {
    pub model: Model,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub config: RunConfig,
    pub folder: Folder,
    pub fresh: Adapters,
    pub learned: Learned,
    pub place: Place,
    /// Whether that place has a snapshot on disk.
    pub saved: bool,
    pub goal: super::goal::Goal,
    pub journal: Journal,
    pub history: Vec<StepReport>,
    pub answers: Vec<Answer>,
    pub notes: Vec<String>,
}

/// Whether somebody wants this to go on.
type GoOn<'a> = &'a dyn Fn() -> bool;

impl Worker {
    /// A worker that goes on from a place.
    pub fn new(begin: Begin) -> Self {
        let Begin { model, segments, eval, config, folder, fresh, learned, place, .. } = begin;
        let mut ring = Ring::new(config.snapshots.memory);
        ring.push(&learned, &place);
        let shared = Shared::new(Public {
            state: State::Idle,
            place,
            goal: begin.goal,
            begun: place.step,
            snapshot: begin.saved.then_some(place.step),
            snapshot_seconds: None,
            history: begin.history,
            learned: learned.clone(),
            journal: begin.journal,
            notes: begin.notes,
            gradients: None,
            batch: None,
            partial: None,
            answers: begin.answers,
        });
        let worker = Self {
            decoder: model.decoder().with_recompute(config.recompute),
            model,
            segments,
            eval,
            config,
            shared: Arc::new(shared),
            folder,
            learned,
            place,
            fresh,
            ring,
            saved: Instant::now(),
            waits: false,
            steps: 0,
        };
        worker.shared.update(|public| public.rest(&worker.config));
        worker
    }

    /// Answers requests until one of them is to end, or the run is dropped. All of it in one thread of the
    /// pool: what a product keeps for its thread (tens of megabytes for a head) then exists once.
    pub fn work(self, requests: Receiver<Request>, pool: &rayon::ThreadPool) {
        pool.install(|| self.serve(requests));
    }

    fn serve(mut self, requests: Receiver<Request>) {
        loop {
            // Whoever sets `stop` sends a request right after: the unfinished step waits for it.
            let busy =
                self.shared.read().state == State::Running && !self.shared.stop.load(Ordering::Relaxed);
            // Of a single step it would take more time than it is worth.
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
            Request::End(_) => {}
        }
    }

    /// Nothing is done until somebody asks for it.
    fn rest(&self) {
        self.shared.update(|public| {
            public.begun = public.place.step;
            // A failure stays to be read.
            if public.state == State::Running {
                public.rest(&self.config);
            }
        });
    }

    /// What follows from work that failed: it waits for room on the disk, or says why.
    fn settle(&mut self, done: Result<()>) {
        match done {
            Err(error) if error.is_disk_full() => {
                self.waits = true;
                self.shared.note(format!("paused: {error}; the run goes on when there is room"));
                self.shared.update(|public| public.state = State::Paused);
            }
            Err(error) if !error.is_interrupted() => {
                let message = error.to_string();
                self.shared.update(|public| public.state = State::Failed(message));
            }
            _ => {}
        }
    }

    fn look_for_room(&mut self) {
        if self.folder.has_room(3 * self.learned.bytes()) {
            self.waits = false;
            self.shared.note("there is room on the disk again: the run goes on");
            self.shared.update(|public| public.state = State::Running);
        }
    }

    /// One step on the way to the goal, and what follows from it.
    fn train(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        self.one_step(&|| !shared.stop.load(Ordering::Relaxed))?;
        self.watch();
        let (over, best, spike) = self.shared.update(|public| {
            let over = public.is_over(&self.config);
            (over, public.is_best(), public.spike(&self.config))
        });
        let due = self.saved.elapsed().as_secs_f64() >= self.config.snapshots.every_seconds;
        if over || best || due || spike.is_some() {
            self.save()?;
        }
        if let Some(spike) = &spike {
            self.shared.note(spike.clone());
        }
        if over || spike.is_some() {
            self.shared.update(|public| public.rest(&self.config));
        }
        Ok(())
    }

    /// One optimiser step. Until it is complete nothing of the run has changed.
    fn one_step(&mut self, go_on: GoOn) -> Result<()> {
        let begun = Instant::now();
        let step = self.place.step + 1;
        let settings = self.shared.update(|public| {
            public.begun = step;
            public.journal.settings(&self.config, step)
        });
        let segment = self.segments.get(settings.segment)?;
        let position = self.position(&settings);
        let batch = segment.batches.at(position, settings.batch, settings.micro_batch, self.config.seed)?;
        let mut accumulated = Accumulated::default();
        step::forward_backward(&self.decoder, &self.learned, &batch, &mut accumulated, go_on)
            .map_err(|e| e.step(step))?;
        self.complete(accumulated, batch, &settings, begun, go_on).map(drop)
    }

    /// Where in the data the next step begins.
    fn position(&self, settings: &Settings) -> Position {
        match self.place.position {
            position if position.segment == settings.segment => position,
            _ => Position { segment: settings.segment, ..Position::default() },
        }
    }

    /// The update, the evaluation, and the step in the books.
    fn complete(
        &mut self,
        accumulated: Accumulated,
        batch: Batch,
        settings: &Settings,
        begun: Instant,
        go_on: GoOn,
    ) -> Result<StepReport> {
        let step = self.place.step + 1;
        let lr = settings.lr * settings.factor(step);
        let rows = accumulated.rows.clone();
        // Of all weights they would be as large as the model.
        let held = (self.config.adaptation == Adaptation::Lora).then(|| {
            Arc::new(Held { gradients: accumulated.gradients.clone(), tokens: accumulated.trained_tokens })
        });
        let frozen = |name: &str| is_frozen(&settings.frozen, name);
        let (learned, numbers) = step::update(
            self.model.decoder(),
            &self.learned,
            accumulated,
            lr,
            settings.clip,
            &settings.optimizer,
            &frozen,
        )
        .map_err(|e| e.step(step))?;
        let seconds = begun.elapsed().as_secs_f64();
        let due = settings.eval_every.is_some_and(|every| step.is_multiple_of(every));
        let eval_loss = match &self.eval {
            Some(eval) if due => {
                let rows = step::evaluate(self.model.decoder(), &learned.adapters, &eval.all()?, go_on)?;
                Some(step::mean(&rows).0)
            }
            _ => None,
        };
        let position = batch.next.unwrap_or_else(|| self.position(settings));
        let count = self.segments.get(position.segment)?.batches.rows();
        let logged = self.config.adaptation == Adaptation::Lora
            && self.config.spectra_interval().is_some_and(|every| step.is_multiple_of(every));
        let spectra = logged.then(|| StepSpectra::of(&learned)).transpose()?;
        let report = StepReport {
            spectra,
            step,
            epoch: position.epoch as f64 + position.consumed as f64 / count as f64,
            loss: numbers.loss,
            gradient_norm: numbers.gradient_norm,
            lr,
            tokens: numbers.tokens,
            trained_tokens: numbers.trained_tokens,
            seconds,
            memory: memory(),
            eval_loss,
            segment: batch.segment,
            rows,
        };
        self.steps += 1;
        self.folder.append(&report)?;
        self.place = Place { step, position, seconds: self.place.seconds + seconds, eval_loss };
        self.learned = learned;
        self.ring.push(&self.learned, &self.place);
        self.shared.update(|public| {
            public.place = self.place;
            public.learned = self.learned.clone();
            public.gradients = held;
            public.batch = Some(Arc::new(batch));
            public.history.push(report.clone());
        });
        Ok(report)
    }

    /// A step of what was found by hand. Where its rows are not the run's next ones nobody can do it
    /// again: a snapshot is taken.
    fn by_hand(&mut self) -> Result<StepReport> {
        let step = self.place.step + 1;
        let (partial, settings, journal) = self.shared.update(|public| {
            (public.partial.take(), public.journal.settings(&self.config, step), public.journal.clone())
        });
        let Some(partial) = partial else {
            return Err(
                Error::state("no gradient waits for an update").help("run.forward_backward(&batch)? first")
            );
        };
        let segment = self.segments.get(settings.segment)?;
        let position = self.position(&settings);
        let expected =
            segment.batches.at(position, settings.batch, settings.micro_batch, self.config.seed)?;
        let ours = partial.batches == [expected.clone()];
        let next = if partial.batches.contains(&expected) { expected.next } else { None };
        let packs = partial.batches.iter().flat_map(|batch| batch.packs.clone()).collect();
        let rows = partial.batches.iter().flat_map(|batch| batch.rows.clone()).collect();
        let batch = Batch { packs, rows, segment: settings.segment, next };
        if !ours {
            let journal = journal.with(self.place.step, Change::ByHand);
            Folder::write_journal(self.folder.path(), &journal)?;
            self.shared.update(|public| public.journal = journal);
        }
        let report = self.complete(partial.accumulated, batch, &settings, Instant::now(), &|| true)?;
        if !ours {
            self.save()?;
        }
        Ok(report)
    }

    /// Goes back to a step: to the latest state kept before it, and from there by doing the steps
    /// again, which gives the same to the bit.
    fn rewind(&mut self, to: u64) -> Result<()> {
        let kept = self.ring.latest(to).cloned();
        let newest = self.folder.snapshots()?.into_iter().rfind(|step| *step <= to);
        let (learned, place) = match kept {
            Some(kept) if newest.is_none_or(|newest| newest <= kept.1.step) => kept,
            _ => {
                let device = self.model.decoder().device();
                let (found, notes) = self.folder.load(to, &self.fresh, &self.config, device)?;
                notes.into_iter().for_each(|note| self.shared.note(note));
                found.unwrap_or_else(|| self.first())
            }
        };
        let journal = self.shared.read().journal.until(to);
        if let Some(step) = journal.by_hand(place.step, to) {
            return Err(Error::state(format!("step {step} was made by hand, and cannot be made again"))
                .help(format!("step {} is kept: run.rewind({})", place.step, place.step)));
        }
        self.folder.begin_rewind(to)?;
        self.segments.truncate(1 + journal.data().count());
        let history = self.folder.history(place.step)?;
        self.folder.forget_after(place.step, &journal)?;
        self.ring.forget_after(place.step);
        (self.learned, self.place) = (learned, place);
        let snapshot = self.folder.snapshots()?.pop();
        let answers = self.shared.update(|public| {
            public.place = place;
            public.begun = place.step;
            public.learned = self.learned.clone();
            public.history = history;
            public.journal = journal;
            public.snapshot = snapshot;
            public.gradients = None;
            public.batch = None;
            public.partial = None;
            public.answers.retain(|answer| answer.step <= to);
            if public.state != State::Running {
                public.rest(&self.config); // a failure lies in what is left behind
            }
            public.answers.clone()
        });
        self.folder.write_answers(&answers)?;
        while self.place.step < to {
            self.one_step(&|| true)?;
        }
        self.save()?;
        self.folder.end_rewind()
    }

    /// The state before the first step.
    fn first(&self) -> (Learned, Place) {
        (Learned::new(self.fresh.clone(), self.config.seed), Place::default())
    }

    /// Answers the prompts that are watched, when they are due. What fails there is no reason to stop.
    fn watch(&self) {
        let step = self.place.step;
        let settings = self.shared.read().journal.settings(&self.config, step);
        let Some((prompts, _)) = settings.watch.filter(|(_, every)| step.is_multiple_of(*every)) else {
            return;
        };
        let config = GenerateConfig { max_tokens: ANSWER, ..Default::default() };
        for prompt in prompts {
            let mut on_text = |_: &str| !self.shared.stop.load(Ordering::Relaxed);
            let messages = [Message::user(prompt.as_str())];
            let answered = self.model.chat_each(&self.learned.adapters, &messages, &config, &mut on_text);
            let answered = answered.and_then(|said| {
                let answer = Answer { step, prompt, answer: said.text };
                self.folder.append_answer(&answer)?;
                Ok(answer)
            });
            match answered {
                Ok(answer) => self.shared.update(|public| public.answers.push(answer)),
                Err(error) => self.shared.note(format!("a watched prompt was not answered: {error}")),
            }
        }
    }

    /// Writes a snapshot, unless this step has one.
    fn save(&mut self) -> Result<()> {
        let (goal, snapshot, journal) = {
            let public = self.shared.read();
            (public.goal, public.snapshot, public.journal.clone())
        };
        if self.folder.goal() != Some(goal) {
            self.folder.write_goal(&goal)?;
        }
        if snapshot != Some(self.place.step) {
            let tokens =
                self.segments.rows(self.place.position.segment).map(|rows| rows.tokens).unwrap_or_default();
            let base = self.model.name();
            let context = Context { config: &self.config, journal: &journal, tokens: &tokens, base: &base };
            let begun = Instant::now();
            self.folder.save(&self.learned, &self.place, context)?;
            self.shared.update(|public| {
                public.snapshot = Some(self.place.step);
                public.snapshot_seconds = Some(begun.elapsed().as_secs_f64());
            });
        }
        self.saved = Instant::now();
        Ok(())
    }
}

/// Whether a trained tensor belongs to one of these modules.
pub(super) fn is_frozen(frozen: &[String], tensor: &str) -> bool {
    frozen.iter().any(|module| {
        tensor.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with('.') || rest.is_empty())
    })
}

/// Does work in which a panic is an error like others, and the thread lives on.
fn guarded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|s| (*s).to_string());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::compute(format!("panic: {what}")).help("this is a defect of lorascope: please report it"))
    })
}
