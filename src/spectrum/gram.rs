//! R of a tall matrix from its Gram matrix: takes a third of the time of reflections, if that is exact enough.
//!
//! XᵀX = RᵀR by Cholesky. Rounding in XᵀX is multiplied by ‖R⁻¹‖², R of columns of length 1; where
//! that is large the same is done once more with X·R⁻¹ (CholeskyQR2, Yamamoto et al. 2015, *Roundoff
//! error analysis of the CholeskyQR2 algorithm*), and where that does not help either, the caller takes
//! reflections. Each of the three keeps the relative size of small columns.

use super::factor_matrix::{FactorMatrix, Triangle, exponent, power};
use super::householder::dot;
use crate::ops::vector::simd;
use faer::Mat;

/// Rows that are brought to f64 and worked on at a time: with 16 components they fit the first-level
/// cache. No multiple of 64, so that the columns do not compete for the same lines of it.
const PANEL: usize = 240;
/// Columns of one block of the Gram matrix: 4×4 vectors of sums stay in registers.
const BLOCK: usize = 4;
/// Numbers in the widest vector.
const LANES: usize = 8;
/// ‖R⁻¹‖²_F / r up to which one pass is exact to 1e-14, and up to which a second one helps.
const ONE_PASS: f64 = 4.0;
const TWO_PASSES: f64 = 1e9;

/// R, or None where it would not be exact.
pub(super) fn triangle(x: &FactorMatrix) -> Option<Triangle> {
    let r = x.columns;
    if x.rows < r {
        return None;
    }
    let Triangle { r: first, exponents } = root(&gram(x, None))?;
    let growth = inverse_square(&first) / r as f64;
    if growth <= ONE_PASS {
        return Some(Triangle { r: first, exponents });
    }
    if growth > TWO_PASSES {
        return None;
    }
    let again = self::gram(x, Some((&first, &exponents)));
    let second = cholesky(&again)?;
    if inverse_square(&second) / r as f64 > 2.0 {
        return None;
    }
    Some(Triangle { r: second * first, exponents })
}

/// R with RᵀR = C; None where C is not positive to working precision.
pub(super) fn root(c: &Mat<f64>) -> Option<Triangle> {
    let r = c.nrows();
    let size = |k: usize| c[(k, k)];
    // Not so where a component is zero, so small or large that squares fail, or not finite.
    if !(0..r).all(|k| size(k) > 1e-200 && size(k) < 1e200) {
        return None;
    }
    let exponents: Vec<i32> = (0..r).map(|k| exponent(size(k).sqrt())).collect();
    let by: Vec<f64> = exponents.iter().map(|e| power(-e)).collect();
    let scaled = Mat::from_fn(r, r, |i, j| c[(i, j)] * by[i] * by[j]);
    Some(Triangle { r: cholesky(&scaled)?, exponents })
}

/// XᵀX, or that of X·diag(2^-e)·R⁻¹.
fn gram(x: &FactorMatrix, divide: Option<(&Mat<f64>, &[i32])>) -> Mat<f64> {
    let r = x.columns;
    let width = r.next_multiple_of(BLOCK);
    let mut sums = vec![0.0; width * width];
    let mut panel = vec![0.0; PANEL * width];
    let factors = divide.map(|(r, exponents)| {
        let scales: Vec<f64> = exponents.iter().map(|e| power(-e)).collect();
        let columns: Vec<f64> =
            (0..r.ncols()).flat_map(|j| (0..r.nrows()).map(move |i| (i, j))).map(|at| r[at]).collect();
        (columns, scales)
    });
    let arch = pulp::Arch::new();
    for first in (0..x.rows).step_by(PANEL) {
        let count = PANEL.min(x.rows - first);
        let padded = count.next_multiple_of(LANES);
        simd(
            #[inline(always)]
            || {
                x.fill(first, count, &mut panel[..count * r]);
                spread(&mut panel, count, padded, r);
                if let Some((columns, scales)) = &factors {
                    solve(&mut panel[..padded * r], padded, columns, scales);
                }
            },
        );
        panel[padded * r..padded * width].fill(0.0);
        arch.dispatch(Add { panel: &panel[..padded * width], count: padded, width, sums: &mut sums });
    }
    Mat::from_fn(r, r, |i, j| sums[i.min(j) * width + i.max(j)])
}

/// Makes room for zeros below each of `columns` columns of `count` rows.
#[inline(always)]
fn spread(panel: &mut [f64], count: usize, padded: usize, columns: usize) {
    if count == padded {
        return;
    }
    for k in (0..columns).rev() {
        panel.copy_within(k * count..(k + 1) * count, k * padded);
        panel[k * padded + count..(k + 1) * padded].fill(0.0);
    }
}

