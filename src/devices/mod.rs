//! Several devices at once: a thread for each, and a coordinator that adds what they find.
//!
//! [`DeviceGroup`] makes the forward and the backward pass of a batch on all of them. The micro-batches of a step go to
//! the devices that have the whole model (data parallel), or through stages of it that lie on several (pipeline
//! parallel), or both. Gradients are added in the order of the micro-batches, whichever device made them: the sums are
//! those of one device to the bit, for any number of devices of one kind. With
//! [`Reduction::OnDevices`](crate::train::Reduction::OnDevices) each rank adds the gradients of its own micro-batches,
//! and the sums of the ranks are added once a step.

mod balance;
mod beat;
mod faults;
mod flat;
mod follower;
mod followers;
mod frames;
mod group;
mod in_process;
mod launch;
mod messages;
#[cfg(feature = "nccl")]
mod nccl;
mod pipeline;
pub(crate) mod pool;
#[cfg(feature = "mpi")]
mod processes;
#[cfg(feature = "mpi")]
mod pump;
mod remote;
mod stage_thread;
mod status;
mod sums;
mod wire;

#[doc(hidden)]
pub use balance::placed;
#[doc(hidden)]
pub use faults::before_each_pack;
pub use follower::{Opened, open_model};
pub use followers::{Claim, Followers};
pub(crate) use followers::{Claimed, agree_on, claim, devices_here};
pub use group::DeviceGroup;
#[doc(hidden)]
pub use in_process::{InProcess, in_process, in_process_on};
pub use launch::Launch;
#[cfg(feature = "mpi")]
pub use processes::Processes;
pub(crate) use stage_thread::guarded;
pub use status::DeviceStatus;
pub use wire::Setup;
