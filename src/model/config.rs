//! The sizes of a llama.

use crate::error::{Error, Result};
use candle_core::quantized::gguf_file::Value as Gguf;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The hyperparameters of a model of the llama family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
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
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// ε inside the RMS norm's root.
    pub rms_epsilon: f64,
    /// Tokens the model was made for.
    pub context: usize,
    /// Whether the head is the embedding, which then has no tensor of its own.
    pub tied_embeddings: bool,
    /// Whether q, k, v and o have biases.
    pub attention_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
}

impl DecoderConfig {
    /// Reads the `llama.*` metadata of a GGUF file.
    ///
    /// # Errors
    /// When the architecture is not llama or a value is missing or makes no sense.
    pub fn from_gguf(metadata: &HashMap<String, Gguf>) -> Result<Self> {
        let architecture = match metadata.get("general.architecture") {
            Some(Gguf::String(name)) => name.as_str(),
            _ => return Err(Error::format("general.architecture is missing")),
        };
        if architecture != "llama" {
            return Err(unknown_architecture(architecture));
        }
        let number = |key: &str| match metadata.get(key) {
            Some(Gguf::F32(v)) => Some(*v as f64),
            Some(Gguf::F64(v)) => Some(*v),
            Some(other) => other.to_u64().ok().map(|v| v as f64),
            None => None,
        };
        let need =
            |key: &str| number(key).ok_or_else(|| Error::format(format!("{key} is missing or no number")));
        let heads = need("llama.attention.head_count")? as usize;
        let width = need("llama.embedding_length")? as usize;
        let vocabulary = match (number("llama.vocab_size"), metadata.get("tokenizer.ggml.tokens")) {
            (Some(size), _) => size as usize,
            (None, Some(Gguf::Array(tokens))) => tokens.len(),
            _ => return Err(Error::format("llama.vocab_size is missing")),
        };
        if let Some(Gguf::String(kind)) = metadata.get("llama.rope.scaling.type")
            && kind != "none"
        {
            return Err(Error::format(format!("rotary scaling {kind:?} is not supported yet")));
        }
        Self {
            vocabulary,
            width,
            layers: need("llama.block_count")? as usize,
            heads,
            kv_heads: number("llama.attention.head_count_kv").map_or(heads, |n| n as usize),
            head_width: number("llama.rope.dimension_count")
                .map_or(width.checked_div(heads).unwrap_or(0), |n| n as usize),
            intermediate: need("llama.feed_forward_length")? as usize,
            rope_theta: number("llama.rope.freq_base").unwrap_or(10_000.0),
            rms_epsilon: need("llama.attention.layer_norm_rms_epsilon")?,
            context: need("llama.context_length")? as usize,
            tied_embeddings: false, // the metadata does not say; the tensors do
            attention_bias: false,
            mlp_bias: false,
        }
        .checked()
    }

    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// When it is not a llama, or a value is missing or makes no sense.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: HuggingFace =
            serde_json::from_str(text).map_err(|e| Error::format(&e).line(e.line() as u64))?;
        if config.model_type != "llama" {
            return Err(unknown_architecture(&config.model_type));
        }
        if config.hidden_act.as_deref().is_some_and(|a| a != "silu") {
            return Err(Error::format("hidden_act is not \"silu\""));
        }
        let rope = config.rope_parameters.as_ref().or(config.rope_scaling.as_ref());
        let kind = rope.and_then(|r| r.get("rope_type").or(r.get("type"))).and_then(|k| k.as_str());
        if let Some(kind) = kind
            && kind != "default"
        {
            return Err(Error::format(format!("rotary scaling {kind:?} is not supported yet")));
        }
        let theta = rope.and_then(|r| r.get("rope_theta")).and_then(serde_json::Value::as_f64);
        Self {
            vocabulary: config.vocab_size,
            width: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
            head_width: config
                .head_dim
                .unwrap_or(config.hidden_size.checked_div(config.num_attention_heads).unwrap_or(0)),
            intermediate: config.intermediate_size,
            rope_theta: config.rope_theta.or(theta).unwrap_or(10_000.0),
            rms_epsilon: config.rms_norm_eps,
            context: config.max_position_embeddings,
            tied_embeddings: config.tie_word_embeddings,
            attention_bias: config.attention_bias,
            mlp_bias: config.mlp_bias,
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
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
        if !self.head_width.is_multiple_of(2) {
            return Err(Error::format(format!("a head width of {} is odd", self.head_width)));
        }
        if ![self.rms_epsilon, self.rope_theta].iter().all(|x| x.is_finite() && *x > 0.0) {
            return Err(Error::format(format!(
                "the norm's epsilon is {} and the rotary base {}: both must be positive",
                self.rms_epsilon, self.rope_theta
            )));
        }
        Ok(self)
    }
}

fn unknown_architecture(name: &str) -> Error {
    Error::format(format!("architecture {name:?} is not supported"))
        .help("supported: llama (also SmolLM2, TinyLlama and others of that shape)")
}

#[derive(Deserialize)]
struct HuggingFace {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Map<String, serde_json::Value>>,
    rope_parameters: Option<serde_json::Map<String, serde_json::Value>>,
    rms_norm_eps: f64,
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}
