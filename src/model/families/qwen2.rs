//! Qwen2 and Qwen2.5 (Yang et al. 2024): a llama with biases on q, k and v.

use super::definition::{Definition, LIKE_LLAMA};
use super::values::{self, Json, Metadata};
use crate::error::Result;
use crate::model::config::{DecoderConfig, Family};

pub(super) const DEFINITION: Definition =
    Definition { model_types: &["qwen2"], gguf: Some(("qwen2", from_gguf)), from_json, ..LIKE_LLAMA };

fn from_json(json: &Json) -> Result<DecoderConfig> {
    let config = DecoderConfig { qkv_bias: true, ..values::like_llama(Family::Qwen2, json)? };
    if json.flag("use_sliding_window")?.unwrap_or(false) {
        values::refuse_window(json, config.context)?; // where it is off, a window may stand there still
    }
    Ok(config)
}

fn from_gguf(metadata: &Metadata) -> Result<DecoderConfig> {
    Ok(DecoderConfig { qkv_bias: true, ..metadata.like_llama(Family::Qwen2)? })
}
