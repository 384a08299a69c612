//! The run handle: ends, changes, resuming, what is kept on disk.

#[path = "../common/mod.rs"]
mod common;

mod dated;
mod diverged;
mod earlier;
mod ends;
mod existing;
mod handle;
mod resume;
mod resume_kinds;
mod rows;
mod tensorboard;
