//! The singular values of one adapter.

use candle_core::Tensor;
use faer::Mat;

use super::factor_matrix::{FactorNumbers, HostNumbers};
use super::layer_place::LayerPlace;
use super::product_svd::{FactorShape, ProductFactors};
use crate::error::{Error, Result};

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
            let shape = FactorShape::of(a.dims(), b.dims())?;
            Self::compute(name, shape, HostNumbers::of(a)?.numbers(), HostNumbers::of(b)?.numbers(), scale)
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
            let shape = FactorShape::of(&[rank, a.len() / rank], &[b.len() / rank, rank])?;
            Self::compute(name, shape, FactorNumbers::Double(a), FactorNumbers::Double(b), scale)
        };
        compute().map_err(|error| error.layer(name))
    }

    /// The spectrum of a matrix itself, whatever it is made of: all min(out, in) singular values, from the
    /// dense decomposition in f64. **Slow**: tens of seconds for 4096×4096, by factors a millisecond. The rank is
    /// that of the shape, the scale 1; each value is exact to a few ε·σ₁.
    ///
    /// # Shapes
    /// `[out, in]`, in any floating-point type, on any device.
    ///
    /// # Errors
    /// When it is no matrix, is empty, or holds a number that is NaN or infinite.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::spectrum::Spectrum;
    ///
    /// let spectrum = Spectrum::of_matrix("q_proj", &Tensor::new(&[[0f32, 3., 0.], [4., 0., 0.]], &Device::Cpu)?)?;
    /// assert!((spectrum.singular_values[0] - 4.0).abs() < 1e-14);
    /// assert!((spectrum.singular_values[1] - 3.0).abs() < 1e-14);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn of_matrix(name: &str, matrix: &Tensor) -> Result<Self> {
        let compute = || {
            let &[out_features, in_features] = matrix.dims() else {
                return Err(Error::input(format!("the matrix is {:?}", matrix.dims()))
                    .help("pass a matrix [out, in]"));
            };
            let host = HostNumbers::of(matrix)?;
            let value = |i: usize, j: usize| match host.numbers() {
                FactorNumbers::Single(values) => f64::from(values[i * in_features + j]),
                FactorNumbers::Double(values) => values[i * in_features + j],
            };
            let matrix = Mat::from_fn(out_features, in_features, value);
            let all = || (0..out_features).flat_map(|i| (0..in_features).map(move |j| (i, j)));
            if let Some((i, j)) = all().find(|at| !matrix[*at].is_finite()) {
                return Err(Error::compute(format!("ΔW[{i}, {j}] is {}", matrix[(i, j)]))
                    .help("the factors, the magnitude or the weight hold such a number"));
            }
            if out_features == 0 || in_features == 0 {
                return Err(Error::input(format!(
                    "the matrix is [{out_features}, {in_features}]: it is empty"
                )));
            }
            let singular_values = matrix.singular_values().map_err(|error| {
                Error::compute(format!("the singular values did not converge ({error:?})"))
            })?;
            let rank = out_features.min(in_features);
            Ok(Self { name: name.to_string(), singular_values, in_features, out_features, rank, scale: 1.0 })
        };
        compute().map_err(|error: Error| error.layer(name))
    }

    fn compute(
        name: &str,
        shape: FactorShape,
        a: FactorNumbers,
        b: FactorNumbers,
        scale: f64,
    ) -> Result<Self> {
        let singular_values = ProductFactors::new(&shape, a, b, scale)?.singular_values()?;
        let FactorShape { in_features, out_features, rank } = shape;
        Ok(Self { name: name.to_string(), singular_values, in_features, out_features, rank, scale })
    }

    /// The layer and the module that the name stands for.
    pub fn place(&self) -> LayerPlace {
        LayerPlace::of(&self.name)
    }
}
