//! Creating a run: `Run::new`, and what a fork shares with it.

use super::devices::on_its_devices;
use super::disk::folder::Folder;
use super::disk::identity::{Identity, rows_of};
use super::disk::initial_adapters::{self, new_adapters};
use super::disk::snapshot::{Context, RunProgress};
use super::handle::{Run, RunInner};
use super::journal::Journal;
use super::names;
use super::registry;
use super::segments::{Segment, Segments};
use super::state::status::State;
use super::worker::thread::{Begin, Worker};
use crate::dataset::Dataset;
use crate::devices::pool::pool;
use crate::error::{Error, Result};
use crate::files::Existing;
use crate::image;
use crate::lora::Adapters;
use crate::model::Model;
use crate::train::batches::{Batches, Preparing};
use crate::train::row_checks::{Checked, check_rows, notes};
use crate::train::step::Learned;
use crate::train::{Goal, RunConfig, StepReport, finding, render_time};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a new run begins with.
pub(crate) struct NewRun {
    pub identity: Identity,
    pub segments: Arc<Segments>,
    pub eval: Option<Arc<Batches>>,
    pub fresh: Adapters,
    pub learned: Learned,
    pub place: RunProgress,
    pub journal: Journal,
    pub history: Vec<StepReport>,
    pub notes: Vec<String>,
    pub about_rows: Vec<String>,
}

impl Run {
    /// A new run in `runs/NAME`, with its first snapshot on disk.
    ///
    /// # Errors
    /// When the config cannot be used with this model, its device and data, when the name is no plain name, and
    /// when a run of this name exists: take [`Run::new_or_get`], [`Run::get`], [`Run::open`], or
    /// [`RunConfig::overwrite`], which is refused while the run trains or another process has it open.
    pub fn new(name: &str, model: &Model, data: &Dataset, config: RunConfig) -> Result<Self> {
        image::check()?;
        config.check()?;
        let path = names::path_of(name)?;
        Self::free(name, &path, config.existing)?;
        if model.is_merged() {
            return Err(Error::state("adapters were merged into this model, and it is not saved in a file")
                .help("export() it and open the folder, or train on model.unmerged()"));
        }
        // The date that a template writes is part of the data: the run keeps it.
        let model = &on_its_devices(&render_time::fixed(model, None)?, &config)?;
        // All that can fail comes before anything is replaced.
        model.decoder().devices().iter().try_for_each(|device| config.precision.check_on(device))?;
        let mut config = config;
        let decoder = model.decoder();
        let (fresh, not_taken) = match initial_adapters::read(model, &mut config)? {
            Some(warm) => warm,
            None => (new_adapters(decoder, &config)?, Vec::new()),
        };
        let how = Preparing::of(&config);
        let batches = Batches::new(data, model, how)?;
        let how = Preparing { context: Some(batches.context()), ..how };
        let for_evaluation = |eval| Batches::for_evaluation(eval, Some(data), model, how);
        let eval = config.eval.as_ref().map(for_evaluation).transpose()?;
        let checked = Checked { rows: &batches, data, eval: eval.as_ref().zip(config.eval.as_ref()) };
        let findings = check_rows(checked, &config, model.tokenizer())?;
        if let Some(fatal) = finding::fatal(&findings) {
            return Err(fatal);
        }
        let fresh = decoder.place(&fresh)?;
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
            place: RunProgress::default(),
            journal: Journal::default(),
            history: Vec::new(),
            notes: not_taken,
            about_rows: notes(&findings),
        };
        Self::create(name, path, model, config, begin)
    }

    /// Writes the folder of a new run, and starts its thread.
    pub(crate) fn create(
        name: &str,
        path: PathBuf,
        model: &Model,
        config: RunConfig,
        new: NewRun,
    ) -> Result<Self> {
        let pool = pool(name, 0)?;
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
            notes.push(format!("the old run {name:?} is now in {}", aside.display()));
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
        initial_adapters::keep(&path, &config, &new.fresh, &model.name())?;
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
        Self::start_thread(path, worker, pool)
    }

    /// Fails where a run of this name exists and is not to be replaced, or trains.
    pub(crate) fn free(name: &str, path: &Path, existing: Existing) -> Result<()> {
        let exists = registry::get(path).is_some() || Folder::exists(path);
        if exists && existing == Existing::Refuse {
            return Err(Error::state(format!("the run {name:?} exists")).path(path).help(format!(
                "Run::get({name:?})? gives it, as does Run::new_or_get; RunConfig::default().overwrite() moves it aside"
            )));
        }
        let trains = |run: &Arc<RunInner>| run.shared.read().state == State::Running;
        if registry::get(path).as_ref().is_some_and(trains) {
            return Err(Error::state(format!("the run {name:?} is training, and is not replaced"))
                .path(path)
                .help(format!("Run::get({name:?})?.stop()? ends it first; or give this run another name")));
        }
        Ok(())
    }

    /// The same for a run in `runs`, before anything is read.
    pub(crate) fn check_free(name: &str, existing: Existing) -> Result<()> {
        Self::free(name, &names::path_of(name)?, existing)
    }
}
