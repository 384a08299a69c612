//! The singular values of B·A from its factors: R of each side, and the decomposition of one r×r core.
//!
//! Where the components of B, and those of A, are independent, every singular value is exact to a few ε of itself (to
//! 1e-11 where all are within 1e-4 of the largest), also where the components differ by many orders of magnitude:
//! B = X·D_B and Aᵀ = Y·D_A with columns of about length 1 give B·A = X·(D_B·D_A)·Yᵀ, which is decomposed as Demmel et
//! al. 1999, algorithm 3.1, have it, by QR of X·D and what [`decompose`] does. They pivot; here the columns are brought
//! in descending order before, so that the QR is blocked: then R = D·(D⁻¹·R_X·D), where no entry in brackets is larger
//! than in R_X or, of the inverse, than in R_X⁻¹.

use super::factor_matrix::{FactorMatrix, FactorNumbers, FactorOrder, Triangle, power};
use super::gram;
use super::householder::Qr;
use super::jacobi::{Small, Want, decompose, descending, in_order, lengths, plain};
use crate::error::{Error, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// A component may be so many times as large as another where all count as even.
const EVEN: f64 = 64.0;

/// A thin singular value decomposition; `u` and `v` are column-major.
pub(super) struct Svd {
    pub singular_values: Vec<f64>,
    pub u: Vec<f64>,
    pub v: Vec<f64>,
}

/// The shape of an adapter: A row-major [r, in], B row-major [out, r].
pub(super) struct FactorShape {
    pub in_features: usize,
    pub out_features: usize,
    pub rank: usize,
}

impl FactorShape {
    /// Reads and checks the shapes of A [r, in] and B [out, r].
    pub(super) fn of(a: &[usize], b: &[usize]) -> Result<Self> {
        let (&[rank, in_features], &[out_features, columns]) = (a, b) else {
            return Err(Error::input(format!("A is {a:?} and B is {b:?}"))
                .help("pass two matrices, A [r, in] and B [out, r]"));
        };
        if rank != columns {
            return Err(Error::input(format!(
                "A is [{rank}, {in_features}] and B is [{out_features}, {columns}]: the ranks {rank} and {columns} differ"
            ))
            .help("pass A [r, in] and B [out, r] of the same adapter"));
        }
        if rank == 0 || in_features == 0 || out_features == 0 {
            return Err(Error::input(format!("A is {a:?} and B is {b:?}: an empty matrix has no spectrum"))
                .help("pass an adapter of rank 1 or more"));
        }
        Ok(Self { in_features, out_features, rank })
    }
}

/// scale·B·A by its factors.
pub(super) struct ProductFactors<'a> {
    a: FactorMatrix<'a>,
    b: FactorMatrix<'a>,
    scale: f64,
}

impl<'a> ProductFactors<'a> {
    /// A row-major [r, in] and B row-major [out, r].
    pub(super) fn new(
        shape: &FactorShape,
        a: FactorNumbers<'a>,
        b: FactorNumbers<'a>,
        scale: f64,
    ) -> Result<Self> {
        if !scale.is_finite() {
            return Err(Error::input(format!("the scale is {scale}")).help("pass a finite alpha / r"));
        }
        let FactorShape { in_features, out_features, rank } = *shape;
        Ok(Self {
            a: FactorMatrix { numbers: a, order: FactorOrder::Components, rows: in_features, columns: rank },
            b: FactorMatrix { numbers: b, order: FactorOrder::Rows, rows: out_features, columns: rank },
            scale,
        })
    }

    /// The singular values of scale·B·A in descending order, min(out, in, r) of them.
    pub(super) fn singular_values(&self) -> Result<Vec<f64>> {
        self.values(&triangle(&self.b)?, &triangle(&self.a)?)
    }

    /// Those of scale·B·Rᵀ.
    pub(super) fn weighted(&self, r: &Triangle) -> Result<Vec<f64>> {
        self.values(&triangle(&self.b)?, r)
    }

    /// Those of scale·B·A, and of scale·B·Rᵀ.
    pub(super) fn both(&self, r: &Triangle) -> Result<(Vec<f64>, Vec<f64>)> {
        let b = triangle(&self.b)?;
        Ok((self.values(&b, &triangle(&self.a)?)?, self.values(&b, r)?))
    }

    fn values(&self, b: &Triangle, a: &Triangle) -> Result<Vec<f64>> {
        Core::of(b, a, Want::Values)?.sigma(self.scale)
    }

