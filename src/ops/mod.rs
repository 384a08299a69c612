//! Dense arithmetic (matrix products, element loops), random numbers, sets.
//!
//! Functions on candle tensors ([`Tensor`](candle_core::Tensor)) run on any device in candle's own operations. On the
//! CPU in f32 the same functions work on slices: faer's matrix products, and loops that the
//! compiler vectorises for the processor at hand.

mod blocks;
mod few_rows;
mod gpu;
mod instructions;
pub mod matmul;
mod precision;
pub mod random;
mod stored;
mod tensors;
pub(crate) mod union_find;
pub(crate) mod vector;

pub(crate) use few_rows::{StoredMatrix, bytes_of, few_rows};
pub(crate) use gpu::gpu;
pub use gpu::peak_memory;
pub use precision::Precision;
pub(crate) use stored::{Stored, dots, expand};
pub use tensors::{Kernels, add, is_finite};
pub(crate) use tensors::{Values, expect, moved, shortened, values};
