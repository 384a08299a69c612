//! Root mean square layer normalisation.

use crate::error::{Error, Result};
use crate::ops::{Kernels, expect, values, vector};
use candle_core::{D, DType, Device, Tensor};

/// y = w ⊙ x / √(mean(x²) + ε) (Zhang & Sennrich 2019, *Root Mean Square Layer Normalization*,
/// eq. 4); w is frozen.
///
/// # Shapes
/// x, y `[T, D]`, w `[D]`.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::model::layers::RmsNorm;
/// use lorascope::ops::Kernels;
///
/// let norm = RmsNorm::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?, 1e-5);
/// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?; // mean square 12.5
/// let y = norm.forward(&x, Kernels::Fused)?.to_vec2::<f32>()?;
/// assert!((y[0][0] - 0.8485).abs() < 1e-4 && (y[0][1] - 2.2627).abs() < 1e-4);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    /// A norm with its weight and ε.
    pub fn new(weight: Tensor, epsilon: f64) -> Self {
        Self { weight, epsilon }
    }

    /// w.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The same norm with another w.
    #[must_use]
    pub fn with_weight(&self, weight: Tensor) -> Self {
        Self { weight, epsilon: self.epsilon }
    }

    /// ∂loss/∂w `[D]` for dy = ∂loss/∂y: Σ dy ⊙ x / √(mean(x²) + ε), over tokens, and over heads where
    /// x is `[T, H·D]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn weight_gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let (x, dy) = (self.heads(x)?, self.heads(dy)?);
        let normed = x.to_dtype(DType::F32)?.broadcast_mul(&self.inverse_root(&x)?)?;
        Ok((normed * dy.to_dtype(DType::F32)?)?.sum(0)?)
    }

    /// x `[T, D]` to y `[T, D]`.
    ///
    /// # Errors
    /// When x has another width.
    pub fn forward(&self, x: &Tensor, kernels: Kernels) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        expect("w", &self.weight, &[width])?;
        if kernels == Kernels::Candle {
            if rows == 0 {
                return Ok(x.clone());
            }
            let wide = x.to_dtype(DType::F32)?.contiguous()?;
            let y = candle_nn::ops::rms_norm(&wide, &self.weight, self.epsilon as f32)?;
            return Ok(y.to_dtype(x.dtype())?);
        }
        let (x, w) = (values(x)?, values(&self.weight)?);
        let (x, w): (&[f32], &[f32]) = (&x, &w);
        let mut y = vec![0f32; rows * width];
        vector::for_rows2(
            &mut y,
            x,
            width,
            #[inline(always)]
            |y, x| {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let scale = self.scale(x);
                    for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                        *y = x * scale * w;
                    }
                }
            },
        );
        Ok(Tensor::from_vec(y, (rows, width), &Device::Cpu)?)
    }

    /// dx for x and dy = ∂loss/∂y. With s = 1/√(mean(x²) + ε) and g = w ⊙ dy:
    /// dx = s·g − x·s³·Σ(g ⊙ x)/D.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, kernels: Kernels) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        expect("w", &self.weight, &[width])?;
        expect("dy", dy, &[rows, width])?;
        if kernels == Kernels::Candle {
            let dtype = x.dtype();
            let s = self.inverse_root(x)?; // [T, 1]
            let x = x.to_dtype(DType::F32)?;
            let g = dy.to_dtype(DType::F32)?.broadcast_mul(&self.weight)?;
            let along = ((&g * &x)?.sum_keepdim(D::Minus1)? * (s.powf(3.0)? / width as f64)?)?;
            let dx = (g.broadcast_mul(&s)? - x.broadcast_mul(&along)?)?;
            return Ok(dx.to_dtype(dtype)?);
        }
        let (x, dy, w) = (values(x)?, values(dy)?, values(&self.weight)?);
        let (x, dy, w): (&[f32], &[f32], &[f32]) = (&x, &dy, &w);
        let mut dx = dy.to_vec();
        vector::for_rows2(
            &mut dx,
            x,
            width,
            #[inline(always)]
            |dx, x| {
                for (dx, x) in dx.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let s = self.scale(x);
                    let along = s * s * s * vector::dot3(dx, x, w) / width as f32;
                    for ((dx, x), w) in dx.iter_mut().zip(x).zip(w) {
                        *dx = *dx * w * s - x * along;
                    }
                }
            },
        );
        Ok(Tensor::from_vec(dx, (rows, width), &Device::Cpu)?)
    }

    /// The norm of each head by itself, x `[T, H·W]` to y `[T, H·W]` with w `[W]`: Qwen3's norm of
    /// queries and keys before they are rotated (Yang et al. 2025, *Qwen3 Technical Report*, §2).
    ///
    /// # Errors
    /// When the width is no multiple of W.
    pub fn forward_heads(&self, x: &Tensor, kernels: Kernels) -> Result<Tensor> {
        Ok(self.forward(&self.heads(x)?, kernels)?.reshape(x.dims())?)
    }

    /// dx `[T, H·W]` of [`forward_heads`](Self::forward_heads).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward_heads(&self, x: &Tensor, dy: &Tensor, kernels: Kernels) -> Result<Tensor> {
        expect("dy", dy, x.dims())?;
        Ok(self.backward(&self.heads(x)?, &self.heads(dy)?, kernels)?.reshape(x.dims())?)
    }

    /// `[T, H·W]` to `[T·H, W]`, without a copy.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let ((tokens, all), width) = (x.dims2()?, self.weight.dims1()?);
        if width == 0 || !all.is_multiple_of(width) {
            return Err(Error::compute(format!("a width of {all} cannot be split into heads of {width}")));
        }
        Ok(x.reshape((tokens * (all / width), width))?)
    }

    #[inline(always)]
    fn scale(&self, x: &[f32]) -> f32 {
        1.0 / (vector::dot(x, x) / x.len() as f32 + self.epsilon as f32).sqrt()
    }

    /// 1/√(mean(x²) + ε), `[T, 1]`.
    fn inverse_root(&self, x: &Tensor) -> Result<Tensor> {
        let square = x.to_dtype(DType::F32)?.sqr()?.mean_keepdim(D::Minus1)?;
        Ok((square + self.epsilon)?.sqrt()?.recip()?)
    }
}
