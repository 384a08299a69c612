//! Adapters to the bit.

use lorascope::candle_core::Tensor;
use lorascope::lora::Adapters;

/// The name of each tensor, and the bits of its values.
pub fn bits(adapters: &Adapters) -> Vec<(String, Vec<u32>)> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    adapters.tensors().map(|(name, t)| (name, values(t).into_iter().map(f32::to_bits).collect())).collect()
}
