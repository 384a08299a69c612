//! Opening a run from its folder.

use super::devices::on_its_devices;
use super::disk::folder::Folder;
use super::disk::identity::Identity;
use super::disk::initial_adapters::{self, BEGUN};
use super::disk::snapshot::RunProgress;
use super::handle::Run;
use super::names::{name_of, real};
use super::registry;
use super::segments::{self, Segments};
use super::worker::thread::{Begin, Worker};
use crate::dataset::Dataset;
use crate::devices::{agree_on, pool::pool};
use crate::display::advice;
use crate::error::{Error, Result};
use crate::image;
use crate::model::{Model, OpenOptions};
use crate::train::batches::Batches;
use crate::train::step::Learned;
use crate::train::{Devices, Goal, Placement, RunConfig, render_time};
use std::path::Path;
use std::sync::Arc;

/// What [`Run::open_with`] takes instead of what the run's folder says.
#[derive(Debug, Clone, Default)]
pub struct OpenRun {
    /// The model, where it lies elsewhere now.
    pub model: Option<Model>,
    /// The rows that it goes on with.
    pub data: Option<Dataset>,
    /// The rows that it is evaluated on.
    pub eval: Option<Dataset>,
    /// The devices to train on, where they are not those of its last step.
    pub devices: Option<Devices>,
    /// How the model lies on them, where it is not as in its last step.
    pub placement: Option<Placement>,
    /// What to do where these are not those that the run was trained with.
    pub changed: Changed,
}

impl OpenRun {
    /// Accepts a model and rows that have changed.
    pub fn accept() -> Self {
        Self { changed: Changed::Accept, ..Self::default() }
    }
}

/// What to do where the model or the rows are not those that the run was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Changed {
    /// Fail, and say what differs.
    #[default]
    Refuse,
    /// Go on with them. The steps that follow are not those that the run would have made.
    Accept,
}

impl Run {
    /// Opens a run from its folder: model, rows and settings come from there, and training goes on
    /// from the newest snapshot that is whole as if it had never stopped. A run that is open in this
    /// process is returned as it is.
    ///
    /// # Errors
    /// When there is no run, another process has it open, its model or data are gone or changed, or
    /// the rows give other tokens than they did.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, &OpenRun::default())
    }

    /// As [`open`](Self::open), with a model or rows that lie elsewhere, or have changed.
    ///
    /// # Errors
    /// As [`open`](Self::open); what was accepted is no error.
    pub fn open_with(folder: impl AsRef<Path>, options: &OpenRun) -> Result<Self> {
        image::check()?;
        let path = real(folder.as_ref())?;
        if let Some(inner) = registry::get(&path) {
            return Ok(Self(inner));
        }
        let mut identity = Folder::identity(&path)?;
        let folder = Folder::hold(&path)?;
        let mut notes = Vec::new();
        if options.model.is_none() {
            match agree_on(options.devices.as_ref().unwrap_or(&identity.config.devices)) {
                // As where it is opened alone: it then trains on the device of the model.
                Err(error) if options.devices.is_none() && error.is_not_found() => {
                    agree_on(&Devices::default())?;
                }
                agreed => agreed?,
            }
        }
        let model = model_of(&mut identity, options, &mut notes)?;
        let time = identity.time.or_else(|| Folder::time_of_making(&path));
        let model = render_time::fixed(&model, time)?;
        let mut config = identity.config.clone();
        config.reaches_zero = identity.reaches_zero;
        let model = choose_devices(&model, &mut config, options, &mut notes)?;
        let eval_data = match (&options.eval, identity.eval_recipe()) {
            (Some(eval), _) => Some(eval.clone()),
            (None, Some(recipe)) if options.changed == Changed::Accept => Some(
                Dataset::from_recipe(recipe)
                    .or_else(|_| Dataset::open_with(&recipe.path, &recipe.options))?,
            ),
            (None, recipe) => recipe.map(Dataset::from_recipe).transpose()?,
        };
        config.eval = eval_data;

        let fresh = initial_adapters::of_run(&path, &model, &config)?;
        let pending = folder.pending_rewind();
        let mut journal = folder.journal()?;
        if let Some(to) = pending {
            journal = journal.until(to);
            folder.forget_after(to, &journal)?;
        }
        let device = model.decoder().device();
        let (found, damaged) = folder.load(u64::MAX, &fresh, &config, device)?;
        notes.extend(damaged);
        let saved = found.is_some();
        let (learned, place) = match found {
            Some(found) => found,
            None if config.init_from.is_some() && !path.join(BEGUN).exists() => {
                return Err(Error::not_found("no snapshot is left of a run that began with adapters")
                    .path(&path)
                    .help("begin a new run"));
            }
            None => {
                notes.push("no snapshot is left: the run begins anew".to_string());
                (Learned::new(fresh.clone(), config.seed), RunProgress::default())
            }
        };
        if !notes.is_empty() && saved {
            notes.push(format!("the run goes on from step {}", place.step));
        }
        let learned = learned.on(model.decoder())?;
        let later = journal.entries().iter().filter(|entry| entry.at > place.step).count();
        if later > 0 {
            notes.push(format!(
                "{later} changes made after step {} will be repeated at their steps",
                place.step
            ));
        }
        let history = folder.history(place.step)?;
        let segments =
            Arc::new(Segments::new(&model, &config, std::iter::once(&identity.rows).chain(journal.data())));
        let current = journal.settings(&config, place.step + 1).segment;
        let swap = match (&options.data, segments.get(current)) {
            (Some(data), _) => Some(data.clone()),
            (None, Ok(_)) => None,
            (None, Err(error)) if options.changed == Changed::Refuse => return Err(error),
            (None, Err(_)) => {
                let rows = segments.rows(current).unwrap_or_else(|| identity.rows.clone());
                Some(Dataset::open_with(&rows.data.path, &rows.data.options)?)
            }
        };
        let how = segments.preparing();
        let trained = swap.clone().or_else(|| Some(segments.get(current).ok()?.data.clone()));
        let for_evaluation = |eval| Batches::for_evaluation(eval, trained.as_ref(), &model, how);
        let eval = config.eval.as_ref().map(for_evaluation).transpose()?;
        if let (Some(eval), Some(rows), None) = (&eval, &identity.eval, &options.eval) {
            let same = segments::same_tokens(eval, rows);
            if options.changed == Changed::Refuse {
                same?;
            }
        }
        let pool = pool(&name_of(&path), 0)?;
        let worker = Worker::new(Begin {
            model,
            segments,
            eval: eval.map(Arc::new),
            config,
            answers: folder.answers(place.step),
            goal: folder.goal().unwrap_or_else(|| Goal::none(place.step)),
            folder,
            fresh,
            learned,
            place,
            saved,
            journal,
            history,
            notes,
            about_rows: Vec::new(),
        });
        let run = Self::start_thread(path, worker, pool)?;
        if let Some(to) = pending {
            run.rewind_to(to)?;
        }
        if let Some(data) = swap {
            run.swap_data(&data, options.changed)?;
        }
        Ok(run)
    }

    /// Goes on with these rows, where they are not those that the run had.
    fn swap_data(&self, data: &Dataset, changed: Changed) -> Result<()> {
        let (rows, segment) = self.segment_of(data)?;
        let number = self.settings().segment;
        let known = self.0.segments.rows(number);
        if known.as_ref().is_some_and(|known| known.tokens == rows.tokens) {
            self.0.segments.put(number, rows, segment); // the same rows from another place
            return Ok(());
        }
        if changed == Changed::Refuse {
            self.close()?;
            return Err(Error::state(format!(
                "these are other rows: {} of {} tokens at most, fingerprint {}; the run had fingerprint {}",
                segment.batches.rows(),
                rows.context,
                rows.tokens,
                known.map(|known| known.tokens).unwrap_or_default()
            ))
            .path(data.path())
            .help(advice(
                "OpenRun { data, changed: Changed::Accept, .. } goes on with them, as run.set_data(&data) does",
                "--resume --accept goes on with them",
            )));
        }
        self.change_data(rows, segment)
    }
}

