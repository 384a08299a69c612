//! Changes the rank of adapters: truncation with the least error, growth without any.

use super::config::scaled;
use super::spectra::DeltaPiece;
use super::{Adapter, Adapters, Beside, Init, LoraConfig};
use crate::error::{Error, Result};
use crate::ops::random::{Random, Stream};
use crate::spectrum::{Spectrum, Vectors};
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// The target rank of [`Adapters::truncate`].
#[derive(Debug, Clone, PartialEq)]
pub enum Truncation {
    /// This rank in every layer; those of a smaller one stay as they are.
    Rank(usize),
    /// In each layer the smallest rank that keeps this share of Σ σ², above 0 up to 1.
    Energy(f64),
    /// These ranks by layer, named as in [`LoraConfig::rank_pattern`]; the others stay as they are.
    /// [`Advice::rank_pattern`](crate::spectrum::Advice::rank_pattern) makes one.
    Pattern(IndexMap<String, usize>),
}

impl Adapters {
    /// Reduces the rank with the least error in the Frobenius and in the spectral norm of ΔW: Σ_{i≤k} σᵢ uᵢ vᵢᵀ (Eckart & Young 1936).
    ///
    /// The new factors are balanced, B = U·√(σ/s) and A = √(σ/s)·Vᵀ with s the scale, which stays: ranks
    /// and alphas are set together in the config. Of a merged layer all parts get the rank of the one that
    /// needs the largest. With DoRA it is B·A that is cut, and the magnitudes stay. Where a start was taken
    /// off (PiSSA) the result is a plain pair. A direction with σ = 0 keeps a row of A and a zero column of
    /// B, so that it can be trained.
    ///
    /// # Errors
    /// When a rank is 0, an energy is not in (0, 1], a pattern fits no layer, or a value is not finite.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::lora::{Adapter, Adapters, Truncation, LoraConfig};
    /// use std::collections::BTreeMap;
    ///
    /// let a = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?;
    /// let b = Tensor::new(&[[4f32, 0.], [0., 1.]], &Device::Cpu)?;
    /// let pair = Adapter::new(a, b, 2.0)?;
    /// let config = LoraConfig { rank: 2, alpha: 4.0, ..Default::default() };
    /// let adapters = Adapters::from_pairs(config, BTreeMap::from([("q_proj".into(), pair)]));
    /// let cut = adapters.truncate(&Truncation::Energy(0.9))?; // 64 of 68
    /// let pair = cut.get("q_proj").unwrap();
    /// assert_eq!((pair.rank(), pair.scale(), cut.config().alpha), (1, 2.0, 2.0));
    /// assert_eq!(pair.delta()?.to_vec2::<f32>()?, [[8., 0.], [0., 0.]]);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn truncate(&self, cut: &Truncation) -> Result<Self> {
        self.truncate_weighted(cut, &BTreeMap::new())
    }

    /// The same with the least error in the outputs, E‖ΔW x − ΔW' x‖², in the layers whose
    /// C = E\[(A x)(A x)ᵀ\] `[r, r]` is given by their path.
    ///
    /// With X = E\[x xᵀ\] the error is ‖(ΔW − ΔW')·X^½‖²_F, which U_k·U_kᵀ·ΔW makes least (Eckart & Young, X^½
    /// on the right of both), where U are the left singular vectors of ΔW·X^½. Those are the left singular
    /// vectors of scale·B·C^½, because both have the same product with their transpose,
    /// scale²·B·A·X·Aᵀ·Bᵀ; neither X nor the inverse of C is needed. What is lost is Σ_{i>k} σᵢ² of the
    /// [weighted spectrum](Spectrum::weighted), and [`Truncation::Energy`] is a share of that one's Σ σ².
    ///
    /// # Errors
    /// As [`truncate`](Self::truncate), and when a C does not fit its adapter, or belongs to none.
    pub fn truncate_weighted(&self, cut: &Truncation, c: &BTreeMap<String, Tensor>) -> Result<Self> {
        self.known(c.keys())?;
        let paths: Vec<&str> = self.iter().map(|(path, _)| path).collect();
        cut.check(&paths)?;
        let mut pairs = BTreeMap::new();
        for (path, pair) in self.iter() {
            let cut = one(path, pair, cut, c.get(path)).map_err(|error| error.layer(path))?;
            pairs.insert(path.to_string(), cut);
        }
        Ok(self.with_pairs(pairs))
    }

    /// Increases the rank and keeps ΔW: adds freshly initialised rows to A and zero columns to B, so that the outputs
    /// are the same and the new directions can be trained. An embedding, whose A begins with
    /// zeros, gets zero rows in A and random columns in B. The scale stays: alpha grows with the rank.
    ///
    /// # Errors
    /// When a layer already has a larger rank, or is too small for this one.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::lora::{Adapters, LoraConfig, Target};
    ///
    /// let config = LoraConfig { rank: 2, alpha: 6.0, ..Default::default() };
    /// let adapters = Adapters::new(&config, &[Target::linear("q_proj", [8, 8])], 0, &Device::Cpu)?;
    /// let grown = adapters.grow(5, 1)?;
    /// assert_eq!((grown.config().rank, grown.config().alpha), (5, 15.0));
    /// assert_eq!(grown.get("q_proj").unwrap().a().dims(), [5, 8]);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn grow(&self, rank: usize, seed: u64) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for (index, (path, pair)) in self.iter().enumerate() {
            // Numbers of their own for each rank that is grown from.
            let mut random = Random::at(seed, Stream::Init, pair.rank() as u64, index as u64);
            let grown =
                grow(pair, rank, self.config().init, &mut random).map_err(|error| error.layer(path))?;
            pairs.insert(path.to_string(), grown);
        }
        Ok(self.with_pairs(pairs))
    }

    /// The same with other pairs of the same scales; ranks and alphas in the config are theirs.
    fn with_pairs(&self, pairs: BTreeMap<String, Adapter>) -> Self {
        let mut config = scaled(self.config(), &pairs);
        if config.init == Init::Pissa && pairs.values().all(|pair| pair.start().is_none()) {
            config.init = Init::Kaiming;
        }
        let whole = self.wholes().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        Self::from_pairs(config, pairs).with_whole(whole).with_foreign(self.foreign().clone())
    }
}

