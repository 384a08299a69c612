//! What the coordinator and the threads of the devices tell each other.

use super::beat::Beat;
use crate::error::Error;
use crate::lora::{Adapters, Gradients};
use crate::train::Batch;
use crate::train::step::RowLoss;
use candle_core::Tensor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One pass over a batch: forward and backward of a step, or an evaluation.
pub(super) struct Pass {
    /// Counts the passes of a group: what belongs to an earlier one is of no use any more.
    pub number: u64,
    pub adapters: Adapters,
    pub batch: Batch,
    pub kind: PassKind,
    pub cancelled: AtomicBool,
}

pub(super) enum PassKind {
    /// Seed and step of dropout, and the number of the first pack in its step.
    Train {
        seed: u64,
        step: u64,
        first_pack: u64,
    },
    Evaluate,
}

impl Pass {
    pub fn goes_on(&self) -> bool {
        !self.cancelled.load(Ordering::Relaxed)
    }
}

/// Work for a stage.
pub(super) enum Work {
    /// A pack of the batch, with what the stage before gave.
    Forward { pass: Arc<Pass>, pack: usize, input: Option<Tensor> },
    /// The gradient of what the stage gave for a pack.
    Backward { pass: Arc<Pass>, pack: usize, dy: Tensor },
    /// A pass is given up: what was kept for it goes.
    Forget { pass: Arc<Pass> },
    /// The group is gone. Stages of a pipeline hold each other's inboxes, so these do not close by themselves.
    End,
}

impl Work {
    pub fn pass(&self) -> Option<&Arc<Pass>> {
        match self {
            Self::Forward { pass, .. } | Self::Backward { pass, .. } | Self::Forget { pass } => Some(pass),
            Self::End => None,
        }
    }

    pub fn pack(&self) -> usize {
        match self {
            Self::Forward { pack, .. } | Self::Backward { pack, .. } => *pack,
            Self::Forget { .. } | Self::End => 0,
        }
    }
}

/// What a stage reports.
pub(super) struct Event {
    pub pass: u64,
    pub pack: usize,
    pub pipeline: usize,
    pub stage: usize,
    pub what: What,
}

pub(super) enum What {
    /// What a stage found for a pack. The last one tells the losses, of each trained token and of each row.
    Part {
        gradients: Gradients,
        losses: Option<(Vec<f32>, Vec<RowLoss>)>,
    },
    Failed(Error),
}

/// Where a stage stands in its pipeline, and who is beside it.
pub(super) struct Seat {
    pub pipeline: usize,
    pub stage: usize,
    pub name: String,
    pub beat: Arc<Beat>,
}
