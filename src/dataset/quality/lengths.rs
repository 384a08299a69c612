//! Distributions of lengths, what a context leaves out, and what padding costs.

use serde::{Deserialize, Serialize};

use crate::plot::Histogram;
use crate::text::packed;

/// What lengths are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Unicode characters.
    Characters,
    /// Tokens under the chat template.
    Tokens,
}

impl Unit {
    /// `characters` or `tokens`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Tokens => "tokens",
        }
    }
}

/// A distribution of lengths; quantiles by the nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LengthSummary {
    /// The sum.
    pub total: u64,
    /// The mean.
    pub mean: f64,
    /// The least.
    pub min: u64,
    /// One of ten is at most this.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// Nine of ten are at most this.
    pub p90: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

impl LengthSummary {
    /// The distribution of some lengths.
    ///
    /// # Examples
    /// ```
    /// use lorascope::dataset::LengthSummary;
    ///
    /// let lengths = LengthSummary::of((1..=200).collect());
    /// assert_eq!((lengths.p50, lengths.p90, lengths.p99, lengths.max), (100, 180, 198, 200));
    /// assert_eq!(lengths.mean, 100.5);
    /// ```
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self::of_sorted(&values)
    }

    fn of_sorted(values: &[u64]) -> Self {
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let total = values.iter().sum();
        let mean = total as f64 / values.len() as f64;
        Self { total, mean, min, p10: rank(10), p50: rank(50), p90: rank(90), p99: rank(99), max }
    }
}

/// The distribution of one kind of length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthSpread {
    /// What is measured: `row`, the turns of a role (`user`, `assistant`, …), or the tokens of a row
    /// that are `trained` on.
    pub of: String,
    /// The unit of all its lengths.
    pub unit: Unit,
    /// How many there are.
    pub count: u64,
    /// Mean and quantiles.
    pub lengths: LengthSummary,
    /// How often which length occurs.
    pub histogram: Histogram,
    /// The cumulative curve: lengths, and the share of values up to this length, from 0 to 1; a point for each half
    /// percent, and a finer last one.
    pub curve: Vec<(u64, f64)>,
}

impl LengthSpread {
    /// Returns `None` without lengths.
    pub(super) fn of(of: &str, unit: Unit, mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let drawn: Vec<f64> = values.iter().map(|&value| value as f64).collect();
        let histogram = Histogram::of(&drawn)?;
        let count = values.len();
        let mut curve = Vec::new();
        for step in (0..=199).map(|step| f64::from(step) / 200.0).chain([0.999, 1.0]) {
            let rank = ((count as f64 * step).ceil() as usize).clamp(1, count);
            // Of equal lengths the last one's share counts.
            let length = values[rank - 1];
            let share = values.partition_point(|&value| value <= length) as f64 / count as f64;
            if curve.last() != Some(&(length, share)) {
                curve.push((length, share));
            }
        }
        let lengths = LengthSummary::of_sorted(&values);
        Some(Self { of: of.to_string(), unit, count: count as u64, lengths, histogram, curve })
    }
}

/// What a context leaves out: rows that are longer are not trained on, since a row that is cut loses
/// the token that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LongRows {
    /// The context, in the report's unit.
    pub context: u64,
    /// Rows that are longer.
    pub rows: u64,
    /// Their share of all rows, from 0 to 1.
    pub rows_share: f64,
    /// The lengths of these rows together, in the report's unit: what is left out with them.
    pub left_out: u64,
    /// Its share of everything, from 0 to 1.
    pub left_out_share: f64,
}

impl LongRows {
    pub(super) fn at(context: u64, lengths: &[u64]) -> Self {
        let longer = || lengths.iter().filter(|&&length| length > context);
        let left_out = longer().sum();
        let rows = longer().count() as u64;
        Self {
            context,
            rows,
            rows_share: share(rows, lengths.len() as u64),
            left_out,
            left_out_share: share(left_out, lengths.iter().sum()),
        }
    }
}

