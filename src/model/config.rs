//! The sizes of a model and the parts of its blocks.

use super::families::{self, Family, Part};
use super::layers::Gelu;
use super::layers::frequencies::Frequencies;
use super::source::Source;
use super::weights_as::WeightsAs;
use crate::error::{Error, Result};
use crate::lora::{Kind, Target};
use candle_core::quantized::gguf_file::Value as Gguf;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// What a decoder is made of: sizes, and which of the parts its blocks have. A
/// [family](Family) reads it from `config.json` or a GGUF file's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Whose names the weights have.
    pub family: Family,
    /// V, tokens in the vocabulary.
    pub vocabulary: usize,
    /// D, the width of the residual stream.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width inside the feed-forward layer.
    pub intermediate: usize,
    /// Tokens the model was made for.
    pub context: usize,
    /// The norm before attention, before the feed-forward layer and after the last block.
    pub norm: NormKind,
    /// ε inside the norms' roots.
    pub norm_epsilon: f64,
    /// How a token knows its place.
    pub positions: Positions,
    /// What the feed-forward layer does between its matrices.
    pub feed_forward: FeedForward,
    /// How q, k and v are stored.
    pub projections: Projections,
    /// Whether each head of q and k has an RMS norm before it is rotated.
    pub head_norms: bool,
    /// The token that fills short rows up: where the embedding is trained, its row is not.
    #[serde(default)]
    pub padding: Option<u32>,
    /// The length (2-norm) that a looked-up row of the embedding has at most: PyTorch's `max_norm`.
    #[serde(default)]
    pub max_norm: Option<f64>,
    /// Whether the head is the embedding, which then has no tensor of its own.
    pub tied_embeddings: bool,
    /// Whether the head's rows are brought to length 1 before they are used.
    pub unit_head: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o has one.
    pub o_bias: bool,
    /// Whether the matrices of the feed-forward layer have biases.
    pub mlp_bias: bool,
}

/// A kind of norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// [`RmsNorm`](super::layers::RmsNorm), a weight.
    Rms,
    /// [`LayerNorm`](super::layers::LayerNorm), a weight and a bias.
    Layer,
}

/// How a token knows its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Queries and keys are [rotated](super::layers::Rotary).
    Rotary(Frequencies),
    /// A [table](super::layers::LearnedPositions) is added to the embedding.
    Learned,
}

/// What the feed-forward layer does between its matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// [silu(gate) ⊙ up](super::layers::swiglu).
    SwiGlu,
    /// [GELU](Gelu) of up; there is no gate.
    Gelu(Gelu),
}

/// How q, k and v are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projections {
    /// As three matrices.
    Separate,
    /// As one matrix whose output is q, k and v [beside each other](super::layers::fused).
    Fused,
}

/// A linear layer of each block.
pub(crate) struct Matrix {
    pub(crate) part: Part,
    pub(crate) shape: [usize; 2],
    pub(crate) bias: bool,
}

