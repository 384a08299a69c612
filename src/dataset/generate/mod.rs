//! School problems made by rule: a dataset of any size without a download.
//!
//! The rows have the shape and the faults of BelleGroup/school_math_0.25M, and each is a pure
//! function of a seed and its number. The answers work the problem out in steps and are right.

mod chinese;
mod draw;
mod english;
mod heldout;
mod talk;
mod words;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::output::Output;
use super::write::Written;
use crate::error::{Error, Result};
use crate::files::Existing;
use draw::Draw;

/// What [`Generate::write`] writes.
///
/// # Examples
/// ```
/// use lorascope::dataset::generate::Generate;
///
/// let plan = Generate { rows: 3, seed: 7, ..Generate::default() };
/// let exercise = plan.exercise(0);
/// assert!(exercise.output.contains(&exercise.value));
/// assert_eq!(exercise, plan.exercise(0));
/// assert_ne!(exercise, plan.exercise(1));
/// ```
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
    pub shape: Shape,
    /// Whether the file has the faults of real data.
    pub faults: Faults,
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            rows: 2000,
            seed: 42,
            kinds: Kinds::Training,
            shape: Shape::Instructions,
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
pub enum Shape {
    /// instruction, input, output.
    Instructions,
    /// id and conversations of human and gpt: a problem and one to four questions that follow up.
    Conversations,
}

/// Whether a file has the faults of real data.
///
/// With them, of the rows of [`Shape::Instructions`] some outputs begin with line breaks, one in a
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

/// A kind of problem: its name, and what makes one.
struct Kind(&'static str, fn(&mut Draw) -> Draft);

/// A problem before it is put in words: steps end in an equation, `done` in the value.
struct Draft {
    question: String,
    steps: Vec<String>,
    done: String,
    value: String,
}

fn draft<const N: usize>(question: String, steps: [String; N], done: String, value: i64) -> Draft {
    Draft { question, steps: steps.into(), done, value: value.to_string() }
}

/// A number of tenths as a decimal.
fn tenths(number: i64) -> String {
    match number % 10 {
        0 => (number / 10).to_string(),
        rest => format!("{}.{rest}", number / 10),
    }
}

/// Random draws that must not disturb each other.
#[derive(Clone, Copy)]
enum Stream {
    Row = 1,
    Fault = 2,
    Talk = 3,
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

    fn make(&self, draw: &mut Draw) -> Exercise {
        let n = match self.kinds {
            Kinds::Training => chinese::KINDS.len() + english::KINDS.len(),
            Kinds::HeldOut => heldout::KINDS.len(),
        };
        let at = draw.int(0, n as i64 - 1) as usize;
        let Kind(name, make) = match self.kinds {
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
            (Shape::Conversations, _) => return self.talk(index),
            (Shape::Instructions, Faults::Without) => self.exercise(index),
            (Shape::Instructions, Faults::With) => self.faulty(index),
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
        let mut output = Output::create(path, existing)?;
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

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The language of a kind, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Chinese,
    English,
}

impl Language {
    fn of(kind: &str) -> Self {
        if kind.starts_with("zh") { Self::Chinese } else { Self::English }
    }

    /// The question as instruction and input.
    fn ask(self, draw: &mut Draw, question: String) -> (String, String) {
        if draw.chance(6) {
            let task = match self {
                Self::Chinese => draw.pick(&["解答下面的应用题。", "请计算：", "请一步一步解题。"]),
                Self::English => draw.pick(&["Solve the problem.", "Answer step by step."]),
            };
            return (task.to_string(), question);
        }
        let opening = match self {
            Self::Chinese => draw.pick(&["题目:", "题目:", "题目：", "请解答：", "应用题：", "", ""]),
            Self::English => draw.pick(&["Problem: ", "", ""]),
        };
        (format!("{opening}{question}"), String::new())
    }

    /// The steps and the result, in one of the usual forms.
    fn answer(self, draw: &mut Draw, draft: &Draft) -> String {
        let (steps, done) = (&draft.steps, &draft.done);
        let form = draw.int(0, 2);
        match (self, form) {
            (Self::Chinese, 0) => format!("{}。\n答：{done}。", steps.join("，")),
            (Self::Chinese, 1) => format!("解：{}\n答：{done}。", steps.join("\n")),
            (Self::Chinese, _) => format!("{}。\n所以，{done}。", steps.join("。\n")),
            (Self::English, 0) => format!("{}. {done}.", steps.join(". ")),
            (Self::English, 1) => format!("{}.\nAnswer: {done}.", steps.join(".\n")),
            (Self::English, _) => {
                let steps: Vec<String> =
                    steps.iter().enumerate().map(|(i, step)| format!("Step {}: {step}", i + 1)).collect();
                format!("{}\n{done}.", steps.join("\n"))
            }
        }
    }
}
