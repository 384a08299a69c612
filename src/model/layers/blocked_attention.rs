//! Causal attention in candle's operations, for any device: a block of queries at a time, so that the scores of a whole
//! pack never exist.

use super::head_shapes::{HeadShapes, check_borders};
use crate::error::{Error, Result};
use crate::ops::expect;
use candle_core::{D, DType, Device, Tensor};

/// Queries of one block. A row that is longer is cut into several, of which each sees the keys up to its own end: the
/// causal half and half a block more. Shorter rows that follow each other share one.
pub const BLOCK: usize = 512;

/// How the tokens of a pack are cut into blocks of queries, and which keys these see.
#[derive(Debug, Clone)]
pub struct Blocks {
    tokens: usize,
    spans: Vec<Span>,
}

/// Tokens `start..end` that see none outside of them: one row, or several in one block.
#[derive(Debug, Clone)]
struct Span {
    start: usize,
    end: usize,
    /// Where each block begins; the last entry is `end`.
    cuts: Vec<usize>,
    /// 0 where query i of a block sees key j of the same block, −∞ elsewhere; `[n, n]` for blocks of at most n.
    mask: Tensor,
}

/// Queries `from..to`.
#[derive(Debug, Clone, Copy)]
struct Block {
    from: usize,
    to: usize,
}

impl Block {
    fn len(self) -> usize {
        self.to - self.from
    }
}

impl Blocks {
    /// Blocks of at most `longest` queries; `borders` holds where each row begins and, last, the number of tokens.
    ///
    /// # Errors
    /// When `borders` is not a rising list from 0, or `longest` is 0.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::model::layers::blocked_attention::Blocks;
    ///
    /// // Rows of 2, 1 and 5 tokens: the first two share a block, the last is cut.
    /// let blocks = Blocks::of(&[0, 2, 3, 8], 3, &Device::Cpu)?;
    /// assert_eq!(blocks.scores().collect::<Vec<_>>(), [[3, 3], [2, 2], [3, 5]]);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn of(borders: &[usize], longest: usize, device: &Device) -> Result<Self> {
        let tokens = borders.last().copied().unwrap_or(0);
        check_borders(borders, tokens)?;
        if longest == 0 {
            return Err(Error::compute("attention in blocks of 0 queries"));
        }
        let mut spans = Vec::new();
        let mut first = 0;
        while first + 1 < borders.len() {
            let start = borders[first];
            let mut last = first + 1;
            while last + 1 < borders.len() && borders[last + 1] - start <= longest {
                last += 1;
            }
            spans.push(Span::of(&borders[first..=last], longest, device)?);
            first = last;
        }
        Ok(Self { tokens, spans })
    }

    /// Queries and keys of each block, in their order: for H heads, numbers `[H, queries, keys]` are held at a time.
    pub fn scores(&self) -> impl Iterator<Item = [usize; 2]> {
        self.spans.iter().flat_map(|span| span.blocks().map(|block| [block.len(), block.to - span.start]))
    }
}

