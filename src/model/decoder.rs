//! The llama family: forward and backward through all blocks.

use super::config::DecoderConfig;
use super::layers::attention::{self, Saved as AttentionSaved};
use super::layers::linear::Wanted;
use super::layers::{Linear, RmsNorm, Rotary, loss, rotary, swiglu};
use super::source::Source;
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients, Target};
use crate::ops::{self, Kernels};
use candle_core::{Device, Tensor};
use std::path::Path;

/// A decoder of the llama family (Touvron et al. 2023), frozen: embedding, blocks of attention and
/// SwiGLU with RMS norms before each, a last norm, the head.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    embedding: Weight,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Weight,
    device: Device,
    kernels: Kernels,
}

/// A frozen tensor of a model.
pub(crate) enum Part<'a> {
    Matrix(&'a Weight),
    Vector(&'a Tensor),
}

#[derive(Debug, Clone)]
struct Block {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Tokens of one or more rows, one row after the other without padding.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The tokens of all rows.
    pub ids: &'a [u32],
    /// Where each row begins and, last, the number of tokens; attention and positions start anew at
    /// each.
    pub borders: &'a [usize],
}

impl Tokens<'_> {
    /// The position of each token in its own row.
    pub fn positions(&self) -> Vec<u32> {
        self.borders.windows(2).flat_map(|row| 0..row[1].saturating_sub(row[0]) as u32).collect()
    }
}

/// What a forward pass keeps for the backward pass: the inputs of the matrix products. Norms and
/// SwiGLU are computed again.
#[derive(Debug)]
pub struct Saved {
    blocks: Vec<BlockSaved>,
    rotary: Rotary,
    last: Tensor,
}

#[derive(Debug)]
struct BlockSaved {
    x: Tensor,                 // [T, D]
    q: Tensor,                 // [H, T, W]
    k: Tensor,                 // [G, T, W]
    v: Tensor,                 // [G, T, W]
    attended: Tensor,          // [H, T, W]
    attention: AttentionSaved, // [H, T]
    middle: Tensor,            // [T, D]
    gate: Tensor,              // [T, F]
    up: Tensor,                // [T, F]
}

