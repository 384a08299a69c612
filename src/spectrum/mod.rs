//! Singular value spectra of scale·B·A, computed without forming B·A.
//!
//! With B = Q_B·R_B and Aᵀ = Q_A·R_A the product is Q_B·(R_B·R_Aᵀ)·Q_Aᵀ, so its singular values
//! are those of the r×r core R_B·R_Aᵀ, in f64. A 4096×4096 module of rank 16 costs two QR
//! decompositions of 4096×16 and one decomposition of 16×16.
//!
//! Shapes: r rank, A `[r, in]`, B `[out, r]`, scale = alpha/r (alpha/√r for rsLoRA).

mod factor;
mod gram;
mod householder;
mod jacobi;
mod place;
mod spectra;
mod tall;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use factor::{Factors, Shape};
pub use place::Place;
pub use spectra::Spectra;
use tall::{Host, Numbers};

/// The singular values of one adapter's scale·B·A, and what they say about its rank.
///
/// # Examples
/// ```
/// use lorascope::spectrum::Spectrum;
///
/// // B = diag(3, 4) and A = identity, scale 2: the singular values are 8 and 6.
/// let spectrum =
///     Spectrum::from_slices("layers.0.q_proj", &[1.0, 0.0, 0.0, 1.0], &[3.0, 0.0, 0.0, 4.0], 2, 2.0)?;
/// assert!((spectrum.singular_values[0] - 8.0).abs() < 1e-14);
/// assert!((spectrum.frobenius_norm() - 10.0).abs() < 1e-14);
/// assert!((spectrum.stable_rank() - 100.0 / 64.0).abs() < 1e-14);
/// assert_eq!(spectrum.energy_rank(0.9)?, 2);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spectrum {
    /// The module's path in the model: `model.layers.3.self_attn.q_proj`.
    pub name: String,
    /// σ₁ ≥ σ₂ ≥ … of scale·B·A; min(in, out, r) of them.
    pub singular_values: Vec<f64>,
    /// Columns of A.
    pub in_features: usize,
    /// Rows of B.
    pub out_features: usize,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// The factor before B·A.
    pub scale: f64,
}

impl Spectrum {
    /// The spectrum of scale·B·A.
    ///
    /// # Shapes
    /// `a` is [r, in], `b` is [out, r], in any floating-point type, on any device.
    ///
    /// # Errors
    /// When the shapes do not fit, a number is NaN or infinite, or a tensor cannot be read. The
    /// error names the adapter.
    pub fn of(name: &str, a: &Tensor, b: &Tensor, scale: f64) -> Result<Self> {
        let compute = || {
            let shape = Shape::of(a.dims(), b.dims())?;
            Self::compute(name, shape, Host::of(a)?.numbers(), Host::of(b)?.numbers(), scale)
        };
        compute().map_err(|error| error.layer(name))
    }

    /// The spectrum of scale·B·A from rows of numbers.
    ///
    /// # Shapes
    /// `a` is [rank, in] and `b` is [out, rank], both row by row.
    ///
    /// # Errors
    /// When a length is no multiple of the rank, or a number is NaN or infinite.
    pub fn from_slices(name: &str, a: &[f64], b: &[f64], rank: usize, scale: f64) -> Result<Self> {
        let compute = || {
            if rank == 0 || !a.len().is_multiple_of(rank) || !b.len().is_multiple_of(rank) {
                return Err(Error::input(format!(
                    "A has {} numbers and B has {}, no multiples of the rank {rank}",
                    a.len(),
                    b.len()
                ))
                .help("pass A [rank, in] and B [out, rank]"));
            }
            let shape = Shape::of(&[rank, a.len() / rank], &[b.len() / rank, rank])?;
            Self::compute(name, shape, Numbers::Double(a), Numbers::Double(b), scale)
        };
        compute().map_err(|error| error.layer(name))
    }

    fn compute(name: &str, shape: Shape, a: Numbers, b: Numbers, scale: f64) -> Result<Self> {
        let singular_values = Factors::new(&shape, a, b, scale)?.singular_values()?;
        let Shape { in_features, out_features, rank } = shape;
        Ok(Self { name: name.to_string(), singular_values, in_features, out_features, rank, scale })
    }

    /// The layer and the module that the name stands for.
    pub fn place(&self) -> Place {
        Place::of(&self.name)
    }

    /// ‖·‖₂ = σ₁.
    pub fn spectral_norm(&self) -> f64 {
        self.singular_values.first().copied().unwrap_or(0.0)
    }

    /// ‖·‖_F = √(Σ σᵢ²).
    pub fn frobenius_norm(&self) -> f64 {
        self.spectral_norm() * self.stable_rank().sqrt()
    }

