//! Weights on disk and in memory, layers with forward and backward, generation.

pub mod config;
pub mod generate;
mod handle;
pub mod layers;
pub mod llama;
mod source;
pub mod weight;

pub use config::LlamaConfig;
pub use generate::GenerateConfig;
pub use handle::{Model, tokenizer_of};
pub use llama::{Cache, Llama, Saved, Tokens};
pub use weight::Weight;
