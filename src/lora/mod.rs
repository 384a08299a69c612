//! LoRA: configuration, adapters, and the files that PEFT reads and writes.
//!
//! Everywhere: A is `[r, in]`, B is `[out, r]`, ΔW = scale·B·A with scale = alpha / r
//! (Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*, §4.1), or alpha / √r for
//! rank-stabilised LoRA (Kalajdzievski 2023).

mod adapter;
mod adapters;
mod checked;
mod config;
mod foreign;
mod peft;
mod pickle;
mod zip;

pub use adapter::{Adapter, AdapterGradient};
pub use adapters::{Adapters, Gradients, Target};
pub use config::{LoraConfig, TargetModules};
