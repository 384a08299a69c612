//! Every layer's backward against finite differences, and the fused kernels against candle's
//! operations. Non-zero inputs, odd sizes, rows of different lengths in one pack.

use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapter, Adapters, Gradients, LoraConfig};
use lorascope::model::layers::linear::Wanted;
use lorascope::model::layers::{
    Gelu, LayerNorm, LearnedPositions, Linear, RmsNorm, Rotary, attention, fused, loss, rotary, swiglu,
};
use lorascope::model::{Tokens, Weight};
use lorascope::ops::Kernels;
use lorascope::ops::random::{Random, Stream};
use std::collections::BTreeMap;

const BOTH: [Kernels; 2] = [Kernels::Candle, Kernels::Fused];

fn random(shape: &[usize], index: u64) -> Tensor {
    let mut random = Random::at(7, Stream::Init, 1, index);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn inner(x: &Tensor, y: &Tensor) -> f64 {
    values(x).iter().zip(values(y)).map(|(x, y)| x * y).sum()
}

/// |x − y| / |y|
fn distance(x: &Tensor, y: &Tensor) -> f64 {
    assert_eq!(x.dims(), y.dims());
    let difference: f64 = values(x).iter().zip(values(y)).map(|(x, y)| (x - y).powi(2)).sum();
    (difference / inner(y, y)).sqrt()
}

/// The slope of `f` at x along a random direction, by central differences, against the gradient.
fn check_gradient(name: &str, x: &Tensor, gradient: &Tensor, f: impl Fn(&Tensor) -> f64) {
    for trial in 0..3 {
        let direction = random(x.dims(), 1000 + trial);
        let h = 3e-3;
        let moved = |sign: f64| f(&(x + (&direction * (sign * h)).unwrap()).unwrap());
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * h);
        let expected = inner(gradient, &direction);
        let size = inner(gradient, gradient).sqrt().max(1.0);
        assert!(
            (slope - expected).abs() < 4e-3 * size,
            "{name}: slope {slope}, gradient {expected} of {size}"
        );
    }
}

