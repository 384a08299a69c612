//! Adapter folders that PEFT wrote, read.

use super::adapters::{B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE};
use super::checked::read_folder;
use super::peft::{
    CONFIG, INITIALISATIONS, Modules, PREFIX, PeftConfig, UNSUPPORTED, bias_of, is_used, read_config,
};
use super::{Adapter, Adapters, Biases, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

impl Adapters {
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

/// Whether a list of modules names any.
fn is_set(modules: Option<&Modules>) -> bool {
    match modules {
        None => false,
        Some(Modules::Names(names)) => !names.is_empty(),
        Some(Modules::Expression(_)) => true,
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