impl DecoderConfig {
    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// When the architecture is none of the supported ones, a value is missing or makes no sense, or
    /// the model has a part that is not supported.
    ///
    /// # Examples
    /// ```
    /// use lorascope::model::DecoderConfig;
    ///
    /// let gpt2 = r#"{"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768,
    ///     "n_layer": 12, "n_head": 12, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}"#;
    /// assert_eq!(DecoderConfig::from_json(gpt2)?.parameters(), 124_439_808);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        families::from_json(text)?.checked()
    }

    /// Reads the sizes of a model, and none of its weights: from a `config.json`, a Hugging Face folder, in
    /// which that file is enough, or a `.gguf` file.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and when there is no such file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
        if json.extension().is_none_or(|extension| extension != "json") {
            return Source::open(path)?.config();
        }
        let text = std::fs::read_to_string(&json).map_err(|e| {
            Error::io(&json, e).help("give a config.json, a folder that has one, or a .gguf file")
        })?;
        Self::from_json(&text).map_err(|e| e.path(&json))
    }

    /// Reads a GGUF file's metadata. What only the tensors say (a head of its own, biases of a llama,
    /// scaled frequencies) is as if there were none.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_gguf(metadata: &HashMap<String, Gguf>) -> Result<Self> {
        families::from_gguf(metadata)?.checked()
    }

    /// How many numbers the whole model has: matrices, norms, biases, embeddings.
    pub fn parameters(&self) -> u64 {
        let size = |shape: &[usize]| shape.iter().fold(1u64, |all, n| all.saturating_mul(*n as u64));
        let (v, d) = (self.vocabulary, self.width);
        let linear = |m: &Matrix| size(&m.shape).saturating_add(if m.bias { m.shape[0] as u64 } else { 0 });
        let norm = d as u64 * if self.norm == NormKind::Layer { 2 } else { 1 };
        let head_norms = if self.head_norms { 2 * self.head_width as u64 } else { 0 };
        let matrices = self.matrices().iter().map(linear).fold(0, u64::saturating_add);
        let block = matrices.saturating_add(2 * norm + head_norms);
        let outside = [
            size(&[v, d]),
            if self.tied_embeddings { 0 } else { size(&[v, d]) },
            if self.positions == Positions::Learned { size(&[self.context, d]) } else { 0 },
            norm,
        ];
        outside.into_iter().fold(block.saturating_mul(self.layers as u64), u64::saturating_add)
    }

    /// Bytes of the matrices in memory when they are held in this type, as [`Decoder::bytes`] counts them;
    /// as stored counts as bf16.
    ///
    /// [`Decoder::bytes`]: super::Decoder::bytes
    pub fn weight_bytes(&self, weights: WeightsAs) -> u64 {
        let table = [self.vocabulary, self.width];
        let blocks: u64 = self.matrices().iter().map(|m| weights.bytes(m.shape)).sum();
        let head = match (self.tied_embeddings, self.unit_head) {
            (true, false) => 0,
            // Its rows are divided by their lengths, which blocks cannot hold.
            (_, true) if matches!(weights, WeightsAs::Q8_0 | WeightsAs::Q4K) => WeightsAs::F32.bytes(table),
            _ => weights.bytes(table),
        };
        let positions = match self.positions {
            Positions::Learned => weights.bytes([self.context, self.width]),
            Positions::Rotary(_) => 0,
        };
        blocks * self.layers as u64 + weights.bytes(table) + head + positions
    }

    /// The layers that can be adapted, in the order of the forward pass, without the weights; embedding
    /// and head come last. A head whose rows are brought to length 1 cannot be adapted.
    pub fn targets(&self) -> Vec<Target> {
        let of = |layer| {
            let target = move |m: Matrix| Target::linear(self.path(m.part, layer), m.shape);
            self.matrices().into_iter().map(target)
        };
        let outside = |part, kind| Target {
            path: self.family.definition().name(part).to_string(),
            shape: [self.vocabulary, self.width],
            kind,
        };
        let mut all: Vec<Target> = (0..self.layers).flat_map(of).collect();
        all.push(outside(Part::Embedding, Kind::Embedding));
        if !self.unit_head {
            let kind = if self.tied_embeddings { Kind::TiedHead } else { Kind::Head };
            all.push(outside(Part::Head, kind));
        }
        all
    }

    /// Whether the model's files store a linear layer's weight as `[in, out]`, as PEFT's setting of
    /// that name says: GPT-2 does. In memory, and in adapters, it is `[out, in]` always.
    pub fn fan_in_fan_out(&self) -> bool {
        self.family.definition().transposed
    }

    /// The path of a block's part in the weights: `model.layers.3.self_attn.q_proj`.
    pub(crate) fn path(&self, part: Part, layer: usize) -> String {
        let family = self.family.definition();
        format!("{}.{}.{layer}.{}", family.base, family.blocks, family.name(part))
    }

    /// Queries, keys and values of a token in columns.
    pub(crate) fn qkv_widths(&self) -> [usize; 3] {
        let keys = self.kv_heads * self.head_width;
        [self.heads * self.head_width, keys, keys]
    }

    /// The linear layers of a block in the order of the forward pass.
    pub(crate) fn matrices(&self) -> Vec<Matrix> {
        let (d, f) = (self.width, self.intermediate);
        let [q, k, v] = self.qkv_widths();
        let qkv = |part, out| Matrix { part, shape: [out, d], bias: self.qkv_bias };
        let mlp = |part, out, inner| Matrix { part, shape: [out, inner], bias: self.mlp_bias };
        let mut all = match self.projections {
            Projections::Separate => vec![qkv(Part::Q, q), qkv(Part::K, k), qkv(Part::V, v)],
            Projections::Fused => vec![qkv(Part::Qkv, q + k + v)],
        };
        all.push(Matrix { part: Part::O, shape: [d, q], bias: self.o_bias });
        if self.feed_forward == FeedForward::SwiGlu {
            all.push(mlp(Part::Gate, f, d));
        }
        all.extend([mlp(Part::Up, f, d), mlp(Part::Down, d, f)]);
        all
    }

    pub(crate) fn checked(self) -> Result<Self> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("key-value heads", self.kv_heads),
            ("head width", self.head_width),
            ("intermediate width", self.intermediate),
            ("context", self.context),
        ];
        for (name, size) in sizes {
            if size == 0 || size > 1 << 24 {
                return Err(Error::format(format!("the {name} of the model is {size}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::format(format!(
                "{} heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0) {
            let epsilon = self.norm_epsilon;
            return Err(Error::format(format!("the norm's epsilon is {epsilon}: it must be positive")));
        }
        if let Some(max_norm) = self.max_norm.filter(|norm| !(norm.is_finite() && *norm > 0.0)) {
            return Err(Error::format(format!("max_norm is {max_norm}: it must be positive")));
        }
        if let Positions::Rotary(frequencies) = &self.positions {
            if !self.head_width.is_multiple_of(2) {
                return Err(Error::format(format!("a head width of {} is odd", self.head_width)));
            }
            frequencies.check(self.head_width)?;
        }
        Ok(self)
    }
}