impl Decoder {
    /// Loads the weights of a `.gguf` file or a Hugging Face folder; no tokenizer is needed.
    ///
    /// # Errors
    /// When a file is missing, damaged, cut off, or of another architecture.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load(&Source::open(path.as_ref())?, device)
    }

    pub(crate) fn load(source: &Source, device: &Device) -> Result<Self> {
        let config = source.config()?;
        let (d, w) = (config.width, config.head_width);
        let (h, g, f) = (config.heads, config.kv_heads, config.intermediate);
        let linear = |path: String, out: usize, inner: usize, rotary: Option<usize>| {
            let weight = source.weight(&format!("{path}.weight"), [out, inner], rotary, device)?;
            let bias = format!("{path}.bias");
            let biased = if path.contains("self_attn") { config.attention_bias } else { config.mlp_bias };
            if !biased && source.has(&bias) {
                let help = match source.metadata() {
                    Some(_) => "a GGUF file with biases is not supported yet; take the Hugging Face folder",
                    None => "set attention_bias or mlp_bias in config.json if it belongs to the model",
                };
                let error = Error::format("a bias that the model's config does not announce");
                return Err(error.path(source.path()).layer(bias).help(help));
            }
            let bias = biased.then(|| source.vector(&bias, out, device)).transpose()?;
            Ok(Linear::new(path, weight, bias))
        };
        let norm = |path: &str| {
            Ok::<_, Error>(RmsNorm::new(
                source.vector(&format!("{path}.weight"), d, device)?,
                config.rms_epsilon,
            ))
        };
        let mut blocks = Vec::new(); // no room in advance: the file may lie about its layers
        for layer in 0..config.layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}");
            blocks.push(Block {
                attention_norm: norm(&at("input_layernorm"))?,
                q: linear(at("self_attn.q_proj"), h * w, d, Some(h))?,
                k: linear(at("self_attn.k_proj"), g * w, d, Some(g))?,
                v: linear(at("self_attn.v_proj"), g * w, d, None)?,
                o: linear(at("self_attn.o_proj"), d, h * w, None)?,
                mlp_norm: norm(&at("post_attention_layernorm"))?,
                gate: linear(at("mlp.gate_proj"), f, d, None)?,
                up: linear(at("mlp.up_proj"), f, d, None)?,
                down: linear(at("mlp.down_proj"), d, f, None)?,
            });
        }
        let embedding = source.weight("model.embed_tokens.weight", [config.vocabulary, d], None, device)?;
        let head = match config.tied_embeddings && !source.has("lm_head.weight") {
            true => embedding.clone(),
            false => source.weight("lm_head.weight", [config.vocabulary, d], None, device)?,
        };
        let kernels = if device.is_cpu() { Kernels::Fused } else { Kernels::Candle };
        let norm = norm("model.norm")?;
        Ok(Self { embedding, blocks, norm, head, device: device.clone(), kernels, config })
    }

    /// The sizes of the model.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Where the weights lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same model, sharing its weights, computed by these kernels.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        Self { kernels, ..self.clone() }
    }

    /// Bytes that the weights take in memory.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.linears().map(|l| l.weight().bytes()).sum();
        let head = if self.embedding.same_storage(&self.head) { 0 } else { self.head.bytes() };
        blocks + self.embedding.bytes() + head
    }

    /// How many frozen numbers the matrices hold.
    pub fn parameters(&self) -> usize {
        let count = |weight: &Weight| weight.shape().iter().product::<usize>();
        let blocks: usize = self.linears().map(|l| count(l.weight())).sum();
        let head = if self.embedding.same_storage(&self.head) { 0 } else { count(&self.head) };
        blocks + count(&self.embedding) + head
    }

    /// The types that the matrices are stored in, such as `Q4_1, Q8_0`.
    pub fn weight_types(&self) -> String {
        let mut types: Vec<String> = self.linears().map(|l| l.weight().type_name()).collect();
        types.push(self.embedding.type_name());
        types.sort();
        types.dedup();
        types.join(", ")
    }

    /// The linear layers that can be adapted, in the order of the forward pass.
    pub fn targets(&self) -> Vec<Target> {
        self.linears().map(|l| Target { path: l.path().to_string(), shape: l.weight().shape() }).collect()
    }

    /// Every frozen tensor with Hugging Face's name for it, in the order of the forward pass; a head
    /// that is tied to the embedding has none of its own.
    pub(crate) fn parts(&self) -> Vec<(String, Part<'_>)> {
        let mut parts = vec![("model.embed_tokens.weight".to_string(), Part::Matrix(&self.embedding))];
        for (layer, block) in self.blocks.iter().enumerate() {
            for (name, norm) in
                [("input_layernorm", &block.attention_norm), ("post_attention_layernorm", &block.mlp_norm)]
            {
                parts.push((format!("model.layers.{layer}.{name}.weight"), Part::Vector(norm.weight())));
            }
            for linear in block.linears() {
                parts.push((format!("{}.weight", linear.path()), Part::Matrix(linear.weight())));
                if let Some(bias) = linear.bias() {
                    parts.push((format!("{}.bias", linear.path()), Part::Vector(bias)));
                }
            }
        }
        parts.push(("model.norm.weight".to_string(), Part::Vector(self.norm.weight())));
        if !self.embedding.same_storage(&self.head) {
            parts.push(("lm_head.weight".to_string(), Part::Matrix(&self.head)));
        }
        parts
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(|b| b.linears())
    }

    /// The hidden state of every token after the last norm, `[T, D]`, and what the backward pass
    /// needs. `go_on` is asked between blocks.
    ///
    /// # Errors
    /// When a token is outside the vocabulary, when a row is longer than the model's context, and
    /// an interrupted error when `go_on` says no.
    pub fn forward(
        &self,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Tensor, Saved)> {
        let mut saved = Vec::with_capacity(self.blocks.len());
        let (last, rotary) = self.through(tokens, adapters, go_on, |block| saved.push(block))?;
        let hidden = self.norm.forward(&last, self.kernels)?;
        Ok((hidden, Saved { blocks: saved, rotary, last }))
    }

    /// The hidden states alone; nothing is kept for a backward pass.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn hidden(&self, tokens: Tokens, adapters: &Adapters, go_on: &dyn Fn() -> bool) -> Result<Tensor> {
        let (last, _) = self.through(tokens, adapters, go_on, drop)?;
        self.norm.forward(&last, self.kernels)
    }

    fn through(
        &self,
        tokens: Tokens,
        adapters: &Adapters,
        go_on: &dyn Fn() -> bool,
        mut keep: impl FnMut(BlockSaved),
    ) -> Result<(Tensor, Rotary)> {
        let positions = tokens.positions();
        if let Some(longest) = positions.iter().max().filter(|p| **p as usize >= self.config.context) {
            return Err(Error::input(format!("a row has {} tokens", longest + 1))
                .help(format!("the model was made for at most {}", self.config.context)));
        }
        let rotary = Rotary::new(&positions, self.config.head_width, self.config.rope_theta, &self.device)?;
        let mut x = self.embedding.rows(tokens.ids)?;
        for block in &self.blocks {
            if !go_on() {
                return Err(Error::interrupted());
            }
            let (y, saved) =
                block.forward(x, &rotary, tokens.borders, &self.config, adapters, self.kernels)?;
            keep(saved);
            x = y;
        }
        Ok((x, rotary))
    }

    /// Gradients of all adapters for `dhidden` = ∂loss/∂hidden, `[T, D]`, added to `gradients`.
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
        let adapted = |block: &Block| block.linears().iter().any(|l| adapters.get(l.path()).is_some());
        let Some(lowest) = self.blocks.iter().position(adapted) else { return Ok(()) };
        let Saved { mut blocks, rotary, last } = saved;
        let mut dx = self.norm.backward(&last, dhidden, self.kernels)?;
        drop(last);
        for (layer, block) in self.blocks.iter().enumerate().skip(lowest).rev() {
            if !go_on() {
                return Err(Error::interrupted());
            }
            let Some(saved) = blocks.pop() else { return Err(Error::compute("a block was not run forward")) };
            let wanted = if layer == lowest { Wanted::AdaptersOnly } else { Wanted::Input };
            match block.backward(saved, dx, &rotary, borders, adapters, gradients, wanted, self.kernels)? {
                Some(below) => dx = below,
                None => break,
            }
        }
        Ok(())
    }

    /// Σ of the cross-entropy at the given tokens and, where `scale` is given, ∂(scale·Σ)/∂hidden in
    /// the shape of `hidden`. `rows` are the places whose next token is trained on, `targets` those
    /// next tokens.
    ///
    /// # Errors
    /// When a row or a target is out of range.
    pub fn loss(
        &self,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
        scale: Option<f64>,
    ) -> Result<(f64, Option<Tensor>)> {
        let index = Tensor::new(rows, hidden.device())?;
        let picked = hidden.index_select(&index, 0)?.contiguous()?;
        let Some(scale) = scale else {
            return Ok((loss::forward(&picked, targets, &self.head, self.kernels)?, None));
        };
        let (sum, d) = loss::forward_backward(&picked, targets, &self.head, scale, self.kernels)?;
        Ok((sum, Some(hidden.zeros_like()?.index_add(&index, &d, 0)?)))
    }

    /// Logits of hidden states, `[n, D]` to `[n, V]`.
    ///
    /// # Errors
    /// When the width differs.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }

    /// Feeds tokens that follow those in the cache and gives the hidden state of the last one,
    /// `[1, D]`.
    ///
    /// # Errors
    /// When the context is full, or a token is outside the vocabulary.
    pub fn extend(&self, ids: &[u32], cache: &mut Cache, adapters: &Adapters) -> Result<Tensor> {
        let total = cache.tokens + ids.len();
        if total > self.config.context || ids.is_empty() {
            return Err(Error::input(format!("{total} tokens, {} of them new", ids.len()))
                .help(format!("the model takes at least one and at most {}", self.config.context)));
        }
        let positions: Vec<u32> = (cache.tokens as u32..total as u32).collect();
        let rotary = Rotary::new(&positions, self.config.head_width, self.config.rope_theta, &self.device)?;
        cache.layers.resize(self.blocks.len(), None);
        let mut x = self.embedding.rows(ids)?;
        for (block, cached) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.extend(x, &rotary, cached, &self.config, adapters, self.kernels)?;
        }
        cache.tokens = total;
        self.norm.forward(&x.narrow(0, ids.len() - 1, 1)?.contiguous()?, self.kernels)
    }
}

