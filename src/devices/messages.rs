//! What the coordinator and the threads of the devices tell each other.

use super::beat::Beat;
use super::frames::Frame;
use crate::error::Error;
use crate::lora::{Adapters, Gradients};
use crate::train::step::RowLoss;
use crate::train::{Batch, Reduction};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What stands for the sums of a pass where a number is that of a pack.
pub(super) const SUMS: usize = usize::MAX;

/// One pass over a batch: forward and backward of a step, or an evaluation.
pub(super) struct Pass {
    /// Counts the passes of this process: what belongs to an earlier one is of no use any more.
    pub number: u64,
    pub adapters: Adapters,
    pub batch: Batch,
    pub kind: PassKind,
    cancelled: AtomicBool,
    /// The messages that tell it to other processes, once they are made.
    pub told: Mutex<Option<[Frame; 2]>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PassKind {
    /// Seed and step of dropout, the number of the first pack in its step, and where gradients are added.
    Train {
        seed: u64,
        step: u64,
        first_pack: u64,
        reduction: Reduction,
    },
    Evaluate,
}

impl Pass {
    pub fn new(adapters: Adapters, batch: Batch, kind: PassKind, number: u64) -> Arc<Self> {
        let (cancelled, told) = (AtomicBool::new(false), Mutex::new(None));
        Arc::new(Self { number, adapters, batch, kind, cancelled, told })
    }

    /// Whether each rank adds the gradients of its packs.
    pub fn sums(&self) -> bool {
        matches!(self.kind, PassKind::Train { reduction: Reduction::OnDevices, .. })
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

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
    /// All packs that it gets are done: it gives its sums, in memory or where they are.
    Collect { pass: Arc<Pass>, on_host: bool },
    /// A pass is given up: what was kept for it goes.
    Forget { pass: Arc<Pass> },
    /// The group is gone. Stages of a pipeline hold each other's inboxes, so these do not close by themselves.
    End,
}

impl Work {
    pub fn pass(&self) -> Option<&Arc<Pass>> {
        match self {
            Self::Forward { pass, .. }
            | Self::Backward { pass, .. }
            | Self::Collect { pass, .. }
            | Self::Forget { pass } => Some(pass),
            Self::End => None,
        }
    }

    pub fn pack(&self) -> usize {
        match self {
            Self::Forward { pack, .. } | Self::Backward { pack, .. } => *pack,
            Self::Collect { .. } => SUMS,
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
    /// What a stage found for a pack: no gradients where it adds them itself. The last one tells the losses, of each
    /// trained token and of each row.
    Part {
        gradients: Gradients,
        losses: Option<(Vec<f32>, Vec<RowLoss>)>,
    },
    /// The sums of its packs.
    Sum(Gradients),
    Failed(Error),
}

/// The sums of a pass by stage and rank.
pub(super) type Sums = BTreeMap<(usize, usize), Gradients>;

/// Where a stage stands in its pipeline, and who is beside it.
pub(super) struct Seat {
    pub pipeline: usize,
    pub stage: usize,
    pub name: String,
    pub beat: Arc<Beat>,
}
