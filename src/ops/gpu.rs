//! GPUs: each is opened once in a process and keeps the memory that it has taken.

use crate::error::Result;
use candle_core::{Device, DeviceLocation};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Those that are open. candle takes two openings of one GPU for two devices, and would copy a model from one to the
/// other.
static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

/// The GPU of this number, with one order of work for all threads of this process: `Device::new_cuda` would give each
/// thread its own, and a thread that takes a tensor from another one would not wait until it is there.
///
/// # Errors
/// When it is not there, or the program was built without support for it.
pub(crate) fn gpu(number: usize) -> Result<Device> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(number)?;
    keep_memory(&device);
    open.insert(number, device.clone());
    Ok(device)
}

/// Bytes of a GPU's memory that the tensors of this process took at most, all at one time; `None` for the processor,
/// and where the driver cannot say.
///
/// # Examples
/// ```
/// use lorascope::candle_core::Device;
/// use lorascope::ops::peak_memory;
///
/// assert_eq!(peak_memory(&Device::Cpu), None);
/// ```
pub fn peak_memory(device: &Device) -> Option<u64> {
    match device.location() {
        DeviceLocation::Cuda { .. } => of_pool(device),
        _ => None,
    }
}

#[cfg(not(feature = "cuda"))]
fn keep_memory(_: &Device) {}

#[cfg(not(feature = "cuda"))]
fn of_pool(_: &Device) -> Option<u64> {
    None
}

#[cfg(feature = "cuda")]
use pool::{keep_memory, of_pool};

/// The memory pool of a GPU's driver, which cudarc allocates from.
#[cfg(feature = "cuda")]
mod pool {
    use candle_core::Device;
    use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
    use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute as Attribute, CUmemoryPool};

    fn pool(gpu: &Device) -> Option<CUmemoryPool> {
        let number = gpu.as_cuda_device().ok()?.cuda_stream().context().cu_device();
        // SAFETY: the number is that of an open GPU.
        unsafe { device::get_default_mem_pool(number) }.ok()
    }

    /// Has the driver keep what was freed for the next tensors. It gives all of it back whenever the GPU has nothing
    /// to do otherwise, which is once a step, and takes it anew in the next one.
    pub(super) fn keep_memory(gpu: &Device) {
        let Some(pool) = pool(gpu) else { return };
        let mut threshold = u64::MAX;
        let value = (&raw mut threshold).cast();
        // SAFETY: the pool is the driver's own, and this attribute is a u64. A refusal is no harm.
        let _ = unsafe { mem_pool::set_attribute(pool, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, value) };
    }

    pub(super) fn of_pool(gpu: &Device) -> Option<u64> {
        let pool = pool(gpu)?;
        let mut bytes = 0u64;
        let value = (&raw mut bytes).cast();
        // SAFETY: the pool is the driver's own, and this attribute is a u64.
        unsafe { mem_pool::get_attribute(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, value) }.ok()?;
        Some(bytes)
    }
}
