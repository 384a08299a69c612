//! Rows of big files, brought into canonical form once and kept as Parquet.
//!
//! An entry is three files in the cache folder, named by a hash of the data file's path and of how
//! it was read: the rows, the problems, and a description of both that is written last. An entry
//! is written again when the file's size or time of change is no longer the recorded one.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;
use polars::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::files::{self, Existing};
use crate::format::container::hex;
use crate::format::options::ReadOptions;
use crate::format::problems::Problem;

/// Increases when the columns of the canonical table change, or what is read from a record.
const VERSION: u32 = 5;
/// Row groups that stay decoded, for access to single rows one after the other.
const DECODED: usize = 4;

/// What an entry was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    version: u32,
    path: PathBuf,
    size: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    options: ReadOptions,
    /// The sizes of the files of rows and of problems.
    written: (u64, u64),
    pub rejected: usize,
    /// The number of problems.
    pub problems: usize,
    pub fingerprint: String,
}

impl About {
    /// What the file is now; `None` where the file system knows no time of change.
    fn of(path: &Path, options: &ReadOptions) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Self {
            version: VERSION,
            path: path.to_path_buf(),
            size: about.len(),
            modified,
            options: options.clone(),
            written: (0, 0),
            rejected: 0,
            problems: 0,
            fingerprint: String::new(),
        })
    }
}

/// The files of an entry.
pub(super) struct Entry {
    about: About,
    stem: PathBuf,
}

impl Entry {
    /// Where the rows of a file (an absolute path) are kept: in `LORASCOPE_CACHE`, or in the
    /// folder for caches of the user. `None` where there is no such place.
    pub fn of(path: &Path, options: &ReadOptions) -> Option<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("LORASCOPE_CACHE")
            .or_else(|| Some(set("XDG_CACHE_HOME")?.join("lorascope")))
            .or_else(|| Some(set("HOME")?.join(".cache/lorascope")))?;
        let about = About::of(path, options)?;
        let options = serde_json::to_string(options).ok()?;
        let key = format!("{}\0{options}", path.display());
        let name = hex(xxhash_rust::xxh3::xxh3_128(key.as_bytes()));
        Some(Self { about, stem: folder.join("rows").join(name) })
    }

    fn file(&self, what: &str) -> PathBuf {
        self.stem.with_extension(what)
    }

    /// Returns the entry if it exists and belongs to the current version of the file.
    pub fn find(&self) -> Option<(About, Arc<Cached>)> {
        let known: About = serde_json::from_slice(&std::fs::read(self.file("json")).ok()?).ok()?;
        let size = |what| std::fs::metadata(self.file(what)).map(|m| m.len()).ok();
        let written = (size("parquet")?, size("problems.parquet")?);
        let About { rejected, problems, fingerprint, .. } = known.clone();
        if known != (About { rejected, problems, fingerprint, written, ..self.about.clone() }) {
            return None;
        }
        // A file that cannot be read is as good as none.
        let rows = Cached::open(self.file("parquet"), self.file("problems.parquet")).ok()?;
        Some((known, Arc::new(rows)))
    }

    /// Begins to write the entry. The columns are those of `first`.
    pub fn write(self, first: &DataFrame) -> Result<Writer> {
        let path = self.file("parquet");
        let unkept = |e| unkept(e, &path);
        let file = files::beside(&path, Existing::Replace).map_err(unkept)?;
        let output = file.reopen().map_err(|e| unkept(Error::io(&path, files::cause(e))))?;
        let rows = ParquetWriter::new(std::io::BufWriter::with_capacity(1 << 20, output))
            .with_compression(ParquetCompression::Lz4Raw)
            .with_statistics(StatisticsOptions::empty())
            .batched(first.schema())
            .map_err(|e| unkept(e.into()))?;
        Ok(Writer { entry: self, file, rows })
    }
}

/// An entry that is being written.
pub(super) struct Writer {
    entry: Entry,
    file: NamedTempFile,
    rows: polars::io::parquet::write::BatchedWriter<std::io::BufWriter<File>>,
}

impl Writer {
    /// Appends rows, as one row group.
    pub fn group(&mut self, frame: &DataFrame) -> Result<()> {
        self.rows.write_batch(frame).map_err(|e| unkept(e.into(), &self.entry.file("parquet")))
    }

    /// Moves all to its place. If the data file changed in the meantime, the entry is of the file
    /// as it was, and the next opening does not take it.
    pub fn finish(self, rejected: usize, fingerprint: String, problems: &[Problem]) -> Result<Arc<Cached>> {
        let path = self.entry.file("parquet");
        self.put(rejected, fingerprint, problems).map_err(|e| unkept(e, &path))
    }

    fn put(self, rejected: usize, fingerprint: String, problems: &[Problem]) -> Result<Arc<Cached>> {
        let rows = self.rows.finish()?;
        drop(self.rows);
        let [parquet, listed, json] =
            ["parquet", "problems.parquet", "json"].map(|what| self.entry.file(what));
        // What the word on the entry says no longer holds.
        let _ = std::fs::remove_file(&json);
        files::place(self.file, &parquet, Existing::Replace)?;
        let mut file = files::beside(&listed, Existing::Replace)?;
        let size = ParquetWriter::new(file.as_file_mut()).finish(&mut plain(problems)?)?;
        files::place(file, &listed, Existing::Replace)?;
        let about = About {
            written: (rows, size),
            rejected,
            problems: problems.len(),
            fingerprint,
            ..self.entry.about
        };
        let about = serde_json::to_vec(&about).map_err(|e| Error::compute(e).path(&json))?;
        files::write_whole(&json, &about, Existing::Replace)?;
        Ok(Arc::new(Cached::open(parquet, listed)?))
    }
}

