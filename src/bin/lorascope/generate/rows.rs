//! The rows of a generated file.

use std::path::Path;

use lorascope::error::{Error, Result};
use lorascope::format::{Existing, RowWriter, Written};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::draft::ExerciseKind;
use super::draw::{Draw, Stream};
use super::language::Language;
use super::{chinese, english, heldout};

/// What [`Generate::write`] writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generate {
    /// How many rows, the broken ones included.
    pub rows: u64,
    /// Which of the possible files.
    pub seed: u64,
    /// Which kinds of problem.
    pub kinds: Kinds,
    /// Which shape.
    pub shape: RowShape,
    /// Whether the file has the faults of real data.
    pub faults: Faults,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            rows: 2000,
            seed: 42,
            kinds: Kinds::Training,
            shape: RowShape::Instructions,
            faults: Faults::Without,
        }
    }
}

/// Which kinds of problem a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kinds {
    /// Those to train on: 32 Chinese and 16 English kinds.
    Training,
    /// Twelve others, to evaluate on: no training file holds them.
    HeldOut,
}

/// The shape of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowShape {
    /// instruction, input, output.
    Instructions,
    /// id and conversations of human and gpt: a problem and one to four questions that follow up.
    Conversations,
}

/// Whether a file has the faults of real data.
///
/// With them, of the rows of [`RowShape::Instructions`] some outputs begin with line breaks, one in a
/// hundred repeats an earlier row, and, in JSON lines, exactly one in each full two thousand is
/// cut off in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Faults {
    /// Every row is as it should be.
    Without,
    /// Some are not.
    With,
}

/// One problem with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exercise {
    /// The kind of problem, such as `zh-cage`.
    pub kind: String,
    /// What the user says, or, where `input` is not empty, what is to be done with it.
    pub instruction: String,
    /// Mostly empty.
    pub input: String,
    /// The worked answer.
    pub output: String,
    /// The number that it ends in.
    pub value: String,
}

/// One row in this many is broken, when there are faults.
const BROKEN: u64 = 2000;
/// Rows that one thread makes at a time.
const PIECE: u64 = 2048;

impl Generate {
    /// Problem `index` with its answer, before any faults.
    pub fn exercise(&self, index: u64) -> Exercise {
        self.make(&mut Draw::new(self.seed, Stream::Row as u64, index))
    }

    pub(super) fn make(&self, draw: &mut Draw) -> Exercise {
        let n = match self.kinds {
            Kinds::Training => chinese::KINDS.len() + english::KINDS.len(),
            Kinds::HeldOut => heldout::KINDS.len(),
        };
        let at = draw.int(0, n as i64 - 1) as usize;
        let ExerciseKind(name, make) = match self.kinds {
            Kinds::HeldOut => &heldout::KINDS[at],
            Kinds::Training => match at.checked_sub(chinese::KINDS.len()) {
                None => &chinese::KINDS[at],
                Some(at) => &english::KINDS[at],
            },
        };
        let draft = make(draw);
        let language = Language::of(name);
        let output = language.answer(draw, &draft);
        let (instruction, input) = language.ask(draw, draft.question);
        Exercise { kind: name.to_string(), instruction, input, output, value: draft.value }
    }

    /// Row `index` of a file with faults: perhaps an earlier row again, perhaps with line breaks.
    fn faulty(&self, index: u64) -> Exercise {
        let mut draw = Draw::new(self.seed, Stream::Fault as u64, index);
        if index > 0 && draw.chance(1) {
            return self.faulty(draw.next() % index);
        }
        let mut exercise = self.exercise(index);
        if draw.chance(8) {
            exercise.output.insert_str(0, draw.pick(&["\n", "\n", "\n\n"]));
        }
        exercise
    }

    /// Whether the line of row `index` is cut off.
    fn broken(&self, index: u64) -> bool {
        let first = index / BROKEN * BROKEN;
        let at = Draw::new(self.seed, Stream::Fault as u64, u64::MAX - first).next() % BROKEN;
        self.faults == Faults::With && first + BROKEN <= self.rows && index == first + at
    }

    /// The JSON of row `index`.
    fn row(&self, index: u64, lines: bool) -> String {
        let exercise = match (self.shape, self.faults) {
            (RowShape::Conversations, _) => return self.talk(index),
            (RowShape::Instructions, Faults::Without) => self.exercise(index),
            (RowShape::Instructions, Faults::With) => self.faulty(index),
        };
        let mut row = format!(
            "{{\"instruction\": {}, \"input\": {}, \"output\": {}}}",
            quoted(&exercise.instruction),
            quoted(&exercise.input),
            quoted(&exercise.output)
        );
        if lines && self.broken(index) {
            let half = (row.len() / 2..).find(|&at| row.is_char_boundary(at));
            row.truncate(half.unwrap_or(0));
        }
        row
    }

    /// Writes the rows to JSON lines (`.jsonl`, `.ndjson`) or to an array (`.json`).
    ///
    /// # Errors
    /// If there are no rows to write, if the file exists ([`overwrite`](Self::overwrite) replaces
    /// it), if its name says no container, or if the disk refuses.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<Written> {
        self.write_as(path.as_ref(), Existing::Refuse)
    }

    /// Like [`write`](Self::write), but replaces an existing file.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn overwrite(&self, path: impl AsRef<Path>) -> Result<Written> {
        self.write_as(path.as_ref(), Existing::Replace)
    }

    fn write_as(&self, path: &Path, existing: Existing) -> Result<Written> {
        if self.rows == 0 {
            return Err(Error::input("0 rows cannot be generated").help("ask for at least 1"));
        }
        let mut output = RowWriter::create(path, existing)?;
        let starts: Vec<u64> = (0..self.rows).step_by(PIECE as usize).collect();
        for batch in starts.chunks(4 * rayon::current_num_threads()) {
            let pieces: Vec<Vec<String>> = batch
                .par_iter()
                .map(|&start| {
                    let end = self.rows.min(start + PIECE);
                    (start..end).map(|i| self.row(i, output.is_lines())).collect()
                })
                .collect();
            for row in pieces.iter().flatten() {
                output.row(row.as_bytes())?;
            }
        }
        output.finish()
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
