//! The check that each layer makes of the tensors that it is given.

use crate::error::{Error, Result};
use candle_core::Tensor;

/// Refuses a tensor of another shape than its layer needs: the loops over slices trust their lengths.
pub(super) fn expect(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<()> {
    if tensor.dims() == shape {
        return Ok(());
    }
    Err(Error::compute(format!("{name} has the shape {:?}, expected {shape:?}", tensor.dims())))
}
