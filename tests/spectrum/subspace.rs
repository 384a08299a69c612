//! Subspaces of two ΔW, what they do to a weight's own directions, spectra that data weight, and advice.

use lorascope::candle_core::{Device, Tensor};
use lorascope::display::Show;
use lorascope::ops::random::{Random, Stream};
use lorascope::spectrum::{
    Amplification, BaseWeight, IntruderConfig, Intruders, Scaling, Side, Spectra, Spectrum, SubspaceOverlap,
    Vectors, principal_angles,
};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/subspace.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn tensor(value: &Value) -> Tensor {
    Tensor::new(matrix(value), &Device::Cpu).unwrap()
}

fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} for {expected}");
}

fn vectors(adapter: &Value) -> Vectors {
    let scale = adapter["scale"].as_f64().unwrap();
    Vectors::of("m", &tensor(&adapter["a"]), &tensor(&adapter["b"]), scale).unwrap()
}

fn normal(seed: u64, rows: usize, columns: usize) -> Tensor {
    let mut random = Random::at(seed, Stream::Control, 9, 9);
    let values: Vec<f32> = (0..rows * columns).map(|_| random.normal() as f32).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

#[test]
fn golden_subspaces() {
    for case in &cases() {
        let name = case["name"].as_str().unwrap();
        let (one, two) = (vectors(&case["one"]), vectors(&case["two"]));
        for (side, key) in
            [(Side::Right, "phi_right"), (Side::Left, "phi_left"), (Side::A, "phi_a"), (Side::B, "phi_b")]
        {
            let expected = matrix(&case[key]);
            let overlap = SubspaceOverlap::of(&one, &two, side, (99, 99), 1).unwrap();
            assert_eq!((overlap.grid.len(), overlap.grid[0].len()), (expected.len(), expected[0].len()));
            for (i, row) in expected.iter().enumerate() {
                for (j, phi) in row.iter().enumerate() {
                    near(overlap.at(i + 1, j + 1).unwrap(), *phi, 1e-12, &format!("{name} φ({i}, {j})"));
                }
            }
        }
        let angles = principal_angles(&one, &two, Side::Right, (99, 99)).unwrap();
        let expected = numbers(&case["angles"]);
        assert_eq!(angles.len(), expected.len());
        for (found, expected) in angles.iter().zip(&expected) {
            // NumPy's are arccosines, which lose half the digits near 0.
            near(*found, *expected, 1e-7, name);
            near(found.cos(), expected.cos(), 1e-12, name);
        }
        assert!(angles.is_sorted());
    }
}

/// 1 was advised where nothing was learned.
#[test]
fn a_zero_delta_is_advised_no_rank() {
    let of = |name: &str, sigma: f32| {
        let a = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[sigma, 0.], [0., 0.]], &Device::Cpu).unwrap();
        Spectrum::of(name, &a, &b, 2.0).unwrap()
    };
    let some = Spectra::from(vec![of("layers.0.q_proj", 3.0), of("layers.1.q_proj", 0.0)]);
    let advice = some.advise(0.9).unwrap();
    let ranks: Vec<usize> = advice.modules.iter().map(|module| module.advised()).collect();
    assert_eq!(ranks, [1, 0]);
    // A pattern can say no less than 1, and a layer that it does not name would have the full rank.
    let least = ["layers.0.q_proj", "layers.1.q_proj"].map(|name| (name.to_string(), 1));
    assert_eq!(advice.rank_pattern().into_iter().collect::<Vec<_>>(), least);
    assert_eq!(advice.alpha_pattern(Scaling::Rank).len(), 2);
    assert_eq!(advice.parameters(), (16, 8));
    let text = advice.show().text;
    assert!(text.contains("in 1 modules ΔW is 0: nothing was learned there"), "{text}");
    let none = Spectra::from(vec![of("layers.0.q_proj", 0.0)]).advise(1.0).unwrap();
    assert_eq!(none.rank_pattern()["layers.0.q_proj"], 1);
    let text = none.table().show().text;
    assert!(text.contains("every ΔW is 0: nothing was learned"), "{text}");
}

