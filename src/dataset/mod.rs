//! Instruction-tuning data in one canonical table: opening, looking, cutting, converting.
//!
//! A [`Dataset`] is opened from a file whose container (JSON lines or a JSON array) and row schema
//! are found by looking at the content. Whatever the schema, every row becomes a conversation in
//! one polars table; rows that cannot be are listed, with their line and the way out, by
//! [`Dataset::problems`].

mod container;
mod fix;
pub mod generate;
pub mod language;
mod map;
pub mod near;
mod options;
mod output;
mod problems;
mod read;
mod recipe;
mod record;
mod report;
mod schema;
mod show;
mod split;
mod table;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::*;
use rayon::prelude::*;

pub use fix::Fixes;
pub use map::Map;
pub use options::{Join, OnFault, ReadOptions};
pub use problems::ProblemKind;
pub use recipe::{Part, Recipe, Step};
pub use report::{
    Cluster, Cut, Duplicates, Lengths, Opening, Packing, Padding, ProblemCount, Report, ReportConfig,
    RowBrief, Sample, Spread, Unit,
};
pub use schema::RowSchema;
pub use write::Written;

use crate::error::{Error, Result};
use crate::image;
use crate::text::{Message, Role};
use problems::Problem;
use table::Rows;

/// Rows of conversations, in one canonical table.
///
/// A cheap handle: clones share the table, and every verb returns a new dataset and leaves this
/// one as it is.
///
/// # Examples
/// ```
/// use lorascope::dataset::{Dataset, RowSchema};
///
/// let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
/// let path = folder.path().join("rows.jsonl");
/// std::fs::write(&path, r#"{"instruction": "1 + 1 = ?", "input": "", "output": "2"}"#).unwrap();
///
/// let data = Dataset::open(&path)?;
/// assert_eq!(data.len(), 1);
/// assert_eq!(data.conversation(0)?[1].content, "2");
/// let written = data.write(folder.path().join("talk.json"), RowSchema::ShareGpt)?;
/// assert_eq!(written.rows, 1);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dataset(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The canonical table; every column is a single chunk.
    frame: DataFrame,
    problems: Vec<Problem>,
    recipe: Recipe,
}

impl Dataset {
    /// Opens a file of JSON lines, or one that holds a JSON array, whatever it is called.
    ///
    /// Each row may be of another schema; [`RowSchema`] lists the known ones. Rows that cannot be
    /// used are left out and listed by [`problems`](Self::problems).
    ///
    /// # Errors
    /// If the file is missing, a folder, empty, not JSON, or if none of its records is a row of a
    /// known schema; the message then shows the keys that were seen.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// Opens a file in another way than by looking.
    ///
    /// # Errors
    /// As for [`open`](Self::open); with [`OnFault::Fail`] also at the first record that is no row.
    pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        image::check()?;
        let path = path.as_ref();
        let read = read::read(path, options)?;
        let recipe = Recipe {
            path: std::fs::canonicalize(path).map_err(|e| Error::io(path, e))?,
            size: read.size,
            fingerprint: read.fingerprint,
            steps: Vec::new(),
        };
        Ok(Self(Arc::new(Inner { frame: read.frame, problems: read.problems, recipe })))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.0.frame.height()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file that the rows come from.
    pub fn path(&self) -> PathBuf {
        self.0.recipe.path.clone()
    }

    /// The canonical table: id, line (of the file, from 1), system, messages (a list of role,
    /// content, name, tool_calls, weight), tools, source (the schema that the row was read from)
    /// and extra (a JSON object of what has no other place).
    pub fn frame(&self) -> DataFrame {
        self.0.frame.clone()
    }

    /// One flat row a conversation: id, line, source, turns, chars, first_user, last_answer.
    ///
    /// # Errors
    /// Only if the table is not canonical, which no verb of this type makes it.
    pub fn columns(&self) -> Result<DataFrame> {
        let frame = &self.0.frame;
        let mut columns =
            vec![frame.column("id")?.clone(), frame.column("line")?.clone(), frame.column("source")?.clone()];
        columns.extend(self.flat()?);
        Ok(DataFrame::new(self.len(), columns)?)
    }

