//! Adapters cut to a smaller rank and grown to a larger one.

use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::lora::{Adapter, Adapters, Beside, LoraConfig, TargetModules, Truncation};
use lorascope::ops::random::{Random, Stream};
use lorascope::spectrum::Spectrum;
use serde_json::Value;
use std::collections::BTreeMap;

fn normal(seed: u64, rows: usize, columns: usize) -> Tensor {
    let mut random = Random::at(seed, Stream::Control, 8, 8);
    let values: Vec<f32> = (0..rows * columns).map(|_| random.normal() as f32).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

fn set(config: LoraConfig, pairs: Vec<(&str, Adapter)>) -> Adapters {
    let pairs: BTreeMap<String, Adapter> =
        pairs.into_iter().map(|(path, pair)| (path.to_string(), pair)).collect();
    let target_modules = TargetModules::Named(pairs.keys().cloned().collect());
    Adapters::from_pairs(LoraConfig { target_modules, ..config }, pairs)
}

fn delta(adapters: &Adapters, path: &str) -> Vec<f64> {
    let delta = adapters.get(path).unwrap().delta().unwrap();
    delta.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn distance(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}

fn norm(x: &[f64]) -> f64 {
    distance(x, &vec![0.0; x.len()])
}

#[test]
fn golden_cuts() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/subspace.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let matrix = |value: &Value| -> Vec<Vec<f64>> { serde_json::from_value(value.clone()).unwrap() };
    for case in &cases {
        let tensor = |value: &Value| Tensor::new(matrix(value), &Device::Cpu).unwrap();
        let (one, kept) = (&case["one"], case["kept"].as_u64().unwrap() as usize);
        let (rank, scale) = (one["rank"].as_u64().unwrap() as usize, one["scale"].as_f64().unwrap());
        let float = |value: &Value| tensor(value).to_dtype(DType::F32).unwrap();
        let pair = Adapter::new(float(&one["a"]), float(&one["b"]), scale).unwrap();
        let adapters =
            set(LoraConfig { rank, alpha: scale * rank as f64, ..Default::default() }, vec![("m", pair)]);
        let c = BTreeMap::from([("m".to_string(), tensor(&case["c"]))]);
        let inputs = matrix(&case["inputs"]);
        let whole = delta(&adapters, "m");
        let width = inputs[0].len();
        let error = |cut: &[f64]| {
            let outputs = |x: &Vec<f64>| -> f64 {
                let rows = whole.chunks(width).zip(cut.chunks(width));
                rows.map(|(w, m)| (0..width).map(|j| (w[j] - m[j]) * x[j]).sum::<f64>().powi(2)).sum()
            };
            inputs.iter().map(outputs).sum::<f64>() / inputs.len() as f64
        };
        let plain = adapters.truncate(&Truncation::Rank(kept)).unwrap();
        let best = adapters.truncate_weighted(&Truncation::Rank(kept), &c).unwrap();
        for (cut, key, expected) in [(&plain, "plain_cut", "plain_error"), (&best, "best_cut", "best_error")]
        {
            let pair = cut.get("m").unwrap();
            assert_eq!((pair.rank(), pair.scale()), (kept, scale));
            let (found, known) = (delta(cut, "m"), matrix(&case[key]).concat());
            assert!(distance(&found, &known) < 3e-7 * norm(&whole), "{key} {}", distance(&found, &known));
            let known = case[expected].as_f64().unwrap();
            assert!(
                (error(&found) - known).abs() < 1e-6 * known,
                "{expected}: {} for {known}",
                error(&found)
            );
            // Balanced: the i-th row of A is as long as the i-th column of B.
            let squares =
                |t: &Tensor, dim: usize| t.sqr().unwrap().sum(dim).unwrap().to_vec1::<f32>().unwrap();
            for (a, b) in squares(pair.a(), 1).iter().zip(squares(pair.b(), 0)) {
                assert!((a / b - 1.0).abs() < 1e-5, "{a} beside {b}");
            }
            assert_eq!((cut.config().rank, cut.config().alpha), (kept, scale * kept as f64));
        }
        assert!(error(&delta(&best, "m")) < error(&delta(&plain, "m")));
    }
}

#[test]
fn other_inputs_are_served_better_too() {
    // C from one draw of inputs, the error on another of the same kind.
    let (a, b) = (normal(1, 6, 20), normal(2, 15, 6));
    let adapters = set(
        LoraConfig { rank: 6, alpha: 6.0, ..Default::default() },
        vec![("m", Adapter::new(a.clone(), b, 1.0).unwrap())],
    );
    let scales: Vec<f32> = (0..20).map(|k| 0.7f32.powi(k)).collect();
    let draw = |seed| {
        normal(seed, 400, 20).broadcast_mul(&Tensor::new(scales.clone(), &Device::Cpu).unwrap()).unwrap()
    };
    let seen = draw(3).matmul(&a.t().unwrap()).unwrap();
    let c = (seen.t().unwrap().matmul(&seen).unwrap() / 400.0).unwrap();
    let c = BTreeMap::from([("m".to_string(), c)]);
    let error = |cut: &Adapters| {
        let whole = adapters.get("m").unwrap().delta().unwrap();
        let rest = (whole - cut.get("m").unwrap().delta().unwrap()).unwrap();
        draw(4)
            .matmul(&rest.t().unwrap())
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    for rank in 1..6 {
        let plain = adapters.truncate(&Truncation::Rank(rank)).unwrap();
        let weighted = adapters.truncate_weighted(&Truncation::Rank(rank), &c).unwrap();
        assert!(error(&weighted) <= error(&plain), "rank {rank}: {} and {}", error(&weighted), error(&plain));
    }
    let energy = adapters.truncate_weighted(&Truncation::Energy(0.9), &c).unwrap();
    let rank = adapters
        .spectra_weighted(&c)
        .unwrap()
        .weighted()
        .unwrap()
        .get("m")
        .unwrap()
        .energy_rank(0.9)
        .unwrap();
    assert_eq!(energy.get("m").unwrap().rank(), rank);
}

/// Every kind of adapter, alphas that are not the ranks.
fn mixed() -> Adapters {
    let zeroed =
        Adapter::new(normal(9, 3, 10), Tensor::zeros((12, 3), DType::F32, &Device::Cpu).unwrap(), 2.5);
    let dora = Adapter::new(normal(1, 3, 10), normal(2, 12, 3), 2.5).unwrap();
    let pissa = Adapter::new(normal(3, 3, 10), normal(4, 12, 3), 2.5).unwrap();
    set(
        LoraConfig { rank: 3, alpha: 7.5, ..Default::default() },
        vec![
            ("layers.0.dora", dora.with_magnitude(normal(5, 1, 12).flatten_all().unwrap()).unwrap()),
            ("layers.0.pissa", pissa.starting_from(normal(6, 3, 10), normal(7, 12, 3)).unwrap()),
            ("layers.0.zero", zeroed.unwrap()),
            (
                "layers.1.c_attn",
                Adapter::merged(normal(10, 6, 10), normal(11, 8, 3), &[true, false, true], 2.5).unwrap(),
            ),
            ("wte", Adapter::embedding(normal(12, 3, 50), normal(13, 10, 3), 2.5).unwrap()),
        ],
    )
}

#[test]
fn every_kind_has_its_spectra() {
    let adapters = mixed();
    let spectra = adapters.spectra().unwrap();
    let names: Vec<&str> = spectra.iter().map(|spectrum| spectrum.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "layers.0.dora",
            "layers.0.pissa",
            "layers.0.zero",
            "layers.1.c_attn[0]",
            "layers.1.c_attn[2]",
            "wte"
        ]
    );
    assert_eq!(spectra.select("c_attn").unwrap().len(), 2);
    assert_eq!(spectra.select("c_attn[2]").unwrap().len(), 1);
    let dense = |values: &[f64], rows: usize| {
        let columns = values.len() / rows;
        let matrix = faer::Mat::from_fn(rows, columns, |i, j| values[i * columns + j]);
        matrix.singular_values().unwrap()
    };
    let close = |name: &str, expected: &[f64]| {
        let found: Spectrum = spectra.get(name).unwrap();
        for (x, y) in found.singular_values.iter().zip(expected) {
            assert!((x - y).abs() < 2e-6 * expected[0], "{name}: {x} for {y}"); // ΔW itself is f32
        }
    };
    close("layers.0.pissa", &dense(&delta(&adapters, "layers.0.pissa"), 12));
    assert_eq!(spectra.get("layers.0.pissa").unwrap().rank, 6);
    close("wte", &dense(&delta(&adapters, "wte"), 50));
    let merged = delta(&adapters, "layers.1.c_attn");
    close("layers.1.c_attn[0]", &dense(&merged[..40], 4));
    close("layers.1.c_attn[2]", &dense(&merged[80..], 4));
    let vectors = adapters.vectors("layers.1.c_attn[2]").unwrap();
    assert_eq!((vectors.u.dims(), vectors.v.dims()), (&[4, 3][..], &[10, 3][..]));
    let error = adapters.vectors("layers.1.c_attn").unwrap_err().to_string();
    assert!(error.ends_with("ask for layers.1.c_attn[0] or layers.1.c_attn[2]"), "{error}");
    let error = adapters.vectors("layers.7.q").unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("there are 5: layers.0.dora"), "{error}");
    // C of a merged layer covers all its parts; that of A alone does not fit A with A₀ beside it.
    let eye = |n| Tensor::eye(n, DType::F32, &Device::Cpu).unwrap();
    let c = |path: &str, n| BTreeMap::from([(path.to_string(), eye(n))]);
    let of = |c| adapters.spectra_weighted(&c).map(|spectra| spectra.weighted().map_or(0, |w| w.len()));
    assert_eq!(of(c("layers.1.c_attn", 6)).unwrap(), 2);
    assert_eq!((of(c("layers.0.pissa", 3)).unwrap(), of(c("layers.0.pissa", 6)).unwrap()), (0, 1));
    assert!(of(c("layers.0.dora", 4)).unwrap_err().to_string().contains("layer layers.0.dora: C is [4, 4]"));
    assert!(of(c("layers.9.q", 3)).unwrap_err().is_not_found());
}

