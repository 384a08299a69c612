//! Factored spectra against dense decompositions, golden numbers and invariances.

use faer::Mat;
use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::display::Show;
use lorascope::spectrum::{LayerPlace, Spectra, Spectrum, Vectors};

/// Numbers from -1 to 1, the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Mat<f64> {
        Mat::from_fn(rows, columns, |_, _| self.next())
    }
}

fn rows(matrix: &Mat<f64>) -> Vec<f64> {
    (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)])).collect()
}

fn tensor(matrix: &Mat<f64>) -> Tensor {
    Tensor::from_vec(rows(matrix), (matrix.nrows(), matrix.ncols()), &Device::Cpu).unwrap()
}

fn spectrum(a: &Mat<f64>, b: &Mat<f64>, scale: f64) -> Spectrum {
    Spectrum::from_slices("m", &rows(a), &rows(b), a.nrows(), scale).unwrap()
}

/// The first min(out, in, r) singular values of the dense scale·B·A.
fn dense(a: &Mat<f64>, b: &Mat<f64>, scale: f64) -> Vec<f64> {
    let product = faer::Scale(scale) * (b * a);
    let mut values = product.singular_values().unwrap();
    values.truncate(a.nrows());
    values
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (k, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance * expected[0],
            "σ_{}: {f:e} for {e:e}, σ_1 {:e}",
            k + 1,
            expected[0]
        );
    }
    assert!(found.is_sorted_by(|a, b| a >= b), "{found:?}");
}

#[test]
fn equals_the_dense_decomposition() {
    let mut noise = Noise(1);
    // (out, in, r): odd sizes, tall, wide, r larger than a side.
    for (out, width, rank) in
        [(13, 17, 5), (31, 7, 3), (7, 31, 6), (3, 19, 8), (19, 3, 8), (5, 5, 5), (1, 1, 1), (129, 257, 33)]
    {
        let (a, b) = (noise.matrix(rank, width), noise.matrix(out, rank));
        let found = spectrum(&a, &b, 7.0 / rank as f64);
        assert_close(&found.singular_values, &dense(&a, &b, 7.0 / rank as f64), 1e-13);
    }
}

#[test]
fn equals_the_dense_decomposition_at_every_magnitude() {
    let mut noise = Noise(2);
    for size in [1e-30, 1e-12, 1e-6, 1e3, 1e30] {
        let (a, b) = (noise.matrix(4, 21), faer::Scale(size) * noise.matrix(15, 4));
        assert_close(&spectrum(&a, &b, 0.5).singular_values, &dense(&a, &b, 0.5), 1e-13);
        // The other way round, and balanced against each other.
        let (a, b) = (faer::Scale(size) * a, faer::Scale(1.0 / size) * b);
        assert_close(&spectrum(&a, &b, 2.0).singular_values, &dense(&a, &b, 2.0), 1e-13);
    }
}

#[test]
fn no_square_overflows() {
    let (a, b) = (Noise(3).matrix(2, 9), Noise(4).matrix(5, 2));
    let expected = dense(&a, &b, 1.0);
    let (a, b) = (faer::Scale(1e200) * a, faer::Scale(1e-200) * b);
    assert_close(&spectrum(&a, &b, 1.0).singular_values, &expected, 1e-13);
}

#[test]
fn deficient_factors_have_their_zeros() {
    let mut noise = Noise(5);
    let (a, mut b) = (noise.matrix(5, 301), noise.matrix(211, 5));
    for i in 0..b.nrows() {
        b[(i, 3)] = b[(i, 0)] - 2.0 * b[(i, 1)];
    }
    let found = spectrum(&a, &b, 3.0);
    assert_close(&found.singular_values, &dense(&a, &b, 3.0), 1e-13);
    assert!(found.singular_values[4] < 1e-14 * found.spectral_norm(), "{:?}", found.singular_values);
    // A remainder of 1e-12 is far above rounding and must be seen (faer's own QR would drop it).
    for i in 0..b.nrows() {
        b[(i, 3)] += 1e-12 * noise.next();
    }
    let found = spectrum(&a, &b, 3.0).singular_values;
    assert!(found[4] > 1e-14 * found[0] && found[4] < 1e-11 * found[0], "{found:?}");
}

