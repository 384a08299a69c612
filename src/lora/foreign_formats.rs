//! Adapters that others wrote: kohya's files and mlx-lm's folders, beside PEFT's.

use super::validated::{SAFETENSORS, read};
use super::{Adapter, Adapters, LoraConfig, Target, TargetKind, TargetModules};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const MLX: &str = "adapters.safetensors";
const FORMATS: &str = "give a PEFT folder, an mlx folder (adapter_config.json and adapters.safetensors), or a \
                       safetensors file with lora_down and lora_up";

impl Adapters {
    /// Reads an adapter of any known kind for a model with these [targets](crate::model::Decoder::targets):
    ///
    /// - a PEFT folder, as [`open`](Self::open) does;
    /// - kohya's file: `PREFIX_model_layers_3_self_attn_q_proj.lora_down.weight` `[r, in]`,
    ///   `.lora_up.weight` `[out, r]` and `.alpha`, with scale alpha / r, or 1 without an alpha;
    /// - mlx-lm's folder: `model.layers.3.self_attn.q_proj.lora_a` `[in, r]` and `.lora_b` `[r, out]`, with
    ///   y = W x + scale·(x a) b, where scale is that of `lora_parameters`, times alpha / rank where an
    ///   older version wrote an alpha. DoRA (`fine_tune_type` "dora") has the magnitude `.m` `[out]` beside
    ///   each pair. Beside an embedding `lora_a` is `[V, r]` and `lora_b` `[r, D]`; where the head is tied
    ///   to it, mlx-lm adapts the head with the same pair, which is read as one of its own.
    ///
    /// # Errors
    /// When the file is damaged or of another kind, and when a tensor fits no layer of the model; the
    /// error names the first that does not, with both shapes.
    pub fn open_for(path: impl AsRef<Path>, targets: &[Target], device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e).help(FORMATS))?;
        if metadata.is_dir() {
            return open_folder(path, targets, device);
        }
        let parent = path.parent().filter(|folder| folder.join(CONFIG).is_file());
        match (path.file_name().and_then(|name| name.to_str()), parent) {
            (Some(MLX | SAFETENSORS | "adapter_model.bin" | CONFIG), Some(folder)) => {
                open_folder(folder, targets, device)
            }
            _ => kohya(path, targets, device).map_err(|e| e.path(path)),
        }
    }
}

fn open_folder(folder: &Path, targets: &[Target], device: &Device) -> Result<Adapters> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e).help(FORMATS))?;
    let config: Value =
        serde_json::from_str(&text).map_err(|e| Error::format(&e).path(&path).line(e.line() as u64))?;
    if config.get("peft_type").is_some() {
        let adapters = Adapters::open(folder, device)?;
        return adapters.check(targets).map(|()| adapters).map_err(|e| e.path(folder));
    }
    if config.get("lora_parameters").is_none() {
        return Err(Error::format("neither PEFT's peft_type nor mlx's lora_parameters is in it")
            .path(&path)
            .help(FORMATS));
    }
    let dora = mlx_is_dora(&config).map_err(|e| e.path(&path))?;
    let scale = mlx_scale(&config).map_err(|e| e.path(&path))?;
    let path = folder.join(MLX);
    let adapters = mlx(&path, scale, dora, targets, device).map_err(|e| e.path(&path))?;
    Ok(adapters.with_notes(mlx_unknown(&config).into_iter().collect()))
}

/// Says which parameters of the layers are not known. What else the config holds are the settings of mlx-lm's
/// training (rows, steps, rates), which change nothing of what an adapter computes.
fn mlx_unknown(config: &Value) -> Option<String> {
    const KNOWN: [&str; 5] = ["rank", "scale", "alpha", "dropout", "keys"];
    let parameters = config.get("lora_parameters")?.as_object()?;
    let unknown: Vec<&str> =
        parameters.keys().map(String::as_str).filter(|name| !KNOWN.contains(name)).collect();
    match unknown.is_empty() {
        true => None,
        false => Some(format!(
            "unknown in lora_parameters of {CONFIG}, without effect here: {}",
            unknown.join(", ")
        )),
    }
}

