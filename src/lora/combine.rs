//! Combines several adapters into one without a dense ΔW.

use super::config::scaled;
use super::{Adapter, Adapters, Beside, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use crate::spectrum::{Spectrum, Vectors};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// The method of [`Adapters::combine`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combine {
    /// The factors side by side: ΔW = Σ wᵢ·ΔWᵢ exactly; the ranks add up.
    Cat,
    /// The best approximation of Σ wᵢ·ΔWᵢ of this rank (Eckart and Young 1936).
    Rank(usize),
    /// The same with the smallest rank in each layer that keeps this share of Σ σ².
    Energy(f64),
    /// A = Σ √(wᵢsᵢ)·Aᵢ and B = Σ √(wᵢsᵢ)·Bᵢ, as PEFT's `linear` has it: the rank stays, and products
    /// of one task's A with another's B come in. The ranks must be equal. A negative weight's sign goes
    /// into A.
    Linear,
    /// As `Linear`, but of each factor only the largest numbers, this share of them, and where
    /// signs differ only those of the heavier sign, averaged (Yadav et al. 2023, *TIES-Merging*).
    Ties(f64),
}

impl Adapters {
    /// Combines weighted adapters into one. Layers that only some of them adapt are adapted in the result.
    ///
    /// # Errors
    /// When there is none; when a layer has other shapes in two of them; when one has a magnitude
    /// (DoRA) or weights that are trained whole, which do not add up; when a rank, a share or a weight
    /// cannot be used.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::lora::{Adapter, Adapters, Combine, LoraConfig};
    /// use std::collections::BTreeMap;
    ///
    /// let set = |a: f32, b: f32| {
    ///     let matrix = |x: f32| Tensor::new(&[[x]], &Device::Cpu);
    ///     let pair = Adapter::new(matrix(a)?, matrix(b)?, 1.0)?;
    ///     Ok::<_, lorascope::error::Error>(Adapters::from_pairs(LoraConfig::default(), BTreeMap::from([("q".into(), pair)])))
    /// };
    /// let (one, two) = (set(2.0, 3.0)?, set(5.0, 7.0)?);
    /// let both = Adapters::combine(&[(&one, 1.0), (&two, 0.1)], Combine::Cat)?;
    /// let pair = both.get("q").unwrap();
    /// assert_eq!((pair.rank(), pair.delta()?.to_vec2::<f32>()?), (2, vec![vec![9.5]])); // 6 + 0.1·35
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn combine(sets: &[(&Adapters, f64)], how: Combine) -> Result<Self> {
        check(sets, how)?;
        let paths: BTreeSet<&str> =
            sets.iter().flat_map(|(set, _)| set.iter().map(|(path, _)| path)).collect();
        let mut pairs = BTreeMap::new();
        for path in paths {
            let those: Vec<(&Adapter, f64)> =
                sets.iter().filter_map(|(set, weight)| Some((set.get(path)?, *weight))).collect();
            let pair = one(path, &those, how).map_err(|e| e.layer(path))?;
            pairs.insert(path.to_string(), pair);
        }
        let config = config_of(&pairs);
        Ok(Self::from_pairs(config, pairs))
    }
}

fn check(sets: &[(&Adapters, f64)], how: Combine) -> Result<()> {
    if sets.is_empty() {
        return Err(Error::input("no adapters to combine").help("give one or more, each with a weight"));
    }
    if let Some((_, weight)) = sets.iter().find(|(_, weight)| !weight.is_finite()) {
        return Err(Error::input(format!("a weight is {weight}")).help("give a finite number"));
    }
    if sets.iter().any(|(set, _)| set.wholes().next().is_some()) {
        return Err(Error::input("weights that are trained whole do not add up")
            .help("combine adapters without modules_to_save and trained biases"));
    }
    match how {
        Combine::Rank(0) => Err(Error::input("rank is 0").help("give a rank of at least 1")),
        Combine::Energy(share) | Combine::Ties(share) if !(share > 0.0 && share <= 1.0) => {
            Err(Error::input(format!("the share is {share}")).help("give a number above 0, up to 1"))
        }
        _ => Ok(()),
    }
}

