//! Tokenizer, chat templates, and which tokens of a row are trained on.

#[path = "../common/mod.rs"]
mod common;

mod golden_templates;
mod left_out;
mod pieces;
mod reported;
mod tokenizer;
mod tools_trained;
mod trained;
mod what_is_trained;
