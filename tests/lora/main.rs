//! Adapters: files of PEFT and others, combining, truncating, starting from them.

#[path = "../common/mod.rs"]
mod common;

mod adapted;
mod adapters;
mod cases;
mod foreign;
mod golden_loralib;
mod golden_peft;
mod golden_tying;
mod golden_variants;
mod harmful;
mod replaced;
mod truncate;
mod warm_peft;
mod warm_start;
