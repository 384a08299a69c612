//! The definition of a family: names of tensors, layout of files, how the config is read.

use super::values::{self, Json, Metadata};
use crate::error::Result;
use crate::model::config::{DecoderConfig, Family};
use crate::model::parts::ModelPart;

pub(super) type ReadGguf = fn(&Metadata) -> Result<DecoderConfig>;

/// The definition of a family.
pub(crate) struct Definition {
    /// `model_type` in `config.json`.
    pub(super) model_types: &'static [&'static str],
    /// `general.architecture` in a GGUF file and how the metadata is read, if such files are supported.
    pub(super) gguf: Option<(&'static str, ReadGguf)>,
    /// The path prefix of the model without its head; files of the model alone leave it out.
    pub(crate) base: &'static str,
    /// The path of the blocks below the base.
    pub(crate) blocks: &'static str,
    /// The Hugging Face names of the parts: relative to the block, or full for parts outside of the blocks.
    pub(super) names: &'static [(ModelPart, &'static str)],
    /// Whether a folder stores linear layers as `[in, out]`.
    pub(crate) transposed: bool,
    /// Whether GGUF files store the rows of q and k as pairs (2j, 2j + 1) instead of (j, j + W/2).
    pub(crate) interleaved: bool,
    pub(super) from_json: fn(&Json) -> Result<DecoderConfig>,
}

/// The names of llama, which most families use.
const LLAMA_NAMES: &[(ModelPart, &str)] = &[
    (ModelPart::Embedding, "model.embed_tokens"),
    (ModelPart::AttentionNorm, "input_layernorm"),
    (ModelPart::Q, "self_attn.q_proj"),
    (ModelPart::K, "self_attn.k_proj"),
    (ModelPart::V, "self_attn.v_proj"),
    (ModelPart::Qkv, "self_attn.W_pack"),
    (ModelPart::QNorm, "self_attn.q_norm"),
    (ModelPart::KNorm, "self_attn.k_norm"),
    (ModelPart::O, "self_attn.o_proj"),
    (ModelPart::MlpNorm, "post_attention_layernorm"),
    (ModelPart::Gate, "mlp.gate_proj"),
    (ModelPart::Up, "mlp.up_proj"),
    (ModelPart::Down, "mlp.down_proj"),
    (ModelPart::Norm, "model.norm"),
    (ModelPart::Head, "lm_head"),
];

/// Defaults for families with the layout of llama. A family sets at least its `model_type` and how its config is
/// read.
pub(super) const LIKE_LLAMA: Definition = Definition {
    model_types: &[],
    gguf: None,
    base: "model",
    blocks: "layers",
    names: LLAMA_NAMES,
    transposed: false,
    interleaved: false,
    from_json: |json| values::like_llama(Family::Llama, json),
};

impl Definition {
    /// The Hugging Face name of a part; the GGUF name if the family does not have the part.
    pub(crate) fn name(&self, part: ModelPart) -> &'static str {
        self.names.iter().find(|(p, _)| *p == part).map_or(part.gguf(), |(_, name)| name)
    }
}