    /// The columns that are worked out from the messages.
    fn flat(&self) -> Result<Vec<Column>> {
        let rows = self.rows()?;
        let all = 0..rows.len();
        let turns: Vec<u32> = all.clone().map(|i| rows.turns(i).len() as u32).collect();
        let chars: Vec<u32> = all.clone().map(|i| characters(rows, i) as u32).collect();
        let first: Vec<&str> = all.clone().map(|i| first_user(rows, i)).collect();
        let last: Vec<&str> = all.map(|i| last_answer(rows, i)).collect();
        Ok(vec![
            Column::new("turns".into(), turns),
            Column::new("chars".into(), chars),
            Column::new("first_user".into(), first),
            Column::new("last_answer".into(), last),
        ])
    }

    /// Works on all rows, some consecutive ones at a time, on all processors. `work` is given the
    /// rows and the number of the first of them; the results come in the order of the rows.
    fn pieces<T: Send>(&self, work: impl Fn(Rows<'_>, usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        const PIECE: usize = 4096;
        let starts: Vec<usize> = (0..self.len()).step_by(PIECE).collect();
        let piece = |start: usize| work(Rows::of(&self.0.frame.slice(start as i64, PIECE))?, start);
        starts.into_par_iter().map(piece).collect()
    }

    fn rows(&self) -> Result<Rows<'_>> {
        Rows::of(&self.0.frame)
    }

