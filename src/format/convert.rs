//! Converts one file to another without a table in between: blocks of records are parsed and written while the
//! next ones are read, so that memory does not grow with the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::container::{self, Block, Blocks, BufferPool};
use super::fix::Fix;
use super::options::{OnFault, ReadOptions};
use super::output::RowWriter;
use super::pipeline::each_block;
use super::problems::{self, Outcome, Problem, ProblemKind};
use super::read::{Among, each_row, not_read, refuse_without_rows, without_rows};
use super::row::RecordPlace;
use super::row_schema::RowSchema;
use super::row_view::RowView;
use super::write::{Batch, Encoder, Misfits, Tally, WriteOptions, Written};
use crate::display::{Bundle, Progress, Show, advice, brief, counted, thousands};
use crate::error::{Error, Result};

/// How many rejected records [`Converted`] lists.
const LISTED: usize = 100;

/// What [`convert`] did.
pub struct Converted {
    /// The new file.
    pub written: Written,
    /// Records that were rejected, and files that cannot be read.
    pub rejected: u64,
    /// How many rows each repair changed.
    pub repaired: BTreeMap<Fix, u64>,
    /// The first hundred rejected records: their files, and what is wrong.
    listed: Vec<(PathBuf, Problem)>,
    /// What was not read beside them, or as another value: its number, and the first hundred.
    noted: (u64, Vec<(PathBuf, Problem)>),
}

/// Whether a problem of a row that was kept is listed: something in the file is not in the output.
fn is_said(kind: ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::NotANumber
            | ProblemKind::NotRead
            | ProblemKind::LeftOut
            | ProblemKind::SecondList
            | ProblemKind::Edited
    )
}

impl Converted {
    /// The first hundred rejected records, and the first hundred faults for which something else of a
    /// file was not written: file, line, row and id (both null), kind, outcome, what, fix.
    ///
    /// # Errors
    /// Only if polars cannot build the table.
    pub fn problems(&self) -> Result<polars::frame::DataFrame> {
        let all = self.listed.iter().chain(&self.noted.1);
        problems::frame(&all.map(|(path, p)| (path.as_path(), p, p.row)).collect::<Vec<_>>())
    }
}

impl std::fmt::Display for Converted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.written)?;
        for (fix, rows) in &self.repaired {
            let rows = counted(*rows, "row");
            write!(f, "\nrepaired by {}: {rows}", fix.name())?;
        }
        let (noted, first) = &self.noted;
        if *noted > 0 {
            write!(f, "\nnot read as it stands there: {}", thousands(*noted))?;
            list(f, first, *noted, 5)?;
        }
        if self.rejected > 0 {
            write!(f, "\nrejected: {}", counted(self.rejected, "record"))?;
            list(f, &self.listed, self.rejected, 20)?;
        }
        Ok(())
    }
}

/// The first `shown` of `all` faults, line by line.
fn list(
    f: &mut std::fmt::Formatter<'_>,
    first: &[(PathBuf, Problem)],
    all: u64,
    shown: usize,
) -> std::fmt::Result {
    for (path, problem) in first.iter().take(shown) {
        let place = match problem.kind {
            ProblemKind::NotRead => path.display().to_string(),
            _ => format!("{}, line {}", path.display(), problem.line),
        };
        let line = format!("{place}: {}: {}; {}", problem.kind, problem.what, problem.kind.fix());
        write!(f, "\n  {}", crate::display::neutral(&crate::display::in_line(&line, " ")))?;
    }
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        more => write!(f, "\n  and {} more: see the report", thousands(more)),
    }
}

brief!(Converted);

impl Show for Converted {
    fn show(&self) -> Bundle {
        crate::display::Text::new(self.to_string()).show()
    }
}

