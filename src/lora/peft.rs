//! Adapter folders as PEFT writes and reads them: `adapter_config.json` and
//! `adapter_model.safetensors`.

use super::checked::{SAFETENSORS as WEIGHTS, read_folder};
use super::{Adapter, Adapters, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use crate::files::folder_beside;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONFIG: &str = "adapter_config.json";
const PREFIX: &str = "base_model.model.";

/// The part of PEFT's `LoraConfig` (0.21) that has a meaning here; the rest must be at its default.
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
    fan_in_fan_out: bool,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    inference_mode: bool,
    target_modules: Option<Modules>,
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

fn none() -> String {
    "none".to_string()
}

fn yes() -> Value {
    Value::Bool(true)
}

/// Fields that change what an adapter computes and that are not supported yet.
const UNSUPPORTED: [&str; 15] = [
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
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
        let config = PeftConfig {
            peft_type: "LORA".to_string(),
            task_type: Some("CAUSAL_LM".to_string()),
            base_model_name_or_path: Some(base.to_string()),
            r: self.config().rank,
            lora_alpha: self.config().alpha,
            lora_dropout: 0.0,
            use_rslora: self.config().rank_stabilised,
            fan_in_fan_out: false,
            bias: none(),
            inference_mode: true,
            target_modules: Some(Modules::Names(self.module_names())),
            init_lora_weights: yes(),
            rest: Map::new(),
        };
        let path = folder.join(CONFIG);
        let text = serde_json::to_string_pretty(&config).map_err(Error::compute)?;
        std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;

        let tensors: HashMap<String, Tensor> = self
            .tensors()
            .map(|(name, tensor)| Ok((format!("{PREFIX}{name}.weight"), tensor.to_dtype(DType::F32)?)))
            .collect::<Result<_>>()?;
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        let path = folder.join(WEIGHTS);
        let bytes =
            safetensors::serialize(&tensors, Some(metadata)).map_err(|e| Error::format(e).path(&path))?;
        std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))
    }

    /// Names that select exactly the adapted layers in PEFT, which compares the ends of paths as we
    /// do: those of the config; the last part of each path where all linear layers are adapted; and
    /// whole paths if the config has been used for something else.
    fn module_names(&self) -> Vec<String> {
        let paths: Vec<&str> = self.iter().map(|(path, _)| path).collect();
        let mut names: Vec<String> = match (&self.config().target_modules, self.config().select(&paths)) {
            (TargetModules::Named(names), Ok(selected)) if selected == paths => names.clone(),
            (TargetModules::Named(_), _) => paths.iter().map(|path| path.to_string()).collect(),
            (TargetModules::AllLinear, _) => {
                paths.iter().filter_map(|path| path.rsplit('.').next()).map(str::to_string).collect()
            }
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
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::io(&path, e).help("give the folder that holds adapter_config.json"))?;
        let peft: PeftConfig =
            serde_json::from_str(&text).map_err(|e| Error::format(&e).path(&path).line(e.line() as u64))?;
        check(&peft).map_err(|e| e.path(&path))?;
        let mut config = LoraConfig {
            rank: peft.r,
            alpha: peft.lora_alpha,
            rank_stabilised: peft.use_rslora,
            target_modules: TargetModules::AllLinear,
        };
        let scale = config.scaling().map_err(|e| e.path(&path))?;

        let (path, mut tensors) = read_folder(folder, device)?;
        let mut pairs = BTreeMap::new();
        while let Some((name, a)) = tensors.pop_first() {
            let layer = name.strip_prefix(PREFIX).and_then(|n| n.strip_suffix(".lora_A.weight")).ok_or_else(
                || {
                    Error::format(format!("unexpected tensor {name:?}"))
                        .path(&path)
                        .help("expected pairs named base_model.model.<path>.lora_A.weight and .lora_B.weight")
                },
            )?;
            let place = |e: Error| e.path(&path).layer(layer);
            let b = tensors
                .remove(&format!("{PREFIX}{layer}.lora_B.weight"))
                .ok_or_else(|| place(Error::format("lora_A has no lora_B beside it")))?;
            let float = |tensor: Tensor| tensor.to_dtype(DType::F32).map_err(|e| place(e.into()));
            let pair = Adapter::new(float(a)?, float(b)?, scale).map_err(place)?;
            if pair.rank() != config.rank {
                let ranks = format!("rank {} where the config says {}", pair.rank(), config.rank);
                return Err(place(Error::format(ranks)));
            }
            pairs.insert(layer.to_string(), pair);
        }
        if pairs.is_empty() {
            return Err(Error::format("no adapter inside").path(&path));
        }
        config.target_modules = match peft.target_modules {
            Some(Modules::Names(names)) if !narrowed(&peft.rest) => TargetModules::Named(names),
            Some(Modules::Expression(all)) if all == "all-linear" && !narrowed(&peft.rest) => {
                TargetModules::AllLinear
            }
            _ => TargetModules::Named(pairs.keys().cloned().collect()),
        };
        Ok(Self::from_pairs(config, pairs))
    }
}

/// Moves a folder that was written beside its place there.
fn settle(new: TempDir, folder: &Path) -> Result<PathBuf> {
    std::fs::rename(new.path(), folder).map_err(|e| Error::io(folder, e))?;
    let _ = new.keep(); // it has moved: there is nothing left to remove
    Ok(folder.to_path_buf())
}

/// Whether a field of PEFT's config says something else than "not used".
fn is_set(field: Option<&Value>) -> bool {
    match field {
        None | Some(Value::Null) | Some(Value::Bool(false)) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

/// Whether further fields take layers away from those that `target_modules` selects.
fn narrowed(rest: &Map<String, Value>) -> bool {
    ["layers_to_transform", "exclude_modules"].iter().any(|field| is_set(rest.get(*field)))
}

fn check(peft: &PeftConfig) -> Result<()> {
    if peft.peft_type != "LORA" {
        return Err(Error::format(format!("peft_type is {:?}, expected \"LORA\"", peft.peft_type)));
    }
    if peft.bias != "none" || peft.fan_in_fan_out {
        return Err(Error::format("trained biases and fan_in_fan_out are not supported yet"));
    }
    if let Some(field) = UNSUPPORTED.iter().find(|field| is_set(peft.rest.get(**field))) {
        return Err(Error::format(format!("{field} is set, which is not supported yet")));
    }
    match &peft.init_lora_weights {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(name) if INITIALISATIONS.contains(&name.to_lowercase().as_str()) => Ok(()),
        other => Err(Error::format(format!(
            "init_lora_weights is {other}, which changes the weights of the model"
        ))
        .help(
            "save the adapter with PEFT's path_initial_model_for_weight_conversion, for the model as it was",
        )),
    }
}
