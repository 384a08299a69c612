//! Spectra as the data see them: the directions of ΔW weighted by how much of the data flows through.

use super::factor_matrix::{FactorMatrix, FactorOrder, HostNumbers, Triangle, exponent, power};
use super::gram;
use super::product_svd::{FactorShape, ProductFactors};
use super::{Spectrum, Vectors};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par};

/// Part of the largest eigenvalue of C down to which a negative one is rounding: sums in f32 leave 10⁻⁷.
const ROUNDING: f64 = 1e-5;

impl Spectrum {
    /// The singular values of scale·B·C^½ with C = E\[(A x)(A x)ᵀ\] over the inputs x of the layer: σᵢ² is the
    /// mean square of the output's change along the i-th direction, and Σ σᵢ² = E‖ΔW x‖².
    ///
    /// With X = E\[x xᵀ\], the matrix scale·B·A·X^½ has the same singular values and the same U, since
    /// (B A X^½)(B A X^½)ᵀ = B (A X Aᵀ) Bᵀ = B C Bᵀ. By Eckart & Young its first k directions make the
    /// matrix of rank k with the least error E‖ΔW x − M x‖², which is Σ_{i>k} σᵢ².
    ///
    /// Negative eigenvalues of C down to −10⁻⁵ of the largest count as 0: they are rounding.
    ///
    /// # Shapes
    /// A [r, in], B [out, r], C [r, r], in any floating-point type, on any device.
    ///
    /// # Errors
    /// As [`Spectrum::of`], and when C is not [r, r], not symmetric, or has a negative eigenvalue.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::spectrum::Spectrum;
    ///
    /// let a = Tensor::new(&[[1f64, 0.0, 0.0], [0.0, 1.0, 0.0]], &Device::Cpu)?;
    /// let b = Tensor::new(&[[3f64, 0.0], [0.0, 4.0]], &Device::Cpu)?;
    /// // On these data the first component of A x is 5 times as large as the second.
    /// let c = Tensor::new(&[[25f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
    /// let spectrum = Spectrum::weighted("q_proj", &a, &b, 1.0, &c)?;
    /// assert!((spectrum.singular_values[0] - 15.0).abs() < 1e-13);
    /// assert!((spectrum.singular_values[1] - 4.0).abs() < 1e-13);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn weighted(name: &str, a: &Tensor, b: &Tensor, scale: f64, c: &Tensor) -> Result<Self> {
        let compute = || {
            let shape = FactorShape::of(a.dims(), b.dims())?;
            let (host_a, host_b) = (HostNumbers::of(a)?, HostNumbers::of(b)?);
            let factors = ProductFactors::new(&shape, host_a.numbers(), host_b.numbers(), scale)?;
            Ok(Self::from_values(name, &shape, scale, factors.weighted(&root(c, shape.rank)?)?))
        };
        compute().map_err(|error: Error| error.layer(name))
    }

    /// The spectrum of scale·B·A, and that of scale·B·C^½.
    pub(super) fn both(name: &str, a: &Tensor, b: &Tensor, scale: f64, c: &Tensor) -> Result<(Self, Self)> {
        let compute = || {
            let shape = FactorShape::of(a.dims(), b.dims())?;
            let (host_a, host_b) = (HostNumbers::of(a)?, HostNumbers::of(b)?);
            let factors = ProductFactors::new(&shape, host_a.numbers(), host_b.numbers(), scale)?;
            let (plain, weighted) = factors.both(&root(c, shape.rank)?)?;
            let spectrum = |values| Self::from_values(name, &shape, scale, values);
            Ok((spectrum(plain), spectrum(weighted)))
        };
        compute().map_err(|error: Error| error.layer(name))
    }

    /// With no more values than the matrix has columns: B·Rᵀ has r of them.
    fn from_values(name: &str, shape: &FactorShape, scale: f64, mut singular_values: Vec<f64>) -> Self {
        singular_values.truncate(shape.in_features);
        Self {
            name: name.to_string(),
            singular_values,
            in_features: shape.in_features,
            out_features: shape.out_features,
            rank: shape.rank,
            scale,
        }
    }
}