/// Keys and values of the tokens seen so far, for generation.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    tokens: usize,
    layers: Vec<Option<(Tensor, Tensor)>>,
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

impl Block {
    fn linears(&self) -> [&Linear; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    fn forward(
        &self,
        x: Tensor,
        rotary: &Rotary,
        borders: &[usize],
        config: &DecoderConfig,
        adapters: &Adapters,
        kernels: Kernels,
    ) -> Result<(Tensor, BlockSaved)> {
        let normed = self.attention_norm.forward(&x, kernels)?;
        let q = rotary.forward(&self.q.forward(&normed, adapters)?, config.heads, kernels)?;
        let k = rotary.forward(&self.k.forward(&normed, adapters)?, config.kv_heads, kernels)?;
        let v = rotary::split_heads(&self.v.forward(&normed, adapters)?, config.kv_heads, kernels)?;
        let (attended, attention) = attention::forward(&q, &k, &v, borders, kernels)?;
        let merged = rotary::merge_heads(&attended, kernels)?;
        let middle = ops::add(self.o.forward(&merged, adapters)?, &x)?;

        let normed = self.mlp_norm.forward(&middle, kernels)?;
        let gate = self.gate.forward(&normed, adapters)?;
        let up = self.up.forward(&normed, adapters)?;
        let active = swiglu::forward(&gate, &up, kernels)?;
        let y = ops::add(self.down.forward(&active, adapters)?, &middle)?;
        Ok((y, BlockSaved { x, q, k, v, attended, attention, middle, gate, up }))
    }

    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        saved: BlockSaved,
        dy: Tensor,
        rotary: &Rotary,
        borders: &[usize],
        adapters: &Adapters,
        gradients: &mut Gradients,
        wanted: Wanted,
        kernels: Kernels,
    ) -> Result<Option<Tensor>> {
        let BlockSaved { x, q, k, v, attended, attention, middle, gate, up } = saved;
        let mut back = |linear: &Linear, x: &Tensor, dy: &Tensor, wanted| {
            linear.backward(x, dy, adapters, gradients, wanted)
        };
        let input = |dx: Option<Tensor>| dx.ok_or_else(|| Error::compute("a gradient is missing"));

        let active = swiglu::forward(&gate, &up, kernels)?;
        let dactive = input(back(&self.down, &active, &dy, Wanted::Input)?)?;
        let (dgate, dup) = swiglu::backward(&gate, &up, &dactive, kernels)?;
        drop((active, dactive, gate, up));
        let normed = self.mlp_norm.forward(&middle, kernels)?;
        let dnormed = input(back(&self.gate, &normed, &dgate, Wanted::Input)?)?;
        let dnormed = ops::add(dnormed, &input(back(&self.up, &normed, &dup, Wanted::Input)?)?)?;
        let dmiddle = ops::add(dy, &self.mlp_norm.backward(&middle, &dnormed, kernels)?)?;

        let merged = rotary::merge_heads(&attended, kernels)?;
        let dmerged = input(back(&self.o, &merged, &dmiddle, Wanted::Input)?)?;
        let dattended = rotary::split_heads(&dmerged, q.dims()[0], kernels)?;
        let (dq, dk, dv) =
            attention::backward(&q, &k, &v, &attended, &attention, &dattended, borders, kernels)?;
        let (dq, dk) = (rotary.backward(&dq, kernels)?, rotary.backward(&dk, kernels)?);
        let dv = rotary::merge_heads(&dv, kernels)?;

        let normed = self.attention_norm.forward(&x, kernels)?;
        let dnormed = back(&self.q, &normed, &dq, wanted)?;
        let from_k = back(&self.k, &normed, &dk, wanted)?;
        let from_v = back(&self.v, &normed, &dv, wanted)?;
        let (Some(dnormed), Some(from_k), Some(from_v)) = (dnormed, from_k, from_v) else { return Ok(None) };
        let dnormed = ops::add(ops::add(dnormed, &from_k)?, &from_v)?;
        Ok(Some(ops::add(dmiddle, &self.attention_norm.backward(&x, &dnormed, kernels)?)?))
    }