#[test]
fn golden_amplification_and_intruders() {
    for case in &cases() {
        let name = case["name"].as_str().unwrap();
        let weight = BaseWeight::new(name, &tensor(&case["weight"])).unwrap();
        let delta = vectors(&case["one"]);
        let expected = &case["amplification"];
        let number = |key: &str| expected[key].as_f64().unwrap();
        let found = Amplification::of(&weight, &delta, number("rank") as usize, 3).unwrap();
        for (value, key) in [
            (found.delta_norm, "delta_norm"),
            (found.weight_norm, "weight_norm"),
            (found.along_delta, "along_delta"),
            (found.along_weight, "along_weight"),
        ] {
            near(value, number(key), 1e-12 * number("weight_norm"), &format!("{name} {key}"));
        }
        assert!(found.along_random > 0.0 && found.along_random < found.along_weight);
        let config = IntruderConfig { top: 4, ..Default::default() };
        let found = Intruders::of(&weight, &delta, &config).unwrap();
        let (sigma, cosine) =
            (numbers(&case["intruders"]["singular_values"]), numbers(&case["intruders"]["cosine"]));
        assert_eq!(found.rows.len(), 4);
        for (row, nearest) in found.rows.iter().zip(numbers(&case["intruders"]["nearest"])) {
            near(row.singular_value, sigma[row.index - 1], 1e-12 * sigma[0], name);
            near(row.cosine, cosine[row.index - 1], 1e-11, name);
            assert_eq!((row.nearest, row.left_out), (nearest as usize, 0.0));
        }
        assert_eq!(found.count(), cosine.iter().filter(|c| **c < 0.5).count());
        let table = found.show().text;
        assert!(table.contains(&format!("compared with {0} of {0} of W₀", found.of)), "{table}");
        assert_eq!(found.frame().unwrap().shape(), (4, 5));
    }
}

#[test]
fn golden_measures_and_weighted_spectra() {
    for case in &cases() {
        let name = case["name"].as_str().unwrap();
        let (one, c) = (&case["one"], tensor(&case["c"]));
        let (a, b, scale) = (tensor(&one["a"]), tensor(&one["b"]), one["scale"].as_f64().unwrap());
        let spectra = Spectra::of_weighted([(name, &a, &b, scale, Some(&c))]).unwrap();
        let plain = spectra.get(name).unwrap();
        let expected = |key: &str| case["measures"][key].as_f64().unwrap();
        let weight = case["amplification"]["weight_norm"].as_f64().unwrap();
        for (found, key) in [
            (plain.participation_ratio(), "participation_ratio"),
            (plain.nuclear_norm(), "nuclear_norm"),
            (plain.condition(), "condition"),
            (plain.first_share(), "first_share"),
            (plain.numerical_rank(None) as f64, "numerical_rank"),
            (plain.relative_norm(weight).unwrap(), "relative_norm"),
        ] {
            near(found, expected(key), 1e-11 * expected(key), &format!("{name} {key}"));
        }
        let weighted = spectra.weighted().unwrap().get(name).unwrap();
        let sigma = numbers(&case["weighted"]);
        assert_eq!(weighted.singular_values.len(), sigma.len());
        for (found, expected) in weighted.singular_values.iter().zip(&sigma) {
            // C goes through X^½ there and through its own eigenvalues here: both round at √ε of σ₁.
            near(*found, *expected, 1e-9 * sigma[0], name);
            near(found * found, expected * expected, 1e-13 * sigma[0] * sigma[0], name);
        }
        // Σ σ² is the mean square of the outputs' change.
        let (inputs, delta) = (tensor(&case["inputs"]), (b.matmul(&a).unwrap() * scale).unwrap());
        let change = inputs.matmul(&delta.t().unwrap()).unwrap().sqr().unwrap().sum_all().unwrap();
        let mean = change.to_scalar::<f64>().unwrap() / inputs.dims()[0] as f64;
        near(weighted.frobenius_norm().powi(2), mean, 1e-12 * mean, name);
    }
}

