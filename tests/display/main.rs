//! What a notebook shows.

#[path = "../common/mod.rs"]
mod common;

mod awkward;
mod frames;
mod untrusted;
mod values;