fn mlx_is_dora(config: &Value) -> Result<bool> {
    match config.get("fine_tune_type").and_then(Value::as_str) {
        None | Some("lora") => Ok(false),
        Some("dora") => Ok(true),
        Some(other) => Err(Error::format(format!("fine_tune_type is {other:?}, which is not supported"))
            .help("supported: \"lora\" and \"dora\"")),
    }
}

/// The factor in front of (x a) b. Up to early 2024 mlx-lm had an alpha beside the scale.
fn mlx_scale(config: &Value) -> Result<f64> {
    let parameters = &config["lora_parameters"];
    let number = |name: &str| parameters.get(name).and_then(Value::as_f64);
    let rank = number("rank").filter(|rank| *rank >= 1.0);
    let scale = match (number("scale"), number("alpha"), rank) {
        (Some(scale), None, _) => Some(scale),
        (Some(scale), Some(alpha), Some(rank)) => Some(scale * alpha / rank),
        _ => None,
    };
    scale.filter(|scale| scale.is_finite() && *scale != 0.0).ok_or_else(|| {
        Error::format(format!("lora_parameters is {parameters}, expected a rank and a scale that is not 0"))
    })
}

fn mlx(path: &Path, scale: f64, dora: bool, targets: &[Target], device: &Device) -> Result<Adapters> {
    let mut tensors = read(path, device)?;
    let layers: BTreeMap<&str, &Target> = targets.iter().map(|t| (t.path.as_str(), t)).collect();
    let mut pairs = BTreeMap::new();
    while let Some((name, a)) = tensors.pop_first() {
        let layer = name.strip_suffix(".lora_a").ok_or_else(|| {
            let kind = if dora { ", and <path>.m" } else { "; only \"dora\" has <path>.m" };
            Error::format(format!("unexpected tensor {name:?}"))
                .help(format!("expected pairs named <path>.lora_a and <path>.lora_b{kind}"))
        })?;
        let target = layers.get(layer).ok_or_else(|| unknown(&name))?;
        let other = format!("{layer}.lora_b");
        let b = tensors.remove(&other).ok_or_else(|| lacks(&name, "lora_b"))?;
        let embedding = target.kind == TargetKind::Embedding;
        if embedding && dora {
            return Err(Error::format("DoRA beside an embedding is not supported")
                .layer(layer)
                .help("in mlx-lm, leave the embedding out of the keys, or take \"lora\""));
        }
        let [out, inner] = target.shape;
        let [inner, out] = if embedding { [out, inner] } else { [inner, out] };
        let rank = rank_of(&a, 1);
        check_shape(&name, &a, [inner, rank])?;
        check_shape(&other, &b, [rank, out])?;
        let (turned_a, turned_b) = (a.t()?.contiguous()?, b.t()?.contiguous()?);
        let pair = match (embedding, dora) {
            (true, _) => {
                if let Some(head) = targets.iter().find(|t| t.kind == TargetKind::TiedHead) {
                    // y = E x + scale·a (b x): the pair, turned.
                    pairs.insert(head.path.clone(), Adapter::new(b, a, scale)?);
                }
                Adapter::embedding(turned_a, turned_b, scale)?
            }
            (_, false) => Adapter::new(turned_a, turned_b, scale)?,
            (_, true) => {
                let m = tensors.remove(&format!("{layer}.m")).ok_or_else(|| lacks(&name, "m"))?;
                Adapter::new(turned_a, turned_b, scale)?.with_magnitude(m).map_err(|e| e.layer(layer))?
            }
        };
        pairs.insert(layer.to_string(), pair);
    }
    together(pairs)
}

