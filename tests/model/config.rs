//! What a config alone says: how many numbers a model has, which layers can be adapted, and which
//! models are not supported.

use candle_core::Device;
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig, TargetKind};
use lorascope::model::DecoderConfig;
use serde_json::{Value, json};

fn llama2() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false
    })
}

fn gpt2() -> Value {
    json!({
        "model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12,
        "n_head": 12, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"
    })
}

/// A config with some values in place of its own.
fn with(mut config: Value, changes: Value) -> Value {
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

fn read(config: &Value) -> Result<DecoderConfig> {
    DecoderConfig::from_json(&config.to_string())
}

#[track_caller]
fn refused(config: Value) -> String {
    read(&config).unwrap_err().to_string()
}

#[test]
fn the_numbers_of_known_models() -> Result<()> {
    let qwen2 = json!({
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "tie_word_embeddings": true, "max_position_embeddings": 32768, "use_sliding_window": false,
        "sliding_window": 4096
    });
    let qwen3 = json!({
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": true, "max_position_embeddings": 40960
    });
    let smol = json!({
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true
    });
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let llama3 = json!({
        "vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8, "rope_scaling": scaling,
        "max_position_embeddings": 131072, "rope_theta": 500000.0
    });
    let mistral = json!({
        "model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8,
        "sliding_window": null, "max_position_embeddings": 32768
    });
    let models = [
        ("Llama-2-7B", llama2(), 6_738_415_616),
        ("Llama-3.1-8B", with(llama2(), llama3), 8_030_261_248),
        ("Mistral-7B-v0.2", with(llama2(), mistral), 7_241_732_096),
        ("SmolLM2-135M", with(llama2(), smol), 134_515_008),
        ("Qwen2.5-0.5B", with(llama2(), qwen2), 494_032_768),
        ("Qwen3-0.6B", with(llama2(), qwen3), 596_049_920),
        ("GPT-2", gpt2(), 124_439_808),
        (
            "Baichuan2-7B",
            with(llama2(), json!({ "model_type": "baichuan", "vocab_size": 125696 })),
            7_505_973_248,
        ),
    ];
    for (name, config, parameters) in models {
        assert_eq!(read(&config)?.parameters(), parameters, "{name}");
    }
    Ok(())
}

/// The headline of Hu et al. 2021: a ten-thousandth of the parameters and less.
#[test]
fn rank_one_on_q_and_v_of_a_llama_trains_a_ten_thousandth() -> Result<()> {
    let config = read(&llama2())?;
    let lora = LoraConfig { rank: 1, ..Default::default() }.targets(["q_proj", "v_proj"]);
    let adapters = Adapters::new(&lora, &config.targets(), 0, &Device::Cpu)?;
    assert_eq!(adapters.parameters(), 32 * 2 * (4096 + 4096));
    assert!(adapters.parameters() as u64 * 10_000 <= config.parameters());
    Ok(())
}

#[test]
fn targets_have_the_paths_of_the_weights() -> Result<()> {
    let first = |config: &Value| -> Result<Vec<(String, [usize; 2])>> {
        let targets = read(config)?.targets().into_iter();
        Ok(targets.filter(|t| t.path.contains(".0.")).map(|t| (t.path, t.shape)).collect())
    };
    assert_eq!(
        first(&gpt2())?,
        [
            ("transformer.h.0.attn.c_attn".to_string(), [2304, 768]),
            ("transformer.h.0.attn.c_proj".to_string(), [768, 768]),
            ("transformer.h.0.mlp.c_fc".to_string(), [3072, 768]),
            ("transformer.h.0.mlp.c_proj".to_string(), [768, 3072]),
        ]
    );
    let baichuan = with(llama2(), json!({ "model_type": "baichuan", "vocab_size": 64000 }));
    assert_eq!(first(&baichuan)?[0], ("model.layers.0.self_attn.W_pack".to_string(), [12288, 4096]));
    assert!(read(&gpt2())?.fan_in_fan_out() && !read(&llama2())?.fan_in_fan_out());
    let kinds = |kind| read(&llama2()).map(|c| c.targets().iter().filter(|t| t.kind == kind).count());
    assert_eq!(
        (kinds(TargetKind::Linear)?, kinds(TargetKind::Embedding)?, kinds(TargetKind::Head)?),
        (32 * 7, 1, 1)
    );
    Ok(())
}

#[test]
fn the_second_baichuan_is_told_from_the_first() -> Result<()> {
    let baichuan = |changes: Value| with(with(llama2(), json!({ "model_type": "baichuan" })), changes);
    assert!(!read(&baichuan(json!({ "vocab_size": 64000 })))?.unit_head);
    assert!(read(&baichuan(json!({ "vocab_size": 125696 })))?.unit_head);
    assert!(read(&baichuan(json!({ "vocab_size": 64000, "z_loss_weight": 0 })))?.unit_head);
    let alibi = "Baichuan's 13B models have ALiBi positions, which are not supported; take a 7B model";
    assert_eq!(refused(baichuan(json!({ "hidden_size": 5120, "num_attention_heads": 40 }))), alibi);
    assert_eq!(refused(baichuan(json!({ "max_position_embeddings": null }))), alibi);
    Ok(())
}

#[test]
fn configs_that_are_not_supported() -> Result<()> {
    let llama = |changes: Value| with(llama2(), changes);
    assert_eq!(
        refused(llama(json!({ "hidden_act": "gelu" }))),
        "hidden_act is \"gelu\"; models of this family are supported with \"silu\" only"
    );
    let window = "sliding_window is 2048, below the context of 4096: attention in a window is not supported; \
                  set max_position_embeddings to 2048 in config.json: within the window nothing changes";
    let windowed = json!({ "model_type": "mistral", "sliding_window": 2048 });
    assert_eq!(refused(llama(windowed.clone())), window);
    assert!(read(&llama(json!({ "model_type": "mistral", "sliding_window": 4096 }))).is_ok());
    let qwen =
        |used: bool| json!({ "model_type": "qwen2", "sliding_window": 2048, "use_sliding_window": used });
    assert_eq!(refused(llama(qwen(true))), window);
    assert!(read(&llama(qwen(false))).is_ok());
    for kind in ["yarn", "dynamic", "longrope"] {
        for key in ["type", "rope_type"] {
            assert_eq!(
                refused(llama(json!({ "rope_scaling": { key: kind, "factor": 4.0 } }))),
                format!(
                    "rotary scaling {kind:?} is not supported; llama3 and linear are; a model that brings yarn or \
                     dynamic for long texts only works without: take rope_scaling out of config.json and train \
                     within the original context"
                )
            );
        }
    }
    assert_eq!(
        refused(llama(json!({ "partial_rotary_factor": 0.5 }))),
        "partial_rotary_factor is 0.5; only models that rotate whole heads are supported"
    );
    assert_eq!(
        refused(with(gpt2(), json!({ "activation_function": "relu" }))),
        "activation_function is \"relu\"; supported: gelu_new, gelu_pytorch_tanh, gelu_fast, gelu"
    );
    assert_eq!(
        refused(with(gpt2(), json!({ "scale_attn_by_inverse_layer_idx": true }))),
        "scale_attn_by_inverse_layer_idx is true; only models with false are supported, as OpenAI's are"
    );
    Ok(())
}

#[test]
fn values_that_make_no_sense() {
    let llama = |changes: Value| refused(with(llama2(), changes));
    assert_eq!(llama(json!({ "hidden_size": null })), "hidden_size is missing");
    assert_eq!(llama(json!({ "hidden_size": -3 })), "hidden_size is -3, expected a whole number");
    assert_eq!(
        llama(json!({ "tie_word_embeddings": "no" })),
        "tie_word_embeddings is \"no\", expected true or false"
    );
    assert_eq!(llama(json!({ "model_type": null })), "model_type is missing");
    assert_eq!(llama(json!({ "head_dim": 7 })), "a head width of 7 is odd");
    assert_eq!(llama(json!({ "rms_norm_eps": 0.0 })), "the norm's epsilon is 0: it must be positive");
    assert_eq!(
        llama(json!({ "rope_scaling": { "type": "linear", "factor": 0.0 } })),
        "rotary scaling by Linear { factor: 0.0 } for heads of 128 makes no sense; \
         factors are positive, high is above low, and each pair of a head has one divisor"
    );
    assert_eq!(refused(with(gpt2(), json!({ "n_head": 5 }))), "a width of 768 cannot be split into 5 heads");
}
