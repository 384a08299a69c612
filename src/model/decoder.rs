//! The llama family: forward and backward through all blocks.

use super::config::DecoderConfig;
use super::layers::attention::{self, Saved as AttentionSaved};
use super::layers::linear::Wanted;
use super::layers::{Embedding, Linear, RmsNorm, Rotary, loss, rotary, swiglu};
use super::source::Source;
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Base, Gradients, Kind, LoraConfig, Target};
use crate::ops::{self, Kernels};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// A decoder of the llama family (Touvron et al. 2023), frozen: embedding, blocks of attention and
/// SwiGLU with RMS norms before each, a last norm, the head.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: DecoderConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    device: Device,
    kernels: Kernels,
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
    ids: Vec<u32>,
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
            let weight = source.vector(&format!("{path}.weight"), d, device)?;
            Ok::<_, Error>(RmsNorm::new(weight, config.rms_epsilon).called(path))
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
        let embedding = Embedding::new("model.embed_tokens", embedding);
        let head = Linear::new("lm_head", head, None).without_dropout();
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
        let head = if self.embedding.weight().same_storage(self.head.weight()) { 0 } else { self.head.weight().bytes() };
        blocks + self.embedding.weight().bytes() + head
    }

    /// How many frozen numbers the matrices hold.
    pub fn parameters(&self) -> usize {
        let count = |weight: &Weight| weight.shape().iter().product::<usize>();
        let blocks: usize = self.linears().map(|l| count(l.weight())).sum();
        let head = if self.embedding.weight().same_storage(self.head.weight()) { 0 } else { count(self.head.weight()) };
        blocks + count(self.embedding.weight()) + head
    }

    /// The types that the matrices are stored in, such as `Q4_1, Q8_0`.
    pub fn weight_types(&self) -> String {
        let mut types: Vec<String> = self.linears().map(|l| l.weight().type_name()).collect();
        types.push(self.embedding.weight().type_name());
        types.sort();
        types.dedup();
        types.join(", ")
    }

    /// The layers that can be adapted, in the order of the forward pass: linear ones, and at the end
    /// the embedding and the head.
    pub fn targets(&self) -> Vec<Target> {
        let target = |path: &str, weight: &Weight, kind| Target { path: path.to_string(), shape: weight.shape(), kind };
        let blocks = self.linears().map(|l| target(l.path(), l.weight(), Kind::Linear));
        let embedding = target(self.embedding.path(), self.embedding.weight(), Kind::Embedding);
        let head = target(self.head.path(), self.head.weight(), Kind::Head);
        blocks.chain([embedding, head]).collect()
    }

    /// Fresh adapters beside this model, as the config says.
    ///
    /// # Errors
    /// When the config cannot be used or does not fit the model.
    pub fn adapters(&self, config: &LoraConfig, seed: u64) -> Result<Adapters> {
        Adapters::beside(self, config, &self.targets(), seed, &self.device)
    }

    /// All weights as those that are trained: what LoRA is compared with.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn all_trained(&self) -> Result<Adapters> {
        let mut whole = BTreeMap::new();
        for target in self.targets() {
            let tied = target.kind == Kind::Head && self.is_tied();
            if !tied {
                whole.insert(format!("{}.weight", target.path), self.matrix(&target.path)?);
            }
        }
        whole.extend(self.vectors(&|_| true)?);
        Ok(Adapters::from_pairs(LoraConfig::default(), BTreeMap::new()).with_whole(whole))
    }

    /// Whether the head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.embedding.weight().same_storage(self.head.weight())
    }

    /// The same model with the adapters in copies of the weights that they stand beside; all others
    /// are shared. Dropping it unmerges: nothing of this model has changed.
    ///
    /// # Errors
    /// When the adapters belong to another model, or the device has no room.
    pub fn merged(&self, adapters: &Adapters) -> Result<Self> {
        adapters.check(&self.targets())?;
        let mut new = self.clone();
        for linear in new.blocks.iter_mut().flat_map(|b| b.linears_mut()) {
            *linear = linear.merged(adapters)?;
        }
        for norm in new.blocks.iter_mut().flat_map(|b| [&mut b.attention_norm, &mut b.mlp_norm]) {
            *norm = norm.merged(adapters);
        }
        new.norm = new.norm.merged(adapters);
        new.embedding = new.embedding.merged(adapters)?;
        new.head = match self.trained_head(adapters) {
            Some(head) => head.merged(adapters)?,
            None => new.head,
        };
        Ok(new)
    }

    /// The head where anything of it is trained: in a tied model that is trained whole, the embedding's
    /// tensor is the head's.
    fn trained_head(&self, adapters: &Adapters) -> Option<Linear> {
        if self.head.is_trained(adapters) {
            return Some(self.head.clone());
        }
        let shared = self.is_tied() && adapters.whole(self.embedding.name()).is_some();
        shared.then(|| self.head.clone().called(self.embedding.path()))
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
        let hidden = self.norm.forward_trained(&last, adapters, self.kernels)?;
        Ok((hidden, Saved { ids: tokens.ids.to_vec(), blocks: saved, rotary, last }))
    }

    /// The hidden states alone; nothing is kept for a backward pass.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn hidden(&self, tokens: Tokens, adapters: &Adapters, go_on: &dyn Fn() -> bool) -> Result<Tensor> {
        let (last, _) = self.through(tokens, adapters, go_on, drop)?;
        self.norm.forward_trained(&last, adapters, self.kernels)
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
        let mut x = self.embedding.forward(tokens.ids, adapters)?;
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
        let bottom = self.embedding.is_trained(adapters);
        let lowest = match self.blocks.iter().position(|block| block.is_trained(adapters)) {
            _ if bottom => 0,
            Some(lowest) => lowest,
            None => self.blocks.len(),
        };
        let Saved { ids, mut blocks, rotary, last } = saved;
        let mut dx = self.norm.backward_trained(&last, dhidden, adapters, gradients, self.kernels)?;
        drop(last);
        for (layer, block) in self.blocks.iter().enumerate().skip(lowest).rev() {
            if !go_on() {
                return Err(Error::interrupted());
            }
            let Some(saved) = blocks.pop() else { return Err(Error::compute("a block was not run forward")) };
            let last = layer == lowest && !bottom && !block.attention_norm.is_trained(adapters);
            let wanted = if last { Wanted::AdaptersOnly } else { Wanted::Input };
            match block.backward(saved, dx, &rotary, borders, adapters, gradients, wanted, self.kernels)? {
                Some(below) => dx = below,
                None => return Ok(()),
            }
        }
        if bottom { self.embedding.backward(&ids, &dx, adapters, gradients) } else { Ok(()) }
    }

    /// Σ of the cross-entropy at the given tokens. `rows` are the places whose next token is counted,
    /// `targets` those next tokens.
    ///
    /// # Errors
    /// When a row or a target is out of range.
    pub fn loss(&self, hidden: &Tensor, rows: &[u32], targets: &[u32], adapters: &Adapters) -> Result<f64> {
        let index = Tensor::new(rows, hidden.device())?;
        let picked = hidden.index_select(&index, 0)?.contiguous()?;
        loss::forward(&picked, targets, &self.head_of(adapters)?, self.kernels)
    }

    /// The same sum and ∂(scale·Σ)/∂hidden in the shape of `hidden`; gradients of a head that is
    /// trained itself go into `gradients`.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn loss_backward(
        &self,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
        scale: f64,
        adapters: &Adapters,
        gradients: &mut Gradients,
    ) -> Result<(f64, Tensor)> {
        let index = Tensor::new(rows, hidden.device())?;
        let picked = hidden.index_select(&index, 0)?.contiguous()?;
        let weight = self.head_of(adapters)?;
        let trained = self.trained_head(adapters);
        let mut on_logits = |h: &Tensor, d: &Tensor| match &trained {
            Some(head) => head.backward(h, d, adapters, gradients, Wanted::AdaptersOnly).map(drop),
            None => Ok(()),
        };
        let on_logits: Option<loss::OnLogits> = trained.is_some().then_some(&mut on_logits);
        let (sum, d) =
            loss::forward_backward_with(&picked, targets, &weight, scale, self.kernels, on_logits)?;
        Ok((sum, hidden.zeros_like()?.index_add(&index, &d, 0)?))
    }

    /// The head's matrix with what is trained in it.
    fn head_of(&self, adapters: &Adapters) -> Result<Weight> {
        match self.trained_head(adapters) {
            Some(head) => Ok(head.merged(adapters)?.weight().clone()),
            None => Ok(self.head.weight().clone()),
        }
    }

    /// Logits of hidden states, `[n, D]` to `[n, V]`.
    ///
    /// # Errors
    /// When the width differs.
    pub fn logits(&self, hidden: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        match self.trained_head(adapters) {
            Some(head) => head.forward(hidden, adapters),
            None => self.head.forward(hidden, &Adapters::default()),
        }
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
        let mut x = self.embedding.forward(ids, adapters)?;
        for (block, cached) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.extend(x, &rotary, cached, &self.config, adapters, self.kernels)?;
        }
        cache.tokens = total;
        self.norm.forward_trained(&x.narrow(0, ids.len() - 1, 1)?.contiguous()?, adapters, self.kernels)
    }
}

