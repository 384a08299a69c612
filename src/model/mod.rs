//! Weights on disk and in memory, layers with forward and backward, generation.

mod adapted;
mod base_weights;
mod block;
mod compare;
pub mod config;
pub mod decoder;
mod export;
pub mod families;
mod finite;
mod folder;
pub mod generate;
mod gguf;
mod handle;
pub mod layers;
mod mapped;
mod norm;
mod rounding;
mod source;
pub mod stream;
mod trained;
pub mod weight;
mod weights_as;
mod written;

pub use adapted::{AdapterStatus, LayerStatus};
pub use compare::{Compared, Comparison};
pub use config::DecoderConfig;
pub use decoder::{Cache, Counted, Decoder, Recompute, Saved, Tokens};
pub use export::{ExportOptions, ExportType, Exported};
pub use families::Family;
pub use generate::GenerateConfig;
pub use handle::{Model, tokenizer_of};
pub use rounding::Kept;
pub use stream::{Finish, Generated};
pub use weight::Weight;
pub use weights_as::{OpenOptions, WeightsAs};
