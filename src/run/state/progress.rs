//! Where a run is.

use crate::train::batches::Position;
use serde::{Deserialize, Serialize};

/// Where a run is: together with the trained tensors, all that the next step needs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProgress {
    /// Steps done.
    pub step: u64,
    /// Where in the data.
    pub position: Position,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// The loss on the evaluation rows at this step, where it is known.
    pub eval_loss: Option<f64>,
}
