//! Keys and values of the tokens that a block has seen, and attention to them, for generation.

use super::attention;
use super::head_shapes::groups;
use crate::error::{Error, Result};
use crate::ops::{Kernels, Stored, bytes_of, dots, expect, values, vector};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Keys and values of one block, in the order of the tokens.
#[derive(Debug, Clone, Default)]
pub(crate) enum KeyValues {
    #[default]
    Empty,
    /// `[G, T, W]` each, on any device.
    Tensors(Tensor, Tensor),
    Slices(Slices),
}

/// `[G, C, W]` each with room for C tokens, of which the first T are there: a token is added without a copy of the
/// others.
#[derive(Clone)]
pub(crate) struct Slices {
    groups: usize,
    room: usize,
    width: usize,
    tokens: usize,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// New tokens that attend one by one; more of them, as in a prompt, are a product of matrices.
const FEW: usize = 8;
/// New tokens behind others whose scores are computed at a time: `[H, 64, T]`.
const AT_ONCE: usize = 64;
/// Multiplications from which on the heads are shared among the threads.
const SHARED: usize = 1 << 15;

impl std::fmt::Debug for Slices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {}, {}] with room for {}", self.groups, self.tokens, self.width, self.room)
    }
}

impl KeyValues {
    /// Adds the keys and values of new tokens, and gives their attention to these and all before them, as
    /// [`attention::decode`].
    ///
    /// # Shapes
    /// q `[H, n, W]`, k and v `[G, n, W]` for n new tokens; output `[H, n, W]`.
    ///
    /// # Errors
    /// When the shapes do not fit each other or those before.
    pub(crate) fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor, kernels: Kernels) -> Result<Tensor> {
        let on_slices = kernels == Kernels::Fused && [q, k, v].map(Kernels::of) == [Kernels::Fused; 3];
        if on_slices && matches!(self, Self::Empty) {
            *self = Self::Slices(Slices::new(k)?);
        }
        match self {
            Self::Slices(slices) => slices.attend(q, k, v),
            Self::Empty => self.attend_in_candle(q, k.clone(), v.clone()),
            Self::Tensors(before_k, before_v) => {
                let (k, v) = (Tensor::cat(&[&*before_k, k], 1)?, Tensor::cat(&[&*before_v, v], 1)?);
                self.attend_in_candle(q, k, v)
            }
        }
    }

    /// Keeps the first `count` tokens: those behind them are of a call that failed.
    ///
    /// # Errors
    /// When there are fewer.
    pub(crate) fn keep(&mut self, count: usize) -> Result<()> {
        let there = match self {
            Self::Empty => 0,
            Self::Tensors(k, _) => k.dim(1)?,
            Self::Slices(slices) => slices.tokens,
        };
        match self {
            _ if there < count => {
                return Err(Error::input(format!("a cache of {count} tokens, of which a block has {there}"))
                    .help("use a cache with one model only"));
            }
            _ if count == 0 => *self = Self::Empty,
            Self::Tensors(k, v) if there > count => {
                (*k, *v) = (k.narrow(1, 0, count)?.contiguous()?, v.narrow(1, 0, count)?.contiguous()?);
            }
            Self::Slices(slices) => slices.tokens = count,
            Self::Tensors(..) | Self::Empty => {}
        }
        Ok(())
    }

    fn attend_in_candle(&mut self, q: &Tensor, k: Tensor, v: Tensor) -> Result<Tensor> {
        let y = attention::decode(q, &k, &v)?;
        *self = Self::Tensors(k, v);
        Ok(y)
    }
}

