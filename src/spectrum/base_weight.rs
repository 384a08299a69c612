//! A frozen weight W₀ and its first singular vectors.

use super::Vectors;
use super::factor_matrix::{FactorNumbers, HostNumbers};
use super::householder::Qr;
use crate::error::{Error, Result};
use crate::ops::random::{Random, Stream};
use candle_core::{Device, Tensor};
use faer::{Mat, MatRef};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// If the shorter side is at most this, the full decomposition is computed exactly.
const DENSE: usize = 1024;
/// Directions that are computed beside those wanted, and the residual ‖Wᵀu − σv‖ / σ₁ at which they are good.
const SPARE: usize = 8;
const GOOD: f64 = 1e-9;
/// Rows that are brought to f64 at a time.
const ROWS: usize = 64;

/// A matrix given by its products.
pub(super) trait Operator: Sync {
    /// (rows, columns)
    fn shape(&self) -> (usize, usize);
    /// W·X
    fn times(&self, x: MatRef<f64>) -> Mat<f64>;
    /// Wᵀ·X
    fn transposed_times(&self, x: MatRef<f64>) -> Mat<f64>;
}

/// The first k singular values and vectors of a matrix.
#[derive(Debug, Clone)]
pub(super) struct Top {
    pub sigma: Vec<f64>,
    /// `[rows, k]`
    pub u: Mat<f64>,
    /// `[columns, k]`
    pub v: Mat<f64>,
}

/// A frozen weight W₀ `[out, in]`; its singular vectors are computed when they are first needed. Cheap to clone;
/// clones share what was computed.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::spectrum::BaseWeight;
///
/// let weight = BaseWeight::new("q_proj", &Tensor::new(&[[0f32, 3.], [4., 0.]], &Device::Cpu)?)?;
/// assert_eq!(weight.frobenius_norm(), 5.0);
/// assert!((weight.singular_values(1)?[0] - 4.0).abs() < 1e-14);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Clone)]
pub struct BaseWeight(Arc<Inner>);

struct Inner {
    name: String,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    top: Mutex<Option<Arc<Top>>>,
}

impl BaseWeight {
    /// Copies a weight to the host in f32. An embedding `[V, D]` is to be transposed: ΔW = B·A is `[D, V]`.
    ///
    /// # Errors
    /// When it is no matrix, is empty, or holds a number that is not finite.
    pub fn new(name: &str, weight: &Tensor) -> Result<Self> {
        let read = || {
            let &[rows, columns] = weight.dims() else {
                return Err(Error::input(format!("the weight is {:?}", weight.dims()))
                    .help("pass a matrix [out, in]"));
            };
            let host = HostNumbers::of(weight)?;
            let values: Vec<f32> = match host.numbers() {
                FactorNumbers::Single(values) => values.to_vec(),
                FactorNumbers::Double(values) => values.iter().map(|value| *value as f32).collect(),
            };
            if values.is_empty() {
                return Err(Error::input(format!("the weight is {:?}: it is empty", weight.dims())));
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::format(format!(
                    "W[{}, {}] is {}",
                    at / columns,
                    at % columns,
                    values[at]
                ))
                .help("the model's file is damaged: fetch it again"));
            }
            Ok(Self(Arc::new(Inner { name: name.to_string(), rows, columns, values, top: Mutex::new(None) })))
        };
        read().map_err(|error| error.layer(name))
    }

    /// The module's path.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// ‖W₀‖_F.
    pub fn frobenius_norm(&self) -> f64 {
        self.0.values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    }

    /// The first k singular values of W₀: of all, where there are fewer.
    ///
    /// # Errors
    /// When the decomposition fails.
    pub fn singular_values(&self, k: usize) -> Result<Vec<f64>> {
        let top = self.top(k)?;
        Ok(top.sigma[..k.min(top.sigma.len())].to_vec())
    }

    /// The first k singular values and vectors of W₀, for comparison with those of a ΔW.
    ///
    /// # Errors
    /// When the decomposition fails.
    pub fn vectors(&self, k: usize) -> Result<Vectors> {
        let top = self.top(k)?;
        let k = k.min(top.sigma.len());
        let matrix = |m: &Mat<f64>| {
            let rows = (0..m.nrows()).flat_map(|i| (0..k).map(move |n| (i, n)));
            Tensor::from_vec(rows.map(|at| m[at]).collect::<Vec<_>>(), (m.nrows(), k), &Device::Cpu)
        };
        let (u, v) = (matrix(&top.u)?, matrix(&top.v)?);
        Ok(Vectors { singular_values: top.sigma[..k].to_vec(), u, v, factors: None })
    }

    /// At least k of the first directions (fewer only where there are fewer), computed once.
    pub(super) fn top(&self, k: usize) -> Result<Arc<Top>> {
        let mut cached = self.0.top.lock().unwrap_or_else(PoisonError::into_inner);
        let k = k.min(self.0.rows.min(self.0.columns));
        if let Some(top) = cached.as_ref().filter(|top| top.sigma.len() >= k) {
            return Ok(top.clone());
        }
        let top = Arc::new(top(self, k).map_err(|error| error.layer(self.name()))?);
        *cached = Some(top.clone());
        Ok(top)
    }
}

