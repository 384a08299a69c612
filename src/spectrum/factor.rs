//! The singular values of B·A from its factors: two QR decompositions and one r×r core.
//!
//! The QR is our own Householder loop, not faer's: faer's drops a column whose remainder falls
//! below 16·rows·ε of its norm (1e-11 for 4096 rows), and a spectrum is read down to such values.

use candle_core::{DType, Tensor};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, Par};

use crate::error::{Error, Result};

/// B = Q_B·R_B and Aᵀ = Q_A·R_A, so that scale·B·A = Q_B·(scale·R_B·R_Aᵀ)·Q_Aᵀ.
pub(super) struct Factors {
    b: Qr,
    a: Qr,
    scale: f64,
}

/// A thin singular value decomposition; `u` and `v` are column-major.
pub(super) struct Svd {
    pub singular_values: Vec<f64>,
    pub u: Vec<f64>,
    pub v: Vec<f64>,
}

/// Where the numbers of one adapter stand: A row-major [r, in], B row-major [out, r].
pub(super) struct Shape {
    pub in_features: usize,
    pub out_features: usize,
    pub rank: usize,
}

impl Shape {
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

impl Factors {
    /// Decomposes A (row-major [r, in]) and B (row-major [out, r]).
    pub(super) fn new(shape: &Shape, mut a: Vec<f64>, b: &[f64], scale: f64) -> Result<Self> {
        let Shape { in_features, out_features, rank } = *shape;
        if !scale.is_finite() {
            return Err(Error::input(format!("the scale is {scale}")).help("pass a finite alpha / r"));
        }
        let mut columns = vec![0.0; b.len()];
        for (i, row) in b.chunks_exact(rank).enumerate() {
            for (k, &value) in row.iter().enumerate() {
                columns[k * out_features + i] = value;
            }
        }
        // Powers of two, so that the scaling is exact and no square over- or underflows.
        let size_a = normalise(&mut a, "A", in_features)?;
        let size_b = normalise(&mut columns, "B", out_features)?;
        Ok(Self {
            // A [r, in] in rows is Aᵀ [in, r] in columns.
            a: Qr::new(in_features, a),
            b: Qr::new(out_features, columns),
            scale: scale * size_a * size_b,
        })
    }

    /// scale·R_B·R_Aᵀ, at most r×r.
    fn core(&self) -> Mat<f64> {
        let rank = self.b.columns();
        Mat::from_fn(self.b.steps(), self.a.steps(), |i, j| {
            let sum: f64 = (i.max(j)..rank).map(|k| self.b.r(i, k) * self.a.r(j, k)).sum();
            self.scale * sum
        })
    }

    /// The singular values of scale·B·A in descending order, min(out, in, r) of them.
    pub(super) fn singular_values(&self) -> Result<Vec<f64>> {
        let core = self.core();
        let mut s = Diag::zeros(core.nrows().min(core.ncols()));
        decompose(&core, &mut s, None)?;
        finite(&s)
    }

    /// The thin decomposition scale·B·A = U·diag(σ)·Vᵀ.
    pub(super) fn svd(&self) -> Result<Svd> {
        let core = self.core();
        let size = core.nrows().min(core.ncols());
        let mut s = Diag::zeros(size);
        let mut u = Mat::zeros(core.nrows(), size);
        let mut v = Mat::zeros(core.ncols(), size);
        decompose(&core, &mut s, Some((&mut u, &mut v)))?;
        Ok(Svd { singular_values: finite(&s)?, u: self.b.times(&u), v: self.a.times(&v) })
    }
}

/// Divides by a power of two near the largest magnitude and returns it; refuses NaN and infinity.
fn normalise(values: &mut [f64], name: &str, length: usize) -> Result<f64> {
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (component, place) = (at / length, at % length);
        let (row, column) = if name == "A" { (component, place) } else { (place, component) };
        return Err(Error::compute(format!("{name}[{row}, {column}] is {}", values[at])).help(
            "the run has diverged: begin a new run with a lower learning rate: RunConfig::default().lr(…)",
        ));
    }
    let peak = values.iter().fold(0.0_f64, |peak, value| peak.max(value.abs()));
    if peak == 0.0 {
        return Ok(1.0);
    }
    let size = peak.log2().floor().clamp(-1000.0, 1000.0).exp2();
    values.iter_mut().for_each(|value| *value /= size);
    Ok(size)
}

fn decompose(
    core: &Mat<f64>,
    s: &mut Diag<f64>,
    vectors: Option<(&mut Mat<f64>, &mut Mat<f64>)>,
) -> Result<()> {
    let (u, v) = vectors.unzip();
    let compute = if u.is_some() { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No };
    // The adapters run in parallel; one core of r×r is too small to share.
    let scratch =
        svd_scratch::<f64>(core.nrows(), core.ncols(), compute, compute, Par::Seq, Default::default());
    svd(
        core.as_ref(),
        s.as_mut(),
        u.map(|u| u.as_mut()),
        v.map(|v| v.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|error| Error::compute(format!("the singular values did not converge ({error:?})")))
}

fn finite(s: &Diag<f64>) -> Result<Vec<f64>> {
    let values: Vec<f64> = s.column_vector().iter().copied().collect();
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(value) => Err(Error::compute(format!("a singular value is {value}"))
            .help("A, B or the scale is too large for 64-bit numbers")),
    }
}

/// Copies a matrix to the host, row by row, in f64.
pub(super) fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.flatten_all()?;
    match flat.dtype() {
        DType::F64 => Ok(flat.to_vec1::<f64>()?),
        DType::F32 | DType::F16 | DType::BF16 => {
            let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(f64::from).collect())
        }
        other => Err(Error::input(format!("the factors are {other:?}"))
            .help("pass a floating-point tensor: f64, f32, f16 or bf16")),
    }
}

/// A Householder QR decomposition of a tall matrix, kept in place (Golub & Van Loan 2013, 5.2.2):
/// R on and above the diagonal, below it the reflector v_j with v_j[j] = 1 implied;
/// Q = Π (I - τ_j v_j v_jᵀ).
struct Qr {
    rows: usize,
    packed: Vec<f64>,
    tau: Vec<f64>,
}

impl Qr {
    fn new(rows: usize, mut packed: Vec<f64>) -> Self {
        let steps = rows.min(packed.len() / rows);
        let mut tau = vec![0.0; steps];
        // Compiles the loops for the widest vectors that this processor has.
        pulp::Arch::new().dispatch(|| {
            for (j, tau) in tau.iter_mut().enumerate() {
                let (done, rest) = packed.split_at_mut((j + 1) * rows);
                let column = &mut done[j * rows + j..];
                *tau = reflector(column);
                for other in rest.chunks_exact_mut(rows) {
                    reflect(*tau, &column[1..], &mut other[j..]);
                }
            }
        });
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

    /// Q·[X; 0] for X [steps, n], column-major [rows, n].
    fn times(&self, x: &Mat<f64>) -> Vec<f64> {
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
fn dot(x: &[f64], y: &[f64]) -> f64 {
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
