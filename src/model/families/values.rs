//! Reads values of `config.json` and GGUF metadata; defaults that most families share.

use crate::error::{Error, Result};
use crate::model::config::{DecoderConfig, Family, FeedForward, NormKind, Positions, Projections};
use crate::model::layers::frequencies::{Frequencies, FrequencyScaling};
use candle_core::quantized::gguf_file::Value as Gguf;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// A `config.json`. A null value counts as missing.
pub(super) struct Json(Map<String, Value>);

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map(Self).map_err(|e| Error::format(&e).line(e.line() as u64))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A size.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>> {
        let read = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.read(key, "a whole number", read)
    }

    pub(super) fn need(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| missing(key))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.read(key, "a text", Value::as_str)
    }

    /// `rope_parameters`, called `rope_scaling` in older files.
    fn rope(&self) -> Option<Self> {
        let rope = self.get("rope_parameters").or(self.get("rope_scaling"));
        rope.and_then(Value::as_object).map(|rope| Self(rope.clone()))
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Error::format(format!("{key} is {value}, expected {what}")))
    }
}

fn missing(key: &str) -> Error {
    Error::format(format!("{key} is missing"))
}

fn unsupported_scaling(kind: &str) -> Error {
    Error::format(format!("rotary scaling {kind:?} is not supported")).help(
        "llama3 and linear are; a model that brings yarn or dynamic for long texts only works without: \
         take rope_scaling out of config.json and train within the original context",
    )
}

/// The config of a family that has the keys of llama: RMS norms, rotary positions, SwiGLU, no biases.
pub(super) fn like_llama(family: Family, json: &Json) -> Result<DecoderConfig> {
    if let Some(name) = json.text("hidden_act")?
        && !matches!(name, "silu" | "swish")
    {
        return Err(Error::format(format!("hidden_act is {name:?}"))
            .help("models of this family are supported with \"silu\" only"));
    }
    let (width, heads) = (json.need("hidden_size")?, json.need("num_attention_heads")?);
    Ok(DecoderConfig {
        family,
        vocabulary: json.need("vocab_size")?,
        width,
        layers: json.need("num_hidden_layers")?,
        heads,
        kv_heads: json.size("num_key_value_heads")?.unwrap_or(heads),
        head_width: json.size("head_dim")?.unwrap_or(width.checked_div(heads).unwrap_or(0)),
        intermediate: json.need("intermediate_size")?,
        context: json.need("max_position_embeddings")?,
        norm: NormKind::Rms,
        norm_epsilon: json.number("rms_norm_eps")?.ok_or_else(|| missing("rms_norm_eps"))?,
        positions: Positions::Rotary(frequencies(json)?),
        feed_forward: FeedForward::SwiGlu,
        projections: Projections::Separate,
        head_norms: false,
        // Old files say −1 for none.
        padding: json.get("pad_token_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()),
        max_norm: None,
        tied_embeddings: json.flag("tie_word_embeddings")?.unwrap_or(false),
        unit_head: false,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
    })
}

fn frequencies(json: &Json) -> Result<Frequencies> {
    let rope = json.rope();
    let inside = |key: &str| rope.as_ref().map_or(Ok(None), |rope| rope.number(key));
    let theta = json.number("rope_theta")?.or(inside("rope_theta")?).unwrap_or(10_000.0);
    if let Some(part) = inside("partial_rotary_factor")?.or(json.number("partial_rotary_factor")?)
        && part != 1.0
    {
        return Err(Error::format(format!("partial_rotary_factor is {part}"))
            .help("only models that rotate whole heads are supported"));
    }
    let kind = match &rope {
        Some(rope) => rope.text("rope_type")?.or(rope.text("type")?).unwrap_or("default"),
        None => "default",
    };
    let need = |key: &str| inside(key)?.ok_or_else(|| missing(key));
    let scaling = match kind {
        "default" => FrequencyScaling::None,
        "linear" => FrequencyScaling::Linear { factor: need("factor")? },
        "llama3" => FrequencyScaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original: need("original_max_position_embeddings")?,
        },
        other => return Err(unsupported_scaling(other)),
    };
    Ok(Frequencies { theta, scaling })
}

