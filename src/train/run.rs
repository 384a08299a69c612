//! The handle of a run.

use super::batches::Rows;
use super::config::{Adaptation, Existing, RunConfig};
use super::evaluation::Evaluation;
use super::folder::{Folder, Identity, Place};
use super::history::{History, StepReport};
use super::optimizer::Optimizer;
use super::registry;
use super::status::{State, Status};
use super::step::{self, Learned};
use super::worker::{self, Public, Request, Shared, Worker};
use crate::dataset::Dataset;
use crate::display::{Progress, Text};
use crate::error::{Error, Result};
use crate::image;
use crate::lora::Adapters;
use crate::model::{Decoder, GenerateConfig, Model, OpenOptions, WeightsAs};
use crate::spectrum::Spectra;
use crate::text::Message;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    pub rows: Arc<Rows>,
    shared: Arc<Shared>,
    requests: Mutex<Sender<Request>>,
}

impl Inner {
    /// Whether its thread has ended.
    pub fn ended(&self) -> bool {
        self.shared.read().state == State::Ended
    }
}

impl Run {
    /// A new run in `runs/NAME`, with its first snapshot on disk.
    ///
    /// # Errors
    /// When the config cannot be used with this model and data, when the name is no plain name, and
    /// when a run of this name exists: take [`Run::get`], [`Run::open`], or
    /// [`RunConfig::overwrite`], which is refused while another process has the run open.
    pub fn new(name: &str, model: &Model, data: &Dataset, config: RunConfig) -> Result<Self> {
        image::check()?;
        config.check()?;
        check_name(name)?;
        let path = real(&Path::new(RUNS).join(name))?;
        let free = || {
            let exists = registry::get(&path).is_some() || Folder::exists(&path);
            if exists && config.existing == Existing::Keep {
                return Err(Error::state(format!("the run {name:?} exists")).path(&path).help(format!(
                    "Run::get({name:?})? gives it, RunConfig::default().overwrite() replaces it"
                )));
            }
            Ok(())
        };
        free()?;
        if model.is_merged() {
            return Err(Error::state("adapters were merged into this model, and no file holds it")
                .help("export() it and open the folder, or train on model.unmerged()"));
        }
        // All that can fail comes before anything is replaced.
        let decoder = model.decoder();
        let adapters = begin(decoder, &config)?;
        let rows = Rows::new(data, config.eval.as_ref(), model, config.context)?;
        let identity = Identity::new(model, data, &config, &rows)?;
        let pool = worker::pool(name)?;
        if let Some(old) = registry::get(&path) {
            Self(old).end();
        }
        let folder = Folder::hold(&path)?;
        free()?; // another process may have been faster
        folder.clear()?;
        let learned = Learned { adapters, optimizer: Optimizer::new(), seed: config.seed };
        folder.save(&learned, &Place::default())?;
        folder.write_identity(&identity)?;
        let worker = Worker::new(model.clone(), rows, config, folder, learned, Place::default(), Vec::new());
        Self::begin(path, worker, pool)
    }

