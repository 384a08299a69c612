//! The forward and the backward pass through the blocks of a decoder, or through some of them.

use super::block::{Block, BlockPass, BlockSaved};
use super::decoder::{Decoder, PositionEncoding, Recompute, Tokens};
use super::layers::Rotary;
use super::layers::blocked_attention::{BLOCK, Blocks};
use super::layers::linear::Wanted;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use crate::ops::{self, Kernels};
use candle_core::{Device, Tensor};

/// The tensors that a forward pass keeps for the backward pass, depending on [`Recompute`].
#[derive(Debug)]
pub struct Saved {
    ids: Vec<u32>,
    positions: Vec<u32>,
    blocks: Vec<Kept>,
    rotary: Option<Rotary>,
    /// What the last norm read, where these blocks are the last.
    last: Option<Tensor>,
}

/// What is kept of a block.
#[derive(Debug)]
enum Kept {
    All(BlockSaved),
    /// Its input, `[T, D]`.
    Input(Tensor),
}

/// Which end of the model the blocks of a decoder reach: the embedding before the first, norm and head after
/// the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub first: bool,
    pub last: bool,
}

impl Ends {
    pub(super) const BOTH: Self = Self { first: true, last: true };
}

impl Decoder {
    /// Computes the hidden state of every token after the last norm, `[T, D]`, and what the backward pass needs.
    /// `go_on` is called between blocks and returns false to cancel.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, when a row is longer than the model's context, and
    /// an interrupted error when `go_on` returns false.
    pub fn forward(
        &self,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Tensor, Saved)> {
        self.forward_from(None, Ends::BOTH, tokens, adapters, go_on)
    }

