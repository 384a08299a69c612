//! Initialisation of adapters.

use super::{Adapter, Base, Biases, Init, LoraConfig, Target, TargetKind};
use crate::error::{Error, Result};
use crate::ops::random::{Random, Stream};
use candle_core::{DType, Device, Tensor};
use faer::Mat;
use std::collections::BTreeMap;

/// Numbers that are drawn beside the r that are wanted, and rounds over W: what a randomised
/// decomposition needs to be as good as an exact one (Halko, Martinsson and Tropp 2011, §4.5).
const SPARE: usize = 10;
const ROUNDS: usize = 4;
/// Up to this size all directions are taken: the decomposition is exact.
const EXACT: usize = 256;

/// The adapter of one layer; `index` is the layer's number, from which its random numbers follow.
pub(super) fn adapter(
    config: &LoraConfig,
    target: &Target,
    base: Option<&dyn Base>,
    seed: u64,
    index: u64,
    device: &Device,
) -> Result<Adapter> {
    let [out, inner] = match target.kind {
        // The rows of an embedding are looked up: ΔWᵀ = B A.
        TargetKind::Embedding => [target.shape[1], target.shape[0]],
        _ => target.shape,
    };
    let (rank, alpha) = config.rank_and_alpha(&target.path)?;
    let scale = config.scale(rank, alpha)?;
    let parts = config.parts(&target.path);
    let width = match parts {
        None => out,
        Some(parts) if out.is_multiple_of(parts.len()) => out / parts.len(),
        Some(parts) => {
            return Err(Error::input(format!("{out} rows cannot be cut into {} equal parts", parts.len()))
                .help("enable_lora has one entry for each of the layers that are one here"));
        }
    };
    if rank > width.min(inner) {
        return Err(Error::input(format!("rank {rank} is more than B·A of {width}×{inner} can have"))
            .help(format!("take a rank of at most {}", width.min(inner))));
    }
    let mut random = Random::at(seed, Stream::Init, 0, index);
    if target.kind == TargetKind::Embedding {
        if config.dora || config.init == Init::Pissa {
            return Err(Error::input("an embedding takes neither DoRA nor PiSSA")
                .help("leave it out of target_modules, or take another initialisation"));
        }
        // loralib: A zero, B normal.
        let a = Tensor::zeros((rank, inner), DType::F32, device)?;
        let b = tensor((0..out * rank).map(|_| random.normal()), (out, rank), device)?;
        return Adapter::embedding(a, b, scale);
    }
    let count = parts.map_or(1, |parts| parts.iter().filter(|on| **on).count());
    let (rows, height) = (count * rank, count * width);
    let zero = || Tensor::zeros((height, rank), DType::F32, device);
    let pair = match config.init {
        Init::Kaiming => {
            let bound = 1.0 / (inner as f64).sqrt();
            let a = (0..rows * inner).map(|_| (2.0 * random.unit() - 1.0) * bound);
            (tensor(a, (rows, inner), device)?, zero()?)
        }
        Init::Gaussian => {
            let deviation = 1.0 / rank as f64;
            let a = (0..rows * inner).map(|_| random.normal() * deviation);
            (tensor(a, (rows, inner), device)?, zero()?)
        }
        Init::Orthogonal if parts.is_some() => {
            return Err(Error::input("parts of a layer cannot have an orthogonal initialisation")
                .help("leave enable_lora empty, or initialise with kaiming"));
        }
        Init::Orthogonal => orthogonal(&mut random, rank, inner, out, device)?,
        Init::Pissa => {
            if parts.is_some() {
                return Err(Error::input("PiSSA on parts of a layer is not defined")
                    .help("leave enable_lora empty, or initialise with kaiming"));
            }
            let base = base.ok_or_else(|| needs_model("PiSSA"))?;
            let (a, b) = principal(&base.matrix(&target.path)?, rank, scale, &mut random, device)?;
            return Adapter::new(a.clone(), b.clone(), scale)?.starting_from(a, b);
        }
    };
    let (a, b) = pair;
    let adapter = match parts {
        Some(parts) => Adapter::merged(a, b, parts, scale)?,
        None => Adapter::new(a, b, scale)?,
    };
    if !config.dora {
        return Ok(adapter);
    }
    let weight = base.ok_or_else(|| needs_model("DoRA"))?.matrix(&target.path)?;
    let sum = (weight + adapter.delta()?)?.to_dtype(DType::F64)?;
    let magnitude = sum.sqr()?.sum(1)?.sqrt()?.to_dtype(DType::F32)?;
    adapter.with_magnitude(magnitude.to_device(device)?)
}

