//! Opening a file: blocks of records, parsed in parallel, into the canonical table.

use std::path::Path;

use polars::prelude::{DataFrame, InitHashMaps, PlHashMap};
use xxhash_rust::xxh3::xxh3_64;

use super::cache;
use super::container::{Block, Blocks, Record as Place};
use super::fix::{Fix, Noted};
use super::map::Map;
use super::options::{OnFault, ReadOptions};
use super::pipeline::each_block;
use super::problems::{Outcome, Problem, ProblemKind};
use super::proposal::proposal as proposed;
use super::python::{self, Again};
use super::schema::{self, KNOWN, Rejected, Row};
use super::table::{Builder, Rows, made_up_id};
use crate::display::Progress;
use crate::error::{Error, Result};

/// A file's rows, its faults, and what it was when it was read.
pub(super) struct Read {
    pub sink: Sink,
    pub problems: Vec<Problem>,
    pub fingerprint: String,
}

/// Where rows go.
pub(super) enum Sink {
    /// Tables of some thousand rows each.
    Memory(Vec<DataFrame>),
    Cache(Box<cache::Writer>),
}

/// Whether a file is all that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    Alone,
    /// One of those in a folder or of a pattern: it may be none of rows.
    Others,
}

impl Among {
    /// What becomes of an error for which a file cannot be read: the others can.
    pub fn excuse(self, error: Error, options: &ReadOptions) -> Result<Problem> {
        let content = !error.is_io() && !error.is_interrupted() && !error.is_compute();
        match self {
            Self::Others if content && options.faults == OnFault::List => {
                let what = format!("the file is left out: {error}");
                Ok(Problem::rejected(1, ProblemKind::NotRead, what))
            }
            _ => Err(error),
        }
    }
}

/// Reads all rows of a file, into `entry` of the cache or into memory.
pub(super) fn read(
    path: &Path,
    options: &ReadOptions,
    entry: Option<cache::Entry>,
    among: Among,
) -> Result<Read> {
    if let Some(map) = &options.map {
        map.check()?;
    }
    let mut blocks = match Blocks::open(path, options.list.as_deref()) {
        Ok(blocks) => blocks,
        Err(error) => {
            let problems = vec![among.excuse(error, options)?];
            return Ok(Read { sink: Sink::Memory(Vec::new()), problems, fingerprint: String::new() });
        }
    };
    let label = format!("reading {} ({})", name(path), blocks.container());
    let mut progress = Progress::new(label, blocks.progress().1);
    let mut all = Collector { entry, ..Collector::new(options) };
    let take = |parsed: Parsed, read: u64| {
        progress.advance(read.saturating_sub(progress.done()), "bytes");
        all.take(parsed)
    };
    if let Err(error) = each_block(&mut blocks, |block| parse(&block, options), take) {
        if all.records > 0 {
            return Err(error.path(path));
        }
        let problems = vec![among.excuse(error.path(path), options)?];
        return Ok(Read { sink: Sink::Memory(Vec::new()), problems, fingerprint: String::new() });
    }
    if all.rows == 0 {
        if among == Among::Alone || options.faults == OnFault::Fail {
            return Err(nothing(all.records, &all.problems, all.proposal).path(path));
        }
        all.problems.push(without_rows(all.records));
    }
    all.problems.sort_by_key(|p| (p.line, p.kind));
    let (_, fingerprint) = blocks.fingerprint();
    Ok(Read { sink: all.sink, problems: all.problems, fingerprint })
}

/// The first rows of a file; `None` where its first blocks hold none.
pub(super) fn head(path: &Path, options: &ReadOptions, among: Among) -> Result<Option<DataFrame>> {
    const BLOCKS: usize = 8;
    let blocks = match Blocks::open(path, options.list.as_deref()) {
        Ok(blocks) => blocks,
        Err(error) => return among.excuse(error, options).map(|_| None),
    };
    for block in blocks.take(BLOCKS) {
        let block = match block {
            Ok(block) => block,
            Err(error) => return among.excuse(error, options).map(|_| None),
        };
        let parsed = parse(&block, options)?;
        if parsed.frame.height() > 0 {
            return Ok(Some(parsed.frame));
        }
    }
    Ok(None)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Gathers what was parsed, in the order of the file.
struct Collector<'a> {
    options: &'a ReadOptions,
    entry: Option<cache::Entry>,
    sink: Sink,
    problems: Vec<Problem>,
    /// A map for the first record of no known schema.
    proposal: Option<Map>,
    records: usize,
    rows: u32,
    /// The line of the first row that says something, by the hash of what it says.
    said: PlHashMap<u64, u32>,
    /// The line of the first row that has an id, by the hash of the id.
    named: PlHashMap<u64, u32>,
}

