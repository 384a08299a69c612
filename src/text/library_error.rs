//! Errors of the `tokenizers` library as ours.

use std::fmt;

use crate::error::Error;

/// An error of the tokenizer library.
pub(super) fn broken(error: impl fmt::Display) -> Error {
    Error::format(format!("the tokenizer: {error}"))
}
