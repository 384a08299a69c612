//! A decoder of any family: forward and backward through all blocks, loss, generation.

use super::block::Block;
use super::config::DecoderConfig;
use super::layers::linear::Wanted;
use super::layers::{Embedding, KeyValues, LearnedPositions, Linear, loss};
use super::trainable_norm::TrainableNorm;
use super::weight::Weight;
use crate::display::StopButton;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients, Target};
use crate::ops::{self, Kernels, Precision};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A frozen decoder: embedding, blocks of attention and a feed-forward layer with a norm before each, a last norm,
/// the head. Its [config](DecoderConfig) says which kind each of these is.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(super) config: DecoderConfig,
    pub(super) embedding: Embedding,
    pub(super) positions: PositionEncoding,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: TrainableNorm,
    pub(super) head: Linear,
    pub(super) device: Device,
    pub(super) kernels: Kernels,
    pub(super) recompute: Recompute,
    pub(super) precision: Precision,
    /// The head is a copy of the embedding on another device.
    pub(super) tied_copy: bool,
}

/// Which activations the backward pass recomputes instead of keeping them from the forward pass (Chen et al. 2016,
/// *Training Deep Nets with Sublinear Memory Cost*, §4). The results are the same to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Only norms and activations: the inputs of the matrix products are kept.
    #[default]
    Nothing,
    /// Each block from its input; this takes about a third more time.
    Blocks,
}

/// How positions are encoded.
#[derive(Debug, Clone)]
pub(super) enum PositionEncoding {
    /// Rotary: the angles by which the pairs of a head turn from one token to the next.
    Rotary(Vec<f64>),
    Learned(LearnedPositions),
}

/// Tokens of one or more rows, one row after the other without padding.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The tokens of all rows.
    pub ids: &'a [u32],
    /// Where each row begins; the last entry is the number of tokens. Attention and positions start anew in each
    /// row.
    pub borders: &'a [usize],
}

/// The tokens that enter the loss.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// The places whose next token is predicted.
    pub places: &'a [u32],
    /// Those next tokens.
    pub targets: &'a [u32],
}

impl Tokens<'_> {
    /// The position of each token in its own row.
    pub fn positions(&self) -> Vec<u32> {
        self.borders.windows(2).flat_map(|row| 0..row[1].saturating_sub(row[0]) as u32).collect()
    }
}