impl<'a> Collector<'a> {
    fn new(options: &'a ReadOptions) -> Self {
        Self {
            options,
            entry: None,
            sink: Sink::Memory(Vec::new()),
            problems: Vec::new(),
            proposal: None,
            records: 0,
            rows: 0,
            said: PlHashMap::new(),
            named: PlHashMap::new(),
        }
    }

    fn take(&mut self, parsed: Parsed) -> Result<()> {
        let Parsed { records, frame, mut problems, proposal, hashes } = parsed;
        self.proposal = self.proposal.take().or(proposal);
        self.doubles(Rows::of(&frame)?, &hashes, &mut problems);
        problems.sort_by_key(|p| (p.line, p.kind));
        if self.options.faults == OnFault::Fail
            && let Some(fault) = problems.iter().find(|p| p.outcome != Outcome::Repaired)
        {
            return Err(fault.error());
        }
        for problem in &mut problems {
            problem.row = problem.row.map(|row| row + self.rows);
        }
        self.problems.append(&mut problems);
        self.records += records;
        self.rows += frame.height() as u32;
        if frame.height() == 0 {
            return Ok(());
        }
        if let Some(entry) = self.entry.take() {
            self.sink = Sink::Cache(Box::new(entry.write(&frame)?));
        }
        match &mut self.sink {
            Sink::Memory(frames) => frames.push(frame),
            Sink::Cache(writer) => writer.group(&frame)?,
        }
        Ok(())
    }

    /// Notes the rows that say what an earlier one says, and those that have an earlier one's id.
    fn doubles(&mut self, rows: Rows<'_>, hashes: &[u64], problems: &mut Vec<Problem>) {
        for (i, hash) in hashes.iter().enumerate() {
            let line = rows.line(i);
            let mut note = |kind, what: String| {
                let (row, id) = (Some(i as u32), Some(rows.id(i).to_string()));
                let number = Some(rows.number(i));
                problems.push(Problem {
                    line,
                    number,
                    row,
                    id,
                    kind,
                    outcome: Outcome::Kept,
                    what: what.into(),
                });
            };
            match self.said.get(hash) {
                None => drop(self.said.insert(*hash, line)),
                Some(first) => {
                    note(ProblemKind::DuplicateRow, format!("says the same as the row in line {first}"));
                }
            }
            let id = xxh3_64(rows.id(i).as_bytes());
            match self.named.get(&id) {
                None => drop(self.named.insert(id, line)),
                Some(first) => {
                    note(ProblemKind::DuplicateId, format!("has the id of the row in line {first}"))
                }
            }
        }
    }
}

/// Rows and faults of a block; the numbers of the problems' rows are those within the block.
struct Parsed {
    records: usize,
    frame: DataFrame,
    problems: Vec<Problem>,
    proposal: Option<Map>,
    /// What each row says; see [`Rows::hash`].
    hashes: Vec<u64>,
}

fn parse(block: &Block, options: &ReadOptions) -> Result<Parsed> {
    let mut builder = Builder::default();
    let mut problems = Vec::new();
    let mut proposal = None;
    let mut rows = 0;
    each_row(block, options, |place, text, row| {
        match row {
            Ok((row, noted)) => {
                builder.push(&row, place.line, place.number)?;
                for (kind, what, outcome) in noted {
                    let id = row.id.as_deref().map_or_else(|| made_up_id(place.number), str::to_string);
                    problems.push(Problem {
                        line: place.line,
                        number: Some(place.number),
                        row: Some(rows),
                        id: Some(id),
                        kind,
                        outcome,
                        what,
                    });
                }
                rows += 1;
            }
            Err(problem) => {
                if problem.kind == ProblemKind::UnknownSchema && proposal.is_none() {
                    proposal = proposed(text);
                }
                problems.push(Problem { number: Some(place.number), ..problem });
            }
        }
        Ok(())
    })?;
    problems.extend(block.faults.iter().cloned());
    let frame = builder.finish()?;
    let all = Rows::of(&frame)?;
    let hashes = (0..all.len()).map(|i| all.hash(i)).collect();
    Ok(Parsed { records: block.records.len(), frame, problems, proposal, hashes })
}

/// A row and the faults that it may keep, or why a record is none.
type Tried<'a> = Result<(Row<'a>, Vec<Noted>), Problem>;

