//! Packing: concatenates the rows of a batch without padding.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Example;
use crate::error::{Error, Result};

/// Rows concatenated to one sequence of T tokens.
///
/// Attention stays inside a row: token t of row i sees the tokens `borders[i]..=t`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pack {
    /// The tokens, `[T]`.
    pub ids: Vec<u32>,
    /// The position of each token in its row, from 0, `[T]`.
    pub positions: Vec<u32>,
    /// The target of each token, `[T]`: the next token of the same row if that is trained on; `None` at the last token
    /// of every row.
    pub targets: Vec<Option<u32>>,
    /// Where the rows begin, then the number of tokens: `[rows + 1]` (FlashAttention's `cu_seqlens`).
    pub borders: Vec<usize>,
    /// The index of the example of each row, `[rows]`.
    pub examples: Vec<usize>,
}

impl Pack {
    /// The number of tokens T.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The tokens of each row.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.borders.windows(2).map(|border| border[0]..border[1])
    }

    /// The number of targets.
    pub fn trained_tokens(&self) -> usize {
        self.targets.iter().flatten().count()
    }

    fn push(&mut self, index: usize, example: &Example) {
        let next = example.ids.iter().zip(&example.trained).skip(1);
        self.targets.extend(next.map(|(&id, &trained)| trained.then_some(id)).chain([None]));
        self.positions.extend(0..example.ids.len() as u32);
        self.ids.extend(&example.ids);
        if self.borders.is_empty() {
            self.borders.push(0);
        }
        self.borders.push(self.ids.len());
        self.examples.push(index);
    }
}

/// Packs examples into as few sequences of at most `context` tokens as best-fit decreasing finds.
///
/// Longest first, each row goes into the fullest sequence that has room, which needs at most 11/9 of
/// the least number of sequences, plus one (Johnson 1973). Order inside a batch has no meaning (the
/// loss is a sum over the batch), so fewer sequences are worth more than the order of the rows;
/// ties are broken by place, so the same examples always give the same packs. Within a pack the
/// rows stand in the order of the examples, and packs in the order of their first row. Examples
/// without tokens are left out.
///
/// # Errors
/// A row longer than `context`: rows are never cut, as a cut row loses the token that ends it.
///
/// # Examples
/// ```
/// use lorascope::text::{Example, pack};
///
/// let row = |ids: &[u32]| Example { ids: ids.to_vec(), trained: vec![true; ids.len()] };
/// let rows = [row(&[5, 6, 7]), row(&[8, 9])];
/// let packs = pack(&[&rows[0], &rows[1]], 8)?;
/// assert_eq!(packs[0].ids, [5, 6, 7, 8, 9]);
/// assert_eq!(packs[0].positions, [0, 1, 2, 0, 1]);
/// assert_eq!(packs[0].targets, [Some(6), Some(7), None, Some(9), None]);
/// assert_eq!(packs[0].borders, [0, 3, 5]);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn pack(examples: &[&Example], context: usize) -> Result<Vec<Pack>> {
    if let Some((n, example)) = examples.iter().enumerate().find(|(_, example)| example.len() > context) {
        return Err(Error::input(format!(
            "row {} of the batch has {} tokens, more than the context of {context}",
            n + 1,
            example.len()
        ))
        .help("raise the context, or leave out rows that are longer"));
    }
    let mut longest_first: Vec<usize> = (0..examples.len()).filter(|&n| !examples[n].is_empty()).collect();
    longest_first.sort_by_key(|&n| std::cmp::Reverse(examples[n].len()));

    let mut bins: Vec<Vec<usize>> = Vec::new();
    // The room in each sequence and its number: the fullest first, and of those the oldest.
    let mut rooms: BTreeSet<(usize, usize)> = BTreeSet::new();
    for n in longest_first {
        let length = examples[n].len();
        let (room, bin) = match rooms.range((length, 0)..).next().copied() {
            Some(fullest) => {
                rooms.remove(&fullest);
                fullest
            }
            None => {
                bins.push(Vec::new());
                (context, bins.len() - 1)
            }
        };
        bins[bin].push(n);
        rooms.insert((room - length, bin));
    }
    bins.iter_mut().for_each(|rows| rows.sort_unstable());
    bins.sort_unstable();

    let packed = bins.into_iter().map(|rows| {
        let mut pack = Pack::default();
        rows.into_iter().for_each(|n| pack.push(n, examples[n]));
        pack
    });
    Ok(packed.collect())
}

/// The number of sequences that [`pack`] makes of rows of these lengths; rows that are empty or
/// longer than `context` are left out. Takes some 20 ms for 250,000 rows.
///
/// # Examples
/// ```
/// use lorascope::text::packed;
///
/// // 9 + 1, 7 + 3, 5 + 4
/// assert_eq!(packed(&[3, 9, 4, 1, 7, 5], 10), 3);
/// ```
pub fn packed(lengths: &[u32], context: u32) -> usize {
    let mut longest_first: Vec<u32> = lengths.iter().copied().filter(|n| (1..=context).contains(n)).collect();
    longest_first.sort_unstable_by(|a, b| b.cmp(a));
    let mut sequences = 0;
    // How many sequences have this much room.
    let mut rooms: BTreeMap<u32, usize> = BTreeMap::new();
    for length in longest_first {
        let room = rooms.range(length..).next().map(|(&room, _)| room);
        match room.and_then(|room| rooms.get_mut(&room)) {
            Some(1) => rooms.remove(&room.unwrap_or_default()).unwrap_or_default(),
            Some(number) => std::mem::replace(number, *number - 1),
            None => {
                sequences += 1;
                0
            }
        };
        *rooms.entry(room.unwrap_or(context) - length).or_default() += 1;
    }
    sequences
}
