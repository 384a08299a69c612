//! From one file to another without a table in between: blocks of records are parsed and written
//! while the next ones are read, so that memory does not grow with the file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::container::{self, Block, Blocks, Spare};
use super::options::{OnFault, ReadOptions};
use super::output::Output;
use super::problems::{Outcome, Problem};
use super::read::{each_block, each_row};
use super::schema::RowSchema;
use super::view::{Place, RowView};
use super::write::encode::Encoder;
use super::write::{Batch, Misfits, Tally, WriteOptions, Written};
use super::{Dataset, problems};
use crate::display::{Bundle, Progress, Show, thousands};
use crate::error::{Error, Result};

/// Rejected records of which [`Converted`] says what is wrong.
const LISTED: usize = 100;

/// What [`convert`] did.
#[derive(Debug)]
pub struct Converted {
    /// The new file.
    pub written: Written,
    /// Records that became no row.
    pub rejected: u64,
    /// The first hundred of them: their files, and what is wrong.
    listed: Vec<(PathBuf, Problem)>,
}

impl Converted {
    /// The first hundred rejected records: file, line, id, kind, row, what, fix.
    ///
    /// # Errors
    /// Only if polars cannot build the table.
    pub fn problems(&self) -> Result<polars::frame::DataFrame> {
        problems::frame(&self.listed.iter().map(|(path, p)| (path.as_path(), p)).collect::<Vec<_>>())
    }
}

impl std::fmt::Display for Converted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 20;
        write!(f, "{}", self.written)?;
        if self.rejected > 0 {
            write!(f, "\nrejected: {} records", thousands(self.rejected))?;
        }
        for (path, problem) in self.listed.iter().take(SHOWN) {
            let place = format!("{}, line {}", path.display(), problem.line);
            let line = format!("{place}: {}: {}; {}", problem.kind, problem.what, problem.kind.fix());
            write!(f, "\n  {}", crate::display::neutral(&line.replace(['\n', '\r'], " ")))?;
        }
        match self.rejected.saturating_sub(SHOWN as u64) {
            0 => Ok(()),
            more => write!(f, "\n  and {} more: see the report", thousands(more)),
        }
    }
}

impl Show for Converted {
    fn show(&self) -> Bundle {
        crate::display::Text::new(self.to_string()).show()
    }
}

/// Writes the rows of a file, a folder or a pattern in another schema, and in the container that the
/// new name says. The same as [`Dataset::open_with`] and [`Dataset::write_with`], but no more than a
/// few blocks of the file are in memory; duplicates are not looked for.
///
/// # Errors
/// Those of opening and of writing.
///
/// # Examples
/// ```
/// use lorascope::dataset::{RowSchema, convert};
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
    let files = container::files(from)?;
    let mut conversion = Conversion {
        output: Output::create(to, writing.existing)?,
        encoder: Encoder::new(schema, writing),
        schema,
        reading,
        misfits: writing.misfits,
        tally: Tally::default(),
        rejected: 0,
        listed: Vec::new(),
    };
    for file in &files {
        conversion.file(file)?;
    }
    conversion.finish(from)
}

struct Conversion<'a> {
    output: Output,
    encoder: Encoder,
    schema: RowSchema,
    reading: &'a ReadOptions,
    misfits: Misfits,
    tally: Tally,
    rejected: u64,
    listed: Vec<(PathBuf, Problem)>,
}

impl Conversion<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        let mut blocks = Blocks::open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut progress = Progress::new(format!("converting {name}"), blocks.progress().1);
        let (encoder, reading, misfits) = (self.encoder, self.reading, self.misfits);
        let between = self.output.between();
        let spare = &*blocks.spare();
        let before = self.tally.rows;
        // Records of this file that became no row, as far as it is known: rows have numbers.
        let dropped = AtomicU64::new(0);
        let work = |block: Block| -> Result<(Done, Block)> {
            let records = u64::from(block.records.first().map_or(0, |record| record.number - 1));
            let first = before + records.saturating_sub(dropped.load(Ordering::Relaxed));
            Ok((Done::of(&block, first, &encoder, reading, between, spare)?, block))
        };
        let take = |(mut done, block): (Done, Block), read: u64| -> Result<()> {
            progress.advance(read.saturating_sub(progress.done()), "bytes");
            if done.first != self.tally.rows {
                // An earlier record was rejected after this block had begun.
                spare.give(done.batch.text);
                done = Done::of(&block, self.tally.rows, &encoder, reading, between, spare)?;
            }
            if let Some(last) = block.records.last() {
                let rows = self.tally.rows - before + done.batch.rows;
                dropped.store(u64::from(last.number).saturating_sub(rows), Ordering::Relaxed);
            }
            let rejected = done.problems.iter().filter(|p| p.outcome == Outcome::Rejected);
            self.rejected += rejected.clone().count() as u64;
            let room = LISTED - self.listed.len();
            self.listed.extend(rejected.take(room).map(|p| (path.to_path_buf(), p.clone())));
            let fault = done.problems.iter().find(|p| p.outcome != Outcome::Repaired);
            if let (OnFault::Fail, Some(fault)) = (reading.faults, fault) {
                return Err(fault.error());
            }
            if let (Misfits::Fail, Some(misfit)) = (misfits, done.batch.misfits.first()) {
                return Err(Error::format(&misfit.what).line(misfit.line.into()).help(
                    "choose another schema, or leave such rows out with Misfits::LeaveOut (--leave-out)",
                ));
            }
            spare.give(block.bytes);
            spare.give(self.tally.take(done.batch, &mut self.output)?);
            Ok(())
        };
        each_block(&mut blocks, work, take).map_err(|e| e.path(path))
    }

    fn finish(self, from: &Path) -> Result<Converted> {
        if self.tally.rows == 0 && self.tally.left_out == 0 && self.tally.labelled_bad == 0 {
            // Opening says what is wrong with a file without rows.
            Dataset::open_with(from, self.reading)?.store()?;
        }
        if let (0, Some(misfit)) = (self.tally.rows, self.tally.misfits.first()) {
            return Err(Error::format(&misfit.what)
                .path(from)
                .line(misfit.line.into())
                .help("no row fits: choose another schema"));
        }
        if let Some(error) = self.tally.all_bad(self.schema) {
            return Err(error.path(from));
        }
        let written = Written { schema: Some(self.schema), ..self.tally.finish(self.output)? };
        Ok(Converted { written, rejected: self.rejected, listed: self.listed })
    }
}

/// What came of a block.
struct Done {
    /// Rows of the output before it, as they were thought to be.
    first: u64,
    batch: Batch,
    problems: Vec<Problem>,
}

impl Done {
    fn of(
        block: &Block,
        first: u64,
        encoder: &Encoder,
        reading: &ReadOptions,
        between: &[u8],
        spare: &Spare,
    ) -> Result<Self> {
        let mut done = Self { first, batch: Batch::into(spare.take()), problems: Vec::new() };
        each_row(block, reading, |place, _, row| {
            match row {
                Ok((row, noted)) => {
                    let place = Place { line: place.line, number: place.number };
                    done.batch.push(&RowView::Fresh(&row, place), first, encoder, between);
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
