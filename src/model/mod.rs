//! Weights on disk and in memory, layers with forward and backward, generation.

pub mod config;
pub mod generate;
mod handle;
pub mod layers;
pub mod decoder;
mod source;
pub mod weight;

pub use config::DecoderConfig;
pub use generate::GenerateConfig;
pub use handle::{Model, tokenizer_of};
pub use decoder::{Cache, Decoder, Saved, Tokens};
pub use weight::Weight;
