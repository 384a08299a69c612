//! What a row says as one text, and the signatures of a dataset.

use std::ops::Range;

use rayon::prelude::*;

use super::near::{Signatures, Texts, check};
use super::near_signature::Signer;
use crate::dataset::Dataset;
use crate::dataset::store::StorePiece;
use crate::dataset::table::Rows;
use crate::error::Result;
use crate::format::schema::layout::List;

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

/// What is to be learned of a row, beside what it says: whether its label is a bad one, with which tools at
/// hand, which answers have weight 0, and which of two answers is the chosen one. 0 of most rows.
fn verdict(rows: Rows<'_>, i: usize, signer: &mut Signer) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut said = false;
    let mut add = |bytes: &[u8]| {
        hash.update(bytes);
        said = true;
    };
    if rows.label(i) == Some(false) {
        add(b"bad");
    }
    // With tools at hand the same answer is another one.
    if let Some(tools) = rows.tools(i) {
        add(b"tools");
        add(tools.as_bytes());
    }
    let answers = rows.turns(i).filter(|turn| turn.role == "assistant").enumerate();
    for (n, _) in answers.filter(|(_, turn)| turn.weight == Some(0.0)) {
        add(&(n as u32).to_le_bytes());
    }
    if rows.is_preference(i) {
        let [_, chosen, rejected] = rows.counts(i);
        let mut said = |list, n| -> String {
            let parts = |n| {
                let turn = rows.turn(i, list, n)?;
                Some(
                    [turn.content, turn.tool_calls.unwrap_or_default(), turn.extra.unwrap_or_default()]
                        .concat(),
                )
            };
            signer.plain(&(0..n).filter_map(parts).collect::<String>()).to_string()
        };
        // Exchanged answers say the same, and the other way round.
        match said(List::Chosen, chosen).cmp(&said(List::Rejected, rejected)) {
            std::cmp::Ordering::Less => add(b"less"),
            std::cmp::Ordering::Greater => add(b"more"),
            std::cmp::Ordering::Equal => {}
        }
    }
    if said { hash.digest() } else { 0 }
}

impl Dataset {
    /// Groups of rows that say nearly the same: rows that are joined by pairs whose similarity is at
    /// least `threshold` ([`near::THRESHOLD`](super::near::THRESHOLD) is the usual one), and of which the same
    /// is to be learned: the same label and tools, the same turns of weight 0, the same answer chosen. The numbers
    /// of a group's rows ascend, and the groups stand in the order of their first rows.
    ///
    /// # Errors
    /// A threshold that is not from 0.5 to 1; rows that can no longer be read.
    pub fn near_duplicates(&self, threshold: f64) -> Result<Vec<Vec<u32>>> {
        check(threshold)?;
        self.clusters_of(self.signatures()?, threshold)
    }

    /// Groups of rows that are alike and of which the same is to be learned, out of the signatures of all
    /// rows.
    pub(in crate::dataset) fn clusters_of(
        &self,
        signatures: Signatures,
        threshold: f64,
    ) -> Result<Vec<Vec<u32>>> {
        let verdicts = self.pieces(|rows, _| {
            let mut signer = Signer::default();
            Ok((0..rows.len()).map(|i| verdict(rows, i, &mut signer)).collect::<Vec<_>>())
        })?;
        let mut groups = Vec::new();
        for part in signatures.by_verdict(&verdicts.concat()) {
            groups.append(&mut part.clusters(threshold, self)?);
        }
        groups.sort_unstable();
        Ok(groups)
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
        let piece = |(piece, range): (&StorePiece<'_>, Range<usize>)| {
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