#[test]
fn a_space_with_itself_and_with_a_disjoint_one() {
    let (a, b) = (normal(1, 6, 40), normal(2, 33, 6));
    let one = Vectors::of("m", &a, &b, 1.0).unwrap();
    for side in [Side::Right, Side::Left] {
        let same = SubspaceOverlap::of(&one, &one, side, (6, 6), 0).unwrap();
        for i in 1..=6 {
            near(same.at(i, i).unwrap(), 1.0, 1e-14, "φ(i, i)");
            near(same.at(1, i).unwrap(), 1.0, 1e-14, "φ(1, i)");
        }
        assert!(principal_angles(&one, &one, side, (6, 6)).unwrap().iter().all(|angle| *angle < 1e-14));
    }
    // Twenty coordinates each: nothing in common.
    let half = |seed, first: usize| {
        let zeros = Tensor::zeros((3, 20), lorascope::candle_core::DType::F32, &Device::Cpu).unwrap();
        let own = normal(seed, 3, 20);
        let parts = if first == 0 { [&own, &zeros] } else { [&zeros, &own] };
        Vectors::of("m", &Tensor::cat(&parts, 1).unwrap(), &normal(seed + 10, 9, 3), 1.0).unwrap()
    };
    let (left, right) = (half(3, 0), half(4, 1));
    let apart = SubspaceOverlap::of(&left, &right, Side::Right, (3, 3), 0).unwrap();
    assert!(apart.grid.iter().flatten().all(|phi| *phi < 1e-28), "{:?}", apart.grid);
    let angles = principal_angles(&left, &right, Side::Right, (3, 2)).unwrap();
    assert_eq!(angles.len(), 2);
    angles.iter().for_each(|angle| near(*angle, std::f64::consts::FRAC_PI_2, 1e-14, "angle"));
}

#[test]
fn the_control_is_chance() {
    let one = Vectors::of("m", &normal(5, 8, 400), &normal(6, 300, 8), 1.0).unwrap();
    let other = Vectors::of("m", &normal(7, 4, 400), &normal(8, 300, 4), 1.0).unwrap();
    let overlap = SubspaceOverlap::of(&one, &other, Side::Right, (8, 4), 11).unwrap();
    // E φ(i, j) = i·j / width / min(i, j); the two are random as well.
    near(overlap.control[7][3], 8.0 / 400.0, 0.01, "control");
    near(overlap.grid[7][3], 8.0 / 400.0, 0.01, "grid");
    assert_eq!(overlap, SubspaceOverlap::of(&one, &other, Side::Right, (8, 4), 11).unwrap());
    assert_ne!(overlap.control, SubspaceOverlap::of(&one, &other, Side::Right, (8, 4), 12).unwrap().control);
    assert_eq!(overlap.frame().unwrap().shape(), (32, 4));
    assert!(overlap.show().text.contains("overlap of the first right singular vectors"));
    let error = overlap.at(9, 1).unwrap_err().to_string();
    assert_eq!(error, "there is no φ(9, 1); i goes from 1 to 8, j from 1 to 4");
    let narrow = Vectors::of("m", &normal(9, 2, 30), &normal(10, 300, 2), 1.0).unwrap();
    assert!(
        SubspaceOverlap::of(&one, &narrow, Side::Right, (2, 2), 0)
            .unwrap_err()
            .to_string()
            .contains("400 and of 30")
    );
    assert!(SubspaceOverlap::of(&one, &narrow, Side::Left, (2, 2), 0).is_ok());
    let zero =
        Vectors::of("m", &normal(9, 2, 400), &normal(1, 300, 2).affine(0.0, 0.0).unwrap(), 1.0).unwrap();
    assert!(
        SubspaceOverlap::of(&one, &zero, Side::Right, (2, 2), 0).unwrap_err().to_string().contains("zero")
    );
}

/// A weight of 1100×1200 with singular values that fall as those of language models do.
fn large() -> Tensor {
    let (q, w) = (normal(20, 1100, 40), normal(21, 40, 1200));
    let falling: Vec<f32> = (0..40).map(|k| 30.0 * 0.9f32.powi(k)).collect();
    let low = q.broadcast_mul(&Tensor::new(falling, &Device::Cpu).unwrap()).unwrap().matmul(&w).unwrap();
    (low + (normal(22, 1100, 1200) * 2.0).unwrap()).unwrap()
}

