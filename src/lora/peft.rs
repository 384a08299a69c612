//! Adapter folders as PEFT writes and reads them: `adapter_config.json` and
//! `adapter_model.safetensors`.

use super::tensor_names::{A, B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE};
use super::validated::SAFETENSORS as WEIGHTS;
use super::{Adapters, Beside, Biases, TargetModules};
use crate::error::{Error, Result};
use crate::spectrum::ends_in;
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const PREFIX: &str = "base_model.model.";

/// The fields of PEFT's `LoraConfig` (0.21) that are used here.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PeftConfig {
    pub(super) peft_type: String,
    pub(super) task_type: Option<String>,
    #[serde(default)]
    pub(super) base_model_name_or_path: Option<String>,
    pub(super) r: usize,
    pub(super) lora_alpha: f64,
    #[serde(default)]
    pub(super) lora_dropout: f64,
    #[serde(default)]
    pub(super) use_rslora: bool,
    #[serde(default)]
    pub(super) use_dora: bool,
    #[serde(default)]
    pub(super) fan_in_fan_out: bool,
    #[serde(default = "none")]
    pub(super) bias: String,
    #[serde(default)]
    pub(super) inference_mode: bool,
    pub(super) target_modules: Option<Modules>,
    #[serde(default)]
    pub(super) exclude_modules: Option<Modules>,
    #[serde(default)]
    pub(super) layers_to_transform: Option<Blocks>,
    #[serde(default)]
    pub(super) rank_pattern: Option<IndexMap<String, usize>>,
    #[serde(default)]
    pub(super) alpha_pattern: Option<IndexMap<String, f64>>,
    #[serde(default)]
    pub(super) modules_to_save: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ensure_weight_tying: Option<bool>,
    #[serde(default = "yes")]
    pub(super) init_lora_weights: Value,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// A name fits every module whose path ends in it, at a dot; a string is `all-linear` or a regular
/// expression.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Modules {
    Names(Vec<String>),
    Expression(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Blocks {
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
pub(super) const UNSUPPORTED: [&str; 11] = [
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
const HARMLESS: [&str; 13] = [
    "auto_mapping",
    "corda_config",
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

/// Initialisations that do not change the base. The others (`pissa`, `olora`, `corda`, `loftq`,
/// `lora_ga`) subtract a part from each weight, and the adapter is only right with the rest.
pub(super) const INITIALISATIONS: [&str; 4] = ["gaussian", "orthogonal", "eva", "mica"];

impl Adapters {
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
            ensure_weight_tying: ours.ensure_weight_tying.then_some(true),
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
        // PEFT names a table that is tied by its whole path, and wants its head a second time.
        let tied = self.wholes().find(|(name, _)| {
            let path = name.strip_suffix(".weight").unwrap_or(name);
            ours.ties() && path.contains('.') && ours.modules_to_save.iter().any(|saved| saved == path)
        });
        if let Some((_, table)) = tied.filter(|_| self.whole("lm_head.weight").is_none()) {
            put("lm_head.weight".to_string(), &table.copy()?)?;
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

    /// The name or path of the base model of an adapter folder, if it names one.
    ///
    /// # Errors
    /// When adapter_config.json is missing or broken.
    pub fn base_of(folder: impl AsRef<Path>) -> Result<Option<String>> {
        Ok(read_config(folder.as_ref())?.base_model_name_or_path)
    }

    /// Unknown fields of the config: they are kept and written again, but have no effect.
    pub fn unknown_fields(&self) -> Vec<&str> {
        let known = |name: &str| HARMLESS.contains(&name) || UNSUPPORTED.contains(&name);
        self.foreign().keys().map(String::as_str).filter(|name| !known(name)).collect()
    }
}

pub(super) fn read_config(folder: &Path) -> Result<PeftConfig> {
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

pub(super) fn bias_of(name: &str) -> Result<Biases> {
    match name {
        "none" => Ok(Biases::None),
        "all" => Ok(Biases::All),
        "lora_only" => Ok(Biases::LoraOnly),
        other => Err(Error::format(format!("bias is {other:?}")).help("expected none, all or lora_only")),
    }
}

/// Whether a field of a PEFT config is set.
pub(super) fn is_used(field: Option<&Value>) -> bool {
    match field {
        None | Some(Value::Null) | Some(Value::Bool(false)) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}
