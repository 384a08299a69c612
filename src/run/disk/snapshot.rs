//! One snapshot on disk: `step-000120/` with the adapters as PEFT loads them, the optimiser's moments,
//! the state of training, and a checksum of each file.

use super::operations as disk;
use super::tensors;
use crate::error::{Error, Result};
use crate::lora::{Activations, Adapters};
use crate::run::journal::Journal;
use crate::train::batches::Position;
use crate::train::step::Learned;
use crate::train::{Adaptation, Moments, Optimizer, RunConfig};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

const STATE: &str = "trainer.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER: &str = "adapter_model.safetensors";
const MOMENTS: &str = "optimizer.safetensors";
const WEIGHTS: &str = "weights.safetensors";
/// C = E[(A x)(A x)ᵀ] of each adapter.
const ACTIVATIONS: &str = "activations.safetensors";
const CHECKSUMS: &str = "checksums.json";

/// Where a run is: together with the trained tensors, all that the next step needs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProgress {
    /// Steps done.
    pub step: u64,
    /// Where in the data.
    pub position: Position,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// The loss on the evaluation rows at this step, where it is known.
    pub eval_loss: Option<f64>,
}

/// What `trainer.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainerFile {
    place: RunProgress,
    /// Updates of each trained tensor.
    updates: u64,
    /// Updates of the tensors that were frozen for a while.
    fewer_updates: BTreeMap<String, u64>,
    /// For a snapshot that lies alone; the run's folder has settings and changes too.
    config: RunConfig,
    journal: Journal,
    tokens: String,
}

/// What is written into a snapshot beside the trained tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub config: &'a RunConfig,
    pub journal: &'a Journal,
    /// The fingerprint of the data's tokens.
    pub tokens: &'a str,
    /// The model's name or path.
    pub base: &'a str,
}

/// Writes the files of a snapshot into a folder of their own.
pub(crate) fn write(folder: &Path, learned: &Learned, place: &RunProgress, context: Context) -> Result<()> {
    let mut sums = BTreeMap::new();
    match context.config.adaptation {
        Adaptation::Lora => {
            let (config, tensors) = learned.adapters.parts(context.base)?;
            sums.insert(ADAPTER_CONFIG, disk::write_new(&folder.join(ADAPTER_CONFIG), &config)?);
            let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
            let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
            sums.insert(ADAPTER, tensors::write(&folder.join(ADAPTER), tensors, Some(metadata))?);
        }
        Adaptation::Full => {
            let path = folder.join(WEIGHTS);
            sums.insert(WEIGHTS, tensors::write(&path, learned.adapters.tensors(), None)?);
        }
    }
    let moments = learned.optimizer.moments().iter().flat_map(|(name, m)| {
        let square = m.square.iter().map(move |square| (format!("{name}.square"), square));
        std::iter::once((format!("{name}.mean"), &m.mean)).chain(square)
    });
    sums.insert(MOMENTS, tensors::write(&folder.join(MOMENTS), moments, None)?);
    let seen = learned.activations.by_path();
    if !seen.is_empty() {
        let seen = seen.iter().map(|(path, c)| (path.clone(), c));
        sums.insert(ACTIVATIONS, tensors::write(&folder.join(ACTIVATIONS), seen, None)?);
    }
    let updates = learned.optimizer.updates();
    let moments = learned.optimizer.moments();
    let each = moments.iter().map(|(name, m)| (name.clone(), m.updates));
    // What was frozen from the first step on was never updated, and has no moments.
    let never = learned.adapters.tensors().map(|(name, _)| (name, 0));
    let never = never.filter(|(name, _)| !moments.contains_key(name));
    let state = TrainerFile {
        place: *place,
        updates,
        fewer_updates: each.chain(never).filter(|(_, own)| *own != updates).collect(),
        config: context.config.clone(),
        journal: context.journal.clone(),
        tokens: context.tokens.to_string(),
    };
    sums.insert(STATE, disk::write_new(&folder.join(STATE), &disk::json(&state)?)?);
    disk::write_new(&folder.join(CHECKSUMS), &disk::json(&sums)?)?;
    disk::sync_folder(folder).map_err(|e| Error::io(folder, e))
}

/// Where the run was at a snapshot.
pub(crate) fn place(folder: &Path) -> Result<RunProgress> {
    Ok(disk::read_json::<TrainerFile>(&folder.join(STATE))?.place)
}

/// The changes that were made before a snapshot.
pub(crate) fn journal(folder: &Path) -> Result<Journal> {
    Ok(disk::read_json::<TrainerFile>(&folder.join(STATE))?.journal)
}

