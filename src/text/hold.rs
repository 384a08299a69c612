//! Holding examples to a context.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Example;
use crate::display::thousands;

/// What becomes of rows that are longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// They are left out: a row that is cut loses the token that ends it, and a model that is
    /// trained on such rows does not learn to stop.
    #[default]
    LeaveOut,
    /// They lose what stands beyond the context.
    Truncate,
}

/// How much holding to a context takes away.
///
/// # Examples
/// ```
/// use lorascope::text::{Cut, TooLong};
///
/// let cut = Cut::of(&[3, 12, 9], 8, TooLong::Truncate);
/// assert_eq!((cut.rows, cut.tokens), (2, 5));
/// assert_eq!(cut.to_string(), "2 of 3 rows are longer than 8 tokens and are cut there: 5 of 24 tokens are lost");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cut {
    /// Tokens of a row at most.
    pub context: usize,
    /// What becomes of longer rows.
    pub too_long: TooLong,
    /// The rows that are longer.
    pub rows: usize,
    /// All rows.
    pub of_rows: usize,
    /// The tokens that are lost, with the rows or at their ends.
    pub tokens: u64,
    /// The tokens of all rows.
    pub of_tokens: u64,
}

impl Cut {
    /// What holding rows of these lengths to `context` takes away.
    pub fn of(lengths: &[u32], context: usize, too_long: TooLong) -> Self {
        let mut cut = Self { context, too_long, ..Self::default() };
        lengths.iter().for_each(|&length| cut.count(length as usize));
        cut
    }

    fn count(&mut self, length: usize) {
        self.of_rows += 1;
        self.of_tokens += length as u64;
        if length > self.context {
            self.rows += 1;
            self.tokens += match self.too_long {
                TooLong::LeaveOut => length,
                TooLong::Truncate => length - self.context,
            } as u64;
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, of_rows] = [self.rows, self.of_rows].map(|n| thousands(n as u64));
        let [tokens, of_tokens] = [self.tokens, self.of_tokens].map(thousands);
        let context = thousands(self.context as u64);
        if self.rows == 0 {
            return write!(f, "none of {of_rows} rows is longer than {context} tokens");
        }
        let (are, what) = match (self.rows, self.too_long) {
            (1, TooLong::LeaveOut) => ("is", "is left out"),
            (_, TooLong::LeaveOut) => ("are", "are left out"),
            (1, TooLong::Truncate) => ("is", "is cut there"),
            (_, TooLong::Truncate) => ("are", "are cut there"),
        };
        write!(f, "{rows} of {of_rows} rows {are} longer than {context} tokens and {what}: ")?;
        write!(f, "{tokens} of {of_tokens} tokens are lost")
    }
}

impl Example {
    /// Cuts the row after `context` tokens, and returns how many it loses.
    ///
    /// # Examples
    /// ```
    /// use lorascope::text::Example;
    ///
    /// let mut row = Example { ids: vec![5, 6, 7], trained: vec![false, true, true] };
    /// assert_eq!(row.truncate(2), 1);
    /// assert_eq!(row.trained_tokens(), 1);
    /// ```
    pub fn truncate(&mut self, context: usize) -> usize {
        let lost = self.len().saturating_sub(context);
        self.ids.truncate(context);
        self.trained.truncate(context);
        lost
    }
}

/// Holds examples to a context, and says what that took away.
///
/// # Examples
/// ```
/// use lorascope::text::{Example, TooLong, hold_to};
///
/// let row = |length: u32| Example { ids: (0..length).collect(), trained: vec![true; length as usize] };
/// let mut rows = vec![row(3), row(9)];
/// let cut = hold_to(&mut rows, 8, TooLong::LeaveOut);
/// assert_eq!((rows.len(), cut.rows, cut.tokens), (1, 1, 9));
/// ```
pub fn hold_to(examples: &mut Vec<Example>, context: usize, too_long: TooLong) -> Cut {
    let mut cut = Cut { context, too_long, ..Cut::default() };
    examples.iter().for_each(|example| cut.count(example.len()));
    match too_long {
        TooLong::LeaveOut => examples.retain(|example| example.len() <= context),
        TooLong::Truncate => {
            for example in examples {
                example.truncate(context);
            }
        }
    }
    cut
}