/// Brings the records of a block into canonical form, one after the other.
pub(super) fn each_row(
    block: &Block,
    options: &ReadOptions,
    mut take: impl FnMut(&Place, &str, Tried<'_>) -> Result<()>,
) -> Result<()> {
    // One check for the whole block; only a block that fails it is checked record by record.
    let whole = simdutf8::basic::from_utf8(&block.bytes).ok();
    for place in &block.records {
        let bytes = &block.bytes[place.bytes.clone()];
        let text = match whole {
            Some(whole) => Ok(&whole[place.bytes.clone()]),
            None => std::str::from_utf8(bytes),
        };
        match text {
            Ok(text) => try_row(text, place, options, &mut take)?,
            Err(error) => {
                let what = format!("byte {} of the record is not UTF-8", error.valid_up_to() + 1);
                if !options.fixes.has(Fix::ReplaceInvalidUtf8) {
                    take(place, "", Err(Problem::rejected(place.line, ProblemKind::InvalidUtf8, what)))?;
                    continue;
                }
                let text = String::from_utf8_lossy(bytes);
                try_row(&text, place, options, &mut |place, text, mut row| {
                    if let Ok((_, noted)) = &mut row {
                        noted.push((ProblemKind::InvalidUtf8, what.clone().into(), Outcome::Repaired));
                    }
                    take(place, text, row)
                })?;
            }
        }
    }
    Ok(())
}

/// Reads a record, if need be as what Python writes instead of JSON.
fn try_row(
    text: &str,
    place: &Place,
    options: &ReadOptions,
    take: &mut impl FnMut(&Place, &str, Tried<'_>) -> Result<()>,
) -> Result<()> {
    // Without its line break a broken record ends on its own line.
    let tried = row(text.trim_ascii_end(), place, options);
    let again = match &tried {
        Err(problem) if problem.kind == ProblemKind::BrokenJson => {
            python::again(text.trim_ascii_end(), place, options, |text| row(text, place, options).err())
        }
        _ => None,
    };
    match again {
        None => take(place, text, tried),
        Some(Again::Rejected(problem)) => take(place, text, Err(problem)),
        Some(Again::Mended(mended, noted)) => {
            let mut tried = row(&mended, place, options);
            if let Ok((_, all)) = &mut tried {
                all.extend(noted);
            }
            take(place, &mended, tried)
        }
    }
}

fn row<'a>(text: &'a str, place: &Place, options: &ReadOptions) -> Tried<'a> {
    schema::read(text, options).map_err(|Rejected { kind, what, id, line }| Problem {
        id,
        ..Problem::rejected(place.line + line, kind, what)
    })
}

/// A file among others that has no rows; its records are rejected already.
pub(super) fn without_rows(records: usize) -> Problem {
    let what = match records {
        0 => "the file is left out: it holds no records".to_string(),
        1 => "the file is left out: its one record is no row".to_string(),
        n => format!("the file is left out: none of its {n} records is a row"),
    };
    Problem::new(1, ProblemKind::NotRead, what)
}

/// No record of the file is a row: says why, by the first fault.
fn nothing(records: usize, problems: &[Problem], proposal: Option<Map>) -> Error {
    let Some(first) = problems.first() else {
        return Error::format("the file holds no records")
            .help("name a file that holds JSON lines or a JSON array");
    };
    let count = match records {
        1 => "its one record is no row".to_string(),
        n => format!("none of its {n} records is a row"),
    };
    let error = match first.kind {
        ProblemKind::BrokenJson if problems.iter().all(|p| p.kind == ProblemKind::BrokenJson) => {
            Error::format(format_args!("this is neither JSON, CSV nor Parquet: {}", first.what))
                .help("name a file that holds one JSON object a line, or an array of objects")
        }
        ProblemKind::UnknownSchema => {
            let error = Error::format(format_args!("{count}: {}", first.what));
            match proposal {
                None => error.help(format_args!("known are {KNOWN}")),
                Some(map) => error.help(format_args!(
                    "known are {KNOWN}; or say what is what: Dataset::open_as(path, {}), on the command line --map {}",
                    map.code(),
                    quoted(&map.to_string())
                )),
            }
        }
        kind => Error::format(format_args!("{count}: {kind}, {}", first.what)).help(kind.fix()),
    };
    error.line(first.line.into())
}

/// A word as a shell takes it: in quotes where it has more than letters, digits and a few marks.
fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_alphanumeric() || "=,._-".contains(c)) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
