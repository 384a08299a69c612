//! LoRA: configuration, adapters, and the files that PEFT reads and writes.
//!
//! Everywhere: A is `[r, in]`, B is `[out, r]`, ΔW = scale·B·A with scale = alpha / r
//! (Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*, §4.1), or alpha / √r for
//! rank-stabilised LoRA (Kalajdzievski 2023).
//!
//! | file | what |
//! |---|---|
//! | `config.rs`, `target.rs`, `target_selection.rs` | the configuration, and which linear layers it names |
//! | `init.rs`, `adapter.rs`, `adapters.rs`, `adapter_sets.rs` | one adapter, all of a model, named sets of them |
//! | `dropout.rs`, `gradients.rs`, `activations.rs` | what a training step needs beside the factors |
//! | `peft.rs`, `peft_reader.rs`, `peft_folder.rs`, `foreign_formats.rs`, `pickle.rs`, `zip.rs` | files |
//! | `combine.rs`, `truncate.rs`, `spectra.rs` | what is made of trained adapters |

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
