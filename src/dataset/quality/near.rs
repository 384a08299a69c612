//! Near-duplicates: texts that share most of their pieces, found without comparing all pairs.
//!
//! A text is the set of its pieces of five characters (shingles), white space, case and
//! full-width forms apart, which works for scripts with and without spaces. Two texts are as similar
//! as the Jaccard index of their sets, J = |A ∩ B| / |A ∪ B|. A MinHash signature keeps, for each of
//! 128 random orders of all shingles, a byte of the first one in the set: two signatures agree in a
//! place with probability J (Broder 1997, "On the resemblance and containment of documents"), or by
//! chance in one place of 256 (b-bit MinHash, Li & König 2010). Signatures are cut into b bands of r
//! bytes, and texts that share a band are candidates, which happens with probability
//! 1 − (1 − J^r)^b (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", section 3.4).
//! Candidates whose signatures agree well enough are compared by their real sets, so that nothing
//! below the threshold is found. What is missed is 1.5 % of the pairs at the default threshold of 0.8
//! (r = 7, b = 18), and 0.1 % of those at 0.85.
//!
//! An isolated change of one character replaces five shingles: of n, c such changes leave
//! J = (n − 5c) / (n + 5c), which is 0.8 at one change in 45 characters. School problems of the same
//! kind with other numbers and names come back changed in every step of the answer: half of such
//! pairs lie below 0.2 and 99 of 100 below 0.5, so the default keeps them apart. Among hundreds of
//! thousands of them, some differ in a single number and are found.
//!
//! Known crates keep a hash table of all texts for each band; here bands are sorted and signatures
//! made with vector instructions, so that 250,000 rows take about a second on two cores.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use rayon::prelude::*;

use super::near_candidates::{Bands, Pair};
use super::near_signature::{Signature, Signed, Signer, jaccard};
use crate::display::{Progress, check_stop};
use crate::error::{Error, Result};
use crate::ops::union_find::UnionFind;

/// The default similarity from which on two texts are near-duplicates.
pub const THRESHOLD: f64 = 0.8;

/// Texts that are read again, to compare candidates by their real sets; slices of strings are such.
pub trait Texts: Sync {
    /// Calls `visit` with the number and the text of each of these rows (ascending), on any thread.
    ///
    /// # Errors
    /// Where a text cannot be read.
    fn visit(&self, rows: &[u32], visit: &(dyn Fn(u32, &str) + Sync)) -> Result<()>;
}

impl<S: AsRef<str> + Sync> Texts for [S] {
    fn visit(&self, rows: &[u32], visit: &(dyn Fn(u32, &str) + Sync)) -> Result<()> {
        rows.par_iter().for_each(|&row| visit(row, self[row as usize].as_ref()));
        Ok(())
    }
}

/// The signatures of some texts. Texts that are equal but for white space, case and full-width forms
/// share one.
///
/// # Examples
/// ```
/// use lorascope::dataset::near::{Signatures, THRESHOLD, similarity};
///
/// let long = "小红家的果园里有苹果树和梨树一共一百二十棵，苹果树比梨树多三十棵，请问苹果树和梨树各有多少棵？";
/// let texts = [long.to_string(), "3 + 4 = ?".to_string(), format!(" {long}\n"), format!("{long}谢谢")];
/// let near = Signatures::of(&texts).clusters(THRESHOLD, texts.as_slice())?;
/// assert_eq!(near, [[0, 2, 3]]);
/// assert_eq!(similarity(&texts[0], &texts[2]), 1.0);
/// assert_eq!(similarity(&texts[0], &texts[3]), 41.0 / 43.0);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Signatures {
    /// Of each text, which signature it has; `None` for a text that says nothing, which is like no
    /// other.
    of: Vec<Option<u32>>,
    /// Of each signature, the first text that has it.
    first: Vec<u32>,
    signatures: Vec<Signature>,
}

