//! The training thread: its requests (`thread.rs`), steps (`steps.rs`), snapshots and rewinding (`rewind.rs`).

mod devices;
pub(crate) mod process;
mod rewind;
mod snapshot_cache;
mod steps;
pub(crate) mod thread;
mod watch;
