//! Reads adapter folders that PEFT wrote.

use super::peft::{
    CONFIG, INITIALISATIONS, Modules, PREFIX, PeftConfig, UNSUPPORTED, bias_of, is_used, read_config,
};
use super::target_selection::{first, is_weight_of};
use super::tensor_names::{A, B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE};
use super::validated::read_folder;
use super::wrapped_names::{Wrapped, unwrapped};
use super::{Adapter, Adapters, Biases, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The last names of embeddings and heads, which PEFT writes in full beside the pairs if tokens were
/// added (`save_embedding_layers`), whatever `modules_to_save` says.
const TABLES: [&str; 3] = ["embed_tokens", "lm_head", "wte"];

/// A and B of an adapter, with notes about the rest of it.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The pairs. They are for [`spectra`](Adapters::spectra), not for a model.
    pub adapters: Adapters,
    /// The beginning that took a part of each weight away (`pissa`, `olora`, `corda`, `loftq`, `lora_ga`):
    /// Whether B·A is only right with the reduced weights of its initialisation.
    pub initialisation: Option<String>,
    /// What else the folder contains, in sentences.
    pub left_alone: Vec<String>,
}

/// How much of an adapter is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// All of it; unsupported fields are errors.
    Model,
    /// Only A and B.
    Spectra,
}

impl Adapters {
    /// Reads a folder that PEFT or [`save`](Self::save) wrote. Unknown fields of its config are listed in
    /// [`notes`](Self::notes), and where the adapters are shown.
    ///
    /// # Errors
    /// When a file is missing or broken, or when the adapter uses what is not supported.
    pub fn open(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let Factors { adapters, initialisation, left_alone } = read(folder.as_ref(), device, Use::Model)?;
        match initialisation {
            None => Ok(adapters.with_notes(left_alone)),
            Some(by) => Err(Error::format(format!(
                "init_lora_weights is {by}, which changes the weights of the model"
            ))
            .path(folder.as_ref().join(CONFIG))
            .help(
                "save the adapter with PEFT's path_initial_model_for_weight_conversion, for the model as it was",
            )),
        }
    }

    /// The pairs of any adapter of PEFT's form, for their [`spectra`](Self::spectra): also of one that began by
    /// taking a part of each weight away, or that has more than pairs (saved embeddings, tied weights,
    /// `lora_bias`, trained token rows, ranks by expressions that are not read here, an alpha that is not
    /// positive, names that carry a wrapper). The notes say what was ignored.
    ///
    /// # Errors
    /// When a file is missing or broken, and when there is no pair inside.
    pub fn open_factors(folder: impl AsRef<Path>, device: &Device) -> Result<Factors> {
        read(folder.as_ref(), device, Use::Spectra)
    }
}

fn read(folder: &Path, device: &Device, aim: Use) -> Result<Factors> {
    let path = folder.join(CONFIG);
    let peft = read_config(folder)?;
    let mut left = Vec::new();
    check(&peft, aim, &mut left).map_err(|e| e.path(&path))?;
    let initialisation = changed_by(&peft.init_lora_weights);
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
        ensure_weight_tying: peft.ensure_weight_tying.unwrap_or_default(),
        fan_in_fan_out: peft.fan_in_fan_out,
        ..Default::default()
    };
    if aim == Use::Model {
        config.check().map_err(|e| e.path(&path))?;
    }
    let Contents { pairs, mut whole, tables } = read_pairs(folder, &config, device, aim, &mut left)?;
    if tables {
        // PEFT puts them in place of the model's own: a head that is the embedding follows it.
        config.ensure_weight_tying = true;
    }
    if config.ties() {
        untie(&mut whole)?;
    }
    let whole_paths = || TargetModules::Named(pairs.keys().cloned().collect());
    let narrowed = is_set(peft.exclude_modules.as_ref()) || peft.layers_to_transform.is_some();
    config.target_modules = match peft.target_modules {
        Some(Modules::Names(names)) if !narrowed => TargetModules::Named(names),
        Some(Modules::Expression(all)) if all == "all-linear" && !narrowed => TargetModules::AllLinear,
        _ => whole_paths(),
    };
    let adapters = Adapters::from_pairs(config, pairs).with_whole(whole).with_foreign(peft.rest);
    let unknown = adapters.unknown_fields();
    if !unknown.is_empty() {
        left.push(format!("unknown in {CONFIG}, without effect here: {}", unknown.join(", ")));
    }
    Ok(Factors { adapters, initialisation, left_alone: left })
}

