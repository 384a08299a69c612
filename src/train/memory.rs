//! What a step takes in memory, computed before it is made.

use super::optimizer::OptimizerConfig;
use crate::display::{Align, Bundle, Show, Table, bytes};
use crate::lora::Adapters;
use crate::model::Decoder;
use crate::model::config::FeedForward;

/// Bytes of the parts of one optimiser step on the CPU, in f32.
///
/// With P trained numbers, T tokens of a micro-batch and m moments of each number (AdamW 2, SGD with
/// momentum 1), the peak is the larger of two: in the backward pass
/// weights + P·4·(2 + m) + activations + scratch, and in the update, which makes a new state beside the
/// old one, weights + P·4·2·(1 + m) + the temporaries of the largest tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMemory {
    /// The frozen weights as they lie in memory.
    pub weights: u64,
    /// The trained numbers.
    pub trained: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimiser's moments.
    pub moments: u64,
    /// What the forward pass keeps for the backward pass, of all blocks.
    pub activations: u64,
    /// What comes and goes: a weight that is expanded for its product, a piece of the logits, the
    /// tensors inside a block.
    pub scratch: u64,
    /// The new state that an update makes beside the old one, and its temporaries.
    pub update: u64,
    /// The program itself.
    pub program: u64,
}

/// Resident memory of the program with a model of a few kilobytes after a step, as measured.
const PROGRAM: u64 = 22 << 20;
/// Bytes of logits that the loss holds at a time.
const LOGITS: u64 = 32 << 20;

impl StepMemory {
    /// That of a step over `tokens` tokens in one micro-batch.
    pub fn of(model: &Decoder, adapters: &Adapters, optimizer: &OptimizerConfig, tokens: usize) -> Self {
        let c = model.config();
        let (d, f, t) = (c.width as u64, c.intermediate as u64, tokens as u64);
        let [q, k, _] = c.qkv_widths().map(|width| width as u64);
        let gated = if c.feed_forward == FeedForward::SwiGlu { 2 } else { 1 };
        // x, middle; q, attended; k, v; the sums of attention; gate, up.
        let block = 2 * d + 2 * q + 2 * k + c.heads as u64 + gated * f;
        let matrices = || model.targets().into_iter().map(|t| (t.shape[0] * t.shape[1]) as u64);
        let plain = model.weight_types() == "f32";
        let expanded = if plain { 0 } else { 4 * matrices().max().unwrap_or(0) };
        // In a block's backward pass: of the feed-forward layer the activation, its gradient, both of
        // gate and up; norms and residuals.
        let inside = 4 * t * (4 * f + 6 * d);
        let count = adapters.parameters() as u64;
        let moments = if optimizer.has_square() { 2 } else { 1 };
        let largest = adapters.tensors().map(|(_, tensor)| tensor.elem_count() as u64).max().unwrap_or(0);
        Self {
            weights: model.bytes() as u64,
            trained: 4 * count,
            gradients: 4 * count,
            moments: 4 * count * moments,
            activations: 4 * t * block * c.layers as u64,
            scratch: expanded + LOGITS.min(4 * t * c.vocabulary as u64) + inside,
            update: 4 * count * (1 + moments) + 3 * 4 * largest,
            program: PROGRAM,
        }
    }

    /// The most that is in memory at one time.
    pub fn peak(&self) -> u64 {
        let always = self.program + self.weights + self.trained + self.moments;
        always + (self.gradients + self.activations + self.scratch).max(self.update)
    }
}

impl Show for StepMemory {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("", Align::Left), ("", Align::Right)]).caption("one step in memory");
        for (name, size) in [
            ("frozen weights", self.weights),
            ("trained numbers", self.trained),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("activations", self.activations),
            ("scratch", self.scratch),
            ("update", self.update),
            ("program", self.program),
            ("peak", self.peak()),
        ] {
            table.row([name.to_string(), bytes(size)]);
        }
        table.show()
    }
}
