//! Runs that exist: finding, comparing and deleting them.

use super::disk::folder::Folder;
use super::disk::identity::Identity;
use super::handle::Run;
use super::names::{found_at, no_run, path_of};
use super::open::OpenRun;
use super::registry;
use super::state::status::State;
use crate::dataset::Dataset;
use crate::display::{Text, counted};
use crate::error::{Error, Result};
use crate::files::Existing;
use crate::model::{Model, WeightDtype};
use crate::train::{Adaptation, RunConfig};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// A run on disk, with the adapters of its newest snapshot; also while another process trains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRun {
    /// The run's folder.
    pub folder: PathBuf,
    /// Where its model was opened.
    pub model: PathBuf,
    /// The model's [fingerprint](Model::fingerprint).
    pub model_fingerprint: String,
    /// The dtype of the model's weights in memory.
    pub weights: WeightDtype,
    /// The step of the newest snapshot.
    pub step: u64,
    /// The newest snapshot: a folder with adapters as PEFT has them.
    pub snapshot: PathBuf,
}

/// Settings that are named where two configs differ.
const NAMED: usize = 6;

impl Run {
    /// The run of this name in `runs`, or in the folder at this path, if this process has it open; otherwise it is
    /// opened from disk.
    ///
    /// # Errors
    /// When there is none; the error lists those that lie there.
    pub fn get(name: &str) -> Result<Self> {
        let path = found_at(name)?;
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
        Ok(Folder::exists(&found_at(name)?))
    }

    /// Returns the run of this name in `runs` where there is one; otherwise makes a new one, as [`new`](Self::new).
    /// A cell with this call can be executed again: it never replaces a run, and what was learned stays.
    ///
    /// The run that is there is compared as it was made: [`changes`](Self::changes) that came later are its own.
    ///
    /// # Errors
    /// When the run that is there has other settings, another model or other rows; the error names what
    /// differs. And as [`new`](Self::new) and [`open`](Self::open).
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::prelude::*;
    ///
    /// let (model, data) = (Model::open("model.gguf")?, Dataset::open("rows.jsonl")?);
    /// let run = Run::new_or_get("school", &model, &data, RunConfig::default().rank(8))?;
    /// run.steps(10)?;
    /// let again = Run::new_or_get("school", &model, &data, RunConfig::default().rank(8))?;
    /// assert_eq!(again.status().step, 10);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn new_or_get(name: &str, model: &Model, data: &Dataset, config: RunConfig) -> Result<Self> {
        config.check()?;
        if config.existing == Existing::Replace {
            return Err(Error::input("new_or_get gives the run that is there, and overwrite() replaces it")
                .help("leave overwrite() out, or take Run::new"));
        }
        let path = path_of(name)?;
        if registry::get(&path).is_none() && !Folder::exists(&path) {
            return Self::new(name, model, data, config);
        }
        let other = differences(&Folder::identity(&path)?, model, data, &config)?;
        if !other.is_empty() {
            return Err(Error::state(format!(
                "the run {name:?} exists, and is another one: {}",
                other.join(", ")
            ))
            .path(path)
            .help(format!("Run::get({name:?})? gives it as it is; another name begins a new run")));
        }
        Self::open_with(path, &OpenRun { model: Some(model.clone()), ..OpenRun::default() })
    }

    /// What the run of this name in `runs`, or in the folder at this path, has on disk. It is not opened.
    ///
    /// # Errors
    /// When there is no such run, and when it has no snapshot or trains all weights.
    pub fn saved(name: &str) -> Result<SavedRun> {
        let folder = found_at(name)?;
        if !Folder::exists(&folder) {
            return Err(no_run(name, &folder));
        }
        let identity = Folder::identity(&folder)?;
        if identity.config.adaptation == Adaptation::Full {
            return Err(Error::state("this run trains all weights, and has no adapters").path(folder));
        }
        let Some((step, snapshot)) = Folder::newest(&folder)? else {
            return Err(Error::not_found("this run has no snapshot").path(folder));
        };
        let weights = identity.weights();
        let model_fingerprint = identity.model_fingerprint;
        Ok(SavedRun { folder, model: identity.model, model_fingerprint, weights, step, snapshot })
    }

    /// Removes the run from disk: settings, history, changes, snapshots. What else lies in its folder stays, and
    /// the folder with it. There is no way back.
    ///
    /// # Errors
    /// When it trains, when another process has it open, when the folder holds another run by now, and when
    /// something cannot be removed.
    pub fn delete(&self) -> Result<Text> {
        let there = registry::get(self.folder());
        let newest = Folder::newest(self.folder())?.map(|(step, _)| step);
        let another = match &there {
            Some(there) => !Arc::ptr_eq(there, &self.0),
            None => newest.is_some_and(|step| step != self.status().step),
        };
        if another {
            return Err(Error::state(format!(
                "this handle of the run {:?} has ended, and the folder holds a run that began or was opened since",
                self.name()
            ))
            .path(self.folder())
            .help(format!("Run::get({:?})?.delete()? deletes that one", self.name())));
        }
        let run = self.clone();
        if run.status().state == State::Running {
            return Err(Error::state(format!("the run {:?} is training, and is not deleted", run.name()))
                .path(run.folder())
                .help("run.stop()? ends it first"));
        }
        if run.status().state != State::Closed {
            run.end();
        }
        Folder::identity(run.folder())?;
        Folder::hold(run.folder())?.remove()?;
        let steps = counted(run.status().step, "step");
        Ok(Text::new(format!("deleted: {} with its {steps}", run.folder().display())))
    }
}

/// The differences between a run and what is asked for, in words.
fn differences(there: &Identity, model: &Model, data: &Dataset, config: &RunConfig) -> Result<Vec<String>> {
    let value = |config: &RunConfig| serde_json::to_value(config).map_err(Error::compute);
    let (mut is, mut asked) = (value(&there.config)?, value(config)?);
    if config.init_from.is_some() {
        // Rank and layers are those of the adapters that it begins with.
        for fields in [&mut is, &mut asked].into_iter().filter_map(Value::as_object_mut) {
            fields.remove("lora");
        }
    }
    let mut other = Vec::new();
    settings("", &is, &asked, &mut other);
    if other.len() > NAMED {
        let more = other.len() - NAMED;
        other.truncate(NAMED);
        other.push(format!("and {}", counted(more as u64, "other setting")));
    }
    if there.weights() != model.weights() {
        other.push(format!("its weights were loaded as {:?}", there.weights()));
    } else if there.model_fingerprint != model.fingerprint()? {
        other.push(format!("its model is {}", there.model.display()));
    }
    if there.rows.data != data.recipe()? {
        other.push(format!("it has other rows to train on, of {}", there.rows.data.path.display()));
    }
    let eval = config.eval.as_ref().map(Dataset::recipe).transpose()?;
    if there.eval_recipe() != eval.as_ref() {
        let rows = there
            .eval_recipe()
            .map(|recipe| format!("other rows to evaluate on, of {}", recipe.path.display()));
        other.push(format!("it has {}", rows.unwrap_or_else(|| "no rows to evaluate on".to_string())));
    }
    Ok(other)
}

/// Each setting that differs, with both values.
fn settings(name: &str, is: &Value, asked: &Value, into: &mut Vec<String>) {
    match (is, asked) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in names {
                let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                let [is, asked] = [a, b].map(|fields| fields.get(key).unwrap_or(&Value::Null));
                settings(&path, is, asked, into);
            }
        }
        (is, asked) if is != asked => into.push(format!("{name} is {is} there and {asked} here")),
        _ => {}
    }
}