impl Slices {
    fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (heads, new, width) = q.dims3()?;
        groups(q, k)?;
        expect("v", v, k.dims())?;
        expect("k", k, &[self.groups, new, self.width])?;
        let (before, q, k, v) = (self.tokens, q.contiguous()?, k.contiguous()?, v.contiguous()?);
        self.add(&values(&k)?, &values(&v)?, new);
        if new <= FEW {
            let y = self.attention(&values(&q)?, heads, new);
            return Ok(Tensor::from_vec(y, (heads, new, width), &Device::Cpu)?);
        }
        if before == 0 {
            return Ok(attention::forward(&q, &k, &v, &[0, new], Kernels::Fused)?.0);
        }
        let (k, v) = (self.tensor(&self.k)?, self.tensor(&self.v)?);
        let piece = |first: usize| -> Result<Tensor> {
            let (count, seen) = (AT_ONCE.min(new - first), before + (first + AT_ONCE).min(new));
            let of = |all: &Tensor| all.narrow(1, 0, seen)?.contiguous();
            attention::decode(&q.narrow(1, first, count)?.contiguous()?, &of(&k)?, &of(&v)?)
        };
        let pieces = (0..new).step_by(AT_ONCE).map(piece).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&pieces, 1)?)
    }

    /// For keys like these, with none yet.
    fn new(k: &Tensor) -> Result<Self> {
        let (groups, _, width) = k.dims3()?;
        match groups * width {
            0 => Err(Error::compute(format!("no keys in the shape {:?}", k.dims()))),
            _ => Ok(Self { groups, room: 0, width, tokens: 0, k: Vec::new(), v: Vec::new() }),
        }
    }

    /// Adds k and v `[G, n, W]`.
    fn add(&mut self, k: &[f32], v: &[f32], new: usize) {
        let Self { groups, width, tokens, .. } = *self;
        if tokens + new > self.room {
            let room = (tokens + new).max(2 * self.room).max(64);
            for all in [&mut self.k, &mut self.v] {
                let mut larger = vec![0f32; groups * room * width];
                let old = all.chunks_exact((self.room * width).max(1));
                for (larger, old) in larger.chunks_exact_mut(room * width).zip(old) {
                    larger[..old.len()].copy_from_slice(old);
                }
                *all = larger;
            }
            self.room = room;
        }
        for (all, added) in [(&mut self.k, k), (&mut self.v, v)] {
            for (all, added) in
                all.chunks_exact_mut(self.room * width).zip(added.chunks_exact((new * width).max(1)))
            {
                all[tokens * width..][..added.len()].copy_from_slice(added);
            }
        }
        self.tokens += new;
    }

    /// The attention of the last `new` tokens, q and the result `[H, n, W]`.
    fn attention(&self, q: &[f32], heads: usize, new: usize) -> Vec<f32> {
        let mut y = vec![0f32; q.len()];
        let each = (new * self.width).max(1);
        let head = |(head, (y, q)): (usize, (&mut [f32], &[f32]))| {
            let group = (head * self.groups / heads) * self.room * self.width;
            let mut p = vec![0f32; self.tokens];
            let queries = q.chunks_exact(self.width).zip(y.chunks_exact_mut(self.width));
            for (seen, (q, y)) in (self.tokens - new + 1..).zip(queries) {
                let past = group..group + seen * self.width;
                attend_one(q, &self.k[past.clone()], &self.v[past], &mut p[..seen], y);
            }
        };
        match heads * new * self.tokens * self.width < SHARED {
            true => y.chunks_exact_mut(each).zip(q.chunks_exact(each)).enumerate().for_each(head),
            false => y.par_chunks_exact_mut(each).zip(q.par_chunks_exact(each)).enumerate().for_each(head),
        }
        y
    }

    /// `[G, T, W]` of what is there.
    fn tensor(&self, all: &[f32]) -> Result<Tensor> {
        let there = all.chunks_exact(self.room * self.width).map(|all| &all[..self.tokens * self.width]);
        Ok(Tensor::from_vec(
            there.collect::<Vec<_>>().concat(),
            (self.groups, self.tokens, self.width),
            &Device::Cpu,
        )?)
    }
}