/// Checks a snapshot: fails where a file is gone, cut short, has other bytes, or has no checksum.
pub(crate) fn check(folder: &Path, adaptation: Adaptation) -> Result<()> {
    let path = folder.join(CHECKSUMS);
    let sums: BTreeMap<String, String> = disk::read_json(&path)?;
    let trained: &[&str] = match adaptation {
        Adaptation::Lora => &[ADAPTER_CONFIG, ADAPTER],
        Adaptation::Full => &[WEIGHTS],
    };
    // Those of earlier versions had no activations.
    let seen = folder.join(ACTIVATIONS).exists().then_some(ACTIVATIONS);
    for needed in trained.iter().copied().chain([MOMENTS, STATE]).chain(seen) {
        if !sums.contains_key(needed) {
            return Err(Error::format(format!("no checksum of {needed}")).path(path));
        }
    }
    for (name, expected) in sums {
        if name.contains(['/', '\\']) {
            return Err(Error::format(format!("{name:?} lies outside of the snapshot")).path(path));
        }
        let path = folder.join(name);
        if disk::checksum(&path)? != expected {
            return Err(Error::format("its bytes are not those that were written").path(path));
        }
    }
    Ok(())
}

/// Reads a snapshot. `fresh` gives the shapes, scale and config of its adapters.
pub(crate) fn read(
    folder: &Path,
    fresh: &Adapters,
    config: &RunConfig,
    device: &Device,
) -> Result<(Learned, RunProgress)> {
    let state: TrainerFile = disk::read_json(&folder.join(STATE))?;
    let (path, mut tensors) = match config.adaptation {
        Adaptation::Lora => {
            let read = Adapters::open(folder, device)?;
            (folder.join(ADAPTER), read.tensors().map(|(n, t)| (n, t.clone())).collect())
        }
        Adaptation::Full => {
            let path = folder.join(WEIGHTS);
            let tensors = read_tensors(&path, device)?;
            (path, tensors)
        }
    };
    let adapters = fresh.map(|name, begun| {
        let tensor: Tensor =
            tensors.remove(name).ok_or_else(|| Error::format(format!("{name} is missing")).path(&path))?;
        match first(&tensor, begun.dims())? {
            Some(tensor) => Ok(tensor),
            None => {
                let (is, wanted) = (tensor.dims(), begun.dims());
                let what = format!("shape {is:?} where the run's config says {wanted:?}");
                Err(Error::format(what).path(&path).layer(name))
            }
        }
    })?;
    let path = folder.join(MOMENTS);
    let (mut means, mut squares) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in read_tensors(&path, device)? {
        if let Some(name) = name.strip_suffix(".mean") {
            means.insert(name.to_string(), tensor);
        } else if let Some(name) = name.strip_suffix(".square") {
            squares.insert(name.to_string(), tensor);
        }
    }
    let updates = |name: &String| state.fewer_updates.get(name).copied().unwrap_or(state.updates);
    let moments: BTreeMap<String, Moments> = means
        .into_iter()
        .map(|(name, mean)| {
            let (square, updates) = (squares.remove(&name), updates(&name));
            (name, Moments { mean, square, updates })
        })
        .collect();
    for (name, tensor) in adapters.tensors() {
        let misfit = |m: &Moments| {
            m.mean.dims() != tensor.dims() || m.square.as_ref().is_some_and(|s| s.dims() != tensor.dims())
        };
        let wrong = match moments.get(&name) {
            Some(moments) => misfit(moments),
            None => updates(&name) > 0,
        };
        if wrong {
            return Err(Error::format("its moments are missing or of another shape").path(&path).layer(name));
        }
    }
    let optimizer = Optimizer::from_moments(state.updates, moments);
    // A run that has made no step has none; nor had those of earlier versions.
    let path = folder.join(ACTIVATIONS);
    let activations = match path.exists() {
        true => Activations::from_map(read_tensors(&path, device)?.into_iter().collect()),
        false => Activations::default(),
    };
    Ok((Learned { adapters, optimizer, seed: config.seed, activations }, state.place))
}

/// The tensor, or its first rows and columns where the file has twice the rank: an adapter that was initialised
/// with a part of the weight (PiSSA) is written with that initialisation beside it.
fn first(tensor: &Tensor, dims: &[usize]) -> Result<Option<Tensor>> {
    if tensor.dims() == dims {
        return Ok(Some(tensor.clone()));
    }
    let ([rows, columns], [r, c]) = (tensor.dims(), dims) else { return Ok(None) };
    let doubled = (*rows == 2 * r && columns == c) || (rows == r && *columns == 2 * c);
    Ok(match doubled {
        true => Some(tensor.narrow(0, 0, *r)?.narrow(1, 0, *c)?.contiguous()?),
        false => None,
    })
}

fn read_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|e| Error::format(Error::from(e)).path(path))
}
