//! The rows' lengths in tokens.

use std::sync::{Mutex, PoisonError};

use crate::dataset::Dataset;
use crate::dataset::table::Rows;
use crate::display::Progress;
use crate::error::{Error, Result};
use crate::text::{Message, Role, Tokenizer};

/// Tokens of a row, and those of them that are trained on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    pub all: u64,
    pub trained: u64,
}

/// The lengths of all rows in their order; of a row that the chat template refuses, why.
///
/// # Errors
/// If it refuses every row.
pub(super) fn lengths(data: &Dataset, tokenizer: &Tokenizer) -> Result<Vec<Result<Tokens, String>>> {
    let progress = Mutex::new(Progress::new("counting tokens", data.len() as u64));
    let first_error = Mutex::new(None);
    let pieces = data.pieces(|rows, _| {
        let count = |i| {
            of_row(rows, i, tokenizer).map_err(|error| {
                let text = error.to_string();
                keep_first(&first_error, error);
                text
            })
        };
        let counted: Vec<Result<Tokens, String>> = (0..rows.len()).map(count).collect();
        progress.lock().unwrap_or_else(PoisonError::into_inner).advance(rows.len() as u64, "");
        Ok(counted)
    })?;
    let counted: Vec<Result<Tokens, String>> = pieces.into_iter().flatten().collect();
    match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) if counted.iter().all(Result::is_err) => Err(error),
        _ => Ok(counted),
    }
}

fn keep_first(place: &Mutex<Option<Error>>, error: Error) {
    place.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// The one place where a row is turned into tokens.
fn of_row(rows: Rows<'_>, i: usize, tokenizer: &Tokenizer) -> Result<Tokens> {
    let system = rows.system(i).map(|text| Message::new(Role::System, text));
    let messages: Vec<Message> = system.into_iter().chain(rows.turns(i).map(|turn| turn.message())).collect();
    let example = tokenizer.example(&messages, rows.tools(i))?;
    Ok(Tokens { all: example.len() as u64, trained: example.trained_tokens() as u64 })
}
