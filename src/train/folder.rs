//! A run on disk: `run.json`, `history.jsonl`, and `snapshots/step-N/`.
//!
//! Whatever is written appears whole or not at all: files go to a temporary name beside their place,
//! are flushed to the disk, and are renamed.

use super::batches::{Position, Rows};
use super::config::RunConfig;
use super::history::StepReport;
use super::optimizer::{Moments, Optimizer};
use super::step::Learned;
use crate::dataset::{Dataset, Recipe};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::model::Model;
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

const RUN: &str = "run.json";
const HISTORY: &str = "history.jsonl";
const PLACE: &str = "place.json";
/// How the names of what is not written to its end begin.
const PARTIAL: &str = ".partial-";

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
    /// Tokens of a row at most: what the config says, or what followed from the rows.
    pub context: usize,
    /// The fingerprint of all tokens, of training and evaluation.
    pub tokens: String,
    /// The rows that are trained on.
    pub data: Recipe,
    /// The rows that are evaluated on.
    pub eval: Option<Recipe>,
}

impl Identity {
    /// An identity in today's layout.
    ///
    /// # Errors
    /// When the model's files cannot be read.
    pub fn new(model: &Model, data: &Dataset, config: &RunConfig, rows: &Rows) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            config: config.clone(),
            model: model.path().into(),
            model_fingerprint: model.fingerprint()?,
            context: rows.train.context(),
            tokens: rows.fingerprint(),
            data: data.recipe()?,
            eval: config.eval.as_ref().map(Dataset::recipe).transpose()?,
        })
    }
}

