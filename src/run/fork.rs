//! A second run that goes on from where this one is.

use super::create::NewRun;
use super::disk::folder::Folder;
use super::disk::identity::{Identity, Parent, rows_of};
use super::disk::initial_adapters;
use super::handle::Run;
use super::journal::{Change, Journal};
use super::names;
use super::segments::Segments;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::train::batches::Batches;
use crate::train::{RunConfig, render_time};
use std::sync::Arc;

impl Run {
    /// A second run that goes on from this one as it is now, over the same frozen weights, in
    /// `runs/NAME`. What `change` changes in the config holds from here on; what came before, and the
    /// way back to it, is the same in both. Evaluations on other rows say nothing of these: where the rows to
    /// evaluate on are changed, the fork's history begins without them, and the best is counted anew.
    ///
    /// # Errors
    /// When a run of this name exists, or when something is changed that cannot change on the way: the
    /// rank, the seed, the data, the precision, the kind of optimiser, what becomes of rows that are refused; and when the run's
    /// folder cannot be read.
    pub fn fork(&self, name: &str, change: impl FnOnce(&mut RunConfig)) -> Result<Self> {
        let path = names::path_of(name)?;
        let (learned, mut place, journal, mut history) = {
            let current = self.0.shared.read();
            let journal = current.journal.until(current.place.step);
            (current.learned.clone(), current.place, journal, current.history.clone())
        };
        let original = self.0.config.clone();
        let settings = journal.settings(&original, place.step + 1);
        let now = RunConfig {
            lr: settings.lr,
            schedule: settings.schedule.clone(),
            batch: settings.batch,
            micro_batch: settings.micro_batch,
            clip: settings.clip,
            optimizer: settings.optimizer.clone(),
            eval_every: settings.eval_every,
            patience: settings.patience,
            spectra_every: settings.spectra_every,
            ..original.clone()
        };
        let mut wanted = now.clone();
        change(&mut wanted);
        wanted.check()?;
        Self::free(name, &path, wanted.existing)?;
        let journal = differences(&now, &wanted, journal, place.step)?;
        let mut identity = Folder::identity(&self.0.folder)?;
        let eval = match same_rows(now.eval.as_ref(), wanted.eval.as_ref())? {
            true => self.0.eval.clone(),
            false => {
                place.eval_loss = None;
                history.iter_mut().for_each(|step| step.eval_loss = None);
                let how = self.0.segments.preparing();
                let data = wanted.eval.as_ref();
                let trained = self.0.segments.get(self.settings().segment).ok();
                let trained = trained.as_ref().map(|segment| &segment.data);
                let for_evaluation = |data| Batches::for_evaluation(data, trained, &self.0.model, how);
                let rows = data.map(for_evaluation).transpose()?;
                let found = data.zip(rows.as_ref()).map(|(data, rows)| rows_of(data, rows));
                identity.eval = found.transpose()?;
                rows.map(Arc::new)
            }
        };
        // The settings of the beginning stay; those that may change at any time are taken over.
        let config = RunConfig {
            spike: wanted.spike,
            snapshots: wanted.snapshots.clone(),
            existing: wanted.existing,
            recompute: wanted.recompute,
            devices: wanted.devices,
            placement: wanted.placement,
            reduction: wanted.reduction,
            eval: wanted.eval,
            ..original
        };
        let mut identity = Identity { config: config.clone(), ..identity };
        identity.time = render_time::time_of(&self.0.model);
        identity.parent = Some(Parent { run: self.0.folder.clone(), step: place.step });
        let segments =
            Segments::new(&self.0.model, &config, std::iter::once(&identity.rows).chain(journal.data()));
        for number in 0..=settings.segment {
            if let (Some(rows), Ok(segment)) = (segments.rows(number), self.0.segments.get(number)) {
                segments.fill(number, &rows, segment);
            }
        }
        let fresh = initial_adapters::of_run(&self.0.folder, &self.0.model, &config)?;
        let new = NewRun {
            identity,
            segments: Arc::new(segments),
            eval,
            fresh,
            learned,
            place,
            journal,
            history,
            notes: Vec::new(),
            about_rows: Vec::new(),
        };
        Self::create(name, path, &self.0.model, config, new)
    }
}

/// Whether these are the same rows, found in the same way.
fn same_rows(a: Option<&Dataset>, b: Option<&Dataset>) -> Result<bool> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => a.recipe()? == b.recipe()?,
        (a, b) => a.is_none() && b.is_none(),
    })
}

/// The journal with the changes from one config to the other.
fn differences(now: &RunConfig, wanted: &RunConfig, journal: Journal, at: u64) -> Result<Journal> {
    let fixed =
        |name: &str, help: &str| Err(Error::input(format!("a fork cannot have another {name}")).help(help));
    if now.lora != wanted.lora || now.adaptation != wanted.adaptation {
        return fixed(
            "rank or other adapters",
            "the adapters stay as they are: begin a new run from them with init_from",
        );
    }
    if now.training() != wanted.training() {
        return fixed("choice of trained tokens", "begin a new run: Run::new(name, &model, &data, config)");
    }
    if now.faults != wanted.faults {
        return fixed(
            "treatment of refused rows",
            "a fork keeps the rows of this run: begin a new run, Run::new(name, &model, &data, config)",
        );
    }
    if now.precision != wanted.precision {
        return fixed("precision", "the run keeps its own: begin a new run from its adapters with init_from");
    }
    now.optimizer.goes_on_as(&wanted.optimizer)?;
    if now.seed != wanted.seed || now.context != wanted.context || now.init_from != wanted.init_from {
        return fixed(
            "seed, context or initialisation",
            "begin a new run: Run::new(name, &model, &data, config)",
        );
    }
    let mut changes = Vec::new();
    if now.schedule != wanted.schedule {
        changes.push(Change::Schedule(wanted.schedule.clone()));
    }
    if now.lr.to_bits() != wanted.lr.to_bits() {
        changes.push(Change::Lr(wanted.lr));
    }
    if now.batch != wanted.batch {
        changes.push(Change::Batch(wanted.batch));
    }
    if now.micro_batch != wanted.micro_batch {
        changes.push(Change::MicroBatch(wanted.micro_batch));
    }
    if now.clip != wanted.clip {
        changes.push(Change::Clip(wanted.clip));
    }
    if now.optimizer != wanted.optimizer {
        changes.push(Change::Optimizer(wanted.optimizer.clone()));
    }
    if now.eval_every != wanted.eval_every {
        changes.push(Change::EvalEvery(wanted.eval_every));
    }
    if now.patience != wanted.patience {
        changes.push(Change::Patience(wanted.patience));
    }
    if now.spectra_every != wanted.spectra_every {
        changes.push(Change::SpectraEvery(wanted.spectra_every));
    }
    Ok(changes.into_iter().fold(journal, |journal, change| journal.with(at, change)))
}