/// Refuses a sliding window shorter than the context: a token would not see all tokens before it.
pub(super) fn refuse_window(json: &Json, context: usize) -> Result<()> {
    match json.size("sliding_window")? {
        Some(window) if window < context => Err(Error::format(format!(
            "sliding_window is {window}, below the context of {context}: attention in a window is not supported"
        ))
        .help(format!(
            "set max_position_embeddings to {window} in config.json: within the window nothing changes"
        ))),
        _ => Ok(()),
    }
}

/// Metadata of a GGUF file, below the name of its architecture.
pub(super) struct Metadata<'a> {
    all: &'a HashMap<String, Gguf>,
    architecture: &'a str,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(all: &'a HashMap<String, Gguf>, architecture: &'a str) -> Self {
        Self { all, architecture }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        match self.all.get(&self.key(key)) {
            Some(Gguf::F32(v)) => Some(*v as f64),
            Some(Gguf::F64(v)) => Some(*v),
            Some(other) => other.to_u64().ok().map(|v| v as f64),
            None => None,
        }
    }

    pub(super) fn need(&self, key: &str) -> Result<f64> {
        self.number(key).ok_or_else(|| Error::format(format!("{} is missing or no number", self.key(key))))
    }

    pub(super) fn size(&self, key: &str) -> Result<usize> {
        Ok(self.need(key)? as usize)
    }

    /// Tokens in the vocabulary.
    pub(super) fn vocabulary(&self) -> Result<usize> {
        match (self.number("vocab_size"), self.all.get("tokenizer.ggml.tokens")) {
            (Some(size), _) => Ok(size as usize),
            (None, Some(Gguf::Array(tokens))) => Ok(tokens.len()),
            _ => Err(missing(&self.key("vocab_size"))),
        }
    }

    /// The config of a family that has the keys of llama.
    pub(super) fn like_llama(&self, family: Family) -> Result<DecoderConfig> {
        let (width, heads) = (self.size("embedding_length")?, self.size("attention.head_count")?);
        let rotated = self.number("rope.dimension_count");
        let head_width = self.number("attention.key_length").or(rotated);
        let head_width = head_width.map_or(width.checked_div(heads).unwrap_or(0), |n| n as usize);
        let values = self.number("attention.value_length");
        if let Some(other) = rotated.into_iter().chain(values).find(|n| *n as usize != head_width) {
            return Err(Error::format(format!("heads of {head_width} with a part of {other}")).help(
                "supported are only models that rotate whole heads and whose keys and values have the width of a head",
            ));
        }
        Ok(DecoderConfig {
            family,
            vocabulary: self.vocabulary()?,
            width,
            layers: self.size("block_count")?,
            heads,
            kv_heads: self.number("attention.head_count_kv").map_or(heads, |n| n as usize),
            head_width,
            intermediate: self.size("feed_forward_length")?,
            context: self.size("context_length")?,
            norm: NormKind::Rms,
            norm_epsilon: self.need("attention.layer_norm_rms_epsilon")?,
            positions: Positions::Rotary(self.frequencies()?),
            feed_forward: FeedForward::SwiGlu,
            projections: Projections::Separate,
            head_norms: false,
            tied_embeddings: false, // the metadata does not say; the tensors do
            padding: None,
            max_norm: None,
            unit_head: false,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
        })
    }

    fn frequencies(&self) -> Result<Frequencies> {
        let scaling = match self.all.get(&self.key("rope.scaling.type")) {
            Some(Gguf::String(kind)) if kind == "linear" => {
                FrequencyScaling::Linear { factor: self.need("rope.scaling.factor")? }
            }
            Some(Gguf::String(kind)) if kind != "none" => return Err(unsupported_scaling(kind)),
            _ => FrequencyScaling::None,
        };
        Ok(Frequencies { theta: self.number("rope.freq_base").unwrap_or(10_000.0), scaling })
    }
}
