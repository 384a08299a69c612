//! Weights on disk and in memory, layers with forward and backward, generation.
//!
//! [`config`] holds the sizes as plain data. `families` reads them from `config.json` or GGUF
//! metadata, `load` opens the files; a [`Decoder`] computes, and a [`Model`] is a decoder with its tokenizer.

mod base_weights;
mod block;
mod compare;
pub mod config;
mod config_json;
pub mod decoder;
mod decoder_adapters;
mod export;
mod families;
mod frozen;
pub mod generate;
pub mod layers;
mod load;
#[allow(clippy::module_inception)] // the file holds `Model`
mod model;
mod model_adapters;
mod nan_check;
mod parts;
mod passes;
mod rounding;
mod stages;
pub mod streaming;
mod trainable_norm;
pub mod weight;
mod weight_dtype;

pub use compare::{Compared, Comparison};
pub use config::{DecoderConfig, Family};
pub use decoder::{Cache, Counted, Decoder, Recompute, Tokens};
pub use export::{ExportOptions, Exported};
pub use generate::GenerateConfig;
pub use load::OpenOptions;
pub use model::{Model, tokenizer_of};
pub use model_adapters::{AdapterStatus, LayerStatus};
pub use passes::Saved;
pub use rounding::{ExportType, Kept};
pub use stages::Stage;
pub use streaming::{Finish, Generated};
pub use weight::Weight;
pub use weight_dtype::WeightDtype;