impl Signatures {
    /// The signatures of texts in memory.
    pub fn of<S: AsRef<str> + Sync>(texts: &[S]) -> Self {
        let piece = |texts: &[S]| {
            let mut signer = Signer::default();
            texts.iter().map(|text| signer.sign(text.as_ref())).collect()
        };
        Self::joined(texts.par_chunks(1024).map(piece).collect())
    }

    /// Puts together what was signed in pieces, in the order of the texts.
    pub(super) fn joined(pieces: Vec<Vec<Signed>>) -> Self {
        let mut new = Self::default();
        let mut known: HashMap<u64, u32> = HashMap::new();
        for signed in pieces.into_iter().flatten() {
            let row = new.of.len() as u32;
            new.of.push(signed.map(|(hash, signature)| {
                *known.entry(hash).or_insert_with(|| {
                    new.first.push(row);
                    new.signatures.push(signature);
                    new.signatures.len() as u32 - 1
                })
            }));
        }
        new
    }

    /// The same in parts, each with the texts of one verdict: no text is compared with one of another.
    pub(super) fn by_verdict(self, verdicts: &[u64]) -> Vec<Self> {
        if verdicts.windows(2).all(|two| two[0] == two[1]) {
            return vec![self];
        }
        let mut parts: BTreeMap<u64, (Self, HashMap<u32, u32>)> = BTreeMap::new();
        for (row, (number, verdict)) in self.of.iter().zip(verdicts).enumerate() {
            let (part, known) = parts.entry(*verdict).or_default();
            part.of.resize(row, None);
            let number = number.map(|number| {
                *known.entry(number).or_insert_with(|| {
                    part.first.push(row as u32);
                    part.signatures.push(self.signatures[number as usize]);
                    part.signatures.len() as u32 - 1
                })
            });
            part.of.push(number);
        }
        parts.into_values().map(|(part, _)| part).collect()
    }

