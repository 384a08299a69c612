//! Charts of plain numbers. Each function takes vectors and gives a [`Figure`].
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
mod bars;
mod canvas;
mod cumulative;
mod energy_curve;
mod figure;
mod figure_data;
mod frame;
mod grid;
mod grouped;
mod heat_map;
mod heat_panels;
mod histogram;
mod intruders;
mod line_chart;
mod numbers;
mod palette;
mod panels;
mod pen;
mod rank_curve;
mod raster;
mod series;
mod spectra;
mod waterfall;

pub use axis::Scale;
pub use bars::{bars, stacked};
pub use cumulative::cumulative;
pub use energy_curve::energy;
pub use figure::{Figure, Theme};
pub use grouped::grouped;
pub use heat_map::{heat_map, heat_map_of};
pub use heat_panels::{HeatPanel, heat_panels};
pub use histogram::{Histogram, histogram};
pub use intruders::intruders;
pub use line_chart::lines;
pub(crate) use numbers::sparkline;
pub use panels::{Measure, multiples, stack, two_axes};
pub use rank_curve::{NoisyPoint, rank_curve};
pub use series::{Series, Style};
pub use spectra::{Curve, Fit, Panel, SpectraStyle, spectra, spectra_as};
pub use waterfall::{traces, traces_beside, waterfall};
