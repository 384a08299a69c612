//! How a dataset came about, so that it can be made again: after a restart, from a run's state.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A file and the steps that made a dataset out of it.
///
/// Small and serialisable: it holds no rows, only what is needed to find them again and to notice
/// that the file is no longer the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The file, as an absolute path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// XXH3 of its content, 128 bits in hexadecimal.
    pub fingerprint: String,
    /// What was done to its rows, in order.
    pub steps: Vec<Step>,
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
    /// The rows that a filter let through, by their numbers from 0.
    Keep {
        /// Ascending numbers.
        rows: Vec<u32>,
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

impl Recipe {
    /// Compares the file as it is now with what it was.
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
