//! Rows as cells: texts as they are, all else as JSON.

use std::borrow::Cow;
use std::io::Write as _;

use rayon::prelude::*;

use super::columns::{fields, lines, unescaped};
use super::sink::Sink;
use super::spool::{LostValues, Spool};
use crate::error::{Error, Result};
use crate::format::container::{MISSING, reads_as_text};

const PIECE: usize = 1 << 20;

/// Writes the header and all rows. Says what will not be read again as it was.
pub(super) fn write(spool: Spool, delimiter: u8, sink: &mut Sink) -> Result<LostValues> {
    let (columns, mut pieces) = spool.read()?;
    let names: Vec<&str> = columns.fields.iter().map(|field| field.name.as_str()).collect();
    let mut put = |bytes: &[u8]| sink.write_all(bytes).map_err(|e| Error::io("", e));
    let mut header = Vec::new();
    line(&mut header, names.iter().map(|name| Some(Cow::Borrowed(*name))), delimiter);
    put(&header)?;
    let mut counts = vec![Counts::default(); names.len()];
    loop {
        let batch = pieces.next(PIECE)?;
        if batch.is_empty() {
            return Ok(lost(&names, &counts));
        }
        let texts: Vec<(Vec<u8>, Vec<Counts>)> =
            batch.par_iter().map(|piece| rows(piece, &names, delimiter)).collect();
        for (text, more) in texts {
            put(&text)?;
            counts.iter_mut().zip(more).for_each(|(all, more)| all.add(more));
        }
    }
}

/// The rows in which a value of a column will be read as another one.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Numbers, true and false, lists and objects.
    types: u64,
    nulls: u64,
    /// Texts that pandas takes for no value.
    missing: u64,
    /// Texts that are read as a list, an object, true or false.
    values: u64,
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.types += more.types;
        self.nulls += more.nulls;
        self.missing += more.missing;
        self.values += more.values;
    }
}

fn lost(names: &[&str], counts: &[Counts]) -> LostValues {
    let mut lost = LostValues::new();
    for (name, count) in names.iter().zip(counts) {
        for (what, rows) in [
            (format!("types of values under `{name}`: CSV has texts only"), count.types),
            (format!("nulls under `{name}`: they are read as keys that are not there"), count.nulls),
            (
                format!("texts under `{name}` that pandas reads as no value, such as nan and null"),
                count.missing,
            ),
            (
                format!(
                    "texts under `{name}` that are read as a list, an object, true or false: CSV has texts only"
                ),
                count.values,
            ),
        ] {
            if rows > 0 {
                lost.insert(what, rows);
            }
        }
    }
    lost
}

fn rows(piece: &[u8], names: &[&str], delimiter: u8) -> (Vec<u8>, Vec<Counts>) {
    let mut out = Vec::with_capacity(piece.len());
    let mut counts = vec![Counts::default(); names.len()];
    for row in lines(piece) {
        let mut cells: Vec<Option<Cow<'_, str>>> = vec![None; names.len()];
        for (key, value) in fields(row) {
            let Some(place) = names.iter().position(|name| *name == key) else { continue };
            let count = &mut counts[place];
            cells[place] = match value {
                [b'n', ..] => {
                    count.nulls += 1;
                    None
                }
                [b'"', inside @ .., b'"'] => {
                    let text = unescaped(inside);
                    count.values += u64::from(!reads_as_text(&key, text.as_bytes()));
                    count.missing += u64::from(MISSING.contains(&&*text));
                    Some(text)
                }
                json => {
                    count.types += u64::from(reads_as_text(&key, json));
                    Some(String::from_utf8_lossy(json))
                }
            };
        }
        line(&mut out, cells.into_iter(), delimiter);
    }
    (out, counts)
}

/// One row. An empty text is two quotes, which tells it from no value.
fn line<'a>(out: &mut Vec<u8>, cells: impl Iterator<Item = Option<Cow<'a, str>>>, delimiter: u8) {
    let start = out.len();
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(delimiter);
        }
        let Some(cell) = cell else { continue };
        let special = |b: u8| b == delimiter || matches!(b, b'"' | b'\n' | b'\r');
        if cell.is_empty() || cell.bytes().any(special) || cell.trim() != cell {
            out.push(b'"');
            for (n, part) in cell.split('"').enumerate() {
                if n > 0 {
                    out.extend_from_slice(b"\"\"");
                }
                out.extend_from_slice(part.as_bytes());
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(cell.as_bytes());
        }
    }
    // A blank line would be no row at all.
    if out.len() == start {
        out.push(delimiter);
    }
    out.push(b'\n');
}
