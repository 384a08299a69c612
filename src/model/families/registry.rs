//! The list of all families: finds the family of a file, reads its config, names its layers.

use super::definition::Definition;
use super::values::{Json, Metadata};
use super::{baichuan, gpt2, llama, qwen2, qwen3};
use crate::error::{Error, Result};
use crate::lora::{Target, TargetKind};
use crate::model::config::{DecoderConfig, Family};
use crate::model::parts::{BlockMatrix, ModelPart};
use candle_core::quantized::gguf_file::Value as Gguf;
use std::collections::HashMap;

const ALL: [Family; 5] = [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gpt2, Family::Baichuan];

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

impl DecoderConfig {
    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// When the architecture is none of the supported ones, a value is missing or invalid, or the
    /// model has a part that is not supported.
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
        from_json(text)?.validated()
    }

    /// Reads a GGUF file's metadata. What only the tensors tell (an untied head, biases of a llama,
    /// scaled frequencies) counts as absent.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_gguf(metadata: &HashMap<String, Gguf>) -> Result<Self> {
        from_gguf(metadata)?.validated()
    }

    /// The layers that can be adapted, in the order of the forward pass, without the weights; embedding
    /// and head come last. A head whose rows are normalised to length 1 cannot be adapted.
    pub fn targets(&self) -> Vec<Target> {
        let of = |layer| {
            let target = move |m: BlockMatrix| Target::linear(self.path(m.part, layer), m.shape);
            self.matrices().into_iter().map(target)
        };
        let outside = |part, kind| Target {
            path: self.family.definition().name(part).to_string(),
            shape: [self.vocabulary, self.width],
            kind,
        };
        let mut all: Vec<Target> = (0..self.layers).flat_map(of).collect();
        all.push(outside(ModelPart::Embedding, TargetKind::Embedding));
        if !self.unit_head {
            let kind = if self.tied_embeddings { TargetKind::TiedHead } else { TargetKind::Head };
            all.push(outside(ModelPart::Head, kind));
        }
        all
    }

    /// Whether the files of the model store the weight of a linear layer as `[in, out]`, as GPT-2 does (PEFT's setting
    /// of that name). In memory and in adapters it is always `[out, in]`.
    pub fn fan_in_fan_out(&self) -> bool {
        self.family.definition().transposed
    }

    /// The path of a part of a block: `model.layers.3.self_attn.q_proj`.
    pub(crate) fn path(&self, part: ModelPart, layer: usize) -> String {
        let family = self.family.definition();
        format!("{}.{}.{layer}.{}", family.base, family.blocks, family.name(part))
    }
}

fn from_json(text: &str) -> Result<DecoderConfig> {
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

fn from_gguf(metadata: &HashMap<String, Gguf>) -> Result<DecoderConfig> {
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