/// The model on the devices that were asked for, those of the run, or, where these are not there, its own.
fn choose_devices(
    model: &Model,
    config: &mut RunConfig,
    options: &OpenRun,
    notes: &mut Vec<String>,
) -> Result<Model> {
    if options.devices.is_some() || options.placement.is_some() {
        config.devices = options.devices.clone().unwrap_or_else(|| config.devices.clone());
        config.placement = options.placement.unwrap_or(config.placement);
        return on_its_devices(model, config);
    }
    match on_its_devices(model, config) {
        Err(error) if error.is_not_found() || error.is_input() => {
            notes.push(format!("trains on the device of the model: {error}"));
            (config.devices, config.placement) = (Devices::default(), Placement::default());
            Ok(model.clone())
        }
        placed => placed,
    }
}

/// Opens the model of a run, and notes where it has changed.
fn model_of(identity: &mut Identity, options: &OpenRun, notes: &mut Vec<String>) -> Result<Model> {
    let model = match &options.model {
        Some(model) => model.clone(),
        None if !identity.model.exists() => {
            return Err(Error::not_found("the model of this run is gone").path(&identity.model).help(advice(
                "put it back there, or say where it is: Run::open_with(folder, &OpenRun { model: Some(model), ..OpenRun::default() })",
                "put it back there",
            )));
        }
        None => {
            let options = OpenOptions { weights: identity.weights(), ..Default::default() };
            Model::open_with(&identity.model, &options)?
        }
    };
    let now = model.fingerprint()?;
    if now != identity.model_fingerprint {
        if options.changed == Changed::Refuse {
            return Err(Error::state(format!(
                "the model has changed since this run was trained: its fingerprint was {}, now {now}",
                identity.model_fingerprint
            ))
            .path(model.path())
            .help(advice(
                "put the old weights back, begin a new run, or accept it: Run::open_with(folder, &OpenRun::accept())",
                "put the old weights back, begin a new run, or accept it: --resume --accept",
            )));
        }
        notes.push("this is not the model the run was trained with".to_string());
    }
    Ok(model)
}
