//! Products of row-major matrices.
//!
//! Measured on two cores in f32 (2048³, GFLOP/s): faer 210, MKL 169, candle 132; faer's results are
//! bit-identical over repeats and numbers of threads. On other devices, and in half types, these are
//! candle's `matmul`: operands and result in their type, sums in f32.

use super::few_rows::add_product;
use super::tensors::{slice, slice_mut};
use super::{Kernels, values};
use crate::error::Result;
use candle_core::{CpuStorage, InplaceOp3, Layout, Tensor};
use faer::linalg::matmul::matmul as gemm;
use faer::reborrow::ReborrowMut as _;
use faer::{Accum, MatMut, MatRef, Par};

/// Which of the two factors is read transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `A·B`
    Plain,
    /// `A·Bᵀ`
    RightTransposed,
    /// `Aᵀ·B`
    LeftTransposed,
}

impl Form {
    /// Rows, inner dimension and columns of the product of two matrices of these shapes.
    fn dims(self, a: (usize, usize), b: (usize, usize)) -> Option<(usize, usize, usize)> {
        let (m, k, k2, n) = match self {
            Self::Plain => (a.0, a.1, b.0, b.1),
            Self::RightTransposed => (a.0, a.1, b.1, b.0),
            Self::LeftTransposed => (a.1, a.0, b.0, b.1),
        };
        (k == k2).then_some((m, k, n))
    }
}

/// The product of two matrices.
///
/// # Shapes
/// `Plain`: `[m, k]`, `[k, n]`; `RightTransposed`: `[m, k]`, `[n, k]`; `LeftTransposed`: `[k, m]`,
/// `[k, n]`; the result is `[m, n]`.
///
/// # Errors
/// When the inner dimensions differ.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::ops::matmul::{Form, matmul};
///
/// let a = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f32, 0.], [1., 1.]], &Device::Cpu)?;
/// let c = matmul(&a, &b, Form::RightTransposed)?;
/// assert_eq!(c.to_vec2::<f32>()?, [[1., 3.], [3., 7.]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn matmul(a: &Tensor, b: &Tensor, form: Form) -> Result<Tensor> {
    let Some((m, k, n)) = form.dims(a.dims2()?, b.dims2()?) else {
        return Err(mismatch(a, b, form).into());
    };
    if (Kernels::of(a), Kernels::of(b)) == (Kernels::Fused, Kernels::Fused) {
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let mut c = vec![0f32; m * n];
        let (da, db, par) = (a.dims2()?, b.dims2()?, parallel(m * k * n));
        product(&mut c, Accum::Replace, (&values(&a)?, da), (&values(&b)?, db), form, 1.0, par);
        return Ok(Tensor::from_vec(c, (m, n), a.device())?);
    }
    Ok(match form {
        Form::Plain => a.matmul(b)?,
        Form::RightTransposed => a.matmul(&b.t()?)?,
        Form::LeftTransposed => a.t()?.matmul(b)?,
    })
}

/// `c + scale·(product of a and b)`, in place on the CPU: c must be a tensor that nobody else holds.
///
/// # Errors
/// When the shapes do not fit.
pub fn matmul_add(c: Tensor, a: &Tensor, b: &Tensor, form: Form, scale: f64) -> Result<Tensor> {
    let kernels = [&c, a, b].map(Kernels::of);
    if kernels == [Kernels::Fused; 3] && c.is_contiguous() {
        c.inplace_op3(&a.contiguous()?, &b.contiguous()?, &MatmulAdd { form, scale: scale as f32 })?;
        return Ok(c);
    }
    if scale == 1.0 {
        return Ok((c + matmul(a, b, form)?)?);
    }
    // The smaller factor is scaled, not the product.
    let product = match a.elem_count() < b.elem_count() {
        true => matmul(&(a * scale)?, b, form)?,
        false => matmul(a, &(b * scale)?, form)?,
    };
    Ok((c + product)?)
}

struct MatmulAdd {
    form: Form,
    scale: f32,
}

impl InplaceOp3 for MatmulAdd {
    fn name(&self) -> &'static str {
        "matmul_add"
    }

    fn cpu_fwd(
        &self,
        c: &mut CpuStorage,
        lc: &Layout,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> candle_core::Result<()> {
        let (da, db) = (la.shape().dims2()?, lb.shape().dims2()?);
        match self.form.dims(da, db) {
            Some((m, k, n)) if lc.shape().dims2()? == (m, n) => {
                let (a, b) = ((slice(a, la)?, da), (slice(b, lb)?, db));
                product(slice_mut(c, lc)?, Accum::Add, a, b, self.form, self.scale, parallel(m * k * n));
                Ok(())
            }
            _ => candle_core::bail!("cannot add a product of {da:?} and {db:?} to {:?}", lc.shape()),
        }
    }
}

fn mismatch(a: &Tensor, b: &Tensor, form: Form) -> candle_core::Error {
    candle_core::Error::Msg(format!("no {form:?} product of shapes {:?} and {:?}", a.shape(), b.shape()))
}

/// A row-major slice with its rows and columns.
pub(crate) type Matrix<'a> = (&'a [f32], (usize, usize));

/// `c (+)= scale·product` on row-major slices whose dimensions were checked.
pub(crate) fn product(
    c: &mut [f32],
    accum: Accum,
    (a, (a_rows, a_columns)): Matrix,
    (b, (b_rows, b_columns)): Matrix,
    form: Form,
    scale: f32,
    par: Par,
) {
    if form == Form::RightTransposed && a_rows == 1 {
        if matches!(accum, Accum::Replace) {
            c.fill(0.0);
        }
        return add_product(c, b, a, scale, par);
    }
    let a = MatRef::from_row_major_slice(a, a_rows, a_columns);
    let b = MatRef::from_row_major_slice(b, b_rows, b_columns);
    let (a, b) = match form {
        Form::Plain => (a, b),
        Form::RightTransposed => (a, b.transpose()),
        Form::LeftTransposed => (a.transpose(), b),
    };
    let mut c = MatMut::from_row_major_slice_mut(c, a.nrows(), b.ncols());
    for row in (0..a.nrows()).step_by(AT_ONCE) {
        let rows = AT_ONCE.min(a.nrows() - row);
        for column in (0..b.ncols()).step_by(AT_ONCE) {
            let columns = AT_ONCE.min(b.ncols() - column);
            let c = c.rb_mut().submatrix_mut(row, column, rows, columns);
            gemm(c, accum, a.subrows(row, rows), b.subcols(column, columns), scale, par);
        }
    }
}

/// Rows and columns of one call of faer, which copies up to half a third-level cache of a factor: the 130 MB of a
/// large server's are more than the model. What an element sums, and in which order, is the same.
const AT_ONCE: usize = 8192;

/// Threads for a product of this many multiplications: below a fifth of a millisecond of work,
/// waking the others costs more than they bring.
pub(crate) fn parallel(multiplications: usize) -> Par {
    if multiplications < 1 << 22 || rayon::current_num_threads() < 2 { Par::Seq } else { Par::rayon(0) }
}