    fn extend(
        &self,
        x: Tensor,
        rotary: &Rotary,
        cached: &mut Option<(Tensor, Tensor)>,
        config: &DecoderConfig,
        adapters: &Adapters,
        kernels: Kernels,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(&x, kernels)?;
        let q = rotary.forward(&self.q.forward(&normed, adapters)?, config.heads, kernels)?;
        let mut k = rotary.forward(&self.k.forward(&normed, adapters)?, config.kv_heads, kernels)?;
        let mut v = rotary::split_heads(&self.v.forward(&normed, adapters)?, config.kv_heads, kernels)?;
        if let Some((before_k, before_v)) = cached.take() {
            k = Tensor::cat(&[before_k, k], 1)?;
            v = Tensor::cat(&[before_v, v], 1)?;
        }
        let merged = rotary::merge_heads(&attention::decode(&q, &k, &v)?, kernels)?;
        *cached = Some((k, v));
        let middle = ops::add(self.o.forward(&merged, adapters)?, &x)?;
        let normed = self.mlp_norm.forward(&middle, kernels)?;
        let gate = self.gate.forward(&normed, adapters)?;
        let up = self.up.forward(&normed, adapters)?;
        let active = swiglu::forward(&gate, &up, kernels)?;
        ops::add(self.down.forward(&active, adapters)?, &middle)
    }
}
