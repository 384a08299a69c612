//! LoRA fine-tuning in a notebook: look at the data, train a little, look inside, decide, go on.
#![deny(missing_docs)]

pub mod dataset;
pub mod display;
pub mod error;
pub mod image;
pub mod lora;
pub mod model;
pub mod ops;
pub mod plot;
pub mod spectrum;
pub mod text;
pub mod train;

pub use candle_core;
pub use candle_nn;
pub use plotters;
pub use polars;
pub use tokenizers;