/// Drops a head that equals the embedding bit for bit: if weights are tied, PEFT writes one tensor twice.
fn untie(whole: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let named = |whole: &BTreeMap<String, Tensor>, names: &[&str]| {
        let is_one = |name: &&String| names.iter().any(|end| is_weight_of(name, end));
        whole.keys().find(is_one).cloned()
    };
    let (Some(head), Some(table)) = (named(whole, &["lm_head"]), named(whole, &["embed_tokens", "wte"]))
    else {
        return Ok(());
    };
    if let (Some(a), Some(b)) = (whole.get(&head), whole.get(&table))
        && a.dims() == b.dims()
        && (a - b)?.abs()?.max_all()?.to_scalar::<f32>()? == 0.0
    {
        whole.remove(&head);
    }
    Ok(())
}

#[derive(Default)]
struct Contents {
    pairs: BTreeMap<String, Adapter>,
    whole: BTreeMap<String, Tensor>,
    /// Whether embeddings or heads are among the whole weights that the config does not name.
    tables: bool,
}

/// The tensors of an adapter's folder, sorted into pairs and weights that were trained whole.
fn read_pairs(
    folder: &Path,
    config: &LoraConfig,
    device: &Device,
    aim: Use,
    left: &mut Vec<String>,
) -> Result<Contents> {
    let (path, tensors) = read_folder(folder, device)?;
    let mut tensors = plain_names(tensors, aim, left).map_err(|e| e.path(&path))?;
    let float = |tensor: Tensor| Ok::<_, Error>(tensor.to_dtype(DType::F32)?);
    let mut contents = Contents::default();
    let mut odd = BTreeSet::new();
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
        for (which, tensor) in [(A, &a), (B, &b)] {
            if tensor.elem_count() == 0 {
                return Err(place(empty(&format!("{which} is empty (shape {:?})", tensor.dims()))));
            }
        }
        let (a, b) = (float(a).map_err(place)?, float(b).map_err(place)?);
        let (rank, scale) = scaling(config, &layer, &a, aim, &mut odd).map_err(place)?;
        let pair = if embedding { Adapter::embedding(a, b, scale) } else { Adapter::new(a, b, scale) };
        let mut pair = pair.map_err(place)?;
        if pair.rank() != rank {
            return Err(place(Error::format(format!("rank {} where the config says {rank}", pair.rank()))));
        }
        let magnitude = format!("{PREFIX}{layer}.{MAGNITUDE}");
        let magnitude = tensors.remove(&magnitude).or(tensors.remove(&format!("{magnitude}.weight")));
        match magnitude {
            Some(magnitude) => pair = pair.with_magnitude(float(magnitude)?).map_err(place)?,
            None if config.dora && !embedding && aim == Use::Model => {
                return Err(place(Error::format("use_dora is set, but there is no lora_magnitude_vector")));
            }
            None => {}
        }
        contents.pairs.insert(layer, pair);
    }
    left.extend(odd);
    let mut others = Vec::new();
    for (name, tensor) in tensors {
        let Some(inside) = name.strip_prefix(PREFIX) else {
            if aim == Use::Model {
                return Err(unexpected(&name).path(&path));
            }
            others.push(name);
            continue;
        };
        // PEFT puts the frozen embedding beside its adapter: the model has it.
        if inside.strip_suffix(".base_layer.weight").is_some_and(|path| contents.pairs.contains_key(path)) {
            continue;
        }
        let inside = inside.replace(".base_layer.", ".").replace(".modules_to_save.", ".");
        let saved = inside
            .rsplit_once('.')
            .is_some_and(|(layer, _)| config.modules_to_save.iter().any(|name| layer.ends_with(name)));
        let bias = config.bias != Biases::None && inside.ends_with(".bias");
        let table = TABLES.iter().any(|name| is_weight_of(&inside, name));
        match aim {
            Use::Model if !saved && !bias && !table => return Err(unexpected(&name).path(&path)),
            Use::Model => {
                contents.tables |= table && !saved;
                contents.whole.insert(inside, float(tensor)?);
            }
            Use::Spectra => others.push(inside),
        }
    }
    if !others.is_empty() {
        left.push(format!(
            "{} {} left alone",
            tensor_list(&others),
            if others.len() == 1 { "is" } else { "are" }
        ));
    }
    if contents.pairs.is_empty() && (contents.whole.is_empty() || aim == Use::Spectra) {
        return Err(empty("no adapter inside").path(&path));
    }
    Ok(contents)
}