    /// Groups of two or more texts, joined by pairs whose similarity is at least `threshold`;
    /// ascending in themselves, and ordered by their first texts.
    ///
    /// # Errors
    /// A threshold that is not from 0.5 to 1; whatever reading the texts again gives.
    pub fn clusters(&self, threshold: f64, texts: &(impl Texts + ?Sized)) -> Result<Vec<Vec<u32>>> {
        check(threshold)?;
        let bands = Bands::new(threshold);
        let mut progress = Progress::new("comparing texts that may be alike", bands.count as u64);
        let mut joined = UnionFind::new(self.signatures.len());
        let mut refused: Vec<Pair> = Vec::new();
        let mut pairs: Vec<Pair> = Vec::new();
        for band in 0..bands.count {
            pairs.extend(bands.within(band, &self.signatures, &joined, &refused));
            // Texts are read again as seldom as possible. What is joined, later bands pass over.
            if pairs.len() >= AT_ONCE || band + 1 == bands.count {
                pairs.par_sort_unstable();
                pairs.dedup();
                self.join(&std::mem::take(&mut pairs), threshold, texts, &mut joined, &mut refused)?;
            }
            progress.try_advance(1, "")?;
        }
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, number) in self.of.iter().enumerate() {
            if let Some(number) = number {
                groups.entry(joined.root(*number)).or_default().push(row as u32);
            }
        }
        // A root is the first of its group, so the groups stand in the order of their first texts.
        Ok(groups.into_values().filter(|rows| rows.len() > 1).collect())
    }

    /// Compares pairs by their real sets, and joins those that are alike.
    fn join(
        &self,
        pairs: &[Pair],
        threshold: f64,
        texts: &(impl Texts + ?Sized),
        joined: &mut UnionFind,
        refused: &mut Vec<Pair>,
    ) -> Result<()> {
        for pairs in pairs.chunks(AT_ONCE) {
            // What the pairs before have joined needs no comparison.
            let pairs: Vec<Pair> =
                pairs.iter().copied().filter(|&(a, b)| joined.root(a) != joined.root(b)).collect();
            let rows = pairs.iter().flat_map(|pair| [pair.0, pair.1]).map(|n| self.first[n as usize]);
            let sets = Sets::of(rows, texts)?;
            let similarity =
                |&(a, b): &Pair| jaccard(sets.set(self.first[a as usize]), sets.set(self.first[b as usize]));
            let similarities: Vec<f64> = pairs.par_iter().map(similarity).collect();
            for ((a, b), similarity) in pairs.into_iter().zip(similarities) {
                match similarity >= threshold {
                    true => joined.join(a, b),
                    false => refused.push((a, b)),
                }
            }
            joined.flatten();
        }
        refused.par_sort_unstable();
        Ok(())
    }

    /// For each text of `others` that occurs here, exactly or nearly: the number of the most similar
    /// one here (the first of equals), its own number, and their similarity.
    ///
    /// # Errors
    /// As [`clusters`](Self::clusters).
    pub fn matches(
        &self,
        texts: &(impl Texts + ?Sized),
        others: &Self,
        other_texts: &(impl Texts + ?Sized),
        threshold: f64,
    ) -> Result<Vec<(u32, u32, f64)>> {
        check(threshold)?;
        let pairs = Bands::new(threshold).between(&self.signatures, &others.signatures);
        let mut best: Vec<Option<(u32, f64)>> = vec![None; others.signatures.len()];
        for pairs in pairs.chunks(AT_ONCE) {
            check_stop()?;
            let here = Sets::of(pairs.iter().map(|pair| self.first[pair.0 as usize]), texts)?;
            let there = Sets::of(pairs.iter().map(|pair| others.first[pair.1 as usize]), other_texts)?;
            let similarity = |&(a, b): &Pair| {
                jaccard(here.set(self.first[a as usize]), there.set(others.first[b as usize]))
            };
            let similarities: Vec<f64> = pairs.par_iter().map(similarity).collect();
            for (&(a, b), similarity) in pairs.iter().zip(similarities) {
                let best = &mut best[b as usize];
                if similarity >= threshold && best.is_none_or(|(_, most)| similarity > most) {
                    *best = Some((self.first[a as usize], similarity));
                }
            }
        }
        let found = others.of.iter().enumerate().filter_map(|(row, number)| {
            let (first, similarity) = best[(*number)? as usize]?;
            Some((first, row as u32, similarity))
        });
        Ok(found.collect())
    }
}

/// Returns the similarity of two texts, from 0 to 1: the Jaccard index of their shingles; 0 where one is empty.
pub fn similarity(a: &str, b: &str) -> f64 {
    let mut signer = Signer::default();
    jaccard(&signer.shingles(a), &signer.shingles(b))
}

/// Pairs whose sets are in memory at a time.
const AT_ONCE: usize = 1 << 18;

pub(super) fn check(threshold: f64) -> Result<()> {
    match (0.5..=1.0).contains(&threshold) {
        true => Ok(()),
        false => Err(Error::input(format_args!("rows cannot be compared at a similarity of {threshold}"))
            .help("give a threshold from 0.5 to 1, such as 0.8")),
    }
}

/// The shingles of some rows.
struct Sets {
    rows: Vec<u32>,
    sets: Vec<OnceLock<Vec<u32>>>,
}

impl Sets {
    fn of(rows: impl Iterator<Item = u32>, texts: &(impl Texts + ?Sized)) -> Result<Self> {
        let mut rows: Vec<u32> = rows.collect();
        rows.par_sort_unstable();
        rows.dedup();
        let sets: Vec<OnceLock<Vec<u32>>> = rows.iter().map(|_| OnceLock::new()).collect();
        texts.visit(&rows, &|row, text| {
            if let Ok(at) = rows.binary_search(&row) {
                sets[at].get_or_init(|| Signer::default().shingles(text));
            }
        })?;
        Ok(Self { rows, sets })
    }

    fn set(&self, row: u32) -> &[u32] {
        let set = self.rows.binary_search(&row).ok().and_then(|at| self.sets[at].get());
        set.map_or(&[], Vec::as_slice)
    }
}
