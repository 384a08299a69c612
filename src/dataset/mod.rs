//! Instruction-tuning data in one canonical table: opening, looking, cleaning, cutting, converting.
//!
//! A [`Dataset`] is opened from files whose container and row schema are found by looking at the
//! content. Whatever the schema, every row becomes a conversation in one polars table; records that
//! cannot be are listed, with their line and the way out, by [`Dataset::problems`].

mod cache;
mod chat;
mod container;
mod convert;
mod fix;
pub mod generate;
pub mod language;
mod line;
mod look;
mod map;
pub mod near;
mod options;
mod output;
mod overlap;
mod pipeline;
mod problems;
mod proposal;
mod python;
mod read;
mod recipe;
mod record;
#[cfg(feature = "hub")]
pub mod remote;
mod report;
mod schema;
mod show;
mod source;
mod spelling;
mod split;
mod steps;
mod store;
mod table;
mod tokens;
mod view;
mod words;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use polars::prelude::*;
use rayon::prelude::*;

pub use chat::Chat;
pub use convert::{Converted, convert};
pub use fix::{Fix, Fixes};
pub use line::RawLine;
pub use map::Map;
pub use options::{Join, OnFault, ReadOptions};
pub use overlap::{Overlap, Shared};
pub use problems::{Outcome, ProblemKind};
pub use recipe::{Keep, Part, Recipe, Step};
pub use report::{
    Canned, Cluster, ColumnSummary, Cut, Duplicates, Labels, Lengths, Margin, Numbers, Opening, Packing,
    Padding, Places, Preferences, ProblemCount, Report, ReportConfig, RowBrief, Sample, Spread, ToolCounts,
    Unit,
};
pub use schema::RowSchema;
pub use steps::Order;
pub use write::{Extra, Layout, Losses, Misfit, Misfits, WriteOptions, Written};

use crate::error::{Error, Result};
pub use crate::files::Existing;
use crate::image;
use crate::text::Message;
use problems::Problem;
use read::Among;
use recipe::{Listed, Origin};
use source::{Place, Source};
use store::Store;
use table::Rows;
pub(crate) use tokens::Lesson;

/// Rows of conversations, in one canonical table.
///
/// A cheap handle: clones share the rows, and every verb returns a new dataset and leaves this one
/// as it is.
///
/// A file of more than 256 MB (`LORASCOPE_CACHE_ABOVE`, in bytes) is brought into canonical form once and kept as Parquet in the user's
/// cache folder (`LORASCOPE_CACHE` names another one). Opening such a file reads its head only, or
/// finds it in the cache; all of it is read when something first needs all rows.
///
/// # Examples
/// ```
/// use lorascope::dataset::{Dataset, RowSchema};
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
pub struct Dataset(Arc<Inner>);

struct Inner {
    origin: Arc<Origin>,
    /// The files of the origin, and those of datasets that were appended.
    sources: Vec<Arc<Source>>,
    /// The rows of all sources, one after the other.
    store: OnceLock<Arc<Store>>,
    /// The numbers of the store's rows that belong to this dataset, in its order; `None` for all.
    rows: Option<Arc<[u32]>>,
    steps: Vec<Done>,
    tokenizer: Option<tokens::Bound>,
    /// The tokens of every row, once they are counted.
    tokens: OnceLock<Arc<Vec<tokens::Counted>>>,
}

/// A step that was taken, and how many rows there were before and after.
#[derive(Debug, Clone)]
struct Done {
    step: Step,
    before: usize,
    after: usize,
}

impl Dataset {
    /// Opens a file, all data files of a folder, or those that a pattern such as `data/*.jsonl.gz`
    /// names.
    ///
    /// JSON lines, a JSON array, an object that holds an array, CSV or Parquet, plain, gzip or zstd:
    /// the content says which. Each row may be of another schema; [`RowSchema`] lists the known
    /// ones. Records that cannot be used are left out and listed by [`problems`](Self::problems), and
    /// so are the files of a folder that hold no rows, the folders in it, and the second list of an
    /// object that has several ([`ReadOptions::list`] reads it).
    ///
    /// # Errors
    /// If there is no such file, if it is empty or of no known container, or if none of its records
    /// is a row of a known schema; the message then shows the keys that were seen, and a [`Map`] to
    /// open it with.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// Opens a file of no known schema; `map` tells where the turns are.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
    /// # let path = folder.path().join("quiz.jsonl");
    /// # std::fs::write(&path, r#"{"q": {"text": "1 + 1 = ?"}, "ans": "2"}"#).unwrap();
    /// use lorascope::dataset::{Dataset, Map};
    ///
    /// let data = Dataset::open_as(&path, Map::new().user("q.text").assistant("ans"))?;
    /// assert_eq!(data.conversation(0)?[1].text(), "2");
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn open_as(path: impl AsRef<Path>, map: Map) -> Result<Self> {
        Self::open_with(path, &ReadOptions { map: Some(map), ..Default::default() })
    }