fn one(path: &str, pairs: &[(&Adapter, f64)], how: Combine) -> Result<Adapter> {
    let (first, _) = pairs[0];
    for (pair, _) in pairs {
        if pair.magnitude().is_some() {
            return Err(Error::input("adapters with a magnitude (DoRA) do not add up")
                .help("merge them into the model one by one"));
        }
        if pair.shape() != first.shape() {
            return Err(Error::input(format!("shapes {:?} and {:?}", first.shape(), pair.shape()))
                .help("combine adapters of one model"));
        }
    }
    let embedding = *first.beside() == Beside::Embedding;
    let make = |a, b| if embedding { Adapter::embedding(a, b, 1.0) } else { Adapter::new(a, b, 1.0) };
    if let Combine::Linear | Combine::Ties(_) = how {
        let (a, b) = by_factor(pairs, how)?;
        return make(a, b);
    }
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    for (pair, weight) in pairs {
        let (a, b, scale) = pair.factors()?;
        rows.push((a * (scale * weight))?);
        columns.push(b);
    }
    let (a, b) = (Tensor::cat(&rows, 0)?, Tensor::cat(&columns, 1)?.contiguous()?);
    if how == Combine::Cat {
        return make(a, b);
    }
    let vectors = Vectors::of(path, &a, &b, 1.0)?;
    let sigma = &vectors.singular_values;
    let rank = match how {
        Combine::Rank(rank) => rank.min(sigma.len()),
        _ => Spectrum::of(path, &a, &b, 1.0)?.energy_rank(share(how))?.max(1),
    };
    let (a, b) = cut(&vectors, rank, a.device())?;
    make(a, b)
}

/// The share that is kept.
fn share(how: Combine) -> f64 {
    match how {
        Combine::Energy(share) | Combine::Ties(share) => share,
        _ => 1.0,
    }
}

/// √Σ Vᵀ and U √Σ of the first `rank` directions.
fn cut(vectors: &Vectors, rank: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let roots: Vec<f64> = vectors.singular_values[..rank].iter().map(|s| s.max(0.0).sqrt()).collect();
    let roots = Tensor::new(roots, &Device::Cpu)?;
    let side = |m: &Tensor| m.narrow(1, 0, rank)?.broadcast_mul(&roots)?.to_dtype(DType::F32);
    let (a, b) = (side(&vectors.v)?.t()?.contiguous()?, side(&vectors.u)?.contiguous()?);
    Ok((a.to_device(device)?, b.to_device(device)?))
}

/// The factors summed, or merged by sign, each by itself.
fn by_factor(pairs: &[(&Adapter, f64)], how: Combine) -> Result<(Tensor, Tensor)> {
    let mut factors = Vec::new();
    for (pair, weight) in pairs {
        let (a, b, scale) = pair.factors()?;
        let whole = scale * weight;
        let root = whole.abs().sqrt();
        // A negative weight turns ΔW round, so that one factor has its sign: A, as in PEFT.
        factors.push((a, if whole < 0.0 { -root } else { root }, b, root));
    }
    let rank = factors[0].0.dims()[0];
    if let Some(other) = factors.iter().map(|f| f.0.dims()[0]).find(|other| *other != rank) {
        return Err(Error::input(format!("ranks {rank} and {other}"))
            .help("factors of one rank can be summed; take Combine::Cat or Combine::Rank"));
    }
    let merge = |side: Vec<(&Tensor, f64)>| match how {
        Combine::Ties(density) => ties(&side, density),
        _ => {
            let mut sum = (side[0].0 * side[0].1)?;
            for (tensor, weight) in &side[1..] {
                sum = (sum + (*tensor * *weight)?)?;
            }
            Ok(sum)
        }
    };
    let a = merge(factors.iter().map(|f| (&f.0, f.1)).collect())?;
    let b = merge(factors.iter().map(|f| (&f.2, f.3)).collect())?;
    Ok((a, b))
}

/// TIES on one tensor of each task: trim, elect a sign by the sum, average those that have it.
fn ties(tasks: &[(&Tensor, f64)], density: f64) -> Result<Tensor> {
    let (shape, device) = (tasks[0].0.shape().clone(), tasks[0].0.device());
    let mut trimmed = Vec::new();
    for (tensor, weight) in tasks {
        let mut values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let keep = (density * values.len() as f64) as usize;
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|i, j| values[*j].abs().total_cmp(&values[*i].abs()));
        order[keep..].iter().for_each(|i| values[*i] = 0.0);
        trimmed.push((values, *weight as f32));
    }
    let merged = (0..trimmed[0].0.len()).map(|i| {
        let positive = trimmed.iter().map(|(values, _)| values[i]).sum::<f32>() >= 0.0;
        let elected = trimmed.iter().filter(|(values, _)| values[i] != 0.0 && (values[i] > 0.0) == positive);
        let (sum, count) =
            elected.fold((0.0, 0), |(sum, count), (values, weight)| (sum + values[i] * weight, count + 1));
        sum / count.max(1) as f32
    });
    Ok(Tensor::from_vec(merged.collect(), shape, device)?)
}

/// The config that says what these pairs are: their commonest rank, the others as patterns.
pub(super) fn config_of(pairs: &BTreeMap<String, Adapter>) -> LoraConfig {
    let named = TargetModules::Named(pairs.keys().cloned().collect());
    scaled(&LoraConfig { target_modules: named, ..Default::default() }, pairs)
}
