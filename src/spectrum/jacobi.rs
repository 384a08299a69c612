//! The singular value decomposition of a small matrix whose columns differ by many orders of magnitude.

use super::householder::dot;
use crate::error::{Error, Result};
use crate::ops::vector::simd;
use faer::Mat;
use faer::Par;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};

/// σ_min / σ₁ down to which bidiagonalisation is exact to 1e-11 of each value: its error is ε·σ₁.
const EVEN: f64 = 1e-4;
/// Rounds over all pairs; 6 to 10 are usual.
const ROUNDS: usize = 60;
/// ‖column‖² of a column that is left as it is: 10⁻¹⁴⁰ of the largest, below which squares lose digits.
const NOTHING: f64 = 1e-280;

/// G = V·diag(σ)·Jᵀ of G `[s, t]` with s ≥ t.
pub(super) struct Small {
    /// Descending, t of them.
    pub sigma: Vec<f64>,
    /// `[s, t]`
    pub v: Mat<f64>,
    /// `[t, t]`
    pub j: Mat<f64>,
}

/// Which parts of a decomposition are wanted.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Want {
    Values,
    Vectors,
}

/// Where the columns of G are those of a well-conditioned matrix times any diagonal, every σ is exact to
/// a few ε of itself: one-sided Jacobi (Demmel & Veselić 1992, *Jacobi's method is more accurate than
/// QR*; for products Demmel et al. 1999, *Computing the singular value decomposition with high relative
/// accuracy*, algorithm 3.1).
pub(super) fn decompose(g: &Mat<f64>, want: Want) -> Result<Small> {
    let quick = bidiagonal(g, want)?;
    let (first, last) = (quick.sigma.first().copied(), quick.sigma.last().copied());
    match (first, last) {
        (Some(first), Some(last)) if last < EVEN * first => jacobi(g, want),
        _ => Ok(quick),
    }
}

fn bidiagonal(g: &Mat<f64>, want: Want) -> Result<Small> {
    let (rows, columns) = (g.nrows(), g.ncols());
    let mut s = Diag::zeros(columns);
    let mut v = Mat::zeros(rows, columns);
    let mut j = Mat::zeros(columns, columns);
    let compute = if want == Want::Vectors { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No };
    // The adapters run in parallel; one core of r×r is too small to share.
    let scratch = svd_scratch::<f64>(rows, columns, compute, compute, Par::Seq, Default::default());
    let vectors = (want == Want::Vectors).then(|| (v.as_mut(), j.as_mut()));
    let (left, right) = vectors.unzip();
    svd(
        g.as_ref(),
        s.as_mut(),
        left,
        right,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|error| Error::compute(format!("the singular values did not converge ({error:?})")))?;
    Ok(Small { sigma: s.column_vector().iter().copied().collect(), v, j })
}

/// Turns pairs of columns until all are orthogonal: G·J = V·diag(σ).
fn jacobi(g: &Mat<f64>, want: Want) -> Result<Small> {
    let (rows, columns) = (g.nrows(), g.ncols());
    // Where only values are wanted no turn is kept: they do not depend on it.
    let kept = if want == Want::Vectors { columns } else { 0 };
    let mut work: Vec<Vec<f64>> = (0..columns).map(|k| (0..rows).map(|i| g[(i, k)]).collect()).collect();
    let mut turns: Vec<Vec<f64>> =
        (0..columns).map(|k| (0..kept).map(|i| f64::from(i == k)).collect()).collect();
    let enough = f64::EPSILON * (rows as f64).sqrt();
    let mut turned = true;
    let mut rounds = 0;
    while turned && rounds < ROUNDS {
        turned = simd(
            #[inline(always)]
            || round(&mut work, &mut turns, enough),
        );
        rounds += 1;
    }
    if turned {
        return Err(Error::compute("the singular values did not converge"));
    }
    let norms: Vec<f64> = work.iter().map(|column| dot(column, column).sqrt()).collect();
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|i, j| norms[*j].total_cmp(&norms[*i]));
    let sigma: Vec<f64> = order.iter().map(|k| norms[*k]).collect();
    if want == Want::Values {
        return Ok(Small { sigma, v: Mat::new(), j: Mat::new() });
    }
    let mut v: Vec<Vec<f64>> = Vec::with_capacity(columns);
    for k in &order {
        let column = match norms[*k] {
            0.0 => fill_in(&v, rows),
            norm => work[*k].iter().map(|value| value / norm).collect(),
        };
        v.push(column);
    }
    Ok(Small {
        sigma,
        v: Mat::from_fn(rows, columns, |i, k| v[k][i]),
        j: Mat::from_fn(columns, columns, |i, k| turns[order[k]][i]),
    })
}

/// Turns each pair of columns once; whether one had to be turned.
#[inline(always)]
fn round(work: &mut [Vec<f64>], turns: &mut [Vec<f64>], enough: f64) -> bool {
    let mut turned = false;
    // ‖column‖², taken afresh whenever a column has been turned.
    let mut squares: Vec<f64> = work.iter().map(|column| dot(column, column)).collect();
    for q in 1..work.len() {
        for p in 0..q {
            let (xx, yy, xy) = (squares[p], squares[q], dot(&work[p], &work[q]));
            if xx.min(yy) < NOTHING || xy.abs() <= enough * (xx.sqrt() * yy.sqrt()) {
                continue;
            }
            turned = true;
            let zeta = (yy - xx) / (2.0 * xy);
            let t = if zeta.is_finite() {
                zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt())
            } else {
                xy / (yy - xx)
            };
            let c = 1.0 / (1.0 + t * t).sqrt();
            turn(work, p, q, c, c * t);
            turn(turns, p, q, c, c * t);
            for k in [p, q] {
                squares[k] = dot(&work[k], &work[k]);
            }
        }
    }
    turned
}

/// x ← c·x − s·y, y ← s·x + c·y.
#[inline(always)]
fn turn(columns: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    let (head, tail) = columns.split_at_mut(q);
    for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// A direction that is orthogonal to those there are, for a singular value of 0.
fn fill_in(known: &[Vec<f64>], size: usize) -> Vec<f64> {
    let mut best = vec![0.0; size];
    let mut length = 0.0;
    for axis in 0..size {
        let mut column = vec![0.0; size];
        column[axis] = 1.0;
        for _ in 0..2 {
            for other in known {
                let along = dot(other, &column);
                column.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
            }
        }
        let norm = dot(&column, &column).sqrt();
        if norm > length {
            (best, length) = (column.iter().map(|x| x / norm).collect(), norm);
        }
        // The longest remainder of all axes is at least √((size − known) / size).
        if length * length * 2.0 * size as f64 >= (size - known.len().min(size)) as f64 {
            break;
        }
    }
    best
}