/// Orthonormal columns.
fn orthonormal(noise: &mut Noise, rows: usize, columns: usize) -> Mat<f64> {
    // Twice: their inner products are then 0 to the last bit that counts at 1e-12 of the largest.
    noise.matrix(rows, columns).qr().compute_thin_Q().qr().compute_thin_Q()
}

/// `share` of each logarithm of σ on B, the rest on A: B = Q·diag(σ^share), A = diag(σ^(1 − share))·Wᵀ.
fn graded(noise: &mut Noise, sizes: (usize, usize), sigma: &[f64], share: f64) -> (Mat<f64>, Mat<f64>) {
    let (q, w) = (orthonormal(noise, sizes.0, sigma.len()), orthonormal(noise, sizes.1, sigma.len()));
    let b = Mat::from_fn(sizes.0, sigma.len(), |i, k| q[(i, k)] * sigma[k].powf(share));
    let a = Mat::from_fn(sigma.len(), sizes.1, |k, j| w[(j, k)] * sigma[k].powf(1.0 - share));
    (a, b)
}

fn assert_each_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (k, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance * e,
            "σ_{}: {f:e} for {e:e}, {:e} of it",
            k + 1,
            (f / e - 1.0).abs()
        );
    }
}

#[test]
fn many_components_of_few_directions() {
    // B and A of rank 64 with 3 directions, with copies, and with components that are zero.
    let mut noise = Noise(55);
    for (out, width) in [(300, 200), (64, 70), (31, 64)] {
        let (few, some) = (noise.matrix(out, 3), noise.matrix(3, width));
        let (a, b) = (noise.matrix(64, 3) * &some, &few * noise.matrix(3, 64));
        let whole = noise.matrix(64, width);
        let copies = Mat::from_fn(out, 64, |i, k| few[(i, k % 3)]);
        let halves = Mat::from_fn(out, 64, |i, k| if k % 2 == 0 { 0.0 } else { b[(i, k)] });
        for (a, b) in [(&a, &b), (&whole, &b), (&whole, &copies), (&whole, &halves), (&a, &halves)] {
            let found = spectrum(a, b, 0.5);
            assert_close(&found.singular_values, &dense(a, b, 0.5), 1e-13);
            assert_eq!(found.numerical_rank(Some(1e-12 * found.spectral_norm())), 3);
        }
    }
}

#[test]
fn known_values_of_graded_adapters() {
    let mut noise = Noise(6);
    let falling: Vec<f64> = (0..13).map(|k| 10f64.powi(-k)).collect();
    let mixed: Vec<f64> = [5usize, 0, 11, 3, 12, 8, 1].iter().map(|k| 10f64.powi(-(*k as i32))).collect();
    for sizes in [(43, 57), (301, 1000), (13, 13), (1500, 16)] {
        for share in [1.0, 0.5, 0.0, 2.0] {
            for sigma in [&falling, &mixed] {
                let (a, b) = graded(&mut noise, sizes, sigma, share);
                let mut expected = sigma.clone();
                expected.sort_by(|x, y| y.total_cmp(x));
                let found = spectrum(&a, &b, -3.0).singular_values;
                let found: Vec<f64> = found.iter().map(|s| s / 3.0).collect();
                assert_each_close(&found, &expected, 1e-9);
            }
        }
    }
}

#[test]
fn graded_columns_of_a_factor_that_is_not_orthogonal() {
    // B = X·D with a well-conditioned X: in 50 decimal digits the values would be those that the
    // same factors give when D is taken on the side of A.
    let mut noise = Noise(60);
    let (x, y) = (noise.matrix(200, 9), noise.matrix(9, 150));
    let d = |k: usize| 2f64.powi(-5 * k as i32);
    let left = Mat::from_fn(200, 9, |i, k| x[(i, k)] * d(k));
    let right = Mat::from_fn(9, 150, |k, j| y[(k, j)] * d(k));
    let (one, other) = (spectrum(&y, &left, 1.0).singular_values, spectrum(&right, &x, 1.0).singular_values);
    assert_each_close(&one, &other, 1e-13);
    assert!(one[8] < 1e-11 * one[0]);
    // Turned round: ΔWᵀ = Aᵀ·Bᵀ has the same values.
    let turned = spectrum(&left.transpose().to_owned(), &y.transpose().to_owned(), 1.0).singular_values;
    assert_each_close(&one, &turned, 1e-13);
}

