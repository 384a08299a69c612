//! Groups of rows with the same content, exactly or nearly.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::gather::Gathered;
use super::report_config::ReportConfig;
use super::row_briefs::{Looks, RowBrief};
use crate::dataset::Dataset;
use crate::error::Result;

/// Groups of duplicates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Duplicates {
    /// The similarity from which on rows are alike: 1 where they are equal.
    pub similarity: f64,
    /// Groups of two or more rows.
    pub groups: u64,
    /// Rows in all these groups; keeping the first of each leaves out `rows - groups`.
    pub rows: u64,
    /// The largest groups, of equally large ones the first; of near-duplicates only groups whose rows
    /// are not all equal.
    pub largest: Vec<Cluster>,
}

/// A group of rows that say the same or nearly the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Rows in it.
    pub size: u64,
    /// The first of them, at most five.
    pub rows: Vec<RowBrief>,
}

/// Groups of rows, of which the largest are to be shown.
pub(super) struct Groups {
    similarity: f64,
    count: u64,
    rows: u64,
    largest: Vec<Vec<u32>>,
}

/// Rows of a group that are shown.
const MEMBERS: usize = 5;

impl Groups {
    /// Rows with equal hashes.
    pub fn exact(hashes: &[u64], shown: usize) -> Self {
        let mut first: HashMap<u64, u32> = HashMap::with_capacity(hashes.len());
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for (row, hash) in (0..).zip(hashes) {
            match *first.entry(*hash).or_insert(row) {
                head if head == row => {}
                head => groups.entry(head).or_insert_with(|| vec![head]).push(row),
            }
        }
        let mut groups: Vec<Vec<u32>> = groups.into_values().collect();
        groups.sort_unstable();
        Self::of(1.0, groups, shown, |_| true)
    }

    /// Rows whose texts are alike, equal ones included.
    pub fn near(data: &Dataset, found: &Gathered, config: &ReportConfig) -> Result<Self> {
        let groups = data.clusters_of(found.signatures.clone(), config.near)?;
        let hash = |row: u32| found.hashes[row as usize];
        let differ = |rows: &[u32]| rows.iter().any(|&row| hash(row) != hash(rows[0]));
        Ok(Self::of(config.near, groups, config.shown, differ))
    }

    /// `groups` are ordered by their first rows; of them those that are `worth` it are shown.
    fn of(similarity: f64, mut groups: Vec<Vec<u32>>, shown: usize, worth: impl Fn(&[u32]) -> bool) -> Self {
        let (count, rows) = (groups.len() as u64, groups.iter().map(|rows| rows.len() as u64).sum());
        groups.retain(|rows| worth(rows));
        groups.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
        groups.truncate(shown);
        Self { similarity, count, rows, largest: groups }
    }

    /// The rows that are shown.
    pub fn members(&self) -> impl Iterator<Item = u32> {
        self.largest.iter().flat_map(|rows| rows.iter().take(MEMBERS).copied())
    }

    pub fn told(self, looks: &Looks) -> Duplicates {
        let cluster = |rows: Vec<u32>| Cluster {
            size: rows.len() as u64,
            rows: rows.iter().take(MEMBERS).filter_map(|row| looks.brief(*row)).collect(),
        };
        Duplicates {
            similarity: self.similarity,
            groups: self.count,
            rows: self.rows,
            largest: self.largest.into_iter().map(cluster).collect(),
        }
    }
}
