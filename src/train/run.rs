//! The handle of a run: how it is made, found and closed.

use super::batches::{Batches, Preparing};
use super::config::{Adaptation, RunConfig};
use super::dated;
use super::folder::Folder;
use super::goal::Goal;
use super::identity::{Identity, rows_of};
use super::journal::{Change, Journal};
use super::preflight::{Checked, Preflight};
use super::process;
use super::registry;
use super::segments::{Segment, Segments};
use super::shared::Shared;
use super::snapshot::{Context, Place};
use super::status::{State, Status};
use super::step::Learned;
use super::warm;
use super::worker::{Begin, Request, Worker};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::files::Existing;
use crate::image;
use crate::lora::Adapters;
use crate::model::{Decoder, Model};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder that runs lie in, below the working folder.
const RUNS: &str = "runs";

/// A training run: it trains in a thread of its own and saves itself; this is the handle to it.
///
/// Cheap to clone, and all methods take `&self`. The run itself lives in the process until it ends:
/// dropping a handle stops nothing and loses nothing, and [`Run::get`] gives another one.
#[derive(Clone)]
pub struct Run(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub name: String,
    pub folder: PathBuf,
    pub model: Model,
    pub config: RunConfig,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub shared: Arc<Shared>,
    requests: Mutex<Sender<Request>>,
}

impl Inner {
    /// Whether its thread has ended.
    pub fn ended(&self) -> bool {
        self.shared.read().state == State::Closed
    }
}

impl Run {
    /// A new run in `runs/NAME`, with its first snapshot on disk.
    ///
    /// # Errors
    /// When the config cannot be used with this model and data, when the name is no plain name, and
    /// when a run of this name exists: take [`Run::new_or_get`], [`Run::get`], [`Run::open`], or
    /// [`RunConfig::overwrite`], which is refused while the run trains or another process has it open.
    pub fn new(name: &str, model: &Model, data: &Dataset, config: RunConfig) -> Result<Self> {
        image::check()?;
        config.check()?;
        let path = Self::path_of(name)?;
        Self::free(name, &path, config.existing)?;
        if model.is_merged() {
            return Err(Error::state("adapters were merged into this model, and no file holds it")
                .help("export() it and open the folder, or train on model.unmerged()"));
        }
        // What a template writes of the date is part of the data, and stays.
        let model = &dated::fixed(model, None)?;
        // All that can fail comes before anything is replaced.
        let mut config = config;
        let decoder = model.decoder();
        let (fresh, not_taken) = match warm::read(model, &mut config)? {
            Some(warm) => warm,
            None => (begin(decoder, &config)?, Vec::new()),
        };
        let how = Preparing::of(&config);
        let batches = Batches::new(data, model, how)?;
        let how = Preparing { context: Some(batches.context()), ..how };
        let for_evaluation = |eval| Batches::for_evaluation(eval, Some(data), model, how);
        let eval = config.eval.as_ref().map(for_evaluation).transpose()?;
        let checked = Checked { rows: &batches, data, eval: eval.as_ref().zip(config.eval.as_ref()) };
        let preflight = Preflight::of_rows(checked, &config, model.tokenizer())?;
        if let Some(fatal) = preflight.fatal() {
            return Err(fatal);
        }
        let rows = rows_of(data, &batches)?;
        let eval_rows = match (&config.eval, &eval) {
            (Some(data), Some(batches)) => Some(rows_of(data, batches)?),
            _ => None,
        };
        let identity = Identity::new(model, &config, rows, eval_rows)?;
        let segments = Segments::new(model, &config, [&identity.rows]);
        segments.put(0, identity.rows.clone(), Arc::new(Segment { data: data.clone(), batches }));
        let learned = Learned::new(fresh.clone(), config.seed);
        let begin = NewRun {
            identity,
            segments: Arc::new(segments),
            eval: eval.map(Arc::new),
            fresh,
            learned,
            place: Place::default(),
            journal: Journal::default(),
            history: Vec::new(),
            notes: not_taken,
            about_rows: preflight.notes(),
        };
        Self::found(name, path, model, config, begin)
    }