/// The weights that are trained in full.
pub(super) fn whole(
    config: &LoraConfig,
    targets: &[Target],
    pairs: &BTreeMap<String, Adapter>,
    base: Option<&dyn Base>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut whole = BTreeMap::new();
    if config.modules_to_save.is_empty() && config.bias == Biases::None {
        return Ok(whole);
    }
    let base = base.ok_or_else(|| needs_model("a module that is trained whole"))?;
    for name in &config.modules_to_save {
        let mut found = false;
        // As PEFT has it: `norm` also means `input_layernorm`.
        for target in targets.iter().filter(|t| t.path.ends_with(name)) {
            if pairs.contains_key(&target.path) {
                return Err(Error::input("this layer is adapted and trained whole")
                    .layer(&target.path)
                    .help("take it out of modules_to_save, or of target_modules"));
            }
            // Where both stay one, that one is the embedding's.
            let table = targets.iter().find(|t| config.ties() && t.kind == TargetKind::Embedding);
            let target = table.filter(|_| target.kind == TargetKind::TiedHead).unwrap_or(target);
            whole.insert(format!("{}.weight", target.path), base.matrix(&target.path)?);
            found = true;
        }
        let inside = |tensor: &str| tensor.rsplit_once('.').is_some_and(|(path, _)| path.ends_with(name));
        for (tensor, value) in base.vectors(&inside)? {
            whole.insert(tensor, value);
            found = true;
        }
        if !found {
            let mut known: Vec<&str> = targets.iter().filter_map(|t| t.path.rsplit('.').next()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(Error::input(format!("modules_to_save names {name:?}, which is not in this model"))
                .help(format!("it has {}, and norms", known.join(", "))));
        }
    }
    let bias = |tensor: &str| match config.bias {
        Biases::None => false,
        Biases::All => tensor.ends_with(".bias"),
        Biases::LoraOnly => tensor.strip_suffix(".bias").is_some_and(|path| pairs.contains_key(path)),
    };
    whole.extend(base.vectors(&bias)?);
    Ok(whole)
}

fn needs_model(what: &str) -> Error {
    Error::input(format!("{what} is initialised from the model's weights"))
        .help("make the adapters beside a model: model.new_adapters(&config, seed)?")
}

fn tensor(values: impl Iterator<Item = f64>, shape: (usize, usize), device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(values.map(|x| x as f32).collect(), shape, device)?)
}

/// A and B of tenths of random numbers times the odd and the even rows of one orthogonal matrix
/// `[r, r]`: B·A = 0, and neither is.
fn orthogonal(
    random: &mut Random,
    rank: usize,
    inner: usize,
    out: usize,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    if !rank.is_multiple_of(2) {
        return Err(Error::input(format!("an orthogonal initialisation needs an even rank, not {rank}"))
            .help(format!("take {}", rank + 1)));
    }
    let mut normal = |rows, columns| Mat::from_fn(rows, columns, |_, _| random.normal());
    let q = normal(rank, rank).qr().compute_Q();
    let half = rank / 2;
    let odd = Mat::from_fn(half, rank, |i, j| q[(2 * i, j)]);
    let even = Mat::from_fn(half, rank, |i, j| q[(2 * i + 1, j)]);
    let a = normal(inner, half) * odd; // [in, r]
    let b = normal(out, half) * even; // [out, r]
    let a = tensor(
        (0..rank).flat_map(|i| (0..inner).map(move |j| (j, i))).map(|at| a[at] / 10.0),
        (rank, inner),
        device,
    )?;
    let b = tensor(
        (0..out).flat_map(|i| (0..rank).map(move |j| (i, j))).map(|at| b[at] / 10.0),
        (out, rank),
        device,
    )?;
    Ok((a, b))
}

/// A = √(Σ/s) Vᵀ and B = U √(Σ/s) from the r largest singular values of W, s the scale, so that
/// s·B·A is the best approximation of W of rank r.
fn principal(
    weight: &Tensor,
    rank: usize,
    scale: f64,
    random: &mut Random,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let (out, inner) = weight.dims2()?;
    let values = weight.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
    let w = Mat::from_fn(out, inner, |i, j| f64::from(values[i * inner + j]));
    let small = out.min(inner);
    let wide = if small <= EXACT { small } else { (rank + SPARE).min(small) };
    let start = Mat::from_fn(inner, wide, |_, _| random.normal());
    let mut q = (&w * start).qr().compute_thin_Q();
    for _ in 0..ROUNDS {
        let other = (w.transpose() * &q).qr().compute_thin_Q();
        q = (&w * other).qr().compute_thin_Q();
    }
    let svd = (q.transpose() * &w)
        .thin_svd()
        .map_err(|e| Error::compute(format!("the singular values of W were not found: {e:?}")))?;
    let (u, s, v) = (&q * svd.U(), svd.S().column_vector(), svd.V());
    let root = |k: usize| (s[k] / scale).max(0.0).sqrt();
    let a = (0..rank).flat_map(|k| (0..inner).map(move |j| (k, j))).map(|(k, j)| root(k) * v[(j, k)]);
    let a = tensor(a, (rank, inner), device)?;
    let b = (0..out).flat_map(|i| (0..rank).map(move |k| (i, k))).map(|(i, k)| root(k) * u[(i, k)]);
    Ok((a, tensor(b, (out, rank), device)?))
}
