//! What a step logs: its numbers, as a line of `history.jsonl` and as a row of a table.

use super::step::{Learned, RowLoss};
use crate::display::{self, Align, Bundle, Show, Table};
use crate::error::{Error, Result};
use crate::spectrum::{Spectra, Spectrum};
use serde::{Deserialize, Deserializer, Serialize};

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

/// Singular values after one step: those of each adapter in the order of
/// [`Adapters::spectra`](crate::lora::Adapters::spectra), rounded to f32.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpectra {
    /// Of scale·B·A.
    #[serde(deserialize_with = "or_largest")]
    pub plain: Vec<Vec<f32>>,
    /// Of scale·B·C^½ with C = E[(A x)(A x)ᵀ], where it is known.
    #[serde(deserialize_with = "or_largest")]
    pub weighted: Vec<Vec<f32>>,
}

/// Reads the null that earlier versions wrote for a value beyond the range of f32: JSON has no infinity.
fn or_largest<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Vec<f32>>, D::Error> {
    let read = Vec::<Vec<Option<f32>>>::deserialize(deserializer)?;
    Ok(read
        .into_iter()
        .map(|values| values.into_iter().map(|value| value.unwrap_or(f32::MAX)).collect())
        .collect())
}

impl StepSpectra {
    /// Those of what a run has learned.
    pub(crate) fn of(learned: &Learned) -> Result<Self> {
        let spectra = learned.adapters.spectra_weighted(learned.activations.by_path())?;
        // Of adapters that have diverged a value may be beyond the range of f32.
        let in_f32 = |sigma: &f64| sigma.min(f64::from(f32::MAX)) as f32;
        let rounded = |s: &Spectrum| s.singular_values.iter().map(in_f32).collect();
        let weighted = spectra.weighted();
        let weighted = weighted.iter().filter(|weighted| weighted.len() == spectra.len());
        Ok(Self {
            plain: spectra.iter().map(rounded).collect(),
            weighted: weighted.flat_map(Spectra::iter).map(rounded).collect(),
        })
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