    /// Writes a run that did not exist, and starts its thread.
    pub(super) fn found(
        name: &str,
        path: PathBuf,
        model: &Model,
        config: RunConfig,
        new: NewRun,
    ) -> Result<Self> {
        let pool = process::pool(name)?;
        Self::free(name, &path, config.existing)?; // it may have begun to train
        if let Some(old) = registry::get(&path) {
            let old = Self(old);
            let _ = old.pause(); // a snapshot of the last step where there is room; otherwise an earlier one stays
            old.end();
        }
        let folder = Folder::hold(&path)?;
        Self::free(name, &path, config.existing)?; // another process may have been faster
        let (folder, aside) = folder.set_aside()?;
        let mut notes = new.notes;
        if let Some(aside) = &aside {
            notes.push(format!("the run that was called {name:?} lies in {} now", aside.display()));
        }
        let context = Context {
            config: &config,
            journal: &new.journal,
            tokens: &new.identity.rows.tokens,
            base: &model.name(),
        };
        if !new.history.is_empty() {
            folder.write_history(&new.history)?;
        }
        Folder::write_journal(&path, &new.journal)?;
        warm::keep(&path, &config, &new.fresh, &model.name())?;
        folder.save(&new.learned, &new.place, context)?;
        folder.write_identity(&new.identity)?;
        let worker = Worker::new(Begin {
            model: model.clone(),
            segments: new.segments,
            eval: new.eval,
            config,
            folder,
            fresh: new.fresh,
            learned: new.learned,
            place: new.place,
            saved: true,
            goal: Goal::none(new.place.step),
            journal: new.journal,
            history: new.history,
            answers: Vec::new(),
            notes,
            about_rows: new.about_rows,
        });
        Self::begin(path, worker, pool)
    }

    /// Where a run of this name lies.
    pub(super) fn path_of(name: &str) -> Result<PathBuf> {
        check_name(name)?;
        real(&Path::new(RUNS).join(name))
    }

    pub(super) fn free(name: &str, path: &Path, existing: Existing) -> Result<()> {
        let exists = registry::get(path).is_some() || Folder::exists(path);
        if exists && existing == Existing::Refuse {
            return Err(Error::state(format!("the run {name:?} exists")).path(path).help(format!(
                "Run::get({name:?})? gives it, as does Run::new_or_get; RunConfig::default().overwrite() moves it aside"
            )));
        }
        let trains = |run: &Arc<Inner>| run.shared.read().state == State::Running;
        if registry::get(path).as_ref().is_some_and(trains) {
            return Err(Error::state(format!("the run {name:?} is training, and is not replaced"))
                .path(path)
                .help(format!("Run::get({name:?})?.stop()? ends it first; or give this run another name")));
        }
        Ok(())
    }

    /// The run of this name in `runs`, or in the folder at this path, if this process has it open; otherwise it is
    /// opened from disk.
    ///
    /// # Errors
    /// When there is none; the error lists those that lie there.
    pub fn get(name: &str) -> Result<Self> {
        let path = Self::found_at(name)?;
        match Self::open(&path) {
            Err(e) if e.is_not_found() && !Folder::exists(&path) => Err(no_run(name, &path)),
            other => other,
        }
    }

    /// Whether there is a run of this name in `runs`, or in the folder at this path.
    ///
    /// # Errors
    /// When the name is no plain name.
    pub fn exists(name: &str) -> Result<bool> {
        Ok(Folder::exists(&Self::found_at(name)?))
    }

    /// Where a run lies that is named, or given by the path of its folder.
    pub(super) fn found_at(name: &str) -> Result<PathBuf> {
        if name.contains(std::path::is_separator) {
            return real(Path::new(name));
        }
        Self::path_of(name)
    }

    pub(super) fn begin(path: PathBuf, worker: Worker, pool: rayon::ThreadPool) -> Result<Self> {
        let (sender, requests) = channel();
        let inner = Arc::new(Inner {
            name: name_of(&path),
            folder: path,
            model: worker.model.clone(),
            config: worker.config.clone(),
            segments: worker.segments.clone(),
            eval: worker.eval.clone(),
            shared: worker.shared.clone(),
            requests: Mutex::new(sender),
        });
        std::thread::Builder::new()
            .name(format!("run {}", inner.name))
            .spawn(move || worker.work(requests, &pool))
            .map_err(|e| Error::io(&inner.folder, e))?;
        registry::insert(inner.clone());
        Ok(Self(inner))
    }

    /// The run's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it lies on disk, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Its settings as it was made with; [`changes`](Self::changes) came after.
    pub fn config(&self) -> &RunConfig {
        &self.0.config
    }

