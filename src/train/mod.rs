//! The training step and what it is made of. Nothing here starts a thread or touches the disk.
//!
//! Rows become packed batches ([`Batch`]), a forward and a backward pass give gradients, the optimiser
//! ([`OptimizerConfig`]) applies them at the rate of the [`Schedule`]: [`step`] is all of it. [`RunConfig`] has the
//! settings, [`StepReport`] is what a step logs, [`Until`] says how far to train. The folder [`run`](crate::run)
//! makes steps in a thread and keeps them on disk.

pub(crate) mod batches;
pub(crate) mod config;
mod config_builders;
mod devices;
mod evaluation;
pub(crate) mod finding;
mod goal;
pub(crate) mod left_out;
pub(crate) mod memory;
mod optimizer;
mod or_false;
pub(crate) mod render_time;
pub(crate) mod row_checks;
mod schedule;
pub(crate) mod show_config;
pub mod step;
pub(crate) mod step_report;

pub use batches::{Batch, CONTEXT, Filling};
pub use config::{Adaptation, RunConfig, Snapshots};
pub use devices::{DeviceKind, Devices, Placement, Reduction};
pub use evaluation::Evaluation;
pub use finding::{Finding, Severity};
pub use goal::{Goal, Until};
pub use left_out::{LeftOut, RowLeftOut, RowsFor, RowsLeftOut, Why};
pub use memory::StepMemory;
pub use optimizer::{AdamWConfig, Moments, Optimizer, OptimizerConfig, SgdConfig};
pub use schedule::{ReachesZero, Schedule, Shape};
pub use step_report::{StepReport, StepSpectra};
