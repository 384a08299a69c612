//! How a dataset was made, so that it can be made again: after a restart, from a run's state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::error::{Error, Result};
use crate::format::container;
use crate::format::fix::{Fix, Fixes};
use crate::format::options::ReadOptions;
use crate::format::problems::Problem;
use crate::format::read::not_read;

/// What was opened, and the steps that made a dataset out of it.
///
/// Small and serialisable: it holds no rows, only what is needed to find them again and to notice
/// that a file is no longer the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The file, folder or pattern, as an absolute path.
    pub path: PathBuf,
    /// The files, where several were named one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// How it was read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub options: ReadOptions,
    /// The size in bytes, of all files together.
    pub size: u64,
    /// XXH3 of the content, 128 bits in hexadecimal; for several files, XXH3 of their hashes.
    pub fingerprint: String,
    /// What was done to the rows, in order.
    pub steps: Vec<Step>,
}

fn is_default(options: &ReadOptions) -> bool {
    *options == ReadOptions::default()
}

/// One step of a [`Recipe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// One side of a split.
    Split {
        /// The share of rows on the first side.
        fraction: f64,
        /// Which of the possible splits.
        seed: u64,
        /// The side that was taken.
        part: Part,
    },
    /// Consecutive rows.
    Slice {
        /// The first row's number, from 0.
        offset: usize,
        /// How many rows.
        len: usize,
    },
    /// The rows that a filter or an order gave, by their numbers from 0.
    Keep {
        /// The numbers, in the new order.
        rows: Vec<u32>,
        /// What was asked for, in words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Rows drawn at random.
    Sample {
        /// How many.
        n: usize,
        /// Which of the possible samples.
        seed: u64,
    },
    /// Removed rows that repeat an earlier one.
    Dedup,
    /// Removed rows that nearly repeat an earlier one.
    DedupNear {
        /// The least similarity of two rows that count as one.
        threshold: f64,
    },
    /// Removed rows with problems.
    DropProblems,
    /// Kept or removed the rows in which a regular expression matches.
    Regex {
        /// The expression.
        pattern: String,
        /// Which rows were kept.
        keep: Keep,
    },
    /// Rows were repaired.
    Fix {
        /// How.
        fixes: Fixes,
    },
    /// The rows of another dataset were appended.
    Concat {
        /// How that dataset was made.
        with: Box<Recipe>,
    },
}

/// A side of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The share that `fraction` says.
    First,
    /// The rest.
    Second,
}

/// Which rows a regular expression keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those in which it matches.
    Matching,
    /// The others.
    Others,
}

/// What was opened.
#[derive(Debug)]
pub(super) struct Origin {
    pub path: PathBuf,
    pub options: ReadOptions,
    pub sources: Vec<Arc<Source>>,
    listed: Listed,
}

/// Whether files were named one by one or found by a folder or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Named,
    Found,
}

impl Origin {
    pub fn new(
        path: &Path,
        options: &ReadOptions,
        sources: Vec<Arc<Source>>,
        listed: Listed,
    ) -> Result<Self> {
        let path = match sources.as_slice() {
            [one] if path.is_file() => one.path.clone(),
            _ => std::path::absolute(path).map_err(|e| Error::io(path, e))?,
        };
        Ok(Self { path, options: options.clone(), sources, listed })
    }

    /// The folders in the one that was opened: their files are not read.
    pub fn aside(&self) -> impl Iterator<Item = (PathBuf, Vec<Problem>)> {
        let folders = match self.listed {
            Listed::Found => container::folders_below(&self.path),
            Listed::Named => Vec::new(),
        };
        let path = self.path.clone();
        folders.into_iter().map(move |folder| {
            let problem = not_read(&path);
            (folder, vec![problem])
        })
    }

    pub fn recipe(&self) -> Result<Recipe> {
        let full = self.sources.iter().map(|source| source.full()).collect::<Result<Vec<_>>>()?;
        let fingerprint = match full.as_slice() {
            [one] => one.fingerprint.clone(),
            several => {
                let all: Vec<&str> = several.iter().map(|full| full.fingerprint.as_str()).collect();
                container::hex(xxhash_rust::xxh3::xxh3_128(all.concat().as_bytes()))
            }
        };
        Ok(Recipe {
            path: self.path.clone(),
            files: match self.listed {
                Listed::Named if full.len() > 1 => {
                    self.sources.iter().map(|source| source.path.clone()).collect()
                }
                _ => Vec::new(),
            },
            options: self.options.clone(),
            size: self.sources.iter().map(|source| source.size).sum(),
            fingerprint,
            steps: Vec::new(),
        })
    }
}

impl Recipe {
    /// Compares what was opened with what it is now.
    pub(super) fn check(&self, now: &Self) -> Result<()> {
        if self.size == now.size && self.fingerprint == now.fingerprint {
            return Ok(());
        }
        Err(Error::state(format_args!(
            "the file has changed: it had {} bytes and the fingerprint {}, now {} bytes and {}",
            self.size, self.fingerprint, now.size, now.fingerprint
        ))
        .path(&self.path)
        .help("put the old file back, or open the new one with Dataset::open"))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Split { fraction, seed, part } => {
                let part = if *part == Part::First { "first" } else { "second" };
                write!(f, "split at {fraction}, seed {seed}: the {part} part")
            }
            Self::Slice { offset, len } => write!(f, "{len} rows from row {offset} on"),
            Self::Keep { rows, why } if why.is_empty() => write!(f, "{} rows by number", rows.len()),
            Self::Keep { why, .. } => f.write_str(why),
            Self::Sample { n, seed } => write!(f, "sample of {n}, seed {seed}"),
            Self::Dedup => f.write_str("dedup"),
            Self::DedupNear { threshold } => write!(f, "dedup of near-duplicates from {threshold} on"),
            Self::DropProblems => f.write_str("drop rows with problems"),
            Self::Regex { pattern, keep: Keep::Matching } => write!(f, "rows that match {pattern:?}"),
            Self::Regex { pattern, keep: Keep::Others } => write!(f, "rows that do not match {pattern:?}"),
            Self::Fix { fixes } => {
                let names: Vec<&str> = Vec::from(*fixes).into_iter().map(Fix::name).collect();
                write!(f, "fix {}", names.join(" | "))
            }
            Self::Concat { with } => write!(f, "and {}", with.path.display()),
        }
    }
}
