//! Opening a file: blocks of records, parsed in parallel, into the canonical table.

use std::path::Path;

use polars::prelude::{DataFrame, InitHashMaps, PlHashMap};
use rayon::prelude::*;

use super::container::{Block, Blocks, Record as Place};
use super::map;
use super::options::ReadOptions;
use super::problems::{Problem, ProblemKind};
use super::schema::{self, KNOWN, Rejected, Row};
use super::table::{Builder, Rows, made_up_id};
use crate::error::{Error, Result};

/// A file's rows, its faults, and what it was when it was read.
pub(super) struct Read {
    pub frame: DataFrame,
    pub problems: Vec<Problem>,
    pub size: u64,
    pub fingerprint: String,
}

/// Reads all rows of a file.
pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Read> {
    if let Some(map) = &options.map {
        map.check()?;
    }
    let mut blocks = Blocks::open(path)?;
    let parsed = blocks.by_ref().par_bridge().map(|block| parse(&block?, options));
    let mut parsed: Vec<Parsed> = parsed.collect::<Result<_>>()?;
    parsed.sort_by_key(|part| part.index);

    let records: usize = parsed.iter().map(|part| part.records).sum();
    let mut problems: Vec<Problem> =
        parsed.iter_mut().flat_map(|p| std::mem::take(&mut p.problems)).collect();
    let proposal = parsed.iter_mut().find_map(|part| part.proposal.take());
    let mut frames = parsed.into_iter().map(|part| part.frame);
    let mut frame = match frames.next() {
        Some(first) => first,
        None => Builder::default().finish()?,
    };
    for more in frames {
        frame.vstack_mut_owned(more)?;
    }
    if frame.height() == 0 {
        return Err(nothing(records, &problems, proposal).path(path));
    }
    frame.rechunk_mut_par();
    doubles(Rows::of(&frame)?, &mut problems);
    problems.sort_by_key(|p| (p.line, p.kind));
    let (size, fingerprint) = blocks.fingerprint();
    Ok(Read { frame, problems, size, fingerprint })
}

struct Parsed {
    index: usize,
    records: usize,
    frame: DataFrame,
    problems: Vec<Problem>,
    /// A map for the first record of no known schema.
    proposal: Option<String>,
}

fn parse(block: &Block, options: &ReadOptions) -> Result<Parsed> {
    let mut builder = Builder::default();
    let mut problems = Vec::new();
    let mut proposal = None;
    // One check for the whole block; only a block that fails it is checked record by record.
    let whole = std::str::from_utf8(&block.bytes).ok();
    for place in &block.records {
        let bytes = &block.bytes[place.bytes.clone()];
        let text = match whole {
            Some(whole) => Ok(&whole[place.bytes.clone()]),
            None => std::str::from_utf8(bytes).map_err(|e| e.valid_up_to()),
        };
        let text = match text {
            Ok(text) => text,
            Err(at) => {
                let what = format!("byte {} of the record is not UTF-8", at + 1);
                problems.push(Problem {
                    line: place.line,
                    id: None,
                    kind: ProblemKind::InvalidUtf8,
                    what: what.into(),
                });
                continue;
            }
        };
        // Without its line break a broken record ends on its own line.
        match row(text.trim_ascii_end(), place, options) {
            Ok(row) => {
                note_breaks(&row, place, &mut problems);
                builder.push(&row, place.line, place.number)?;
            }
            Err(problem) => {
                if problem.kind == ProblemKind::UnknownSchema && proposal.is_none() {
                    proposal = map::proposal(text);
                }
                problems.push(problem);
            }
        }
    }
    if let Some((line, what)) = block.fault {
        problems.push(Problem { line, id: None, kind: ProblemKind::BrokenJson, what: what.into() });
    }
    Ok(Parsed {
        index: block.index,
        records: block.records.len(),
        frame: builder.finish()?,
        problems,
        proposal,
    })
}

fn row<'a>(text: &'a str, place: &Place, options: &ReadOptions) -> Result<Row<'a>, Problem> {
    schema::read(text, options).map_err(|Rejected { kind, what, id, line }| Problem {
        line: place.line + line,
        id,
        kind,
        what,
    })
}

fn note_breaks(row: &Row<'_>, place: &Place, problems: &mut Vec<Problem>) {
    if row.turns.iter().any(|turn| turn.content.starts_with(['\n', '\r'])) {
        problems.push(Problem {
            line: place.line,
            id: Some(row.id.as_deref().map_or_else(|| made_up_id(place.number), str::to_string)),
            kind: ProblemKind::LeadingBreaks,
            what: "a turn begins with line breaks".into(),
        });
    }
}

/// Notes the rows that say what an earlier one says, and those that have an earlier one's id.
fn doubles(rows: Rows<'_>, problems: &mut Vec<Problem>) {
    let hashes: Vec<u64> = (0..rows.len()).into_par_iter().map(|i| rows.hash(i)).collect();
    let mut said: PlHashMap<u64, usize> = PlHashMap::with_capacity(rows.len());
    let mut named: PlHashMap<&str, usize> = PlHashMap::with_capacity(rows.len());
    for (i, hash) in hashes.into_iter().enumerate() {
        let mut note = |kind, what: String| {
            let (line, id) = (rows.line(i), Some(rows.id(i).to_string()));
            problems.push(Problem { line, id, kind, what: what.into() });
        };
        let first = *said.entry(hash).or_insert(i);
        if first != i {
            let (id, line) = (rows.id(first), rows.line(first));
            note(ProblemKind::DuplicateRow, format!("says the same as {id} in line {line}"));
        }
        let first = *named.entry(rows.id(i)).or_insert(i);
        if first != i {
            note(ProblemKind::DuplicateId, format!("has the id of the row in line {}", rows.line(first)));
        }
    }
}

/// No record of the file is a row: says why, by the first fault.
fn nothing(records: usize, problems: &[Problem], proposal: Option<String>) -> Error {
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
            Error::format(format_args!("this is neither JSON lines nor a JSON array: {}", first.what))
                .help("name a file that holds one JSON object a line, or an array of objects")
        }
        ProblemKind::UnknownSchema => {
            let error = Error::format(format_args!("{count}: {}", first.what));
            match proposal {
                None => error.help(format_args!("known are {KNOWN}")),
                Some(map) => error.help(format_args!(
                    "known are {KNOWN}; or say what is what: Dataset::open_as(path, {map})"
                )),
            }
        }
        kind => Error::format(format_args!("{count}: {kind}, {}", first.what)).help(kind.fix()),
    };
    error.line(first.line.into())
}
