//! The families of models, one short file each: what `config.json` and GGUF metadata mean, what the
//! tensors are called, which parts a block has. `docs/adding-a-model.md` shows how to add one.

mod baichuan;
mod gpt2;
mod llama;
mod qwen2;
mod qwen3;
mod read;

use super::config::DecoderConfig;
use crate::error::{Error, Result};
use candle_core::quantized::gguf_file::Value as Gguf;
use read::{Json, Metadata};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

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

const ALL: [Family; 5] = [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gpt2, Family::Baichuan];

type ReadGguf = fn(&Metadata) -> Result<DecoderConfig>;

/// What a family's file says about it.
pub(crate) struct Definition {
    /// `model_type` in `config.json`.
    model_types: &'static [&'static str],
    /// `general.architecture` in a GGUF file and how the rest is read, where such files are supported.
    gguf: Option<(&'static str, ReadGguf)>,
    /// The path of the model without its head; a file of the model alone leaves it out.
    pub(crate) base: &'static str,
    /// The blocks, below the base.
    pub(crate) blocks: &'static str,
    /// What Hugging Face calls the parts: those of a block below it, the others from the top.
    names: &'static [(Part, &'static str)],
    /// Whether a folder stores linear layers as `[in, out]`.
    pub(crate) transposed: bool,
    /// Whether GGUF files have the rows of q and k as pairs (2j, 2j + 1) for (j, j + W/2).
    pub(crate) interleaved: bool,
    from_json: fn(&Json) -> Result<DecoderConfig>,
}

/// A part of a model that has tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
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

impl Part {
    /// GGUF has one name for all families.
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

/// The names that most families took over from llama.
const LLAMA_NAMES: &[(Part, &str)] = &[
    (Part::Embedding, "model.embed_tokens"),
    (Part::AttentionNorm, "input_layernorm"),
    (Part::Q, "self_attn.q_proj"),
    (Part::K, "self_attn.k_proj"),
    (Part::V, "self_attn.v_proj"),
    (Part::Qkv, "self_attn.W_pack"),
    (Part::QNorm, "self_attn.q_norm"),
    (Part::KNorm, "self_attn.k_norm"),
    (Part::O, "self_attn.o_proj"),
    (Part::MlpNorm, "post_attention_layernorm"),
    (Part::Gate, "mlp.gate_proj"),
    (Part::Up, "mlp.up_proj"),
    (Part::Down, "mlp.down_proj"),
    (Part::Norm, "model.norm"),
    (Part::Head, "lm_head"),
];

/// What families with llama's layout have in common. A family says at least whose it is: its
/// `model_type` and how its config is read.
const LIKE_LLAMA: Definition = Definition {
    model_types: &[],
    gguf: None,
    base: "model",
    blocks: "layers",
    names: LLAMA_NAMES,
    transposed: false,
    interleaved: false,
    from_json: |json| read::like_llama(Family::Llama, json),
};

impl Family {
    pub(crate) fn definition(self) -> &'static Definition {
        match self {
            Self::Llama => &llama::DEFINITION,
            Self::Qwen2 => &qwen2::DEFINITION,
            Self::Qwen3 => &qwen3::DEFINITION,
            Self::Gpt2 => &gpt2::DEFINITION,
            Self::Baichuan => &baichuan::DEFINITION,
        }
    }
}

impl Definition {
    /// What Hugging Face calls a part; GGUF's name where the family does not have it.
    pub(crate) fn name(&self, part: Part) -> &'static str {
        self.names.iter().find(|(p, _)| *p == part).map_or(part.gguf(), |(_, name)| name)
    }
}

pub(super) fn from_json(text: &str) -> Result<DecoderConfig> {
    let json = Json::parse(text)?;
    let name = json.text("model_type")?.ok_or_else(|| Error::format("model_type is missing"))?;
    let mut families = ALL.iter().map(|family| family.definition());
    match families.find(|family| family.model_types.contains(&name)) {
        Some(family) => {
            Ok(DecoderConfig { max_norm: json.number("max_norm")?, ..(family.from_json)(&json)? })
        }
        None => {
            let known: Vec<&str> = ALL.iter().flat_map(|f| f.definition().model_types).copied().collect();
            Err(unknown(name).help(format!("supported: {}", known.join(", "))))
        }
    }
}

pub(super) fn from_gguf(metadata: &HashMap<String, Gguf>) -> Result<DecoderConfig> {
    let name = match metadata.get("general.architecture") {
        Some(Gguf::String(name)) => name.as_str(),
        _ => return Err(Error::format("general.architecture is missing")),
    };
    let mut readers = ALL.iter().filter_map(|family| family.definition().gguf);
    match readers.find(|(architecture, _)| *architecture == name) {
        Some((_, read)) => read(&Metadata::new(metadata, name)),
        None => {
            let known: Vec<&str> = ALL.iter().filter_map(|f| Some(f.definition().gguf?.0)).collect();
            Err(unknown(name).help(format!("supported in GGUF files: {}", known.join(", "))))
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::format(format!("architecture {name:?} is not supported"))
}
