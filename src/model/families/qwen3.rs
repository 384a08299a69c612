//! Qwen3, the dense ones (Yang et al. 2025): a llama whose heads of q and k have RMS norms.

use super::definition::{Definition, LIKE_LLAMA};
use super::values::{self, Json, Metadata};
use crate::error::Result;
use crate::model::config::{DecoderConfig, Family};

pub(super) const DEFINITION: Definition =
    Definition { model_types: &["qwen3"], gguf: Some(("qwen3", from_gguf)), from_json, ..LIKE_LLAMA };

fn from_json(json: &Json) -> Result<DecoderConfig> {
    let config = DecoderConfig { head_norms: true, ..values::like_llama(Family::Qwen3, json)? };
    if json.flag("use_sliding_window")?.unwrap_or(false) {
        values::refuse_window(json, config.context)?;
    }
    let bias = json.flag("attention_bias")?.unwrap_or(false);
    Ok(DecoderConfig { qkv_bias: bias, o_bias: bias, ..config })
}

fn from_gguf(metadata: &Metadata) -> Result<DecoderConfig> {
    Ok(DecoderConfig { head_norms: true, ..metadata.like_llama(Family::Qwen3)? })
}