/// y = Σ pₜ vₜ with p = softmax(k q/√W), for one query of one head: q and y `[W]`, k and v `[T, W]`, and room for p.
fn attend_one(q: &[f32], k: &[f32], v: &[f32], p: &mut [f32], y: &mut [f32]) {
    let width = q.len();
    dots(Stored::F32, bytes_of(k), q, p);
    vector::simd(
        #[inline(always)]
        || {
            let scale = 1.0 / (width as f32).sqrt();
            for p in p.iter_mut() {
                *p *= scale;
            }
            let sum = vector::exp_sum(p, vector::max(p));
            // Four tokens at a time, so that a sum is not stored and loaded for each.
            for (p, v) in p.chunks(4).zip(v.chunks(4 * width)) {
                if let [a, b, c, d] = p {
                    let (ab, cd) = v.split_at(2 * width);
                    let ((v0, v1), (v2, v3)) = (ab.split_at(width), cd.split_at(width));
                    for (y, (((v0, v1), v2), v3)) in y.iter_mut().zip(v0.iter().zip(v1).zip(v2).zip(v3)) {
                        *y = a.mul_add(*v0, b.mul_add(*v1, c.mul_add(*v2, d.mul_add(*v3, *y))));
                    }
                } else {
                    for (p, v) in p.iter().zip(v.chunks_exact(width)) {
                        y.iter_mut().zip(v).for_each(|(y, v)| *y = p.mul_add(*v, *y));
                    }
                }
            }
            y.iter_mut().for_each(|y| *y /= sum);
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn wave(shape: (usize, usize, usize), step: f32) -> Tensor {
        let count = shape.0 * shape.1 * shape.2;
        let values: Vec<f32> = (0..count).map(|i| 2.0 * (i as f32 * step).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn apart(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    /// One token after another, several at once and a prompt, against candle's operations on all of them in f64; past
    /// the first room of 64 tokens, with groups of heads and an odd width.
    #[test]
    fn pieces_of_any_size_give_what_candle_gives() {
        for (heads, groups, width) in [(6, 2, 18), (4, 4, 64), (3, 1, 5)] {
            let (mut ours, mut single, mut double) = Default::default();
            for (i, new) in [1, 3, 40, 8, 1, 1, 30, 1, 90, 7, 1].into_iter().enumerate() {
                let step = 0.1 + 0.07 * i as f32;
                let [q, k, v] = [
                    wave((heads, new, width), step),
                    wave((groups, new, width), step * 1.3),
                    wave((groups, new, width), step * 0.7),
                ];
                let of = |cache: &mut KeyValues, kernels, dtype| {
                    let [q, k, v] = [&q, &k, &v].map(|x| x.to_dtype(dtype).unwrap());
                    cache.attend(&q, &k, &v, kernels).unwrap().to_dtype(DType::F32).unwrap()
                };
                let truth = of(&mut double, Kernels::Candle, DType::F64);
                let found = apart(&of(&mut ours, Kernels::Fused, DType::F32), &truth);
                let candle = apart(&of(&mut single, Kernels::Candle, DType::F32), &truth);
                assert!(found <= 2.0 * candle + 1e-6, "{heads} {i}: off by {found:e}, candle by {candle:e}");
            }
            assert!(matches!((ours, single), (KeyValues::Slices(_), KeyValues::Tensors(..))));
        }
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut one = KeyValues::default();
        let at = |step| wave((2, 1, 8), step);
        one.attend(&at(0.1), &at(0.2), &at(0.3), Kernels::Fused).unwrap();
        let mut other = one.clone();
        one.attend(&at(0.4), &at(0.5), &at(0.6), Kernels::Fused).unwrap();
        other.attend(&at(0.7), &at(0.8), &at(0.9), Kernels::Fused).unwrap();
        let (KeyValues::Slices(one), KeyValues::Slices(other)) = (one, other) else { panic!() };
        assert_eq!(one.k[..8], other.k[..8]);
        assert_ne!(one.k[8..16], other.k[8..16]);
    }

    #[test]
    fn what_a_failed_call_added_goes() {
        let at = |step| wave((2, 1, 8), step);
        for kernels in [Kernels::Fused, Kernels::Candle] {
            let (mut one, mut other) = (KeyValues::default(), KeyValues::default());
            for cache in [&mut one, &mut other] {
                cache.attend(&at(0.1), &at(0.2), &at(0.3), kernels).unwrap();
            }
            one.attend(&at(0.4), &at(0.5), &at(0.6), kernels).unwrap();
            one.keep(1).unwrap();
            let next = |cache: &mut KeyValues| cache.attend(&at(0.7), &at(0.8), &at(0.9), kernels).unwrap();
            assert!(apart(&next(&mut one), &next(&mut other)) < 1e-7);
            assert!(one.keep(3).unwrap_err().to_string().contains("of which a block has 2"));
            one.keep(0).unwrap();
            assert!(matches!(one, KeyValues::Empty));
        }
        let mut shown = KeyValues::default();
        shown.attend(&at(0.1), &at(0.2), &at(0.3), Kernels::Fused).unwrap();
        assert_eq!(format!("{shown:?}"), "Slices([2, 1, 8] with room for 64)");
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut cache = KeyValues::default();
        let q = wave((4, 1, 8), 0.1);
        cache.attend(&q, &wave((2, 1, 8), 0.2), &wave((2, 1, 8), 0.3), Kernels::Fused).unwrap();
        let refuses = |k, v| cache.clone().attend(&q, &wave(k, 0.2), &wave(v, 0.3), Kernels::Fused).is_err();
        assert!(refuses((4, 1, 8), (4, 1, 8)));
        assert!(refuses((2, 1, 8), (2, 2, 8)));
        assert!(refuses((2, 2, 8), (2, 2, 8)));
    }
}
