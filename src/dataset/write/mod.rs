//! Writing rows in any schema.

mod call_ids;
mod carried;
pub(super) mod encode;
pub(super) mod json;
pub(super) mod losses;
pub(super) mod prompt;
mod targets;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Dataset;
use super::container::refuse_inside;
use super::output::{Output, container};
use super::schema::RowSchema;
use super::schema::default::Prompts;
use super::table::Rows;
use super::view::RowView;
use crate::display::{Bundle, Show, Text, advice, brief, bytes, counted, neutral, thousands};
use crate::error::{Error, Result};
use crate::files::Existing;
use encode::{Encoder, Unfit};
use losses::LostRows;

/// Misfits of which [`Written`] and [`Losses`] say what is wrong.
const MISFITS: usize = 100;

/// How [`Dataset::write_with`] writes rows.
///
/// # Examples
/// ```
/// use lorascope::dataset::{Extra, WriteOptions};
///
/// let options = WriteOptions { extra: Extra::Keep, ..Default::default() };
/// assert_eq!(serde_json::to_string(&options)?, r#"{"extra":"keep","layout":"schema","misfits":"fail","existing":"refuse"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// What to do with what the schema has no place for.
    pub extra: Extra,
    /// How rows of the same schema are laid out.
    pub layout: Layout,
    /// What to do with rows that the schema cannot hold.
    pub misfits: Misfits,
    /// What to do where the file exists.
    pub existing: Existing,
}

/// What to do with what a schema has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Leaves it out and counts it.
    #[default]
    Drop,
    /// Adds one key to the row, `lorascope`, that carries it: read again and written in its first
    /// schema, the row is what it was. What was edited in between stays as it was edited, and is noted.
    Keep,
}

/// How rows are laid out that are written in the schema that they were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// With the keys, the roles and the forms that readers of the schema expect; keys that no schema
    /// knows stay. A row of which this would lose something is written as it was.
    #[default]
    Schema,
    /// As they were: their order of keys, names of keys and roles, forms of values.
    Keep,
}

/// What to do with rows that a schema cannot hold, such as a turn of a tool in `alpaca`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfits {
    /// Writes nothing, and says which they are.
    #[default]
    Fail,
    /// Leaves them out and lists them.
    LeaveOut,
}

/// A row that a schema cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The file that it was read from, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The line of the file that it was read from.
    pub line: u32,
    /// Its id.
    pub id: String,
    /// Why it does not fit.
    pub what: String,
}

/// What [`Dataset::write`] wrote.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// What the schema has no place for, and in how many rows it was left out; a key that has none is
    /// named in backticks.
    pub lost: BTreeMap<String, u64>,
    /// Rows that the schema cannot hold.
    pub left_out: u64,
    /// The first hundred of them.
    pub misfits: Vec<Misfit>,
    /// Rows that were left out because their answers are marked as not to be learned (labelled as bad ones,
    /// or of weight 0), which the schema cannot
    /// say: they would be learned as good ones.
    pub labelled_bad: u64,
    /// The lines of the first hundred of them.
    pub bad_lines: Vec<u32>,
    /// The schema that the rows are in.
    pub schema: Option<RowSchema>,
}

/// What a schema has no place for: [`Dataset::losses`].
#[derive(Clone, PartialEq, Eq)]
pub struct Losses {
    /// The schema.
    pub schema: RowSchema,
    /// Rows that were looked at.
    pub rows: u64,
    /// What it has no place for, and in how many rows.
    pub lost: BTreeMap<String, u64>,
    /// Rows that it cannot hold at all.
    pub left_out: u64,
    /// The first hundred of them.
    pub misfits: Vec<Misfit>,
    /// Rows whose answers are marked as not to be learned: they are left out where the schema cannot say so.
    pub labelled_bad: u64,
    /// The lines of the first hundred of them.
    pub bad_lines: Vec<u32>,
    /// Rows that are laid out in another way than they were: order and names of keys, names of roles,
    /// forms of values. Nothing that they say is lost by that.
    pub laid_out: u64,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!(
            "{} rows, {}, written to {}{}",
            thousands(self.rows),
            bytes(self.bytes),
            self.path.display(),
            losses::lines(self)
        );
        f.write_str(&neutral(&text))
    }
}

brief!(Written);

impl Show for Written {
    fn show(&self) -> Bundle {
        Text::new(self.to_string()).show()
    }
}

