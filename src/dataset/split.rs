//! Splitting a dataset in two without the same question on both sides.

use std::collections::HashMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Dataset;
use super::columns::first_user;
use super::quality::near;
use crate::error::{Error, Result};
use crate::ops::union_find::UnionFind;

/// The numbers of the rows on the first side, about `fraction` of all, and of those on the second.
pub(super) fn split(data: &Dataset, fraction: f64, seed: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::input(format_args!("a dataset cannot be split at {fraction}"))
            .help("give a fraction between 0 and 1, such as 0.98"));
    }
    let rows = data.len();
    let groups = groups(data, seed)?;
    if groups.len() < 2 {
        return Err(Error::input(format_args!("the {rows} rows cannot be split: they are all alike"))
            .help("take more rows, or slice them by number"));
    }
    let wanted = (rows as f64 * fraction).round() as usize;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let last = groups.len() - 1;
    for (n, group) in groups.into_iter().enumerate() {
        // To the side that lacks more rows; neither stays empty, however small the dataset.
        let lacks = wanted.saturating_sub(first.len()) >= (rows - wanted).saturating_sub(second.len());
        let to_first = first.is_empty() || (lacks && !(n == last && second.is_empty()));
        if to_first { &mut first } else { &mut second }.extend(group);
    }
    first.sort_unstable();
    second.sort_unstable();
    Ok((first, second))
}

/// Rows that must not be parted: those that begin alike, are nearly the same, or have the same id.
/// Only the seed and the texts decide on the order.
fn groups(data: &Dataset, seed: u64) -> Result<Vec<Vec<u32>>> {
    let keys = data.pieces(|rows, _| {
        let id = |i| rows.given(i).then(|| xxh3_64(rows.id(i).as_bytes()));
        Ok((0..rows.len()).map(|i| (likeness(first_user(rows, i)), id(i))).collect::<Vec<_>>())
    })?;
    let keys = keys.concat();
    let mut joined = UnionFind::new(keys.len());
    let (mut begins, mut ids) = (HashMap::new(), HashMap::new());
    for (row, (begin, id)) in (0..).zip(&keys) {
        joined.join(*begins.entry(*begin).or_insert(row), row);
        if let Some(id) = id {
            joined.join(*ids.entry(*id).or_insert(row), row);
        }
    }
    for near in data.signatures()?.clusters(near::THRESHOLD, data)? {
        near.iter().skip(1).for_each(|&row| joined.join(near[0], row));
    }
    joined.flatten();
    let mut groups: HashMap<u32, (u64, Vec<u32>)> = HashMap::new();
    for row in 0..keys.len() as u32 {
        let place = xxh3_64_with_seed(&keys[row as usize].0.to_le_bytes(), seed);
        let (least, rows) = groups.entry(joined.root(row)).or_insert((place, Vec::new()));
        *least = place.min(*least);
        rows.push(row);
    }
    let mut groups: Vec<(u64, Vec<u32>)> = groups.into_values().collect();
    groups.sort_unstable();
    Ok(groups.into_iter().map(|(_, rows)| rows).collect())
}

/// Equal for texts that differ in case, white space and punctuation only.
fn likeness(text: &str) -> u64 {
    let mut plain = String::with_capacity(text.len());
    plain.extend(text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase));
    // A text of signs only is told apart by the signs.
    xxh3_64(if plain.is_empty() { text } else { &plain }.as_bytes())
}
