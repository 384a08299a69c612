//! A file of rows: its head is read at once, all of it when it is needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::DataFrame;

use super::cache::{Cached, Entry};
use super::load::{self, Sink};
use super::store::Group;
use crate::error::{Error, Result};
use crate::format::container::absolute;
use crate::format::options::ReadOptions;
use crate::format::problems::{Outcome, Problem};
use crate::format::read::Among;

/// Files with more bytes than this are read when they are needed, and their rows go to the cache: 256 MB, or
/// `LORASCOPE_CACHE_ABOVE`.
pub(super) fn big() -> u64 {
    let said = std::env::var("LORASCOPE_CACHE_ABOVE").ok().and_then(|bytes| bytes.trim().parse().ok());
    said.unwrap_or(256 << 20)
}

/// Where the rows of a file are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    Memory,
    Cache,
}

/// One file, and what has been read of it.
#[derive(Debug)]
pub(super) struct Source {
    /// An absolute path.
    pub path: PathBuf,
    pub options: ReadOptions,
    pub size: u64,
    place: Storage,
    among: Among,
    modified: Option<std::time::SystemTime>,
    /// The first rows, until all have been read.
    head: Option<Arc<DataFrame>>,
    full: Mutex<Option<Arc<Full>>>,
}

/// All of a file.
#[derive(Debug)]
pub(super) struct Full {
    pub groups: Vec<Group>,
    /// Records that became no row.
    pub rejected: usize,
    /// How many [`problems`](Self::problems) there are; known without reading them.
    pub faults: usize,
    pub fingerprint: String,
    problems: Listed,
}

#[derive(Debug)]
enum Listed {
    Here(Arc<Vec<Problem>>),
    Cached(Arc<Cached>, Mutex<Option<Arc<Vec<Problem>>>>),
}

impl Full {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.groups.iter().map(Group::len).sum()
    }

    /// What is wrong with the file's records, in their order.
    pub fn problems(&self) -> Result<Arc<Vec<Problem>>> {
        let (cached, known) = match &self.problems {
            Listed::Here(problems) => return Ok(problems.clone()),
            Listed::Cached(cached, known) => (cached, known),
        };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(Arc::new(cached.problems()?));
        }
        known.clone().ok_or_else(|| Error::compute("the problems have not been read"))
    }

    /// The cache file that holds the rows.
    pub fn cached(&self) -> Option<&Path> {
        match &self.problems {
            Listed::Here(_) => None,
            Listed::Cached(cached, _) => Some(cached.path()),
        }
    }
}

impl Source {
    /// Opens a file: reads all of it into memory, or finds it in the cache, or reads its head.
    pub fn open(path: &Path, options: &ReadOptions, place: Storage, among: Among) -> Result<Self> {
        let absolute = absolute(path)?;
        let about = std::fs::metadata(&absolute).map_err(|e| Error::io(path, e))?;
        let mut source = Self {
            path: absolute,
            options: options.clone(),
            size: about.len(),
            place,
            among,
            modified: about.modified().ok(),
            head: None,
            full: Mutex::new(None),
        };
        let full = match place {
            Storage::Memory => Some(source.read()?),
            Storage::Cache => source.find(),
        };
        match full {
            Some(full) => source.full = Mutex::new(Some(Arc::new(full))),
            None => source.head = load::head(&source.path, options, among)?.map(Arc::new),
        }
        Ok(source)
    }

    /// The same file, read in another way.
    pub fn reopen(&self, options: &ReadOptions) -> Result<Self> {
        Self::open(&self.path, options, self.place, self.among)
    }

    /// The first rows, where not all have been read yet.
    pub fn head(&self) -> Option<Arc<DataFrame>> {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        self.head.clone().filter(|_| full.is_none())
    }

    /// All of the file; reads it the first time.
    ///
    /// # Errors
    /// Those of reading; a file that has changed since it was opened.
    pub fn full(&self) -> Result<Arc<Full>> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full) = full.as_ref() {
            return Ok(full.clone());
        }
        let about = std::fs::metadata(&self.path).map_err(|e| Error::io(&self.path, e))?;
        if about.len() != self.size || about.modified().ok() != self.modified {
            return Err(Error::state("the file has changed since it was opened")
                .path(&self.path)
                .help("open it again"));
        }
        let read = Arc::new(self.read()?);
        *full = Some(read.clone());
        Ok(read)
    }

    fn find(&self) -> Option<Full> {
        let (about, cached) = Entry::of(&self.path, &self.options)?.find()?;
        Some(Full {
            groups: Group::of(&cached).collect(),
            rejected: about.rejected,
            faults: about.problems,
            fingerprint: about.fingerprint,
            problems: Listed::Cached(cached, Mutex::default()),
        })
    }

    fn read(&self) -> Result<Full> {
        let entry = match self.place {
            Storage::Memory => None,
            Storage::Cache => Entry::of(&self.path, &self.options),
        };
        let read = load::read(&self.path, &self.options, entry, self.among)?;
        let faults = read.problems.len();
        let rejected = read.problems.iter().filter(|p| p.outcome == Outcome::Rejected).count();
        let (groups, problems) = match read.sink {
            Sink::Memory(frames) => {
                let groups = frames.into_iter().map(|frame| Group::Memory(Arc::new(frame))).collect();
                (groups, Listed::Here(Arc::new(read.problems)))
            }
            Sink::Cache(writer) => {
                let cached = writer.finish(rejected, read.fingerprint.clone(), &read.problems)?;
                (
                    Group::of(&cached).collect(),
                    Listed::Cached(cached, Mutex::new(Some(Arc::new(read.problems)))),
                )
            }
        };
        Ok(Full { groups, rejected, faults, fingerprint: read.fingerprint, problems })
    }
}
