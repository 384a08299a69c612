//! Adapter folders as PEFT writes and reads them: `adapter_config.json` and
//! `adapter_model.safetensors`.

use super::adapters::{A, B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE};
use super::checked::{SAFETENSORS as WEIGHTS, read_folder};
use super::select::ends_in;
use super::{Adapter, Adapters, Beside, Biases, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use crate::files::folder_beside;
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONFIG: &str = "adapter_config.json";
const PREFIX: &str = "base_model.model.";

/// The part of PEFT's `LoraConfig` (0.21) that has a meaning here.
#[derive(Debug, Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    inference_mode: bool,
    target_modules: Option<Modules>,
    #[serde(default)]
    exclude_modules: Option<Modules>,
    #[serde(default)]
    layers_to_transform: Option<Blocks>,
    #[serde(default)]
    rank_pattern: Option<IndexMap<String, usize>>,
    #[serde(default)]
    alpha_pattern: Option<IndexMap<String, f64>>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default = "yes")]
    init_lora_weights: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A name fits every module whose path ends in it, at a dot; a string is `all-linear` or a regular
/// expression.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Modules {
    Names(Vec<String>),
    Expression(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Blocks {
    One(usize),
    Some(Vec<usize>),
}

fn none() -> String {
    "none".to_string()
}

fn yes() -> Value {
    Value::Bool(true)
}

/// Fields that change what an adapter computes and that are not supported.
const UNSUPPORTED: [&str; 11] = [
    "megatron_config",
    "trainable_token_indices",
    "layer_replication",
    "use_qalora",
    "target_parameters",
    "alora_invocation_tokens",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "lora_bias",
];

/// Fields of PEFT 0.21 that change nothing of what an adapter computes once it is trained.
const HARMLESS: [&str; 14] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "layers_pattern",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "mica_config",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "velora_config",
];

/// Ways to begin that leave the base as it is. The others (`pissa`, `olora`, `corda`, `loftq`,
/// `lora_ga`) take a part of each weight away, and the adapter is right beside what is left only.
const INITIALISATIONS: [&str; 4] = ["gaussian", "orthogonal", "eva", "mica"];