#[test]
fn every_kind_is_cut_and_keeps_its_scale() {
    let adapters = mixed();
    let cut = adapters.truncate(&Truncation::Rank(2)).unwrap();
    assert_eq!((cut.config().rank, cut.config().alpha), (2, 5.0));
    assert!(cut.config().rank_pattern.is_empty() && cut.config().alpha_pattern.is_empty());
    for (path, pair) in cut.iter() {
        assert_eq!((pair.rank(), pair.scale()), (2, 2.5), "{path}");
        assert_eq!(pair.beside(), adapters.get(path).unwrap().beside());
        assert!(pair.start().is_none());
        // What is lost is what Eckart and Young say.
        let lost: f64 = adapters
            .spectra()
            .unwrap()
            .iter()
            .filter(|spectrum| spectrum.name.split('[').next() == Some(path))
            .map(|spectrum| spectrum.singular_values[2..].iter().map(|s| s * s).sum::<f64>())
            .sum();
        let (whole, rest) = (delta(&adapters, path), delta(&cut, path));
        let found = distance(&whole, &rest);
        assert!((found - lost.sqrt()).abs() <= 1e-6 * norm(&whole), "{path}: {found} for {}", lost.sqrt());
    }
    let magnitude =
        |a: &Adapters| a.get("layers.0.dora").unwrap().magnitude().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(magnitude(&cut), magnitude(&adapters));
    // Nothing was learned, nothing is kept; but its directions can still be.
    let zero = cut.get("layers.0.zero").unwrap();
    assert_eq!(zero.b().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    for row in zero.a().to_vec2::<f32>().unwrap() {
        assert!(row.iter().map(|x| x * x).sum::<f32>() > 1.0);
    }
    // At its own rank an adapter stays as it is, to the bit; a start is folded in at twice the rank.
    let same = adapters.truncate(&Truncation::Rank(3)).unwrap();
    assert_eq!(delta(&same, "layers.1.c_attn"), delta(&adapters, "layers.1.c_attn"));
    assert!(same.get("layers.0.pissa").unwrap().start().is_none());
    assert!(
        adapters.truncate(&Truncation::Rank(6)).unwrap().get("layers.0.pissa").unwrap().start().is_some()
    );
}

#[test]
fn patterns_and_energies_are_written_with_their_alphas() {
    let adapters = mixed();
    let pattern =
        Truncation::Pattern([("c_attn".to_string(), 1), ("dora".to_string(), 2)].into_iter().collect());
    let cut = adapters.truncate(&pattern).unwrap();
    let ranks: Vec<usize> = cut.iter().map(|(_, pair)| pair.rank()).collect();
    assert_eq!(ranks, [2, 3, 3, 1, 3]);
    assert!(cut.get("layers.0.pissa").unwrap().start().is_some(), "it is as it was");
    let config = cut.config();
    assert_eq!((config.rank, config.alpha), (3, 7.5));
    assert_eq!((config.rank_pattern["layers.1.c_attn"], config.alpha_pattern["layers.1.c_attn"]), (1, 2.5));
    assert_eq!((config.rank_pattern["layers.0.dora"], config.alpha_pattern["layers.0.dora"]), (2, 5.0));
    let advice = adapters.spectra().unwrap().advise(0.7).unwrap();
    let (by_energy, by_pattern) = (
        adapters.truncate(&Truncation::Energy(0.7)).unwrap(),
        adapters.truncate(&Truncation::Pattern(advice.rank_pattern())),
    );
    for (path, pair) in by_pattern.unwrap().iter() {
        assert_eq!(pair.rank(), by_energy.get(path).unwrap().rank(), "{path}");
    }
    for (cut, text) in [
        (Truncation::Rank(0), "rank 0 leaves nothing"),
        (Truncation::Energy(1.2), "an energy of 1.2; ask for a share above 0 and up to 1"),
        (Truncation::Energy(f64::NAN), "NaN"),
        (
            Truncation::Pattern([("k_proj".to_string(), 1)].into_iter().collect()),
            "no adapter fits the pattern \"k_proj\"",
        ),
    ] {
        let error = adapters.truncate(&cut).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn cuts_are_read_back_from_their_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, rank_stabilised) in [("plain", false), ("stabilised", true)] {
        let scale = 3.0;
        let linear = |seed| Adapter::new(normal(seed, 5, 14), normal(seed + 1, 11, 5), scale).unwrap();
        let alpha = if rank_stabilised { scale * 5f64.sqrt() } else { scale * 5.0 };
        let adapters = set(
            LoraConfig { rank: 5, alpha, rank_stabilised, ..Default::default() },
            vec![
                ("model.layers.0.self_attn.q_proj", linear(1)),
                ("model.layers.1.self_attn.q_proj", linear(3)),
                ("model.layers.11.self_attn.q_proj", linear(5)),
            ],
        );
        let ranks = [("layers.1.self_attn.q_proj".to_string(), 2)].into_iter().collect();
        let cut = adapters.truncate(&Truncation::Pattern(ranks)).unwrap();
        let path = folder.path().join(name);
        cut.save(&path, "base").unwrap();
        let read = Adapters::open(&path, &Device::Cpu).unwrap();
        for (layer, pair) in cut.iter() {
            let own = read.get(layer).unwrap();
            assert_eq!(own.rank(), pair.rank());
            assert!(
                (own.scale() / pair.scale() - 1.0).abs() < 1e-12,
                "{layer}: {} {}",
                own.scale(),
                pair.scale()
            );
            assert_eq!(own.a().to_vec2::<f32>().unwrap(), pair.a().to_vec2::<f32>().unwrap());
        }
        assert_eq!(read.get("model.layers.1.self_attn.q_proj").unwrap().rank(), 2);
        let text = std::fs::read_to_string(path.join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["rank_pattern"]["model.layers.1.self_attn.q_proj"], 2);
        let alpha = config["alpha_pattern"]["model.layers.1.self_attn.q_proj"].as_f64().unwrap();
        assert!((alpha / if rank_stabilised { 3.0 * 2f64.sqrt() } else { 6.0 } - 1.0).abs() < 1e-12);
    }
}

#[test]
fn growing_changes_no_output() {
    let adapters =
        set(mixed().config().clone(), mixed().iter().map(|(path, pair)| (path, pair.clone())).collect());
    let refused = adapters.grow(9, 1).unwrap_err().to_string();
    assert!(refused.contains("layers.1.c_attn: rank 9 is more than B·A of 4×10 can have"), "{refused}");
    assert!(adapters.grow(2, 1).unwrap_err().to_string().contains("rank 3 cannot grow to 2"));
    let grown = adapters.grow(4, 1).unwrap();
    assert_eq!((grown.config().rank, grown.config().alpha), (4, 10.0));
    for (path, pair) in grown.iter() {
        let old = adapters.get(path).unwrap();
        assert_eq!((pair.rank(), pair.scale(), pair.shape()), (4, 2.5, old.shape()), "{path}");
        let x = normal(40, 5, pair.a().dims()[1]);
        // It adds in place: each call gets zeros of its own.
        let zero = || Tensor::zeros((5, pair.b().dims()[0]), DType::F32, &Device::Cpu).unwrap();
        let y = |pair: &Adapter| pair.forward(zero(), &x).unwrap().to_vec2::<f32>().unwrap().concat();
        let largest = y(old).iter().fold(0f32, |m, v| m.max(v.abs()));
        for (new, old) in y(pair).iter().zip(y(old)) {
            assert!((new - old).abs() <= 1e-6 * largest, "{path}: {new} {old}");
        }
        let (fresh, silent) = match pair.beside() {
            Beside::Embedding => (pair.b().narrow(1, 3, 1).unwrap(), pair.a().narrow(0, 3, 1).unwrap()),
            Beside::Parts(_) => (pair.a().narrow(0, 3, 1).unwrap(), pair.b().narrow(1, 3, 1).unwrap()),
            Beside::Linear => (pair.a().narrow(0, 3, 1).unwrap(), pair.b().narrow(1, 3, 1).unwrap()),
        };
        let size = |t: Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size(fresh) > 0.1 && size(silent) == 0.0, "{path}");
        // The old components are as they were, to the bit.
        if !matches!(pair.beside(), Beside::Parts(_)) {
            let kept = pair.a().narrow(0, 0, 3).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(kept, old.a().to_vec2::<f32>().unwrap());
        }
    }
    let pissa = grown.get("layers.0.pissa").unwrap().start().unwrap().0.dims().to_vec();
    assert_eq!(pissa, [4, 10]);
    let again = |seed| grown_a(&adapters.grow(4, seed).unwrap());
    assert_eq!(again(1), again(1));
    assert_ne!(again(1), again(2));
    // A grown adapter trains where it did not: the gradient of the new columns of B is not zero.
    let pair = grown.get("layers.0.zero").unwrap();
    let (gradient, _) = pair.backward(&normal(41, 5, 10), &normal(42, 5, 12), None).unwrap();
    let new =
        gradient.b.narrow(1, 3, 1).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(new > 0.0);
}

fn grown_a(adapters: &Adapters) -> Vec<f32> {
    adapters.get("layers.0.dora").unwrap().a().flatten_all().unwrap().to_vec1().unwrap()
}
