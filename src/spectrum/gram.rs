//! R of a tall matrix from its Gram matrix: takes a third of the time of reflections, if that is exact enough.
//!
//! XᵀX = RᵀR by Cholesky. Rounding in XᵀX is multiplied by ‖R⁻¹‖², R of columns of length 1; where
//! that is large the same is done once more with X·R⁻¹ (CholeskyQR2, Yamamoto et al. 2015, *Roundoff
//! error analysis of the CholeskyQR2 algorithm*), and where that does not help either, the caller takes
//! reflections. Each of the three keeps the relative size of small columns.

use super::factor_matrix::{FactorMatrix, Triangle, exponent, power};
use super::householder::dot;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::reborrow::ReborrowMut as _;
use faer::{Mat, Par};

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
/// Columns up to which two passes take less time than blocked reflections.
const NARROW: usize = 32;

/// R, or None where it would not be exact.
pub(super) fn triangle(x: &FactorMatrix) -> Option<Triangle> {
    let r = x.columns;
    if x.rows < r {
        return None;
    }
    let (first, exponents) = scaled_root(gram(x, None))?;
    let growth = inverse_square(&first) / r as f64;
    if growth <= ONE_PASS {
        return Some(Triangle { r: turned(&first), exponents });
    }
    if growth > TWO_PASSES || r > NARROW {
        return None;
    }
    let second = cholesky(gram(x, Some((&first, &exponents))))?;
    if inverse_square(&second) / r as f64 > 2.0 {
        return None;
    }
    Some(Triangle { r: turned(&second) * turned(&first), exponents })
}

/// R with RᵀR = C; None where C is not positive to working precision.
pub(super) fn root(c: Mat<f64>) -> Option<Triangle> {
    let (lower, exponents) = scaled_root(c)?;
    Some(Triangle { r: turned(&lower), exponents })
}

/// L and e with diag(2^e)·L·Lᵀ·diag(2^e) = C, of which the lower triangle is read.
fn scaled_root(mut c: Mat<f64>) -> Option<(Mat<f64>, Vec<i32>)> {
    let r = c.nrows();
    // Not so where a component is zero, so small or large that squares fail, or not finite.
    if !(0..r).all(|k| c[(k, k)] > 1e-200 && c[(k, k)] < 1e200) {
        return None;
    }
    let exponents: Vec<i32> = (0..r).map(|k| exponent(c[(k, k)].sqrt())).collect();
    let by: Vec<f64> = exponents.iter().map(|e| power(-e)).collect();
    for j in 0..r {
        for (value, own) in c.col_as_slice_mut(j).iter_mut().zip(&by) {
            *value *= own * by[j];
        }
    }
    Some((cholesky(c)?, exponents))
}

/// The lower triangle of XᵀX, or of that of X·diag(2^-e)·L⁻ᵀ.
fn gram(x: &FactorMatrix, divide: Option<(&Mat<f64>, &[i32])>) -> Mat<f64> {
    let r = x.columns;
    let width = r.next_multiple_of(BLOCK);
    let mut sums = Mat::zeros(width, width);
    let mut panel = Mat::zeros(PANEL, width);
    let arch = pulp::Arch::new();
    for first in (0..x.rows).step_by(PANEL) {
        let count = PANEL.min(x.rows - first);
        let padded = count.next_multiple_of(LANES);
        panel.get_mut(count..padded, ..).fill(0.0);
        let mut rows = panel.get_mut(..count, ..r);
        x.fill(first, rows.rb_mut());
        if let Some((lower, exponents)) = divide {
            for (mut column, exponent) in rows.rb_mut().col_iter_mut().zip(exponents) {
                column *= faer::Scale(power(-exponent));
            }
            solve_lower_triangular_in_place(lower.as_ref(), rows.transpose_mut(), Par::Seq);
        }
        arch.dispatch(Add { panel: &panel, count: padded, sums: &mut sums });
    }
    sums.truncate(r, r);
    sums
}

/// Adds the lower triangle of PᵀP to `sums`. With vector types of the processor's
/// own width: sums in arrays of lanes did not stay in registers.
struct Add<'a> {
    panel: &'a Mat<f64>,
    count: usize,
    sums: &'a mut Mat<f64>,
}

impl pulp::WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let Self { panel, count, sums } = self;
        let column = |k: usize| S::as_simd_f64s(&panel.col_as_slice(k)[..count]).0;
        let length = column(0).len();
        for j in (0..sums.ncols()).step_by(BLOCK) {
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
                        sums[(j + n, i + m)] += simd.reduce_sum_f64s(*lanes);
                    }
                }
            }
        }
    }
}