#[test]
fn rms_norm() -> Result<()> {
    let (x, dy, w) = (random(&[5, 37], 1), random(&[5, 37], 2), random(&[37], 3));
    let norm = RmsNorm::new(w, 1e-5);
    let [a, b] = BOTH.map(|k| norm.forward(&x, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    let [a, b] = BOTH.map(|k| norm.backward(&x, &dy, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    check_gradient("norm", &x, &b, |x| inner(&norm.forward(x, Kernels::Fused).unwrap(), &dy));
    Ok(())
}

#[test]
fn layer_norm() -> Result<()> {
    let (x, dy) = ((random(&[5, 37], 1) + 0.7)?, random(&[5, 37], 2));
    let norm = LayerNorm::new(random(&[37], 3), random(&[37], 4), 1e-5);
    let [a, b] = BOTH.map(|k| norm.forward(&x, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    let [a, b] = BOTH.map(|k| norm.backward(&x, &dy, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    check_gradient("norm", &x, &b, |x| inner(&norm.forward(x, Kernels::Fused).unwrap(), &dy));
    // A shift of x is taken out again, and a large one leaves the digits that it must.
    let moved = norm.forward(&(&x + 100.0)?, Kernels::Fused)?;
    assert!(distance(&moved, &norm.forward(&x, Kernels::Fused)?) < 2e-5);
    Ok(())
}

#[test]
fn norm_of_each_head() -> Result<()> {
    let (x, dy) = (random(&[5, 3 * 7], 1), random(&[5, 3 * 7], 2));
    let norm = RmsNorm::new(random(&[7], 3), 1e-6);
    let [a, b] = BOTH.map(|k| norm.forward_heads(&x, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    let second = |x: &Tensor| x.narrow(1, 7, 7).unwrap().contiguous().unwrap();
    assert!(distance(&second(&b), &norm.forward(&second(&x), Kernels::Fused)?) < 1e-6);
    let [a, b] = BOTH.map(|k| norm.backward_heads(&x, &dy, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    check_gradient("norm", &x, &b, |x| inner(&norm.forward_heads(x, Kernels::Fused).unwrap(), &dy));
    let error = norm.forward_heads(&random(&[5, 20], 1), Kernels::Fused).unwrap_err().to_string();
    assert_eq!(error, "a width of 20 cannot be split into heads of 7");
    Ok(())
}

#[test]
fn gelu_in_both_forms() -> Result<()> {
    let (x, dy) = ((random(&[9, 41], 1) * 3.0)?, random(&[9, 41], 2));
    for gelu in [Gelu::Tanh, Gelu::Erf] {
        let [a, b] = BOTH.map(|k| gelu.forward(&x, k).unwrap());
        assert!(distance(&a, &b) < 1e-6, "{gelu:?}: {}", distance(&a, &b));
        let [a, b] = BOTH.map(|k| gelu.backward(&x, &dy, k).unwrap());
        assert!(distance(&a, &b) < 1e-6, "{gelu:?}: {}", distance(&a, &b));
        check_gradient("gelu", &x, &b, |x| inner(&gelu.forward(x, Kernels::Fused).unwrap(), &dy));
        let far = Tensor::new(&[[-1e6f32, -20., 0., 20., 1e6]], &Device::Cpu)?;
        let one = far.ones_like()?;
        assert_eq!(values(&gelu.forward(&far, Kernels::Fused)?)[2..], [0.0, 20.0, 1e6]);
        assert!(values(&gelu.forward(&far, Kernels::Fused)?)[..2].iter().all(|y| y.abs() < 1e-30));
        assert_eq!(values(&gelu.backward(&far, &one, Kernels::Fused)?)[2..], [0.5, 1.0, 1.0]);
    }
    Ok(())
}

#[test]
fn learned_positions() -> Result<()> {
    let (x, dy, table) = (random(&[5, 7], 1), random(&[5, 7], 2), random(&[4, 7], 3));
    let positions = [0, 1, 2, 0, 1];
    let y = |table: &Tensor, kernels| {
        let learned = LearnedPositions::new(Weight::dense(table.clone()).unwrap());
        learned.forward(x.copy().unwrap(), &positions, kernels).unwrap()
    };
    let [a, b] = BOTH.map(|k| y(&table, k));
    assert!(distance(&a, &b) < 1e-6);
    let learned = LearnedPositions::new(Weight::dense(table.clone())?);
    let [a, b] = BOTH.map(|k| learned.backward(&dy, &positions, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    check_gradient("table", &table, &b, |table| inner(&y(table, Kernels::Fused), &dy));
    let error = learned.forward(x.copy()?, &[0, 1, 4, 0, 1], Kernels::Fused).unwrap_err().to_string();
    assert_eq!(error, "position 4 of a model that knows 4");
    Ok(())
}

#[test]
fn a_fused_projection_is_split_and_joined() -> Result<()> {
    let (y, widths) = (random(&[5, 23], 1), [11, 7, 5]);
    let [a, b] = BOTH.map(|k| fused::split(&y, widths, k).unwrap());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(values(a), values(b));
    }
    assert_eq!(b.each_ref().map(|part| part.dims()[1]), widths);
    let [q, k, v] = &b;
    for kernels in BOTH {
        assert_eq!(values(&fused::join([q, k, v], kernels)?), values(&y));
        assert!(fused::split(&y, [11, 7, 4], kernels).is_err());
        assert!(fused::join([q, k, &random(&[4, 5], 1)], kernels).is_err());
    }
    // The gradient of a sum over the parts is the sum's factors beside each other.
    let factors = fused::split(&random(&[5, 23], 2), widths, Kernels::Fused)?;
    let [p, q, r] = &factors;
    check_gradient("whole", &y, &fused::join([p, q, r], Kernels::Fused)?, |y| {
        let parts = fused::split(y, widths, Kernels::Fused).unwrap();
        parts.iter().zip(&factors).map(|(part, factor)| inner(part, factor)).sum()
    });
    Ok(())
}

#[test]
fn swiglu_pair() -> Result<()> {
    let (gate, up, dy) = (random(&[3, 41], 1), random(&[3, 41], 2), random(&[3, 41], 3));
    let [a, b] = BOTH.map(|k| swiglu::forward(&gate, &up, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    let [(a_gate, a_up), (b_gate, b_up)] = BOTH.map(|k| swiglu::backward(&gate, &up, &dy, k).unwrap());
    assert!(distance(&a_gate, &b_gate) < 1e-6 && distance(&a_up, &b_up) < 1e-6);
    let f = |gate: &Tensor, up: &Tensor| inner(&swiglu::forward(gate, up, Kernels::Fused).unwrap(), &dy);
    check_gradient("gate", &gate, &b_gate, |gate| f(gate, &up));
    check_gradient("up", &up, &b_up, |up| f(&gate, up));
    Ok(())
}

#[test]
fn rotary_turns_and_turns_back() -> Result<()> {
    let (heads, width) = (3, 10);
    let positions: Vec<u32> = (0..4).chain(0..7).collect();
    let rotary = Rotary::new(&positions, width, 100.0, &Device::Cpu)?;
    let (x, dy) = (random(&[11, heads * width], 1), random(&[heads, 11, width], 2));
    let [a, b] = BOTH.map(|k| rotary.forward(&x, heads, k).unwrap());
    assert!(distance(&a, &b) < 1e-6);
    let [a, back] = BOTH.map(|k| rotary.backward(&dy, k).unwrap());
    assert!(distance(&a, &back) < 1e-6);
    assert!(distance(&rotary.backward(&b, Kernels::Fused)?, &x) < 1e-6, "a rotation undoes itself");
    check_gradient("rotary", &x, &back, |x| inner(&rotary.forward(x, heads, Kernels::Fused).unwrap(), &dy));
    for k in BOTH {
        let split = rotary::split_heads(&x, heads, k)?;
        assert_eq!(values(&rotary::merge_heads(&split, k)?), values(&x));
    }
    Ok(())
}

#[test]
fn attention_stays_inside_rows() -> Result<()> {
    // 3 rows of 1, 70 and 18 tokens: one of them longer than a block of queries.
    let (heads, groups, tokens, width, borders) = (6, 2, 89, 8, [0, 1, 71, 89]);
    let q = random(&[heads, tokens, width], 1);
    let (k, v) = (random(&[groups, tokens, width], 2), random(&[groups, tokens, width], 3));
    let dy = random(&[heads, tokens, width], 4);
    let [a, b] = BOTH.map(|kernels| {
        let (y, saved) = attention::forward(&q, &k, &v, &borders, kernels).unwrap();
        let (dq, dk, dv) = attention::backward(&q, &k, &v, &y, &saved, &dy, &borders, kernels).unwrap();
        [y, dq, dk, dv]
    });
    for (a, b) in a.iter().zip(&b) {
        assert!(distance(a, b) < 2e-6, "{}", distance(a, b));
    }
    let f = |q: &Tensor, k: &Tensor, v: &Tensor| {
        inner(&attention::forward(q, k, v, &borders, Kernels::Fused).unwrap().0, &dy)
    };
    check_gradient("q", &q, &b[1], |q| f(q, &k, &v));
    check_gradient("k", &k, &b[2], |k| f(&q, k, &v));
    check_gradient("v", &v, &b[3], |v| f(&q, &k, v));

    // The second row alone gives the same as the second row in the pack.
    let cut = |x: &Tensor| x.narrow(1, 1, 70).unwrap().contiguous().unwrap();
    let (alone, _) = attention::forward(&cut(&q), &cut(&k), &cut(&v), &[0, 70], Kernels::Fused)?;
    assert!(distance(&alone, &cut(&b[0])) < 1e-6);
    // And token by token through the cache's path.
    let last = attention::decode(&cut(&q).narrow(1, 67, 3)?.contiguous()?, &cut(&k), &cut(&v))?;
    assert!(distance(&last, &alone.narrow(1, 67, 3)?) < 1e-6);
    for wrong in [&[0, 5][..], &[1, 89], &[0, 7, 7, 89], &[]] {
        assert!(attention::forward(&q, &k, &v, wrong, Kernels::Fused).is_err(), "{wrong:?}");
    }
    Ok(())
}

#[test]
fn linear_with_adapter() -> Result<()> {
    let (inner_width, out, rank) = (13, 17, 3);
    let x = random(&[19, inner_width], 1);
    let dy = random(&[19, out], 2);
    let layer =
        Linear::new("some.q_proj", Weight::dense(random(&[out, inner_width], 3))?, Some(random(&[out], 4)));
    let (a, b) = (random(&[rank, inner_width], 5), random(&[out, rank], 6));
    let config = LoraConfig { rank, alpha: 7.0, ..Default::default() };
    let with = |a: &Tensor, b: &Tensor| {
        let pair = Adapter::new(a.clone(), b.clone(), config.scaling().unwrap()).unwrap();
        Adapters::from_pairs(config.clone(), BTreeMap::from([("some.q_proj".to_string(), pair)]))
    };
    let f = |x: &Tensor, a: &Tensor, b: &Tensor| inner(&layer.forward(x, &with(a, b)).unwrap(), &dy);

    // y = x (W + scale·B·A)ᵀ + bias, formed whole.
    let merged = (layer.weight().expand()? + (b.matmul(&a)? * (7.0 / 3.0))?)?;
    let truth = x.matmul(&merged.t()?)?.broadcast_add(&random(&[out], 4))?;
    assert!(distance(&layer.forward(&x, &with(&a, &b))?, &truth) < 1e-6);

    let mut gradients = Gradients::new();
    let dx = layer.backward(&x, &dy, &with(&a, &b), &mut gradients, Wanted::Input)?.unwrap();
    let [da, db] =
        ["A", "B"].map(|x| gradients.get(&format!("some.q_proj.lora_{x}")).unwrap().copy().unwrap());
    check_gradient("x", &x, &dx, |x| f(x, &a, &b));
    check_gradient("A", &a, &da, |a| f(&x, a, &b));
    check_gradient("B", &b, &db, |b| f(&x, &a, b));

    // A second pass adds up; without a wanted input there is none.
    assert!(layer.backward(&x, &dy, &with(&a, &b), &mut gradients, Wanted::AdaptersOnly)?.is_none());
    assert!(distance(gradients.get("some.q_proj.lora_A").unwrap(), &(da * 2.0)?) < 1e-6);
    assert!(distance(gradients.get("some.q_proj.lora_B").unwrap(), &(db * 2.0)?) < 1e-6);
    Ok(())
}

#[test]
fn loss_over_the_vocabulary() -> Result<()> {
    let (rows, width, vocabulary) = (9, 11, 101);
    let hidden = random(&[rows, width], 1);
    let head = Weight::dense(random(&[vocabulary, width], 2))?;
    let targets: Vec<u32> = (0..rows as u32).map(|i| i * 11 % 101).collect();
    let scale = 1.0 / 9.0;
    let [(a, da), (b, db)] =
        BOTH.map(|k| loss::forward_backward(&hidden, &targets, &head, scale, k).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * b) && distance(&da, &db) < 1e-6);
    assert_eq!(loss::forward(&hidden, &targets, &head, Kernels::Fused)?, b);
    // Each loss belongs to its target.
    let turned = |x: &[u32]| x.iter().rev().copied().collect::<Vec<_>>();
    let order = Tensor::new(turned(&(0..rows as u32).collect::<Vec<_>>()), hidden.device())?;
    let mut back = loss::forward(&hidden.index_select(&order, 0)?, &turned(&targets), &head, Kernels::Fused)?;
    back.reverse();
    assert!(b.iter().zip(&back).all(|(b, back)| (b - back).abs() < 1e-5 * b), "{b:?} {back:?}");
    assert!(b.iter().any(|loss| (loss - b[0]).abs() > 0.1), "{b:?}");
    check_gradient("hidden", &hidden, &db, |h| {
        let losses = loss::forward(h, &targets, &head, Kernels::Fused).unwrap();
        losses.into_iter().map(f64::from).sum::<f64>() * scale
    });
    let outside = loss::forward(&hidden, &[101; 9], &head, Kernels::Fused).unwrap_err();
    assert_eq!(outside.to_string(), "token 101 is not in a vocabulary of 101");
    let (nothing, gradient) =
        loss::forward_backward(&random(&[0, width], 1), &[], &head, 1.0, Kernels::Fused)?;
    assert_eq!((nothing, gradient.dims()), (vec![], &[0, width][..]));
    Ok(())
}

/// No wrong shape goes through, in either code, and none makes a loop run beyond its slice.
#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    let (x, short) = (random(&[5, 12], 1), random(&[5, 11], 2));
    let weight = Weight::dense(random(&[7, 12], 3))?;
    let qkv = |shape: [usize; 3]| random(&shape, 4);
    let (q, k, narrow) = (qkv([4, 5, 6]), qkv([2, 5, 6]), qkv([2, 5, 4]));
    for kernels in BOTH {
        let norm = RmsNorm::new(random(&[12], 5), 1e-5);
        assert!(RmsNorm::new(random(&[11], 5), 1e-5).forward(&x, kernels).is_err());
        assert!(RmsNorm::new(random(&[1], 5), 1e-5).backward(&x, &x, kernels).is_err());
        let error = norm.backward(&x, &short, kernels).unwrap_err().to_string();
        assert_eq!(error, "dy has the shape [5, 11], expected [5, 12]");

        let layer_norm = LayerNorm::new(random(&[12], 5), random(&[12], 6), 1e-5);
        assert!(layer_norm.forward(&short, kernels).is_err());
        assert!(layer_norm.backward(&x, &short, kernels).is_err());
        assert!(LayerNorm::new(random(&[12], 5), random(&[11], 6), 1e-5).forward(&x, kernels).is_err());
        assert!(Gelu::Tanh.backward(&x, &short, kernels).is_err());
        assert!(norm.backward_heads(&x, &short, kernels).is_err());
        let learned = LearnedPositions::new(weight.clone());
        assert!(learned.forward(short.copy()?, &[0; 5], kernels).is_err());
        assert!(learned.forward(x.copy()?, &[0; 4], kernels).is_err());

        assert!(swiglu::forward(&x, &short, kernels).is_err());
        assert!(swiglu::backward(&x, &x, &short, kernels).is_err());
        assert!(loss::forward(&short, &[0; 5], &weight, kernels).is_err());

        let rotary = Rotary::new(&[0, 1, 2, 3, 4], 6, 100.0, &Device::Cpu)?;
        assert!(rotary.forward(&random(&[12], 1), 2, kernels).is_err());
        let error = rotary.forward(&x, 0, kernels).unwrap_err().to_string();
        assert_eq!(error, "a width of 12 cannot be split into 0 heads");
        assert!(rotary.forward(&random(&[5, 14], 1), 2, kernels).is_err(), "heads of 7 have no pairs");
        assert!(rotary::split_heads(&x, 0, kernels).is_err());

        let borders = [0, 2, 5];
        let forward = |q: &Tensor, k: &Tensor, v: &Tensor| attention::forward(q, k, v, &borders, kernels);
        let (y, saved) = forward(&q, &k, &k)?;
        assert!(forward(&q, &k, &narrow).is_err() && forward(&q, &qkv([2, 4, 6]), &k).is_err());
        assert!(forward(&q, &qkv([3, 5, 6]), &qkv([3, 5, 6])).is_err());
        let backward = |v: &Tensor, y: &Tensor, dy: &Tensor| {
            attention::backward(&q, &k, v, y, &saved, dy, &borders, kernels)
        };
        assert!(backward(&k, &y, &y).is_ok());
        assert!(backward(&narrow, &y, &y).is_err());
        assert!(backward(&k, &k, &y).is_err() && backward(&k, &y, &k).is_err());
    }
    assert!(attention::decode(&q, &k, &narrow).is_err());
    assert!(attention::decode(&qkv([0, 5, 6]), &qkv([0, 5, 6]), &qkv([0, 5, 6])).is_err());
    assert!(weight.forward(&short).is_err() && weight.backward(&x).is_err());
    assert!(Weight::dense(random(&[3, 0], 1)).is_err());
    Ok(())
}

/// Nothing comes out of no tokens, in the shape that was promised.
#[test]
fn no_tokens_are_no_error() -> Result<()> {
    let none = random(&[0, 12], 1);
    let weight = Weight::dense(random(&[7, 12], 3))?;
    assert_eq!(weight.forward(&none)?.dims(), [0, 7]);
    assert_eq!(weight.backward(&random(&[0, 7], 1))?.dims(), [0, 12]);
    for kernels in BOTH {
        let norm = RmsNorm::new(random(&[12], 5), 1e-5);
        assert_eq!(norm.forward(&none, kernels)?.dims(), [0, 12]);
        assert_eq!(norm.backward(&none, &none, kernels)?.dims(), [0, 12]);
        let layer_norm = LayerNorm::new(random(&[12], 5), random(&[12], 6), 1e-5);
        assert_eq!(layer_norm.forward(&none, kernels)?.dims(), [0, 12]);
        assert_eq!(layer_norm.backward(&none, &none, kernels)?.dims(), [0, 12]);
        assert_eq!(norm.forward_heads(&none, kernels)?.dims(), [0, 12]);
        assert_eq!(Gelu::Tanh.backward(&none, &none, kernels)?.dims(), [0, 12]);
        let [q, k, v] = fused::split(&none, [6, 3, 3], kernels)?;
        assert_eq!(fused::join([&q, &k, &v], kernels)?.dims(), [0, 12]);
        assert_eq!(swiglu::backward(&none, &none, &none, kernels)?.1.dims(), [0, 12]);
        let rotary = Rotary::new(&[], 6, 100.0, &Device::Cpu)?;
        let q = rotary.forward(&none, 2, kernels)?;
        assert_eq!(q.dims(), [2, 0, 6]);
        assert_eq!(rotary.backward(&q, kernels)?.dims(), [0, 12]);
        let (y, saved) = attention::forward(&q, &q, &q, &[0], kernels)?;
        assert_eq!(y.dims(), [2, 0, 6]);
        let (dq, ..) = attention::backward(&q, &q, &q, &y, &saved, &y, &[0], kernels)?;
        assert_eq!(dq.dims(), [2, 0, 6]);
    }
    Ok(())
}

#[test]
fn positions_start_anew_in_every_row() {
    let tokens = Tokens { ids: &[9; 6], borders: &[0, 2, 6] };
    assert_eq!(tokens.positions(), [0, 1, 0, 1, 2, 3]);
}
