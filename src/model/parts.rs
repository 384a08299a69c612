//! The parts of a model that have tensors, the names of these, the shapes of its matrices, and how large they are.

use super::config::{DecoderConfig, FeedForward, NormKind, Positions, Projections};
use super::weight_dtype::WeightDtype;

/// A part of a model that has tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelPart {
    Embedding,
    Positions,
    AttentionNorm,
    Q,
    K,
    V,
    Qkv,
    QNorm,
    KNorm,
    O,
    MlpNorm,
    Gate,
    Up,
    Down,
    Norm,
    Head,
}

impl ModelPart {
    /// The name in GGUF files, which is the same for all families.
    pub(crate) fn gguf(self) -> &'static str {
        match self {
            Self::Embedding => "token_embd",
            Self::Positions => "position_embd",
            Self::AttentionNorm => "attn_norm",
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::Qkv => "attn_qkv",
            Self::QNorm => "attn_q_norm",
            Self::KNorm => "attn_k_norm",
            Self::O => "attn_output",
            Self::MlpNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
            Self::Norm => "output_norm",
            Self::Head => "output",
        }
    }
}

/// A linear layer of each block.
pub(crate) struct BlockMatrix {
    pub(crate) part: ModelPart,
    pub(crate) shape: [usize; 2],
    pub(crate) bias: bool,
}

impl DecoderConfig {
    /// The number of parameters of the whole model: matrices, norms, biases, embeddings.
    pub fn parameters(&self) -> u64 {
        let size = |shape: &[usize]| shape.iter().fold(1u64, |all, n| all.saturating_mul(*n as u64));
        let (v, d) = (self.vocabulary, self.width);
        let linear =
            |m: &BlockMatrix| size(&m.shape).saturating_add(if m.bias { m.shape[0] as u64 } else { 0 });
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

    /// Bytes of the matrices in memory in this dtype, as [`Decoder::bytes`] counts them; `Stored` counts as bf16.
    ///
    /// [`Decoder::bytes`]: super::Decoder::bytes
    pub fn weight_bytes(&self, weights: WeightDtype) -> u64 {
        let table = [self.vocabulary, self.width];
        let blocks: u64 = self.matrices().iter().map(|m| weights.bytes(m.shape)).sum();
        let head = match (self.tied_embeddings, self.unit_head) {
            (true, false) => 0,
            // Its rows are divided by their lengths, which blocks cannot hold.
            (_, true) if matches!(weights, WeightDtype::Q8_0 | WeightDtype::Q4K) => {
                WeightDtype::F32.bytes(table)
            }
            _ => weights.bytes(table),
        };
        let positions = match self.positions {
            Positions::Learned => weights.bytes([self.context, self.width]),
            Positions::Rotary(_) => 0,
        };
        blocks * self.layers as u64 + weights.bytes(table) + head + positions
    }

    /// Widths of the queries, keys and values of one token.
    pub(crate) fn qkv_widths(&self) -> [usize; 3] {
        let keys = self.kv_heads * self.head_width;
        [self.heads * self.head_width, keys, keys]
    }

    /// The linear layers of a block in the order of the forward pass.
    pub(crate) fn matrices(&self) -> Vec<BlockMatrix> {
        let (d, f) = (self.width, self.intermediate);
        let [q, k, v] = self.qkv_widths();
        let qkv = |part, out| BlockMatrix { part, shape: [out, d], bias: self.qkv_bias };
        let mlp = |part, out, inner| BlockMatrix { part, shape: [out, inner], bias: self.mlp_bias };
        let mut all = match self.projections {
            Projections::Separate => vec![qkv(ModelPart::Q, q), qkv(ModelPart::K, k), qkv(ModelPart::V, v)],
            Projections::Fused => vec![qkv(ModelPart::Qkv, q + k + v)],
        };
        all.push(BlockMatrix { part: ModelPart::O, shape: [d, q], bias: self.o_bias });
        if self.feed_forward == FeedForward::SwiGlu {
            all.push(mlp(ModelPart::Gate, f, d));
        }
        all.extend([mlp(ModelPart::Up, f, d), mlp(ModelPart::Down, d, f)]);
        all
    }
}

/// The names of a tensor in both kinds of files; errors show the Hugging Face name.
pub(crate) struct TensorName {
    pub(super) hugging_face: String,
    /// The name in a file of the model without its head.
    pub(super) bare: String,
    pub(super) gguf: String,
}

impl TensorName {
    /// The name of a tensor (`weight` or `bias`) of a part, in a block or outside of the blocks.
    pub(crate) fn of(config: &DecoderConfig, part: ModelPart, layer: Option<usize>, tensor: &str) -> Self {
        let (path, gguf) = match layer {
            Some(layer) => (config.path(part, layer), format!("blk.{layer}.{}", part.gguf())),
            None => (config.family.definition().name(part).to_string(), part.gguf().to_string()),
        };
        let base = config.family.definition().base;
        let bare = path.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&path);
        Self {
            bare: format!("{bare}.{tensor}"),
            hugging_face: format!("{path}.{tensor}"),
            gguf: format!("{gguf}.{tensor}"),
        }
    }
}

impl std::fmt::Display for TensorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hugging_face)
    }
}
