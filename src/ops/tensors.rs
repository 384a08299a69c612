//! Which code a layer runs, and the few operations on tensors that all layers share.

use super::vector;
use crate::error::{Error, Result};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Storage, StorageRef, Tensor};

/// Which code a layer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// candle's operations, on any device: the oracle that the other is tested against.
    Candle,
    /// Fused loops over f32 slices in memory, and faer's matrix products.
    Fused,
}

impl Kernels {
    /// The fastest that works where the tensor lies.
    pub fn of(tensor: &Tensor) -> Self {
        match (tensor.device(), tensor.dtype()) {
            (Device::Cpu, DType::F32) => Self::Fused,
            _ => Self::Candle,
        }
    }
}

/// The values of a contiguous f32 tensor in memory, borrowed.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl std::ops::Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(all)) => &all[self.start..self.end],
            _ => &[], // `values` let no other storage pass
        }
    }
}

/// Borrows the values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// When it lies on another device, has another type, or is not contiguous.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let offsets = layout.contiguous_offsets();
    match (&*storage, offsets) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(Values { storage, start, end }),
        _ => Err(Error::compute(format!(
            "expected a contiguous f32 tensor on the CPU, found {:?} {:?} on {:?}",
            tensor.dtype(),
            tensor.shape(),
            tensor.device().location(),
        ))),
    }
}

/// Fails if a tensor has another shape than its layer needs: the loops over slices rely on their lengths.
pub(crate) fn expect(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<()> {
    if tensor.dims() == shape {
        return Ok(());
    }
    Err(Error::compute(format!("{name} has the shape {:?}, expected {shape:?}", tensor.dims())))
}

/// Rows longer than `max_norm` (2-norm), brought to it: row · max_norm / (‖row‖ + 10⁻⁷), PyTorch's
/// `embedding_renorm_`. Without a `max_norm` they stay as they are.
///
/// # Errors
/// When the device fails.
pub(crate) fn shortened(rows: Tensor, max_norm: Option<f64>) -> Result<Tensor> {
    let Some(max_norm) = max_norm else { return Ok(rows) };
    let norms = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
    let factors = ((&norms + 1e-7)?.recip()? * max_norm)?;
    let factors = norms.gt(max_norm)?.where_cond(&factors, &norms.ones_like()?)?;
    Ok(rows.broadcast_mul(&factors)?)
}

/// `y + x`, in place on the CPU: y must be a tensor that nobody else holds. Where their types differ, one of them is f32,
/// and so is the sum.
///
/// # Errors
/// When the shapes differ.
pub fn add(y: Tensor, x: &Tensor) -> Result<Tensor> {
    if Kernels::of(&y) == Kernels::Fused && Kernels::of(x) == Kernels::Fused && y.is_contiguous() {
        y.inplace_op2(&x.contiguous()?, &Add)?;
        return Ok(y);
    }
    if y.dtype() != x.dtype() {
        return Ok((y.to_dtype(DType::F32)? + x.to_dtype(DType::F32)?)?);
    }
    Ok((y + x)?)
}

/// The tensor on another device. Between two GPUs it waits for the copy: the memory of `x` is freed in the order of the
/// work of its own GPU, which does not wait for a copy that the other one makes.
///
/// # Errors
/// When a device fails.
pub(crate) fn moved(x: Tensor, device: &Device) -> Result<Tensor> {
    let there = x.to_device(device)?;
    if x.device().is_cuda() && device.is_cuda() && !x.device().same_device(device) {
        device.synchronize()?;
    }
    Ok(there)
}

/// Whether no value is NaN or an infinity, on any device.
///
/// # Errors
/// When the device fails.
pub fn is_finite(x: &Tensor) -> Result<bool> {
    // NaN and infinities times 0 are NaN, all others 0.
    Ok((x.to_dtype(DType::F32)? * 0.0)?.sum_all()?.to_scalar::<f32>()? == 0.0)
}

struct Add;

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        ly: &Layout,
        x: &CpuStorage,
        lx: &Layout,
    ) -> candle_core::Result<()> {
        if ly.shape() != lx.shape() {
            candle_core::bail!("cannot add {:?} to {:?}", lx.shape(), ly.shape());
        }
        let y = slice_mut(y, ly)?;
        vector::for_rows2(
            y,
            slice(x, lx)?,
            4096,
            #[inline(always)]
            |y, x| {
                for (y, x) in y.iter_mut().zip(x) {
                    *y += x;
                }
            },
        );
        Ok(())
    }
}

/// The f32 values of a storage that an operation was handed.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((start, end))) => Ok(&all[start..end]),
        _ => candle_core::bail!("expected a contiguous f32 tensor, found {:?}", layout.shape()),
    }
}

pub(super) fn slice_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((start, end))) => Ok(&mut all[start..end]),
        _ => candle_core::bail!("expected a contiguous f32 tensor, found {:?}", layout.shape()),
    }
}
