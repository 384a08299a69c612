//! Opening files as a dataset, also from the web and from the Hugging Face hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::data::Dataset;
use super::recipe::{Listed, Origin};
use super::source::{self, Source, Storage};
use crate::error::{Error, Result};
use crate::format::read::Among;
use crate::format::{Map, ReadOptions, container};
#[cfg(feature = "hub")]
use crate::hub;
use crate::image;

impl Dataset {
    /// Opens a file, all data files of a folder, or those that a pattern such as `data/*.jsonl.gz`
    /// names.
    ///
    /// JSON lines, a JSON array, an object that holds an array, CSV or Parquet, plain, gzip or zstd: the content
    /// decides. Rows may have different schemas; [`RowSchema`](crate::format::RowSchema) lists the known ones.
    /// Records that cannot be used are left out and listed by [`problems`](Self::problems). So are the files of a
    /// folder that hold no rows, the folders in it, and the second list of an object that has several
    /// ([`ReadOptions::list`] reads it).
    ///
    /// # Errors
    /// If there is no such file, if it is empty or of no known container, or if none of its records
    /// is a row of a known schema; the message then shows the keys that were seen, and a [`Map`] to
    /// open it with.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// Opens a file that has none of the known schemas; `map` says where the turns are.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
    /// # let path = folder.path().join("quiz.jsonl");
    /// # std::fs::write(&path, r#"{"q": {"text": "1 + 1 = ?"}, "ans": "2"}"#).unwrap();
    /// use lorascope::dataset::Dataset;
    /// use lorascope::format::Map;
    ///
    /// let data = Dataset::open_as(&path, Map::new().user("q.text").assistant("ans"))?;
    /// assert_eq!(data.conversation(0)?[1].text(), "2");
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn open_as(path: impl AsRef<Path>, map: Map) -> Result<Self> {
        Self::open_with(path, &ReadOptions { map: Some(map), ..Default::default() })
    }

    /// Opens a file with explicit options.
    ///
    /// # Errors
    /// As for [`open`](Self::open); with [`OnFault::Fail`](crate::format::OnFault::Fail) also at the first fault.
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

    /// Downloads a file from a URL into the cache, and opens it. An interrupted download is continued; the
    /// checksum is stored.
    ///
    /// # Errors
    /// Those of [`fetch_url`](crate::hub::fetch_url) and [`open`](Self::open).
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
        Self::url_with(address, &hub::RemoteOptions::default(), &ReadOptions::default())
    }

    /// Like [`url`](Self::url), with options.
    ///
    /// # Errors
    /// As for [`url`](Self::url).
    #[cfg(feature = "hub")]
    pub fn url_with(address: &str, fetching: &hub::RemoteOptions, reading: &ReadOptions) -> Result<Self> {
        Self::open_files(&[hub::fetch_url(address, fetching)?], reading)
    }

    /// Downloads the training rows of a dataset of the Hugging Face hub into the hub's own cache, and opens them.
    /// `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` apply.
    ///
    /// # Errors
    /// Those of [`hub_files`](crate::hub::hub_files) and [`open`](Self::open).
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
        Self::hub_with(id, &hub::RemoteOptions::default(), &ReadOptions::default())
    }

    /// Like [`hub`](Self::hub), with options: another branch, other files.
    ///
    /// # Errors
    /// As for [`hub`](Self::hub).
    #[cfg(feature = "hub")]
    pub fn hub_with(id: &str, fetching: &hub::RemoteOptions, reading: &ReadOptions) -> Result<Self> {
        Self::open_files(&hub::hub_files(id, fetching)?, reading)
    }

    fn of_files(path: &Path, files: Vec<PathBuf>, options: &ReadOptions, listed: Listed) -> Result<Self> {
        let size: u64 = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|m| m.len()).sum();
        let place = if size > source::big() { Storage::Cache } else { Storage::Memory };
        let among = match listed {
            Listed::Found if files.len() > 1 => Among::Others,
            _ => Among::Alone,
        };
        let open = |file: &PathBuf| Source::open(file, options, place, among).map(Arc::new);
        let sources: Vec<Arc<Source>> = files.iter().map(open).collect::<Result<_>>()?;
        if let (Storage::Memory, Among::Others, Some(first)) = (place, among, files.first())
            && sources.iter().map(|source| Ok(source.full()?.len())).sum::<Result<usize>>()? == 0
        {
            // It says why it cannot be read.
            Source::open(first, options, place, Among::Alone)?;
        }
        let origin = Origin::new(path, options, sources.clone(), listed)?;
        Ok(Self::of(Arc::new(origin), sources, None, Vec::new(), None))
    }
}
