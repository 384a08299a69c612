//! Tokenizer, chat template, which tokens are trained on, packing.
//!
//! [`Message`]s become an [`Example`] (token ids, and which of them are trained on) by
//! [`Tokenizer::example`]; [`pack`] lays the examples of a batch into sequences without padding.

mod example;
mod folder;
mod gguf;
mod message;
mod pack;
mod python;
mod template;
mod tokenizer;

pub use example::Example;
pub(crate) use folder::FILES;
pub use message::{Message, Role};
pub use pack::{Pack, pack};
pub use template::GenerationPrompt;
pub use tokenizer::Tokenizer;
