//! Models: files, families, logits, generation, export.

#[path = "../common/mod.rs"]
mod common;

mod base_weights;
mod config;
mod errors;
mod export;
mod export_merged;
mod families;
mod full;
mod golden_families;
mod golden_llama;
mod golden_logits;
mod split;
mod talk;
mod unfetched;
mod weight_dtype;