impl Span {
    /// One row of any length, or several of at most `longest` tokens together.
    fn of(borders: &[usize], longest: usize, device: &Device) -> Result<Self> {
        let [start, .., end] = *borders else { return Err(Error::compute("a span without a row")) };
        let count = (end - start).div_ceil(longest);
        // Of equal size: no block is left with a few queries.
        let cuts: Vec<usize> = (0..=count).map(|i| start + (end - start) * i / count).collect();
        let size = cuts.windows(2).map(|cut| cut[1] - cut[0]).max().unwrap_or(0);
        let mut mask = vec![f32::NEG_INFINITY; size * size];
        // A row that is cut hides nothing of itself but what comes later.
        let one = [start, start + size];
        for row in if count > 1 { &one[..] } else { borders }.windows(2) {
            for i in row[0] - start..row[1] - start {
                mask[i * size + row[0] - start..=i * size + i].fill(0.0);
            }
        }
        Ok(Self { start, end, cuts, mask: Tensor::from_vec(mask, (size, size), device)? })
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = Block> {
        self.cuts.windows(2).map(|cut| Block { from: cut[0], to: cut[1] })
    }

    /// What its queries add to their scores, `[queries, keys]`.
    fn mask_of(&self, block: Block) -> Result<Tensor> {
        let own = self.mask.narrow(0, 0, block.len())?.narrow(1, 0, block.len())?;
        Ok(own.pad_with_zeros(1, block.from - self.start, 0)?)
    }
}

/// [`attention::forward`](super::attention::forward) with any number of queries in a block. Nothing but q, k, v and y is
/// needed for the backward pass.
///
/// With P a half type, scores and y are products in P; the softmax is in f32, and is cast to P for the product with v.
///
/// # Shapes
/// q `[H, T, W]`, k and v `[G, T, W]`, y `[H, T, W]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, blocks: &Blocks) -> Result<Tensor> {
    let shapes = checked(q, k, v, blocks)?;
    let mut outputs = Vec::new();
    for span in &blocks.spans {
        for block in span.blocks() {
            let keys = |x: &Tensor| x.narrow(1, span.start, block.to - span.start);
            let p = softmax(&shapes.rows(q, block)?, &keys(k)?, &span.mask_of(block)?)?;
            outputs.push(shapes.heads(&p.matmul(&keys(v)?)?)?);
        }
    }
    if outputs.is_empty() { Ok(q.clone()) } else { Ok(Tensor::cat(&outputs, 1)?) }
}

/// (dq, dk, dv) as [`attention::backward`](super::attention::backward), in the type of q; dk and dv are summed over the
/// blocks in f32.
///
/// δ = Σ(dy ⊙ y) is not subtracted from the scores' gradient in a pass of its own: dy vᵀ − δ is the product
/// `[dy, −δ] [v, 1]ᵀ`, and takes δ in two parts that together have twice the digits of a half type.
///
/// # Errors
/// When the shapes do not fit.
pub fn backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    y: &Tensor,
    dy: &Tensor,
    blocks: &Blocks,
) -> Result<(Tensor, Tensor, Tensor)> {
    let shapes = checked(q, k, v, blocks)?;
    expect("y", y, q.dims())?;
    expect("dy", dy, q.dims())?;
    let (dtype, scale) = (q.dtype(), shapes.scale());
    let (mut all_dq, mut all_dk, mut all_dv) = (Vec::new(), Vec::new(), Vec::new());
    for span in &blocks.spans {
        let of_span = |x: &Tensor| x.narrow(1, span.start, span.end - span.start);
        let (k, v) = (of_span(k)?, beside(&of_span(v)?, None)?);
        let (mut dk, mut dv) = (None, None);
        let mut dqs = Vec::new();
        // The last block sees all keys of the span: its gradients are those that the others are added to.
        for block in span.blocks().rev() {
            let seen = block.to - span.start;
            let keys = k.narrow(1, 0, seen)?;
            let queries = shapes.rows(q, block)?;
            let p = softmax(&queries, &keys, &span.mask_of(block)?)?;
            let dy = shapes.rows(dy, block)?;
            let product = dy.to_dtype(DType::F32)? * shapes.rows(y, block)?.to_dtype(DType::F32)?;
            let minus_delta = product?.sum_keepdim(D::Minus1)?.neg()?;
            let dp = beside(&dy, Some(&minus_delta))?.matmul(&v.narrow(1, 0, seen)?.t()?)?;
            add_first(&mut dv, &p.t()?.matmul(&dy)?)?;
            let ds = (p * dp)?;
            dqs.push(shapes.heads(&ds.matmul(&keys)?)?);
            add_first(&mut dk, &ds.t()?.matmul(&queries)?)?;
        }
        all_dq.extend(dqs.into_iter().rev());
        all_dk.extend(dk);
        all_dv.extend(dv);
    }
    if all_dq.is_empty() {
        return Ok((q.clone(), k.clone(), v.clone()));
    }
    let joined = |parts: &[Tensor], factor: f64| -> Result<Tensor> {
        Ok((Tensor::cat(parts, 1)?.to_dtype(DType::F32)? * factor)?.to_dtype(dtype)?)
    };
    Ok((joined(&all_dq, scale)?, joined(&all_dk, scale)?, joined(&all_dv, 1.0)?))
}

