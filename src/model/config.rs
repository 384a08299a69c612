//! The sizes of a model and the parts of its blocks, as plain data.

use super::layers::Gelu;
use super::layers::frequencies::Frequencies;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A family of models that share names and parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 2 and 3, Mistral, SmolLM2, TinyLlama.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3, the dense ones.
    Qwen3,
    /// GPT-2.
    Gpt2,
    /// Baichuan-7B and Baichuan2-7B.
    Baichuan,
}

/// The sizes of a decoder and the kinds of its parts. A [family](Family) reads it from `config.json` or the
/// metadata of a GGUF file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// The family, which also names the weights.
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
    /// The context length in tokens.
    pub context: usize,
    /// The norm before attention, before the feed-forward layer and after the last block.
    pub norm: NormKind,
    /// ε under the root of the norms.
    pub norm_epsilon: f64,
    /// How positions are encoded.
    pub positions: Positions,
    /// What the feed-forward layer does between its matrices.
    pub feed_forward: FeedForward,
    /// How q, k and v are stored.
    pub projections: Projections,
    /// Whether each head of q and k has an RMS norm before it is rotated.
    pub head_norms: bool,
    /// The padding token: if the embedding is trained, its row is not.
    #[serde(default)]
    pub padding: Option<u32>,
    /// The largest length (2-norm) of a looked-up row of the embedding: PyTorch's `max_norm`.
    #[serde(default)]
    pub max_norm: Option<f64>,
    /// Whether the head is the embedding, which then has no tensor of its own.
    pub tied_embeddings: bool,
    /// Whether the rows of the head are normalised to length 1 before they are used.
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

/// How positions are encoded.
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

impl DecoderConfig {
    /// Validates the sizes.
    pub(crate) fn validated(self) -> Result<Self> {
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
