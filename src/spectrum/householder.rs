//! QR decompositions by blocked Householder reflections.
//!
//! The reflections are our own, not those of faer's QR: faer's drops a column whose remainder falls below
//! 16·rows·ε of its norm (1e-11 for 4096 rows), and a spectrum is read down to such values. faer applies them.

use crate::ops::vector::simd;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_on_the_left_in_place_scratch as scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_sequence,
    apply_block_householder_transpose_on_the_left_in_place_with_conj as apply_transpose,
};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{
    self,
    BlockStructure::{Rectangular, UnitTriangularLower},
};
use faer::reborrow::{Reborrow as _, ReborrowMut as _};
use faer::{Accum, ColMut, ColRef, Conj, Mat, MatMut, MatRef, Par};

/// Columns whose reflections are applied together to those right of them.
const BLOCK: usize = 32;
/// Columns that are reflected one by one.
const NARROW: usize = 8;

/// A Householder QR decomposition, kept in place (Golub & Van Loan 2013, 5.2.3):
/// R on and above the diagonal, below it the reflector v_j with v_j[j] = 1 implied. The reflections of a
/// block of columns are I - V·T⁻¹·Vᵀ, T upper triangular (Joffrain et al. 2006, *Accumulating Householder
/// transformations, revisited*).
pub(super) struct Qr {
    packed: Mat<f64>,
    /// The T of all blocks side by side, `[BLOCK, steps]`.
    factors: Mat<f64>,
}

impl Qr {
    /// Decomposes a matrix of any shape.
    pub(super) fn new(mut packed: Mat<f64>) -> Self {
        let (rows, columns) = (packed.nrows(), packed.ncols());
        let steps = rows.min(columns);
        let mut factors = Mat::zeros(BLOCK.min(steps), steps);
        let mut buffer = MemBuffer::new(scratch::<f64>(rows, BLOCK, columns));
        let stack = MemStack::new(&mut buffer);
        for first in (0..steps).step_by(BLOCK) {
            let width = BLOCK.min(steps - first);
            let (mut block, rest) = packed.get_mut(first.., first..).split_at_col_mut(width);
            let mut factor = factors.get_mut(..width, first..first + width);
            reflect_columns(block.rb_mut(), factor.rb_mut(), stack);
            apply_transpose(block.rb(), factor.rb(), Conj::No, rest, Par::Seq, stack);
        }
        Self { packed, factors }
    }

    /// R, with the rows that are not zero throughout.
    pub(super) fn triangle(&self) -> Mat<f64> {
        let steps = self.factors.ncols();
        let mut r = Mat::zeros(steps, self.packed.ncols());
        for j in 0..r.ncols() {
            let count = steps.min(j + 1);
            r.col_as_slice_mut(j)[..count].copy_from_slice(&self.packed.col_as_slice(j)[..count]);
        }
        r
    }

    /// Q·[X; 0] for X [steps, n].
    pub(super) fn times(&self, x: MatRef<f64>) -> Mat<f64> {
        let (steps, rows) = (self.factors.ncols(), self.packed.nrows());
        let mut out = Mat::zeros(rows, x.ncols());
        out.get_mut(..steps, ..).copy_from(x);
        let mut buffer = MemBuffer::new(scratch::<f64>(rows, BLOCK, x.ncols()));
        let reflectors = self.packed.get(.., ..steps);
        let stack = MemStack::new(&mut buffer);
        apply_sequence(reflectors, self.factors.as_ref(), Conj::No, out.as_mut(), Par::Seq, stack);
        out
    }
}

/// Decomposes a few columns, `[m, n]` with m ≥ n, and writes their T: the left half, then the right half
/// (Elmroth & Gustavson 2000), so that most of it is products of matrices.
fn reflect_columns(columns: MatMut<f64>, mut factor: MatMut<f64>, stack: &mut MemStack) {
    let width = columns.ncols();
    if width <= NARROW {
        return simd(
            #[inline(always)]
            || one_by_one(columns, factor),
        );
    }
    let half = (width / 2).next_multiple_of(NARROW);
    let (mut left, mut right) = columns.split_at_col_mut(half);
    let (mut first, mut across, _, mut second) = factor.rb_mut().split_at_mut(half, half);
    reflect_columns(left.rb_mut(), first.rb_mut(), stack);
    apply_transpose(left.rb(), first.rb(), Conj::No, right.rb_mut(), Par::Seq, stack);
    let (left, mut right) = (left.get(half.., ..), right.get_mut(half.., ..));
    reflect_columns(right.rb_mut(), second.rb_mut(), stack);
    // V₁ᵀ·V₂: V₂ has a triangle above and a rectangle below.
    let (top, below) = right.rb().split_at_row(width - half);
    let (left_top, left_below) = left.split_at_row(width - half);
    let (rectangular, lower) = (Rectangular, UnitTriangularLower);
    triangular::matmul(
        across.rb_mut(),
        rectangular,
        Accum::Replace,
        left_top.transpose(),
        rectangular,
        top,
        lower,
        1.0,
        Par::Seq,
    );
    matmul(across, Accum::Add, left_below.transpose(), below, 1.0, Par::Seq);
}

/// The same for a few columns one after the other.
#[inline(always)]
fn one_by_one(mut columns: MatMut<f64>, mut factor: MatMut<f64>) {
    for j in 0..columns.ncols() {
        let (mut done, rest) = columns.rb_mut().get_mut(j.., ..).split_at_col_mut(j + 1);
        let tau = reflector(numbers_mut(done.rb_mut().col_mut(j)));
        let done = done.rb();
        let v = &numbers(done.col(j))[1..];
        for other in rest.col_iter_mut() {
            reflect(tau, v, numbers_mut(other));
        }
        factor[(j, j)] = tau;
        for i in 0..j {
            factor[(i, j)] = done[(0, i)] + dot(&numbers(done.col(i))[1..], v);
        }
    }
}

