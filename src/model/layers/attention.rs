//! Causal attention with grouped heads that stays inside the rows of a pack.

use super::blocked_attention::{self, BLOCK as CANDLE_BLOCK, Blocks};
use super::head_shapes::{HeadShapes, check_borders, groups, unfit};
use crate::error::{Error, Result};
use crate::ops::matmul::{Form, product};
use crate::ops::{Kernels, expect, values, vector};
use candle_core::{Device, Tensor};
use faer::{Accum, Par};
use rayon::prelude::*;

/// What attention keeps for its backward pass besides q, k, v and its output.
#[derive(Debug, Clone)]
pub struct AttentionSaved {
    /// The logarithm of each query's softmax denominator, `[H, T]`, in f32; candle's softmax has none.
    log_sum: Option<Tensor>,
}

impl AttentionSaved {
    /// What [`blocked_attention`](super::blocked_attention) keeps.
    pub(crate) const NOTHING: Self = Self { log_sum: None };
}

/// softmax(q kᵀ/√W + mask) v for each head (Vaswani et al. 2017, §3.2.1). Query head h reads
/// key-value head ⌊h·G/H⌋ (Ainslie et al. 2023). `borders` holds where each row of the pack begins
/// and, last, T: a token sees itself and the tokens before it in its own row.
///
/// # Shapes
/// q `[H, T, W]`, k and v `[G, T, W]`, output `[H, T, W]`.
///
/// # Errors
/// When the shapes do not fit or `borders` is not a rising list from 0 to T.
pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    borders: &[usize],
    kernels: Kernels,
) -> Result<(Tensor, AttentionSaved)> {
    let sizes = Sizes::of(q, k, v, borders)?;
    if sizes.tokens == 0 {
        return Ok((q.clone(), AttentionSaved::NOTHING));
    }
    if kernels == Kernels::Candle {
        let blocks = Blocks::of(borders, CANDLE_BLOCK, q.device())?;
        return Ok((blocked_attention::forward(q, k, v, &blocks)?, AttentionSaved::NOTHING));
    }
    let (q, k, v) = (values(q)?, values(k)?, values(v)?);
    let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
    let Sizes { heads, tokens, width, .. } = sizes;
    let (mut out, mut log_sum) = (vec![0f32; heads * tokens * width], vec![0f32; heads * tokens]);
    let tasks: Vec<_> = sizes
        .blocks()
        .zip(split(&mut out, sizes.blocks().map(|b| b.len() * width)))
        .zip(split(&mut log_sum, sizes.blocks().map(|b| b.len())))
        .collect();
    tasks.into_par_iter().for_each(|((block, out), log_sum)| {
        let keys = sizes.rows(sizes.group(block.head), block.start, block.to);
        let mut p = vec![0f32; block.len() * block.keys()];
        sizes.scores(&block, &q[sizes.rows(block.head, block.from, block.to)], &k[keys.clone()], &mut p);
        vector::simd(
            #[inline(always)]
            || {
                for (i, (p, log_sum)) in p.chunks_exact_mut(block.keys()).zip(log_sum.iter_mut()).enumerate()
                {
                    let (seen, unseen) = p.split_at_mut(block.seen(i));
                    let largest = vector::max(seen);
                    let sum = vector::exp_sum(seen, largest);
                    *log_sum = largest + sum.ln();
                    for p in seen {
                        *p /= sum;
                    }
                    unseen.fill(0.0);
                }
            },
        );
        multiply(out, Accum::Replace, (&p, block.len(), block.keys()), (&v[keys], width), Form::Plain);
    });
    Ok((
        Tensor::from_vec(out, (heads, tokens, width), &Device::Cpu)?,
        AttentionSaved { log_sum: Some(Tensor::from_vec(log_sum, (heads, tokens), &Device::Cpu)?) },
    ))
}

