//! The head and the cross-entropy over trained tokens.

use crate::error::{Error, Result};
use crate::model::weight::Weight;
use crate::ops::matmul::{Form, parallel, product};
use crate::ops::{Kernels, expect, values, vector};
use candle_core::{D, DType, Device, Tensor};
use faer::Accum;
use rayon::prelude::*;

/// Bytes of logits that are held at a time. The matrix of all tokens and the whole vocabulary, for
/// a thousand tokens 200 MB and as much again for its gradient, is never built.
const LOGITS: usize = 32 << 20;
/// The same on a GPU, where a product of few rows would wait for the head's weights.
const LOGITS_OF_GPU: usize = 256 << 20;

/// −ln softmax(E h)ₜ for each row h and its target t, E the head.
///
/// Only rows with a target are passed: the logits of others are never computed. Sums are for the caller,
/// in f64. The products are in the type of `hidden`, softmax and loss in f32.
///
/// # Shapes
/// `hidden` `[n, D]`, after the last norm; n targets; `head` `[V, D]`; n losses.
///
/// # Errors
/// When the numbers of rows and targets or the widths of rows and head differ, or a target is
/// outside the vocabulary.
pub fn forward(hidden: &Tensor, targets: &[u32], head: &Weight, kernels: Kernels) -> Result<Vec<f32>> {
    Ok(run(hidden, targets, head, None, kernels, None, &|| true)?.0)
}

/// The same losses, and ∂(scale·Σ losses)/∂h. With p = softmax(E h): scale·Eᵀ(p − onehot(target)). The scale
/// is one over the number of trained tokens of the whole batch.
///
/// # Errors
/// As [`forward`].
pub fn forward_backward(
    hidden: &Tensor,
    targets: &[u32],
    head: &Weight,
    scale: f64,
    kernels: Kernels,
) -> Result<(Vec<f32>, Tensor)> {
    forward_backward_with(hidden, targets, head, scale, kernels, None, &|| true)
}

/// What is done with some rows h and ∂(scale·Σ losses)/∂logits of them, `[n, V]`.
pub(crate) type OnLogits<'a> = &'a mut dyn FnMut(&Tensor, &Tensor) -> Result<()>;

/// The same, and `on_logits` sees the gradient of the logits piece by piece: for a head that is
/// trained itself. `go_on` is asked between pieces: the head is the longest product of a step.
pub(crate) fn forward_backward_with(
    hidden: &Tensor,
    targets: &[u32],
    head: &Weight,
    scale: f64,
    kernels: Kernels,
    on_logits: Option<OnLogits>,
    go_on: &dyn Fn() -> bool,
) -> Result<(Vec<f32>, Tensor)> {
    let (losses, gradient) = run(hidden, targets, head, Some(scale), kernels, on_logits, go_on)?;
    Ok((losses, gradient.ok_or_else(|| Error::compute("no gradient"))?))
}

