//! The singular value decomposition of a small matrix whose columns differ by many orders of magnitude.

use super::bidiagonal::Bidiagonal;
use super::householder::{Qr, dot};
use crate::error::{Error, Result};
use crate::ops::vector::simd;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par};

/// σ_min / σ₁ down to which bidiagonalisation is exact to 1e-11 of each value: its error is ε·σ₁.
const EVEN: f64 = 1e-4;
/// How much a row may grow where bidiagonalisation is taken for exact: the error is about the square of it, times ε.
const GROWTH: f64 = 8.0;
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
/// a few ε of itself (Demmel & Veselić 1992, *Jacobi's method is more accurate than QR*; for products Demmel
/// et al. 1999, *Computing the singular value decomposition with high relative accuracy*).
///
/// With the columns in descending order G·P = Q·R, and the rows of R are graded as the columns of G are. Values
/// alone are those of R by bidiagonalisation, as long as that rounds each row by a few ε of its own length, which
/// is seen from its reflectors, and no value is too small to be counted. Else, and for vectors, one-sided Jacobi, after a second QR of Rᵀ, since it
/// needs fewer rounds the closer to a diagonal its matrix is (Drmač & Veselić 2008, *New fast and accurate Jacobi
/// SVD algorithm*).
pub(super) fn decompose(g: &Mat<f64>, want: Want) -> Result<Small> {
    let order = descending(&lengths(g));
    let first = Qr::new(in_order(g, &order));
    let r = first.triangle();
    let turned = r.transpose().to_owned();
    if want == Want::Values {
        let (bidiagonal, rows) = (Bidiagonal::new(r), lengths(&turned));
        if let Some(sigma) = bidiagonal.singular_values() {
            let even = sigma.last() >= sigma.first().map(|first| EVEN * first).as_ref();
            let counted = |list: &[f64]| list.iter().filter(|x| **x > 0.0).count();
            let exact = bidiagonal.growth(&rows) <= GROWTH && counted(&sigma) == counted(&rows);
            if even || exact {
                return Ok(Small { sigma, v: Mat::new(), j: Mat::new() });
            }
        }
    }
    let second = Qr::new(turned);
    let Small { sigma, v, j } = jacobi(second.triangle().transpose(), want)?;
    if want == Want::Values {
        return Ok(Small { sigma, v, j });
    }
    // Rᵀ = Q₂·R₂ and R₂ᵀ = V·Σ·Jᵀ, so G·P = (Q·V)·Σ·(Q₂·J)ᵀ.
    let j = second.times(j.as_ref());
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(k, from)| place[*from] = k);
    let j = Mat::from_fn(j.nrows(), j.ncols(), |i, k| j[(place[i], k)]);
    Ok(Small { sigma, v: first.times(v.as_ref()), j })
}

/// The decomposition by bidiagonalisation, whose error is ε·σ₁.
pub(super) fn plain(g: Mat<f64>, want: Want) -> Result<Small> {
    if want == Want::Values {
        let sigma = Bidiagonal::new(g).singular_values();
        let sigma = sigma.ok_or_else(|| Error::compute("the singular values did not converge"))?;
        return Ok(Small { sigma, v: Mat::new(), j: Mat::new() });
    }
    let (rows, columns) = (g.nrows(), g.ncols());
    let (mut s, mut v, mut j) =
        (Diag::zeros(columns), Mat::zeros(rows, columns), Mat::zeros(columns, columns));
    let compute = ComputeSvdVectors::Thin;
    let mut buffer =
        MemBuffer::new(svd_scratch::<f64>(rows, columns, compute, compute, Par::Seq, Default::default()));
    let (left, right) = (Some(v.as_mut()), Some(j.as_mut()));
    svd(g.as_ref(), s.as_mut(), left, right, Par::Seq, MemStack::new(&mut buffer), Default::default())
        .map_err(|error| Error::compute(format!("the singular values did not converge ({error:?})")))?;
    Ok(Small { sigma: s.column_vector().iter().copied().collect(), v, j })
}

/// Of each column.
pub(super) fn lengths(matrix: &Mat<f64>) -> Vec<f64> {
    let length = |k: usize| {
        let column = matrix.col_as_slice(k);
        simd(
            #[inline(always)]
            || dot(column, column),
        )
        .sqrt()
    };
    (0..matrix.ncols()).map(length).collect()
}

/// The columns in that order.
pub(super) fn in_order(matrix: &Mat<f64>, order: &[usize]) -> Mat<f64> {
    let mut out = Mat::zeros(matrix.nrows(), matrix.ncols());
    for (k, from) in order.iter().enumerate() {
        out.col_as_slice_mut(k).copy_from_slice(matrix.col_as_slice(*from));
    }
    out
}

/// The places of the numbers from the largest on.
pub(super) fn descending(lengths: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by(|i, j| lengths[*j].total_cmp(&lengths[*i]));
    order
}