impl Decoder {
    /// The sizes of the model.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same model with these kernels; the weights are shared.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        Self { kernels, ..self.clone() }
    }

    /// The same model with this choice of recomputation; the weights are shared.
    #[must_use]
    pub fn with_recompute(&self, recompute: Recompute) -> Self {
        Self { recompute, ..self.clone() }
    }

    /// The same model with its products in this type; the weights are shared. A half type runs in candle's operations,
    /// on the CPU too.
    #[must_use]
    pub fn with_precision(&self, precision: Precision) -> Self {
        let kernels = if precision.is_f32() { self.kernels } else { Kernels::Candle };
        Self { precision, kernels, ..self.clone() }
    }

    /// The type of its products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What its backward pass recomputes.
    pub fn recompute(&self) -> Recompute {
        self.recompute
    }

    /// Bytes that the matrices take in memory.
    pub fn bytes(&self) -> usize {
        self.matrices().map(Weight::bytes).sum()
    }

    /// Bytes of the matrices that generation reads for each token: all but the tables, of which it reads a row.
    pub fn bytes_per_token(&self) -> usize {
        self.linears().map(Linear::weight).chain([self.head.weight()]).map(Weight::bytes).sum()
    }

    /// The number of frozen parameters in the matrices. [`DecoderConfig::parameters`] counts norms and biases too.
    pub fn parameters(&self) -> usize {
        self.matrices().map(|weight| weight.shape().iter().product::<usize>()).sum()
    }

    /// All matrices; a tied embedding and head count once.
    fn matrices(&self) -> impl Iterator<Item = &Weight> {
        let table = match &self.positions {
            PositionEncoding::Learned(positions) => Some(positions.table()),
            PositionEncoding::Rotary(_) => None,
        };
        let head = (!self.is_tied()).then_some(self.head.weight());
        self.linears().map(Linear::weight).chain([self.embedding.weight()]).chain(table).chain(head)
    }

    /// The dtypes of the matrices, such as `Q4_1, Q8_0`.
    pub fn weight_types(&self) -> String {
        let mut types: Vec<String> = self.linears().map(|l| l.weight().type_name()).collect();
        types.push(self.embedding.weight().type_name());
        types.sort();
        types.dedup();
        types.join(", ")
    }

    /// The layers that can be adapted, in the order of the forward pass; embedding and head come last.
    pub fn targets(&self) -> Vec<Target> {
        self.config.targets()
    }

    /// Whether the head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.tied_copy || self.embedding.weight().same_storage(self.head.weight())
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(|b| b.linears())
    }

    /// The cross-entropy at each of the counted tokens, in nats.
    ///
    /// # Errors
    /// When a place or a target is out of range.
    pub fn loss(&self, hidden: &Tensor, counted: Counted, adapters: &Adapters) -> Result<Vec<f32>> {
        let index = Tensor::new(counted.places, hidden.device())?;
        let picked = self.precision.cast(&hidden.index_select(&index, 0)?.contiguous()?)?;
        let adapters = &self.beside_head(adapters)?;
        loss::forward(&picked, counted.targets, &self.head_of(adapters)?, self.kernels)
    }

    /// Computes the same losses and ∂(scale·Σ losses)/∂hidden in the shape of `hidden`; adds the gradients of a
    /// trained head to `gradients`. `go_on` is called about every hundred tokens.
    ///
    /// # Errors
    /// As [`loss`](Self::loss), and an interrupted error when `go_on` returns false.
    pub fn loss_backward(
        &self,
        hidden: &Tensor,
        counted: Counted,
        scale: f64,
        adapters: &Adapters,
        gradients: &mut Gradients,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Vec<f32>, Tensor)> {
        let index = Tensor::new(counted.places, hidden.device())?;
        let picked = self.precision.cast(&hidden.index_select(&index, 0)?.contiguous()?)?;
        let adapters = &self.beside_head(adapters)?;
        let weight = self.head_of(adapters)?;
        let trained = self.trained_head(adapters);
        // Summed over the pieces first: a pass adds to each gradient once, in whichever order passes are made.
        let mut of_head = Gradients::new();
        let mut on_logits = |h: &Tensor, d: &Tensor| match &trained {
            Some(head) => head.backward(h, d, adapters, &mut of_head, Wanted::AdaptersOnly).map(drop),
            None => Ok(()),
        };
        let on_logits: Option<loss::OnLogits> = trained.is_some().then_some(&mut on_logits);
        let (losses, d) = loss::forward_backward_with(
            &picked,
            counted.targets,
            &weight,
            scale,
            self.kernels,
            on_logits,
            go_on,
        )?;
        gradients.merge(of_head)?;
        Ok((losses, hidden.zeros_like()?.index_add(&index, &d.to_dtype(hidden.dtype())?, 0)?))
    }

    /// The adapters with a trained embedding on the device of the head that it is tied to.
    fn beside_head<'a>(&self, adapters: &'a Adapters) -> Result<Cow<'a, Adapters>> {
        let shared = self.tied_copy && adapters.config().ties();
        if !shared || adapters.whole(self.embedding.name()).is_none() {
            return Ok(Cow::Borrowed(adapters));
        }
        let beside = adapters.map(|name, tensor| match name == self.embedding.name() {
            true => Ok(tensor.to_device(self.head_device())?),
            false => Ok(tensor.clone()),
        })?;
        Ok(Cow::Owned(beside))
    }

    /// The matrix of the head with its trained values.
    fn head_of(&self, adapters: &Adapters) -> Result<Weight> {
        match self.trained_head(adapters) {
            Some(head) => Ok(head.merged(adapters)?.weight().clone()),
            None => Ok(self.head.weight().clone()),
        }
    }

    /// Logits of hidden states, `[n, D]` to `[n, V]`, in f32.
    ///
    /// # Errors
    /// When the width differs.
    pub fn logits(&self, hidden: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        let adapters = &self.beside_head(adapters)?;
        let hidden = &self.precision.cast(hidden)?;
        let logits = match self.trained_head(adapters) {
            Some(head) => head.forward(hidden, adapters)?,
            None => self.head.forward(hidden, &Adapters::default())?,
        };
        Ok(logits.to_dtype(DType::F32)?)
    }

    /// Feeds tokens that follow those in the cache and returns the hidden state of the last one, `[1, D]`.
    ///
    /// # Errors
    /// When the context is full, a token is outside the vocabulary, or the cache is another model's; an interrupted
    /// error when a person pressed stop. The cache then has the tokens that it had before.
    pub fn extend(&self, ids: &[u32], cache: &mut Cache, adapters: &Adapters) -> Result<Tensor> {
        let total = cache.tokens + ids.len();
        if total > self.config.context || ids.is_empty() {
            return Err(Error::input(format!("{total} tokens, {} of them new", ids.len()))
                .help(format!("the model takes at least one and at most {}", self.config.context)));
        }
        // On a thread of the pool: from another one, each of its products would wait for a thread to wake up.
        let button = StopButton::here();
        button.check()?;
        let last = match self.device.is_cpu() {
            true => rayon::scope(|_| self.extend_blocks(ids, cache, adapters, button)),
            false => self.extend_blocks(ids, cache, adapters, button),
        }?;
        self.normed(&last, adapters)
    }

    /// The output of the last block for the last token, `[1, D]`.
    fn extend_blocks(
        &self,
        ids: &[u32],
        cache: &mut Cache,
        adapters: &Adapters,
        button: StopButton,
    ) -> Result<Tensor> {
        let total = cache.tokens + ids.len();
        let positions: Vec<u32> = (cache.tokens as u32..total as u32).collect();
        let mut x = self.enter(ids, &positions, adapters)?;
        let rotary = self.rotary(&positions)?;
        cache.layers.resize_with(self.blocks.len(), KeyValues::default);
        for layer in &mut cache.layers {
            layer.keep(cache.tokens)?;
        }
        let mut caches = cache.layers.iter_mut();
        for (device, blocks) in self.neighbours() {
            x = ops::moved(x, device)?;
            let turned = rotary.as_ref().map(|rotary| rotary.to_device(device)).transpose()?;
            let pass = self.pass(device, turned.as_ref(), &[], adapters)?;
            for (block, cached) in blocks.iter().zip(&mut caches) {
                button.check()?;
                x = block.extend(x, cached, &pass)?;
            }
        }
        cache.tokens = total;
        Ok(x.narrow(0, ids.len() - 1, 1)?.contiguous()?)
    }
}

/// Keys and values of the tokens seen so far, for generation.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    tokens: usize,
    layers: Vec<KeyValues>,
}

impl Cache {
    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether nothing was fed yet.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }
}
