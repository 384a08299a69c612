//! What a step takes in memory, computed before it is made.

use super::optimizer::OptimizerConfig;
use crate::display::{Align, Bundle, Show, Table, bytes};
use crate::error::Error;
use crate::lora::Adapters;
use crate::model::config::FeedForward;
use crate::model::{Decoder, DecoderConfig, Recompute};
use crate::ops::Precision;
use crate::text::Pack;

/// Bytes of the parts of one optimiser step on the CPU. In a half type what blocks keep is smaller.
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
    /// What the forward pass keeps for the backward pass, of all blocks: everything, or their inputs and
    /// all of the one that is computed again.
    pub activations: u64,
    /// Temporaries: a weight that is expanded for its product, a piece of the logits, the tensors inside a block.
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

/// What the memory of a step depends on, beside the sizes of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Bytes of the frozen weights as they lie in memory.
    pub weights: u64,
    /// Whether they are f32, which nothing has to be expanded from.
    pub plain: bool,
    /// How many numbers are trained.
    pub trained: u64,
    /// How many of them the largest tensor has.
    pub largest: u64,
    /// Tokens of a micro-batch.
    pub tokens: u64,
    pub recompute: Recompute,
    pub precision: Precision,
}

impl StepMemory {
    /// That of a step over `tokens` tokens in one micro-batch.
    pub fn of(model: &Decoder, adapters: &Adapters, optimizer: &OptimizerConfig, tokens: usize) -> Self {
        let largest = adapters.tensors().map(|(_, tensor)| tensor.elem_count() as u64).max();
        let load = Load {
            weights: model.bytes() as u64,
            plain: model.weight_types() == "f32",
            trained: adapters.parameters() as u64,
            largest: largest.unwrap_or(0),
            tokens: tokens as u64,
            recompute: model.recompute(),
            precision: model.precision(),
        };
        Self::computed(model.config(), &load, optimizer)
    }

    /// The same from a model's sizes alone.
    pub(crate) fn computed(c: &DecoderConfig, load: &Load, optimizer: &OptimizerConfig) -> Self {
        let Load { weights, plain, trained, largest, tokens: t, recompute, precision } = *load;
        let (d, f) = (c.width as u64, c.intermediate as u64);
        let block = kept_of_block(c, precision);
        let layers = c.layers as u64;
        let kept = match recompute {
            Recompute::Nothing => layers * block,
            Recompute::Blocks => layers * 4 * d + block,
        };
        let matrices = || c.targets().into_iter().map(|t| (t.shape[0] * t.shape[1]) as u64);
        let expanded = if plain { 0 } else { 4 * matrices().max().unwrap_or(0) };
        // In a block's backward pass: of the feed-forward layer the activation, its gradient, both of
        // gate and up; norms and residuals.
        let inside = 4 * t * (4 * f + 6 * d);
        let moments = if optimizer.has_square() { 2 } else { 1 };
        Self {
            weights,
            trained: 4 * trained,
            gradients: 4 * trained,
            moments: 4 * trained * moments,
            activations: t * kept,
            scratch: expanded + LOGITS.min(4 * t * c.vocabulary as u64) + inside,
            update: 4 * trained * (1 + moments) + 3 * 4 * largest,
            program: PROGRAM,
        }
    }

    /// The most that is in memory at one time.
    pub fn peak(&self) -> u64 {
        let always = self.program + self.weights + self.trained + self.moments;
        always + (self.gradients + self.activations + self.scratch).max(self.update)
    }
}

/// Bytes that a block keeps of a token: x, middle and the sums of attention in f32; q, attended; k, v; gate, up.
fn kept_of_block(c: &DecoderConfig, precision: Precision) -> u64 {
    let (d, f) = (c.width as u64, c.intermediate as u64);
    let [q, k, _] = c.qkv_widths().map(|width| width as u64);
    let gated = if c.feed_forward == FeedForward::SwiGlu { 2 } else { 1 };
    let size = precision.dtype().size_in_bytes() as u64;
    4 * (2 * d + c.heads as u64) + size * (2 * q + 2 * k + gated * f)
}

/// Bytes that a block of a decoder keeps of a micro-batch.
pub(crate) fn block_activations(decoder: &Decoder, tokens: u64) -> u64 {
    let c = decoder.config();
    tokens
        * match decoder.recompute() {
            Recompute::Nothing => kept_of_block(c, decoder.precision()),
            Recompute::Blocks => 4 * c.width as u64,
        }
}

/// Says what helps where a device has no more memory for a micro-batch.
pub(crate) fn advised(error: Error, pack: &Pack) -> Error {
    if !error.is_out_of_memory() {
        return error;
    }
    let (tokens, rows) = (pack.len(), pack.examples.len());
    error.help(format!(
        "this micro-batch has {tokens} tokens in {rows} rows: take fewer (micro_batch), compute again instead of keeping (recompute = \"blocks\"), or split the model (placement)"
    ))
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