    /// The messages of row `i`, counted from 0; a system text comes first.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn conversation(&self, i: usize) -> Result<Vec<Message>> {
        self.within(i)?;
        let rows = self.rows()?;
        let system = rows.system(i).map(|text| Message::new(Role::System, text));
        Ok(system.into_iter().chain(rows.turns(i).map(|turn| turn.message())).collect())
    }

    /// The tools that the assistant of row `i` may call, as JSON.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn tools(&self, i: usize) -> Result<Option<String>> {
        self.within(i)?;
        Ok(self.rows()?.tools(i).map(str::to_string))
    }

    fn within(&self, i: usize) -> Result<()> {
        match self.len() {
            len if i < len => Ok(()),
            0 => Err(Error::input(format_args!("there is no row {i}: the dataset is empty"))),
            len => Err(Error::input(format_args!("there is no row {i}"))
                .help(format_args!("the rows are numbered 0 to {}", len - 1))),
        }
    }

    /// What is wrong with the file's rows: file, line, id, kind, row (rejected or kept), what, fix.
    ///
    /// A part of a dataset lists the faults of the rows that it holds; the rejected rows belong to
    /// the dataset that was opened.
    ///
    /// # Errors
    /// Only if polars cannot build the table.
    pub fn problems(&self) -> Result<DataFrame> {
        problems::frame(&self.0.recipe.path.display().to_string(), &self.0.problems)
    }

    /// How many records of the file became no row; [`problems`](Self::problems) lists them.
    pub fn rejected(&self) -> usize {
        self.0.problems.iter().filter(|p| p.kind.rejects()).count()
    }

    /// The first `n` rows.
    pub fn head(&self, n: usize) -> Self {
        self.slice(0, n)
    }

    /// The rows from `offset` on, `len` of them or as many as there are.
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        let offset = offset.min(self.len());
        let len = len.min(self.len() - offset);
        self.part(self.0.frame.slice(offset as i64, len), Step::Slice { offset, len })
    }

    /// The rows for which `predicate` holds.
    ///
    /// It may name the columns of [`frame`](Self::frame) and of [`columns`](Self::columns), such
    /// as `col("turns").gt(lit(2))`.
    ///
    /// # Errors
    /// If the expression names an unknown column or does not give a boolean for each row.
    pub fn filter(&self, predicate: Expr) -> Result<Self> {
        const ROW: &str = "__row";
        let mut columns = self.0.frame.columns().to_vec();
        columns.extend(self.flat()?);
        columns.push(Column::new(ROW.into(), (0..self.len() as u32).collect::<Vec<_>>()));
        let kept = DataFrame::new(self.len(), columns)?
            .lazy()
            .filter(predicate)
            .select([col(ROW)])
            .collect()
            .map_err(|e| {
                Error::input(format_args!("the filter cannot be used: {e}"))
                    .help("see columns() and frame() for the columns that it may name")
            })?;
        let rows: Vec<u32> = kept.column(ROW)?.u32()?.into_no_null_iter().collect();
        self.apply(&Step::Keep { rows })
    }

    /// Cuts the rows in two: about `fraction` of them, and the rest, each in its old order.
    ///
    /// Rows whose first user text is the same but for case, white space and punctuation stay on
    /// one side. The same rows, fraction and seed give the same parts.
    ///
    /// # Errors
    /// If `fraction` is not between 0 and 1, or if the rows cannot be cut in two because all of
    /// them begin alike.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let part = |part| self.apply(&Step::Split { fraction, seed, part });
        Ok((part(Part::First)?, part(Part::Second)?))
    }

    /// One step of a recipe.
    fn apply(&self, step: &Step) -> Result<Self> {
        let rows = match step {
            Step::Slice { offset, len } => return Ok(self.slice(*offset, *len)),
            Step::Keep { rows } => rows.clone(),
            Step::Split { fraction, seed, part } => {
                let (first, second) = split::split(self.rows()?, *fraction, *seed)?;
                if *part == Part::First { first } else { second }
            }
        };
        let mut frame = self.0.frame.take(&IdxCa::from_vec("rows".into(), rows))?;
        frame.rechunk_mut();
        Ok(self.part(frame, step.clone()))
    }

    fn part(&self, frame: DataFrame, step: Step) -> Self {
        let problems = match Rows::of(&frame) {
            Ok(rows) => {
                let held: std::collections::HashSet<(u32, &str)> =
                    (0..rows.len()).map(|i| (rows.line(i), rows.id(i))).collect();
                let held = |p: &&Problem| p.id.as_deref().is_some_and(|id| held.contains(&(p.line, id)));
                self.0.problems.iter().filter(|p| !p.kind.rejects()).filter(held).cloned().collect()
            }
            Err(_) => Vec::new(),
        };
        let mut recipe = self.0.recipe.clone();
        recipe.steps.push(step);
        Self(Arc::new(Inner { frame, problems, recipe }))
    }

    /// How these rows came about: the file and the steps since.
    pub fn recipe(&self) -> Recipe {
        self.0.recipe.clone()
    }

    /// The rows that a recipe describes.
    ///
    /// # Errors
    /// If the file is gone or no longer what it was, or if a step does not fit its rows.
    pub fn from_recipe(recipe: &Recipe) -> Result<Self> {
        let opened = Self::open(&recipe.path)?;
        recipe.check(&opened.0.recipe)?;
        recipe.steps.iter().try_fold(opened, |data, step| data.apply(step))
    }

    /// A hash of what the rows say, in their order: equal for equal conversations, whatever file
    /// or schema they come from.
    ///
    /// # Errors
    /// Only if the table is not canonical, which no verb of this type makes it.
    pub fn fingerprint(&self) -> Result<String> {
        let rows = self.rows()?;
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for i in 0..rows.len() {
            hash.update(&rows.hash(i).to_le_bytes());
        }
        Ok(container::hex(hash.digest128()))
    }
}

/// Characters of a row: its system text and all turns.
fn characters(rows: Rows<'_>, i: usize) -> usize {
    let system = rows.system(i).map_or(0, |text| text.chars().count());
    system + rows.turns(i).map(|turn| turn.content.chars().count()).sum::<usize>()
}

fn first_user(rows: Rows<'_>, i: usize) -> &str {
    rows.turns(i).find(|turn| turn.role == "user").map_or("", |turn| turn.content)
}

fn last_answer(rows: Rows<'_>, i: usize) -> &str {
    rows.turns(i).rfind(|turn| turn.role == "assistant").map_or("", |turn| turn.content)
}