impl Dataset {
    /// Writes all rows in `schema`, to JSON lines (`.jsonl`, `.ndjson`) or to an array (`.json`).
    ///
    /// The file appears whole or not at all, in folders that are made where they are missing. What
    /// the schema has no place for is counted in [`Written::lost`], as [`losses`](Self::losses)
    /// says beforehand. Rows whose answers are labelled as bad ones are left out of schemas without
    /// labels. A row that was read from the same schema keeps all that it has, under the usual keys and
    /// in the usual forms (bare tools are wrapped, arguments of a `function_call` turn are objects);
    /// [`Layout::Keep`] writes it as it was.
    ///
    /// # Errors
    /// If the file exists ([`overwrite`](Self::overwrite) replaces it), if its name says no
    /// container, if a row's turns do not fit the schema, or if the disk refuses.
    pub fn write(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Written> {
        self.write_with(path, schema, &WriteOptions::default())
    }

    /// Like [`write`](Self::write), but replaces an existing file.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn overwrite(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Written> {
        self.write_with(path, schema, &WriteOptions { existing: Existing::Replace, ..Default::default() })
    }

    /// Like [`write`](Self::write), in other ways.
    ///
    /// # Errors
    /// As for [`write`](Self::write); rows that do not fit are left out and listed with
    /// [`Misfits::LeaveOut`], unless there are no others.
    pub fn write_with(
        &self,
        path: impl AsRef<Path>,
        schema: RowSchema,
        options: &WriteOptions,
    ) -> Result<Written> {
        refuse_inside(&self.0.origin.path, path.as_ref())?;
        let mut output = Output::create(path.as_ref(), options.existing)?;
        let mut encoder = Encoder::new(schema, options);
        let forms = self.pieces(|rows, _| {
            let of = |i| {
                let row = RowView::Table(&rows, i);
                encoder.prompts(&row).filter(|_| !encoder.leaves_out(&row) && encoder.fits(&row).is_ok())
            };
            Ok((0..rows.len()).map(of).fold([false; 2], |[texts, turns], form| {
                [texts || form == Some(Prompts::Texts), turns || form == Some(Prompts::Turns)]
            }))
        })?;
        if [0, 1].iter().all(|form| forms.iter().any(|found| found[*form])) {
            encoder = encoder.with_turns();
        }
        let between = output.between();
        let mut tally = Tally::default();
        // The rows after one that is left out move up.
        let mut moved: HashMap<usize, u64> = HashMap::new();
        let mut sum = 0;
        let all = options.misfits == Misfits::LeaveOut;
        for (first, count) in self.pieces(|rows, first| Ok((first, unfit(&rows, &encoder, all))))? {
            moved.insert(first, sum);
            sum += count;
        }
        let work = |rows: Rows<'_>, first: usize| {
            let moved = moved.get(&first).copied().unwrap_or(0);
            let mut piece = Batch::of(&rows, first as u64 - moved, &encoder, between);
            if self.0.sources.len() > 1 {
                for (misfit, row) in piece.misfits.iter_mut().zip(&piece.unfit) {
                    misfit.file = Some(self.place(first + row)?.0);
                }
            }
            match piece.misfits.first() {
                Some(misfit) if options.misfits == Misfits::Fail => Err(self.misfit(misfit, schema)),
                _ => Ok(piece),
            }
        };
        self.in_order(work, |piece| tally.take(piece, &mut output).map(drop))?;
        if let (0, Some(misfit)) = (tally.rows, tally.misfits.first()) {
            return Err(self.misfit(misfit, schema));
        }
        if let Some(error) = tally.all_bad(schema) {
            return Err(error.path(self.path()));
        }
        Ok(Written { schema: Some(schema), ..tally.finish(output)? })
    }

    /// What `schema` has no place for, and in how many rows: what [`write`](Self::write) would leave
    /// out and [`Extra::Keep`] would carry.
    ///
    /// # Errors
    /// Only if the rows cannot be read.
    pub fn losses(&self, schema: RowSchema) -> Result<Losses> {
        self.losses_with(schema, &WriteOptions::default())
    }

    /// The same of rows that are written in other ways ([`write_with`](Self::write_with)).
    ///
    /// # Errors
    /// As for [`losses`](Self::losses).
    pub fn losses_with(&self, schema: RowSchema, options: &WriteOptions) -> Result<Losses> {
        let encoder = Encoder::new(schema, options);
        let mut tally = Tally::default();
        let work = |rows: Rows<'_>, first: usize| {
            let mut batch = Batch::of(&rows, first as u64, &encoder, b"");
            batch.text = Vec::new();
            Ok(batch)
        };
        self.in_order(work, |batch| {
            tally.count(batch);
            Ok(())
        })?;
        let lost = tally.lost.named().map(|(what, rows)| (what.to_string(), rows)).collect();
        let laid_out = tally.lost.layouts();
        let Tally { left_out, misfits, labelled_bad, bad_lines, .. } = tally;
        let rows = self.len() as u64;
        Ok(Losses { schema, rows, lost, left_out, misfits, labelled_bad, bad_lines, laid_out })
    }

    /// Like [`losses`](Self::losses), and with what the container that the name says has no place for: a CSV
    /// cell has no type, a column of Parquet one type. The rows are written for it, to a temporary file.
    ///
    /// # Errors
    /// If the name says no container, if the rows cannot be read, or if the disk refuses.
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
    /// # let path = folder.path().join("rows.jsonl");
    /// # std::fs::write(&path, r#"{"prompt": "1 + 1 = ?", "completion": "2", "page": 7}"#).unwrap();
    /// use lorascope::dataset::{Dataset, RowSchema};
    ///
    /// let data = Dataset::open(&path)?;
    /// assert!(data.losses(RowSchema::PromptCompletion)?.is_empty());
    /// let losses = data.losses_to("rows.csv", RowSchema::PromptCompletion)?;
    /// assert_eq!(losses.lost.values().sum::<u64>(), 1);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn losses_to(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Losses> {
        let path = path.as_ref();
        container(path)?;
        let losses = self.losses(schema)?;
        if losses.left_out + losses.labelled_bad >= losses.rows {
            return Ok(losses);
        }
        let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let options = WriteOptions { misfits: Misfits::LeaveOut, ..WriteOptions::default() };
        let written = self.write_with(folder.path().join(name), schema, &options)?;
        Ok(Losses { lost: written.lost, ..losses })
    }

    /// Says that a row cannot be written, and how many cannot.
    fn misfit(&self, misfit: &Misfit, schema: RowSchema) -> Error {
        let count = self.losses(schema).map_or(1, |losses| losses.left_out.max(1));
        let rows = self.len() as u64;
        let path = misfit.file.clone().unwrap_or_else(|| self.path());
        Error::format(&misfit.what).path(path).line(misfit.line.into()).help(format_args!(
            "{} of {} {}: choose another schema, or leave them out with {}",
            thousands(count),
            counted(rows, "row"),
            if count == 1 { "does not fit" } else { "do not fit" },
            advice("WriteOptions { misfits: Misfits::LeaveOut, ..Default::default() }", "--leave-out")
        ))
    }
}