#[test]
fn components_that_are_nearly_one() {
    // B's columns differ by 1e-2 … 1e-11 of their length: each way to find R, and their borders.
    let mut noise = Noise(61);
    for distance in [1.0, 0.3, 1e-1, 1e-2, 1e-4, 1e-5, 1e-7, 1e-11] {
        for (out, rank) in [(901, 16), (240, 5), (247, 3), (17, 17)] {
            let a = noise.matrix(rank, 64);
            let common = noise.matrix(out, 1);
            let b = Mat::from_fn(out, rank, |i, _| common[(i, 0)] + distance * noise.next());
            assert_close(&spectrum(&a, &b, 1.5).singular_values, &dense(&a, &b, 1.5), 1e-13);
        }
    }
}

#[test]
fn a_rotation_between_the_factors_changes_nothing() {
    let mut noise = Noise(7);
    let (a, b) = (noise.matrix(6, 40), noise.matrix(33, 6));
    let omega = noise.matrix(6, 6).qr().compute_Q();
    let turned = spectrum(&(&omega * &a), &(&b * omega.transpose()), 1.5);
    assert_close(&turned.singular_values, &spectrum(&a, &b, 1.5).singular_values, 1e-14);
}

#[test]
fn vectors_give_the_product_back() {
    let mut noise = Noise(8);
    for (out, width, rank) in [(13, 17, 5), (3, 19, 8), (19, 4, 6)] {
        let (a, b) = (noise.matrix(rank, width), noise.matrix(out, rank));
        let found = Vectors::of("m", &tensor(&a), &tensor(&b), 0.7).unwrap();
        assert_eq!(found.singular_values, spectrum(&a, &b, 0.7).singular_values);
        let k = out.min(width).min(rank);
        assert_eq!((found.u.dims(), found.v.dims()), (&[out, k][..], &[width, k][..]));
        let (u, v) = (found.u.to_vec2::<f64>().unwrap(), found.v.to_vec2::<f64>().unwrap());
        let product = b * a;
        for i in 0..out {
            for j in 0..width {
                let sum: f64 = (0..k).map(|n| u[i][n] * found.singular_values[n] * v[j][n]).sum();
                assert!((sum - 0.7 * product[(i, j)]).abs() < 1e-14 * found.singular_values[0]);
            }
        }
        for (m, n) in (0..k).flat_map(|m| (0..k).map(move |n| (m, n))) {
            let inner: f64 = u.iter().map(|row| row[m] * row[n]).sum();
            assert!((inner - f64::from(m == n)).abs() < 1e-14, "uᵀu[{m}, {n}] = {inner}");
        }
    }
}

#[test]
fn every_float_type_is_read() {
    let a = Tensor::new(&[[0.5f32, 2.0, -1.0], [4.0, 0.25, 1.0]], &Device::Cpu).unwrap();
    let b = Tensor::new(&[[1f32, -2.0], [0.5, 3.0]], &Device::Cpu).unwrap();
    let of = |dtype: DType| Spectrum::of("m", &a.to_dtype(dtype).unwrap(), &b.to_dtype(dtype).unwrap(), 2.0);
    let expected = of(DType::F64).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        assert_eq!(of(dtype).unwrap(), expected); // the numbers are exact in all of them
    }
    // A transposed view is read in its own order.
    let view = Spectrum::of("m", &b.t().unwrap(), &a.t().unwrap(), 2.0).unwrap();
    assert_close(&view.singular_values, &expected.singular_values, 1e-15);
    assert!(of(DType::I64).unwrap_err().to_string().contains("I64"));
}

#[test]
fn zero_at_the_start_of_training() {
    let a = Noise(9).matrix(4, 6);
    let zero = spectrum(&a, &Mat::zeros(5, 4), 2.0);
    assert_eq!(zero.singular_values, [0.0; 4]);
    assert_eq!((zero.effective_rank(), zero.stable_rank()), (0.0, 0.0));
    assert_eq!((zero.spectral_norm(), zero.frobenius_norm()), (0.0, 0.0));
    assert_eq!((zero.energy_rank(0.9).unwrap(), zero.energy(1)), (0, 1.0));
    let spectra = Spectra::from(vec![zero]);
    assert!(spectra.show().text.contains("still zero"), "{}", spectra.show().text);
    assert!(spectra.plot().unwrap().svg().contains("all zero"));
    assert!(spectra.heat_map().is_ok());
}

