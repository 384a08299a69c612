//! Tokenizer, chat template, which tokens are trained on, packing.

mod message;

pub use message::{Message, Role};
