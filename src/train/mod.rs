//! Optimiser, the step, run state on disk, the run handle.

pub mod optimizer;
pub mod step;

pub use optimizer::{AdamW, AdamWConfig};
pub use step::{Learned, StepNumbers};
