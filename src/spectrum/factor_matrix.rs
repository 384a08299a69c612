//! One factor of an adapter as a tall matrix: a column for each of the r components.

use super::householder::{Qr, numbers_mut};
use crate::error::{Error, Result};
use crate::ops::vector::simd;
use crate::ops::{Values, values};
use candle_core::{DType, Device, Tensor};
use faer::reborrow::ReborrowMut as _;
use faer::{Mat, MatMut};

/// Rows and columns that are turned at a time.
const TILE: usize = 64;
const NARROW: usize = 8;

/// The numbers of a factor in memory.
pub(super) enum HostNumbers<'a> {
    Borrowed(Values<'a>),
    Single(Vec<f32>),
    Double(Vec<f64>),
}

impl<'a> HostNumbers<'a> {
    /// Borrows f32 where it lies in memory in order; copies anything else to there.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        match tensor.dtype() {
            DType::F32 if matches!(tensor.device(), Device::Cpu) && tensor.is_contiguous() => {
                Ok(Self::Borrowed(values(tensor)?))
            }
            DType::F64 => Ok(Self::Double(tensor.flatten_all()?.to_vec1()?)),
            DType::F32 | DType::F16 | DType::BF16 => {
                Ok(Self::Single(tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?))
            }
            other => Err(Error::input(format!("the factors are {other:?}"))
                .help("pass a floating-point tensor: f64, f32, f16 or bf16")),
        }
    }

    pub(super) fn numbers(&self) -> FactorNumbers<'_> {
        match self {
            Self::Borrowed(values) => FactorNumbers::Single(values),
            Self::Single(values) => FactorNumbers::Single(values),
            Self::Double(values) => FactorNumbers::Double(values),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum FactorNumbers<'a> {
    Single(&'a [f32]),
    Double(&'a [f64]),
}

/// The memory layout of a factor.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum FactorOrder {
    /// A `[r, in]`: one component after the other.
    Components,
    /// B `[out, r]`: one row after the other, with a number of each component.
    Rows,
}

#[derive(Clone, Copy)]
pub(super) struct FactorMatrix<'a> {
    pub numbers: FactorNumbers<'a>,
    pub order: FactorOrder,
    pub rows: usize,
    pub columns: usize,
}

/// R of X = Q·R as r·diag(2^exponents), the columns of r of about length 1: a component may be
/// 10³⁰⁰ times another.
pub(super) struct Triangle {
    pub r: Mat<f64>,
    pub exponents: Vec<i32>,
}

impl FactorMatrix<'_> {
    /// Writes the rows from `first` on to `out` in f64, as many as it has.
    pub(super) fn fill(&self, first: usize, out: MatMut<f64>) {
        simd(
            #[inline(always)]
            || match self.numbers {
                FactorNumbers::Single(values) => self.fill_from(values, first, out),
                FactorNumbers::Double(values) => self.fill_from(values, first, out),
            },
        )
    }

    #[inline(always)]
    fn fill_from<T: Copy + Into<f64>>(&self, values: &[T], first: usize, mut out: MatMut<f64>) {
        let count = out.nrows();
        match self.order {
            FactorOrder::Components => {
                for (source, out) in values.chunks_exact(self.rows).zip(out.col_iter_mut()) {
                    for (out, value) in numbers_mut(out).iter_mut().zip(&source[first..first + count]) {
                        *out = (*value).into();
                    }
                }
            }
            FactorOrder::Rows => {
                let source = &values[first * self.columns..(first + count) * self.columns];
                // Tiles, so that a line of memory is read once.
                for (at, rows) in source.chunks(TILE * self.columns).enumerate() {
                    for column in (0..self.columns).step_by(NARROW) {
                        let width = NARROW.min(self.columns - column);
                        let mut tile = [[0.0; TILE]; NARROW];
                        for (i, row) in rows.chunks_exact(self.columns).enumerate() {
                            for (out, value) in tile.iter_mut().zip(&row[column..column + width]) {
                                out[i] = (*value).into();
                            }
                        }
                        for (k, tile) in tile[..width].iter().enumerate() {
                            let out = numbers_mut(out.rb_mut().col_mut(column + k));
                            for (out, value) in out[at * TILE..].iter_mut().zip(tile) {
                                *out = *value;
                            }
                        }
                    }
                }
            }
        }
    }

    /// The decomposition by Householder reflections, for any numbers.
    ///
    /// # Errors
    /// When a number is NaN or infinite; the error says which.
    pub(super) fn householder(&self) -> Result<(Qr, Vec<i32>)> {
        let (matrix, exponents) = self.scaled()?;
        Ok((Qr::new(matrix), exponents))
    }

    /// X·diag(2^-exponents), whose columns have numbers of about 1.
    ///
    /// # Errors
    /// As [`FactorMatrix::householder`].
    pub(super) fn scaled(&self) -> Result<(Mat<f64>, Vec<i32>)> {
        let mut matrix = Mat::zeros(self.rows, self.columns);
        self.fill(0, matrix.as_mut());
        let mut exponents = Vec::with_capacity(self.columns);
        for k in 0..self.columns {
            let column = matrix.col_as_slice_mut(k);
            if let Some(i) = column.iter().position(|value| !value.is_finite()) {
                let place = match self.order {
                    FactorOrder::Components => format!("A[{k}, {i}]"),
                    FactorOrder::Rows => format!("B[{i}, {k}]"),
                };
                return Err(Error::compute(format!("{place} is {}", column[i])).help(
                    "the run has diverged: begin a new run with a lower learning rate: RunConfig::default().lr(…)",
                ));
            }
            let peak = column.iter().fold(0.0_f64, |peak, value| peak.max(value.abs()));
            // Powers of two, so that the scaling is exact and no square over- or underflows.
            let exponent = exponent(peak);
            let by = power(-exponent);
            column.iter_mut().for_each(|value| *value *= by);
            exponents.push(exponent);
        }
        Ok((matrix, exponents))
    }
}

/// ⌊log₂ size⌋ of a positive number, 0 of 0.
pub(super) fn exponent(size: f64) -> i32 {
    if size > 0.0 { (size.log2().floor() as i32).clamp(-1000, 1000) } else { 0 }
}

/// 2^exponent; 0 and infinity where that is out of range.
pub(super) fn power(exponent: i32) -> f64 {
    f64::from(exponent).exp2()
}
