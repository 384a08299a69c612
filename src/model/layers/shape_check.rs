//! Checks the shapes of the inputs of a layer.

use crate::error::{Error, Result};
use candle_core::Tensor;

/// Fails if a tensor has another shape than its layer needs: the loops over slices rely on their lengths.
pub(super) fn expect(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<()> {
    if tensor.dims() == shape {
        return Ok(());
    }
    Err(Error::compute(format!("{name} has the shape {:?}, expected {shape:?}", tensor.dims())))
}