impl Adapters {
    /// Writes a folder that PEFT's `PeftModel.from_pretrained` loads. `base` is the model's name or
    /// path, as `base_model_name_or_path`. The folder appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists already, or cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, base: &str) -> Result<PathBuf> {
        let folder = folder.as_ref();
        if folder.exists() {
            return Err(Error::input("the folder exists already")
                .path(folder)
                .help("choose another name, or say overwrite"));
        }
        settle(self.write_beside(folder, base)?, folder)
    }

    /// Like [`save`](Self::save), but replaces the folder of an adapter.
    ///
    /// # Errors
    /// When what exists there is no adapter, or the folder cannot be written; it is left as it was.
    pub fn overwrite(&self, folder: impl AsRef<Path>, base: &str) -> Result<PathBuf> {
        let folder = folder.as_ref();
        if !folder.exists() {
            return self.save(folder, base);
        }
        // A whole folder is removed here: not one that was named by mistake.
        if !folder.join(CONFIG).is_file() {
            return Err(Error::input(format!("this holds no {CONFIG}: it is no adapter to replace"))
                .path(folder)
                .help("choose another name"));
        }
        let new = self.write_beside(folder, base)?;
        let old = folder_beside(folder)?;
        let aside = old.path().join("old");
        std::fs::rename(folder, &aside).map_err(|e| Error::io(folder, e))?;
        settle(new, folder).map_err(|error| match std::fs::rename(&aside, folder) {
            Ok(()) => error,
            Err(_) => error.help(format!("the old adapter lies in {}", old.keep().join("old").display())),
        })
    }

    fn write_beside(&self, folder: &Path, base: &str) -> Result<TempDir> {
        let new = folder_beside(folder)?;
        self.write(new.path(), base)?;
        Ok(new)
    }

    fn write(&self, folder: &Path, base: &str) -> Result<()> {
        for (name, bytes) in self.files(base)? {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }

    /// The names and contents of the files of a folder that PEFT loads.
    pub(crate) fn files(&self, base: &str) -> Result<[(&'static str, Vec<u8>); 2]> {
        let (text, tensors) = self.parts(base)?;
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        let weights = safetensors::serialize(&tensors, Some(metadata)).map_err(Error::format)?;
        Ok([(CONFIG, text), (WEIGHTS, weights)])
    }

    /// The config and the tensors of such a folder, by their names there.
    pub(crate) fn parts(&self, base: &str) -> Result<(Vec<u8>, BTreeMap<String, Tensor>)> {
        if self.iter().next().is_none() && self.config().modules_to_save.is_empty() {
            return Err(Error::input("there is no adapter to save")
                .help("where all weights were trained, write the model: model.export_merged(&run.adapters(), folder, &options)?"));
        }
        let ours = self.config();
        let mut config = PeftConfig {
            peft_type: "LORA".to_string(),
            task_type: Some("CAUSAL_LM".to_string()),
            base_model_name_or_path: Some(base.to_string()),
            r: ours.rank,
            lora_alpha: ours.alpha,
            lora_dropout: ours.dropout,
            use_rslora: ours.rank_stabilised,
            use_dora: self.iter().any(|(_, pair)| pair.magnitude().is_some()),
            fan_in_fan_out: ours.fan_in_fan_out,
            bias: bias_name(ours.bias).to_string(),
            inference_mode: true,
            target_modules: Some(Modules::Names(self.module_names())),
            exclude_modules: None,
            layers_to_transform: None,
            rank_pattern: None,
            alpha_pattern: None,
            modules_to_save: Some(ours.modules_to_save.clone()).filter(|names| !names.is_empty()),
            init_lora_weights: yes(),
            rest: self.foreign().clone(),
        };
        let mut tensors = BTreeMap::new();
        let (mut ranks, mut alphas) = (IndexMap::new(), IndexMap::new());
        let mut put = |name: String, tensor: &Tensor| {
            let tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
            tensors.insert(format!("{PREFIX}{name}"), tensor);
            Ok::<_, Error>(())
        };
        for (path, pair) in self.iter() {
            let (a, b, scale) = pair.factors()?;
            let rank = a.dims()[0] as f64;
            let alpha = scale * if ours.rank_stabilised { rank.sqrt() } else { rank };
            // α is written as it was given, unless it is another one: α / r · r rounds.
            let near = |given: f64| (alpha / given - 1.0).abs() < 1e-12;
            let (known_rank, known_alpha) = ours.rank_and_alpha(path)?;
            if rank as usize != ours.rank {
                ranks.insert(path.to_string(), rank as usize);
            }
            if !near(ours.alpha) {
                let given = rank as usize == known_rank && near(known_alpha);
                alphas.insert(path.to_string(), if given { known_alpha } else { alpha });
            }
            if *pair.beside() == Beside::Embedding {
                put(format!("{path}.{EMBEDDING_A}"), &a)?;
                put(format!("{path}.{EMBEDDING_B}"), &b)?;
            } else {
                put(format!("{path}.{A}.weight"), &a)?;
                put(format!("{path}.{B}.weight"), &b)?;
            }
            if let Some(magnitude) = pair.magnitude() {
                put(format!("{path}.{MAGNITUDE}"), magnitude)?;
            }
        }
        for (name, tensor) in self.wholes() {
            // PEFT wraps the layers that it adapts: their biases lie one deeper.
            let name = match name.strip_suffix(".bias") {
                Some(path) if self.get(path).is_some() => format!("{path}.base_layer.bias"),
                _ => name.to_string(),
            };
            put(name, tensor)?;
        }
        // PEFT takes no null for these.
        (config.rank_pattern, config.alpha_pattern) = (Some(ranks), Some(alphas));
        let text = serde_json::to_vec_pretty(&config).map_err(Error::compute)?;
        Ok((text, tensors))
    }

    /// Names that select exactly the adapted layers in PEFT, which compares the ends of paths as we
    /// do: those of the config; the last part of each path where all linear layers are adapted; and
    /// whole paths if the config has been used for something else.
    fn module_names(&self) -> Vec<String> {
        let paths: Vec<&str> = self.iter().map(|(path, _)| path).collect();
        let ends = |names: &[String]| paths.iter().all(|path| names.iter().any(|name| ends_in(path, name)));
        let config = self.config();
        let narrowed = !config.exclude_modules.is_empty() || config.layers_to_transform.is_some();
        let mut names: Vec<String> = match &config.target_modules {
            TargetModules::Named(names) if !narrowed && ends(names) => names.clone(),
            TargetModules::AllLinear if !narrowed => {
                paths.iter().filter_map(|path| path.rsplit('.').next()).map(str::to_string).collect()
            }
            _ => paths.iter().map(|path| path.to_string()).collect(),
        };
        names.sort();
        names.dedup();
        names
    }

    /// Reads a folder that PEFT or [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When a file is missing or broken, or when the adapter uses what is not supported.
    pub fn open(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let (adapters, changed) = Self::open_factors(&folder, device)?;
        match changed {
            None => Ok(adapters),
            Some(by) => Err(Error::format(format!(
                "init_lora_weights is {by}, which changes the weights of the model"
            ))
            .path(folder.as_ref().join(CONFIG))
            .help(
                "save the adapter with PEFT's path_initial_model_for_weight_conversion, for the model as it was",
            )),
        }
    }

    /// Like [`open`](Self::open), but also an adapter that began by taking a part of each weight away (`pissa`,
    /// `olora`, `corda`, `loftq`, `lora_ga`), with the name of that beginning. B·A is right beside what was left
    /// of the weights only, so that these adapters are for [`spectra`](Self::spectra), not for a model.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_factors(folder: impl AsRef<Path>, device: &Device) -> Result<(Self, Option<String>)> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let peft = read_config(folder)?;
        check(&peft).map_err(|e| e.path(&path))?;
        let changed = changed_by(&peft.init_lora_weights);
        let mut config = LoraConfig {
            rank: peft.r,
            alpha: peft.lora_alpha,
            rank_stabilised: peft.use_rslora,
            dora: peft.use_dora,
            dropout: peft.lora_dropout,
            bias: bias_of(&peft.bias).map_err(|e| e.path(&path))?,
            rank_pattern: peft.rank_pattern.unwrap_or_default(),
            alpha_pattern: peft.alpha_pattern.unwrap_or_default(),
            modules_to_save: peft.modules_to_save.unwrap_or_default(),
            fan_in_fan_out: peft.fan_in_fan_out,
            ..Default::default()
        };
        config.check().map_err(|e| e.path(&path))?;
        let read = read_pairs(folder, &config, device)?;
        let whole_paths = || TargetModules::Named(read.pairs.keys().cloned().collect());
        let narrowed = is_set(peft.exclude_modules.as_ref()) || peft.layers_to_transform.is_some();
        config.target_modules = match peft.target_modules {
            Some(Modules::Names(names)) if !narrowed => TargetModules::Named(names),
            Some(Modules::Expression(all)) if all == "all-linear" && !narrowed => TargetModules::AllLinear,
            _ => whole_paths(),
        };
        let adapters = Self::from_pairs(config, read.pairs).with_whole(read.whole).with_foreign(peft.rest);
        Ok((adapters, changed))
    }

    /// The name or path of the model that an adapter's folder was made for, where it says one.
    ///
    /// # Errors
    /// When adapter_config.json is missing or broken.
    pub fn base_of(folder: impl AsRef<Path>) -> Result<Option<String>> {
        Ok(read_config(folder.as_ref())?.base_model_name_or_path)
    }

    /// Fields of an adapter's config that this library does not know: they are kept and written again,
    /// but whatever they mean is not done.
    pub fn unknown_fields(&self) -> Vec<&str> {
        let known = |name: &str| HARMLESS.contains(&name) || UNSUPPORTED.contains(&name);
        self.foreign().keys().map(String::as_str).filter(|name| !known(name)).collect()
    }
}