fn run(
    hidden: &Tensor,
    targets: &[u32],
    head: &Weight,
    scale: Option<f64>,
    kernels: Kernels,
    mut on_logits: Option<OnLogits>,
    go_on: &dyn Fn() -> bool,
) -> Result<(Vec<f32>, Option<Tensor>)> {
    let rows = hidden.dims2()?.0;
    let [vocabulary, width] = head.shape();
    expect("hidden", hidden, &[rows, width])?;
    if rows != targets.len() {
        return Err(Error::compute(format!("{rows} rows and {} targets", targets.len())));
    }
    if let Some(target) = targets.iter().find(|t| **t as usize >= vocabulary) {
        return Err(Error::input(format!("token {target} is not in a vocabulary of {vocabulary}")));
    }
    let head = head.expand_as(hidden.dtype())?;
    let logits = if hidden.device().is_cpu() { LOGITS } else { LOGITS_OF_GPU };
    let piece = (logits / 4 / vocabulary).clamp(1, rows.max(1));
    if kernels == Kernels::Candle {
        return run_candle(hidden, targets, &head, scale, piece, on_logits, go_on);
    }

    let (hidden, head) = (values(hidden)?, values(&head)?);
    let (hidden, head): (&[f32], &[f32]) = (&hidden, &head);
    let mut losses = vec![0f32; rows];
    let mut logits = vec![0f32; piece * vocabulary];
    let mut gradient = scale.map(|_| vec![0f32; rows * width]);
    for start in (0..rows).step_by(piece) {
        asked(go_on)?;
        let count = piece.min(rows - start);
        let h = &hidden[start * width..(start + count) * width];
        let logits = &mut logits[..count * vocabulary];
        let par = parallel(count * width * vocabulary);
        let e = (head, (vocabulary, width));
        product(logits, Accum::Replace, (h, (count, width)), e, Form::RightTransposed, 1.0, par);
        logits
            .par_chunks_exact_mut(vocabulary)
            .zip(&targets[start..start + count])
            .zip(&mut losses[start..start + count])
            .for_each(|((logits, target), loss)| {
                vector::simd(
                    #[inline(always)]
                    || {
                        let at_target = logits[*target as usize];
                        let largest = vector::max(logits);
                        let total = vector::exp_sum(logits, largest);
                        if let Some(scale) = scale {
                            let factor = scale as f32 / total;
                            for p in logits.iter_mut() {
                                *p *= factor;
                            }
                            logits[*target as usize] -= scale as f32;
                        }
                        *loss = ((total as f64).ln() + largest as f64 - at_target as f64) as f32;
                    },
                )
            });
        if let Some(gradient) = &mut gradient {
            let d = &mut gradient[start * width..(start + count) * width];
            product(d, Accum::Replace, (logits, (count, vocabulary)), e, Form::Plain, 1.0, par);
            if let Some(on_logits) = &mut on_logits {
                let h = Tensor::from_slice(h, (count, width), &Device::Cpu)?;
                on_logits(&h, &Tensor::from_slice(logits, (count, vocabulary), &Device::Cpu)?)?;
            }
        }
    }
    let gradient = gradient.map(|g| Tensor::from_vec(g, (rows, width), &Device::Cpu)).transpose()?;
    Ok((losses, gradient))
}

/// [`run`] in candle's operations, `piece` rows at a time. The losses stay on the device until all are there.
fn run_candle(
    hidden: &Tensor,
    targets: &[u32],
    head: &Tensor,
    scale: Option<f64>,
    piece: usize,
    mut on_logits: Option<OnLogits>,
    go_on: &dyn Fn() -> bool,
) -> Result<(Vec<f32>, Option<Tensor>)> {
    let (rows, dtype) = (hidden.dim(0)?, hidden.dtype());
    if rows == 0 {
        return Ok((Vec::new(), scale.map(|_| hidden.zeros_like()).transpose()?));
    }
    let all_ids = Tensor::new(targets, hidden.device())?.unsqueeze(1)?;
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for start in (0..rows).step_by(piece) {
        asked(go_on)?;
        let count = piece.min(rows - start);
        let (h, ids) = (hidden.narrow(0, start, count)?, all_ids.narrow(0, start, count)?.contiguous()?);
        let logits = h.matmul(&head.t()?)?.to_dtype(DType::F32)?; // [n, V]
        let log_sum = logits.log_sum_exp(D::Minus1)?.unsqueeze(1)?;
        losses.push((&log_sum - logits.gather(&ids, 1)?)?);
        if let Some(scale) = scale {
            let p = logits.broadcast_sub(&log_sum)?.exp()?;
            drop(logits);
            p.scatter_add_set(&ids, &Tensor::full(-1f32, (count, 1), p.device())?, 1)?;
            let d = if scale == 1.0 { p } else { (p * scale)? }.to_dtype(dtype)?;
            if let Some(on_logits) = &mut on_logits {
                on_logits(&h, &d)?;
            }
            gradients.push(d.matmul(head)?);
        }
    }
    let gradient = scale.map(|_| Tensor::cat(&gradients, 0)).transpose()?;
    Ok((Tensor::cat(&losses, 0)?.flatten_all()?.to_vec1()?, gradient))
}

fn asked(go_on: &dyn Fn() -> bool) -> Result<()> {
    if go_on() { Ok(()) } else { Err(Error::interrupted()) }
}