#[test]
fn the_first_directions_of_a_large_weight() {
    let tensor = large();
    let weight = BaseWeight::new("w", &tensor).unwrap();
    let found = weight.vectors(6).unwrap();
    // The dense decomposition, on the smaller Gram matrix and by itself.
    let rows = tensor.to_vec2::<f32>().unwrap();
    let dense = faer::Mat::from_fn(1100, 1200, |i, j| f64::from(rows[i][j]));
    let svd = dense.thin_svd().unwrap();
    let known: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let u = found.u.to_vec2::<f64>().unwrap();
    for k in 0..6 {
        near(found.singular_values[k], known[k], 1e-12 * known[0], "σ");
        let inner: f64 = (0..1100).map(|i| u[i][k] * svd.U()[(i, k)]).sum();
        near(inner.abs(), 1.0, 1e-12, "u");
    }
    // Intruders by the same way: with some of W₀'s vectors, and what the others can add.
    let delta = Vectors::of("w", &normal(23, 1, 1200), &(normal(24, 1100, 1) * 3.0).unwrap(), 1.0).unwrap();
    let few = IntruderConfig { top: 3, compared: Some(5), ..Default::default() };
    let found = Intruders::of(&weight, &delta, &few).unwrap();
    let all = Intruders::of(&weight, &delta, &IntruderConfig { top: 3, ..Default::default() }).unwrap();
    assert_eq!((found.compared, found.of, all.compared), (5, 1100, 1100));
    for (some, all) in found.rows.iter().zip(&all.rows) {
        near(some.singular_value, all.singular_value, 1e-9 * known[0], "σ of W₀ + ΔW");
        assert!(some.cosine <= all.cosine + 1e-12 && all.cosine <= some.cosine.max(some.left_out) + 1e-9);
    }
    assert!(found.count() <= all.count() && all.count() <= found.count() + found.undecided());
}

#[test]
fn what_does_not_fit_is_said() {
    let weight = BaseWeight::new("w", &normal(1, 9, 7)).unwrap();
    let delta = Vectors::of("w", &normal(2, 2, 9), &normal(3, 7, 2), 1.0).unwrap();
    let error = Amplification::of(&weight, &delta, 2, 0).unwrap_err().to_string();
    assert!(error.starts_with("layer w: ΔW is 7×9 beside a weight of 9×7"), "{error}");
    let fits = Vectors::of("w", &normal(2, 2, 7), &normal(3, 9, 2), 1.0).unwrap();
    for threshold in [0.0, 1.2, f64::NAN] {
        let config = IntruderConfig { threshold, ..Default::default() };
        assert!(Intruders::of(&weight, &fits, &config).unwrap_err().to_string().contains("a threshold of"));
    }
    assert!(Amplification::of(&weight, &fits, 0, 0).unwrap_err().is_input());
    let broken = Tensor::new(&[[1f32, f32::NAN]], &Device::Cpu).unwrap();
    assert!(BaseWeight::new("w", &broken).unwrap_err().to_string().contains("W[0, 1] is NaN"));
}

#[test]
fn a_c_that_cannot_be_is_refused() {
    let (a, b) = (normal(1, 3, 8), normal(2, 5, 3));
    let said = |c: Tensor| Spectrum::weighted("layers.1.q", &a, &b, 1.0, &c).unwrap_err().to_string();
    let c = |values: [[f64; 3]; 3]| Tensor::new(&values, &Device::Cpu).unwrap();
    assert!(said(normal(3, 2, 2)).starts_with("layer layers.1.q: C is [2, 2] beside factors of rank 3"));
    assert!(said(c([[1., 2., 0.], [0., 1., 0.], [0., 0., 1.]])).contains("C[1, 0] is 0 and C[0, 1] is 2"));
    assert!(said(c([[1., 0., 0.], [0., -1., 0.], [0., 0., 1.]])).contains("the eigenvalue -1"));
    assert!(said(c([[f64::NAN, 0., 0.], [0., 1., 0.], [0., 0., 1.]])).contains("C[0, 0] is NaN"));
    // Rounding below zero is none.
    let tiny = c([[1., 0., 0.], [0., -1e-9, 0.], [0., 0., 0.]]);
    let found = Spectrum::weighted("m", &a, &b, 1.0, &tiny).unwrap();
    assert!(found.singular_values[0] > 0.1 && found.singular_values[1] < 1e-12);
    // The identity leaves B's own spectrum.
    let found = Spectrum::weighted("m", &a, &b, 2.0, &c([[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]])).unwrap();
    let own = Spectrum::of(
        "m",
        &Tensor::eye(3, lorascope::candle_core::DType::F64, &Device::Cpu).unwrap(),
        &b,
        2.0,
    );
    for (x, y) in found.singular_values.iter().zip(&own.unwrap().singular_values) {
        near(*x, *y, 1e-13, "σ");
    }
}

