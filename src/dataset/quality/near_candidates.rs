//! Which texts may be alike: those whose signatures share a band.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::near_signature::{PLACES, Signature, agreement};
use crate::ops::union_find::UnionFind;
use crate::ops::vector::simd;

/// A pair of numbers of signatures.
pub(super) type Pair = (u32, u32);

/// Signatures of one bucket that each of them is compared with.
const REACH: usize = 1024;
/// Candidates that one signature has in a bucket: the likeliest ones. Large families of likes need
/// no more, since their members are joined through each other.
const LIKELIEST: usize = 8;

/// How signatures are cut into bands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bands {
    /// Bytes of a band, r.
    rows: usize,
    /// Bands, b.
    pub count: usize,
    /// Places in which the signatures of candidates agree at least.
    least: u32,
}

impl Bands {
    /// The longest bands with which a pair at the threshold is missed in at most 2 of 100 cases.
    pub fn new(threshold: f64) -> Self {
        let missed = |rows: usize| (1.0 - threshold.powi(rows as i32)).powi((PLACES / rows) as i32);
        let rows = (1..=PLACES / 8).rev().find(|&rows| missed(rows) <= 0.02).unwrap_or(1);
        // A place agrees because the shingle is the same, or because its byte is by chance; three
        // standard deviations below what is expected at the threshold lies one pair in a thousand.
        let agrees = threshold + (1.0 - threshold) / 256.0;
        let places = PLACES as f64;
        let least = places * agrees - 3.0 * (places * agrees * (1.0 - agrees)).sqrt();
        Self { rows, count: PLACES / rows, least: least.floor().max(1.0) as u32 }
    }

    /// The hash of a band of each signature, equal ones beside each other.
    fn keys(&self, band: usize, signatures: &[Signature]) -> Vec<(u64, u32)> {
        let bytes = band * self.rows..(band + 1) * self.rows;
        let key = |(n, signature): (usize, &Signature)| (xxh3_64(&signature[bytes.clone()]), n as u32);
        let mut keys: Vec<(u64, u32)> = signatures.par_iter().enumerate().map(key).collect();
        keys.par_sort_unstable();
        keys
    }

    /// The candidates among some signatures that share this band, without pairs that are joined
    /// already and those that were refused (ascending).
    pub fn within(
        &self,
        band: usize,
        signatures: &[Signature],
        joined: &UnionFind,
        refused: &[Pair],
    ) -> Vec<Pair> {
        let keys = self.keys(band, signatures);
        let buckets: Vec<&[(u64, u32)]> =
            keys.chunk_by(|a, b| a.0 == b.0).filter(|bucket| bucket.len() > 1).collect();
        let pairs = buckets.par_iter().flat_map_iter(|bucket| {
            let roots: Vec<u32> = bucket.iter().map(|(_, n)| joined.root(*n)).collect();
            let mut found = Vec::new();
            if roots.iter().any(|root| *root != roots[0]) {
                for i in 0..bucket.len() {
                    let (a, reach) = (bucket[i].1, bucket.len().min(i + 1 + REACH));
                    let others = (i + 1..reach).filter(|&j| roots[j] != roots[i]).map(|j| bucket[j].1);
                    let open = |b| refused.binary_search(&(a, b)).is_err();
                    let likely = self.likeliest(&signatures[a as usize], others, signatures, open);
                    found.extend(likely.into_iter().map(|b| (a, b)));
                }
            }
            found
        });
        pairs.collect()
    }

    /// The candidates of one of `left` and one of `right`.
    pub fn between(&self, left: &[Signature], right: &[Signature]) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for band in 0..self.count {
            let (lefts, rights) = (self.keys(band, left), self.keys(band, right));
            pairs.par_extend(rights.par_iter().flat_map_iter(|&(key, b)| {
                let begin = lefts.partition_point(|(other, _)| *other < key);
                let bucket = lefts[begin..].iter().take_while(|(other, _)| *other == key);
                let likely =
                    self.likeliest(&right[b as usize], bucket.take(REACH).map(|(_, a)| *a), left, |_| true);
                likely.into_iter().map(move |a| (a, b))
            }));
        }
        pairs.par_sort_unstable();
        pairs.dedup();
        pairs
    }

    /// Those of `others` that are open and whose signatures agree best with this one, if well enough.
    fn likeliest(
        &self,
        signature: &Signature,
        others: impl Iterator<Item = u32>,
        signatures: &[Signature],
        open: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let mut likely: Vec<(u32, u32)> = Vec::new();
        simd(
            #[inline(always)]
            || {
                for n in others {
                    let places = agreement(signature, &signatures[n as usize]);
                    if places >= self.least && open(n) {
                        likely.push((PLACES as u32 - places, n));
                    }
                }
            },
        );
        if likely.len() > LIKELIEST {
            likely.select_nth_unstable(LIKELIEST);
            likely.truncate(LIKELIEST);
        }
        likely.into_iter().map(|(_, n)| n).collect()
    }
}
