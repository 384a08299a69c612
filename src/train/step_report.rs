//! What a step logs: its numbers, as a line of `history.jsonl` and as a row of a table.

use super::step::RowLoss;
use super::step_spectra::StepSpectra;
use crate::display::{self, Align, Bundle, Show, Table};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The numbers of one optimiser step.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepReport {
    /// Which step, from 1.
    pub step: u64,
    /// Times the data was seen, as a fraction.
    pub epoch: f64,
    /// Mean cross-entropy over the trained tokens of the batch before the update, in nats.
    pub loss: f64,
    /// √Σg² over all adapters, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of this step.
    pub lr: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Tokens whose loss counted.
    pub trained_tokens: usize,
    /// How long it took.
    pub seconds: f64,
    /// Memory of this process after it, in bytes.
    pub memory: Option<u64>,
    /// Loss on the rows for evaluation after this step, where it was asked for.
    #[serde(default)]
    pub eval_loss: Option<f64>,
    /// Which of the datasets that the run had so far, from 0.
    #[serde(default)]
    pub segment: usize,
    /// The loss of each row of the batch.
    #[serde(default)]
    pub rows: Vec<RowLoss>,
    /// The singular values after this step, where they were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectra: Option<StepSpectra>,
}

impl StepReport {
    /// All numbers as one line of JSON, as `history.jsonl` in the run's folder has them.
    ///
    /// # Errors
    /// None for the report of a run.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::compute)
    }

    /// Tokens through the model per second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

/// What a table of steps shows: each column's name and how a step fills it.
type Column = (&'static str, fn(&StepReport) -> String);

const COLUMNS: [Column; 8] = [
    ("step", |s| s.step.to_string()),
    ("epoch", |s| format!("{:.2}", s.epoch)),
    ("loss", |s| format!("{:.4}", s.loss)),
    ("evaluation", |s| s.eval_loss.map_or(String::new(), |loss| format!("{loss:.4}"))),
    ("gradient norm", |s| format!("{:.3}", s.gradient_norm)),
    ("lr", |s| format!("{:.2e}", s.lr)),
    ("tokens/s", |s| format!("{:.0}", s.tokens_per_second())),
    ("memory", |s| s.memory.map_or(String::new(), display::bytes)),
];

/// A table of steps, of which the middle is left out when there are many. The column of evaluations
/// is there when there are some.
pub(crate) fn table(steps: &[StepReport]) -> Table {
    const SHOWN: usize = 4;
    let evaluated = steps.iter().any(|step| step.eval_loss.is_some());
    let columns = || COLUMNS.iter().filter(move |(name, _)| evaluated || *name != "evaluation");
    let mut table = Table::new(columns().map(|(name, _)| (*name, Align::Right)));
    let cut = steps.len() > 2 * SHOWN + 1;
    for (i, step) in steps.iter().enumerate() {
        if !cut || i < SHOWN || i + SHOWN >= steps.len() {
            table.row(columns().map(|(_, cell)| cell(step)));
        } else if i == SHOWN {
            table.row(columns().map(|_| "…"));
        }
    }
    table
}

impl std::fmt::Debug for StepReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, loss, gradient_norm, lr, rows, spectra, .. } = self;
        write!(f, "StepReport(step {step}, loss {loss}, gradient norm {gradient_norm}, lr {lr}")?;
        if let Some(loss) = self.eval_loss {
            write!(f, ", evaluation {loss}")?;
        }
        write!(f, ", {} rows, {})", rows.len(), if spectra.is_some() { "spectra" } else { "no spectra" })
    }
}

impl Show for StepReport {
    fn show(&self) -> Bundle {
        table(std::slice::from_ref(self)).show()
    }
}
