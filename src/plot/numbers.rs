//! Which numbers can be drawn, and small helpers of all charts.

use crate::error::Error;

/// The error for a chart without a single number.
pub(super) fn nothing(title: &str, missing: &str) -> Error {
    Error::input(format!("nothing to draw in {title:?}: {missing}"))
}

/// Numbers that an axis can hold: the others are gaps.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() < 1e300
}

/// A row of blocks for the plain twin of a figure: at most 48, each the mean of its share.
pub(crate) fn sparkline(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const WIDTH: usize = 48;
    let (low, high) = range(values.iter().copied()).unwrap_or((0.0, 0.0));
    let share = values.len().div_ceil(WIDTH).max(1);
    let block = |part: &[f64]| {
        let kept: Vec<f64> = part.iter().copied().filter(|value| drawable(*value)).collect();
        let mean = kept.iter().map(|value| value / kept.len() as f64).sum::<f64>();
        let height = if high > low { (mean / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) } else { 0.5 };
        if kept.is_empty() { ' ' } else { BLOCKS[((height * 7.0).round() as usize).min(7)] }
    };
    values.chunks(share).map(block).collect()
}

/// The smallest and the largest drawable value.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| drawable(*value)).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}