/// The numbers of a column, which lie one after the other in a `Mat`.
#[inline(always)]
fn numbers(column: ColRef<'_, f64>) -> &[f64] {
    column.try_as_col_major().map_or(&[], |column| column.as_slice())
}

#[inline(always)]
pub(super) fn numbers_mut(column: ColMut<'_, f64>) -> &mut [f64] {
    column.try_as_col_major_mut().map_or(&mut [], |column| column.as_slice_mut())
}

/// Turns `x` into (β, v[1..]) with (I - v vᵀ/τ) x = β e_1 and returns τ.
#[inline(always)]
fn reflector(x: &mut [f64]) -> f64 {
    let Some((first, rest)) = x.split_first_mut() else { return f64::INFINITY };
    let norm = dot(rest, rest).sqrt();
    if norm == 0.0 {
        // Nothing to turn; v = e_1 with 1/τ = 0.
        rest.fill(0.0);
        return f64::INFINITY;
    }
    let alpha = *first;
    let beta = -alpha.hypot(norm).copysign(alpha);
    let by = alpha - beta;
    rest.iter_mut().for_each(|value| *value /= by);
    *first = beta;
    beta / (beta - alpha)
}

/// y ← (I - v vᵀ/τ) y, with v[0] = 1 left out of `v`.
#[inline(always)]
fn reflect(tau: f64, v: &[f64], y: &mut [f64]) {
    let Some((first, rest)) = y.split_first_mut() else { return };
    let weight = (*first + dot(v, rest)) / tau;
    *first -= weight;
    for (y, v) in rest.iter_mut().zip(v) {
        *y -= weight * v;
    }
}

/// Sixteen partial sums, so that the compiler may keep them in vector registers.
#[inline(always)]
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    const LANES: usize = 16;
    let (x_blocks, y_blocks) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let tail: f64 = x_blocks.remainder().iter().zip(y_blocks.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0; LANES];
    for (x, y) in x_blocks.zip(y_blocks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    tail + sums.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::random::{Random, Stream};

    fn noise(random: &mut Random, rows: usize, columns: usize) -> Mat<f64> {
        Mat::from_fn(rows, columns, |_, _| random.normal())
    }

    #[test]
    fn q_times_r_is_the_matrix() {
        let mut random = Random::at(1, Stream::Control, 0, 0);
        let check = |matrix: Mat<f64>| {
            let (rows, columns) = (matrix.nrows(), matrix.ncols());
            let qr = Qr::new(matrix.clone());
            let r = qr.triangle();
            let steps = rows.min(columns);
            assert_eq!((r.nrows(), r.ncols()), (steps, columns));
            assert!((0..columns).all(|j| (j + 1..steps).all(|i| r[(i, j)] == 0.0)));
            let q = qr.times(Mat::<f64>::identity(steps, steps).as_ref());
            let off = (q.transpose() * &q - Mat::<f64>::identity(steps, steps)).norm_max();
            assert!(off < 2e-15 * (steps as f64).sqrt(), "{rows}×{columns}: QᵀQ is off by {off:e}");
            for (found, known) in [&q * &r, qr.times(r.as_ref())].iter().map(|found| (found, &matrix)) {
                for (found, known) in found.col_iter().zip(known.col_iter()) {
                    let off = (found - known).norm_l2();
                    assert!(off <= 5e-15 * known.norm_l2(), "{rows}×{columns}: a column is off by {off:e}");
                }
            }
        };
        // One block and more, narrow ones, tall and wide.
        for (rows, columns) in
            [(1, 1), (5, 3), (3, 5), (1, 4), (4, 1), (8, 8), (40, 33), (129, 70), (64, 64), (31, 100), (9, 9)]
        {
            check(noise(&mut random, rows, columns));
        }
        check(Mat::zeros(20, 12));
        // Of rank 3, and with columns of zeros.
        check(noise(&mut random, 90, 3) * noise(&mut random, 3, 50));
        let holes = noise(&mut random, 70, 41);
        check(Mat::from_fn(70, 41, |i, k| if k % 3 == 0 || i == 7 { 0.0 } else { holes[(i, k)] }));
    }

    #[test]
    fn a_small_remainder_is_kept() {
        let mut random = Random::at(2, Stream::Control, 0, 0);
        let (one, other) = (noise(&mut random, 4000, 1), noise(&mut random, 4000, 1));
        // Far below 16·4000·ε = 1.4e-11, where faer's QR takes it for 0.
        let pair = Mat::from_fn(4000, 2, |i, k| one[(i, 0)] + 1e-13 * k as f64 * other[(i, 0)]);
        let left = Qr::new(pair).triangle()[(1, 1)].abs() / 1e-13;
        assert!((left / 4000f64.sqrt() - 1.0).abs() < 0.1, "{left} of {}", 4000f64.sqrt());
    }

    #[test]
    fn a_power_of_two_on_a_column_is_one_on_r() {
        let mut random = Random::at(3, Stream::Control, 0, 0);
        let even = noise(&mut random, 150, 75);
        let by = |k: usize| 2f64.powi(-7 * (k as i32 % 11));
        let graded = Qr::new(Mat::from_fn(150, 75, |i, k| even[(i, k)] * by(k))).triangle();
        let r = Qr::new(even).triangle();
        assert!((0..75).all(|k| (0..75).all(|i| graded[(i, k)] == r[(i, k)] * by(k))));
    }
}
