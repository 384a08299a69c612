//! Analyses of runs and adapters: checks of the data, learning rate, rank, spectra.
//!
//! | file | asked by |
//! |---|---|
//! | `preflight.rs`, `measured_steps.rs` | [`Preflight::of`], `Run::preflight` |
//! | `plan.rs` | [`Plan::of`] |
//! | `find_lr.rs` | `Run::find_lr` |
//! | `rank_curve.rs` | `Run::rank_curve` |
//! | `rank_budget.rs` | [`spread_ranks`] |
//! | `comparison.rs` | [`compare_runs`] |
//! | `live_panel.rs` | `Run::live` |
//! | `spectra.rs`, `spectra_history.rs` | `Run::spectra`, `truncate`, `activations`, `spectra_history`, `dashboard` |
//! | `inspect.rs` | `Run::inspect`, `gradients` |
//! | `hardest_rows.rs` | `Run::worst`, `example_losses`, `loss_by_source`, `loss_by_length` |

mod comparison;
mod find_lr;
mod hardest_rows;
mod inspect;
mod live_panel;
mod measured_steps;
mod plan;
mod preflight;
mod rank_budget;
mod rank_curve;
mod spectra;
mod spectra_history;

pub use comparison::{RunComparison, compare_runs};
pub use find_lr::LrCurve;
pub use hardest_rows::{HardRow, HardestRows};
pub use inspect::{Gradient, GradientTable, Inspected, Inspection};
pub use live_panel::LivePanel;
pub use plan::Plan;
pub use preflight::Preflight;
pub use rank_budget::{BudgetPoint, SpreadRanks, spread_ranks};
pub use rank_curve::{RankCurve, RankPoint, Within};
pub use spectra_history::SpectraHistory;
