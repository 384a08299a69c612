//! Loads a file: blocks of records, parsed in parallel, into the canonical table.

use std::path::Path;

use polars::prelude::{DataFrame, InitHashMaps, PlHashMap};
use xxhash_rust::xxh3::xxh3_64;

use super::cache;
use super::table::{Builder, Rows};
use crate::display::Progress;
use crate::error::Result;
use crate::format::container::{Block, Blocks};
use crate::format::options::{OnFault, ReadOptions};
use crate::format::pipeline::each_block;
use crate::format::problems::{Outcome, Problem, ProblemKind};
use crate::format::read::{Among, each_row, nothing, without_rows};
use crate::format::row::made_up_id;
use crate::format::{Map, proposal as proposed};

/// A file's rows, its faults, and what it was when it was read.
pub(crate) struct Read {
    pub sink: Sink,
    pub problems: Vec<Problem>,
    pub fingerprint: String,
}

/// Where rows go.
pub(crate) enum Sink {
    /// Tables of some thousand rows each.
    Memory(Vec<DataFrame>),
    Cache(Box<cache::Writer>),
}

/// Reads all rows of a file, into `entry` of the cache or into memory.
pub(crate) fn read(
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
        progress.try_advance(read.saturating_sub(progress.done()), "bytes")?;
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
pub(crate) fn head(path: &Path, options: &ReadOptions, among: Among) -> Result<Option<DataFrame>> {
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
