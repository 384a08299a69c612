//! The singular values of B·A from its factors: R of each side, and the decomposition of one r×r core.
//!
//! Every singular value is exact to a few ε of itself, also where the components of B and A differ by
//! many orders of magnitude: B = X·D_B and Aᵀ = Y·D_A with columns of about length 1 give
//! B·A = X·(D_B·D_A)·Yᵀ, which is decomposed as Demmel et al. 1999, algorithm 3.1, have it: QR of X·D with
//! pivoting, then one-sided Jacobi.

use super::factor_matrix::{FactorMatrix, FactorNumbers, FactorOrder, Triangle, power};
use super::gram;
use super::householder::{Pivoted, Qr};
use super::jacobi::{Small, Want, decompose};
use crate::error::{Error, Result};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

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
            u: qr_b.times(&core.left),
            v: qr_a.times(&core.right),
        })
    }
}

fn triangle(x: &FactorMatrix) -> Result<Triangle> {
    if let Some(triangle) = gram::triangle(x) {
        return Ok(triangle);
    }
    let (qr, exponents) = x.householder()?;
    Ok(Triangle { r: qr.triangle(), exponents })
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
        // The side with fewer rows is the one that is pivoted, so that no σ is there in excess.
        if b.r.nrows() > a.r.nrows() {
            let Self { sigma, exponent, left, right } = Self::of(a, b, want)?;
            return Ok(Self { sigma, exponent, left: right, right: left });
        }
        let columns = b.r.ncols();
        let zero = |r: &Mat<f64>, k: usize| (0..r.nrows()).all(|i| r[(i, k)] == 0.0);
        let exponents: Vec<Option<i32>> = (0..columns)
            .map(|k| {
                let none = zero(&b.r, k) || zero(&a.r, k);
                (!none).then(|| b.exponents[k] + a.exponents[k])
            })
            .collect();
        let exponent = exponents.iter().flatten().max().copied().unwrap_or(0);
        let by: Vec<f64> = exponents.iter().map(|own| own.map_or(0.0, |own| power(own - exponent))).collect();
        let graded = Mat::from_fn(b.r.nrows(), columns, |i, k| b.r[(i, k)] * by[k]);
        let pivoted = Pivoted::new(&graded);
        let r = pivoted.qr.triangle();
        // Wᵀ of W = R·Pᵀ·R_Aᵀ: its columns are graded as the rows of R are.
        let turned = Mat::from_fn(a.r.nrows(), columns, |j, k| a.r[(j, pivoted.order[k])]);
        let mut g = Mat::zeros(a.r.nrows(), r.nrows());
        matmul(&mut g, Accum::Replace, &turned, r.transpose(), 1.0, Par::Seq);
        let Small { sigma, v, j } = decompose(&g, want)?;
        let (left, right) = match want {
            Want::Values => (Mat::new(), Mat::new()),
            Want::Vectors => {
                let left = pivoted.qr.times(&j);
                let rows = graded.nrows();
                (Mat::from_fn(rows, j.ncols(), |i, k| left[k * rows + i]), v)
            }
        };
        Ok(Self { sigma, exponent, left, right })
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