fn kohya(path: &Path, targets: &[Target], device: &Device) -> Result<Adapters> {
    const DOWN: &str = ".lora_down.weight";
    let mut tensors = read(path, device)?;
    if !tensors.keys().any(|name| name.ends_with(DOWN)) {
        let first = tensors.keys().next().map_or_else(String::new, |name| format!(", such as {name:?}"));
        return Err(Error::format(format!("{} tensors, none of them a lora_down{first}", tensors.len()))
            .help(FORMATS));
    }
    let flat = flattened(targets)?;
    let mut pairs = BTreeMap::new();
    let names: Vec<String> = tensors.keys().filter(|name| name.ends_with(DOWN)).cloned().collect();
    for name in names {
        let Some(a) = tensors.remove(&name) else { continue };
        let module = name.trim_end_matches(DOWN);
        let target = find(&flat, module).ok_or_else(|| unknown(&name))?;
        let other = format!("{module}.lora_up.weight");
        let b = tensors.remove(&other).ok_or_else(|| lacks(&name, "lora_up"))?;
        let [out, inner] = target.shape;
        let rank = rank_of(&a, 0);
        check_shape(&name, &a, [rank, inner])?;
        check_shape(&other, &b, [out, rank])?;
        let scale = match tensors.remove(&format!("{module}.alpha")) {
            None => 1.0,
            Some(alpha) if alpha.elem_count() == 1 => {
                f64::from(alpha.flatten_all()?.get(0)?.to_scalar::<f32>()?) / rank as f64
            }
            Some(alpha) => {
                let error = format!("alpha has shape {:?}, expected one number", alpha.dims());
                return Err(Error::format(error).layer(module));
            }
        };
        if pairs.insert(target.path.clone(), Adapter::new(a, b, scale)?).is_some() {
            return Err(Error::format(format!("two adapters for {}", target.path)).layer(module));
        }
    }
    match tensors.keys().next() {
        None => together(pairs),
        Some(name) => Err(Error::format(format!("unexpected tensor {name:?}"))
            .help("expected lora_down.weight, lora_up.weight and alpha of each layer")),
    }
}

/// The targets by their paths with `_` for `.`, as kohya writes them.
fn flattened(targets: &[Target]) -> Result<BTreeMap<String, &Target>> {
    let mut flat = BTreeMap::new();
    for target in targets {
        if let Some(other) = flat.insert(target.path.replace('.', "_"), target) {
            let error = format!("{} and {} are one name when flattened", other.path, target.path);
            return Err(Error::format(error));
        }
    }
    Ok(flat)
}

/// The target that a flattened name with any prefix means: the longest end of it that is a path,
/// with or without the `model` in front.
fn find<'a>(flat: &BTreeMap<String, &'a Target>, name: &str) -> Option<&'a Target> {
    let begins = std::iter::once(0).chain(name.match_indices('_').map(|(at, _)| at + 1));
    begins
        .map(|at| &name[at..])
        .find_map(|end| flat.get(end).or_else(|| flat.get(&format!("model_{end}"))).copied())
}

/// The rank that a tensor has at this place of its shape.
fn rank_of(tensor: &Tensor, at: usize) -> usize {
    tensor.dims().get(at).copied().filter(|rank| *rank > 0).unwrap_or(1)
}

fn check_shape(name: &str, tensor: &Tensor, expected: [usize; 2]) -> Result<()> {
    match tensor.dims() == expected {
        true => Ok(()),
        false => Err(Error::format(format!(
            "shape {:?}, and beside this model's layer it would be {expected:?}",
            tensor.dims()
        ))
        .layer(name)
        .help("these adapters belong to another model")),
    }
}

fn unknown(name: &str) -> Error {
    Error::format("this tensor belongs to no linear layer of the model")
        .layer(name)
        .help("these adapters belong to another model")
}

fn lacks(name: &str, what: &str) -> Error {
    Error::format(format!("it has no {what} beside it"))
        .layer(name)
        .help("the file is cut off: fetch it again")
}

/// Each pair keeps its own scale; the config says what the first of the largest rank has.
fn together(pairs: BTreeMap<String, Adapter>) -> Result<Adapters> {
    let Some(largest) = pairs.values().rev().max_by_key(|pair| pair.rank()) else {
        return Err(Error::format("no adapter inside"));
    };
    let config = LoraConfig {
        rank: largest.rank(),
        alpha: largest.scale() * largest.rank() as f64,
        target_modules: TargetModules::Named(pairs.keys().cloned().collect()),
        dora: pairs.values().any(|pair| pair.magnitude().is_some()),
        ..Default::default()
    };
    Ok(Adapters::from_pairs(config, pairs))
}