/// (dq, dk, dv) for dy = ∂loss/∂output. With P the softmax, computed again from q, k and the saved
/// logarithms, and δ = Σ(dy ⊙ y) over the width: dv = Pᵀ dy, dS = P ⊙ (dy vᵀ − δ)/√W, dq = dS k,
/// dk = dSᵀ q; dk and dv are summed over the query heads of a group (Dao et al. 2022, App. B).
///
/// # Errors
/// When the shapes do not fit.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    y: &Tensor,
    saved: &AttentionSaved,
    dy: &Tensor,
    borders: &[usize],
    kernels: Kernels,
) -> Result<(Tensor, Tensor, Tensor)> {
    let sizes = Sizes::of(q, k, v, borders)?;
    expect("y", y, q.dims())?;
    expect("dy", dy, q.dims())?;
    if sizes.tokens == 0 {
        return Ok((q.clone(), k.clone(), v.clone()));
    }
    if kernels == Kernels::Candle {
        let blocks = Blocks::of(borders, CANDLE_BLOCK, q.device())?;
        return blocked_attention::backward(q, k, v, y, dy, &blocks);
    }
    let Some(log_sum) = &saved.log_sum else {
        return Err(Error::compute("attention's forward pass ran with other kernels"));
    };
    expect("what forward saved", log_sum, &[sizes.heads, sizes.tokens])?;
    let (q, k, v, y, dy) = (values(q)?, values(k)?, values(v)?, values(y)?, values(dy)?);
    let [q, k, v, y, dy]: [&[f32]; 5] = [&q, &k, &v, &y, &dy];
    let log_sum = values(log_sum)?;
    let log_sum: &[f32] = &log_sum;
    let Sizes { heads, groups, tokens, width, .. } = sizes;
    let mut dq = vec![0f32; heads * tokens * width];
    let (mut dk, mut dv) = (vec![0f32; groups * tokens * width], vec![0f32; groups * tokens * width]);

    // One task owns a key-value head in one row of the pack, so no two write to the same place.
    let lengths = || sizes.segments().map(|(_, from, to)| (to - from) * width);
    let rows = borders.len() - 1;
    let mut of_heads: Vec<Vec<&mut [f32]>> = (0..groups * rows).map(|_| Vec::new()).collect();
    let per_row = (0..heads).flat_map(|h| (0..rows).map(move |row| (h, row)));
    let row_lengths = per_row.clone().map(|(_, row)| sizes.row_length(row) * width);
    for ((h, row), dq) in per_row.zip(split(&mut dq, row_lengths)) {
        of_heads[sizes.group(h) * rows + row].push(dq);
    }
    let tasks: Vec<_> = sizes
        .segments()
        .zip(of_heads)
        .zip(split(&mut dk, lengths()))
        .zip(split(&mut dv, lengths()))
        .collect();
    let scale = sizes.scale() as f32;
    tasks.into_par_iter().for_each(|((((group, start, end), dqs), dk), dv)| {
        let (mut p, mut ds) = (Vec::new(), Vec::new());
        for (head, dq) in (group * heads / groups..).zip(dqs) {
            for block in sizes.blocks_of(head, start, end) {
                let queries = sizes.rows(head, block.from, block.to);
                let keys = sizes.rows(group, block.start, block.to);
                let (rows, seen) = (block.len(), block.keys());
                p.resize(rows * seen, 0.0);
                ds.resize(rows * seen, 0.0);
                sizes.scores(&block, &q[queries.clone()], &k[keys.clone()], &mut p);
                multiply(
                    &mut ds,
                    Accum::Replace,
                    (&dy[queries.clone()], rows, width),
                    (&v[keys.clone()], width),
                    Form::RightTransposed,
                );
                vector::simd(
                    #[inline(always)]
                    || {
                        let outputs = y[queries.clone()]
                            .chunks_exact(width)
                            .zip(dy[queries.clone()].chunks_exact(width));
                        let matrices = p.chunks_exact_mut(seen).zip(ds.chunks_exact_mut(seen));
                        for (i, ((p, ds), (y, dy))) in matrices.zip(outputs).enumerate() {
                            let log_sum = log_sum[head * tokens + block.from + i];
                            let delta = vector::dot(y, dy);
                            let visible = block.seen(i);
                            for (p, ds) in p[..visible].iter_mut().zip(&mut ds[..visible]) {
                                *p = vector::exp(*p - log_sum);
                                *ds = *p * (*ds - delta) * scale;
                            }
                            p[visible..].fill(0.0);
                            ds[visible..].fill(0.0);
                        }
                    },
                );
                let local = (block.from - start) * width..(block.to - start) * width;
                let below = ..(block.to - start) * width;
                multiply(
                    &mut dv[below],
                    Accum::Add,
                    (&p, rows, seen),
                    (&dy[queries.clone()], width),
                    Form::LeftTransposed,
                );
                multiply(&mut dq[local], Accum::Replace, (&ds, rows, seen), (&k[keys], width), Form::Plain);
                multiply(
                    &mut dk[below],
                    Accum::Add,
                    (&ds, rows, seen),
                    (&q[queries], width),
                    Form::LeftTransposed,
                );
            }
        }
    });
    let shape = (groups, tokens, width);
    Ok((
        Tensor::from_vec(dq, (heads, tokens, width), &Device::Cpu)?,
        Tensor::from_vec(dk, shape, &Device::Cpu)?,
        Tensor::from_vec(dv, shape, &Device::Cpu)?,
    ))
}

