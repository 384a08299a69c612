//! Tokenizer, chat template, which tokens are trained on, packing.
//!
//! [`Message`]s become an [`Example`] (token ids, and which of them are trained on) by
//! [`Tokenizer::example`]; [`pack`] lays the examples of a batch into sequences without padding.

mod charsmap;
mod conversation;
mod document;
mod example;
mod folder_reader;
mod folder_writer;
mod gguf;
mod library_error;
mod message;
mod named_templates;
mod packing;
mod pipeline;
mod protobuf;
mod python_methods;
mod python_repr;
mod sentencepiece;
mod template;
mod template_omissions;
mod template_probe;
mod templates;
mod tokenizer;
mod training;
mod word_cache;

pub use example::{Example, TokenCounts};
pub(crate) use folder_reader::FILES;
pub use message::Message;
pub use named_templates::NamedTemplate;
pub use packing::{Pack, pack, packed};
pub use template::GenerationPrompt;
pub(crate) use template_omissions::{Answered, Forgets, Ignored};
pub use tokenizer::Tokenizer;
pub use training::{PromptAnswers, SpecialTokens, Trained, Training};
