//! The text of rows, batch by batch, and the count of what was written.

use super::encode::{Encoder, Unfit};
use super::losses::LostRows;
use super::written::{Losses, Misfit, Written};
use crate::display::thousands;
use crate::error::{Error, Result};
use crate::format::output::RowWriter;
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;
use crate::format::schema::default::Prompts;

/// Misfits of which [`Written`] and [`Losses`](super::Losses) say what is wrong.
const MISFITS: usize = 100;

/// The text of some rows.
#[derive(Default)]
pub(crate) struct Batch {
    pub rows: u64,
    pub text: Vec<u8>,
    lost: LostRows,
    left_out: u64,
    pub misfits: Vec<Misfit>,
    labelled_bad: u64,
    /// Of these, rows without a label: their answers have weight 0.
    weightless: u64,
    bad_lines: Vec<u32>,
    /// Some prompts are texts, and some are lists of turns.
    texts: bool,
    turns: bool,
    /// The numbers of their rows in the batch.
    pub unfit: Vec<usize>,
}

impl Batch {
    /// One whose text goes into an empty buffer.
    pub fn into(text: Vec<u8>) -> Self {
        Self { text, ..Self::default() }
    }

    /// Appends a row; `first` rows are in the output before the batch.
    pub fn push(&mut self, row: &RowView<'_>, first: u64, encoder: &Encoder, between: &[u8]) {
        let start = self.text.len();
        if self.rows > 0 {
            self.text.extend_from_slice(between);
        }
        let position = (first + self.rows + 1) as u32;
        match encoder.encode(row, position, &mut self.text) {
            Ok(lost) => {
                self.rows += 1;
                self.lost.add(&lost);
                match encoder.prompts(row) {
                    Some(Prompts::Texts) => self.texts = true,
                    Some(Prompts::Turns) => self.turns = true,
                    None => {}
                }
            }
            Err(Unfit::LabelledBad) => {
                self.text.truncate(start);
                self.labelled_bad += 1;
                self.weightless += u64::from(row.label() != Some(false));
                if self.bad_lines.len() < MISFITS {
                    self.bad_lines.push(row.line());
                }
            }
            Err(Unfit::Other(what)) => {
                self.text.truncate(start);
                self.left_out += 1;
                if self.misfits.len() < MISFITS {
                    self.misfits.push(Misfit { file: None, line: row.line(), id: row.name(), what });
                    self.unfit.push((self.rows + self.left_out + self.labelled_bad) as usize - 1);
                }
            }
        }
    }
}

/// What was written so far.
#[derive(Default)]
pub(crate) struct Tally {
    pub rows: u64,
    lost: LostRows,
    pub left_out: u64,
    pub misfits: Vec<Misfit>,
    pub labelled_bad: u64,
    weightless: u64,
    bad_lines: Vec<u32>,
    texts: bool,
    turns: bool,
}

impl Tally {
    /// Whether prompts are texts in some rows and lists of turns in others.
    pub fn is_mixed(&self) -> bool {
        self.texts && self.turns
    }

    /// Counts a batch.
    pub fn count(&mut self, batch: Batch) {
        self.rows += batch.rows;
        self.lost.merge(&batch.lost);
        self.left_out += batch.left_out;
        let room = MISFITS - self.misfits.len();
        self.misfits.extend(batch.misfits.into_iter().take(room));
        self.texts |= batch.texts;
        self.turns |= batch.turns;
        self.labelled_bad += batch.labelled_bad;
        self.weightless += batch.weightless;
        let room = MISFITS - self.bad_lines.len();
        self.bad_lines.extend(batch.bad_lines.into_iter().take(room));
    }

    /// Says so where all rows are labelled as bad ones.
    pub fn all_bad(&self, schema: RowSchema) -> Option<Error> {
        (self.rows == 0 && self.labelled_bad > 0).then(|| {
            Error::input(format_args!(
                "no row is left: {} answers are marked as not to be learned, which {schema} cannot say",
                thousands(self.labelled_bad)
            ))
            .help(match self.weightless {
                0 => format!("write them as {}, which has labels", RowSchema::Kto),
                n if n == self.labelled_bad => {
                    format!("write them as {}, which has weights", RowSchema::OpenAi)
                }
                _ => format!(
                    "write them as {}, which has labels, or as {}, which has weights",
                    RowSchema::Kto,
                    RowSchema::OpenAi
                ),
            })
        })
    }

    /// Writes a batch, and gives its buffer back.
    pub fn take(&mut self, mut batch: Batch, output: &mut RowWriter) -> Result<Vec<u8>> {
        if batch.rows > 0 {
            output.rows(&batch.text, batch.rows)?;
        }
        let text = std::mem::take(&mut batch.text);
        self.count(batch);
        Ok(text)
    }

    /// What the schema has no place for among `rows` rows that were counted and not written.
    pub fn losses(self, schema: RowSchema, rows: u64) -> Losses {
        let lost = self.lost.named().map(|(what, rows)| (what.to_string(), rows)).collect();
        let laid_out = self.lost.layouts();
        let Self { left_out, misfits, labelled_bad, bad_lines, .. } = self;
        Losses { schema, rows, lost, left_out, misfits, labelled_bad, bad_lines, laid_out }
    }

    /// Moves the file to its place, and says what was written.
    pub fn finish(self, mut output: RowWriter) -> Result<Written> {
        self.lost.named().for_each(|(what, rows)| output.lost(what, rows));
        let Self { left_out, misfits, labelled_bad, bad_lines, .. } = self;
        Ok(Written { left_out, misfits, labelled_bad, bad_lines, ..output.finish()? })
    }
}