/// Attention of the newest tokens to all that a cache holds, for generation.
///
/// # Shapes
/// q `[H, n, W]`, k and v `[G, T, W]` of which the last n tokens are q's own; output `[H, n, W]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn decode(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let ((heads, new, width), (_, tokens, _)) = (q.dims3()?, k.dims3()?);
    let groups = groups(q, k)?;
    expect("v", v, k.dims())?;
    if new > tokens {
        return Err(unfit(q, k));
    }
    if new == 0 {
        return Ok(q.clone());
    }
    let each = heads / groups;
    // Query heads of a group read the same keys: they are extra rows of one product.
    let q = q.reshape((groups, each * new, width))?;
    let scores = (q.matmul(&k.t()?.contiguous()?)? / (width as f64).sqrt())?; // [G, each·n, T]
    let hidden: Vec<f32> = (0..new)
        .flat_map(|i| (0..tokens).map(move |t| if t > tokens - new + i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    let mask = Tensor::from_vec(hidden, (1, 1, new, tokens), q.device())?.to_dtype(q.dtype())?;
    let scores = scores.reshape((groups, each, new, tokens))?.broadcast_add(&mask)?;
    let p = candle_nn::ops::softmax_last_dim(&scores)?.reshape((groups, each * new, tokens))?;
    Ok(p.matmul(v)?.reshape((heads, new, width))?)
}

/// Queries of one block: enough to keep a matrix product busy, few enough that little is computed
/// above the diagonal and that the scores stay in cache.
const BLOCK: usize = 64;

struct Sizes<'a> {
    heads: usize,
    groups: usize,
    tokens: usize,
    width: usize,
    borders: &'a [usize],
}

/// Queries `from..to` of one head, in the row of the pack that begins at `start`.
#[derive(Clone, Copy)]
struct Block {
    head: usize,
    start: usize,
    from: usize,
    to: usize,
}

impl Block {
    fn len(&self) -> usize {
        self.to - self.from
    }

    /// Keys that the last query of the block sees.
    fn keys(&self) -> usize {
        self.to - self.start
    }

    /// Keys that query `i` of the block sees.
    fn seen(&self, i: usize) -> usize {
        self.from - self.start + i + 1
    }
}

impl<'a> Sizes<'a> {
    fn of(q: &Tensor, k: &Tensor, v: &Tensor, borders: &'a [usize]) -> Result<Self> {
        let HeadShapes { heads, groups, tokens, width } = HeadShapes::of(q, k, v)?;
        check_borders(borders, tokens)?;
        Ok(Self { heads, groups, tokens, width, borders })
    }

    fn scale(&self) -> f64 {
        1.0 / (self.width as f64).sqrt()
    }

    fn group(&self, head: usize) -> usize {
        head * self.groups / self.heads
    }

    fn row_length(&self, row: usize) -> usize {
        self.borders[row + 1] - self.borders[row]
    }

    /// (head, start, end) of each row of the pack, for `heads` heads.
    fn rows_of(&self, heads: usize) -> impl Iterator<Item = (usize, usize, usize)> + Clone {
        (0..heads).flat_map(move |h| self.borders.windows(2).map(move |row| (h, row[0], row[1])))
    }

    /// (key-value head, start, end), in the order in which `[G, T, W]` lies in memory.
    fn segments(&self) -> impl Iterator<Item = (usize, usize, usize)> + Clone {
        self.rows_of(self.groups)
    }

    fn blocks_of(&self, head: usize, start: usize, end: usize) -> impl Iterator<Item = Block> {
        (start..end).step_by(BLOCK).map(move |from| Block { head, start, from, to: (from + BLOCK).min(end) })
    }

    /// All blocks, in the order in which `[H, T, W]` lies in memory.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        self.rows_of(self.heads).flat_map(|(head, start, end)| self.blocks_of(head, start, end))
    }

    /// Where the rows `from..to` of a head lie in a `[heads, T, W]` slice.
    fn rows(&self, head: usize, from: usize, to: usize) -> std::ops::Range<usize> {
        (head * self.tokens + from) * self.width..(head * self.tokens + to) * self.width
    }

    /// scores = q kᵀ/√W.
    fn scores(&self, block: &Block, q: &[f32], k: &[f32], scores: &mut [f32]) {
        let (q, k) = ((q, (block.len(), self.width)), (k, (block.keys(), self.width)));
        product(scores, Accum::Replace, q, k, Form::RightTransposed, self.scale() as f32, Par::Seq);
    }
}

/// Cuts a slice into consecutive pieces of these lengths.
fn split(mut rest: &mut [f32], lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = &mut [f32]> {
    lengths.map(move |length| {
        let (piece, tail) = std::mem::take(&mut rest).split_at_mut(length);
        rest = tail;
        piece
    })
}

/// c (+)= the product of a `[rows, columns]` and b, whose rows are `width` wide, on one thread: the
/// tasks around it run in parallel.
fn multiply(
    c: &mut [f32],
    accum: Accum,
    (a, rows, columns): (&[f32], usize, usize),
    (b, width): (&[f32], usize),
    form: Form,
) {
    product(c, accum, (a, (rows, columns)), (b, (b.len() / width, width)), form, 1.0, Par::Seq);
}