impl Base for Decoder {
    fn matrix(&self, path: &str) -> Result<Tensor> {
        let linear = self.linears().chain([&self.head]).find(|linear| linear.path() == path);
        match linear {
            Some(linear) => linear.weight().expand(),
            None if path == self.embedding.path() => self.embedding.weight().expand(),
            None => Err(Error::input("this model has no such layer").layer(path)),
        }
    }

    fn vectors(&self, fits: &dyn Fn(&str) -> bool) -> Result<Vec<(String, Tensor)>> {
        let biases = self.linears().filter_map(|l| Some((format!("{}.bias", l.path()), l.bias()?.clone())));
        let norms = self.blocks.iter().flat_map(|b| b.norms()).chain([&self.norm]);
        let norms = norms.map(|norm| (norm.name().to_string(), norm.weight().clone()));
        Ok(biases.chain(norms).filter(|(name, _)| fits(name)).collect())
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

    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
    }

    fn norms(&self) -> [&RmsNorm; 2] {
        [&self.attention_norm, &self.mlp_norm]
    }

    fn is_trained(&self, adapters: &Adapters) -> bool {
        self.linears().iter().any(|linear| linear.is_trained(adapters))
            || self.norms().iter().any(|norm| norm.is_trained(adapters))
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
        let normed = self.attention_norm.forward_trained(&x, adapters, kernels)?;
        let q = rotary.forward(&self.q.forward(&normed, adapters)?, config.heads, kernels)?;
        let k = rotary.forward(&self.k.forward(&normed, adapters)?, config.kv_heads, kernels)?;
        let v = rotary::split_heads(&self.v.forward(&normed, adapters)?, config.kv_heads, kernels)?;
        let (attended, attention) = attention::forward(&q, &k, &v, borders, kernels)?;
        let merged = rotary::merge_heads(&attended, kernels)?;
        let middle = ops::add(self.o.forward(&merged, adapters)?, &x)?;

        let normed = self.mlp_norm.forward_trained(&middle, adapters, kernels)?;
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
        let back = |linear: &Linear, x: &Tensor, dy: &Tensor, gradients: &mut Gradients, wanted| {
            linear.backward(x, dy, adapters, gradients, wanted)
        };
        let input = |dx: Option<Tensor>| dx.ok_or_else(|| Error::compute("a gradient is missing"));

        let active = swiglu::forward(&gate, &up, kernels)?;
        let dactive = input(back(&self.down, &active, &dy, gradients, Wanted::Input)?)?;
        let (dgate, dup) = swiglu::backward(&gate, &up, &dactive, kernels)?;
        drop((active, dactive, gate, up));
        let normed = self.mlp_norm.forward_trained(&middle, adapters, kernels)?;
        let dnormed = input(back(&self.gate, &normed, &dgate, gradients, Wanted::Input)?)?;
        let dnormed = ops::add(dnormed, &input(back(&self.up, &normed, &dup, gradients, Wanted::Input)?)?)?;
        let dmiddle = ops::add(dy, &self.mlp_norm.backward_trained(&middle, &dnormed, adapters, gradients, kernels)?)?;

        let merged = rotary::merge_heads(&attended, kernels)?;
        let dmerged = input(back(&self.o, &merged, &dmiddle, gradients, Wanted::Input)?)?;
        let dattended = rotary::split_heads(&dmerged, q.dims()[0], kernels)?;
        let (dq, dk, dv) =
            attention::backward(&q, &k, &v, &attended, &attention, &dattended, borders, kernels)?;
        let (dq, dk) = (rotary.backward(&dq, kernels)?, rotary.backward(&dk, kernels)?);
        let dv = rotary::merge_heads(&dv, kernels)?;

        let normed = self.attention_norm.forward_trained(&x, adapters, kernels)?;
        let dnormed = back(&self.q, &normed, &dq, gradients, wanted)?;
        let from_k = back(&self.k, &normed, &dk, gradients, wanted)?;
        let from_v = back(&self.v, &normed, &dv, gradients, wanted)?;
        let (Some(dnormed), Some(from_k), Some(from_v)) = (dnormed, from_k, from_v) else { return Ok(None) };
        let dnormed = ops::add(ops::add(dnormed, &from_k)?, &from_v)?;
        Ok(Some(ops::add(dmiddle, &self.attention_norm.backward_trained(&x, &dnormed, adapters, gradients, kernels)?)?))
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
        let normed = self.attention_norm.forward_trained(&x, adapters, kernels)?;
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
        let normed = self.mlp_norm.forward_trained(&middle, adapters, kernels)?;
        let gate = self.gate.forward(&normed, adapters)?;
        let up = self.up.forward(&normed, adapters)?;
        let active = swiglu::forward(&gate, &up, kernels)?;
        ops::add(self.down.forward(&active, adapters)?, &middle)
    }
}