/// What it costs to pad the rows of a batch to its longest, where batches are drawn in the order of
/// the rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Padding {
    /// Rows of a batch.
    pub batch: u64,
    /// What is computed: batch × its longest row, summed over the batches, in the report's unit.
    pub computed: u64,
    /// The share of it that is padding, from 0 to 1.
    pub waste: f64,
    /// How many times as much it is as with packed rows, [`Packing::computed`].
    pub gain: f64,
}

/// What packing leaves: the rows laid into as few sequences of the context's length as best-fit
/// decreasing finds ([`packed`]), each filled up to the context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packing {
    /// Length of a sequence, in the report's unit.
    pub context: u64,
    /// Rows that fit; longer ones are left out here and in the paddings.
    pub rows: u64,
    /// Their length altogether.
    pub length: u64,
    /// Sequences that hold them.
    pub sequences: u64,
    /// What is computed: sequences × context.
    pub computed: u64,
    /// The share of it that is filling, from 0 to 1.
    pub waste: f64,
    /// The same rows padded, by batch size.
    pub paddings: Vec<Padding>,
}

impl Packing {
    pub(super) fn of(lengths: &[u64], context: u64, batches: &[u64]) -> Self {
        let kept: Vec<u64> =
            lengths.iter().copied().filter(|length| (1..=context).contains(length)).collect();
        let length: u64 = kept.iter().sum();
        // Longer than u32 can say, no row and no context is.
        let narrow = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
        let narrowed: Vec<u32> = kept.iter().map(|&length| narrow(length)).collect();
        let sequences = packed(&narrowed, narrow(context)) as u64;
        let computed = sequences * context;
        let padding = |&batch: &u64| {
            let padded: u64 = kept
                .chunks(batch.max(1) as usize)
                .map(|rows| rows.len() as u64 * rows.iter().max().copied().unwrap_or(0))
                .sum();
            let gain = if computed == 0 { 1.0 } else { padded as f64 / computed as f64 };
            Padding { batch, computed: padded, waste: share(padded - length, padded), gain }
        };
        Self {
            context,
            rows: kept.len() as u64,
            length,
            sequences,
            computed,
            waste: share(computed - length, computed),
            paddings: batches.iter().map(padding).collect(),
        }
    }
}

/// A part of a whole, from 0 to 1; of nothing it is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_packed_best_fit_decreasing() {
        // 8, 7 + 3, 6 + 4 and 5 + 5.
        let packing = Packing::of(&[3, 8, 5, 7, 5, 4, 6, 11], 10, &[1, 2, 100]);
        assert_eq!((packing.rows, packing.length, packing.sequences, packing.computed), (7, 38, 4, 40));
        assert_eq!(packing.waste, 0.05);
        let computed: Vec<u64> = packing.paddings.iter().map(|padding| padding.computed).collect();
        assert_eq!(computed, [38, 16 + 14 + 10 + 6, 56]);
        assert_eq!(packing.paddings[1].gain, 46.0 / 40.0);
        assert_eq!(packing.paddings[0].waste, 0.0);
        assert!((packing.paddings[2].waste - 18.0 / 56.0).abs() < 1e-12);
    }

    #[test]
    fn contexts_leave_rows_out_whole() {
        let cut = LongRows::at(4, &[1, 4, 5, 10]);
        assert_eq!((cut.rows, cut.rows_share, cut.left_out, cut.left_out_share), (2, 0.5, 15, 0.75));
        assert_eq!(LongRows::at(4, &[]).rows_share, 0.0);
    }

    #[test]
    fn spreads() {
        let spread = LengthSpread::of("row", Unit::Tokens, vec![5; 1000]).unwrap();
        assert_eq!(spread.curve, [(5, 1.0)]);
        let spread = LengthSpread::of("row", Unit::Tokens, (1..=1000).collect()).unwrap();
        assert_eq!((spread.curve.len(), spread.count), (202, 1000));
        assert_eq!((spread.curve[0], spread.curve[100]), ((1, 0.001), (500, 0.5)));
        assert_eq!(spread.curve[201], (1000, 1.0));
        assert!(LengthSpread::of("row", Unit::Tokens, Vec::new()).is_none());
    }
}
