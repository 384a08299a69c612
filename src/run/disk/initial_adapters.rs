//! The adapters that a run begins with: new ones, or those of a folder, which are kept as they were.

use super::operations as disk;
use crate::display::advice;
use crate::error::{Error, Result};
use crate::lora::{Adapters, LoraConfig};
use crate::model::{Decoder, Model};
use crate::train::{Adaptation, RunConfig};
use serde_json::Value;
use std::path::Path;

/// The folder that keeps them, inside that of a run.
pub(crate) const BEGUN: &str = "begun-from";

/// The adapters of the config's `init_from`, with their own ranks, scales and layers. The config takes these over, and
/// the notes list its settings that are not used.
pub(crate) fn read(model: &Model, config: &mut RunConfig) -> Result<Option<(Adapters, Vec<String>)>> {
    let Some(path) = config.init_from.clone() else { return Ok(None) };
    if config.adaptation == Adaptation::Full {
        return Err(Error::input("init_from begins with adapters, and all weights are to be trained")
            .path(&path)
            .help(advice(
                "leave out full(), or merge the adapters first: model.export_merged(&adapters, folder, &options)?",
                "leave out adaptation = \"full\", or merge the adapters first: lorascope merge",
            )));
    }
    let read = model.adapters(&path)?;
    let warm = read.described(model.config().fan_in_fan_out());
    // A run is opened from what PEFT's files hold of these: it begins from the same.
    let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let saved = warm.save(folder.path().join(BEGUN), &model.name())?;
    let warm = Adapters::open(saved, model.decoder().device())?;
    let left = not_taken(&config.lora, &warm, model)?;
    config.lora = warm.config().clone();
    let mut notes: Vec<String> =
        read.notes().iter().map(|note| format!("of the adapters of {}: {note}", path.display())).collect();
    if !left.is_empty() {
        notes.push(format!(
            "the adapters of {} are trained as they are; not taken from the config: {}",
            path.display(),
            left.join(", ")
        ));
    }
    Ok(Some((warm, notes)))
}

/// The settings of a config that are neither the defaults nor what the adapters have.
fn not_taken(said: &LoraConfig, warm: &Adapters, model: &Model) -> Result<Vec<String>> {
    let fields = |config: &LoraConfig| match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(Error::compute(format!("a config is {other}"))),
        Err(e) => Err(Error::compute(e)),
    };
    let targets = model.decoder().targets();
    let same_layers = said.select(&targets).is_ok_and(|chosen| {
        chosen.len() == warm.len() && chosen.iter().all(|target| warm.get(&target.path).is_some())
    });
    let (usual, is) = (fields(&LoraConfig::default())?, fields(warm.config())?);
    let mut left = Vec::new();
    for (name, value) in fields(said)? {
        let layers = matches!(name.as_str(), "target_modules" | "exclude_modules" | "layers_to_transform");
        // The initialisation and the layout of the files are given by the adapters.
        let idle = matches!(name.as_str(), "fan_in_fan_out" | "init") || (layers && same_layers);
        if idle || Some(&value) == usual.get(&name) || Some(&value) == is.get(&name) {
            continue;
        }
        match is.get(&name) {
            Some(is) if is.is_number() || is.is_boolean() => {
                left.push(format!("{name} {value} (it is {is})"))
            }
            _ => left.push(format!("{name} {value}")),
        }
    }
    Ok(left)
}

/// Keeps the initial adapters in the folder of a run.
pub(crate) fn keep(folder: &Path, config: &RunConfig, begun: &Adapters, base: &str) -> Result<()> {
    let place = folder.join(BEGUN);
    disk::remove(&place)?;
    if config.init_from.is_some() {
        begun.save(place, base)?;
    }
    Ok(())
}

/// The adapters that a run in this folder began with; none in folders of earlier versions.
fn kept(folder: &Path, config: &RunConfig, model: &Model) -> Result<Option<Adapters>> {
    let place = folder.join(BEGUN);
    match config.init_from.is_some() && place.exists() {
        true => Adapters::open(place, model.decoder().device()).map(Some),
        false => Ok(None),
    }
}

/// The initial adapters of the run in a folder.
pub(crate) fn of_run(folder: &Path, model: &Model, config: &RunConfig) -> Result<Adapters> {
    match kept(folder, config, model)? {
        Some(warm) => model.decoder().place(&warm),
        None => new_adapters(model.decoder(), config),
    }
}

/// New adapters, or all weights, before the first step.
pub(crate) fn new_adapters(decoder: &Decoder, config: &RunConfig) -> Result<Adapters> {
    match config.adaptation {
        Adaptation::Lora => decoder.new_adapters(&config.lora, config.seed),
        Adaptation::Full => decoder.all_trained(),
    }
}
