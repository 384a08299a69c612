//! LoRA: configuration, adapters, and the files that PEFT reads and writes.
//!
//! Everywhere: A is `[r, in]`, B is `[out, r]`, ΔW = scale·B·A with scale = alpha / r
//! (Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*, §4.1), or alpha / √r for
//! rank-stabilised LoRA (Kalajdzievski 2023).

mod activations;
mod adapter;
mod adapters;
mod checked;
mod combine;
mod config;
mod cut;
mod dropout;
mod foreign;
mod gradients;
mod init;
mod notes;
mod peft;
mod pickle;
mod read;
mod saved;
mod select;
mod sets;
mod show;
mod spectra;
mod wrapped;
mod zip;

pub use activations::Activations;
pub use adapter::{Adapter, AdapterGradient, Beside};
pub(crate) use adapters::EMBEDDING_A;
pub use adapters::{Adapters, Base, Kind, Target};
pub use combine::Combine;
pub use config::{Biases, Init, LoraConfig, TargetModules};
pub use cut::Cut;
pub(crate) use dropout::Dropout;
pub use dropout::Pass;
pub use gradients::Gradients;
pub use read::Factors;
pub use sets::AdapterSets;