    /// The model that it adapts.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// Pauses, ends the run's thread and lets go of its folder and its memory, so that another process
    /// can open it. [`Run::open`] reads it from disk again; older handles still show what it had
    /// learned.
    ///
    /// # Errors
    /// When the snapshot cannot be written, or the run has ended before.
    pub fn close(&self) -> Result<()> {
        self.pause()?;
        self.end();
        Ok(())
    }

    /// Ends the thread without a snapshot. The folder is free when this returns.
    pub(super) fn end(&self) {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // Without an answer the thread had ended before, which is all that is asked.
        if self.send(Request::End(answer)).is_ok() {
            let _ = answered.recv();
        }
        registry::remove(&self.0);
        process::give_back();
    }

    pub(super) fn footer(&self) -> String {
        let c = &self.0.config;
        format!(
            "{} · {} · rank {} · lr {:e} · seed {}",
            self.0.name,
            self.0.model.name(),
            c.lora.rank,
            self.settings().lr,
            c.seed
        )
    }

    pub(super) fn send(&self, request: Request) -> Result<()> {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.send(request).map_err(|_| self.ended())
    }

    pub(super) fn ended(&self) -> Error {
        Error::state(format!("the run {:?} has ended", self.0.name))
            .help("Run::open(folder)? reads it from disk")
    }

    /// Makes a change and writes it down. It holds from the next step that begins.
    pub(super) fn change(&self, change: Change) -> Result<()> {
        self.change_in_turn(&self.0.shared.changing(), change)
    }

    /// The same where the turn is taken.
    pub(super) fn change_in_turn(&self, _turn: &MutexGuard<'_, ()>, change: Change) -> Result<()> {
        let journal = {
            let public = self.0.shared.read();
            if public.state == State::Closed {
                return Err(self.ended());
            }
            public.journal.with(public.begun, change)
        };
        Folder::write_journal(&self.0.folder, &journal)?;
        self.0.shared.update(|public| {
            public.journal = journal;
            public.recent += 1;
            if matches!(public.state, State::Finished | State::Idle | State::Paused) {
                public.rest(&self.0.config);
            }
        });
        Ok(())
    }
}

/// What a run begins with that did not exist.
pub(super) struct NewRun {
    pub identity: Identity,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub fresh: Adapters,
    pub learned: Learned,
    pub place: Place,
    pub journal: Journal,
    pub history: Vec<super::history::StepReport>,
    pub notes: Vec<String>,
    pub about_rows: Vec<String>,
}

/// Says which runs there are instead.
pub(super) fn no_run(name: &str, path: &Path) -> Error {
    const LISTED: usize = 20;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut there = Folder::runs_in(folder);
    let help = match there.len() {
        0 => format!("no run lies in {}", folder.display()),
        count => {
            there.truncate(LISTED);
            let more = if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
            format!("there are {}{more}", there.join(", "))
        }
    };
    Error::not_found(format!("no run {name:?}")).path(path).help(help)
}

/// The runs that this process has open.
pub fn runs() -> Vec<Status> {
    registry::all().into_iter().map(|inner| Run(inner).status()).collect()
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({})", self.0.folder.display())
    }
}

/// A run's name is the name of its folder and nothing else.
fn check_name(name: &str) -> Result<()> {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || name.chars().count() > 60 || name.starts_with('.') || !plain {
        return Err(Error::input(format!("{name:?} cannot name a run"))
            .help("use up to 60 letters, digits, '-', '_' and '.', and no '.' in front"));
    }
    Ok(())
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The absolute path without links, also of what is not there yet: the registry knows a folder by one
/// name only.
pub(super) fn real(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
    match (std::fs::canonicalize(&path), path.parent(), path.file_name()) {
        (Err(e), Some(parent), Some(name)) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(real(parent)?.join(name))
        }
        (real, ..) => real.map_err(|e| Error::io(&path, e)),
    }
}

/// What the run in a folder trained before its first step.
pub(super) fn begun(folder: &Path, model: &Model, config: &RunConfig) -> Result<Adapters> {
    match warm::kept(folder, config, model)? {
        Some(warm) => Ok(warm),
        None => begin(model.decoder(), config),
    }
}

/// What a run trains, before its first step.
pub(super) fn begin(decoder: &Decoder, config: &RunConfig) -> Result<Adapters> {
    match config.adaptation {
        Adaptation::Lora => decoder.new_adapters(&config.lora, config.seed),
        Adaptation::Full => decoder.all_trained(),
    }
}
