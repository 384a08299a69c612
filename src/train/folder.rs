//! A run on disk: `run.json`, `history.jsonl`, and `snapshots/step-N/`.
//!
//! Whatever is written appears whole or not at all: files go to a temporary name beside their place,
//! are flushed to the disk, and are renamed.

use super::batches::Position;
use super::config::RunConfig;
use super::history::StepReport;
use super::optimizer::{AdamW, Moments};
use super::step::Learned;
use crate::dataset::Recipe;
use crate::error::{Error, Result};
use crate::lora::{Adapter, Adapters};
use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Version of the files' layout.
const FORMAT: u32 = 1;
/// Snapshots that are kept besides the best.
const KEPT: usize = 3;

/// What makes a run the run that it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the layout.
    pub format: u32,
    /// The settings.
    pub config: RunConfig,
    /// Where the model was opened.
    pub model: PathBuf,
    /// The weights' fingerprint.
    pub model_fingerprint: String,
    /// The rows that are trained on.
    pub data: Recipe,
    /// The rows that are evaluated on.
    pub eval: Option<Recipe>,
}

impl Identity {
    /// An identity in today's layout.
    pub fn new(
        config: RunConfig,
        model: PathBuf,
        model_fingerprint: String,
        data: Recipe,
        eval: Option<Recipe>,
    ) -> Self {
        Self { format: FORMAT, config, model, model_fingerprint, data, eval }
    }
}

/// The numbers beside the tensors of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Steps done.
    pub step: u64,
    /// Where in the data.
    pub position: Position,
    /// Updates of the optimiser.
    pub updates: u64,
    /// The loss on the evaluation rows at this step, where it is known.
    pub eval_loss: Option<f64>,
}

