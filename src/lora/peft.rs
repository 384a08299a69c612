//! Adapter folders as PEFT writes and reads them: `adapter_config.json` and
//! `adapter_model.safetensors`.

use super::{Adapter, Adapters, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
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
    target_modules: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn none() -> String {
    "none".to_string()
}

/// Fields that change what an adapter computes and that are not supported yet.
const UNSUPPORTED: [&str; 10] = [
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
];

impl Adapters {
    /// Writes a folder that PEFT's `PeftModel.from_pretrained` loads. `base` is the model's name or
    /// path, as `base_model_name_or_path`. The folder appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists already, or cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, base: &str) -> Result<PathBuf> {
        let folder = folder.as_ref();
        if folder.exists() {
            return Err(Error::input("this folder exists already")
                .path(folder)
                .help("choose another name, or remove it first"));
        }
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        let partial = tempfile::Builder::new()
            .prefix(".adapter-")
            .tempdir_in(parent)
            .map_err(|e| Error::io(parent, e))?;
        self.write(partial.path(), base)?;
        let partial = partial.keep();
        std::fs::rename(&partial, folder).map_err(|e| {
            let _ = std::fs::remove_dir_all(&partial);
            Error::io(folder, e)
        })?;
        Ok(folder.to_path_buf())
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
            target_modules: Some(Value::Array(self.module_names().into_iter().map(Value::String).collect())),
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
        safetensors::serialize_to_file(&tensors, Some(metadata), &path)
            .map_err(|e| Error::format(e).path(&path))
    }

    /// The shortest names that select exactly the adapted layers in PEFT: the last part of each
    /// path.
    fn module_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.iter().filter_map(|(path, _)| path.rsplit('.').next()).map(str::to_string).collect();
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
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::io(&path, e).help("give the folder that holds adapter_config.json")
        })?;
        let peft: PeftConfig =
            serde_json::from_str(&text).map_err(|e| Error::format(&e).path(&path).line(e.line() as u64))?;
        check(&peft).map_err(|e| e.path(&path))?;
        let config = LoraConfig {
            rank: peft.r,
            alpha: peft.lora_alpha,
            rank_stabilised: peft.use_rslora,
            target_modules: match peft.target_modules {
                Some(Value::Array(names)) => {
                    TargetModules::Named(names.iter().filter_map(|n| n.as_str().map(str::to_string)).collect())
                }
                _ => TargetModules::AllLinear,
            },
        };
        let scale = config.scaling().map_err(|e| e.path(&path))?;

        let path = folder.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let mut tensors: BTreeMap<String, Tensor> = candle_core::safetensors::load_buffer(&bytes, device)
            .map_err(|e| Error::format(Error::from(e)).path(&path))?
            .into_iter()
            .collect();
        let mut pairs = BTreeMap::new();
        while let Some((name, a)) = tensors.pop_first() {
            let layer = name
                .strip_prefix(PREFIX)
                .and_then(|n| n.strip_suffix(".lora_A.weight"))
                .ok_or_else(|| {
                    Error::format(format!("unexpected tensor {name:?}")).path(&path).help(
                        "expected pairs named base_model.model.<path>.lora_A.weight and .lora_B.weight",
                    )
                })?;
            let b = tensors.remove(&format!("{PREFIX}{layer}.lora_B.weight")).ok_or_else(|| {
                Error::format("lora_A has no lora_B beside it").path(&path).layer(layer)
            })?;
            let pair = Adapter::new(a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?, scale)
                .map_err(|e| e.path(&path).layer(layer))?;
            if pair.rank() != config.rank {
                return Err(Error::format(format!("rank {} where the config says {}", pair.rank(), config.rank))
                    .path(&path)
                    .layer(layer));
            }
            pairs.insert(layer.to_string(), pair);
        }
        if pairs.is_empty() {
            return Err(Error::format("no adapter inside").path(&path));
        }
        Ok(Self::from_pairs(config, pairs))
    }
}

fn check(peft: &PeftConfig) -> Result<()> {
    if peft.peft_type != "LORA" {
        return Err(Error::format(format!("peft_type is {:?}, expected \"LORA\"", peft.peft_type)));
    }
    if peft.bias != "none" || peft.fan_in_fan_out {
        return Err(Error::format("trained biases and fan_in_fan_out are not supported yet"));
    }
    for field in UNSUPPORTED {
        let set = match peft.rest.get(field) {
            None | Some(Value::Null) | Some(Value::Bool(false)) => false,
            Some(Value::Object(map)) => !map.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        };
        if set {
            return Err(Error::format(format!("{field} is set, which is not supported yet")));
        }
    }
    Ok(())
}