#[test]
fn advice_counts_what_is_kept() {
    let of = |name: &str, values: &[f64]| Spectrum {
        name: name.into(),
        singular_values: values.to_vec(),
        in_features: 10,
        out_features: 30,
        rank: values.len(),
        scale: 2.0,
    };
    let spectra = Spectra::from(vec![
        of("layers.0.q_proj", &[3.0, 1.0, 0.0]),
        of("layers.1.q_proj", &[1.0, 1.0, 1.0]),
        of("layers.1.c_attn[0]", &[1.0, 0.0]),
        of("layers.1.c_attn[2]", &[1.0, 1.0]),
    ]);
    let advice = spectra.advise(0.9).unwrap();
    let ranks: Vec<usize> = advice.modules.iter().map(|module| module.advised()).collect();
    assert_eq!(ranks, [1, 3, 1, 2]);
    let pattern = advice.rank_pattern();
    assert_eq!(pattern.len(), 3);
    assert_eq!((pattern["layers.0.q_proj"], pattern["layers.1.c_attn"]), (1, 2));
    assert_eq!(advice.alpha_pattern(Scaling::Rank)["layers.1.q_proj"], 6.0);
    near(advice.alpha_pattern(Scaling::Root)["layers.1.q_proj"], 2.0 * 3f64.sqrt(), 1e-15, "alpha");
    // 40·(1 + 3 + 2 + 2): both parts of c_attn get the rank of the larger.
    assert_eq!(advice.parameters(), (400, 320));
    assert_eq!(advice.frame().unwrap().shape(), (4, 9));
    let text = advice.show().text;
    assert!(text.contains("90 % of the energy of ΔW: 320 numbers instead of 400"), "{text}");
    for energy in [0.0, 1.2, f64::NAN] {
        let error = spectra.advise(energy).unwrap_err().to_string();
        assert!(error.contains("above 0 and up to 1"), "{error}");
    }
    // Where the data say otherwise, the data decide.
    let (a, b) = (normal(1, 2, 8), Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu).unwrap());
    let c = Tensor::new(&[[1f32, 0.], [0., 1e-6]], &Device::Cpu).unwrap();
    let spectra =
        Spectra::of_weighted([("layers.0.q", &a, &b, 1.0, Some(&c)), ("layers.1.q", &a, &b, 1.0, None)]);
    let spectra = spectra.unwrap();
    let advice = spectra.advise(0.99).unwrap();
    assert_eq!(
        (advice.modules[0].plain, advice.modules[0].weighted, advice.modules[0].advised()),
        (2, Some(1), 1)
    );
    assert_eq!((advice.modules[1].weighted, advice.modules[1].advised()), (None, 2));
    let text = advice.show().text;
    assert!(text.contains("of the output's change in 1 modules, of ΔW in the others"), "{text}");
    // Choosing keeps what belongs together, and a layer that is not there names those that are.
    assert!(spectra.layer(0).unwrap().weighted().is_some() && spectra.layer(1).unwrap().weighted().is_none());
    let text = spectra.weighted().unwrap().show().text;
    assert!(text.contains("effective rank of B·C^½: 1 adapters"), "{text}");
    let error = spectra.layer(99).unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "no adapter is in layer 99; ask for one of the layers 0 to 1");
}
