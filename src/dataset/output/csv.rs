//! Rows as cells: texts as they are, all else as JSON.

use std::borrow::Cow;
use std::io::Write as _;

use rayon::prelude::*;

use super::columns::{fields, unescaped};
use super::{Sink, Spool, lines};
use crate::dataset::container::reads_as_text;
use crate::error::{Error, Result};

const PIECE: usize = 1 << 20;

/// Writes the header and all rows. Gives the number of rows with a value that is read as a text.
pub(super) fn write(spool: Spool, delimiter: u8, sink: &mut Sink) -> Result<u64> {
    let (columns, mut pieces) = spool.read()?;
    let names: Vec<&str> = columns.0.iter().map(|column| column.name.as_str()).collect();
    let mut put = |bytes: &[u8]| sink.write_all(bytes).map_err(|e| Error::io("", e));
    let mut header = Vec::new();
    line(&mut header, names.iter().map(|name| Some(Cow::Borrowed(*name))), delimiter);
    put(&header)?;
    let mut changed = 0;
    loop {
        let batch = pieces.next(PIECE)?;
        if batch.is_empty() {
            return Ok(changed);
        }
        let texts: Vec<(Vec<u8>, u64)> =
            batch.par_iter().map(|piece| rows(piece, &names, delimiter)).collect::<Result<_>>()?;
        for (text, rows) in texts {
            put(&text)?;
            changed += rows;
        }
    }
}

fn rows(piece: &[u8], names: &[&str], delimiter: u8) -> Result<(Vec<u8>, u64)> {
    let mut out = Vec::with_capacity(piece.len());
    let mut changed = 0;
    for row in lines(piece) {
        let mut same = true;
        let mut cells: Vec<Option<Cow<'_, str>>> = vec![None; names.len()];
        for (key, value) in fields(row) {
            let Some(place) = names.iter().position(|name| *name == key) else { continue };
            cells[place] = match value {
                [b'n', ..] => None,
                [b'"', inside @ .., b'"'] => {
                    let text = unescaped(inside);
                    if !reads_as_text(&key, text.as_bytes()) {
                        return Err(Error::input(format_args!(
                            "a text under `{key}` would be read from CSV as a list or as true or false"
                        ))
                        .help("write JSON lines or JSON"));
                    }
                    Some(text)
                }
                json => {
                    same &= !reads_as_text(&key, json);
                    Some(String::from_utf8_lossy(json))
                }
            };
        }
        line(&mut out, cells.into_iter(), delimiter);
        changed += u64::from(!same);
    }
    Ok((out, changed))
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
