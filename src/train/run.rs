//! The handle of a run.

use super::batches::{Batches, Position};
use super::config::{Existing, RunConfig};
use super::folder::{Folder, Identity, Place};
use super::history::{History, StepReport};
use super::optimizer::AdamW;
use super::registry;
use super::status::{State, Status};
use super::step::{self, Learned};
use super::worker::{self, Public, Request, Shared, Worker};
use crate::dataset::{Dataset, Recipe};
use crate::display::{self, Align, Bundle, Progress, Show, Table, Text};
use crate::error::{Error, Result};
use crate::image;
use crate::lora::Adapters;
use crate::model::{GenerateConfig, Model};
use crate::spectrum::Spectra;
use crate::text::{Message, Pack};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The folder that runs lie in, below the working folder.
const RUNS: &str = "runs";
/// Rows that an evaluation uses at most.
const EVAL_ROWS: usize = 200;

/// A training run: it trains in a thread of its own and saves itself; this is the handle to it.
///
/// Cheap to clone, and all methods take `&self`. The run itself lives in the process until it ends:
/// dropping a handle stops nothing and loses nothing, and [`Run::get`] gives another one.
#[derive(Clone)]
pub struct Run(Arc<Inner>);

pub(super) struct Inner {
    name: String,
    folder: PathBuf,
    model: Model,
    config: RunConfig,
    batches: Arc<Batches>,
    eval: Option<Arc<Vec<Pack>>>,
    shared: Arc<Shared>,
    requests: Mutex<Sender<Request>>,
}

impl Run {
    /// A new run in `runs/NAME`, with its first snapshot on disk.
    ///
    /// # Errors
    /// When the config cannot be used with this model and data, when the name is no plain name, and
    /// when a run of this name exists: take [`Run::get`], [`Run::open`], or
    /// [`RunConfig::overwrite`].
    pub fn new(name: &str, model: &Model, data: &Dataset, config: RunConfig) -> Result<Self> {
        image::check()?;
        config.check()?;
        check_name(name)?;
        let path = absolute(&Path::new(RUNS).join(name))?;
        let exists = registry::get(&path).is_some() || path.join("run.json").exists();
        if exists && config.existing == Existing::Keep {
            return Err(Error::state(format!("the run {name:?} exists")).path(&path).help(format!(
                "Run::get({name:?})? gives it, RunConfig::default().overwrite() replaces it"
            )));
        }
        // All that can fail comes before anything is replaced.
        let llama = model.llama();
        let adapters = Adapters::new(&config.lora, &llama.targets(), config.seed, llama.device())?;
        let batches = Batches::new(data, model, config.context)?;
        let eval = config.eval.as_ref().map(|data| eval_packs(data, model, &batches)).transpose()?;
        let (recipe, eval_recipe) = (data.recipe(), config.eval.as_ref().map(Dataset::recipe));
        if exists {
            discard(&path)?;
        }
        let folder = Folder::hold(&path)?;
        let fingerprint = model.fingerprint()?;
        folder.write_identity(&Identity::new(
            config.clone(),
            model.path().into(),
            fingerprint,
            recipe,
            eval_recipe,
        ))?;
        let learned = Learned { adapters, optimizer: AdamW::new() };
        let place = Place { step: 0, position: Position::default(), updates: 0, eval_loss: None };
        folder.save(&learned, &place)?;
        Self::begin(name, path, folder, model, config, batches, eval, learned, place, Vec::new())
    }

