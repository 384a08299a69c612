//! A file of rows that appears whole or not at all.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::container::Container;
use super::write::Written;
use crate::error::{Error, Result};
use crate::files::{self, Existing};

/// JSON lines or a JSON array, written beside its place and moved there at the end.
pub(super) struct Output {
    path: PathBuf,
    existing: Existing,
    container: Container,
    file: std::io::BufWriter<NamedTempFile>,
    rows: u64,
    bytes: u64,
    lost: BTreeMap<String, u64>,
}

impl Output {
    /// Whether rows go to this file as they are, without columns.
    pub fn is_json(path: &Path) -> bool {
        matches!(path.extension().and_then(|e| e.to_str()), Some("jsonl" | "ndjson" | "json"))
    }

    pub fn create(path: &Path, existing: Existing) -> Result<Self> {
        let container = match path.extension().and_then(|e| e.to_str()) {
            Some("jsonl" | "ndjson") => Container::Lines,
            Some("json") => Container::Array,
            _ => {
                return Err(Error::input("the name does not say how to write the rows")
                    .path(path)
                    .help("end it in .jsonl for JSON lines or in .json for an array"));
            }
        };
        let file = std::io::BufWriter::with_capacity(1 << 20, files::beside(path, existing)?);
        let mut new = Self {
            path: path.to_path_buf(),
            existing,
            container,
            file,
            rows: 0,
            bytes: 0,
            lost: BTreeMap::new(),
        };
        if container == Container::Array {
            new.put(b"[\n")?;
        }
        Ok(new)
    }

    pub fn is_lines(&self) -> bool {
        self.container == Container::Lines
    }

    /// What stands between two rows.
    pub fn between(&self) -> &'static [u8] {
        match self.container {
            Container::Lines => b"\n",
            Container::Array => b",\n",
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    pub fn row(&mut self, json: &[u8]) -> Result<()> {
        self.rows(json, 1)
    }

    /// Writes `count` rows that have [`between`](Self::between) between them already.
    pub fn rows(&mut self, json: &[u8], count: u64) -> Result<()> {
        if self.rows > 0 {
            self.put(self.between())?;
        }
        self.rows += count;
        self.put(json)
    }

    /// Counts rows in which something had no place.
    pub fn lost(&mut self, what: &str, rows: u64) {
        *self.lost.entry(what.to_string()).or_default() += rows;
    }

    /// Moves the file to its place.
    pub fn finish(mut self) -> Result<Written> {
        match self.container {
            Container::Array => self.put(b"\n]\n")?,
            Container::Lines if self.rows > 0 => self.put(b"\n")?,
            Container::Lines => {}
        }
        let file = self.file.into_inner().map_err(|e| Error::io(&self.path, e.into_error()))?;
        files::place(file, &self.path, self.existing)?;
        Ok(Written {
            path: self.path,
            rows: self.rows,
            bytes: self.bytes,
            lost: self.lost,
            ..Written::default()
        })
    }
}
