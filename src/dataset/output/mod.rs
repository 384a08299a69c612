//! A file of rows that appears whole or not at all, in any container.

mod columns;
mod csv;
mod parquet;
mod shape;
mod sink;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::container::{Container, Form, Packing};
use super::write::Written;
use crate::error::{Error, Result};
use crate::files::{self, Existing};
use columns::Objects;
use sink::Sink;

/// Rows that are given as JSON objects, written beside their place and moved there at the end.
pub(super) struct Output {
    path: PathBuf,
    existing: Existing,
    form: Form,
    sink: Sink,
    /// Rows of a container with columns, which are known when the last row is.
    spool: Option<Spool>,
    rows: u64,
    lost: BTreeMap<String, u64>,
}

impl Output {
    pub fn create(path: &Path, existing: Existing) -> Result<Self> {
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

    pub fn is_lines(&self) -> bool {
        self.form == Form::Lines
    }

    /// What stands between two rows.
    pub fn between(&self) -> &'static [u8] {
        if self.form == Form::Array { b",\n" } else { b"\n" }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    pub fn row(&mut self, json: &[u8]) -> Result<()> {
        self.rows(json, 1)
    }

    /// Writes `count` rows, each on one line, that have [`between`](Self::between) between them
    /// already.
    pub fn rows(&mut self, json: &[u8], count: u64) -> Result<()> {
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
    pub fn lost(&mut self, what: &str, rows: u64) {
        *self.lost.entry(what.to_string()).or_default() += rows;
    }

    /// Moves the file to its place.
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
pub(super) fn container(path: &Path) -> Result<Container> {
    let container = Container::of_name(path).ok_or_else(|| {
        Error::input("the name does not say how to write the rows").path(path).help(
            "end it in .jsonl for JSON lines, .json for an array, .csv, .tsv or .parquet; .gz or .zst may follow",
        )
    })?;
    if container.form == Form::Parquet && container.packing != Packing::Plain {
        return Err(Error::input("Parquet is compressed in itself")
            .path(path)
            .help("end the name in .parquet"));
    }
    Ok(container)
}

/// What will not be read again as it was, and in how many rows.
type LostValues = BTreeMap<String, u64>;

/// Rows as JSON lines in a temporary file beside the output, and the columns that they make.
struct Spool {
    file: BufWriter<NamedTempFile>,
    columns: Objects,
}

impl Spool {
    fn new(file: NamedTempFile) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), columns: Objects::default() }
    }

    fn rows(&mut self, json: &[u8]) -> std::io::Result<()> {
        self.columns.rows(json);
        self.file.write_all(json)?;
        self.file.write_all(b"\n")
    }

    /// What was seen of the columns, and the rows from the first on.
    fn read(self) -> Result<(Objects, Pieces)> {
        let io = |e| Error::io("", files::cause(e)); // the path is that of the output
        let mut file = self.file.into_inner().map_err(|e| io(e.into_error()))?;
        file.rewind().map_err(io)?;
        Ok((self.columns, Pieces(BufReader::with_capacity(1 << 20, file))))
    }
}

/// Rows, some at a time.
struct Pieces(BufReader<NamedTempFile>);

impl Pieces {
    /// As many pieces as threads, each of about `bytes` bytes; empty at the end.
    fn next(&mut self, bytes: usize) -> Result<Vec<Vec<u8>>> {
        const ROWS: usize = 1 << 16;
        let mut pieces = Vec::new();
        for _ in 0..rayon::current_num_threads() {
            let mut piece = Vec::new();
            let mut rows = 0;
            while piece.len() < bytes && rows < ROWS {
                let read =
                    self.0.read_until(b'\n', &mut piece).map_err(|e| Error::io("", files::cause(e)))?;
                if read == 0 {
                    break;
                }
                rows += 1;
            }
            if piece.is_empty() {
                break;
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

/// The lines of a piece.
fn lines(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    piece.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}
