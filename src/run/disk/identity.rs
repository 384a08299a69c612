//! The identity of a run: what `run.json` holds.

use crate::dataset::{Dataset, Recipe};
use crate::error::Result;
use crate::model::{Model, WeightDtype};
use crate::run::journal::Rows;
use crate::train::batches::Batches;
use crate::train::{ReachesZero, RunConfig, render_time};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of the files' layout.
pub(crate) const FORMAT: u32 = 2;

/// The identity of a run: its settings, its model and its rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the layout.
    pub format: u32,
    /// The settings.
    pub config: RunConfig,
    /// Where the model was opened.
    pub model: PathBuf,
    /// The weights' fingerprint.
    pub model_fingerprint: String,
    /// The dtype of the weights in memory; earlier versions had it in the fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightDtype>,
    /// The time at which rows are rendered, in seconds since 1970, where the chat template writes it. Earlier
    /// versions did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// The step at which a learning rate that falls to 0 reaches it.
    #[serde(default)]
    pub reaches_zero: ReachesZero,
    /// The rows that are trained on at first.
    pub rows: Rows,
    /// The rows that are evaluated on.
    pub eval: Option<Rows>,
    /// Where it was forked from.
    pub parent: Option<Parent>,
}

/// The run that another was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its folder.
    pub run: PathBuf,
    /// After which step.
    pub step: u64,
}

/// The source of rows, by which they are found again.
pub(crate) fn rows_of(data: &Dataset, batches: &Batches) -> Result<Rows> {
    let (context, filling) = (batches.context(), batches.filling());
    Ok(Rows { data: data.recipe()?, context, tokens: batches.fingerprint(), filling })
}

impl Identity {
    /// An identity in today's layout.
    ///
    /// # Errors
    /// When the model's files cannot be read.
    pub fn new(model: &Model, config: &RunConfig, rows: Rows, eval: Option<Rows>) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            config: config.clone(),
            model: model.path().into(),
            model_fingerprint: model.fingerprint()?,
            weights: Some(model.weights()),
            time: render_time::time_of(model),
            reaches_zero: config.reaches_zero,
            rows,
            eval,
            parent: None,
        })
    }

    /// The dtype of the weights in memory.
    pub fn weights(&self) -> WeightDtype {
        self.weights.unwrap_or_else(|| WeightDtype::of_fingerprint(&self.model_fingerprint))
    }

    /// The recipe of the rows to evaluate on.
    pub fn eval_recipe(&self) -> Option<&Recipe> {
        self.eval.as_ref().map(|rows| &rows.data)
    }
}
