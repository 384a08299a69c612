//! Ranks at which the arithmetic is done in blocks, and the same numbers whatever the number of threads.

use faer::Mat;
use lorascope::candle_core::{Device, Tensor};
use lorascope::ops::random::{Random, Stream};
use lorascope::spectrum::{Spectra, Spectrum, Vectors};

fn noise(random: &mut Random, rows: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(rows, columns, |_, _| random.normal())
}

fn tensor(matrix: &Mat<f64>) -> Tensor {
    let rows = (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| (i, j)));
    let values: Vec<f64> = rows.map(|at| matrix[at]).collect();
    Tensor::from_vec(values, (matrix.nrows(), matrix.ncols()), &Device::Cpu).unwrap()
}

fn matrix(tensor: &Tensor) -> Mat<f64> {
    let rows = tensor.to_vec2::<f64>().unwrap();
    Mat::from_fn(tensor.dims()[0], tensor.dims()[1], |i, j| rows[i][j])
}

/// U·Σ·Vᵀ is scale·B·A, U and V are orthogonal, and σ are those of the dense decomposition, all to `part` of σ₁.
fn check(a: &Mat<f64>, b: &Mat<f64>, part: f64) {
    let found = Vectors::of("m", &tensor(a), &tensor(b), -0.7).unwrap();
    let alone = Spectrum::of("m", &tensor(a), &tensor(b), -0.7).unwrap();
    assert_eq!(found.singular_values, alone.singular_values);
    let (u, v, sigma) = (matrix(&found.u), matrix(&found.v), &found.singular_values);
    let k = b.nrows().min(a.ncols()).min(a.nrows());
    assert_eq!((sigma.len(), u.ncols(), v.ncols()), (k, k, k));
    for basis in [&u, &v] {
        let off = (basis.transpose() * basis - Mat::<f64>::identity(k, k)).norm_max();
        assert!(off < part, "off by {off:e}");
    }
    let product = faer::Scale(-0.7) * (b * a);
    let back = Mat::from_fn(u.nrows(), k, |i, n| u[(i, n)] * sigma[n]) * v.transpose();
    let off = (back - &product).norm_max();
    assert!(off <= part * sigma[0], "{off:e} beside {:e}", sigma[0]);
    for (found, known) in sigma.iter().zip(&product.singular_values().unwrap()) {
        assert!((found - known).abs() <= part * sigma[0], "{found:e} for {known:e}");
    }
}

#[test]
fn values_and_vectors_of_adapters_of_every_kind() {
    let mut random = Random::at(1, Stream::Control, 0, 0);
    // (out, in, r): tall and wide, more components than a side has rows, none of them a multiple of a block.
    for (out, width, rank) in [(70, 90, 40), (301, 203, 67), (33, 35, 81), (91, 20, 43), (150, 141, 130)] {
        let (a, b) = (noise(&mut random, rank, width), noise(&mut random, out, rank));
        check(&a, &b, 1e-13);
        // Components that fall; directions that fall, which no component shows; 2 directions; zeros.
        let fall = |k: usize| 10f64.powf(-0.3 * k as f64);
        let falling = Mat::from_fn(out, rank, |i, k| b[(i, k)] * fall(k));
        check(&a, &falling, 1e-13);
        check(&a, &(&falling * noise(&mut random, rank, rank)), 1e-13);
        check(&a, &(noise(&mut random, out, 2) * noise(&mut random, 2, rank)), 1e-12);
        check(&a, &Mat::from_fn(out, rank, |i, k| if k % 2 == 0 { 0.0 } else { falling[(i, k)] }), 1e-13);
        check(&a, &Mat::zeros(out, rank), 1e-13);
    }
}

#[test]
fn small_values_of_large_ranks_are_as_exact_as_large_ones() {
    // The same product, its scale on the side of B or of A: σ from 1 to 1e-24, each to 1e-12 of itself.
    let mut random = Random::at(2, Stream::Control, 0, 0);
    for rank in [65, 130] {
        let (x, y) = (noise(&mut random, 300, rank), noise(&mut random, rank, 200));
        for size in [
            |k: usize, rank: usize| 10f64.powf(-24.0 * k as f64 / rank as f64),
            |k: usize, rank: usize| [1.0, 1e-5, 1e-14, 1e-24][(k * 5 % rank) * 4 / rank],
        ] {
            // Powers of two, so that the products are the same numbers.
            let d = |k: usize| 2f64.powf(size(k, rank).log2().round());
            let b = Mat::from_fn(300, rank, |i, k| x[(i, k)] * d(k));
            let a = Mat::from_fn(rank, 200, |k, j| y[(k, j)] * d(k));
            let of = |a: &Mat<f64>, b: &Mat<f64>| {
                Spectrum::of("m", &tensor(a), &tensor(b), 1.0).unwrap().singular_values
            };
            let (one, other) = (of(&y, &b), of(&a, &x));
            let turned = of(&b.transpose().to_owned(), &y.transpose().to_owned());
            assert!(one[rank - 1] < 1e-22 * one[0]);
            for (one, other) in one.iter().zip(&other).chain(one.iter().zip(&turned)) {
                assert!((one - other).abs() <= 1e-12 * one, "{one:e} and {other:e}");
            }
        }
    }
}

#[test]
fn spectra_do_not_depend_on_the_number_of_threads() {
    let mut random = Random::at(3, Stream::Control, 0, 0);
    let adapters: Vec<(String, Tensor, Tensor)> = (0..6)
        .map(|layer| {
            let b = noise(&mut random, 150, 70);
            let b = Mat::from_fn(150, 70, |i, k| b[(i, k)] * 0.5f64.powi((layer * k) as i32 / 4));
            (format!("layers.{layer}.q_proj"), tensor(&noise(&mut random, 70, 120)), tensor(&b))
        })
        .collect();
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let spectra =
                Spectra::of(adapters.iter().map(|(name, a, b)| (name.as_str(), a, b, 2.0))).unwrap();
            let (name, a, b) = &adapters[3];
            let vectors = Vectors::of(name, a, b, 2.0).unwrap();
            let bits =
                [&vectors.u, &vectors.v].map(|side| side.flatten_all().unwrap().to_vec1::<f64>().unwrap());
            (spectra.iter().map(|one| one.singular_values.clone()).collect::<Vec<_>>(), bits)
        })
    };
    let one = of(1);
    for threads in [2, 3, 8] {
        assert!(of(threads) == one, "{threads} threads");
    }
}