#[test]
fn golden_numbers_of_numpy_and_torch() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/spectrum.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 5);
    for case in &cases {
        let numbers = |name: &str| -> Vec<f64> {
            case[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let number = |name: &str| case[name].as_f64().unwrap();
        let rank = number("rank") as usize;
        let name = case["name"].as_str().unwrap();
        let found = Spectrum::from_slices(name, &numbers("a"), &numbers("b"), rank, number("scale")).unwrap();
        assert_eq!(found.in_features, number("in") as usize);
        assert_close(&found.singular_values, &numbers("singular_values"), 1e-13);
        for (measure, expected) in [
            (found.effective_rank(), "effective_rank"),
            (found.stable_rank(), "stable_rank"),
            (found.frobenius_norm(), "frobenius_norm"),
            (found.energy_rank(0.9).unwrap() as f64, "energy_rank_90"),
            (found.energy_rank(0.99).unwrap() as f64, "energy_rank_99"),
        ] {
            let expected_value = number(expected);
            assert!(
                (measure - expected_value).abs() <= 1e-12 * expected_value,
                "{name} {expected}: {measure} for {expected_value}"
            );
        }
    }
}

#[test]
fn measures_of_known_spectra() {
    let of = |values: &[f64]| Spectrum {
        name: "m".into(),
        singular_values: values.to_vec(),
        in_features: 9,
        out_features: 9,
        rank: values.len(),
        scale: 1.0,
    };
    let flat = of(&[2.0; 5]);
    assert!((flat.effective_rank() - 5.0).abs() < 1e-12 && (flat.stable_rank() - 5.0).abs() < 1e-12);
    assert_eq!((flat.energy_rank(0.9).unwrap(), flat.energy_rank(0.8).unwrap()), (5, 4));
    let one = of(&[3.0, 0.0, 0.0]);
    assert_eq!((one.effective_rank(), one.stable_rank(), one.energy_rank(0.99).unwrap()), (1.0, 1.0, 1));
    // p = (3/4, 1/4): H = ln 4 - 3/4 ln 3
    let two = of(&[3.0, 1.0]);
    assert!((two.effective_rank() - 4.0 / 3f64.powf(0.75)).abs() < 1e-14);
    assert_eq!((two.energy(0), two.energy(2), two.energy(9)), (0.0, 1.0, 1.0));
    assert!((two.energy(1) - 0.9).abs() < 1e-15);
    assert_eq!((two.energy_rank(0.9).unwrap(), two.energy_rank(0.901).unwrap()), (1, 2));
    assert!((of(&[1e-200, 1e-200]).effective_rank() - 2.0).abs() < 1e-12);
    for share in [0.0, -0.1, 1.2, f64::NAN] {
        assert!(two.energy_rank(share).unwrap_err().is_input());
    }
}

fn model() -> Spectra {
    let mut noise = Noise(10);
    let mut adapters = Vec::new();
    for layer in 0..30 {
        for module in ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"] {
            let name = format!("base_model.model.model.layers.{layer}.{module}");
            adapters.push((name, tensor(&noise.matrix(4, 12)), tensor(&noise.matrix(10, 4))));
        }
    }
    adapters.push(("lm_head".to_string(), tensor(&noise.matrix(4, 12)), tensor(&noise.matrix(10, 4))));
    Spectra::of(adapters.iter().map(|(name, a, b)| (name.as_str(), a, b, 1.75))).unwrap()
}

#[test]
fn a_collection_is_selected_by_its_names() {
    let spectra = model();
    assert_eq!(spectra.len(), 91);
    assert_eq!(spectra.select("q_proj").unwrap().len(), 30);
    assert_eq!(spectra.select("3").unwrap().len(), 3);
    assert_eq!(spectra.select("layers.2").unwrap().select("self_attn").unwrap().len(), 2);
    assert_eq!(spectra.get("lm_head").unwrap().place(), LayerPlace { layer: None, module: "lm_head".into() });
    let error = spectra.select("99").unwrap_err();
    assert!(error.is_not_found());
    assert!(
        error.to_string().contains("q_proj, v_proj, down_proj, lm_head in the layers 0 to 29"),
        "{error}"
    );
}