impl Vectors {
    /// U and σ of scale·B·C^½, as of [`Spectrum::weighted`]; V, [r, k], is that of scale·B·Rᵀ for some R
    /// with RᵀR = C.
    ///
    /// # Shapes
    /// B [out, r], C [r, r].
    ///
    /// # Errors
    /// As [`Spectrum::weighted`].
    pub fn weighted(name: &str, b: &Tensor, scale: f64, c: &Tensor) -> Result<Self> {
        let rank = c.dims().first().copied().unwrap_or(0);
        let compute = || {
            let Triangle { r, exponents } = root(c, rank)?;
            // Rᵀ in place of A.
            let turned = (0..rank).flat_map(|k| (0..rank).map(move |j| (j, k)));
            let turned: Vec<f64> = turned.map(|(j, k)| r[(j, k)] * power(exponents[k])).collect();
            Self::of(name, &Tensor::from_vec(turned, (rank, rank), &Device::Cpu)?, b, scale)
        };
        compute().map_err(|error: Error| error.layer(name))
    }
}

/// R with RᵀR = C: B·Rᵀ has the singular values of B·C^½.
fn root(c: &Tensor, rank: usize) -> Result<Triangle> {
    let c = symmetric(c, rank)?;
    // Quicker than the eigenvalues, and as exact, where C has none of 0.
    if let Some(triangle) = gram::root(c.clone()) {
        return Ok(triangle);
    }
    let (mut lambda, mut vectors) = (Diag::zeros(rank), Mat::zeros(rank, rank));
    // The adapters run in parallel; one C is too small to share.
    let (wanted, par) = (ComputeEigenvectors::Yes, Par::Seq);
    let scratch = self_adjoint_evd_scratch::<f64>(rank, wanted, par, Default::default());
    self_adjoint_evd(
        c.as_ref(),
        lambda.as_mut(),
        Some(vectors.as_mut()),
        par,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|error| Error::compute(format!("the eigenvalues of C did not converge ({error:?})")))?;
    let lambda = lambda.column_vector();
    let peak = lambda.iter().fold(0.0_f64, |peak, value| peak.max(value.abs()));
    if let Some(negative) = lambda.iter().find(|lambda| **lambda < -ROUNDING * peak) {
        return Err(Error::input(format!("C has the eigenvalue {negative}"))
            .help("pass E[(A x)(A x)ᵀ]: it has none below 0"));
    }
    // C = E·Λ·Eᵀ, R = Λ^½·Eᵀ.
    let roots: Vec<f64> = lambda.iter().map(|lambda| lambda.max(0.0).sqrt()).collect();
    let exponent = exponent(peak.sqrt());
    let r = Mat::from_fn(rank, rank, |j, k| vectors[(k, j)] * roots[j] * power(-exponent));
    Ok(Triangle { r, exponents: vec![exponent; rank] })
}

/// C in f64, which must be symmetric and finite.
fn symmetric(c: &Tensor, rank: usize) -> Result<Mat<f64>> {
    if c.dims() != [rank, rank] {
        return Err(Error::input(format!("C is {:?} beside factors of rank {rank}", c.dims()))
            .help("pass E[(A x)(A x)ᵀ], [r, r], of the same adapter"));
    }
    let host = HostNumbers::of(c)?;
    let mut turned = Mat::zeros(rank, rank); // Cᵀ
    let c =
        FactorMatrix { numbers: host.numbers(), order: FactorOrder::Components, rows: rank, columns: rank };
    c.fill(0, turned.as_mut());
    let at = |i: usize, j: usize| turned[(j, i)];
    let mut all = (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j)));
    if let Some((i, j)) = all.find(|(i, j)| !at(*i, *j).is_finite()) {
        return Err(Error::compute(format!("C[{i}, {j}] is {}", at(i, j)))
            .help("an input of the layer is not finite: look at the data and at the learning rate"));
    }
    let peak = turned.norm_max();
    for (i, j) in (0..rank).flat_map(|i| (0..i).map(move |j| (i, j))) {
        if (at(i, j) - at(j, i)).abs() > ROUNDING * peak {
            return Err(Error::input(format!("C[{i}, {j}] is {} and C[{j}, {i}] is {}", at(i, j), at(j, i)))
                .help("pass a symmetric matrix: E[(A x)(A x)ᵀ]"));
        }
    }
    Ok(Mat::from_fn(rank, rank, |i, j| (at(i, j) + at(j, i)) / 2.0))
}
