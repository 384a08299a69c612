//! What a notebook shows.

#[path = "../common/mod.rs"]
mod common;

mod awkward;
mod frames;
mod kernel;
mod stop_button;
mod untrusted;
mod values;