/// Rows that are left out: those labelled as bad, and with `all` those that do not fit.
fn unfit(rows: &Rows<'_>, encoder: &Encoder, all: bool) -> u64 {
    let unfit = |i: &usize| {
        let row = RowView::Table(rows, *i);
        encoder.leaves_out(&row) || all && encoder.fits(&row).is_err()
    };
    (0..rows.len()).filter(unfit).count() as u64
}

/// The text of some rows.
#[derive(Default)]
pub(super) struct Batch {
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
    unfit: Vec<usize>,
}

impl Batch {
    /// One whose text goes into an empty buffer.
    pub fn into(text: Vec<u8>) -> Self {
        Self { text, ..Self::default() }
    }

    /// `first` rows are in the output before these.
    fn of(rows: &Rows<'_>, first: u64, encoder: &Encoder, between: &[u8]) -> Self {
        let mut batch = Self::default();
        for i in 0..rows.len() {
            batch.push(&RowView::Table(rows, i), first, encoder, between);
        }
        batch
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
pub(super) struct Tally {
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

    fn count(&mut self, batch: Batch) {
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
    pub fn take(&mut self, mut batch: Batch, output: &mut Output) -> Result<Vec<u8>> {
        if batch.rows > 0 {
            output.rows(&batch.text, batch.rows)?;
        }
        let text = std::mem::take(&mut batch.text);
        self.count(batch);
        Ok(text)
    }

    pub fn finish(self, mut output: Output) -> Result<Written> {
        self.lost.named().for_each(|(what, rows)| output.lost(what, rows));
        let Self { left_out, misfits, labelled_bad, bad_lines, .. } = self;
        Ok(Written { left_out, misfits, labelled_bad, bad_lines, ..output.finish()? })
    }
}