/// Writes the rows of a file, a folder or a pattern in another schema, and in the container that the
/// new name says. The same as [`Dataset::open_with`](crate::dataset::Dataset::open_with) and
/// [`Dataset::write_with`](crate::dataset::Dataset::write_with), but no more than a few blocks of the file are in
/// memory; duplicates are not looked for.
///
/// # Errors
/// Those of opening and of writing.
///
/// # Examples
/// ```
/// use lorascope::format::{RowSchema, convert};
///
/// let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
/// let out = folder.path().join("talk.jsonl");
/// let done = convert(
///     "datasets/school_math.jsonl",
///     &out,
///     RowSchema::ShareGpt,
///     &Default::default(),
///     &Default::default(),
/// )?;
/// assert_eq!((done.written.rows, done.rejected), (1999, 1));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn convert(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    schema: RowSchema,
    reading: &ReadOptions,
    writing: &WriteOptions,
) -> Result<Converted> {
    crate::image::check()?;
    let (from, to) = (from.as_ref(), to.as_ref());
    container::refuse_inside(from, to)?;
    let files = container::files(from)?;
    let encoder = Encoder::new(schema, writing);
    let convert = |encoder: Encoder| -> Result<Conversion<'_>> {
        let mut conversion = Conversion {
            output: RowWriter::create(to, writing.existing)?,
            encoder,
            schema,
            reading,
            misfits: writing.misfits,
            tally: Tally::default(),
            among: if files.len() > 1 { Among::Others } else { Among::Alone },
            found: Found::default(),
        };
        for folder in container::folders_below(from) {
            conversion.found.add(&folder, &not_read(from));
        }
        for file in &files {
            conversion.file(file)?;
        }
        Ok(conversion)
    };
    let mut conversion = convert(encoder)?;
    if conversion.tally.is_mixed() {
        // Once more, with prompts and answers in the form that fits all rows.
        drop(conversion);
        conversion = convert(encoder.with_turns())?;
    }
    conversion.finish(from, &files)
}

struct Conversion<'a> {
    output: RowWriter,
    encoder: Encoder,
    schema: RowSchema,
    reading: &'a ReadOptions,
    misfits: Misfits,
    tally: Tally,
    among: Among,
    found: Found,
}

/// What is wrong with the files.
#[derive(Default)]
struct Found {
    rejected: u64,
    repaired: BTreeMap<Fix, u64>,
    listed: Vec<(PathBuf, Problem)>,
    noted: (u64, Vec<(PathBuf, Problem)>),
}

impl Found {
    fn add(&mut self, path: &Path, problem: &Problem) {
        let (count, list) = match problem.outcome {
            Outcome::Rejected => (&mut self.rejected, &mut self.listed),
            Outcome::Kept if is_said(problem.kind) => (&mut self.noted.0, &mut self.noted.1),
            _ => return,
        };
        *count += 1;
        if list.len() < LISTED {
            list.push((path.to_path_buf(), problem.clone()));
        }
    }
}

