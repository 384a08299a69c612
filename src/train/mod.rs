//! Optimiser, the step, run state on disk, the run handle.

mod batches;
mod config;
mod evaluation;
mod folder;
mod history;
pub mod memory;
pub mod optimizer;
pub mod plan;
pub mod preflight;
mod registry;
mod run;
mod schedule;
mod show;
mod status;
pub mod step;
mod worker;

pub use crate::model::Recompute;
pub use batches::{CONTEXT, LeftOut};
pub use config::{Adaptation, Existing, RunConfig};
pub use evaluation::Evaluation;
pub use history::{History, StepReport};
pub use memory::StepMemory;
pub use optimizer::{AdamWConfig, Moments, Optimizer, OptimizerConfig, SgdConfig};
pub use plan::Plan;
pub use preflight::Preflight;
pub use run::{Run, runs};
pub use schedule::{Schedule, Shape};
pub use status::{State, Status};
pub use step::{Learned, StepNumbers};
