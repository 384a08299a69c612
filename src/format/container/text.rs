//! The records of a text, a piece of some megabytes at a time.

use super::csv;
use super::form::Form;
use super::json::{self, Scan};
use super::records::{BLOCK, BufferPool, RecordPiece, newlines};
use super::source::Source;
use super::tail::Tail;
use crate::error::Result;
use crate::format::problems::{Problem, ProblemKind};
use crate::format::row::RecordPlace;

/// Where a text stands.
pub(super) struct Text {
    pub place: RecordPlace,
    pub header: Option<csv::Header>,
    pub stage: Stage,
    pub largest: usize,
    /// The list that was asked for: the others are not missed.
    pub asked: bool,
    /// Faults of what stands before the rows.
    pub faults: Vec<Problem>,
}

/// What comes next in a text.
pub(super) enum Stage {
    Rows,
    /// Inside a record that is too large; without a scan it ends with its line.
    Skip(Option<Scan>),
    /// After the array.
    Tail(Tail),
}

impl Text {
    /// The next piece as it stands in the file.
    pub fn piece(
        &mut self,
        source: &mut Source,
        form: &Form,
        spare: &BufferPool,
    ) -> Result<Option<RecordPiece>> {
        let mut wanted = BLOCK;
        loop {
            if source.rest.len() < wanted && !source.ended {
                source.fill(wanted)?;
            }
            match &mut self.stage {
                Stage::Rows => {}
                Stage::Skip(scan) => {
                    let end = match scan {
                        Some(scan) => scan.feed(&source.rest),
                        None => memchr::memchr(b'\n', &source.rest).map(|at| at + 1),
                    };
                    self.place.pass(&source.rest[..end.unwrap_or(source.rest.len())]);
                    source.rest.drain(..end.unwrap_or(source.rest.len()));
                    if end.is_some() {
                        self.stage = Stage::Rows;
                    } else if source.ended {
                        return Ok(None);
                    }
                    continue;
                }
                Stage::Tail(_) => return self.tail(source),
            }
            let found = match form {
                Form::Array | Form::Field(_) => json::elements(&source.rest, self.place, source.ended),
                _ if source.rest.is_empty() && source.ended => return Ok(None),
                Form::Values => json::values(&source.rest, self.place, source.ended),
                Form::Csv { delimiter } => {
                    let full = source.rest.len() >= self.largest;
                    csv::rows(&source.rest, *delimiter, self.place, source.ended, full)
                }
                Form::Lines | Form::Parquet => json::lines(&source.rest, self.place, source.ended),
            };
            if found.closed {
                // Where the array was cut off, nothing more is missed of the object around it.
                let inside = matches!(form, Form::Field(_)) && found.faults.is_empty();
                self.stage = Stage::Tail(Tail::new(usize::from(inside)));
            }
            if found.end > 0 || found.closed {
                let mut bytes = std::mem::replace(&mut source.rest, spare.take());
                source.rest.extend_from_slice(&bytes[found.end..]);
                bytes.truncate(found.end);
                self.place = found.place;
                let mut faults = std::mem::take(&mut self.faults);
                faults.extend(found.faults);
                return Ok(Some(RecordPiece { bytes, records: found.records, faults }));
            }
            if source.rest.len() >= self.largest {
                return Ok(Some(self.too_large(form)));
            }
            // One record is larger than what was read: look again with twice as much.
            wanted = (wanted * 2).min(self.largest);
        }
    }

    /// The record that begins here is left out.
    fn too_large(&mut self, form: &Form) -> RecordPiece {
        self.stage = Stage::Skip(match form {
            Form::Array | Form::Field(_) | Form::Values => Some(Scan::default()),
            _ => None,
        });
        let what = format!("the record is larger than {}", crate::display::bytes(self.largest as u64));
        let line = self.place.line;
        self.place.number = self.place.number.saturating_add(1);
        let fault = Problem::new(line, ProblemKind::TooLarge, what);
        RecordPiece { faults: vec![fault], ..RecordPiece::default() }
    }

    /// Reads what follows an array: no more than the end of the object around it, or it is a fault.
    fn tail(&mut self, source: &mut Source) -> Result<Option<RecordPiece>> {
        let mut faults = Vec::new();
        let Stage::Tail(tail) = &mut self.stage else { return Ok(None) };
        let mut fault = |line, kind, what: String| faults.push(Problem::new(line, kind, what));
        loop {
            if let Some(at) = tail.feed(&source.rest) {
                let line = self.place.line.saturating_add(newlines(&source.rest[..at]));
                fault(line, ProblemKind::BrokenJson, "something follows the end of the array".into());
            }
            self.place.pass(&source.rest);
            source.rest.clear();
            if source.ended {
                break;
            }
            source.fill(BLOCK)?;
        }
        for (list, rows) in tail.lists().filter(|_| !self.asked) {
            let list = crate::display::cut(list, 40);
            let rows = match rows {
                1 => "1 row".to_string(),
                rows => format!("{} rows", crate::display::thousands(*rows)),
            };
            let what = format!("the file has a second list of rows, `{list}` ({rows}), which is not read");
            fault(self.place.line, ProblemKind::SecondList, what);
        }
        // The array before it was closed, so nothing of the rows is missing; yet the file is not whole.
        if !tail.closed() {
            let what = "the object is not closed: the file was cut off, or a bracket is missing";
            fault(self.place.line, ProblemKind::BrokenJson, what.into());
        }
        *tail = Tail::new(0);
        Ok((!faults.is_empty()).then(|| RecordPiece { faults, ..RecordPiece::default() }))
    }
}
