//! Rotary position embedding, and the conversion between token-major and head-major layout.

use super::frequencies::{Frequencies, FrequencyScaling};
use crate::error::{Error, Result};
use crate::ops::{Kernels, values, vector};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// Rotates the pair (j, j + W/2) of each head by the angle p·θ^(−2j/W), p the token's position in
/// its own row (Su et al. 2021, *RoFormer*, eq. 34; the pairs are Hugging Face's halves).
///
/// The forward pass also converts `[T, H·W]`, the output of a projection, into `[H, T, W]`, the input of attention;
/// the backward pass converts the gradient back. Values are not rotated but change their layout the same
/// way ([`split_heads`], [`merge_heads`]).
#[derive(Debug, Clone)]
pub struct Rotary {
    cos: Tensor, // [T, W/2]
    sin: Tensor, // [T, W/2]
}

impl Rotary {
    /// The angles for tokens at these positions.
    ///
    /// # Errors
    /// When θ is no positive number or the device fails.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::model::layers::Rotary;
    /// use lorascope::ops::Kernels;
    ///
    /// let rotary = Rotary::new(&[0, 1], 2, 10_000.0, &Device::Cpu)?;
    /// let x = Tensor::new(&[[1f32, 0.], [1., 0.]], &Device::Cpu)?; // T = 2, one head, W = 2
    /// let y = rotary.forward(&x, 1, Kernels::Fused)?.flatten_all()?.to_vec1::<f32>()?;
    /// assert!((y[2] - 1f32.cos()).abs() < 1e-6 && (y[3] - 1f32.sin()).abs() < 1e-6);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn new(positions: &[u32], head_width: usize, theta: f64, device: &Device) -> Result<Self> {
        let plain = Frequencies { theta, scaling: FrequencyScaling::None };
        Self::with(positions, &plain.of(head_width)?, device)
    }

    /// The angles for tokens at these positions with these [frequencies](Frequencies::of) of the pairs of a head.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with(positions: &[u32], frequencies: &[f64], device: &Device) -> Result<Self> {
        let angles = positions.iter().flat_map(|p| frequencies.iter().map(move |f| f64::from(*p) * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        let shape = (positions.len(), frequencies.len());
        Ok(Self { cos: Tensor::from_vec(cos, shape, device)?, sin: Tensor::from_vec(sin, shape, device)? })
    }

    /// The same angles on a device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { cos: self.cos.to_device(device)?, sin: self.sin.to_device(device)? })
    }

    /// x `[T, H·W]` to y `[H, T, W]`, rotated.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor, heads: usize, kernels: Kernels) -> Result<Tensor> {
        if kernels == Kernels::Candle {
            return self.rotate(&split_heads(x, heads, kernels)?, 1.0);
        }
        let (tokens, all) = x.dims2()?;
        self.check(tokens, head_width(all, heads)?)?;
        rearrange(
            x,
            heads,
            Some(self),
            #[inline(always)]
            |x, y, rotation| {
                let half = y.len() / 2;
                if let Some((cos, sin)) = rotation {
                    let (x1, x2) = x.split_at(half);
                    let (y1, y2) = y.split_at_mut(half);
                    for j in 0..half {
                        y1[j] = x1[j] * cos[j] - x2[j] * sin[j];
                        y2[j] = x2[j] * cos[j] + x1[j] * sin[j];
                    }
                }
            },
        )
    }

    /// dy `[H, T, W]` to dx `[T, H·W]`: the rotation by the opposite angles.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward(&self, dy: &Tensor, kernels: Kernels) -> Result<Tensor> {
        if kernels == Kernels::Candle {
            return merge_heads(&self.rotate(dy, -1.0)?, kernels);
        }
        let (_, tokens, width) = dy.dims3()?;
        self.check(tokens, width)?;
        rearrange_back(
            dy,
            Some(self),
            #[inline(always)]
            |dy, dx, rotation| {
                let half = dx.len() / 2;
                if let Some((cos, sin)) = rotation {
                    let (dy1, dy2) = dy.split_at(half);
                    let (dx1, dx2) = dx.split_at_mut(half);
                    for j in 0..half {
                        dx1[j] = dy1[j] * cos[j] + dy2[j] * sin[j];
                        dx2[j] = dy2[j] * cos[j] - dy1[j] * sin[j];
                    }
                }
            },
        )
    }

    /// Rotates `[H, T, W]` in candle's operations, in f32; a sign of −1 turns the other way.
    fn rotate(&self, x: &Tensor, sign: f64) -> Result<Tensor> {
        let (_, tokens, width) = x.dims3()?;
        self.check(tokens, width)?;
        if tokens == 0 {
            return Ok(x.clone());
        }
        let sin = if sign < 0.0 { self.sin.neg()? } else { self.sin.clone() };
        let y = candle_nn::rotary_emb::rope(
            &x.to_dtype(DType::F32)?.contiguous()?.unsqueeze(0)?,
            &self.cos,
            &sin,
        )?;
        Ok(y.squeeze(0)?.to_dtype(x.dtype())?)
    }

    fn check(&self, tokens: usize, width: usize) -> Result<()> {
        if self.cos.dims() != [tokens, width / 2] || !width.is_multiple_of(2) {
            return Err(Error::compute(format!(
                "angles for {:?} (tokens, pairs), got {tokens} tokens with heads of {width}",
                self.cos.dims()
            )));
        }
        Ok(())
    }
}

