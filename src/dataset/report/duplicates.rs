//! Rows that say the same, exactly or nearly.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::ReportConfig;
use crate::dataset::Dataset;
use crate::dataset::near::{Signatures, said};
use crate::display::cut;
use crate::error::Result;

/// Where a row stands, and how it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowBrief {
    /// Its number in the dataset, from 0.
    pub row: u64,
    /// The line of its file, from 1.
    pub line: u32,
    /// Its id.
    pub id: String,
    /// Its length in the report's unit; 0 where it was not asked for.
    pub length: u64,
    /// The first characters of what it says, in one line.
    pub text: String,
}

/// Rows in groups of likes.
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

impl Dataset {
    /// Rows with equal hashes.
    pub(super) fn exact(&self, hashes: &[u64], shown: usize) -> Result<Duplicates> {
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
        self.duplicates(1.0, groups, shown, |_| true)
    }

    /// Rows whose texts are alike, equal ones included.
    pub(super) fn near(
        &self,
        signatures: &Signatures,
        hashes: &[u64],
        config: &ReportConfig,
    ) -> Result<Duplicates> {
        let groups = signatures.clusters(config.near, self)?;
        let differ = |rows: &[u32]| rows.iter().any(|&row| hashes[row as usize] != hashes[rows[0] as usize]);
        self.duplicates(config.near, groups, config.shown, differ)
    }

    /// `groups` are ordered by their first rows; of them those that are `worth` it are shown.
    fn duplicates(
        &self,
        similarity: f64,
        mut groups: Vec<Vec<u32>>,
        shown: usize,
        worth: impl Fn(&[u32]) -> bool,
    ) -> Result<Duplicates> {
        const MEMBERS: usize = 5;
        let (count, rows) = (groups.len() as u64, groups.iter().map(|rows| rows.len() as u64).sum());
        groups.retain(|rows| worth(rows));
        groups.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
        groups.truncate(shown);
        let members: Vec<u32> = groups.iter().flat_map(|rows| rows.iter().take(MEMBERS)).copied().collect();
        let mut briefs = self.briefs(&members)?.into_iter();
        let cluster = |rows: Vec<u32>| Cluster {
            size: rows.len() as u64,
            rows: briefs.by_ref().take(rows.len().min(MEMBERS)).collect(),
        };
        Ok(Duplicates { similarity, groups: count, rows, largest: groups.into_iter().map(cluster).collect() })
    }

    /// Where some rows stand and how they begin, in the order of `rows`.
    pub(super) fn briefs(&self, rows: &[u32]) -> Result<Vec<RowBrief>> {
        const CHARACTERS: usize = 120;
        let mut wanted: Vec<u32> = rows.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let pieces = self.holding(&wanted, |rows, first, wanted| {
            let mut text = String::new();
            let brief = |&row: &u32| {
                let i = row as usize - first;
                said(rows, i, &mut text);
                let text = cut(&one_line(&text, CHARACTERS), CHARACTERS);
                let id = rows.id(i).to_string();
                RowBrief { row: u64::from(row), line: rows.line(i), id, length: 0, text }
            };
            Ok(wanted.iter().map(brief).collect::<Vec<_>>())
        })?;
        let briefs: HashMap<u64, RowBrief> =
            pieces.into_iter().flatten().map(|brief| (brief.row, brief)).collect();
        Ok(rows.iter().filter_map(|row| briefs.get(&u64::from(*row)).cloned()).collect())
    }
}

/// The beginning of a text, with a space for each run of white space: somewhat more than `limit`
/// characters of it.
fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() > 4 * limit {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // A word may be as long as the text.
        line.extend(word.chars().take(limit + 1));
    }
    line
}