/// Says that rows cannot be kept in the cache, and what else can be done: nobody asked for this file.
fn unkept(error: Error, file: &Path) -> Error {
    error
        .path(file)
        .help("the rows of a large file are kept here: make room, or set LORASCOPE_CACHE to another folder")
}

/// A cache file of rows, mapped into memory: files of the cache are replaced, never changed.
pub(super) struct Cached {
    path: PathBuf,
    problems: PathBuf,
    bytes: Arc<Mapped>,
    metadata: FileMetadataRef,
    /// The number of each group's first row, and last the number of rows.
    starts: Vec<usize>,
    decoded: Mutex<Vec<(usize, Arc<DataFrame>)>>,
}

#[derive(Clone)]
struct Bytes(Arc<Mapped>);

struct Mapped(Mmap);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Cached {
    fn open(path: PathBuf, problems: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        // SAFETY: files of the cache are moved into place whole and never written to afterwards.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&path, e))?;
        let bytes = Arc::new(Mapped(map));
        let metadata = ParquetReader::new(Cursor::new(Bytes(bytes.clone()))).get_metadata()?.clone();
        let mut starts = vec![0];
        let mut end = 0;
        for group in &metadata.row_groups {
            end += group.num_rows();
            starts.push(end);
        }
        Ok(Self { path, problems, bytes, metadata, starts, decoded: Mutex::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many groups of rows there are.
    pub fn groups(&self) -> usize {
        self.metadata.row_groups.len()
    }

    pub fn len_of(&self, group: usize) -> usize {
        self.starts[group + 1] - self.starts[group]
    }

    /// The rows of a group.
    pub fn group(&self, index: usize) -> Result<Arc<DataFrame>> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = decoded.iter().position(|(group, _)| *group == index) {
            decoded[at..].rotate_left(1);
            return Ok(decoded[decoded.len() - 1].1.clone());
        }
        drop(decoded);
        let mut reader = ParquetReader::new(Cursor::new(Bytes(self.bytes.clone())))
            .with_slice(Some((self.starts[index], self.len_of(index))))
            // The other strategies unpack every group before the slice, too.
            .read_parallel(ParallelStrategy::RowGroups);
        reader.set_metadata(self.metadata.clone());
        let mut frame = reader.finish().map_err(|e| Error::from(e).path(&self.path))?;
        frame.rechunk_mut();
        let frame = Arc::new(frame);
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if decoded.len() >= DECODED {
            decoded.remove(0);
        }
        decoded.push((index, frame.clone()));
        Ok(frame)
    }

    /// What is wrong with the rows.
    pub fn problems(&self) -> Result<Vec<Problem>> {
        let file = File::open(&self.problems).map_err(|e| Error::io(&self.problems, e))?;
        of_plain(&ParquetReader::new(file).finish()?).map_err(|e| e.path(&self.problems))
    }
}

impl std::fmt::Debug for Cached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cached").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Encodes problems for the cache.
fn plain(problems: &[Problem]) -> Result<DataFrame> {
    let json = |value: serde_json::Result<String>| value.map_err(Error::compute);
    let kinds = problems.iter().map(|p| json(serde_json::to_string(&p.kind))).collect::<Result<Vec<_>>>()?;
    let outcomes =
        problems.iter().map(|p| json(serde_json::to_string(&p.outcome))).collect::<Result<Vec<_>>>()?;
    Ok(DataFrame::new(
        problems.len(),
        vec![
            Column::new("line".into(), problems.iter().map(|p| p.line).collect::<Vec<_>>()),
            Column::new("number".into(), problems.iter().map(|p| p.number).collect::<Vec<_>>()),
            Column::new("row".into(), problems.iter().map(|p| p.row).collect::<Vec<_>>()),
            Column::new("id".into(), problems.iter().map(|p| p.id.as_deref()).collect::<Vec<_>>()),
            Column::new("kind".into(), kinds),
            Column::new("outcome".into(), outcomes),
            Column::new("what".into(), problems.iter().map(|p| p.what.as_ref()).collect::<Vec<_>>()),
        ],
    )?)
}

/// Decodes problems from the cache.
fn of_plain(frame: &DataFrame) -> Result<Vec<Problem>> {
    let broken = || Error::format("this file of the cache is not one of problems").help("delete it");
    let column = |name: &str| frame.column(name)?.str().map_err(Error::from);
    let number = |name: &str| frame.column(name)?.u32().map_err(Error::from);
    let (lines, numbers, rows) = (number("line")?, number("number")?, number("row")?);
    let (ids, kinds, outcomes, whats) = (column("id")?, column("kind")?, column("outcome")?, column("what")?);
    let problem = |n: usize| {
        Some(Problem {
            line: lines.get(n)?,
            number: numbers.get(n),
            row: rows.get(n),
            id: ids.get(n).map(str::to_string),
            kind: serde_json::from_str(kinds.get(n)?).ok()?,
            outcome: serde_json::from_str(outcomes.get(n)?).ok()?,
            what: whats.get(n)?.to_string().into(),
        })
    };
    (0..frame.height()).map(|n| problem(n).ok_or_else(broken)).collect()
}
