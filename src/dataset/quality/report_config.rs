//! How a report looks at the rows.

use serde::{Deserialize, Serialize};

use super::near::{THRESHOLD, check};
use crate::error::{Error, Result};

/// How [`Dataset::report_as`](crate::dataset::Dataset::report_as) looks at the rows.
///
/// # Examples
/// ```
/// use lorascope::dataset::ReportConfig;
///
/// let config = ReportConfig { contexts: vec![8192], ..Default::default() };
/// assert_eq!((config.near, config.batches.len()), (0.8, 5));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Contexts for which the report says what they leave out, in tokens, or in characters where no
    /// tokenizer is given.
    pub contexts: Vec<u64>,
    /// Length of the sequences that rows are packed into, in the same unit.
    pub packing: u64,
    /// Batch sizes whose padding is compared with packing.
    pub batches: Vec<u64>,
    /// The similarity from which on two rows are near-duplicates, from 0.5 to 1.
    pub near: f64,
    /// How many clusters, openings, and shortest and longest rows are shown.
    pub shown: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            contexts: vec![512, 1024, 2048, 4096],
            packing: 2048,
            batches: vec![1, 4, 8, 16, 32],
            near: THRESHOLD,
            shown: 8,
        }
    }
}

impl ReportConfig {
    pub(super) fn check(&self) -> Result<()> {
        let zero = |what: &str| {
            Err(Error::input(format_args!("a report on {what} of 0 says nothing")).help("give 1 or more"))
        };
        if self.packing == 0 || self.contexts.contains(&0) {
            return zero("a context");
        }
        if self.batches.contains(&0) {
            return zero("a batch");
        }
        check(self.near)
    }
}