/// The numbers beside the tensors of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Steps done.
    pub step: u64,
    /// The step at which training was to stop.
    pub target: u64,
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
    /// Takes hold of a run's folder, made where it is missing, and clears away what a process that
    /// was killed left half written.
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
        for folder in [path, &snapshots] {
            let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                    remove(&entry.path())?;
                }
            }
        }
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Empties the folder, `run.json` first: without it there is no run, whatever else is left.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for name in [RUN, HISTORY, "snapshots"] {
            remove(&self.path.join(name))?;
        }
        let snapshots = self.path.join("snapshots");
        fs::create_dir(&snapshots).map_err(|e| Error::io(&snapshots, e))
    }

    /// Whether there is a run at this path.
    pub fn exists(path: &Path) -> bool {
        path.join(RUN).exists()
    }

    /// Reads who the run is, without taking hold of it.
    ///
    /// # Errors
    /// When there is no run at this path, or of a later version.
    pub fn identity(path: &Path) -> Result<Identity> {
        /// Read first: a later version may have fields that this one does not know.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let file = path.join(RUN);
        if !Self::exists(path) {
            return Err(Error::not_found("no run here")
                .path(path)
                .help("give the folder of a run, such as runs/NAME"));
        }
        let Version { format } = read_json(&file)?;
        if format != FORMAT {
            return Err(Error::format(format!("format {format}, this version reads {FORMAT}")).path(file));
        }
        read_json(&file)
    }

    /// Writes who the run is; from then on there is a run.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_identity(&self, identity: &Identity) -> Result<()> {
        write_json(&self.path.join(RUN), identity)
    }

    /// Appends one step to the history.
    ///
    /// # Errors
    /// When it cannot be written; the history is as it was then.
    pub fn append(&self, report: &StepReport) -> Result<()> {
        let path = self.path.join(HISTORY);
        let mut line = serde_json::to_vec(report).map_err(Error::compute)?;
        line.push(b'\n');
        let written = File::options().create(true).append(true).open(&path).and_then(|mut file| {
            let before = file.metadata()?.len();
            file.write_all(&line).inspect_err(|_| {
                let _ = file.set_len(before); // the step is done again, and must not stand there twice
            })
        });
        written.map_err(|e| Error::io(&path, e))
    }

    /// The history up to a step; what came after it, and was lost, is cut off on disk too.
    ///
    /// # Errors
    /// When the file cannot be read or written, or one of these steps is not in its place.
    pub fn history(&self, last: u64) -> Result<Vec<StepReport>> {
        let path = self.path.join(HISTORY);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && last == 0 => return Ok(Vec::new()),
            read => read.map_err(|e| Error::io(&path, e))?,
        };
        // Snapshots flush the history first, so up to here every line was whole. What a crash cut in
        // half belongs to a step after it.
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let (mut steps, mut length) = (Vec::new(), 0);
        for step in 1..=last {
            let broken = |what: String| {
                Error::format(what).path(&path).line(step).help(format!(
                    "put the line of step {step} back, or remove the snapshots of step {step} and later"
                ))
            };
            let line = lines.next().filter(|line| line.ends_with(b"\n"));
            let line = line.ok_or_else(|| broken(format!("step {step} is missing or cut short")))?;
            let report: StepReport = serde_json::from_slice(line).map_err(|e| broken(e.to_string()))?;
            if report.step != step {
                return Err(broken(format!("step {} stands where step {step} belongs", report.step)));
            }
            steps.push(report);
            length += line.len();
        }
        if length < bytes.len() {
            let cut = File::options().write(true).open(&path).and_then(|file| file.set_len(length as u64));
            cut.map_err(|e| Error::io(&path, e))?;
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
        if target.exists() {
            // The same step has the same tensors: only its target can be another.
            write_json(&target.join(PLACE), place)?;
            return Ok(target);
        }
        let partial = tempfile::Builder::new()
            .prefix(PARTIAL)
            .tempdir_in(&snapshots)
            .map_err(|e| Error::io(&snapshots, e))?;
        let adapters: HashMap<String, Tensor> =
            learned.adapters.tensors().map(|(name, tensor)| (name, tensor.clone())).collect();
        let moments: HashMap<String, Tensor> = learned
            .optimizer
            .moments()
            .iter()
            .flat_map(|(name, m)| {
                let square = m.square.iter().map(move |square| (format!("{name}.square"), square.clone()));
                std::iter::once((format!("{name}.mean"), m.mean.clone())).chain(square)
            })
            .collect();
        for (file, tensors) in [("adapters.safetensors", &adapters), ("optimizer.safetensors", &moments)] {
            let path = partial.path().join(file);
            let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::format(e).path(&path))?;
            write_new(&path, &bytes)?;
        }
        let path = partial.path().join(PLACE);
        write_new(&path, &serde_json::to_vec_pretty(place).map_err(Error::compute)?)?;

        self.flush_history()?;
        let partial = partial.keep();
        if let Err(e) = fs::rename(&partial, &target) {
            let _ = fs::remove_dir_all(&partial);
            return Err(Error::io(&target, e));
        }
        self.prune()?;
        Ok(target)
    }

    /// The history reaches the disk before the snapshot that relies on it.
    fn flush_history(&self) -> Result<()> {
        let path = self.path.join(HISTORY);
        match File::options().append(true).open(&path).and_then(|file| file.sync_all()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
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
        read_json(&self.path.join("snapshots").join(name(step)).join(PLACE))
    }

    /// Reads the newest snapshot. `fresh` gives the shapes, scale and config of its adapters, `config` the
    /// optimiser whose moments it must have.
    ///
    /// # Errors
    /// When there is none, or it is damaged or of other adapters.
    pub fn load_last(
        &self,
        fresh: &Adapters,
        config: &RunConfig,
        device: &Device,
    ) -> Result<(Learned, Place)> {
        let Some(step) = self.snapshots()?.pop() else {
            return Err(Error::not_found("no snapshot inside")
                .path(self.path.join("snapshots"))
                .help("put one back, or begin a new run"));
        };
        let place = self.place(step)?;
        let folder = self.path.join("snapshots").join(name(step));
        let path = folder.join("adapters.safetensors");
        let tensors = read_tensors(&path, device)?;
        let mut tensors = tensors;
        let adapters = fresh.map(|name, begun| {
            let tensor = tensors
                .remove(name)
                .ok_or_else(|| Error::format(format!("{name} is missing")).path(&path))?;
            match tensor.dims() == begun.dims() {
                true => Ok(tensor),
                false => Err(Error::format(format!(
                    "shape {:?} where the run's config says {:?}",
                    tensor.dims(),
                    begun.dims()
                ))
                .path(&path)
                .layer(name)),
            }
        })?;
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
        let moments: BTreeMap<String, Moments> = means
            .into_iter()
            .map(|(name, mean)| {
                let square = squares.remove(&name);
                (name, Moments { mean, square })
            })
            .collect();
        for (name, tensor) in adapters.tensors().filter(|_| place.updates > 0) {
            let fits = moments.get(&name).is_some_and(|m| {
                let square = m.square.as_ref().map(Tensor::dims);
                let wanted = config.optimizer.has_square().then_some(tensor.dims());
                m.mean.dims() == tensor.dims() && square == wanted
            });
            if !fits {
                return Err(Error::format("its moments are missing or of another shape")
                    .path(&path)
                    .layer(name));
            }
        }
        let optimizer = Optimizer::from_moments(place.updates, moments);
        Ok((Learned { adapters, optimizer, seed: config.seed }, place))
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
    let mut file =
        tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder).map_err(|e| Error::io(folder, e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io(path, e))?;
    file.persist(path).map_err(|e| Error::io(path, e.error))?;
    Ok(())
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| Error::io(path, e))
}
