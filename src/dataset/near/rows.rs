//! What a row says as one text, and the signatures of a dataset.

use super::{Signatures, Signer, Texts};
use crate::dataset::Dataset;
use crate::dataset::table::Rows;
use crate::error::Result;

/// Everything that row `i` says: the system text and all turns, a line each.
pub(in crate::dataset) fn said(rows: Rows<'_>, i: usize, text: &mut String) {
    text.clear();
    text.push_str(rows.system(i).unwrap_or_default());
    for turn in rows.turns(i) {
        for part in [Some(turn.content), turn.tool_calls].into_iter().flatten() {
            text.push('\n');
            text.push_str(part);
        }
    }
}

impl Dataset {
    /// Groups of rows that say nearly the same: rows that are joined by pairs whose similarity is at
    /// least `threshold` ([`near::THRESHOLD`](super::THRESHOLD) is the usual one). The numbers of a
    /// group's rows ascend, and the groups stand in the order of their first rows.
    ///
    /// # Errors
    /// A threshold that is not from 0.5 to 1; rows that can no longer be read.
    pub fn near_duplicates(&self, threshold: f64) -> Result<Vec<Vec<u32>>> {
        super::check(threshold)?;
        self.signatures()?.clusters(threshold, self)
    }

    /// The signatures of what the rows say.
    pub(in crate::dataset) fn signatures(&self) -> Result<Signatures> {
        let pieces = self.pieces(|rows, _| {
            let (mut signer, mut text) = (Signer::default(), String::new());
            let sign = |i| {
                said(rows, i, &mut text);
                signer.sign(&text)
            };
            Ok((0..rows.len()).map(sign).collect())
        })?;
        Ok(Signatures::joined(pieces))
    }
}

impl Texts for Dataset {
    fn visit(&self, wanted: &[u32], visit: &(dyn Fn(u32, &str) + Sync)) -> Result<()> {
        self.pieces(|rows, first| {
            let begin = wanted.partition_point(|&row| (row as usize) < first);
            let end = wanted.partition_point(|&row| (row as usize) < first + rows.len());
            let mut text = String::new();
            for &row in &wanted[begin..end] {
                said(rows, row as usize - first, &mut text);
                visit(row, &text);
            }
            Ok(())
        })?;
        Ok(())
    }
}
