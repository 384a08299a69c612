//! The layers of a model, each a pair of forward and backward.
//!
//! candle's autograd is not used: it computes and keeps a gradient for every frozen weight, and its
//! fast operations silently drop gradients. Here each layer keeps what its own backward needs. Every pair exists in candle's operations, which run on any device and are the oracle, and
//! as fused loops for the CPU; [`Kernels`](crate::ops::Kernels) names the two.
//!
//! Shapes use one letter each: T tokens (all rows of a pack, one after the other), D width of the
//! residual stream, H query heads, G key-value heads, W width of a head, F width inside the
//! feed-forward layer, V vocabulary, r rank.

pub mod attention;
pub mod blocked_attention;
pub mod embedding;
mod fitted_scaling;
pub mod frequencies;
pub mod fused;
pub mod gelu;
mod head_shapes;
mod key_values;
pub mod layer_norm;
pub mod linear;
pub mod loss;
pub mod positions;
pub mod rms_norm;
pub mod rotary;
pub mod swiglu;

pub use embedding::Embedding;
pub use gelu::Gelu;
pub(crate) use key_values::KeyValues;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use positions::LearnedPositions;
pub use rms_norm::RmsNorm;
pub use rotary::Rotary;
