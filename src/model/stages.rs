//! A decoder on several devices, and its parts that work at the same time.

use super::block::Block;
use super::decoder::{Counted, Decoder, PositionEncoding, Tokens};
use super::passes::{Ends, Saved};
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use crate::ops::{self, Kernels};
use candle_core::{Device, Tensor};
use std::ops::Range;

/// Consecutive blocks of a decoder on one device. The first stage has the embedding as well, the last one the last
/// norm and the head.
#[derive(Debug, Clone)]
pub struct Stage {
    decoder: Decoder,
    ends: Ends,
}

impl Decoder {
    /// The same model with each block on the device of its place in `devices`: embedding on the first of them,
    /// norm and head on the last. What lies there already is shared.
    ///
    /// # Errors
    /// When the numbers of blocks and devices differ, or a device has no room.
    pub fn on_devices(&self, devices: &[Device]) -> Result<Self> {
        let (Some(first), Some(last)) = (devices.first(), devices.last()) else {
            return Err(Error::compute("a model on no device"));
        };
        if devices.len() != self.blocks.len() {
            let error = format!("{} devices for {} blocks", devices.len(), self.blocks.len());
            return Err(Error::compute(error));
        }
        let embedding = self.embedding.to_device(first)?;
        let together = first.same_device(last);
        let head = match self.is_tied() && together {
            // One matrix in memory, as before.
            true => self.head.clone().with_weight(embedding.weight().clone()),
            false => self.head.to_device(last)?,
        };
        let blocks = self.blocks.iter().zip(devices);
        Ok(Self {
            blocks: blocks.map(|(block, device)| block.to_device(device)).collect::<Result<_>>()?,
            positions: match &self.positions {
                PositionEncoding::Learned(table) => PositionEncoding::Learned(table.to_device(first)?),
                rotary => rotary.clone(),
            },
            norm: self.norm.to_device(last)?,
            device: first.clone(),
            tied_copy: self.is_tied() && !together,
            kernels: if devices.iter().all(Device::is_cpu) { self.kernels } else { Kernels::Candle },
            embedding,
            head,
            ..self.clone()
        })
    }

    /// Bytes of the matrices of each block.
    pub(crate) fn block_bytes(&self) -> Vec<u64> {
        let bytes = |block: &Block| block.linears().iter().map(|l| l.weight().bytes() as u64).sum();
        self.blocks.iter().map(bytes).collect()
    }

    /// Bytes of the matrices before the first block and after the last.
    pub(crate) fn end_bytes(&self) -> [u64; 2] {
        let table = match &self.positions {
            PositionEncoding::Learned(table) => table.table().bytes(),
            PositionEncoding::Rotary(_) => 0,
        };
        [self.embedding.weight().bytes() + table, self.head.weight().bytes()].map(|bytes| bytes as u64)
    }

    /// The devices of the blocks.
    pub fn devices(&self) -> Vec<Device> {
        self.blocks.iter().map(|block| block.device().clone()).collect()
    }

    /// The device of the last norm and the head.
    pub fn head_device(&self) -> &Device {
        self.norm.device()
    }

    /// The device of the layer that a trained tensor belongs to, by the tensor's name.
    pub fn device_of(&self, name: &str) -> &Device {
        self.owner_of(name, Ends { first: false, last: true }).unwrap_or(&self.device)
    }

    /// As [`device_of`](Self::device_of), if the layer is one of these blocks or lies at one of these ends.
    fn owner_of(&self, name: &str, ends: Ends) -> Option<&Device> {
        let is_of = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        if is_of(self.norm.path()) || is_of(self.head.path()) {
            return ends.last.then(|| self.head_device());
        }
        let block = self.blocks.iter().find(|block| block.in_order().into_iter().any(is_of));
        match block {
            Some(block) => Some(block.device()),
            None if is_of(self.embedding.path()) => ends.first.then_some(&self.device),
            None => None,
        }
    }

    /// The adapters with each tensor on the device of its layer.
    ///
    /// # Errors
    /// When a device has no room.
    pub fn place(&self, adapters: &Adapters) -> Result<Adapters> {
        adapters.beside_layers(|name| Some(self.device_of(name)))
    }

