//! The tokenizer that a dataset is bound to, and the counts of its rows' tokens.

use crate::text::{Tokenizer, Training};

/// The tokenizer of a dataset, and what of its rows is trained on.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub tokenizer: Tokenizer,
    pub training: Training,
}

/// Tokens of a row, and those of them that are trained on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    pub all: u32,
    pub trained: u32,
}

/// The lengths of a row, or why the chat template refuses it.
pub(super) type Counted = Result<Tokens, String>;
