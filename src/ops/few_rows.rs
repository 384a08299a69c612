//! Products of a few rows with stored weights, as generation needs them for each token.

use super::stored::{Stored, dots, expand};
use faer::Par;
use rayon::prelude::*;

/// A stored matrix W `[out, in]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredMatrix<'a> {
    pub stored: Stored,
    /// Its rows, one after the other.
    pub bytes: &'a [u8],
    pub out: usize,
    pub inner: usize,
}

/// Values of W that one task reads: enough to be worth its hand-over, few enough to share a small matrix evenly.
const TASK: usize = 1 << 15;

impl StoredMatrix<'_> {
    /// The bytes of `count` rows from number `row` on.
    fn rows(&self, row: usize, count: usize) -> &[u8] {
        let bytes = self.stored.bytes(self.inner);
        self.bytes.get(row * bytes..(row + count) * bytes).unwrap_or_default()
    }

    /// W x for the rows of W from number `row` on, y `[rows of W, rows of x]`.
    fn product(&self, row: usize, x: &[f32], rows_of_x: usize, y: &mut [f32]) {
        if rows_of_x == 1 {
            return dots(self.stored, self.rows(row, y.len()), x, y);
        }
        let mut w = vec![0f32; self.inner]; // one row, which stays in the first-level cache
        for (i, y) in y.chunks_exact_mut(rows_of_x).enumerate() {
            expand(self.stored, self.rows(row + i, 1), &mut w);
            dots(Stored::F32, bytes_of(x), &w, y);
        }
    }
}

/// W xᵀ `[out, T]` for each of some W, for x `[T, in]` of a few rows. No W is expanded: a thread takes some of its rows,
/// as many for any number of threads. The matrices share one hand-over to the threads.
pub(crate) fn few_rows(x: &[f32], rows_of_x: usize, matrices: &[StoredMatrix]) -> Vec<Vec<f32>> {
    let mut all: Vec<Vec<f32>> = matrices.iter().map(|w| vec![0f32; w.out * rows_of_x]).collect();
    if rows_of_x == 0 {
        return all;
    }
    let mut tasks = Vec::new();
    for (w, y) in matrices.iter().zip(&mut all) {
        let rows = (TASK / w.inner.max(1)).max(1);
        tasks.extend(y.chunks_mut(rows * rows_of_x).enumerate().map(|(i, y)| (w, i * rows, y)));
    }
    let work = |(w, row, y): (&StoredMatrix, usize, &mut [f32])| w.product(row, x, rows_of_x, y);
    match tasks.len() {
        1 => tasks.into_iter().for_each(work),
        _ => tasks.into_par_iter().for_each(work),
    }
    all
}

/// y + scale·W x in place, for W `[out, in]` in f32: the two thin products of an adapter.
pub(crate) fn add_product(y: &mut [f32], w: &[f32], x: &[f32], scale: f32, par: Par) {
    const ROWS: usize = 64;
    if x.is_empty() {
        return;
    }
    let piece = |y: &mut [f32], w: &[f32]| match x.len() {
        0..THIN => super::vector::simd(
            #[inline(always)]
            || {
                for (y, w) in y.iter_mut().zip(w.chunks_exact(x.len())) {
                    *y = scale.mul_add(thin_dot(w, x), *y);
                }
            },
        ),
        _ => {
            let mut products = [0f32; ROWS];
            for (y, w) in y.chunks_mut(ROWS).zip(w.chunks(ROWS * x.len())) {
                let products = &mut products[..y.len()];
                dots(Stored::F32, bytes_of(w), x, products);
                y.iter_mut().zip(products).for_each(|(y, p)| *y = scale.mul_add(*p, *y));
            }
        }
    };
    match par {
        Par::Seq => piece(y, w),
        Par::Rayon(_) => {
            let rows = (TASK / x.len()).max(1);
            y.par_chunks_mut(rows).zip(w.par_chunks(rows * x.len())).for_each(|(y, w)| piece(y, w));
        }
    }
}

/// From here on a row fills the lanes of a dot product.
const THIN: usize = 32;

/// Σ w·x of a row as short as a rank.
#[inline(always)]
fn thin_dot(w: &[f32], x: &[f32]) -> f32 {
    let ((w, rest_of_w), (x, rest_of_x)) = (w.as_chunks::<8>(), x.as_chunks::<8>());
    let mut lanes = [0f32; 8];
    for (w, x) in w.iter().zip(x) {
        for i in 0..8 {
            lanes[i] = w[i].mul_add(x[i], lanes[i]);
        }
    }
    for (lane, (w, x)) in lanes.iter_mut().zip(rest_of_w.iter().zip(rest_of_x)) {
        *lane = w.mul_add(*x, *lane);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Numbers as they lie in memory.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for half::f16 {}
impl Plain for half::bf16 {}

/// The bytes of plain numbers.
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the numbers have no padding, and a byte has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Σ in f64, `[out, T]`.
    fn truth(x: &[f32], rows: usize, w: &[f32], inner: usize) -> Vec<f64> {
        let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        w.chunks_exact(inner).flat_map(|w| (0..rows).map(move |t| dot(w, &x[t * inner..][..inner]))).collect()
    }

    #[test]
    fn products_of_several_weights_at_once() {
        for rows in [0, 1, 2, 7] {
            for inner in [1, 33, 700] {
                let x = wave(rows * inner, 0.3);
                let (a, b) = (wave(203 * inner, 0.7), wave(inner, 0.9));
                let matrix = |w, out| StoredMatrix { stored: Stored::F32, bytes: bytes_of(w), out, inner };
                let found = few_rows(&x, rows, &[matrix(&a, 203), matrix(&b, 1)]);
                for (found, w) in found.iter().zip([&a, &b]) {
                    let truth = truth(&x, rows, w, inner);
                    assert_eq!(found.len(), truth.len());
                    assert!(found.iter().zip(truth).all(|(y, t)| (f64::from(*y) - t).abs() < 1e-4));
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_product() -> Result<(), rayon::ThreadPoolBuildError> {
        let (x, w) = (wave(577, 0.3), wave(577 * 400, 0.7));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let matrix = StoredMatrix { stored: Stored::F32, bytes: bytes_of(&w), out: 400, inner: 577 };
            Ok(pool.install(|| few_rows(&x, 1, &[matrix])))
        };
        assert_eq!(with(1)?, with(3)?);
        Ok(())
    }

    #[test]
    fn thin_products_are_added() {
        for inner in [0, 1, 7, 8, 19, 31, 32, 64, 600] {
            for out in [0, 1, 65, 300] {
                let (x, w, y) = (wave(inner, 0.3), wave(out * inner, 0.7), wave(out, 0.2));
                let (mut found, mut shared) = (y.clone(), y.clone());
                add_product(&mut found, &w, &x, -0.5, Par::Seq);
                add_product(&mut shared, &w, &x, -0.5, Par::rayon(0));
                assert_eq!(found, shared);
                for (i, found) in found.iter().enumerate() {
                    let sum = truth(&x, 1, &w[i * inner..][..inner], inner.max(1)).iter().sum::<f64>();
                    assert!(
                        (f64::from(*found) - (f64::from(y[i]) - 0.5 * sum)).abs() < 1e-4,
                        "{inner} {out}"
                    );
                }
            }
        }
    }
}
