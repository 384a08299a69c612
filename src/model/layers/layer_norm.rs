//! Layer normalisation with mean and bias.

use crate::error::Result;
use crate::ops::{Kernels, expect, values, vector};
use candle_core::{D, DType, Device, Tensor};

/// y = w ⊙ x̂ + b with x̂ = (x − mean(x)) / √(var(x) + ε), the variance over D without correction
/// (Ba et al. 2016, *Layer Normalization*, eq. 4); w and b are frozen.
///
/// # Shapes
/// x, y `[T, D]`, w and b `[D]`.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::model::layers::LayerNorm;
/// use lorascope::ops::Kernels;
///
/// let row = |a: f32, b: f32| Tensor::new(&[a, b], &Device::Cpu);
/// let norm = LayerNorm::new(row(1., 2.)?, row(0., 10.)?, 1e-5);
/// let x = Tensor::new(&[[3f32, 5.]], &Device::Cpu)?; // mean 4, variance 1
/// let y = norm.forward(&x, Kernels::Fused)?.to_vec2::<f32>()?;
/// assert!((y[0][0] + 1.0).abs() < 1e-4 && (y[0][1] - 12.0).abs() < 1e-4);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// A norm with its weight, its bias and ε.
    pub fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Self {
        Self { weight, bias, epsilon }
    }

    /// w.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// b.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The same norm with another w and b.
    #[must_use]
    pub fn with_weights(&self, weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, epsilon: self.epsilon }
    }

    /// ∂loss/∂w `[D]` for dy = ∂loss/∂y: Σ dy ⊙ x̂ over tokens. That of b is Σ dy.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn weight_gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        Ok((self.unit(x)?.0 * dy.to_dtype(DType::F32)?)?.sum(0)?)
    }

    /// x `[T, D]` to y `[T, D]`.
    ///
    /// # Errors
    /// When x has another width.
    pub fn forward(&self, x: &Tensor, kernels: Kernels) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        expect("w", &self.weight, &[width])?;
        expect("b", &self.bias, &[width])?;
        if kernels == Kernels::Candle {
            let (unit, _) = self.unit(x)?;
            let y = unit.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?;
            return Ok(y.to_dtype(x.dtype())?);
        }
        let (x, w, b) = (values(x)?, values(&self.weight)?, values(&self.bias)?);
        let [x, w, b]: [&[f32]; 3] = [&x, &w, &b];
        let mut y = vec![0f32; rows * width];
        vector::for_rows2(
            &mut y,
            x,
            width,
            #[inline(always)]
            |y, x| {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let (mean, scale) = self.moments(x);
                    for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
                        *y = ((x - mean) * scale).mul_add(*w, *b);
                    }
                }
            },
        );
        Ok(Tensor::from_vec(y, (rows, width), &Device::Cpu)?)
    }

    /// dx for x and dy = ∂loss/∂y. With s = 1/√(var(x) + ε) and g = w ⊙ dy:
    /// dx = s·(g − mean(g) − x̂·mean(g ⊙ x̂)).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward(&self, x: &Tensor, dy: &Tensor, kernels: Kernels) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        expect("w", &self.weight, &[width])?;
        expect("dy", dy, &[rows, width])?;
        if kernels == Kernels::Candle {
            let (unit, scale) = self.unit(x)?;
            let g = dy.to_dtype(DType::F32)?.broadcast_mul(&self.weight)?;
            let along = (&g * &unit)?.mean_keepdim(D::Minus1)?; // [T, 1]
            let mean = g.mean_keepdim(D::Minus1)?;
            let dx = (g.broadcast_sub(&mean)? - unit.broadcast_mul(&along)?)?.broadcast_mul(&scale)?;
            return Ok(dx.to_dtype(x.dtype())?);
        }
        let (x, dy, w) = (values(x)?, values(dy)?, values(&self.weight)?);
        let [x, dy, w]: [&[f32]; 3] = [&x, &dy, &w];
        let mut dx = dy.to_vec();
        vector::for_rows2(
            &mut dx,
            x,
            width,
            #[inline(always)]
            |dx, x| {
                for (dx, x) in dx.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let (mean, scale) = self.moments(x);
                    for (dx, w) in dx.iter_mut().zip(w) {
                        *dx *= w;
                    }
                    let g_mean = vector::sum(dx) / width as f32;
                    let along = vector::dot_from_mean(dx, x, mean) * scale * scale / width as f32;
                    for (dx, x) in dx.iter_mut().zip(x) {
                        *dx = (*dx - g_mean - (x - mean) * along) * scale;
                    }
                }
            },
        );
        Ok(Tensor::from_vec(dx, (rows, width), &Device::Cpu)?)
    }

    /// mean(x) and 1/√(var(x) + ε).
    #[inline(always)]
    fn moments(&self, x: &[f32]) -> (f32, f32) {
        let mean = vector::sum(x) / x.len() as f32;
        let variance = vector::square_from_mean(x, mean) / x.len() as f32;
        (mean, 1.0 / (variance + self.epsilon as f32).sqrt())
    }

    /// x̂ `[T, D]` and 1/√(var(x) + ε) `[T, 1]`, in f32.
    fn unit(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = x.to_dtype(DType::F32)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let scale = (variance + self.epsilon)?.sqrt()?.recip()?;
        Ok((centred.broadcast_mul(&scale)?, scale))
    }
}
