//! LoRA: configuration, adapters, and the files that PEFT reads and writes.
//!
//! Everywhere: A is `[r, in]`, B is `[out, r]`, ΔW = scale·B·A with scale = alpha / r
//! (Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*, §4.1), or alpha / √r for
//! rank-stabilised LoRA (Kalajdzievski 2023).

mod activations;
mod adapter;
mod adapter_sets;
mod adapters;
mod combine;
mod config;
mod dropout;
mod foreign_formats;
mod gradients;
mod init;
mod notes;
mod peft;
mod peft_folder;
mod peft_reader;
mod pickle;
mod spectra;
mod tables;
mod target;
mod target_selection;
mod tensor_names;
mod truncate;
mod validated;
mod wrapped_names;
mod zip;

pub use activations::Activations;
pub use adapter::{Adapter, AdapterGradient, Beside};
pub use adapter_sets::AdapterSets;
pub use adapters::Adapters;
pub use combine::Combine;
pub use config::{Biases, Init, LoraConfig, TargetModules};
pub(crate) use dropout::Dropout;
pub use dropout::DropoutPass;
pub use gradients::Gradients;
pub use peft_reader::Factors;
pub use target::{Base, Target, TargetKind};
pub(crate) use tensor_names::EMBEDDING_A;
pub use truncate::Truncation;
