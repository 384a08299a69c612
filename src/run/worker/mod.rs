//! The thread that trains, with its requests, its steps and the way back.

pub(crate) mod process;
mod rewind;
mod snapshot_cache;
mod steps;
pub(crate) mod thread;
mod watch;
