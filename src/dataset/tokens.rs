//! The rows' lengths in tokens, under a model's chat template.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Dataset, conversation};
use crate::display::Progress;
use crate::error::{Error, Result};
use crate::text::{Tokenizer, Trained};

/// Tokens of a row, and those of them that are trained on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    pub all: u32,
    pub trained: u32,
}

/// The lengths of a row, or why the chat template refuses it.
pub(super) type Counted = Result<Tokens, String>;

impl Dataset {
    /// The same rows, with the tokenizer and chat template of a model: from now on tokens are known
    /// to the report, to the columns `tokens` and `answer_tokens`, and to [`row`](Self::row).
    pub fn for_tokenizer(&self, tokenizer: &Tokenizer) -> Self {
        let inner = &self.0;
        let new = Self::of(
            inner.origin.clone(),
            inner.sources.clone(),
            inner.rows.clone(),
            inner.steps.clone(),
            Some(tokenizer.clone()),
        );
        if let Some(store) = inner.store.get() {
            let _ = new.0.store.set(store.clone());
        }
        new
    }

    /// The tokenizer that [`for_tokenizer`](Self::for_tokenizer) bound.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.0.tokenizer.as_ref()
    }

    /// The rows of at most `n` tokens; those that the chat template refuses are not among them.
    ///
    /// # Errors
    /// Without [`for_tokenizer`](Self::for_tokenizer); if the chat template refuses every row.
    pub fn max_tokens(&self, n: usize) -> Result<Self> {
        let counted = self.tokens()?;
        let fits = |counted: &Counted| counted.as_ref().is_ok_and(|tokens| tokens.all as usize <= n);
        let rows = (0..).zip(counted.iter()).filter(|(_, counted)| fits(counted)).map(|(row, _)| row);
        self.keep(rows.collect(), format!("at most {n} tokens"))
    }

    /// The lengths of all rows in their order, counted the first time.
    ///
    /// # Errors
    /// Without a tokenizer; if the chat template refuses every row.
    pub(super) fn tokens(&self) -> Result<Arc<Vec<Counted>>> {
        if let Some(tokens) = self.0.tokens.get() {
            return Ok(tokens.clone());
        }
        let tokenizer = self.tokenizer().ok_or_else(|| {
            Error::state("tokens are not known without a tokenizer")
                .help("say data.for_model(&model) or data.for_tokenizer(&tokenizer) first")
        })?;
        let progress = Mutex::new(Progress::new("counting tokens", self.len() as u64));
        let first_error = Mutex::new(None);
        let pieces = self.pieces(|rows, _| {
            let of = |i| -> Result<Tokens> {
                match rows.text(i) {
                    Some(text) => {
                        let row = tokenizer.document(text)?;
                        Ok(Tokens { all: row.len() as u32, trained: row.trained_tokens() as u32 })
                    }
                    None => {
                        let messages = conversation(rows, i);
                        let row = tokenizer.lengths(&messages, rows.tools(i), Trained::Assistant)?;
                        Ok(Tokens { all: row.tokens as u32, trained: row.trained as u32 })
                    }
                }
            };
            let count = |i| match of(i) {
                Ok(tokens) => Ok(tokens),
                Err(error) => {
                    let text = error.to_string();
                    first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    Err(text)
                }
            };
            let counted: Vec<Counted> = (0..rows.len()).map(count).collect();
            progress.lock().unwrap_or_else(PoisonError::into_inner).advance(rows.len() as u64, "");
            Ok(counted)
        })?;
        let counted: Vec<Counted> = pieces.into_iter().flatten().collect();
        match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) if counted.iter().all(Result::is_err) => Err(error),
            _ => Ok(self.0.tokens.get_or_init(|| Arc::new(counted)).clone()),
        }
    }
}