/// The lower L of G = L·Lᵀ; None where G is not positive to working precision. Above the diagonal of both is anything.
fn cholesky(mut gram: Mat<f64>) -> Option<Mat<f64>> {
    let size = gram.nrows();
    let least: Vec<f64> = (0..size).map(|k| 1e-14 * gram[(k, k)]).collect();
    let mut buffer = MemBuffer::new(cholesky_in_place_scratch::<f64>(size, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut buffer);
    cholesky_in_place(gram.as_mut(), Default::default(), Par::Seq, stack, Default::default()).ok()?;
    least.iter().enumerate().all(|(k, least)| gram[(k, k)].powi(2) > *least).then_some(gram)
}

/// R = Lᵀ.
fn turned(lower: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(lower.nrows(), lower.ncols(), |i, j| if i <= j { lower[(j, i)] } else { 0.0 })
}

/// ‖L⁻¹‖²_F of L with rows of length 1; those here are up to twice as long.
fn inverse_square(lower: &Mat<f64>) -> f64 {
    let size = lower.nrows();
    let mut inverse = Mat::zeros(size, size);
    invert_lower_triangular(inverse.as_mut(), lower.as_ref(), Par::Seq);
    let mut rows = vec![0.0; size];
    for k in 0..size {
        for (sum, x) in rows[k..].iter_mut().zip(&lower.col_as_slice(k)[k..]) {
            *sum += x * x;
        }
    }
    (0..size).map(|k| dot(inverse.col_as_slice(k), inverse.col_as_slice(k)) * rows[k]).sum()
}

#[cfg(test)]
mod tests {
    use super::super::factor_matrix::{FactorNumbers, FactorOrder};
    use super::*;
    use crate::ops::random::{Random, Stream};

    /// XᵀX from R, and from X itself.
    fn check(x: &FactorMatrix) {
        let Triangle { r, exponents } = triangle(x).expect("a matrix of independent columns");
        let (scaled, own) = x.scaled().unwrap();
        let by = |k: usize| power(exponents[k] - own[k]);
        let r = Mat::from_fn(r.nrows(), r.ncols(), |i, k| r[(i, k)] * by(k));
        let (found, known) = (r.transpose() * &r, scaled.transpose() * &scaled);
        for (i, j) in (0..x.columns).flat_map(|i| (0..x.columns).map(move |j| (i, j))) {
            let size = (known[(i, i)] * known[(j, j)]).sqrt();
            assert!((found[(i, j)] - known[(i, j)]).abs() < 1e-14 * size, "{} rows, [{i}, {j}]", x.rows);
        }
    }

    #[test]
    fn r_of_any_shape_and_order() {
        let mut random = Random::at(1, Stream::Control, 0, 0);
        // Less than a panel, a panel, one and a bit; columns that are no multiple of a block.
        for (rows, columns) in [(40, 5), (240, 4), (247, 33), (481, 70), (12, 1), (1000, 129)] {
            let numbers: Vec<f64> =
                (0..rows * columns).map(|at| random.normal() * 2f64.powi(-((at % columns) as i32))).collect();
            let single: Vec<f32> = numbers.iter().map(|x| *x as f32).collect();
            for order in [FactorOrder::Rows, FactorOrder::Components] {
                check(&FactorMatrix { numbers: FactorNumbers::Double(&numbers), order, rows, columns });
                check(&FactorMatrix { numbers: FactorNumbers::Single(&single), order, rows, columns });
            }
        }
    }

    #[test]
    fn columns_that_are_nearly_one_take_two_passes() {
        let mut random = Random::at(2, Stream::Control, 0, 0);
        let common: Vec<f64> = (0..500).map(|_| random.normal()).collect();
        let numbers: Vec<f64> = (0..500 * 9).map(|at| common[at % 500] + 1e-3 * random.normal()).collect();
        let of = |numbers| FactorMatrix { numbers, order: FactorOrder::Components, rows: 500, columns: 9 };
        check(&of(FactorNumbers::Double(&numbers)));
    }

    #[test]
    fn what_would_not_be_exact_is_left_to_reflections() {
        let of = |numbers: &[f64], rows, columns| {
            let numbers = FactorNumbers::Double(numbers);
            triangle(&FactorMatrix { numbers, order: FactorOrder::Components, rows, columns }).is_some()
        };
        assert!(of(&[1.0, 0.0, 0.0, 0.0, 2.0, 0.0], 3, 2));
        assert!(!of(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 2), "a column of zeros");
        assert!(!of(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], 3, 2), "one column twice");
        assert!(!of(&[1.0, 2.0, 3.0, 1.0, f64::NAN, 3.0], 3, 2));
        assert!(!of(&[1.0, 2.0, 3.0, 1.0, f64::INFINITY, 3.0], 3, 2));
        assert!(!of(&[1.0, 0.0, 1.0, 1e-120, 0.0, 0.0], 3, 2), "squares that are too small");
        assert!(!of(&[1.0; 6], 2, 3), "fewer rows than columns");
    }
}