/// The folder of one run, held by this process alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes hold of a run's folder, made where it is missing.
    ///
    /// # Errors
    /// When another process trains this run, or the folder cannot be made.
    pub fn hold(path: &Path) -> Result<Self> {
        let snapshots = path.join("snapshots");
        fs::create_dir_all(&snapshots).map_err(|e| Error::io(&snapshots, e))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(|e| Error::io(&lock_path, e))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => Error::state("another process has this run open")
                .path(path)
                .help("shut that notebook's kernel down, or give this run another name"),
            fs::TryLockError::Error(e) => Error::io(&lock_path, e),
        })?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Reads who the run is, without taking hold of it.
    ///
    /// # Errors
    /// When there is no run at this path, or of a later version.
    pub fn identity(path: &Path) -> Result<Identity> {
        let file = path.join("run.json");
        if !file.exists() {
            return Err(Error::not_found("no run here")
                .path(path)
                .help("give the folder of a run, such as runs/NAME"));
        }
        let identity: Identity = read_json(&file)?;
        if identity.format != FORMAT {
            return Err(
                Error::format(format!("format {}, this version reads {FORMAT}", identity.format)).path(file)
            );
        }
        Ok(identity)
    }

    /// Writes who the run is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_identity(&self, identity: &Identity) -> Result<()> {
        write_json(&self.path.join("run.json"), identity)
    }

    /// Appends one step to the history.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, report: &StepReport) -> Result<()> {
        let path = self.path.join("history.jsonl");
        let mut line = serde_json::to_vec(report).map_err(Error::compute)?;
        line.push(b'\n');
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&line)).map_err(|e| Error::io(&path, e))
    }

    /// The history up to a step; what came after it, and was lost, is cut off on disk too.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn history(&self, last: u64) -> Result<Vec<StepReport>> {
        let path = self.path.join("history.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&path, e)),
        };
        // A line that a crash cut in half belongs to a step after the snapshot, or is done again.
        let steps: Vec<StepReport> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|s: &StepReport| s.step <= last)
            .collect();
        if steps.len() != text.lines().count() {
            let mut kept = Vec::new();
            for step in &steps {
                serde_json::to_writer(&mut kept, step).map_err(Error::compute)?;
                kept.push(b'\n');
            }
            write_whole(&path, &kept)?;
        }
        Ok(steps)
    }

    /// Writes a snapshot and drops old ones: the last three and the best by evaluation loss stay.
    ///
    /// # Errors
    /// When it cannot be written; earlier snapshots are untouched then.
    pub fn save(&self, learned: &Learned, place: &Place) -> Result<PathBuf> {
        let snapshots = self.path.join("snapshots");
        let target = snapshots.join(name(place.step));
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&snapshots)
            .map_err(|e| Error::io(&snapshots, e))?;
        let adapters: HashMap<String, Tensor> =
            learned.adapters.tensors().map(|(name, tensor)| (name, tensor.clone())).collect();
        let moments: HashMap<String, Tensor> = learned
            .optimizer
            .moments()
            .iter()
            .flat_map(|(name, m)| {
                [(format!("{name}.mean"), m.mean.clone()), (format!("{name}.square"), m.square.clone())]
            })
            .collect();
        for (file, tensors) in [("adapters.safetensors", &adapters), ("optimizer.safetensors", &moments)] {
            let path = partial.path().join(file);
            let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::format(e).path(&path))?;
            write_new(&path, &bytes)?;
        }
        let path = partial.path().join("place.json");
        write_new(&path, &serde_json::to_vec_pretty(place).map_err(Error::compute)?)?;

        let partial = partial.keep();
        let replaced = target.exists().then(|| snapshots.join(format!(".old-{}", name(place.step))));
        let renamed = replaced
            .as_ref()
            .map_or(Ok(()), |old| fs::rename(&target, old))
            .and_then(|()| fs::rename(&partial, &target));
        if let Err(e) = renamed {
            let _ = fs::remove_dir_all(&partial);
            return Err(Error::io(&target, e));
        }
        if let Some(old) = replaced {
            let _ = fs::remove_dir_all(old);
        }
        self.prune()?;
        Ok(target)
    }

    fn prune(&self) -> Result<()> {
        let steps = self.snapshots()?;
        let best = steps
            .iter()
            .filter_map(|step| Some((self.place(*step).ok()?.eval_loss?, *step)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, step)| step);
        for step in steps.iter().rev().skip(KEPT).filter(|step| Some(**step) != best) {
            let old = self.path.join("snapshots").join(name(*step));
            fs::remove_dir_all(&old).map_err(|e| Error::io(&old, e))?;
        }
        Ok(())
    }

    /// The steps that have a snapshot, in order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn snapshots(&self) -> Result<Vec<u64>> {
        let folder = self.path.join("snapshots");
        let entries = fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
        let mut steps: Vec<u64> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn place(&self, step: u64) -> Result<Place> {
        read_json(&self.path.join("snapshots").join(name(step)).join("place.json"))
    }

    /// Reads the newest snapshot. `fresh` gives the shapes, scale and config of its adapters.
    ///
    /// # Errors
    /// When there is none, or it is damaged or of other adapters.
    pub fn load_last(&self, fresh: &Adapters, device: &Device) -> Result<(Learned, Place)> {
        let Some(step) = self.snapshots()?.pop() else {
            return Err(Error::not_found("no snapshot inside").path(&self.path));
        };
        let place = self.place(step)?;
        let folder = self.path.join("snapshots").join(name(step));
        let path = folder.join("adapters.safetensors");
        let tensors = read_tensors(&path, device)?;
        let missing = |name: &str| Error::format(format!("{name} is missing")).path(&path);
        let mut pairs = BTreeMap::new();
        for (layer, pair) in fresh.iter() {
            let (a, b) = (format!("{layer}.lora_A"), format!("{layer}.lora_B"));
            let a = tensors.get(&a).ok_or_else(|| missing(&a))?;
            let b = tensors.get(&b).ok_or_else(|| missing(&b))?;
            let loaded =
                Adapter::new(a.clone(), b.clone(), pair.scale()).map_err(|e| e.path(&path).layer(layer))?;
            if loaded.shape() != pair.shape() || loaded.rank() != pair.rank() {
                return Err(Error::format("another shape than the run's config says")
                    .path(&path)
                    .layer(layer));
            }
            pairs.insert(layer.to_string(), loaded);
        }
        let path = folder.join("optimizer.safetensors");
        let mut means = BTreeMap::new();
        let mut squares = BTreeMap::new();
        for (name, tensor) in read_tensors(&path, device)? {
            if let Some(name) = name.strip_suffix(".mean") {
                means.insert(name.to_string(), tensor);
            } else if let Some(name) = name.strip_suffix(".square") {
                squares.insert(name.to_string(), tensor);
            }
        }
        let mut moments = BTreeMap::new();
        for (name, mean) in means {
            let square = squares
                .remove(&name)
                .ok_or_else(|| Error::format(format!("{name}.square is missing")).path(&path))?;
            moments.insert(name, Moments { mean, square });
        }
        if place.updates > 0 && moments.len() != 2 * pairs.len() {
            return Err(Error::format(format!(
                "moments of {} tensors, expected {}",
                moments.len(),
                2 * pairs.len()
            ))
            .path(&path));
        }
        let adapters = Adapters::from_pairs(fresh.config().clone(), pairs);
        Ok((Learned { adapters, optimizer: AdamW::from_moments(place.updates, moments) }, place))
    }
}

/// The name of a step's snapshot; digits are padded so that names sort as numbers do.
fn name(step: u64) -> String {
    format!("step-{step:08}")
}

fn read_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| {
        Error::format(Error::from(e))
            .path(path)
            .help("this snapshot is damaged: remove its folder to go on from the one before")
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::format(&e).path(path).line(e.line() as u64))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_whole(path, &serde_json::to_vec_pretty(value).map_err(Error::compute)?)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io(folder, e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io(path, e))?;
    file.persist(path).map_err(|e| Error::io(path, e.error))?;
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| Error::io(path, e))
}
