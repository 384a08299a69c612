//! A file of rows that appears whole or not at all.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::write::Written;
use crate::error::{Error, Result};

/// What to do where the file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Lines,
    Array,
}

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
        if path.is_dir() {
            return Err(Error::input("this is a folder").path(path).help("name a file in it"));
        }
        if existing == Existing::Refuse && path.exists() {
            return Err(taken(path));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let file = std::io::BufWriter::with_capacity(1 << 20, beside(path)?);
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
        let failed = |e: std::io::Error| Error::io(&self.path, e);
        let file = self.file.into_inner().map_err(|e| failed(e.into_error()))?;
        let moved = match self.existing {
            Existing::Replace => file.persist(&self.path),
            Existing::Refuse => file.persist_noclobber(&self.path),
        };
        moved.map_err(|e| match e.error.kind() {
            // It was not there when the writing began.
            std::io::ErrorKind::AlreadyExists => taken(&self.path),
            _ => failed(e.error),
        })?;
        Ok(Written { path: self.path, rows: self.rows, bytes: self.bytes, lost: self.lost })
    }
}

fn taken(path: &Path) -> Error {
    Error::input("the file exists").path(path).help("choose another name, or say overwrite")
}

/// A temporary file in the folder of `path`: moving it stays within one file system.
fn beside(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // As any other new file: the user's umask decides, not the privacy of temporary files.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".lorascope-").tempfile_in(folder).map_err(|e| Error::io(folder, e))
}