    /// Opens a file in another way than by looking.
    ///
    /// # Errors
    /// As for [`open`](Self::open); with [`OnFault::Fail`] also at the first fault.
    pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        image::check()?;
        let path = path.as_ref();
        Self::of_files(path, container::files(path)?, options, Listed::Found)
    }

    /// Opens these files, in this order, as one dataset.
    ///
    /// # Errors
    /// As for [`open`](Self::open); without files.
    pub fn open_files<P: AsRef<Path>>(paths: &[P], options: &ReadOptions) -> Result<Self> {
        image::check()?;
        let files: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_path_buf()).collect();
        let first =
            files.first().ok_or_else(|| Error::input("there is no file to open").help("name one or more"))?;
        Self::of_files(&first.clone(), files, options, Listed::Named)
    }

    /// Fetches the file of an address on the web into the cache, and opens it. What breaks off goes
    /// on where it was; the checksum is kept.
    ///
    /// # Errors
    /// Those of [`fetch_url`](remote::fetch_url) and [`open`](Self::open).
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::dataset::Dataset;
    ///
    /// let address = "https://raw.githubusercontent.com/baichuan-inc/Baichuan2/main/fine-tune/data/belle_chat_ramdon_10k.json";
    /// let data = Dataset::url(address)?;
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    #[cfg(feature = "hub")]
    pub fn url(address: &str) -> Result<Self> {
        Self::url_with(address, &remote::RemoteOptions::default(), &ReadOptions::default())
    }

    /// Like [`url`](Self::url), in other ways.
    ///
    /// # Errors
    /// As for [`url`](Self::url).
    #[cfg(feature = "hub")]
    pub fn url_with(address: &str, fetching: &remote::RemoteOptions, reading: &ReadOptions) -> Result<Self> {
        Self::open_files(&[remote::fetch_url(address, fetching)?], reading)
    }

    /// Fetches the training rows of a dataset of the Hugging Face hub into the hub's own cache, and
    /// opens them. `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` hold.
    ///
    /// # Errors
    /// Those of [`hub_files`](remote::hub_files) and [`open`](Self::open).
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::dataset::Dataset;
    ///
    /// let data = Dataset::hub("BelleGroup/school_math_0.25M")?;
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    #[cfg(feature = "hub")]
    pub fn hub(id: &str) -> Result<Self> {
        Self::hub_with(id, &remote::RemoteOptions::default(), &ReadOptions::default())
    }

    /// Like [`hub`](Self::hub), in other ways: another branch, other files.
    ///
    /// # Errors
    /// As for [`hub`](Self::hub).
    #[cfg(feature = "hub")]
    pub fn hub_with(id: &str, fetching: &remote::RemoteOptions, reading: &ReadOptions) -> Result<Self> {
        Self::open_files(&remote::hub_files(id, fetching)?, reading)
    }

    fn of_files(path: &Path, files: Vec<PathBuf>, options: &ReadOptions, listed: Listed) -> Result<Self> {
        let size: u64 = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|m| m.len()).sum();
        let place = if size > source::big() { Place::Cache } else { Place::Memory };
        let among = match listed {
            Listed::Found if files.len() > 1 => Among::Others,
            _ => Among::Alone,
        };
        let open = |file: &PathBuf| Source::open(file, options, place, among).map(Arc::new);
        let sources: Vec<Arc<Source>> = files.iter().map(open).collect::<Result<_>>()?;
        if let (Place::Memory, Among::Others, Some(first)) = (place, among, files.first())
            && sources.iter().map(|source| Ok(source.full()?.len())).sum::<Result<usize>>()? == 0
        {
            // It says why it cannot be read.
            Source::open(first, options, place, Among::Alone)?;
        }
        let origin = Origin::new(path, options, sources.clone(), listed)?;
        Ok(Self::of(Arc::new(origin), sources, None, Vec::new(), None))
    }

    fn of(
        origin: Arc<Origin>,
        sources: Vec<Arc<Source>>,
        rows: Option<Arc<[u32]>>,
        steps: Vec<Done>,
        tokenizer: Option<tokens::Bound>,
    ) -> Self {
        let (store, tokens) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { origin, sources, store, rows, steps, tokenizer, tokens }))
    }

    /// All rows of all files; reads what has not been read.
    fn store(&self) -> Result<&Arc<Store>> {
        if let Some(store) = self.0.store.get() {
            return Ok(store);
        }
        let full = self.0.sources.iter().map(|source| source.full()).collect::<Result<Vec<_>>>()?;
        let groups = full.iter().flat_map(|full| full.groups.iter().cloned());
        let store = Arc::new(Store::new(groups)?);
        Ok(self.0.store.get_or_init(|| store))
    }

    /// The number of rows.
    ///
    /// A big file is read for it. If that fails there are 0 rows, and the next call that can fail
    /// says why.
    pub fn len(&self) -> usize {
        match &self.0.rows {
            Some(rows) => rows.len(),
            None => self.store().map_or(0, |store| store.len()),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file, folder or pattern that was opened.
    pub fn path(&self) -> PathBuf {
        self.0.origin.path.clone()
    }

    /// Works on all rows, some consecutive ones at a time, on all processors. `work` is given the
    /// rows and the number of the first of them; the results come in the order of the rows.
    fn pieces<T: Send>(&self, work: impl Fn(Rows<'_>, usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        let store = self.store()?;
        let pieces = store.cut(self.0.rows.as_deref());
        pieces.par_iter().map(|piece| store.on(piece, &work)).collect()
    }

    /// Like [`pieces`](Self::pieces), but hands each result on, in the order of the rows: only a few
    /// are in memory at a time.
    fn in_order<T: Send>(
        &self,
        work: impl Fn(Rows<'_>, usize) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()> + Send,
    ) -> Result<()> {
        let store = self.store()?;
        let pieces = store.cut(self.0.rows.as_deref());
        let mut done = Vec::new();
        let mut batches = pieces.chunks(4 * rayon::current_num_threads());
        loop {
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
    fn at<T>(&self, i: usize, look: impl FnOnce(Rows<'_>, usize) -> T) -> Result<T> {
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

    /// The messages of row `i`, counted from 0; a system text comes first. Of a preference these are
    /// the prompt and the chosen answer; a row of plain text has none.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn conversation(&self, i: usize) -> Result<Vec<Message>> {
        self.at(i, tokens::conversation)
    }

    /// The tools that the assistant of row `i` may call, as JSON.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn tools(&self, i: usize) -> Result<Option<String>> {
        self.at(i, |rows, i| rows.tools(i).map(str::to_string))
    }

    /// The file that row `i` comes from, and the line on which it begins there.
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

    /// What is wrong with the records: file, line, row (its number in this dataset, from 0, where the record
    /// is a row), id, kind, outcome (rejected, kept or repaired), what, fix. It joins with
    /// [`columns`](Self::columns) by `row`.
    ///
    /// A part of a dataset lists the faults of the rows that it holds; the rejected records belong
    /// to the dataset that was opened. These are the faults that are found while a file is read; the
    /// [`report`](Self::report) adds those that take a look at all rows, such as placeholders and
    /// refusals.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn problems(&self) -> Result<DataFrame> {
        self.problem_frame()
    }

    /// The problems of each file.
    fn listed(&self) -> Result<Vec<(PathBuf, Vec<Problem>)>> {
        let mut held = vec![self.0.rows.is_none(); self.store()?.len()];
        for &row in self.0.rows.iter().flat_map(|rows| rows.iter()) {
            held[row as usize] = true;
        }
        let mut first = 0;
        let mut listed = Vec::with_capacity(self.0.sources.len());
        for source in &self.0.sources {
            let full = source.full()?;
            let belongs = |p: &&Problem| match p.row {
                Some(row) => held[first + row as usize],
                None => self.0.rows.is_none(),
            };
            listed.push((source.path.clone(), full.problems()?.iter().filter(belongs).cloned().collect()));
            first += full.len();
        }
        if self.0.rows.is_none() {
            listed.extend(self.0.origin.aside());
        }
        Ok(listed)
    }

    /// The folders and files that lie where these rows come from and were not read, and why.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn not_read(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut all = Vec::new();
        let mut add = |path: &Path, problems: &[Problem]| {
            let not_read = |p: &&Problem| p.kind == ProblemKind::NotRead;
            all.extend(problems.iter().filter(not_read).map(|p| (path.to_path_buf(), p.what.to_string())));
        };
        for source in &self.0.sources {
            add(&source.path, &source.full()?.problems()?);
        }
        self.0.origin.aside().for_each(|(path, problems)| add(&path, &problems));
        Ok(all)
    }

    /// How many problems there are. Of whole files the number is known; the list of a big one is long.
    fn faults(&self) -> Result<usize> {
        match self.0.rows {
            None => {
                let faults = self.0.sources.iter().map(|source| Ok(source.full()?.faults));
                Ok(faults.sum::<Result<usize>>()? + self.0.origin.aside().count())
            }
            Some(_) => Ok(self.listed()?.iter().map(|(_, problems)| problems.len()).sum()),
        }
    }

    /// How many records of the files became no row; [`problems`](Self::problems) lists them.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn rejected(&self) -> Result<usize> {
        if self.0.rows.is_some() {
            return Ok(0);
        }
        let of = |source: &Arc<Source>| Ok(source.full()?.rejected);
        self.0.sources.iter().map(of).sum()
    }

    /// A hash of what the rows say, in their order: equal for equal conversations, whatever file
    /// or schema they come from.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for row in self.hashes()? {
            hash.update(&row.to_le_bytes());
        }
        Ok(container::hex(hash.digest128()))
    }

    /// What each row says; see [`Rows::hash`].
    fn hashes(&self) -> Result<Vec<u64>> {
        let hashes = self.pieces(|rows, _| Ok((0..rows.len()).map(|i| rows.hash(i)).collect::<Vec<_>>()))?;
        Ok(hashes.concat())
    }
}