#[test]
fn frames_and_tables_hold_every_adapter() {
    let spectra = model();
    let frame = spectra.frame().unwrap();
    assert_eq!(frame.shape(), (91 * 4, 6));
    let measures = spectra.measures().unwrap();
    assert_eq!(measures.shape(), (91, 18));
    let ranks = measures.column("effective_rank").unwrap().f64().unwrap();
    assert_eq!(ranks.get(7), Some(spectra.iter().nth(7).unwrap().effective_rank()));
    assert_eq!(measures.column("layer").unwrap().null_count(), 1);
    // 30 layers, the head and the means
    assert_eq!(spectra.table().len(), 32);
    let text = spectra.show().text;
    assert!(text.contains("91 adapters of rank 4"), "{text}");
}

#[test]
fn pictures_of_a_collection() {
    let spectra = model();
    let plot = spectra.plot().unwrap();
    assert_eq!(plot.title(), "Singular values of B·A, at most 16 layers of each module");
    assert!(plot.svg().matches("<polyline").count() >= 3 * 15);
    let map = spectra.heat_map().unwrap().svg();
    assert!(map.contains("down_proj") && map.contains("effective rank"));
    assert!(
        spectra
            .select("q_proj")
            .unwrap()
            .select("5")
            .unwrap()
            .plot()
            .unwrap()
            .svg()
            .matches("<polyline")
            .count()
            == 1
    );
    assert!(Spectra::from(Vec::new()).plot().unwrap_err().to_string().contains("no spectrum"));
}

#[test]
fn modules_of_one_name_are_told_apart() {
    let spectrum = |name: &str| Spectrum::from_slices(name, &[1.0, 2.0], &[3.0], 1, 1.0).unwrap();
    let names = ["encoder.layers.0.attn.q_proj", "decoder.layers.0.attn.q_proj"];
    let spectra = Spectra::from(names.map(spectrum).to_vec());
    let text = spectra.show().text;
    assert!(
        text.contains("encoder.layers.attn.q_proj") && text.contains("decoder.layers.attn.q_proj"),
        "{text}"
    );
    for odd in ["", ".", "3", "3.4", "a.3", "3.a", "a.1.2.b", "a.1.b.2"] {
        assert_eq!(Spectra::from(vec![spectrum(odd)]).len(), 1, "{odd:?} {:?}", LayerPlace::of(odd));
    }
}

#[test]
fn bad_factors_are_named() {
    let tensor =
        |values: &[f32], shape: (usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let said = |a: &Tensor, b: &Tensor, scale: f64| {
        Spectra::of([("layers.4.q_proj", a, b, scale)]).unwrap_err().to_string()
    };
    let (a, b) = (tensor(&[1.0; 6], (2, 3)), tensor(&[1.0; 8], (4, 2)));
    let broken = tensor(&[1.0, 1.0, 1.0, 1.0, 1.0, f32::NAN, 1.0, 1.0], (4, 2));
    let error = said(&a, &broken, 1.0);
    assert!(error.starts_with("layer layers.4.q_proj: B[2, 1] is NaN"), "{error}");
    let error = said(&tensor(&[1.0, 1.0, 1.0, 1.0, f32::INFINITY, 1.0], (2, 3)), &b, 1.0);
    assert!(error.contains("A[1, 1] is inf"), "{error}");
    let error = said(&a, &tensor(&[1.0; 12], (4, 3)), 1.0);
    assert!(error.contains("the ranks 2 and 3 differ"), "{error}");
    assert!(said(&a.flatten_all().unwrap(), &b, 1.0).contains("[r, in]"));
    assert!(said(&a, &b, f64::NAN).contains("scale is NaN"));
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(said(&empty, &Tensor::zeros((4, 0), DType::F32, &Device::Cpu).unwrap(), 1.0).contains("empty"));
    assert!(Spectrum::from_slices("m", &[1.0; 5], &[1.0; 4], 2, 1.0).unwrap_err().is_input());
    assert!(Spectrum::from_slices("m", &[], &[], 0, 1.0).unwrap_err().is_input());
}
