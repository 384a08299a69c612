//! One factor of an adapter as a tall matrix: a column for each of the r components.

use super::householder::Qr;
use crate::error::{Error, Result};
use crate::ops::{Values, values};
use candle_core::{DType, Device, Tensor};
use faer::Mat;

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
    /// Writes `count` rows from `first` on, column by column, in f64.
    #[inline(always)]
    pub(super) fn fill(&self, first: usize, count: usize, out: &mut [f64]) {
        match self.numbers {
            FactorNumbers::Single(values) => self.fill_from(values, first, count, out),
            FactorNumbers::Double(values) => self.fill_from(values, first, count, out),
        }
    }

    #[inline(always)]
    fn fill_from<T: Copy + Into<f64>>(&self, values: &[T], first: usize, count: usize, out: &mut [f64]) {
        match self.order {
            FactorOrder::Components => {
                for (source, out) in values.chunks_exact(self.rows).zip(out.chunks_exact_mut(count)) {
                    for (out, value) in out.iter_mut().zip(&source[first..first + count]) {
                        *out = (*value).into();
                    }
                }
            }
            FactorOrder::Rows => {
                let source = &values[first * self.columns..(first + count) * self.columns];
                for (k, out) in out.chunks_exact_mut(count).take(self.columns).enumerate() {
                    for (out, row) in out.iter_mut().zip(source.chunks_exact(self.columns)) {
                        *out = row[k].into();
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
        let mut packed = vec![0.0; self.rows * self.columns];
        self.fill(0, self.rows, &mut packed);
        let mut exponents = Vec::with_capacity(self.columns);
        for (k, column) in packed.chunks_exact_mut(self.rows).enumerate() {
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
        Ok((Qr::new(self.rows, packed), exponents))
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