fn checked(q: &Tensor, k: &Tensor, v: &Tensor, blocks: &Blocks) -> Result<HeadShapes> {
    let shapes = HeadShapes::of(q, k, v)?;
    match shapes.tokens == blocks.tokens {
        true => Ok(shapes),
        false => {
            Err(Error::compute(format!("{} tokens in blocks of {} tokens", shapes.tokens, blocks.tokens)))
        }
    }
}

impl HeadShapes {
    /// The queries of a block, with those of all heads of a group below each other: they read the same keys.
    /// `[H, T, W]` to `[G, H/G·n, W]`.
    fn rows(&self, x: &Tensor, block: Block) -> Result<Tensor> {
        let rows = x.narrow(1, block.from, block.len())?;
        Ok(rows.reshape((self.groups, self.each() * block.len(), self.width))?)
    }

    /// `[G, H/G·n, W]` to `[H, n, W]`.
    fn heads(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.reshape((self.heads, rows.dim(1)? / self.each(), self.width))?)
    }
}

/// softmax(q kᵀ/√W + mask) in the type of q, `[G, m·n, keys]`; the mask `[n, keys]` is that of each of the m heads of a
/// group. Only the product is in a half type.
fn softmax(q: &Tensor, k: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (queries, keys) = mask.dims2()?;
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? / (q.dim(2)? as f64).sqrt())?;
    let (groups, rows, _) = scores.dims3()?;
    let scores = scores.reshape((groups, rows / queries, queries, keys))?.broadcast_add(mask)?;
    let p = candle_nn::ops::softmax_last_dim(&scores)?;
    Ok(p.reshape((groups, rows, keys))?.to_dtype(q.dtype())?)
}

/// x `[G, n, W]` with eight more columns: the two parts of `column` `[G, n, 1]` in f32, or ones that the parts are
/// multiplied by, and zeros, so that rows stay aligned for a GPU.
fn beside(x: &Tensor, column: Option<&Tensor>) -> Result<Tensor> {
    let (groups, rows, _) = x.dims3()?;
    let (x, dtype) = (&x.contiguous()?, x.dtype());
    let parts = match column {
        Some(column) => {
            let high = column.to_dtype(dtype)?;
            let low = (column - high.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
            Tensor::cat(&[high, low], 2)?
        }
        None => Tensor::ones((groups, rows, 2), dtype, x.device())?,
    };
    Ok(Tensor::cat(&[x, &parts, &parts.zeros_like()?, &parts.zeros_like()?, &parts.zeros_like()?], 2)?)
}

/// Adds `[G, n, W]` to the first n rows of the f32 sum, in place; the first that is added has all rows.
fn add_first(sum: &mut Option<Tensor>, more: &Tensor) -> Result<()> {
    let more = more.to_dtype(DType::F32)?;
    match sum {
        None => *sum = Some(more),
        Some(sum) => {
            let first = (sum.narrow(1, 0, more.dim(1)?)? + more)?;
            sum.slice_set(&first, 1, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product on a GPU takes no other strides.
    #[test]
    fn columns_beside_a_part_lie_in_its_rows() -> Result<()> {
        let x = Tensor::arange(0f32, 60.0, &Device::Cpu)?.reshape((3, 5, 4))?.narrow(1, 1, 3)?;
        let delta = Tensor::full(1f32 / 3.0, (3, 3, 1), &Device::Cpu)?;
        let half = x.to_dtype(DType::F16)?;
        for y in [beside(&x, None)?, beside(&half, Some(&delta))?] {
            assert!(y.is_contiguous());
            assert_eq!(y.dims(), [3, 3, 12]);
            let own = y.narrow(2, 0, 4)?.to_dtype(DType::F32)?;
            assert_eq!((own - &x)?.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
        }
        // Both parts together have more digits than f16.
        let parts = beside(&half, Some(&delta))?.narrow(2, 4, 8)?.to_dtype(DType::F32)?.sum(2)?;
        let off = (parts - 1.0 / 3.0)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(off < 1e-7, "{off:e}");
        Ok(())
    }
}
