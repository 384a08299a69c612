//! The singular vectors of scale·B·A.

use super::factor_matrix::HostNumbers;
use super::product_svd::{FactorShape, ProductFactors};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};

/// The thin singular value decomposition scale·B·A = U·diag(σ)·Vᵀ of one adapter.
#[derive(Clone)]
pub struct Vectors {
    /// σ₁ ≥ σ₂ ≥ …; k = min(in, out, r) of them.
    pub singular_values: Vec<f64>,
    /// Left singular vectors, [out, k], f64, on the CPU.
    pub u: Tensor,
    /// Right singular vectors, [in, k], f64, on the CPU.
    pub v: Tensor,
    /// A and B, where it is an adapter's: [`Side::A`](super::Side) and `Side::B` are of these.
    pub(super) factors: Option<[Tensor; 2]>,
}

impl Vectors {
    /// U = Q_B·U_core and V = Q_A·V_core; σ are those of [`Spectrum::of`](super::Spectrum::of) to the bit.
    ///
    /// # Shapes
    /// `a` is [r, in], `b` is [out, r], in any floating-point type, on any device.
    ///
    /// # Errors
    /// As [`Spectrum::of`](super::Spectrum::of).
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
            let shape = FactorShape::of(a.dims(), b.dims())?;
            let (host_a, host_b) = (HostNumbers::of(a)?, HostNumbers::of(b)?);
            let svd = ProductFactors::new(&shape, host_a.numbers(), host_b.numbers(), scale)?.svd()?;
            let k = svd.singular_values.len();
            let matrix = |values: Vec<f64>, rows: usize| {
                Tensor::from_vec(values, (k, rows), &Device::Cpu)?.t()?.contiguous()
            };
            Ok(Self {
                u: matrix(svd.u, shape.out_features)?,
                v: matrix(svd.v, shape.in_features)?,
                singular_values: svd.singular_values,
                factors: Some([a.clone(), b.clone()]),
            })
        };
        compute().map_err(|error: Error| error.layer(name))
    }
}