    /// Opens a run from its folder: model, rows and settings come from there, and training goes on
    /// from the newest snapshot as if it had never stopped. A run that is open in this process is
    /// given as it is.
    ///
    /// # Errors
    /// When there is no run, another process trains it, or its model or data are gone or changed.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        image::check()?;
        let path = absolute(folder.as_ref())?;
        if let Some(inner) = registry::get(&path) {
            return Ok(Self(inner));
        }
        let identity = Folder::identity(&path)?;
        let model = Model::open(&identity.model)
            .map_err(|e| e.help("the run needs the model that it was trained on: put it back there"))?;
        if model.fingerprint()? != identity.model_fingerprint {
            return Err(Error::state("the model has changed since this run was trained")
                .path(&identity.model)
                .help("put the old weights back, or begin a new run"));
        }
        let dataset = |recipe: &Recipe| Dataset::from_recipe(recipe);
        let data = dataset(&identity.data)?;
        let mut config = identity.config;
        config.eval = identity.eval.as_ref().map(dataset).transpose()?;
        let batches = Batches::new(&data, &model, config.context)?;
        let eval = config.eval.as_ref().map(|data| eval_packs(data, &model, &batches)).transpose()?;
        let llama = model.llama();
        let fresh = Adapters::new(&config.lora, &llama.targets(), config.seed, llama.device())?;
        let folder = Folder::hold(&path)?;
        let (learned, place) = folder.load_last(&fresh, llama.device())?;
        let history = folder.history(place.step)?;
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Self::begin(&name, path, folder, &model, config, batches, eval, learned, place, history)
    }

    /// The run of this name in `runs`, if this process has it open; otherwise it is opened from disk.
    ///
    /// # Errors
    /// When there is none; the error lists those that are open.
    pub fn get(name: &str) -> Result<Self> {
        check_name(name)?;
        let path = Path::new(RUNS).join(name);
        match Self::open(&path) {
            Err(e) if e.is_not_found() && !path.join("run.json").exists() => {
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

    #[allow(clippy::too_many_arguments)]
    fn begin(
        name: &str,
        path: PathBuf,
        folder: Folder,
        model: &Model,
        config: RunConfig,
        batches: Batches,
        eval: Option<Vec<Pack>>,
        learned: Learned,
        place: Place,
        history: Vec<StepReport>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::new(Public {
            state: State::Idle,
            step: place.step,
            target: place.step,
            snapshot: Some(place.step),
            history,
            learned: learned.clone(),
        }));
        let (sender, requests) = channel();
        let (batches, eval) = (Arc::new(batches), eval.map(Arc::new));
        let worker = Worker {
            model: model.clone(),
            batches: batches.clone(),
            eval: eval.clone(),
            config: config.clone(),
            folder,
            shared: shared.clone(),
            learned,
            place,
            saved: Instant::now(),
        };
        let pool = worker::pool(name)?;
        std::thread::Builder::new()
            .name(format!("run {name}"))
            .spawn(move || worker.work(&requests, &pool))
            .map_err(|e| Error::io(&path, e))?;
        let (name, model, requests) = (name.to_string(), model.clone(), Mutex::new(sender));
        let inner = Arc::new(Inner { name, folder: path, model, config, batches, eval, shared, requests });
        registry::insert(&inner.folder, inner.clone());
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
    /// When the run is training already.
    pub fn start(&self, steps: u64) -> Result<Status> {
        let target = self.0.shared.update(|public| {
            if public.state == State::Training {
                return Err(Error::state(format!(
                    "this run is training: step {} of {}",
                    public.step, public.target
                ))
                .help("run.status() shows it, run.pause()? stops it"));
            }
            public.target = public.step + steps;
            public.state = if steps > 0 { State::Training } else { State::Idle };
            Ok(public.target)
        })?;
        self.send(Request::Until(target))?;
        Ok(self.status())
    }

    /// Goes on to the step that the run was asked for before it was paused, or failed.
    ///
    /// # Errors
    /// When no step is left to do.
    pub fn resume(&self) -> Result<Status> {
        let left = {
            let public = self.0.shared.read();
            match public.state {
                State::Training => return Ok(self.status_of(&public)),
                _ => public.target.saturating_sub(public.step),
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
        answered.recv().map_err(|_| ended(&self.0.name))??;
        Ok(self.status())
    }

    /// Waits until the run is no longer training, with progress.
    ///
    /// # Errors
    /// When a step fails.
    pub fn wait(&self) -> Result<Status> {
        let (mut seen, target) = {
            let public = self.0.shared.read();
            (public.step, public.target)
        };
        let mut progress = Progress::new(self.0.name.clone(), target.saturating_sub(seen));
        loop {
            let (status, failed) = {
                let public = self.0.shared.read();
                let failed = match &public.state {
                    State::Failed(why) => Some(why.clone()),
                    _ => None,
                };
                (self.status_of(&public), failed)
            };
            let note = status.last.as_ref().map_or(String::new(), |s| format!("loss {:.3}", s.loss));
            progress.advance(status.step.saturating_sub(seen), &note);
            seen = status.step;
            match failed {
                Some(why) => return Err(Error::compute(why)),
                None if status.state != State::Training => return Ok(status),
                None => self.0.shared.wait(Duration::from_millis(500)),
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
            left: (left > 0 && pace > 0.0).then(|| Duration::from_secs_f64(pace * left as f64)),
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
        let Some(packs) = &self.0.eval else {
            return Err(Error::state("this run has no rows for evaluation")
                .help("give some when it is made: RunConfig::default().eval(&test)"));
        };
        let (step, adapters) = {
            let public = self.0.shared.read();
            (public.step, public.learned.adapters.clone())
        };
        let (loss, tokens) = step::evaluate(self.0.model.llama(), &adapters, packs, &|| true)?;
        let rows = packs.iter().map(|pack| pack.examples.len()).sum();
        Ok(Evaluation { step, loss, rows, tokens })
    }

    /// The singular values of every adapter's B·A as they are now.
    ///
    /// # Errors
    /// When an adapter holds a value that is not finite.
    pub fn spectra(&self) -> Result<Spectra> {
        let adapters = self.adapters();
        Spectra::of(adapters.iter().map(|(path, pair)| (path, pair.a(), pair.b(), pair.scale())))
    }

    /// Saves the adapters in a folder that PEFT loads; it appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists, or cannot be written.
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().save(folder, &self.0.model.name())?;
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
        requests.send(request).map_err(|_| ended(&self.0.name))
    }
}

/// The runs that this process has open.
pub fn runs() -> Vec<Status> {
    registry::all().into_iter().map(|inner| Run(inner).status()).collect()
}

/// The loss on held-out rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// After which step.
    pub step: u64,
    /// Mean cross-entropy over the trained tokens, in nats.
    pub loss: f64,
    /// Rows that were used.
    pub rows: usize,
    /// Tokens whose loss counted.
    pub tokens: usize,
}

impl Evaluation {
    /// e^loss: between how many tokens the model hesitates, so to speak.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

impl Show for Evaluation {
    fn show(&self) -> Bundle {
        let columns = ["after step", "loss (nats per token)", "perplexity", "rows", "tokens"];
        let mut table = Table::new(columns.map(|c| (c, Align::Right)));
        table.row([
            self.step.to_string(),
            format!("{:.4}", self.loss),
            format!("{:.2}", self.perplexity()),
            display::thousands(self.rows as u64),
            display::thousands(self.tokens as u64),
        ]);
        table.show()
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({})", self.0.folder.display())
    }
}

impl Show for Run {
    fn show(&self) -> Bundle {
        let (inner, left_out) = (&self.0, self.0.batches.left_out());
        let adapters = self.adapters();
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption(&inner.name);
        let c = &inner.config;
        table.row(["model".to_string(), inner.model.name()]);
        table.row([
            "adapters".to_string(),
            format!(
                "{} of rank {}, alpha {}: {} numbers are trained",
                adapters.len(),
                c.lora.rank,
                c.lora.alpha,
                display::thousands(adapters.parameters() as u64)
            ),
        ]);
        table.row([
            "rows".to_string(),
            format!("{} to train on, {} a step", display::thousands(inner.batches.rows() as u64), c.batch),
        ]);
        if left_out.too_long > 0 {
            table.row([
                "left out".to_string(),
                format!("{} rows longer than {} tokens", left_out.too_long, inner.batches.context()),
            ]);
        }
        if left_out.untrained > 0 {
            table.row(["left out".to_string(), format!("{} rows without an answer", left_out.untrained)]);
        }
        if let Some(eval) = &inner.eval {
            table.row([
                "evaluation".to_string(),
                format!("{} rows", eval.iter().map(|p| p.examples.len()).sum::<usize>()),
            ]);
        }
        table.row([
            "learning rate".to_string(),
            format!("{:e}{}", c.lr, if c.lr > 1e-3 { ", which is high for LoRA" } else { "" }),
        ]);
        (table, self.status()).show()
    }
}

/// Packs the rows for evaluation, with the context that training has.
fn eval_packs(data: &Dataset, model: &Model, train: &Batches) -> Result<Vec<Pack>> {
    let rows = data.head(EVAL_ROWS);
    Batches::new(&rows, model, Some(train.context()))?.first(EVAL_ROWS)
}

/// Ends a run of this process, if there is one, and moves its folder out of the way.
fn discard(path: &Path) -> Result<()> {
    if let Some(inner) = registry::remove(path) {
        let run = Run(inner);
        run.pause()?;
        run.send(Request::End)?;
    }
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

/// A run's name is the name of its folder and nothing else.
fn check_name(name: &str) -> Result<()> {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !plain {
        return Err(Error::input(format!("{name:?} cannot name a run"))
            .help("use up to 100 letters, digits, '-', '_' and '.', and no '.' in front"));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(path, e))
}

fn ended(name: &str) -> Error {
    Error::state(format!("the thread of run {name:?} has ended")).help("open it again: Run::open(folder)")
}
