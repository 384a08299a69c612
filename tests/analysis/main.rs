//! What runs are asked before and after they train.

#[path = "../common/mod.rs"]
mod common;

mod plan;
mod preflight;
mod spectra_run;
