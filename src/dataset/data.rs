//! The dataset: its files, its rows, and the steps that made it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::counted::{Bound, Counted};
use super::recipe::{Origin, Step};
use super::source::Source;
use super::store::Store;
use super::table::Rows;
use crate::display::StopButton;
use crate::error::{Error, Result};
use crate::format::container::hex;

/// Rows of conversations, in one canonical table.
///
/// A cheap handle: clones share the rows, and every verb returns a new dataset and leaves this one
/// as it is.
///
/// A file of more than 256 MB (`LORASCOPE_CACHE_ABOVE`, in bytes) is converted once to canonical form and kept as
/// Parquet in the user's cache folder (`LORASCOPE_CACHE` names another one). Opening such a file reads only its
/// head, or finds it in the cache; all of it is read when something first needs all rows.
///
/// # Examples
/// ```
/// use lorascope::dataset::Dataset;
/// use lorascope::format::RowSchema;
///
/// let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
/// let path = folder.path().join("rows.jsonl");
/// std::fs::write(&path, r#"{"instruction": "1 + 1 = ?", "input": "", "output": "2"}"#).unwrap();
///
/// let data = Dataset::open(&path)?;
/// assert_eq!(data.len(), 1);
/// assert_eq!(data.conversation(0)?[1].text(), "2");
/// let written = data.write(folder.path().join("talk.json"), RowSchema::ShareGpt)?;
/// assert_eq!(written.rows, 1);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Dataset(pub(super) Arc<DatasetState>);

/// What the clones of a dataset share.
pub(super) struct DatasetState {
    pub origin: Arc<Origin>,
    /// The files of the origin, and those of datasets that were appended.
    pub sources: Vec<Arc<Source>>,
    /// The rows of all sources, one after the other.
    pub store: OnceLock<Arc<Store>>,
    /// The numbers of the store's rows that belong to this dataset, in its order; `None` for all.
    pub rows: Option<Arc<[u32]>>,
    pub steps: Vec<Done>,
    pub tokenizer: Option<Bound>,
    /// The tokens of every row, once they are counted.
    pub tokens: OnceLock<Arc<Vec<Counted>>>,
}

/// A step that was taken, and how many rows there were before and after.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub step: Step,
    pub before: usize,
    pub after: usize,
}

impl Dataset {
    pub(super) fn of(
        origin: Arc<Origin>,
        sources: Vec<Arc<Source>>,
        rows: Option<Arc<[u32]>>,
        steps: Vec<Done>,
        tokenizer: Option<Bound>,
    ) -> Self {
        let (store, tokens) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(DatasetState { origin, sources, store, rows, steps, tokenizer, tokens }))
    }

    /// All rows of all files; reads what has not been read.
    pub(super) fn store(&self) -> Result<&Arc<Store>> {
        if let Some(store) = self.0.store.get() {
            return Ok(store);
        }
        let full = self.0.sources.iter().map(|source| source.full()).collect::<Result<Vec<_>>>()?;
        let groups = full.iter().flat_map(|full| full.groups.iter().cloned());
        let store = Arc::new(Store::new(groups)?);
        Ok(self.0.store.get_or_init(|| store))
    }

    /// Returns the number of rows.
    ///
    /// A large file is read for it. If that fails, the number is 0, and the next call that can fail says why.
    pub fn len(&self) -> usize {
        match &self.0.rows {
            Some(rows) => rows.len(),
            None => self.store().map_or(0, |store| store.len()),
        }
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file, folder or pattern that was opened.
    pub fn path(&self) -> PathBuf {
        self.0.origin.path.clone()
    }

    /// Works on all rows, some consecutive ones at a time, on all processors. `work` is given the
    /// rows and the number of the first of them; the results come in the order of the rows.
    pub(super) fn pieces<T: Send>(
        &self,
        work: impl Fn(Rows<'_>, usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let store = self.store()?;
        let pieces = store.cut(self.0.rows.as_deref());
        let stop = StopButton::here();
        pieces.par_iter().map(|piece| stop.check().and_then(|()| store.on(piece, &work))).collect()
    }

    /// Like [`pieces`](Self::pieces), but hands each result on, in the order of the rows: only a few
    /// are in memory at a time.
    pub(super) fn in_order<T: Send>(
        &self,
        work: impl Fn(Rows<'_>, usize) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        let store = self.store()?;
        let pieces = store.cut(self.0.rows.as_deref());
        let mut done = Vec::new();
        let mut batches = pieces.chunks(4 * rayon::current_num_threads());
        let stop = StopButton::here();
        loop {
            stop.check()?;
            let batch = batches.next();
            let finished = std::mem::take(&mut done);
            let take = &mut take;
            let (taken, worked) = rayon::join(
                move || finished.into_iter().try_for_each(take),
                || {
                    batch
                        .unwrap_or_default()
                        .par_iter()
                        .map(|p| store.on(p, &work))
                        .collect::<Result<Vec<T>>>()
                },
            );
            taken?;
            done = worked?;
            if batch.is_none() {
                return Ok(());
            }
        }
    }

    /// Looks at row `i`.
    pub(super) fn at<T>(&self, i: usize, look: impl FnOnce(Rows<'_>, usize) -> T) -> Result<T> {
        if let (None, Some(head)) = (&self.0.rows, self.0.sources.first().and_then(|source| source.head()))
            && i < head.height()
        {
            return Ok(look(Rows::of(&head)?, i));
        }
        let store = self.store()?;
        let len = self.0.rows.as_ref().map_or(store.len(), |rows| rows.len());
        if i >= len {
            return Err(match len {
                0 => Error::input(format_args!("there is no row {i}: the dataset is empty")),
                len => Error::input(format_args!("there is no row {i}"))
                    .help(format_args!("the rows are numbered 0 to {}", len - 1)),
            });
        }
        let number = self.0.rows.as_ref().map_or(i as u32, |rows| rows[i]);
        let (frame, place) = store.row(number)?;
        Ok(look(Rows::of(&frame)?, place))
    }

    /// Returns the file that row `i` comes from, and the line on which it begins there.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn place(&self, i: usize) -> Result<(PathBuf, u64)> {
        let line = self.at(i, |rows, i| rows.line(i).into())?;
        let mut number = self.0.rows.as_ref().map_or(i, |rows| rows[i] as usize);
        for source in &self.0.sources {
            let rows = source.full()?.len();
            if number < rows {
                return Ok((source.path.clone(), line));
            }
            number -= rows;
        }
        Err(Error::compute(format_args!("row {i} belongs to no file")))
    }

    /// Returns a hash of the rows' content, in their order: equal for equal conversations, whatever file or schema
    /// they come from.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for row in self.hashes()? {
            hash.update(&row.to_le_bytes());
        }
        Ok(hex(hash.digest128()))
    }

    /// What each row says; see [`Rows::hash`].
    pub(super) fn hashes(&self) -> Result<Vec<u64>> {
        let hashes = self.pieces(|rows, _| Ok((0..rows.len()).map(|i| rows.hash(i)).collect::<Vec<_>>()))?;
        Ok(hashes.concat())
    }
}