impl Truncation {
    fn check(&self, paths: &[&str]) -> Result<()> {
        match self {
            Self::Rank(0) => Err(Error::input("a cut to rank 0 leaves nothing").help("take rank 1 or more")),
            Self::Energy(share) if !(*share > 0.0 && *share <= 1.0) => {
                Err(Error::input(format!("an energy of {share}"))
                    .help("ask for a share above 0 and up to 1, for example 0.9"))
            }
            Self::Pattern(ranks) => {
                for (name, rank) in ranks {
                    if *rank == 0 {
                        return Err(Error::input(format!("a cut of {name:?} to rank 0 leaves nothing"))
                            .help("take rank 1 or more"));
                    }
                    let only = pattern(name, *rank);
                    let mut fits = false;
                    for path in paths {
                        fits |= only.rank_and_alpha(path)?.0 == *rank;
                    }
                    if !fits {
                        return Err(Error::not_found(format!("no adapter fits the pattern {name:?}"))
                            .help(format!("a path is {}", paths.first().unwrap_or(&""))));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A config in which only the layers of this name have a rank.
fn pattern(name: &str, rank: usize) -> LoraConfig {
    LoraConfig { rank: 0, rank_pattern: IndexMap::from([(name.to_string(), rank)]), ..Default::default() }
}

fn one(path: &str, pair: &Adapter, cut: &Truncation, c: Option<&Tensor>) -> Result<Adapter> {
    let pieces = DeltaPiece::all(path, pair)?;
    let own = |piece: &DeltaPiece| Ok::<_, Error>(c.map(|c| piece.own(c)).transpose()?.flatten());
    let rank = match cut {
        Truncation::Rank(rank) => *rank,
        Truncation::Pattern(ranks) => {
            let named = LoraConfig { rank: 0, rank_pattern: ranks.clone(), ..Default::default() };
            match named.rank_and_alpha(path)?.0 {
                0 => return Ok(pair.clone()),
                rank => rank,
            }
        }
        Truncation::Energy(share) => {
            let mut rank = 1;
            for piece in &pieces {
                let DeltaPiece { name, a, b, scale, .. } = piece;
                let spectrum = match own(piece)? {
                    Some(c) => Spectrum::weighted(name, a, b, *scale, &c)?,
                    None => Spectrum::of(name, a, b, *scale)?,
                };
                rank = rank.max(spectrum.energy_rank(*share)?);
            }
            rank
        }
    };
    if pieces.iter().all(|piece| rank >= piece.a.dims()[0]) {
        return Ok(pair.clone());
    }
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    for piece in &pieces {
        let (a, b) = nearest(piece, rank, own(piece)?.as_ref())?;
        rows.push(a);
        columns.push(b);
    }
    rebuild(pair, Tensor::cat(&rows, 0)?, Tensor::cat(&columns, 0)?)
}

/// A and B of rank k, balanced, with s·B·A nearest to that of the piece; in the outputs where C is known.
fn nearest(piece: &DeltaPiece, rank: usize, c: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let DeltaPiece { name, a, b, scale, .. } = piece;
    let (device, f64s) = (a.device(), |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64));
    let vectors = match c {
        None => Vectors::of(name, a, b, *scale)?,
        Some(c) => {
            let seen = Vectors::weighted(name, b, *scale, c)?;
            let u = seen.u.narrow(1, 0, rank.min(seen.u.dims()[1]))?.contiguous()?; // [out, k]
            let inner = u.t()?.matmul(&f64s(b)?)?.matmul(&f64s(a)?)?; // Uᵀ·B·A, [k, in]
            Vectors::of(name, &inner, &u, *scale)?
        }
    };
    let rank = rank.min(vectors.singular_values.len());
    let values = &vectors.singular_values[..rank];
    let root = |sigma: f64| if sigma == 0.0 { 0.0 } else { (sigma / scale.abs()).sqrt() };
    // A direction of its own length in A, where σ leaves none: the mean length of A's rows.
    let (components, _) = a.dims2()?;
    let length = (f64s(a)?.sqr()?.sum_all()?.to_scalar::<f64>()? / components as f64).sqrt();
    let of_a = values.iter().map(|s| if *s == 0.0 { length } else { root(*s) }).collect::<Vec<_>>();
    let of_b = values.iter().map(|s| root(*s) * scale.signum()).collect::<Vec<_>>();
    let side = |vectors: &Tensor, by: Vec<f64>| {
        vectors.narrow(1, 0, rank)?.broadcast_mul(&Tensor::new(by, &Device::Cpu)?)?.to_dtype(DType::F32)
    };
    let a = side(&vectors.v, of_a)?.t()?.contiguous()?.to_device(device)?;
    Ok((a, side(&vectors.u, of_b)?.contiguous()?.to_device(device)?))
}

/// An adapter of the same kind and scale from other factors; of a merged layer those of its parts in a column.
fn rebuild(pair: &Adapter, a: Tensor, b: Tensor) -> Result<Adapter> {
    match pair.beside() {
        Beside::Embedding => Adapter::embedding(a, b, pair.scale()),
        Beside::Parts(enabled) => Adapter::merged(a, b, enabled, pair.scale()),
        Beside::Linear => {
            let new = Adapter::new(a, b, pair.scale())?;
            match pair.magnitude() {
                Some(magnitude) => new.with_magnitude(magnitude.clone()),
                None => Ok(new),
            }
        }
    }
}

fn grow(pair: &Adapter, rank: usize, init: Init, random: &mut Random) -> Result<Adapter> {
    let old = pair.rank();
    if rank < old {
        return Err(Error::input(format!("rank {old} cannot grow to {rank}"))
            .help("take a larger rank, or truncate(&Truncation::Rank(…))"));
    }
    let (inner, out) = (pair.a().dims()[1], pair.b().dims()[0]);
    let parts = if let Beside::Parts(enabled) = pair.beside() { enabled.len() } else { 1 };
    let most = inner.min(out / parts.max(1));
    if rank > most {
        return Err(Error::input(format!(
            "rank {rank} is more than B·A of {}×{inner} can have",
            out / parts.max(1)
        ))
        .help(format!("take a rank of at most {most}")));
    }
    if rank == old {
        return Ok(pair.clone());
    }
    let more = rank - old;
    let device = pair.a().device();
    let zeros = |rows: usize, columns: usize| Tensor::zeros((rows, columns), DType::F32, device);
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    // The start has the shapes of the pair: nothing is taken off in the new directions.
    let start = match pair.start() {
        None => None,
        Some((a, b)) => Some((
            Tensor::cat(&[a, &zeros(more, inner)?], 0)?,
            Tensor::cat(&[b, &zeros(out, more)?], 1)?.contiguous()?,
        )),
    };
    let embedding = *pair.beside() == Beside::Embedding;
    let plain = pair.clone().without_start();
    for DeltaPiece { a, b, .. } in DeltaPiece::all("", &plain)? {
        let height = b.dims()[0];
        let (new_a, new_b) = if embedding {
            let b: Vec<f32> = (0..height * more).map(|_| random.normal() as f32).collect();
            (zeros(more, inner)?, Tensor::from_vec(b, (height, more), device)?)
        } else {
            let draw = |random: &mut Random| match init {
                Init::Gaussian => random.normal() / rank as f64,
                _ => (2.0 * random.unit() - 1.0) / (inner as f64).sqrt(),
            };
            let a: Vec<f32> = (0..more * inner).map(|_| draw(random) as f32).collect();
            (Tensor::from_vec(a, (more, inner), device)?, zeros(height, more)?)
        };
        rows.push(Tensor::cat(&[&a, &new_a], 0)?);
        columns.push(Tensor::cat(&[&b, &new_b], 1)?.contiguous()?);
    }
    let grown = rebuild(pair, Tensor::cat(&rows, 0)?, Tensor::cat(&columns, 0)?)?;
    match start {
        None => Ok(grown),
        Some((a, b)) => grown.starting_from(a, b),
    }
}
