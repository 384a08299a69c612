//! Weights on disk and in memory, layers with forward and backward, generation.

pub mod config;
pub mod layers;
pub mod llama;
mod source;
pub mod weight;

pub use config::LlamaConfig;
pub use llama::{Cache, Llama, Saved, Tokens};
pub use weight::Weight;