impl Conversion<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        let mut blocks = match Blocks::open(path, self.reading.list.as_deref()) {
            Ok(blocks) => blocks.unhashed(),
            Err(error) => {
                self.found.add(path, &self.among.excuse(error, self.reading)?);
                return Ok(());
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut progress = Progress::new(format!("converting {name}"), blocks.progress().1);
        let (encoder, reading, misfits, among) = (self.encoder, self.reading, self.misfits, self.among);
        let between = self.output.between();
        let spare = &*blocks.spare();
        let before = self.tally.rows;
        let unfit = self.tally.left_out;
        // Records of this file that became no row, as far as it is known: rows have numbers.
        let dropped = AtomicU64::new(0);
        let mut records = 0;
        let work = |block: Block| -> Result<(Done, Block)> {
            let records = u64::from(block.records.first().map_or(0, |record| record.number - 1));
            let first = before + records.saturating_sub(dropped.load(Ordering::Relaxed));
            Ok((Done::of(&block, first, &encoder, reading, between, spare)?, block))
        };
        let take = |(mut done, block): (Done, Block), read: u64| -> Result<()> {
            progress.try_advance(read.saturating_sub(progress.done()), "bytes")?;
            if done.first != self.tally.rows {
                // An earlier record was rejected after this block had begun.
                spare.give(done.batch.text);
                done = Done::of(&block, self.tally.rows, &encoder, reading, between, spare)?;
            }
            if let Some(last) = block.records.last() {
                let rows = self.tally.rows - before + done.batch.rows;
                dropped.store(u64::from(last.number).saturating_sub(rows), Ordering::Relaxed);
            }
            records += block.records.len();
            done.problems.iter().for_each(|problem| self.found.add(path, problem));
            for (fix, rows) in done.repaired {
                *self.found.repaired.entry(fix).or_default() += rows;
            }
            let fault = done.problems.iter().find(|p| p.outcome != Outcome::Repaired);
            if let (OnFault::Fail, Some(fault)) = (reading.faults, fault) {
                return Err(fault.error());
            }
            if let (Misfits::Fail, Some(misfit)) = (misfits, done.batch.misfits.first()) {
                return Err(Error::format(&misfit.what).line(misfit.line.into()).help(advice(
                    "choose another schema, or leave such rows out with Misfits::LeaveOut",
                    "choose another format, or leave such rows out with --leave-out",
                )));
            }
            if among == Among::Others {
                done.batch.misfits.iter_mut().for_each(|misfit| misfit.file = Some(path.to_path_buf()));
            }
            spare.give(block.bytes);
            spare.give(self.tally.take(done.batch, &mut self.output)?);
            Ok(())
        };
        let done = each_block(&mut blocks, work, take).map_err(|e| e.path(path));
        if let Err(error) = done {
            if records > 0 {
                return Err(error);
            }
            self.found.add(path, &self.among.excuse(error, self.reading)?);
            return Ok(());
        }
        if among == Among::Others && self.tally.rows == before && self.tally.left_out == unfit {
            let problem = without_rows(records);
            if reading.faults == OnFault::Fail {
                return Err(problem.error().path(path));
            }
            self.found.add(path, &problem);
        }
        Ok(())
    }

    fn finish(self, from: &Path, files: &[PathBuf]) -> Result<Converted> {
        if let (0, 0, 0, Some(first)) =
            (self.tally.rows, self.tally.left_out, self.tally.labelled_bad, files.first())
        {
            refuse_without_rows(first, self.reading)?;
        }
        if let (0, Some(misfit)) = (self.tally.rows, self.tally.misfits.first()) {
            return Err(Error::format(&misfit.what)
                .path(misfit.file.as_deref().unwrap_or(from))
                .line(misfit.line.into())
                .help("no row fits: choose another schema"));
        }
        if let Some(error) = self.tally.all_bad(self.schema) {
            return Err(error.path(from));
        }
        let written = Written { schema: Some(self.schema), ..self.tally.finish(self.output)? };
        let Found { rejected, repaired, listed, noted } = self.found;
        Ok(Converted { written, rejected, repaired, listed, noted })
    }
}

/// What came of a block.
struct Done {
    /// Rows of the output before it, as they were thought to be.
    first: u64,
    batch: Batch,
    problems: Vec<Problem>,
    repaired: BTreeMap<Fix, u64>,
}

impl Done {
    fn of(
        block: &Block,
        first: u64,
        encoder: &Encoder,
        reading: &ReadOptions,
        between: &[u8],
        spare: &BufferPool,
    ) -> Result<Self> {
        let batch = Batch::into(spare.take());
        let mut done = Self { first, batch, problems: Vec::new(), repaired: BTreeMap::new() };
        each_row(block, reading, |place, _, row| {
            match row {
                Ok((row, noted)) => {
                    let place = RecordPlace { line: place.line, number: place.number };
                    done.batch.push(&RowView::Fresh(&row, place), first, encoder, between);
                    let mended = noted.iter().filter(|(_, _, outcome)| *outcome == Outcome::Repaired);
                    let mended = mended.filter_map(|(kind, _, _)| Fix::of(*kind));
                    for fix in mended.collect::<BTreeSet<_>>() {
                        *done.repaired.entry(fix).or_default() += 1;
                    }
                    for (kind, what, outcome) in noted {
                        done.problems.push(Problem { outcome, ..Problem::rejected(place.line, kind, what) });
                    }
                }
                Err(problem) => done.problems.push(problem),
            }
            Ok(())
        })?;
        done.problems.extend(block.faults.iter().cloned());
        Ok(done)
    }
}
