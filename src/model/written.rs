//! A model's tensors as they are written, and the `config.json` that says so.

use super::config::{DecoderConfig, FeedForward, Positions};
use super::decoder::{Decoder, Place};
use super::families::Family;
use super::layers::Gelu;
use super::layers::frequencies::Scaling;
use super::weight::Weight;
use crate::error::{Error, Result};
use candle_core::Tensor;
use serde_json::{Map, Value as Json, json};

/// A frozen tensor of a model.
pub(crate) enum Frozen<'a> {
    /// `[out, in]`.
    Matrix(&'a Weight),
    /// The same, in a file whose family stores it as `[in, out]`.
    Turned(&'a Weight),
    Vector(Tensor),
}

impl Decoder {
    /// Every frozen tensor with Hugging Face's name for it; a head that is tied to the embedding has
    /// none of its own.
    pub(crate) fn tensors(&self) -> Vec<(String, Frozen<'_>)> {
        let matrix = |weight| match self.config.fan_in_fan_out() {
            true => Frozen::Turned(weight),
            false => Frozen::Matrix(weight),
        };
        let vectors = |all: Vec<(String, Tensor)>| all.into_iter().map(|(name, v)| (name, Frozen::Vector(v)));
        let mut all = vec![(self.embedding.name().to_string(), Frozen::Matrix(self.embedding.weight()))];
        if let Place::Learned(table) = &self.positions {
            all.push((table.name().to_string(), Frozen::Matrix(table.table())));
        }
        for block in &self.blocks {
            for norm in block.norms() {
                all.extend(vectors(norm.vectors()));
            }
            for linear in block.linears() {
                all.push((format!("{}.weight", linear.path()), matrix(linear.weight())));
                let bias = linear.bias().map(|bias| (format!("{}.bias", linear.path()), bias.clone()));
                all.extend(vectors(bias.into_iter().collect()));
            }
        }
        all.extend(vectors(self.norm.vectors()));
        if !self.is_tied() {
            all.push((format!("{}.weight", self.head.path()), Frozen::Matrix(self.head.weight())));
        }
        all
    }
}

/// A `config.json` for a model that has none, in the keys of transformers, old and new.
pub(super) fn config_json(config: &DecoderConfig, dtype: &str) -> Result<Map<String, Json>> {
    let (class, kind) = match config.family {
        Family::Llama => ("LlamaForCausalLM", "llama"),
        Family::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        Family::Gpt2 => ("GPT2LMHeadModel", "gpt2"),
        Family::Baichuan => ("BaichuanForCausalLM", "baichuan"),
    };
    let sizes = match config.family {
        Family::Gpt2 => json!({
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.intermediate,
            "n_positions": config.context,
            "layer_norm_epsilon": config.norm_epsilon,
            "activation_function": match config.feed_forward {
                FeedForward::Gelu(Gelu::Erf) => "gelu",
                _ => "gelu_new",
            },
        }),
        _ => json!({
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_width,
            "intermediate_size": config.intermediate,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm_epsilon,
            "max_position_embeddings": config.context,
            "attention_bias": config.qkv_bias,
            "mlp_bias": config.mlp_bias,
        }),
    };
    let Json::Object(mut all) = sizes else { return Ok(Map::new()) };
    all.insert("architectures".to_string(), json!([class]));
    all.insert("model_type".to_string(), json!(kind));
    all.insert("vocab_size".to_string(), json!(config.vocabulary));
    all.insert("torch_dtype".to_string(), json!(dtype));
    if config.unit_head {
        all.insert("z_loss_weight".to_string(), json!(0)); // what tells the second Baichuan from the first
    }
    let Positions::Rotary(frequencies) = &config.positions else { return Ok(all) };
    all.insert("rope_theta".to_string(), json!(frequencies.theta));
    // transformers asks for whole tokens.
    let tokens = |x: f64| if x.fract() == 0.0 { json!(x as u64) } else { json!(x) };
    let scaling = match frequencies.as_formula(config.head_width)? {
        Some(Scaling::None) => return Ok(all),
        Some(Scaling::Linear { factor }) => json!({ "rope_type": "linear", "factor": factor }),
        Some(Scaling::Llama3 { factor, low, high, original }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": tokens(original),
        }),
        Some(Scaling::Divisors(_)) | None => {
            return Err(Error::input(
                "the GGUF file has a divisor for each frequency, which follow no formula that config.json can say",
            )
            .help("export from the Hugging Face folder of this model"));
        }
    };
    all.insert("rope_scaling".to_string(), scaling);
    Ok(all)
}
