//! Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024), and what has their shape: Mistral
//! (Jiang et al. 2023), SmolLM2, TinyLlama. RMS norms, rotary positions, grouped heads, SwiGLU.

use super::definition::{Definition, LIKE_LLAMA};
use super::values::{self, Json, Metadata};
use crate::error::Result;
use crate::model::config::{DecoderConfig, Family};

pub(super) const DEFINITION: Definition = Definition {
    model_types: &["llama", "mistral"],
    gguf: Some(("llama", from_gguf)), // Mistral, too
    interleaved: true,
    from_json,
    ..LIKE_LLAMA
};

fn from_json(json: &Json) -> Result<DecoderConfig> {
    let config = values::like_llama(Family::Llama, json)?;
    values::refuse_window(json, config.context)?; // Mistral's first version has one
    let attention_bias = json.flag("attention_bias")?.unwrap_or(false);
    let mlp_bias = json.flag("mlp_bias")?.unwrap_or(false);
    Ok(DecoderConfig { qkv_bias: attention_bias, o_bias: attention_bias, mlp_bias, ..config })
}

fn from_gguf(metadata: &Metadata) -> Result<DecoderConfig> {
    metadata.like_llama(Family::Llama)
}