/// Adds the upper triangle of PᵀP to `sums`, `[width, width]`. With vector types of the processor's
/// own width: sums in arrays of lanes did not stay in registers.
struct Add<'a> {
    panel: &'a [f64],
    count: usize,
    width: usize,
    sums: &'a mut [f64],
}

impl pulp::WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let Self { panel, count, width, sums } = self;
        let column = |k: usize| S::as_simd_f64s(&panel[k * count..(k + 1) * count]).0;
        let length = column(0).len();
        for j in (0..width).step_by(BLOCK) {
            let right: [&[S::f64s]; BLOCK] = std::array::from_fn(|k| &column(j + k)[..length]);
            for i in (0..=j).step_by(BLOCK) {
                let left: [&[S::f64s]; BLOCK] = std::array::from_fn(|k| &column(i + k)[..length]);
                let mut lanes = [[simd.splat_f64s(0.0); BLOCK]; BLOCK];
                for at in 0..length {
                    let y: [S::f64s; BLOCK] = std::array::from_fn(|k| right[k][at]);
                    for m in 0..BLOCK {
                        let x = left[m][at];
                        for n in 0..BLOCK {
                            lanes[m][n] = simd.mul_add_e_f64s(x, y[n], lanes[m][n]);
                        }
                    }
                }
                for (m, lanes) in lanes.iter().enumerate() {
                    for (n, lanes) in lanes.iter().enumerate() {
                        sums[(i + m) * width + j + n] += simd.reduce_sum_f64s(*lanes);
                    }
                }
            }
        }
    }
}

/// P ← P·diag(scales)·R⁻¹ by substitution; R in columns.
#[inline(always)]
fn solve(panel: &mut [f64], count: usize, r: &[f64], scales: &[f64]) {
    const STRIP: usize = 4 * LANES;
    let columns = scales.len();
    for at in (0..count).step_by(STRIP) {
        let strip = STRIP.min(count - at);
        for (j, scale) in scales.iter().enumerate() {
            let mut sums = [0.0; STRIP];
            let coefficients = &r[j * columns..=j * columns + j];
            for (sum, value) in sums.iter_mut().zip(&panel[j * count + at..][..strip]) {
                *sum = value * scale;
            }
            for (i, coefficient) in coefficients[..j].iter().enumerate() {
                for (sum, value) in sums.iter_mut().zip(&panel[i * count + at..][..strip]) {
                    *sum = value.mul_add(-coefficient, *sum);
                }
            }
            for (value, sum) in panel[j * count + at..][..strip].iter_mut().zip(&sums) {
                *value = sum / coefficients[j];
            }
        }
    }
}

/// The upper R of G = RᵀR; None where G is not positive to working precision.
fn cholesky(gram: &Mat<f64>) -> Option<Mat<f64>> {
    simd(
        #[inline(always)]
        || factor(gram),
    )
}

#[inline(always)]
fn factor(gram: &Mat<f64>) -> Option<Mat<f64>> {
    let size = gram.nrows();
    // By columns, which are what the inner products run along.
    let mut r = vec![0.0; size * size];
    for j in 0..size {
        let (done, own) = r.split_at_mut(j * size);
        for i in 0..=j {
            let known = if i < j { &done[i * size..i * size + i] } else { &own[..i] };
            let rest = gram[(i, j)] - dot(known, &own[..i]);
            if i < j {
                own[i] = rest / done[i * size + i];
            } else if rest > 1e-14 * gram[(j, j)] {
                own[j] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(Mat::from_fn(size, size, |i, j| r[j * size + i]))
}

/// ‖R⁻¹‖²_F of R with columns of length 1; those here are up to twice as long.
fn inverse_square(r: &Mat<f64>) -> f64 {
    simd(
        #[inline(always)]
        || inverse(r),
    )
}

#[inline(always)]
fn inverse(r: &Mat<f64>) -> f64 {
    let size = r.nrows();
    let columns: Vec<Vec<f64>> = (0..size).map(|k| (0..=k).map(|i| r[(i, k)]).collect()).collect();
    let lengths: Vec<f64> = columns.iter().map(|column| dot(column, column)).collect();
    let mut sum = 0.0;
    for j in 0..size {
        let mut solution = vec![0.0; j + 1];
        solution[j] = 1.0;
        for k in (0..=j).rev() {
            let value = solution[k] / columns[k][k];
            solution[k] = value;
            solution[..k].iter_mut().zip(&columns[k]).for_each(|(x, r)| *x -= value * r);
        }
        sum += solution.iter().zip(&lengths).map(|(x, length)| x * x * length).sum::<f64>();
    }
    sum
}
