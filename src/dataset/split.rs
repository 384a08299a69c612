//! Cutting a dataset in two without the same question on both sides.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Dataset;
use super::look::first_user;
use crate::error::{Error, Result};

/// The numbers of the rows on the first side, about `fraction` of all, and of those on the second.
pub(super) fn split(data: &Dataset, fraction: f64, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::input(format_args!("a dataset cannot be split at {fraction}"))
            .help("give a fraction between 0 and 1, such as 0.98"));
    }
    // Groups of rows that begin alike, in an order that only the seed and the texts decide.
    let mut groups: BTreeMap<(u64, u64), Vec<u32>> = BTreeMap::new();
    let keys = data
        .pieces(|rows, _| Ok((0..rows.len()).map(|i| likeness(first_user(rows, i))).collect::<Vec<_>>()))?;
    let keys = keys.concat();
    for (i, &key) in keys.iter().enumerate() {
        let place = xxh3_64_with_seed(&key.to_le_bytes(), seed);
        groups.entry((place, key)).or_default().push(i as u32);
    }
    if groups.len() < 2 {
        return Err(Error::input(format_args!(
            "the {} rows cannot be split: they all begin with the same user text",
            keys.len()
        ))
        .help("take more rows, or slice them by number"));
    }
    let wanted = (keys.len() as f64 * fraction).round() as usize;
    let last = groups.len() - 1;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (n, group) in groups.into_values().enumerate() {
        // Neither side stays empty, however small the dataset.
        let to_first = n == 0 || (n < last && first.len() + group.len() <= wanted);
        if to_first { &mut first } else { &mut second }.extend(group);
    }
    first.sort_unstable();
    second.sort_unstable();
    Ok((first, second))
}

/// Equal for texts that differ in case, white space and punctuation only.
fn likeness(text: &str) -> u64 {
    let mut plain = String::with_capacity(text.len());
    plain.extend(text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase));
    // A text of signs only is told apart by the signs.
    xxh3_64(if plain.is_empty() { text } else { &plain }.as_bytes())
}
