//! Charts of plain numbers: each function takes vectors and gives a [`Figure`].
//!
//! | question | chart |
//! |---|---|
//! | how does a loss, a rate fall; how do two runs compare | [`lines`] |
//! | loss, learning rate and gradient norm over the same steps | [`stack`] |
//! | effective rank over steps, with the loss on a second axis | [`two_axes`] |
//! | the singular values of chosen layers | [`spectra`], [`spectra_as`] (linear, with a fitted line) |
//! | how they move over a run | [`waterfall`] (as a map), [`traces`] (as lines), [`traces_beside`] (two kinds) |
//! | the same for each layer of one module | [`multiples`] |
//! | which rank keeps a share τ of the energy | [`energy`] |
//! | a number for each layer and module | [`heat_map`] |
//! | do two subspaces agree, beside the control | [`heat_panels`] |
//! | amplification in several directions | [`grouped`] |
//! | which singular vectors are new | [`intruders`] |
//! | which rank is enough | [`rank_curve`] |
//! | how long are the rows | [`histogram`], [`cumulative`] |
//! | amounts, and parts of amounts | [`bars`], [`stacked`] |
//!
//! Each figure shows in a notebook with a plain-text twin, saves as SVG or PNG ([`Figure::save`]) and
//! gives its numbers as a table ([`Figure::data`]); [`dashboard`](crate::display::dashboard) puts
//! several into one block.
//!
//! Drawn through plotters' SVG backend. Text and axes take the page's own text colour and the
//! background is transparent, so that one picture is legible on light and on dark pages; where a notebook is
//! not trusted an image of it on white is seen instead. Lines have
//! a contrast of at least 3:1 on both, in colours that colour-blind readers can tell apart, and
//! differ by dashes or marks as well: of more than 24 series the looks repeat. Numbers that are NaN
//! or infinite are gaps.

mod axis;
mod band;
mod bars;
mod canvas;
mod cumulative;
mod data;
mod energy;
mod figure;
mod frame;
mod grid;
mod grouped;
mod heat;
mod histogram;
mod lines;
mod overlap;
mod palette;
mod panels;
mod points;
mod raster;
mod spectra;
mod waterfall;

pub use axis::Scale;
pub use band::{Spread, rank_curve};
pub use bars::{bars, stacked};
pub use cumulative::cumulative;
pub use energy::energy;
pub use figure::{Figure, Theme};
pub use grouped::grouped;
pub use heat::{heat_map, heat_map_of};
pub use histogram::{Histogram, histogram};
pub use lines::{Series, Style, lines};
pub use overlap::{HeatPanel, heat_panels};
pub use panels::{Measure, multiples, stack, two_axes};
pub use points::intruders;
pub use spectra::{Curve, Fit, Panel, SpectraStyle, spectra, spectra_as};
pub use waterfall::{traces, traces_beside, waterfall};

use crate::error::Error;

/// The error for a chart without a single number.
fn nothing(title: &str, missing: &str) -> Error {
    Error::input(format!("nothing to draw in {title:?}: {missing}"))
}

/// Numbers that an axis can hold: the others are gaps.
fn drawable(value: f64) -> bool {
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
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| drawable(*value)).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}
