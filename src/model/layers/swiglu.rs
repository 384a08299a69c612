//! The gated activation of the feed-forward layer.

use crate::error::Result;
use crate::ops::{Kernels, expect, values, vector};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// silu(gate) ⊙ up, silu(z) = z·σ(z) (Shazeer 2020, *GLU Variants Improve Transformer*, eq. 5).
/// Computed in f32, whatever the type of gate and up, which y has too.
///
/// # Shapes
/// All `[T, F]`.
///
/// # Errors
/// When the shapes differ.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::model::layers::swiglu;
/// use lorascope::ops::Kernels;
///
/// let gate = Tensor::new(&[[1f32]], &Device::Cpu)?;
/// let up = Tensor::new(&[[2f32]], &Device::Cpu)?;
/// let y = swiglu::forward(&gate, &up, Kernels::Fused)?.to_vec2::<f32>()?;
/// assert!((y[0][0] - 1.462117).abs() < 1e-6); // 2·1·σ(1)
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn forward(gate: &Tensor, up: &Tensor, kernels: Kernels) -> Result<Tensor> {
    expect("up", up, gate.dims())?;
    if kernels == Kernels::Candle {
        let y = (gate.to_dtype(DType::F32)?.silu()? * up.to_dtype(DType::F32)?)?;
        return Ok(y.to_dtype(gate.dtype())?);
    }
    let shape = gate.shape();
    let (gate, up) = (values(gate)?, values(up)?);
    let (gate, up): (&[f32], &[f32]) = (&gate, &up);
    let mut y = up.to_vec();
    vector::for_rows2(
        &mut y,
        gate,
        1,
        #[inline(always)]
        |y, gate| {
            for (y, z) in y.iter_mut().zip(gate) {
                *y *= z * sigmoid(*z);
            }
        },
    );
    Ok(Tensor::from_vec(y, shape, &Device::Cpu)?)
}

/// (dgate, dup) for dy = ∂loss/∂y: dup = dy ⊙ silu(gate), and with s = σ(gate)
/// dgate = dy ⊙ up ⊙ s ⊙ (1 + gate ⊙ (1 − s)).
///
/// # Errors
/// When the shapes differ.
pub fn backward(gate: &Tensor, up: &Tensor, dy: &Tensor, kernels: Kernels) -> Result<(Tensor, Tensor)> {
    expect("up", up, gate.dims())?;
    expect("dy", dy, gate.dims())?;
    if kernels == Kernels::Candle {
        let dtype = gate.dtype();
        let (gate, up, dy) = (gate.to_dtype(DType::F32)?, up.to_dtype(DType::F32)?, dy.to_dtype(DType::F32)?);
        let s = candle_nn::ops::sigmoid(&gate)?;
        let active = (gate * &s)?;
        let dup = (&dy * &active)?.to_dtype(dtype)?;
        let slope = (&s + (active * (1.0 - &s)?)?)?;
        return Ok((((dy * up)? * slope)?.to_dtype(dtype)?, dup));
    }
    const PIECE: usize = 8 * 1024;
    let shape = gate.shape();
    let (gate, up, dy) = (values(gate)?, values(up)?, values(dy)?);
    let (mut dgate, mut dup) = (vec![0f32; gate.len()], vec![0f32; gate.len()]);
    let inputs = gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)).zip(dy.par_chunks(PIECE));
    let outputs = dgate.par_chunks_mut(PIECE).zip(dup.par_chunks_mut(PIECE));
    inputs.zip(outputs).for_each(|(((gate, up), dy), (dgate, dup))| {
        vector::simd(
            #[inline(always)]
            || {
                let inputs = gate.iter().zip(up).zip(dy);
                for (((z, up), dy), (dgate, dup)) in inputs.zip(dgate.iter_mut().zip(dup.iter_mut())) {
                    let s = sigmoid(*z);
                    *dup = dy * z * s;
                    *dgate = dy * up * s * (1.0 + z * (1.0 - s));
                }
            },
        );
    });
    Ok((Tensor::from_vec(dgate, shape, &Device::Cpu)?, Tensor::from_vec(dup, shape, &Device::Cpu)?))
}

#[inline(always)]
fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + vector::exp(-z))
}
