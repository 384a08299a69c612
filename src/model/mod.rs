//! Weights on disk and in memory, layers with forward and backward, generation.

mod block;
pub mod config;
pub mod decoder;
pub mod families;
pub mod generate;
mod handle;
pub mod layers;
mod norm;
mod source;
mod trained;
pub mod weight;

pub use config::DecoderConfig;
pub use decoder::{Cache, Decoder, Saved, Tokens};
pub use families::Family;
pub use generate::GenerateConfig;
pub use handle::{Model, tokenizer_of};
pub use weight::Weight;
