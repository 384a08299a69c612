//! Writes a `config.json` for a model that was opened from a GGUF file.

use super::config::{DecoderConfig, Family, FeedForward, Positions};
use super::layers::Gelu;
use super::layers::frequencies::FrequencyScaling;
use crate::error::{Error, Result};
use serde_json::{Map, Value as Json, json};

/// A `config.json` for a model that has none, with the keys of old and new versions of transformers.
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
        Some(FrequencyScaling::None) => return Ok(all),
        Some(FrequencyScaling::Linear { factor }) => json!({ "rope_type": "linear", "factor": factor }),
        Some(FrequencyScaling::Llama3 { factor, low, high, original }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": tokens(original),
        }),
        Some(FrequencyScaling::Divisors(_)) | None => {
            return Err(Error::input(
                "the GGUF file has a divisor for each frequency, which config.json cannot express",
            )
            .help("export from the Hugging Face folder of this model"));
        }
    };
    all.insert("rope_scaling".to_string(), scaling);
    Ok(all)
}