    /// The thin decomposition scale·B·A = U·diag(σ)·Vᵀ.
    pub(super) fn svd(&self) -> Result<Svd> {
        let ((qr_b, exponents_b), (qr_a, exponents_a)) = (self.b.householder()?, self.a.householder()?);
        let r = |qr: &Qr, exponents| Triangle { r: qr.triangle(), exponents };
        let mut core = Core::of(&r(&qr_b, exponents_b), &r(&qr_a, exponents_a), Want::Vectors)?;
        if self.scale < 0.0 {
            core.left.as_mut().col_iter_mut().for_each(|column| column.iter_mut().for_each(|x| *x = -*x));
        }
        Ok(Svd {
            // From the same arithmetic as without vectors, so that the two agree to the bit.
            singular_values: self.singular_values()?,
            u: columns(&qr_b.times(core.left.as_ref())),
            v: columns(&qr_a.times(core.right.as_ref())),
        })
    }
}

fn triangle(x: &FactorMatrix) -> Result<Triangle> {
    if x.rows <= x.columns {
        // No smaller than the matrix itself.
        let (r, exponents) = x.scaled()?;
        return Ok(Triangle { r, exponents });
    }
    if let Some(triangle) = gram::triangle(x) {
        return Ok(triangle);
    }
    let (qr, exponents) = x.householder()?;
    Ok(Triangle { r: qr.triangle(), exponents })
}

/// Whether no component is much larger than another, by the lengths of their columns in the two factors.
///
/// QR has rounded each column by ε of its length. Where all are about as long that is ε·‖B‖, as much as
/// bidiagonalisation of the whole rounds: values far below σ₁ are no more exact by another way.
fn even(b: &[f64], a: &[f64]) -> bool {
    let sizes = || b.iter().zip(a).map(|(b, a)| b * a).filter(|size| *size > 0.0);
    sizes().fold(0.0, f64::max) <= EVEN * sizes().fold(f64::INFINITY, f64::min)
}

fn times_transposed(x: &Mat<f64>, y: &Mat<f64>) -> Mat<f64> {
    let mut product = Mat::zeros(x.nrows(), y.nrows());
    matmul(&mut product, Accum::Replace, x, y.transpose(), 1.0, Par::Seq);
    product
}

/// Column by column.
fn columns(matrix: &Mat<f64>) -> Vec<f64> {
    (0..matrix.ncols()).flat_map(|k| matrix.col_as_slice(k)).copied().collect()
}

/// R_B·R_Aᵀ = left·diag(σ)·rightᵀ·2^exponent.
struct Core {
    sigma: Vec<f64>,
    exponent: i32,
    left: Mat<f64>,
    right: Mat<f64>,
}

impl Core {
    fn of(b: &Triangle, a: &Triangle, want: Want) -> Result<Self> {
        // The side with fewer rows is the one that is decomposed first, so that no σ is there in excess.
        if b.r.nrows() > a.r.nrows() {
            let Self { sigma, exponent, left, right } = Self::of(a, b, want)?;
            return Ok(Self { sigma, exponent, left: right, right: left });
        }
        let (b_lengths, a_lengths) = (lengths(&b.r), lengths(&a.r));
        let exponents: Vec<Option<i32>> = (0..b.r.ncols())
            .map(|k| (b_lengths[k] * a_lengths[k] > 0.0).then(|| b.exponents[k] + a.exponents[k]))
            .collect();
        let exponent = exponents.iter().flatten().max().copied().unwrap_or(0);
        let by: Vec<f64> = exponents.iter().map(|own| own.map_or(0.0, |own| power(own - exponent))).collect();
        let mut graded = b.r.clone();
        for (k, by) in by.iter().enumerate() {
            graded.col_as_slice_mut(k).iter_mut().for_each(|x| *x *= by);
        }
        let sizes: Vec<f64> = b_lengths.iter().zip(&by).map(|(length, by)| length * by).collect();
        if even(&sizes, &a_lengths) {
            let Small { sigma, v, j } = plain(times_transposed(&a.r, &graded), want)?;
            return Ok(Self { sigma, exponent, left: j, right: v });
        }
        let order = descending(&sizes);
        let qr = Qr::new(in_order(&graded, &order));
        // Wᵀ of W = R·Pᵀ·R_Aᵀ: its columns are graded as the rows of R are.
        let turned = in_order(&a.r, &order);
        let Small { sigma, v, j } = decompose(&times_transposed(&turned, &qr.triangle()), want)?;
        let left = if want == Want::Vectors { qr.times(j.as_ref()) } else { Mat::new() };
        Ok(Self { sigma, exponent, left, right: v })
    }

    /// |scale|·σ·2^exponent.
    fn sigma(&self, scale: f64) -> Result<Vec<f64>> {
        // In two halves, since 2^exponent alone may be out of range.
        let (half, rest) = (self.exponent / 2, self.exponent - self.exponent / 2);
        let values: Vec<f64> =
            self.sigma.iter().map(|s| s * scale.abs() * power(half) * power(rest)).collect();
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => Err(Error::compute(format!("a singular value is {value}"))
                .help("A, B or the scale is too large for 64-bit numbers")),
        }
    }
}
