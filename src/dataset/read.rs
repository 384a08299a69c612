//! Opening a file: blocks of records, parsed in parallel, into the canonical table.

use std::borrow::Cow;
use std::path::Path;

use polars::prelude::{DataFrame, InitHashMaps, PlHashMap};
use rayon::prelude::*;
use serde::de::IgnoredAny;

use super::container::{Block, Blocks, Record as Place};
use super::fix::check;
use super::options::ReadOptions;
use super::problems::{Problem, ProblemKind};
use super::record::Record;
use super::schema::{Fault, KNOWN, Row, canonical};
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
    let mut blocks = Blocks::open(path)?;
    let parsed = blocks.by_ref().par_bridge().map(|block| parse(&block?, options));
    let mut parsed: Vec<Parsed> = parsed.collect::<Result<_>>()?;
    parsed.sort_by_key(|part| part.index);

    let records: usize = parsed.iter().map(|part| part.records).sum();
    let mut problems: Vec<Problem> =
        parsed.iter_mut().flat_map(|p| std::mem::take(&mut p.problems)).collect();
    let mut frames = parsed.into_iter().map(|part| part.frame);
    let mut frame = match frames.next() {
        Some(first) => first,
        None => Builder::default().finish()?,
    };
    for more in frames {
        frame.vstack_mut_owned(more)?;
    }
    if frame.height() == 0 {
        return Err(nothing(records, &problems).path(path));
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
}

fn parse(block: &Block, options: &ReadOptions) -> Result<Parsed> {
    let mut builder = Builder::default();
    let mut problems = Vec::new();
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
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(block.faults.iter().cloned());
    Ok(Parsed { index: block.index, records: block.records.len(), frame: builder.finish()?, problems })
}

fn row<'a>(text: &'a str, place: &Place, options: &ReadOptions) -> Result<Row<'a>, Problem> {
    let record: Record = serde_json::from_str(text).map_err(|e| unreadable(text, place, &e))?;
    let row = canonical(record, options).and_then(|row| check(&row.turns).map(|()| row));
    row.map_err(|(kind, what): Fault| {
        let id = serde_json::from_str::<Record>(text).ok().and_then(|r| r.id.map(Cow::into_owned));
        Problem { line: place.line, id, kind, what }
    })
}

/// Tells a record that is not JSON from one whose values have the wrong types.
fn unreadable(text: &str, place: &Place, error: &serde_json::Error) -> Problem {
    let (kind, error, line) = match serde_json::from_str::<IgnoredAny>(text) {
        Err(broken) => {
            // serde_json counts lines from 1 within the record, and 0 where it knows none.
            let line = place.line + (broken.line() as u32).saturating_sub(1);
            (ProblemKind::BrokenJson, broken.to_string(), line)
        }
        Ok(_) => (ProblemKind::WrongType, error.to_string(), place.line),
    };
    let message = error.split(" at line ").next().unwrap_or_default();
    let what = match (kind, error.rsplit_once(" column ")) {
        (ProblemKind::BrokenJson, Some((_, column))) => format!("{message}, at column {column}"),
        _ => message.to_string(),
    };
    Problem { line, id: None, kind, what: what.into() }
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
fn nothing(records: usize, problems: &[Problem]) -> Error {
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
            Error::format(format_args!("{count}: {}", first.what)).help(format_args!("known are {KNOWN}"))
        }
        kind => Error::format(format_args!("{count}: {kind}, {}", first.what)).help(kind.fix()),
    };
    error.line(first.line.into())
}
