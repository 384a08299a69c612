//! Reads the records of a block as canonical rows, and says why a file has none.

use std::path::Path;

use super::container::{Block, Blocks, Record, absolute};
use super::fix::Fix;
use super::map::{Map, proposal};
use super::options::{OnFault, ReadOptions};
use super::pipeline::each_block;
use super::problems::{Noted, Outcome, Problem, ProblemKind};
use super::python_repr::{self, Again};
use super::row::Row;
use super::row_schema::KNOWN;
use super::schema::{self, Rejected};
use crate::error::{Error, Result};

/// Whether a file is read alone or as one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    Alone,
    /// One of the files of a folder or a pattern: it may hold no rows.
    Others,
}

impl Among {
    /// Turns an error of one file among several into a problem, where the others can be read.
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

/// A row and the faults that it may keep, or why a record is none.
type Tried<'a> = Result<(Row<'a>, Vec<Noted>), Problem>;

/// Brings the records of a block into canonical form, one after the other.
pub(crate) fn each_row(
    block: &Block,
    options: &ReadOptions,
    mut take: impl FnMut(&Record, &str, Tried<'_>) -> Result<()>,
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

/// Reads a record; where it is not JSON, tries again what Python writes instead.
fn try_row(
    text: &str,
    place: &Record,
    options: &ReadOptions,
    take: &mut impl FnMut(&Record, &str, Tried<'_>) -> Result<()>,
) -> Result<()> {
    // Without its line break a broken record ends on its own line.
    let tried = row(text.trim_ascii_end(), place, options);
    let again = match &tried {
        Err(problem) if problem.kind == ProblemKind::BrokenJson => {
            python_repr::again(text.trim_ascii_end(), place, options, |text| row(text, place, options).err())
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

fn row<'a>(text: &'a str, place: &Record, options: &ReadOptions) -> Tried<'a> {
    schema::read(text, options).map_err(|Rejected { kind, what, id, line }| Problem {
        id,
        ..Problem::rejected(place.line + line, kind, what)
    })
}

/// A folder in the folder that is read.
pub(crate) fn not_read(path: &Path) -> Problem {
    let what = format!("files in folders below are not read: open the pattern {}/**/*", path.display());
    Problem::new(1, ProblemKind::NotRead, what)
}

/// A file among others that has no rows; its records are rejected already.
pub(crate) fn without_rows(records: usize) -> Problem {
    let what = match records {
        0 => "the file is left out: it holds no records".to_string(),
        1 => "the file is left out: its one record is no row".to_string(),
        n => format!("the file is left out: none of its {n} records is a row"),
    };
    Problem::new(1, ProblemKind::NotRead, what)
}

/// Says why a file has no rows, for a conversion that found none in it.
///
/// # Errors
/// Unless some record is a row.
pub(crate) fn refuse_without_rows(path: &Path, options: &ReadOptions) -> Result<()> {
    if let Some(map) = &options.map {
        map.check()?;
    }
    let path = &absolute(path)?;
    let mut blocks = Blocks::open(path, options.list.as_deref())?;
    let (mut records, mut rows) = (0, 0);
    let (mut problems, mut proposed) = (Vec::new(), None);
    let parse = |block: Block| {
        let (mut rows, mut problems, mut proposed) = (0, block.faults.clone(), None);
        each_row(&block, options, |_, text, row| {
            match row {
                Ok(_) => rows += 1,
                Err(problem) => {
                    if problem.kind == ProblemKind::UnknownSchema && proposed.is_none() {
                        proposed = proposal(text);
                    }
                    problems.push(problem);
                }
            }
            Ok(())
        })?;
        problems.sort_by_key(|p| (p.line, p.kind));
        Ok((block.records.len(), rows, problems, proposed))
    };
    let take = |(more, usable, mut found, map): (usize, usize, Vec<Problem>, Option<Map>), _| {
        (records, rows) = (records + more, rows + usable);
        problems.append(&mut found);
        proposed = proposed.take().or(map);
        Ok(())
    };
    each_block(&mut blocks, parse, take).map_err(|e| e.path(path))?;
    match rows {
        0 => Err(nothing(records, &problems, proposed).path(path)),
        _ => Ok(()),
    }
}

/// No record of the file is a row: says why, by the first fault.
pub(crate) fn nothing(records: usize, problems: &[Problem], proposal: Option<Map>) -> Error {
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
                    "known are {KNOWN}; or map the keys: Dataset::open_as(path, {}), on the command line --map {}",
                    map.code(),
                    quoted(&map.to_string())
                )),
            }
        }
        kind => Error::format(format_args!("{count}: {kind}, {}", first.what)).help(kind.fix()),
    };
    error.line(first.line.into())
}

/// Quotes a word for a shell, where it has more than letters, digits and a few marks.
fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_alphanumeric() || "=,._-".contains(c)) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
