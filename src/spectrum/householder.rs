//! QR decompositions by Householder reflections.
//!
//! Our own loop, not faer's: faer's drops a column whose remainder falls below 16·rows·ε of its norm
//! (1e-11 for 4096 rows), and a spectrum is read down to such values.

use crate::ops::vector::simd;
use faer::Mat;

/// A Householder QR decomposition of a tall matrix, kept in place (Golub & Van Loan 2013, 5.2.2):
/// R on and above the diagonal, below it the reflector v_j with v_j[j] = 1 implied;
/// Q = Π (I - τ_j v_j v_jᵀ).
pub(super) struct Qr {
    rows: usize,
    packed: Vec<f64>,
    tau: Vec<f64>,
}

impl Qr {
    /// Decomposes a column-major matrix.
    pub(super) fn new(rows: usize, mut packed: Vec<f64>) -> Self {
        let steps = rows.min(packed.len() / rows);
        let mut tau = vec![0.0; steps];
        simd(
            #[inline(always)]
            || {
                for (j, tau) in tau.iter_mut().enumerate() {
                    let (done, rest) = packed.split_at_mut((j + 1) * rows);
                    let column = &mut done[j * rows + j..];
                    *tau = reflector(column);
                    for other in rest.chunks_exact_mut(rows) {
                        reflect(*tau, &column[1..], &mut other[j..]);
                    }
                }
            },
        );
        Self { rows, packed, tau }
    }

    fn columns(&self) -> usize {
        self.packed.len() / self.rows
    }

    /// Rows of R.
    fn steps(&self) -> usize {
        self.tau.len()
    }

    fn r(&self, row: usize, column: usize) -> f64 {
        self.packed[column * self.rows + row]
    }

    /// R, with the rows that are not zero throughout.
    pub(super) fn triangle(&self) -> Mat<f64> {
        Mat::from_fn(self.steps(), self.columns(), |i, j| if i > j { 0.0 } else { self.r(i, j) })
    }

    /// Q·[X; 0] for X [steps, n], column-major [rows, n].
    pub(super) fn times(&self, x: &Mat<f64>) -> Vec<f64> {
        let rows = self.rows;
        let mut out = vec![0.0; rows * x.ncols()];
        for (column, target) in out.chunks_exact_mut(rows).enumerate() {
            for (row, value) in target[..self.steps()].iter_mut().enumerate() {
                *value = x[(row, column)];
            }
            for (j, &tau) in self.tau.iter().enumerate().rev() {
                reflect(tau, &self.packed[j * rows + j + 1..(j + 1) * rows], &mut target[j..]);
            }
        }
        out
    }
}

/// Turns `x` into (β, v[1..]) with (I - τ v vᵀ) x = β e_1 and returns τ.
#[inline(always)]
fn reflector(x: &mut [f64]) -> f64 {
    let Some((first, rest)) = x.split_first_mut() else { return 0.0 };
    let norm = dot(rest, rest).sqrt();
    if norm == 0.0 {
        return 0.0;
    }
    let alpha = *first;
    let beta = -alpha.hypot(norm).copysign(alpha);
    rest.iter_mut().for_each(|value| *value /= alpha - beta);
    *first = beta;
    (beta - alpha) / beta
}

/// y ← (I - τ v vᵀ) y, with v[0] = 1 left out of `v`.
#[inline(always)]
fn reflect(tau: f64, v: &[f64], y: &mut [f64]) {
    let Some((first, rest)) = y.split_first_mut() else { return };
    let weight = tau * (*first + dot(v, rest));
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

/// A·P = Q·R with the largest remaining column first (Businger & Golub 1965), for small matrices.
pub(super) struct Pivoted {
    pub qr: Qr,
    /// Column k of A·P is column `order[k]` of A.
    pub order: Vec<usize>,
}

impl Pivoted {
    pub(super) fn new(matrix: &Mat<f64>) -> Self {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        let mut packed: Vec<f64> =
            (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|at| matrix[at]).collect();
        let mut order: Vec<usize> = (0..columns).collect();
        let mut tau = vec![0.0; rows.min(columns)];
        simd(
            #[inline(always)]
            || {
                for (j, tau) in tau.iter_mut().enumerate() {
                    // Norms are taken afresh: updated ones lose the small columns that this is for.
                    // A plain loop: what an iterator calls is not compiled for vector registers.
                    let mut largest = (j, -1.0);
                    for k in j..columns {
                        let column = &packed[k * rows + j..(k + 1) * rows];
                        let size = dot(column, column);
                        if size > largest.1 {
                            largest = (k, size);
                        }
                    }
                    if largest.0 != j {
                        order.swap(j, largest.0);
                        let (head, tail) = packed.split_at_mut(largest.0 * rows);
                        head[j * rows..(j + 1) * rows].swap_with_slice(&mut tail[..rows]);
                    }
                    let (done, rest) = packed.split_at_mut((j + 1) * rows);
                    let column = &mut done[j * rows + j..];
                    *tau = reflector(column);
                    for other in rest.chunks_exact_mut(rows) {
                        reflect(*tau, &column[1..], &mut other[j..]);
                    }
                }
            },
        );
        Self { qr: Qr { rows, packed, tau }, order }
    }
}
