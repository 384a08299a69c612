//! Tokenizer, chat template, which tokens are trained on, packing.
//!
//! [`Message`]s become an [`Example`] (token ids, and which of them are trained on) by
//! [`Tokenizer::example`]; [`pack`] lays the examples of a batch into sequences without padding.

mod charsmap;
mod conversation;
mod core;
mod document;
mod example;
mod folder;
mod gguf;
mod hold;
mod ignored;
mod message;
mod named;
mod pack;
mod protobuf;
mod python;
mod save;
mod sentencepiece;
mod template;
mod tokenizer;
mod training;
mod wants;
mod words;
mod written;

pub use example::{Example, Lengths};
pub(crate) use folder::FILES;
pub use hold::{Cut, TooLong, hold_to};
pub(crate) use ignored::{Answered, Forgets, Ignored};
pub use message::Message;
pub use named::NamedTemplate;
pub use pack::{Pack, PackingGain, pack, packed};
pub use template::GenerationPrompt;
pub use tokenizer::Tokenizer;
pub use training::{PromptAnswers, SpecialTokens, Trained, Training};