/// Turns pairs of columns until all are orthogonal: G·J = V·diag(σ).
fn jacobi(g: MatRef<f64>, want: Want) -> Result<Small> {
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
    let order = descending(&norms);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::random::{Random, Stream};

    /// V·Σ·Jᵀ is G to a few ε of each column, and V and J are orthogonal.
    fn check(g: &Mat<f64>, small: &Small, plain: bool) {
        let Small { sigma, v, j } = small;
        let size = g.ncols();
        assert_eq!((v.nrows(), v.ncols(), j.nrows(), sigma.len()), (g.nrows(), size, size, size));
        assert!(sigma.is_sorted_by(|x, y| x >= y));
        for basis in [v, j] {
            let off = (basis.transpose() * basis - Mat::<f64>::identity(size, size)).norm_max();
            assert!(off < 1e-13, "off by {off:e}");
        }
        let back = Mat::from_fn(g.nrows(), size, |i, k| v[(i, k)] * sigma[k]) * j.transpose();
        for k in 0..size {
            let length = if plain { sigma[0] } else { g.col(k).norm_l2() };
            let off = (back.col(k) - g.col(k)).norm_l2();
            assert!(off <= 1e-13 * length, "column {k} is off by {:e}", off / length);
        }
    }

    fn graded(random: &mut Random, rows: usize, sizes: &[f64]) -> Mat<f64> {
        let even = Mat::from_fn(rows, sizes.len(), |_, _| random.normal());
        Mat::from_fn(rows, sizes.len(), |i, k| even[(i, k)] * sizes[k])
    }

    #[test]
    fn values_that_are_too_small_to_be_counted_are_there() {
        let of = |sizes: &[f64]| {
            let g = Mat::from_fn(sizes.len(), sizes.len(), |i, k| if i == k { sizes[k] } else { 0.0 });
            decompose(&g, Want::Values).unwrap().sigma
        };
        assert_eq!(of(&[1.0, 1e-145]), [1.0, 1e-145]);
        assert_eq!(of(&[2.0, 0.0, 1e-150]), [2.0, 1e-150, 0.0]);
        // What is left of the row below cannot be inverted.
        assert_eq!(of(&[1.0, 1e-310]).len(), 2);
    }

    #[test]
    fn values_and_vectors_of_graded_columns() {
        let mut random = Random::at(1, Stream::Control, 0, 0);
        let mixed: Vec<f64> = (0..41).map(|k| 10f64.powi(-(k * 7 % 23))).collect();
        let steps: Vec<f64> = (0..64).map(|k| [1.0, 1e-3, 1e-7, 1e-12][k * 4 / 64]).collect();
        for sizes in [&mixed, &steps, &vec![1.0; 5], &vec![1e-9]] {
            let g = graded(&mut random, sizes.len() + 6, sizes);
            let small = decompose(&g, Want::Vectors).unwrap();
            check(&g, &small, false);
            let alone = decompose(&g, Want::Values).unwrap().sigma;
            for (found, known) in alone.iter().zip(&small.sigma) {
                assert!((found - known).abs() <= 1e-13 * known, "{found:e} for {known:e}");
            }
            check(&g, &plain(g.clone(), Want::Vectors).unwrap(), true);
        }
    }

    #[test]
    fn rows_that_grow_are_seen() {
        // Bidiagonalisation loses digits of these, so that Jacobi finds the values.
        let mut random = Random::at(1, Stream::Control, 0, 1);
        let sizes: Vec<f64> = (0..64).map(|k| [1.0, 1e-3, 1e-7, 1e-12][k * 4 / 64]).collect();
        let growths: Vec<f64> = (0..8)
            .map(|_| {
                let r = Qr::new(graded(&mut random, 70, &sizes)).triangle();
                Bidiagonal::new(r.clone()).growth(&lengths(&r.transpose().to_owned()))
            })
            .collect();
        assert!(growths.iter().any(|growth| *growth > GROWTH), "{growths:?}");
        // One that is even has none to speak of.
        let r = Qr::new(graded(&mut random, 70, &[1.0; 64])).triangle();
        assert!(Bidiagonal::new(r.clone()).growth(&lengths(&r.transpose().to_owned())) < 1e3);
    }

    #[test]
    fn a_deficient_matrix_has_its_zeros() {
        let mut random = Random::at(2, Stream::Control, 0, 0);
        let low = graded(&mut random, 30, &[1.0, 1e-5, 1e-9]);
        let g = Mat::from_fn(30, 9, |i, k| if k % 4 == 3 { 0.0 } else { low[(i, k % 4)] });
        let small = decompose(&g, Want::Vectors).unwrap();
        check(&g, &small, false);
        assert_eq!(small.sigma.iter().filter(|sigma| **sigma > 1e-14 * small.sigma[0]).count(), 3);
        let zero = decompose(&Mat::zeros(6, 4), Want::Vectors).unwrap();
        check(&Mat::zeros(6, 4), &zero, false);
        assert_eq!(zero.sigma, [0.0; 4]);
        assert_eq!(decompose(&Mat::zeros(6, 4), Want::Values).unwrap().sigma, [0.0; 4]);
        assert_eq!(plain(Mat::zeros(6, 4), Want::Values).unwrap().sigma, [0.0; 4]);
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        let g = Mat::from_fn(5, 3, |i, k| if (i, k) == (4, 2) { f64::NAN } else { (i + k) as f64 });
        assert!(decompose(&g, Want::Values).is_err());
        assert!(plain(g.clone(), Want::Values).is_err());
    }
}