    /// Effective rank: exp(H(p)) with p = σ/Σσ and H(p) = -Σ pᵢ ln pᵢ (Roy & Vetterli 2007, "The
    /// effective rank", section 2). Between 1 and r; 0 for a zero matrix.
    pub fn effective_rank(&self) -> f64 {
        let first = self.spectral_norm();
        if first == 0.0 {
            return 0.0;
        }
        let sum: f64 = self.singular_values.iter().map(|s| s / first).sum();
        let entropy: f64 = self
            .singular_values
            .iter()
            .map(|s| s / first / sum)
            .filter(|&p| p > 0.0)
            .map(|p| -p * p.ln())
            .sum();
        entropy.exp()
    }

    /// Stable rank: ‖·‖_F²/σ₁² = Σ σᵢ²/σ₁² (Rudelson & Vershynin 2007, "Sampling from large
    /// matrices", section 1). Between 1 and r; 0 for a zero matrix.
    pub fn stable_rank(&self) -> f64 {
        let first = self.spectral_norm();
        if first == 0.0 {
            return 0.0;
        }
        self.singular_values.iter().map(|s| (s / first).powi(2)).sum()
    }

    /// Energy of the first k directions: Σ_{i≤k} σᵢ² / Σ σᵢ², the share of ‖·‖_F² that the best
    /// rank-k matrix keeps (Eckart & Young 1936). 1 for a zero matrix, which is kept whole by any k.
    pub fn energy(&self, k: usize) -> f64 {
        self.cumulative_energy().take(k).last().unwrap_or(if self.spectral_norm() == 0.0 { 1.0 } else { 0.0 })
    }

    /// Energy rank: the smallest k with Σ_{i≤k} σᵢ² ≥ share·Σ σᵢ². 0 for a zero matrix.
    ///
    /// # Errors
    /// When the share is not in (0, 1].
    pub fn energy_rank(&self, share: f64) -> Result<usize> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::input(format!("an energy of {share}"))
                .help("ask for a share above 0 and up to 1, for example 0.9"));
        }
        if self.spectral_norm() == 0.0 {
            return Ok(0);
        }
        // σ = (3, 1) keeps exactly 0.9 in one direction; rounding must not make it two.
        let enough = share - 1e-12;
        Ok(1 + self.cumulative_energy().take_while(|&energy| energy < enough).count())
    }

    /// Σ_{i≤k} σᵢ² / Σ σᵢ² for k = 1, 2, …, exactly 1 at the end.
    fn cumulative_energy(&self) -> impl Iterator<Item = f64> {
        let first = self.spectral_norm();
        let square = move |s: &f64| if first == 0.0 { 0.0 } else { (s / first).powi(2) };
        // Summed in the same order, so that the last share is the total by itself.
        let total: f64 = self.singular_values.iter().map(square).sum();
        self.singular_values.iter().scan(0.0, move |sum, s| {
            *sum += square(s);
            Some(if total == 0.0 { 1.0 } else { *sum / total })
        })
    }
}

/// The thin singular value decomposition scale·B·A = U·diag(σ)·Vᵀ of one adapter.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// σ₁ ≥ σ₂ ≥ …; k = min(in, out, r) of them.
    pub singular_values: Vec<f64>,
    /// Left singular vectors, [out, k], f64, on the CPU.
    pub u: Tensor,
    /// Right singular vectors, [in, k], f64, on the CPU.
    pub v: Tensor,
}

impl Vectors {
    /// U = Q_B·U_core and V = Q_A·V_core, from the same decomposition as [`Spectrum::of`].
    ///
    /// # Shapes
    /// `a` is [r, in], `b` is [out, r], in any floating-point type, on any device.
    ///
    /// # Errors
    /// As [`Spectrum::of`].
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::spectrum::Vectors;
    ///
    /// let a = Tensor::new(&[[0f32, 3.0, 0.0]], &Device::Cpu)?;
    /// let b = Tensor::new(&[[2f32], [0.0]], &Device::Cpu)?;
    /// let vectors = Vectors::of("q_proj", &a, &b, 1.0)?;
    /// assert!((vectors.singular_values[0] - 6.0).abs() < 1e-14);
    /// assert_eq!((vectors.u.dims(), vectors.v.dims()), (&[2, 1][..], &[3, 1][..]));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn of(name: &str, a: &Tensor, b: &Tensor, scale: f64) -> Result<Self> {
        let compute = || {
            let shape = Shape::of(a.dims(), b.dims())?;
            let (host_a, host_b) = (Host::of(a)?, Host::of(b)?);
            let svd = Factors::new(&shape, host_a.numbers(), host_b.numbers(), scale)?.svd()?;
            let k = svd.singular_values.len();
            let matrix = |values: Vec<f64>, rows: usize| {
                Tensor::from_vec(values, (k, rows), &Device::Cpu)?.t()?.contiguous()
            };
            Ok(Self {
                u: matrix(svd.u, shape.out_features)?,
                v: matrix(svd.v, shape.in_features)?,
                singular_values: svd.singular_values,
            })
        };
        compute().map_err(|error: Error| error.layer(name))
    }
}