fn read_config(folder: &Path) -> Result<PeftConfig> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Error::io(&path, e).help("give the folder that holds adapter_config.json"))?;
    serde_json::from_str(&text).map_err(|e| Error::format(&e).path(&path).line(e.line() as u64))
}

fn bias_name(bias: Biases) -> &'static str {
    match bias {
        Biases::None => "none",
        Biases::All => "all",
        Biases::LoraOnly => "lora_only",
    }
}

fn bias_of(name: &str) -> Result<Biases> {
    match name {
        "none" => Ok(Biases::None),
        "all" => Ok(Biases::All),
        "lora_only" => Ok(Biases::LoraOnly),
        other => Err(Error::format(format!("bias is {other:?}")).help("expected none, all or lora_only")),
    }
}

struct Contents {
    pairs: BTreeMap<String, Adapter>,
    whole: BTreeMap<String, Tensor>,
}

/// The tensors of an adapter's folder, sorted into pairs and weights that were trained whole.
fn read_pairs(folder: &Path, config: &LoraConfig, device: &Device) -> Result<Contents> {
    let (path, mut tensors) = read_folder(folder, device)?;
    let float = |tensor: Tensor| Ok::<_, Error>(tensor.to_dtype(DType::F32)?);
    let mut contents = Contents { pairs: BTreeMap::new(), whole: BTreeMap::new() };
    let firsts: Vec<String> =
        tensors.keys().filter(|n| n.contains(".lora_A.") || n.ends_with(EMBEDDING_A)).cloned().collect();
    for name in firsts {
        let unexpected = || unexpected(&name).path(&path);
        let inside = name.strip_prefix(PREFIX).ok_or_else(unexpected)?;
        let (layer, embedding) = match inside.strip_suffix(".lora_A.weight") {
            Some(layer) => (layer.to_string(), false),
            None => {
                (inside.strip_suffix(&format!(".{EMBEDDING_A}")).ok_or_else(unexpected)?.to_string(), true)
            }
        };
        let place = |e: Error| e.path(&path).layer(&layer);
        let second = if embedding { EMBEDDING_B.to_string() } else { format!("{B}.weight") };
        let a = tensors.remove(&name).ok_or_else(unexpected)?;
        let b = tensors
            .remove(&format!("{PREFIX}{layer}.{second}"))
            .ok_or_else(|| place(Error::format("lora_A has no lora_B beside it")))?;
        let (rank, alpha) = config.rank_and_alpha(&layer)?;
        let scale = config.scale(rank, alpha).map_err(place)?;
        let (a, b) = (float(a).map_err(place)?, float(b).map_err(place)?);
        let pair = if embedding { Adapter::embedding(a, b, scale) } else { Adapter::new(a, b, scale) };
        let mut pair = pair.map_err(place)?;
        if pair.rank() != rank {
            return Err(place(Error::format(format!("rank {} where the config says {rank}", pair.rank()))));
        }
        let magnitude = format!("{PREFIX}{layer}.{MAGNITUDE}");
        let magnitude = tensors.remove(&magnitude).or(tensors.remove(&format!("{magnitude}.weight")));
        match magnitude {
            Some(magnitude) => pair = pair.with_magnitude(float(magnitude)?).map_err(place)?,
            None if config.dora && !embedding => {
                return Err(place(Error::format("use_dora is set, but there is no lora_magnitude_vector")));
            }
            None => {}
        }
        contents.pairs.insert(layer, pair);
    }
    for (name, tensor) in tensors {
        let inside = name.strip_prefix(PREFIX).ok_or_else(|| unexpected(&name).path(&path))?;
        // PEFT puts the frozen embedding beside its adapter: the model has it.
        if inside.strip_suffix(".base_layer.weight").is_some_and(|path| contents.pairs.contains_key(path)) {
            continue;
        }
        let inside = inside.replace(".base_layer.", ".").replace(".modules_to_save.", ".");
        let saved = inside
            .rsplit_once('.')
            .is_some_and(|(layer, _)| config.modules_to_save.iter().any(|name| layer.ends_with(name)));
        let bias = config.bias != Biases::None && inside.ends_with(".bias");
        if !saved && !bias {
            return Err(unexpected(&name).path(&path));
        }
        contents.whole.insert(inside, float(tensor)?);
    }
    if contents.pairs.is_empty() && contents.whole.is_empty() {
        return Err(Error::format("no adapter inside").path(&path));
    }
    Ok(contents)
}