/// `[T, H·W]` to `[H, T, W]`.
///
/// # Errors
/// When the width is no multiple of the heads.
pub fn split_heads(x: &Tensor, heads: usize, kernels: Kernels) -> Result<Tensor> {
    if kernels == Kernels::Candle {
        let (tokens, width) = x.dims2()?;
        let shape = (tokens, heads, head_width(width, heads)?);
        return Ok(x.reshape(shape)?.transpose(0, 1)?.contiguous()?);
    }
    rearrange(x, heads, None, |x, y, _| y.copy_from_slice(x))
}

/// `[H, T, W]` to `[T, H·W]`.
///
/// # Errors
/// When x does not have three dimensions.
pub fn merge_heads(x: &Tensor, kernels: Kernels) -> Result<Tensor> {
    if kernels == Kernels::Candle {
        let (heads, tokens, width) = x.dims3()?;
        return Ok(x.transpose(0, 1)?.contiguous()?.reshape((tokens, heads * width))?);
    }
    rearrange_back(x, None, |x, y, _| y.copy_from_slice(x))
}

fn head_width(all: usize, heads: usize) -> Result<usize> {
    match all.checked_div(heads) {
        Some(width) if width > 0 && width * heads == all => Ok(width),
        _ => Err(Error::compute(format!("a width of {all} cannot be split into {heads} heads"))),
    }
}

type Angles<'a> = Option<(&'a [f32], &'a [f32])>;

/// Copies `[T, H·W]` into `[H, T, W]` head row by head row through `copy(from, to, angles)`.
fn rearrange(
    x: &Tensor,
    heads: usize,
    rotary: Option<&Rotary>,
    copy: impl Fn(&[f32], &mut [f32], Angles) + Sync,
) -> Result<Tensor> {
    let (tokens, all) = x.dims2()?;
    let width = head_width(all, heads)?;
    if tokens == 0 {
        return Ok(Tensor::zeros((heads, 0, width), DType::F32, &Device::Cpu)?);
    }
    let x = values(x)?;
    let x: &[f32] = &x;
    let angles = rotary.map(|r| Ok::<_, Error>((values(&r.cos)?, values(&r.sin)?))).transpose()?;
    let angles = angles.as_ref().map(|(cos, sin)| (&**cos, &**sin));
    let mut y = vec![0f32; tokens * all];
    y.par_chunks_mut(tokens * width).enumerate().for_each(|(h, y)| {
        vector::simd(
            #[inline(always)]
            || {
                for (t, y) in y.chunks_exact_mut(width).enumerate() {
                    let from = t * all + h * width;
                    copy(&x[from..from + width], y, at(angles, t, width / 2));
                }
            },
        );
    });
    Ok(Tensor::from_vec(y, (heads, tokens, width), &Device::Cpu)?)
}

/// Copies `[H, T, W]` into `[T, H·W]` the same way.
fn rearrange_back(
    x: &Tensor,
    rotary: Option<&Rotary>,
    copy: impl Fn(&[f32], &mut [f32], Angles) + Sync,
) -> Result<Tensor> {
    let (heads, tokens, width) = x.dims3()?;
    let all = heads * width;
    let x = values(x)?;
    let x: &[f32] = &x;
    let angles = rotary.map(|r| Ok::<_, Error>((values(&r.cos)?, values(&r.sin)?))).transpose()?;
    let angles = angles.as_ref().map(|(cos, sin)| (&**cos, &**sin));
    let mut y = vec![0f32; tokens * all];
    vector::for_rows(
        &mut y,
        all,
        #[inline(always)]
        |first, y| {
            for (t, y) in (first..).zip(y.chunks_exact_mut(all)) {
                for (h, y) in y.chunks_exact_mut(width).enumerate() {
                    let from = (h * tokens + t) * width;
                    copy(&x[from..from + width], y, at(angles, t, width / 2));
                }
            }
        },
    );
    Ok(Tensor::from_vec(y, (tokens, all), &Device::Cpu)?)
}

fn at<'a>(angles: Option<(&'a [f32], &'a [f32])>, token: usize, half: usize) -> Angles<'a> {
    angles.map(|(cos, sin)| (&cos[token * half..(token + 1) * half], &sin[token * half..(token + 1) * half]))
}