    /// As [`forward`](Self::forward) through blocks that need not be all: `input` is what the blocks before them
    /// gave. Without the last end, the result is what the last of these blocks gives.
    pub(super) fn forward_from(
        &self,
        input: Option<Tensor>,
        ends: Ends,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Tensor, Saved)> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let (last, rotary) = self.through(input, tokens, adapters, go_on, |input, saved| {
            blocks.push(match self.recompute {
                Recompute::Nothing => Kept::All(saved),
                Recompute::Blocks => Kept::Input(input),
            });
        })?;
        let (hidden, last) = match ends.last {
            true => (self.normed(&last, adapters)?, Some(last)),
            false => (last, None),
        };
        let (ids, positions) = (tokens.ids.to_vec(), tokens.positions());
        Ok((hidden, Saved { ids, positions, blocks, rotary, last }))
    }

    /// Computes the hidden states and keeps nothing for a backward pass.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn hidden(&self, tokens: Tokens, adapters: &Adapters, go_on: &dyn Fn() -> bool) -> Result<Tensor> {
        self.hidden_from(None, Ends::BOTH, tokens, adapters, go_on)
    }

    /// As [`hidden`](Self::hidden) through blocks that need not be all.
    pub(super) fn hidden_from(
        &self,
        input: Option<Tensor>,
        ends: Ends,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Tensor> {
        let (last, _) = self.through(input, tokens, adapters, go_on, |_, _| ())?;
        if ends.last { self.normed(&last, adapters) } else { Ok(last) }
    }

    /// The last norm, on its device.
    pub(super) fn normed(&self, last: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        self.norm.forward(&last.to_device(self.head_device())?, adapters, self.kernels)
    }

    fn through(
        &self,
        input: Option<Tensor>,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
        mut keep: impl FnMut(Tensor, BlockSaved),
    ) -> Result<(Tensor, Option<Rotary>)> {
        let positions = tokens.positions();
        if let Some(longest) = positions.iter().max().filter(|p| **p as usize >= self.config.context) {
            return Err(Error::input(format!("a row has {} tokens", longest + 1))
                .help(format!("the model was made for at most {}", self.config.context)));
        }
        let mut x = match input {
            Some(input) => input,
            None => self.enter(tokens.ids, &positions, adapters)?,
        };
        let rotary = self.rotary(&positions)?;
        for (device, blocks) in self.neighbours() {
            x = ops::moved(x, device)?;
            let turned = rotary.as_ref().map(|rotary| rotary.to_device(device)).transpose()?;
            let pass = self.pass(device, turned.as_ref(), tokens.borders, adapters)?;
            for block in blocks {
                if !go_on() {
                    return Err(Error::interrupted());
                }
                let (y, saved) = block.forward(x.clone(), &pass)?;
                keep(x, saved);
                x = y;
            }
        }
        Ok((x, rotary))
    }

    /// The blocks by device: those that follow each other on one are together.
    pub(super) fn neighbours(&self) -> impl DoubleEndedIterator<Item = (&Device, &[Block])> {
        self.blocks
            .chunk_by(|a, b| a.device().same_device(b.device()))
            .filter_map(|blocks| Some((blocks.first()?.device(), blocks)))
    }

    /// Computes the input of the first block, `[T, D]`.
    pub(super) fn enter(&self, ids: &[u32], positions: &[u32], adapters: &Adapters) -> Result<Tensor> {
        let x = self.embedding.forward(ids, adapters)?;
        match &self.positions {
            PositionEncoding::Rotary(_) => Ok(x),
            PositionEncoding::Learned(table) => table.merged(adapters)?.forward(x, positions, self.kernels),
        }
    }

    /// The angles by which queries and keys at these positions turn, on the device of the first block.
    pub(super) fn rotary(&self, positions: &[u32]) -> Result<Option<Rotary>> {
        let device = self.blocks.first().map_or(&self.device, Block::device);
        match &self.positions {
            PositionEncoding::Rotary(frequencies) => Rotary::with(positions, frequencies, device).map(Some),
            PositionEncoding::Learned(_) => Ok(None),
        }
    }

    /// What the blocks of a device share in a pass; without `borders` one that reads a cache.
    pub(super) fn pass<'a>(
        &self,
        device: &Device,
        rotary: Option<&'a Rotary>,
        borders: &'a [usize],
        adapters: &'a Adapters,
    ) -> Result<BlockPass<'a>> {
        self.precision.check_on(device)?;
        let blocks = match self.kernels {
            Kernels::Candle if !borders.is_empty() => Some(Blocks::of(borders, BLOCK, device)?),
            _ => None,
        };
        let Self { kernels, precision, .. } = *self;
        Ok(BlockPass { rotary, borders, blocks, adapters, kernels, precision })
    }

    /// Adds the gradients of all adapters for `dhidden` = ∂loss/∂hidden, `[T, D]`, to `gradients`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn backward(
        &self,
        saved: Saved,
        dhidden: &Tensor,
        borders: &[usize],
        adapters: &Adapters,
        gradients: &mut Gradients,
        go_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        let whole = (Ends::BOTH, false);
        self.backward_from(saved, dhidden.clone(), borders, adapters, gradients, whole, go_on).map(drop)
    }

    /// As [`backward`](Self::backward) through blocks that need not be all. Returns the gradient of what they read,
    /// `[T, D]`, if `wanted` says that something before them is trained.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward_from(
        &self,
        saved: Saved,
        dy: Tensor,
        borders: &[usize],
        adapters: &Adapters,
        gradients: &mut Gradients,
        (ends, wanted): (Ends, bool),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let table = match &self.positions {
            PositionEncoding::Learned(table) => {
                Some(table).filter(|table| ends.first && table.is_trained(adapters))
            }
            PositionEncoding::Rotary(_) => None,
        };
        let entry = ends.first && (self.embedding.is_trained(adapters) || table.is_some());
        let bottom = entry || wanted;
        let lowest = match self.blocks.iter().position(|block| block.is_trained(adapters)) {
            _ if bottom => 0,
            Some(lowest) => lowest,
            None => self.blocks.len(),
        };
        let Saved { ids, positions, mut blocks, rotary, last } = saved;
        let mut dx = match &last {
            Some(last) => self.norm.backward(last, &dy, adapters, gradients, self.kernels)?,
            None => dy,
        };
        drop(last);
        let mut layer = self.blocks.len();
        for (device, of_device) in self.neighbours().rev() {
            if layer <= lowest {
                break;
            }
            dx = ops::moved(dx, device)?;
            let turned = rotary.as_ref().map(|rotary| rotary.to_device(device)).transpose()?;
            let pass = self.pass(device, turned.as_ref(), borders, adapters)?;
            for block in of_device.iter().rev() {
                if layer <= lowest {
                    break;
                }
                layer -= 1;
                if !go_on() {
                    return Err(Error::interrupted());
                }
                let saved = match blocks.pop() {
                    Some(Kept::All(saved)) => saved,
                    Some(Kept::Input(x)) => block.save(x, &pass)?,
                    None => return Err(Error::compute("a block was not run forward")),
                };
                let ends = layer == lowest && !bottom && !block.first_norm_is_trained(adapters);
                let wanted = if ends { Wanted::AdaptersOnly } else { Wanted::Input };
                match block.backward(saved, dx, &pass, gradients, wanted)? {
                    Some(below) => dx = below,
                    None => return Ok(None),
                }
            }
        }
        if entry {
            let dx = ops::moved(dx.clone(), &self.device)?;
            if let Some(table) = table {
                let gradient = table.backward(&dx, &positions, self.kernels)?;
                gradients.add_tensor(table.name().to_string(), gradient)?;
            }
            self.embedding.backward(&ids, &dx, adapters, gradients)?;
        }
        Ok(wanted.then_some(dx))
    }
}
