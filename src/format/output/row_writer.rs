//! A file of rows that appears whole or not at all, in any container.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::sink::Sink;
use super::spool::Spool;
use super::{csv, parquet};
use crate::error::{Error, Result};
use crate::files::{self, Existing};
use crate::format::container::{Container, Form, Packing};
use crate::format::write::Written;

/// Writes rows that are given as JSON objects to a file beside its place, and moves it there at the end.
///
/// # Examples
/// ```
/// use lorascope::format::{Existing, RowWriter};
///
/// let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
/// let mut rows = RowWriter::create(folder.path().join("rows.jsonl"), Existing::Refuse)?;
/// rows.row(br#"{"text": "one"}"#)?;
/// rows.row(br#"{"text": "two"}"#)?;
/// let written = rows.finish()?;
/// assert_eq!((written.rows, written.bytes), (2, 32));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[doc(hidden)]
pub struct RowWriter {
    path: PathBuf,
    existing: Existing,
    form: Form,
    sink: Sink,
    /// Rows of a container with columns, which are known when the last row is.
    spool: Option<Spool>,
    rows: u64,
    lost: BTreeMap<String, u64>,
}

impl RowWriter {
    /// Begins a file in the container that its name says: `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet`,
    /// also with `.gz` or `.zst` after it.
    ///
    /// # Errors
    /// If the name says no container, if the file exists and is not to be replaced, or if the disk refuses.
    pub fn create(path: impl AsRef<Path>, existing: Existing) -> Result<Self> {
        let path = path.as_ref();
        let container = container(path)?;
        let sink =
            Sink::new(files::beside(path, existing)?, container.packing).map_err(|e| Error::io(path, e))?;
        let spool = match container.form {
            Form::Csv { .. } | Form::Parquet => Some(Spool::new(files::beside(path, existing)?)),
            _ => None,
        };
        let form = container.form;
        let mut new =
            Self { path: path.to_path_buf(), existing, form, sink, spool, rows: 0, lost: BTreeMap::new() };
        if new.form == Form::Array {
            new.put(b"[\n")?;
        }
        Ok(new)
    }

    /// Whether the file holds JSON lines.
    pub fn is_lines(&self) -> bool {
        self.form == Form::Lines
    }

    /// What stands between two rows.
    pub(crate) fn between(&self) -> &'static [u8] {
        if self.form == Form::Array { b",\n" } else { b"\n" }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    /// Writes a row: a JSON object without line breaks.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn row(&mut self, json: &[u8]) -> Result<()> {
        self.rows(json, 1)
    }

    /// Writes `count` rows, each on one line, that have [`between`](Self::between) between them
    /// already.
    pub(crate) fn rows(&mut self, json: &[u8], count: u64) -> Result<()> {
        if let Some(spool) = &mut self.spool {
            spool.rows(json).map_err(|e| Error::io(&self.path, files::cause(e)))?;
        } else {
            let between = if self.rows > 0 { self.between() } else { b"" };
            self.sink.put(between, json).map_err(|e| Error::io(&self.path, e))?;
        }
        self.rows += count;
        Ok(())
    }

    /// Counts rows in which something had no place.
    pub(crate) fn lost(&mut self, what: &str, rows: u64) {
        *self.lost.entry(what.to_string()).or_default() += rows;
    }

    /// Moves the file to its place, and says what was written.
    ///
    /// # Errors
    /// If a column cannot be written, or if the disk refuses.
    pub fn finish(mut self) -> Result<Written> {
        match (&self.form, self.spool.take()) {
            (Form::Array, _) => self.put(b"\n]\n")?,
            (Form::Csv { delimiter }, Some(spool)) => {
                let lost = csv::write(spool, *delimiter, &mut self.sink).map_err(|e| e.path(&self.path))?;
                lost.iter().for_each(|(what, rows)| self.lost(what, *rows));
            }
            (Form::Parquet, Some(spool)) => {
                let lost = parquet::write(spool, &mut self.sink).map_err(|e| e.path(&self.path))?;
                lost.iter().for_each(|(what, rows)| self.lost(what, *rows));
            }
            _ if self.rows > 0 => self.put(b"\n")?,
            _ => {}
        }
        let file = self.sink.finish().map_err(|e| Error::io(&self.path, e))?;
        let bytes = file.as_file().metadata().map_err(|e| Error::io(&self.path, e))?.len();
        files::place(file, &self.path, self.existing)?;
        Ok(Written { path: self.path, rows: self.rows, bytes, lost: self.lost, ..Written::default() })
    }
}

/// How rows are written to a file of this name.
pub(crate) fn container(path: &Path) -> Result<Container> {
    let container = Container::of_name(path).ok_or_else(|| {
        Error::input("the name does not say how to write the rows").path(path).help(
            "end it in .jsonl for JSON lines, .json for an array, .csv, .tsv or .parquet; .gz or .zst may follow",
        )
    })?;
    if container.form == Form::Parquet && container.packing != Packing::Plain {
        return Err(Error::input("Parquet has its own compression")
            .path(path)
            .help("end the name in .parquet"));
    }
    Ok(container)
}