fn unexpected(name: &str) -> Error {
    Error::format(format!("unexpected tensor {name:?}"))
        .help("expected pairs named base_model.model.<path>.lora_A.weight and .lora_B.weight")
}

/// Moves a folder that was written beside its place there.
fn settle(new: TempDir, folder: &Path) -> Result<PathBuf> {
    std::fs::rename(new.path(), folder).map_err(|e| Error::io(folder, e))?;
    let _ = new.keep(); // it has moved: there is nothing left to remove
    Ok(folder.to_path_buf())
}

/// Whether a list of modules names any.
fn is_set(modules: Option<&Modules>) -> bool {
    match modules {
        None => false,
        Some(Modules::Names(names)) => !names.is_empty(),
        Some(Modules::Expression(_)) => true,
    }
}

/// Whether a field of PEFT's config says something else than "not used".
fn is_used(field: Option<&Value>) -> bool {
    match field {
        None | Some(Value::Null) | Some(Value::Bool(false)) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

fn check(peft: &PeftConfig) -> Result<()> {
    if peft.peft_type != "LORA" {
        return Err(Error::format(format!("peft_type is {:?}, expected \"LORA\"", peft.peft_type)));
    }
    if let Some(field) = UNSUPPORTED.iter().find(|field| is_used(peft.rest.get(**field))) {
        return Err(Error::format(format!("{field} is set, which is not supported yet")));
    }
    Ok(())
}

/// The beginning that took a part of each weight away.
fn changed_by(init: &Value) -> Option<String> {
    match init {
        Value::Null | Value::Bool(_) => None,
        Value::String(name) if INITIALISATIONS.contains(&name.to_lowercase().as_str()) => None,
        other => Some(other.to_string()),
    }
}