/// Up to three names, and how many more.
fn tensor_list(names: &[String]) -> String {
    let more = names.len().saturating_sub(3);
    let more = if more == 0 { String::new() } else { format!(" and {more} more, which are no pairs,") };
    format!("{}{more}", names[..names.len().min(3)].join(", "))
}

/// The same tensors with plain names, without the prefixes of wrappers.
fn plain_names(
    tensors: BTreeMap<String, Tensor>,
    aim: Use,
    left: &mut Vec<String>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut wrappers: BTreeSet<Wrapped> = BTreeSet::new();
    let mut plain = BTreeMap::new();
    for (name, tensor) in tensors {
        let (unwrapped, by) = unwrapped(&name);
        if let Some(wrapper) = by.first().filter(|_| aim == Use::Model) {
            return Err(wrapper.error(&name));
        }
        wrappers.extend(by);
        if plain.insert(unwrapped, tensor).is_some() {
            return Err(
                Error::format("two tensors have this name once its wrapper is taken off").layer(&name)
            );
        }
    }
    left.extend(wrappers.iter().map(Wrapped::note));
    Ok(plain)
}

/// Rank and scale of the pair at a path. For spectra the tensors say the rank where an expression cannot be
/// read, and alpha may be anything.
fn scaling(
    config: &LoraConfig,
    layer: &str,
    a: &Tensor,
    aim: Use,
    odd: &mut BTreeSet<String>,
) -> Result<(usize, f64)> {
    if aim == Use::Model {
        let (rank, alpha) = config.rank_and_alpha(layer)?;
        return Ok((rank, config.scale(rank, alpha)?));
    }
    let rank = match first(&config.rank_pattern, layer) {
        Ok(rank) => rank.copied().unwrap_or(config.rank),
        Err(_) => {
            odd.insert(
                "rank_pattern has an expression that is not read here: the ranks are those of the tensors"
                    .into(),
            );
            a.dims().first().copied().unwrap_or_default()
        }
    };
    let alpha = match first(&config.alpha_pattern, layer) {
        Ok(alpha) => alpha.copied().unwrap_or(config.alpha),
        Err(_) => {
            odd.insert(format!(
                "alpha_pattern has an expression that is not read here: where it is met, alpha is lora_alpha, {}, and \
                 singular values may be off by a factor",
                config.alpha
            ));
            config.alpha
        }
    };
    if alpha == 0.0 {
        odd.insert("alpha is 0 of some modules: their ΔW is 0 whatever A and B are".into());
    } else if alpha < 0.0 {
        odd.insert(
            "alpha is negative of some modules: their ΔW is −|scale|·B·A, with the same singular values"
                .into(),
        );
    }
    let divisor = if config.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
    Ok((rank, alpha / divisor.max(1.0)))
}

fn unexpected(name: &str) -> Error {
    Error::format(format!("unexpected tensor {name:?}"))
        .help("expected pairs named base_model.model.<path>.lora_A.weight and .lora_B.weight")
}

/// The error for empty tensors, which DeepSpeed writes for sharded weights.
fn empty(what: &str) -> Error {
    Error::format(what).help(
        "DeepSpeed ZeRO-3 saves so where the parameters are not gathered: set \
         stage3_gather_16bit_weights_on_model_save, or run zero_to_fp32.py on its checkpoint",
    )
}

/// Whether a list of modules names any.
fn is_set(modules: Option<&Modules>) -> bool {
    match modules {
        None => false,
        Some(Modules::Names(names)) => !names.is_empty(),
        Some(Modules::Expression(_)) => true,
    }
}

fn check(peft: &PeftConfig, aim: Use, left: &mut Vec<String>) -> Result<()> {
    if peft.peft_type != "LORA" {
        return Err(Error::format(format!("peft_type is {:?}, expected \"LORA\"", peft.peft_type)));
    }
    for field in UNSUPPORTED.iter().filter(|field| is_used(peft.rest.get(**field))) {
        match aim {
            Use::Model => return Err(Error::format(format!("{field} is set, which is not supported yet"))),
            Use::Spectra => left.push(format!("{field} is set: what it adds to B·A is left alone")),
        }
    }
    Ok(())
}

/// The initialisation that subtracted a part from each weight.
fn changed_by(init: &Value) -> Option<String> {
    match init {
        Value::Null | Value::Bool(_) => None,
        Value::String(name) if INITIALISATIONS.contains(&name.to_lowercase().as_str()) => None,
        other => Some(other.to_string()),
    }
}
