//! Layers and steps against PyTorch and finite differences.

#[path = "../common/mod.rs"]
mod common;

mod golden_layers;
mod golden_step;
mod layers;
mod recompute;
