//! The activation of a feed-forward layer without a gate.

use crate::error::Result;
use crate::ops::{Kernels, expect, values, vector};
use candle_core::cpu::erf::erf_f64;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// √(2/π)
const ROOT: f32 = (FRAC_2_SQRT_PI * FRAC_1_SQRT_2) as f32;
const CUBE: f32 = 0.044_715;

/// x·Φ(x), Φ the distribution of a standard normal number (Hendrycks & Gimpel 2016, *Gaussian Error
/// Linear Units*, §2), in one of the two forms that models were trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// ½·x·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³): `gelu_new`, `gelu_pytorch_tanh`.
    Tanh,
    /// ½·x·(1 + erf(x/√2)): `gelu`.
    Erf,
}

impl Gelu {
    /// x to y in the same shape and type, computed in f32.
    ///
    /// # Errors
    /// When x is not contiguous.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::model::layers::Gelu;
    /// use lorascope::ops::Kernels;
    ///
    /// let x = Tensor::new(&[[1f32]], &Device::Cpu)?;
    /// let y = Gelu::Tanh.forward(&x, Kernels::Fused)?.to_vec2::<f32>()?;
    /// assert!((y[0][0] - 0.841192).abs() < 1e-6);
    /// let y = Gelu::Erf.forward(&x, Kernels::Fused)?.to_vec2::<f32>()?;
    /// assert!((y[0][0] - 0.841345).abs() < 1e-6);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn forward(self, x: &Tensor, kernels: Kernels) -> Result<Tensor> {
        if kernels == Kernels::Candle {
            let wide = x.to_dtype(DType::F32)?;
            let y = match self {
                Self::Tanh => wide.gelu()?,
                Self::Erf => wide.gelu_erf()?,
            };
            return Ok(y.to_dtype(x.dtype())?);
        }
        let shape = x.shape();
        let mut y = values(x)?.to_vec();
        match self {
            Self::Tanh => vector::for_rows(
                &mut y,
                1,
                #[inline(always)]
                |_, y| y.iter_mut().for_each(|x| *x *= tanh_gate(*x)),
            ),
            Self::Erf => vector::for_rows(&mut y, 1, |_, y| {
                y.iter_mut().for_each(|x| *x = (f64::from(*x) * normal(f64::from(*x))) as f32)
            }),
        }
        Ok(Tensor::from_vec(y, shape, &Device::Cpu)?)
    }

    /// dx for x and dy = ∂loss/∂y. The tanh form is x·σ(2u), whose slope with s = σ(2u) is
    /// s + 2x·s·(1 − s)·u′; that of the exact form is Φ(x) + x·φ(x).
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn backward(self, x: &Tensor, dy: &Tensor, kernels: Kernels) -> Result<Tensor> {
        expect("dy", dy, x.dims())?;
        if kernels == Kernels::Candle {
            let dtype = x.dtype();
            let (x, dy) = (&x.to_dtype(DType::F32)?, dy.to_dtype(DType::F32)?);
            let slope = match self {
                Self::Tanh => {
                    let square = x.sqr()?;
                    let u = (x * ((&square * f64::from(CUBE))? + 1.0)?)?;
                    let s = ((u * (-2.0 * f64::from(ROOT)))?.exp()? + 1.0)?.recip()?;
                    let du = (((square * (3.0 * f64::from(CUBE)))? + 1.0)? * (2.0 * f64::from(ROOT)))?;
                    (&s + (((x * &s)? * (1.0 - &s)?)? * du)?)?
                }
                Self::Erf => {
                    let whole = ((x * FRAC_1_SQRT_2)?.erf()? + 1.0)?;
                    let density = ((x.sqr()? * -0.5)?.exp()? * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0))?;
                    ((whole * 0.5)? + (x * density)?)?
                }
            };
            return Ok((dy * slope)?.to_dtype(dtype)?);
        }
        let shape = x.shape();
        let (x, mut dx) = (values(x)?, values(dy)?.to_vec());
        match self {
            Self::Tanh => vector::for_rows2(
                &mut dx,
                &x,
                1,
                #[inline(always)]
                |dx, x| {
                    for (dx, x) in dx.iter_mut().zip(x) {
                        let s = tanh_gate(*x);
                        let du = 2.0 * ROOT * (3.0 * CUBE * x).mul_add(*x, 1.0);
                        *dx *= (x * s * (1.0 - s)).mul_add(du, s);
                    }
                },
            ),
            Self::Erf => vector::for_rows2(&mut dx, &x, 1, |dx, x| {
                for (dx, x) in dx.iter_mut().zip(x) {
                    let x = f64::from(*x);
                    let density = (-0.5 * x * x).exp() * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0;
                    *dx = (f64::from(*dx) * (normal(x) + x * density)) as f32;
                }
            }),
        }
        Ok(Tensor::from_vec(dx, shape, &Device::Cpu)?)
    }
}

/// ½·(1 + tanh u) = σ(2u).
#[inline(always)]
fn tanh_gate(x: f32) -> f32 {
    let u = ROOT * x * (CUBE * x).mul_add(x, 1.0);
    1.0 / (1.0 + vector::exp(-2.0 * u))
}

/// Φ(x) = ½·(1 + erf(x/√2)).
fn normal(x: f64) -> f64 {
    0.5 * (1.0 + erf_f64(x * FRAC_1_SQRT_2))
}