impl Operator for BaseWeight {
    fn shape(&self) -> (usize, usize) {
        (self.0.rows, self.0.columns)
    }

    fn times(&self, x: MatRef<f64>) -> Mat<f64> {
        let (rows, columns) = self.shape();
        let blocks: Vec<Mat<f64>> =
            self.0.values.par_chunks(ROWS * columns).map(|block| double(block, columns) * x).collect();
        let mut out = Mat::zeros(rows, x.ncols());
        for (block, first) in blocks.iter().zip((0..rows).step_by(ROWS)) {
            out.get_mut(first..first + block.nrows(), ..).copy_from(block);
        }
        out
    }

    fn transposed_times(&self, x: MatRef<f64>) -> Mat<f64> {
        let (rows, columns) = self.shape();
        // A fixed number of partial sums, added in order: the result does not depend on threads.
        let share = rows.div_ceil(8).next_multiple_of(ROWS);
        let parts: Vec<Mat<f64>> = self
            .0
            .values
            .par_chunks(share * columns)
            .enumerate()
            .map(|(part, values)| {
                let mut sum = Mat::zeros(columns, x.ncols());
                for (at, block) in values.chunks(ROWS * columns).enumerate() {
                    let first = part * share + at * ROWS;
                    let block = double(block, columns);
                    sum += block.transpose() * x.get(first..first + block.nrows(), ..);
                }
                sum
            })
            .collect();
        parts.into_iter().fold(Mat::zeros(columns, x.ncols()), |sum, part| sum + part)
    }
}

fn double(values: &[f32], columns: usize) -> Mat<f64> {
    Mat::from_fn(values.len() / columns, columns, |i, j| f64::from(values[i * columns + j]))
}

/// The first k singular values and vectors: all of them exactly where the shorter side is at most 1024, by
/// block Golub–Kahan–Lanczos with full reorthogonalisation (Golub, Luk & Overton 1981) where it is longer.
pub(super) fn top(operator: &impl Operator, k: usize) -> Result<Top> {
    let (rows, columns) = operator.shape();
    let small = rows.min(columns);
    if small <= DENSE || k + SPARE > small / 4 { dense(operator) } else { lanczos(operator, k) }
}

fn failed(error: impl std::fmt::Debug) -> Error {
    Error::compute(format!("the singular values did not converge ({error:?})"))
}

fn dense(operator: &impl Operator) -> Result<Top> {
    let (rows, columns) = operator.shape();
    let matrix = if rows <= columns {
        operator.transposed_times(Mat::<f64>::identity(rows, rows).as_ref()).transpose().to_owned()
    } else {
        operator.times(Mat::<f64>::identity(columns, columns).as_ref())
    };
    let svd = matrix.thin_svd().map_err(failed)?;
    Ok(Top {
        sigma: svd.S().column_vector().iter().copied().collect(),
        u: svd.U().to_owned(),
        v: svd.V().to_owned(),
    })
}

fn lanczos(operator: &impl Operator, k: usize) -> Result<Top> {
    let (rows, columns) = operator.shape();
    let width = k + SPARE;
    let mut random = Random::at(0, Stream::Control, 1, 0);
    let mut block = orthonormal(Mat::from_fn(columns, width, |_, _| random.normal()));
    let mut basis = Mat::<f64>::zeros(columns, 0); // V
    let mut images = Mat::<f64>::zeros(rows, 0); // W·V
    loop {
        images = beside(&images, &operator.times(block.as_ref()));
        basis = beside(&basis, &block);
        // Rayleigh–Ritz on the space so far: W·V = Q·R, R = P·Σ·Zᵀ.
        let qr = Qr::new(images.clone());
        let small = qr.triangle().thin_svd().map_err(failed)?;
        let sigma: Vec<f64> = small.S().column_vector().iter().copied().collect();
        let u = qr.times(small.U().get(.., ..width));
        let v = &basis * small.V().get(.., ..width);
        let back = operator.transposed_times(u.as_ref());
        let residual = Mat::from_fn(columns, width, |i, n| back[(i, n)] - sigma[n] * v[(i, n)]);
        let worst = (0..k).map(|n| residual.col(n).norm_l2()).fold(0.0, f64::max);
        if worst <= GOOD * sigma[0] {
            return Ok(Top {
                sigma: sigma[..k].to_vec(),
                u: u.get(.., ..k).to_owned(),
                v: v.get(.., ..k).to_owned(),
            });
        }
        if basis.ncols() + width > rows.min(columns) / 2 {
            // So even a spectrum that the whole decomposition is no slower.
            return dense(operator);
        }
        block = residual;
        for _ in 0..2 {
            block = orthonormal(&block - &basis * (basis.transpose() * &block));
        }
    }
}

/// An orthonormal basis of the columns.
pub(super) fn orthonormal(matrix: Mat<f64>) -> Mat<f64> {
    let columns = matrix.ncols();
    Qr::new(matrix).times(Mat::<f64>::identity(columns, columns).as_ref())
}

fn beside(left: &Mat<f64>, right: &Mat<f64>) -> Mat<f64> {
    let (rows, old) = (right.nrows(), left.ncols());
    let mut both = Mat::zeros(rows, old + right.ncols());
    both.get_mut(.., ..old).copy_from(left);
    both.get_mut(.., old..).copy_from(right);
    both
}