    /// Opens a run from its folder: model, rows and settings come from there, and training goes on
    /// from the newest snapshot as if it had never stopped. A run that is open in this process is
    /// given as it is.
    ///
    /// # Errors
    /// When there is no run, another process has it open, its model or data are gone or changed, or
    /// the rows give other tokens than they did.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        image::check()?;
        let path = real(folder.as_ref())?;
        if let Some(inner) = registry::get(&path) {
            return Ok(Self(inner));
        }
        let identity = Folder::identity(&path)?;
        let folder = Folder::hold(&path)?;
        if !identity.model.exists() {
            return Err(Error::not_found("the model of this run is gone")
                .path(&identity.model)
                .help("put it back there"));
        }
        let weights = WeightsAs::of_fingerprint(&identity.model_fingerprint);
        let model = Model::open_with(&identity.model, &OpenOptions { weights, ..Default::default() })?;
        if model.fingerprint()? != identity.model_fingerprint {
            return Err(Error::state("the model has changed since this run was trained")
                .path(&identity.model)
                .help("put the old weights back, or begin a new run"));
        }
        let data = Dataset::from_recipe(&identity.data)?;
        let mut config = identity.config;
        config.eval = identity.eval.as_ref().map(Dataset::from_recipe).transpose()?;
        let rows = Rows::new(&data, config.eval.as_ref(), &model, Some(identity.context))?;
        if rows.fingerprint() != identity.tokens {
            return Err(Error::state(
                "the rows give other tokens than when this run was made (tokenizer, template or its date changed)",
            )
            .path(&path)
            .help("begin a new run"));
        }
        let decoder = model.decoder();
        let fresh = begin(decoder, &config)?;
        let (learned, place) = folder.load_last(&fresh, &config, decoder.device())?;
        let history = folder.history(place.step)?;
        let pool = worker::pool(&name_of(&path))?;
        let worker = Worker::new(model, rows, config, folder, learned, place, history);
        Self::begin(path, worker, pool)
    }

    /// The run of this name in `runs`, if this process has it open; otherwise it is opened from disk.
    ///
    /// # Errors
    /// When there is none; the error lists those that are open.
    pub fn get(name: &str) -> Result<Self> {
        check_name(name)?;
        let path = Path::new(RUNS).join(name);
        match Self::open(&path) {
            Err(e) if e.is_not_found() && !Folder::exists(&path) => {
                let open: Vec<String> = registry::all().iter().map(|run| run.name.clone()).collect();
                let open = if open.is_empty() {
                    "none is open".into()
                } else {
                    format!("open: {}", open.join(", "))
                };
                Err(Error::not_found(format!("no run {name:?}")).path(path).help(open))
            }
            other => other,
        }
    }

    /// Whether there is a run of this name in `runs`.
    ///
    /// # Errors
    /// When the name is no plain name.
    pub fn exists(name: &str) -> Result<bool> {
        check_name(name)?;
        Ok(Folder::exists(&Path::new(RUNS).join(name)))
    }

    fn begin(path: PathBuf, worker: Worker, pool: rayon::ThreadPool) -> Result<Self> {
        let (sender, requests) = channel();
        let inner = Arc::new(Inner {
            name: name_of(&path),
            folder: path,
            model: worker.model.clone(),
            config: worker.config.clone(),
            rows: worker.rows.clone(),
            shared: worker.shared.clone(),
            requests: Mutex::new(sender),
        });
        std::thread::Builder::new()
            .name(format!("run {}", inner.name))
            .spawn(move || worker.work(&requests, &pool))
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

    /// Its settings.
    pub fn config(&self) -> &RunConfig {
        &self.0.config
    }

    /// The model that it adapts.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// Trains one step and waits for it.
    ///
    /// # Errors
    /// When the run is training already, or the step fails.
    pub fn step(&self) -> Result<StepReport> {
        let steps = self.steps(1)?;
        steps
            .steps()
            .last()
            .cloned()
            .ok_or_else(|| Error::state("the step was paused").help("run.resume() goes on"))
    }

    /// Trains some steps and waits for them, with progress.
    ///
    /// # Errors
    /// When the run is training already, or a step fails.
    pub fn steps(&self, steps: u64) -> Result<History> {
        let before = self.0.shared.read().step;
        self.start(steps)?;
        self.wait()?;
        let done = self.0.shared.read().history.iter().filter(|s| s.step > before).cloned().collect();
        Ok(History::new(done, self.footer()))
    }

    /// Begins to train this many steps in the background; the call returns at once.
    ///
    /// # Errors
    /// When the run is training already, or has ended.
    pub fn start(&self, steps: u64) -> Result<Status> {
        self.0.shared.update(|public| match public.state {
            State::Ended => Err(self.ended()),
            State::Training => {
                Err(Error::state(format!("this run is training: step {} of {}", public.step, public.target))
                    .help("run.status() shows it, run.pause()? stops it"))
            }
            State::Idle | State::Paused | State::Failed(_) => {
                public.target = public.step.saturating_add(steps);
                public.state = if steps > 0 { State::Training } else { State::Idle };
                Ok(())
            }
        })?;
        self.send(Request::Go)?;
        Ok(self.status())
    }

    /// Goes on to the step that the run was asked for before it was paused, failed or was closed.
    ///
    /// # Errors
    /// When no step is left to do, or the run has ended.
    pub fn resume(&self) -> Result<Status> {
        let left = {
            let public = self.0.shared.read();
            match public.state {
                State::Training => return Ok(self.status_of(&public)),
                State::Ended => return Err(self.ended()),
                State::Idle | State::Paused | State::Failed(_) => public.target.saturating_sub(public.step),
            }
        };
        if left == 0 {
            return Err(Error::state("no steps are left to do").help("run.start(n)? begins n more"));
        }
        self.start(left)
    }

    /// Stops within a block of the model and returns when a snapshot is on disk. The step that was
    /// not finished is thrown away and done again by [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the snapshot cannot be written.
    pub fn pause(&self) -> Result<Status> {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, Ordering::Relaxed);
        self.send(Request::Pause(answer))?;
        answered.recv().map_err(|_| self.ended())??;
        Ok(self.status())
    }

    /// Pauses, ends the run's thread and lets go of its folder, so that another process can open it.
    /// [`Run::open`] reads it from disk again; older handles still show what it had learned.
    ///
    /// # Errors
    /// When the snapshot cannot be written, or the run has ended before.
    pub fn close(&self) -> Result<()> {
        self.pause()?;
        self.end();
        Ok(())
    }

    /// Ends the thread without a snapshot. The folder is free when this returns.
    fn end(&self) {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, Ordering::Relaxed);
        // Without an answer the thread had ended before, which is all that is asked.
        if self.send(Request::End(answer)).is_ok() {
            let _ = answered.recv();
        }
        registry::remove(&self.0);
    }

    /// Waits until the run is no longer training, with progress.
    ///
    /// # Errors
    /// When a step fails, or the run ends.
    pub fn wait(&self) -> Result<Status> {
        let (mut seen, target) = {
            let public = self.0.shared.read();
            (public.step, public.target)
        };
        let mut progress = Progress::new(self.0.name.clone(), target.saturating_sub(seen));
        loop {
            let status = self.status();
            let note = status.last.as_ref().map_or(String::new(), |s| format!("loss {:.3}", s.loss));
            progress.advance(status.step.saturating_sub(seen), &note);
            seen = status.step;
            match &status.state {
                State::Training => self.0.shared.wait(Duration::from_millis(500)),
                State::Idle | State::Paused => return Ok(status),
                State::Failed(why) => return Err(Error::compute(why)),
                State::Ended => return Err(self.ended()),
            }
        }
    }

    /// Where the run stands; answers at once, also in the middle of a step.
    pub fn status(&self) -> Status {
        self.status_of(&self.0.shared.read())
    }

    fn status_of(&self, public: &Public) -> Status {
        let recent: Vec<f64> = public.history.iter().rev().take(8).map(|s| s.seconds).collect();
        let pace = recent.iter().sum::<f64>() / recent.len().max(1) as f64;
        let left = public.target.saturating_sub(public.step);
        Status {
            name: self.0.name.clone(),
            state: public.state.clone(),
            step: public.step,
            target: public.target,
            last: public.history.last().cloned(),
            snapshot: public.snapshot,
            left: Some(pace * left as f64)
                .filter(|seconds| *seconds > 0.0)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            folder: self.0.folder.clone(),
        }
    }

    /// All steps so far.
    pub fn history(&self) -> History {
        History::new(self.0.shared.read().history.clone(), self.footer())
    }

    /// The adapters as they are after the latest step. They are a copy: training goes on beside it.
    pub fn adapters(&self) -> Adapters {
        self.0.shared.read().learned.adapters.clone()
    }

    /// What the model answers with the adapters as they are now, taking the most likely tokens.
    ///
    /// # Errors
    /// As [`Model::chat`].
    pub fn sample(&self, question: &str) -> Result<Text> {
        self.chat(&[Message::user(question)], &GenerateConfig::default())
    }

    /// What the model with the adapters answers to a conversation.
    ///
    /// # Errors
    /// As [`Model::chat`].
    pub fn chat(&self, messages: &[Message], config: &GenerateConfig) -> Result<Text> {
        self.0.model.chat_with(&self.adapters(), messages, config)
    }

    /// The loss on the rows given to [`RunConfig::eval`], with the adapters as they are now.
    ///
    /// # Errors
    /// When the run has no such rows.
    pub fn evaluate(&self) -> Result<Evaluation> {
        let Some(eval) = &self.0.rows.eval else {
            return Err(Error::state("this run has no rows for evaluation")
                .help("give some when it is made: RunConfig::default().eval(&test)"));
        };
        let (step, adapters) = {
            let public = self.0.shared.read();
            (public.step, public.learned.adapters.clone())
        };
        let (loss, tokens) = step::evaluate(self.0.model.decoder(), &adapters, &eval.all()?, &|| true)?;
        Ok(Evaluation { step, loss, rows: eval.rows(), tokens })
    }

    /// The singular values of every adapter's B·A as they are now.
    ///
    /// # Errors
    /// When an adapter holds a value that is not finite.
    pub fn spectra(&self) -> Result<Spectra> {
        let adapters = self.adapters();
        let factors: Vec<_> =
            adapters.iter().map(|(path, pair)| Ok((path, pair.factors()?))).collect::<Result<_>>()?;
        Spectra::of(factors.iter().map(|(path, (a, b, scale))| (*path, a, b, *scale)))
    }

    /// Saves the adapters in a folder that PEFT loads; it appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists, or cannot be written.
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().save(folder, &self.0.model.name())?;
        Ok(Text::new(format!("adapter saved in {}", path.display())))
    }

    /// Like [`save_adapter`](Self::save_adapter), but replaces a folder that exists.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn overwrite_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().overwrite(folder, &self.0.model.name())?;
        Ok(Text::new(format!("adapter saved in {}", path.display())))
    }

    fn footer(&self) -> String {
        let c = &self.0.config;
        format!(
            "{} · {} · rank {} · lr {:e} · seed {}",
            self.0.name,
            self.0.model.name(),
            c.lora.rank,
            c.lr,
            c.seed
        )
    }

    fn send(&self, request: Request) -> Result<()> {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.send(request).map_err(|_| self.ended())
    }

    fn ended(&self) -> Error {
        Error::state(format!("the run {:?} has ended", self.0.name))
            .help("Run::open(folder)? reads it from disk")
    }
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

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The absolute path without links, also of what is not there yet: the registry knows a folder by one
/// name only.
fn real(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
    match (std::fs::canonicalize(&path), path.parent(), path.file_name()) {
        (Err(e), Some(parent), Some(name)) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(real(parent)?.join(name))
        }
        (real, ..) => real.map_err(|e| Error::io(&path, e)),
    }
}

/// What a run trains, before its first step.
fn begin(decoder: &Decoder, config: &RunConfig) -> Result<Adapters> {
    match config.adaptation {
        Adaptation::Lora => decoder.new_adapters(&config.lora, config.seed),
        Adaptation::Full => decoder.all_trained(),
    }
}