    /// Its blocks in these ranges, which follow each other from the first block to the last.
    ///
    /// # Errors
    /// When a range is empty, or they are not those of all blocks in their order.
    pub fn stages(&self, ranges: &[Range<usize>]) -> Result<Vec<Stage>> {
        let mut next = 0;
        for range in ranges {
            if range.start != next || range.is_empty() {
                return Err(Error::compute(format!("stages {ranges:?} of {} blocks", self.blocks.len())));
            }
            next = range.end;
        }
        if next != self.blocks.len() {
            return Err(Error::compute(format!("stages {ranges:?} of {} blocks", self.blocks.len())));
        }
        let stage = |range: &Range<usize>| Stage {
            decoder: Self { blocks: self.blocks[range.clone()].to_vec(), ..self.clone() },
            ends: Ends { first: range.start == 0, last: range.end == next },
        };
        Ok(ranges.iter().map(stage).collect())
    }
}

impl Stage {
    /// Whether it has the embedding.
    pub fn is_first(&self) -> bool {
        self.ends.first
    }

    /// Whether it has the head.
    pub fn is_last(&self) -> bool {
        self.ends.last
    }

    /// The device of its blocks.
    pub fn device(&self) -> &Device {
        self.decoder.blocks.first().map_or(&self.decoder.device, |block| block.device())
    }

    /// The number of its blocks.
    pub fn blocks(&self) -> usize {
        self.decoder.blocks.len()
    }

    /// The adapters with those of this stage on its device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn place(&self, adapters: &Adapters) -> Result<Adapters> {
        adapters.beside_layers(|name| self.decoder.owner_of(name, self.ends))
    }

    /// The model with the blocks of this stage only.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Whether anything before the norm and the head is trained in it: then the stage after it has to return a
    /// gradient.
    pub fn is_trained(&self, adapters: &Adapters) -> bool {
        let decoder = &self.decoder;
        let table = match &decoder.positions {
            PositionEncoding::Learned(table) => table.is_trained(adapters),
            PositionEncoding::Rotary(_) => false,
        };
        let entry = self.ends.first && (decoder.embedding.is_trained(adapters) || table);
        entry || decoder.blocks.iter().any(|block| block.is_trained(adapters))
    }

    /// The forward pass of its blocks: `input` is what the stage before gave, `None` for the first. The last stage
    /// gives the hidden states after the last norm.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn forward(
        &self,
        input: Option<Tensor>,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Tensor, Saved)> {
        self.decoder.forward_from(self.moved(input)?, self.ends, tokens, adapters, go_on)
    }

    /// As [`forward`](Self::forward), and keeps nothing.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn hidden(
        &self,
        input: Option<Tensor>,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Tensor> {
        self.decoder.hidden_from(self.moved(input)?, self.ends, tokens, adapters, go_on)
    }

    /// The losses and the gradient of the hidden states, in the last stage.
    ///
    /// # Errors
    /// As [`Decoder::loss_backward`].
    pub fn loss_backward(
        &self,
        hidden: &Tensor,
        counted: Counted,
        adapters: &Adapters,
        gradients: &mut Gradients,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Vec<f32>, Tensor)> {
        self.decoder.loss_backward(hidden, counted, 1.0, adapters, gradients, go_on)
    }

    /// The backward pass: the gradient of what it read, if something before it is trained (`wanted`).
    ///
    /// # Errors
    /// As [`Decoder::backward`].
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        saved: Saved,
        dy: Tensor,
        borders: &[usize],
        adapters: &Adapters,
        gradients: &mut Gradients,
        wanted: bool,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let dy = ops::moved(dy, self.device())?;
        self.decoder.backward_from(saved, dy, borders, adapters, gradients, (self.ends, wanted), go_on)
    }

    fn moved(&self, input: Option<Tensor>) -> Result<Option<Tensor>> {
        input.map(|input| ops::moved(input, self.device())).transpose()
    }
}
