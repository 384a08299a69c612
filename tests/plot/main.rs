//! Charts.

#[path = "../common/mod.rs"]
mod common;

mod chart_texts;
mod charts;
mod figures;
mod loss_curves;
mod own_plots;
mod panels;
