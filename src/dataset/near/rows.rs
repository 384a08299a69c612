//! What a row says as one text, and the signatures of a dataset.

use std::ops::Range;

use rayon::prelude::*;

use super::{Signatures, Signer, Texts};
use crate::dataset::Dataset;
use crate::dataset::store::Piece;
use crate::dataset::table::Rows;
use crate::error::Result;

/// Everything that row `i` says: the system text, all turns, those of a rejected answer too, or the
/// plain text, a line each.
pub(in crate::dataset) fn said(rows: Rows<'_>, i: usize, text: &mut String) {
    text.clear();
    text.push_str(rows.system(i).unwrap_or_default());
    text.push_str(rows.system_extra(i).unwrap_or_default());
    let turns = rows
        .turns(i)
        .chain(rows.rejected(i))
        .flat_map(|turn| [Some(turn.content), turn.tool_calls, turn.extra]);
    for part in turns.chain([rows.text(i)]).flatten() {
        text.push('\n');
        text.push_str(part);
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

    /// Works on the pieces that hold some of these rows (ascending), and on no others: `work` is
    /// given a piece, the number of its first row, and which of the rows it holds.
    pub(in crate::dataset) fn holding<T: Send>(
        &self,
        wanted: &[u32],
        work: impl Fn(Rows<'_>, usize, &[u32]) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let before = |row: usize| wanted.partition_point(|&wanted| (wanted as usize) < row);
        let store = self.store()?;
        let pieces = store.cut(self.0.rows.as_deref());
        let ends = pieces.iter().skip(1).map(|piece| piece.first).chain([self.len()]);
        let held = pieces.iter().zip(ends).map(|(piece, end)| (piece, before(piece.first)..before(end)));
        let held: Vec<_> = held.filter(|(_, range)| !range.is_empty()).collect();
        let piece = |(piece, range): (&Piece<'_>, Range<usize>)| {
            store.on(piece, &|rows: Rows<'_>, first| work(rows, first, &wanted[range.clone()]))
        };
        held.into_par_iter().map(piece).collect()
    }
}

impl Texts for Dataset {
    fn visit(&self, wanted: &[u32], visit: &(dyn Fn(u32, &str) + Sync)) -> Result<()> {
        self.holding(wanted, |rows, first, wanted| {
            let mut text = String::new();
            for &row in wanted {
                said(rows, row as usize - first, &mut text);
                visit(row, &text);
            }
            Ok(())
        })?;
        Ok(())
    }
}
