//! Attention in blocks of queries, as GPUs run it: against the fused kernels, finite differences, and what it holds.

use crate::common::devices::first;
use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::error::Result;
use lorascope::model::layers::attention;
use lorascope::model::layers::blocked_attention::{BLOCK, Blocks, backward, forward};
use lorascope::ops::Kernels;
use lorascope::ops::random::{Random, Stream};

/// Rows of 1, 3, 70, 2, 2 and 11 tokens.
const BORDERS: [usize; 7] = [0, 1, 4, 74, 76, 78, 89];

fn random(shape: &[usize], index: u64) -> Tensor {
    let mut random = Random::at(7, Stream::Init, 1, index);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn inner(x: &Tensor, y: &Tensor) -> f64 {
    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values(x).iter().zip(values(y)).map(|(x, y)| f64::from(*x) * f64::from(y)).sum()
}

/// |x − y| / |y|
fn distance(x: &Tensor, y: &Tensor) -> f64 {
    assert_eq!(x.dims(), y.dims());
    let off = (x.to_dtype(DType::F32).unwrap() - y).unwrap();
    (inner(&off, &off) / inner(y, y)).sqrt()
}

/// q, k, v and dy with H query heads and G key-value heads.
fn tensors(heads: usize, groups: usize) -> [Tensor; 4] {
    let (tokens, width) = (89, 6);
    [(heads, 1), (groups, 2), (groups, 3), (heads, 4)].map(|(n, index)| random(&[n, tokens, width], index))
}

fn there(x: &Tensor) -> Tensor {
    x.to_device(&first()).unwrap()
}

/// y, dq, dk and dv, computed there and brought back.
fn blocked(all: [&Tensor; 4], longest: usize) -> Result<[Tensor; 4]> {
    let [q, k, v, dy] = all.map(there);
    let blocks = Blocks::of(&BORDERS, longest, q.device())?;
    let y = forward(&q, &k, &v, &blocks)?;
    let (dq, dk, dv) = backward(&q, &k, &v, &y, &dy, &blocks)?;
    Ok([y, dq, dk, dv].map(|x| x.to_device(&Device::Cpu).unwrap()))
}

#[test]
fn device_attention_is_that_of_the_fused_kernels() -> Result<()> {
    for (heads, groups) in [(6, 2), (3, 3), (4, 1)] {
        let [q, k, v, dy] = tensors(heads, groups);
        let (y, saved) = attention::forward(&q, &k, &v, &BORDERS, Kernels::Fused)?;
        let (dq, dk, dv) = attention::backward(&q, &k, &v, &y, &saved, &dy, &BORDERS, Kernels::Fused)?;
        let truth = [y, dq, dk, dv];
        for longest in [1, 2, 3, 7, 16, 69, 70, 71, BLOCK] {
            let ours = blocked([&q, &k, &v, &dy], longest)?;
            for (ours, truth) in ours.iter().zip(&truth) {
                let off = distance(ours, truth);
                assert!(off < 2e-6, "{heads} heads on {groups} in blocks of {longest}: {off:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn device_attention_has_the_slopes_of_its_gradients() -> Result<()> {
    let [q, k, v, dy] = tensors(6, 2);
    for longest in [5, 32] {
        let [_, dq, dk, dv] = blocked([&q, &k, &v, &dy], longest)?;
        let f = |q: &Tensor, k: &Tensor, v: &Tensor| {
            let blocks = Blocks::of(&BORDERS, longest, &first()).unwrap();
            inner(&forward(&there(q), &there(k), &there(v), &blocks).unwrap(), &dy)
        };
        let with = |which: usize, x: &Tensor| match which {
            0 => f(x, &k, &v),
            1 => f(&q, x, &v),
            _ => f(&q, &k, x),
        };
        for (which, (x, gradient)) in [(&q, &dq), (&k, &dk), (&v, &dv)].into_iter().enumerate() {
            let (direction, h) = (random(x.dims(), 1000), 3e-3);
            let moved = |sign: f64| with(which, &(x + (&direction * (sign * h)).unwrap()).unwrap());
            let (slope, expected) = ((moved(1.0) - moved(-1.0)) / (2.0 * h), inner(gradient, &direction));
            let size = inner(gradient, gradient).sqrt().max(1.0);
            assert!((slope - expected).abs() < 4e-3 * size, "{which}: slope {slope}, gradient {expected}");
        }
    }
    Ok(())
}

/// In a half type the error is its own, and does not grow with the number of blocks: gradients of keys are summed in f32.
#[test]
fn device_attention_in_f16() -> Result<()> {
    let all = tensors(6, 2);
    let truth = blocked(all.each_ref(), BLOCK)?;
    let half = all.each_ref().map(|x| x.to_dtype(DType::F16).unwrap());
    for longest in [1, 7, BLOCK] {
        for (ours, truth) in blocked(half.each_ref(), longest)?.iter().zip(&truth) {
            assert_eq!(ours.dtype(), DType::F16);
            let off = distance(ours, truth);
            assert!(off > 1e-5 && off < 2e-3, "blocks of {longest}: {off:e}");
        }
    }
    Ok(())
}

/// What is held at a time are the scores of one block: with H heads H · queries · keys numbers. Over a pack of 16,384
/// tokens the whole matrix would be 16,384²; here it is 512 · 512, and for a single row 512 · 16,384, and half of all
/// scores are never computed.
#[test]
fn device_attention_holds_the_scores_of_one_block() -> Result<()> {
    let tokens = 16_384;
    let largest = |blocks: &Blocks| blocks.scores().map(|[queries, keys]| queries * keys).max();
    let computed = |blocks: &Blocks| blocks.scores().map(|[queries, keys]| queries * keys).sum::<usize>();
    let queries = |blocks: &Blocks| blocks.scores().map(|[queries, _]| queries).sum::<usize>();
    let row = Blocks::of(&[0, tokens], BLOCK, &Device::Cpu)?;
    assert_eq!((largest(&row), queries(&row)), (Some(BLOCK * tokens), tokens));
    assert_eq!(computed(&row), tokens * (tokens + BLOCK) / 2);
    // Rows of 100 to 356 tokens: two or three share a block.
    let mut borders = vec![0];
    while borders.last().unwrap() + 356 < tokens {
        borders.push(borders.last().unwrap() + 100 + borders.len() * 37 % 257);
    }
    let rows = Blocks::of(&borders, BLOCK, &Device::Cpu)?;
    assert!(largest(&rows) <= Some(BLOCK * BLOCK) && largest(&rows) > Some(400 * 400));
    assert_eq!(queries(&rows), *borders.last().unwrap());
    assert!(rows.scores().count() * 3 / 2 < borders.len(), "short rows share blocks");
    // A row just longer than a block is cut in the middle.
    let cut = Blocks::of(&[0, BLOCK + 1], BLOCK, &Device::Cpu)?;
    assert_eq!(cut.scores().collect::<Vec<_>>(), [[256, 256], [257, 513]]);
    Ok(())
}

#[test]
fn device_attention_refuses_what_does_not_fit() -> Result<()> {
    let [q, k, v, _] = tensors(6, 2);
    for wrong in [&[0, 5][..], &[1, 89], &[0, 7, 7, 89], &[]] {
        let blocks = Blocks::of(wrong, 16, q.device());
        assert!(blocks.and_then(|blocks| forward(&q, &k, &v, &blocks)).is_err(), "{wrong:?}");
    }
    assert!(Blocks::of(&BORDERS, 0, q.device()).is_err());
    let blocks = Blocks::of(&BORDERS, 16, q.device())?;
    assert!(forward(&q, &v, &random(&[2, 89, 5], 1), &blocks).is_err());
    assert!(backward(&q, &k, &v, &k, &q, &blocks).is_err());
    Ok(())
}
