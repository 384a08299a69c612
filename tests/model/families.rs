//! What holds for a model of every family: the cache, the config's counts, names with and without
//! their first part, and the same model in a GGUF file. The models are those of `golden/`.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::config::Positions;
use lorascope::model::layers::frequencies::{Frequencies, FrequencyScaling};
use lorascope::model::{Cache, Decoder, ExportOptions, ExportType, Tokens};
use lorascope::ops::Kernels;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MODELS: [&str; 7] = ["tiny", "tied", "qwen2", "qwen3", "gpt2", "llama3", "baichuan2"];
const IDS: [u32; 13] = [3, 1, 4, 15, 9, 26, 5, 35, 8, 9, 7, 32, 38];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn adapters(name: &str) -> Result<Adapters> {
    Adapters::open(golden(&format!("{name}-adapter")), &Device::Cpu)
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden(name).join("model.safetensors"), &Device::Cpu).unwrap()
}

fn logits(model: &Decoder, adapters: &Adapters) -> Result<Tensor> {
    let tokens = Tokens { ids: &IDS, borders: &[0, IDS.len()] };
    model.logits(&model.hidden(tokens, adapters, &|| true)?, adapters)
}

/// max |x − y| / max |y|
fn distance(x: &Tensor, y: &Tensor) -> f32 {
    assert_eq!(x.dims(), y.dims());
    let largest =
        |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest(&(x - y).unwrap()) / largest(y)
}

#[test]
fn the_cache_gives_what_the_full_pass_gives() -> Result<()> {
    for name in MODELS {
        let adapters = adapters(name)?;
        for kernels in [Kernels::Candle, Kernels::Fused] {
            let model = Decoder::open(golden(name), &Device::Cpu)?.with_kernels(kernels);
            let full = logits(&model, &adapters)?;
            let mut cache = Cache::default();
            for (from, to) in [(0, 5), (5, 6), (6, 7), (7, 10), (10, 13)] {
                let last = model.extend(&IDS[from..to], &mut cache, &adapters)?;
                let last = model.logits(&last, &adapters)?;
                let off = distance(&last, &full.narrow(0, to - 1, 1)?);
                assert!(off < 1e-5, "{name}, {kernels:?}: after {to} tokens the logits are off by {off:e}");
            }
            assert_eq!(cache.len(), 13);
            let error = model.extend(&[1; 60], &mut cache, &adapters).unwrap_err().to_string();
            assert!(error.starts_with("73 tokens, 60 of them new; the model takes at least one"), "{error}");
        }
    }
    Ok(())
}

#[test]
fn a_config_counts_what_the_file_holds() -> Result<()> {
    for name in MODELS {
        let model = Decoder::open(golden(name), &Device::Cpu)?;
        let stored: usize = tensors(name).values().map(Tensor::elem_count).sum();
        assert_eq!(model.config().parameters(), stored as u64, "{name}");
        assert_eq!(model.config().targets(), model.targets(), "{name}");
        assert_eq!(model.bytes(), 4 * model.parameters(), "{name} is stored in f32");
        assert_eq!(model.config().fan_in_fan_out(), name == "gpt2");
    }
    Ok(())
}

/// A model that was saved without its head has names that begin one step lower.
#[test]
fn names_without_their_first_part() -> Result<()> {
    for (name, base) in [("gpt2", "transformer."), ("qwen2", "model."), ("tied", "model.")] {
        let folder = TempDir::new().unwrap();
        std::fs::copy(golden(name).join("config.json"), folder.path().join("config.json")).unwrap();
        let bare: HashMap<String, Tensor> = tensors(name)
            .into_iter()
            .map(|(name, tensor)| (name.strip_prefix(base).unwrap().to_string(), tensor))
            .collect();
        candle_core::safetensors::save(&bare, folder.path().join("model.safetensors"))?;
        let (whole, bare) =
            (Decoder::open(golden(name), &Device::Cpu)?, Decoder::open(folder.path(), &Device::Cpu)?);
        assert_eq!(whole.targets(), bare.targets());
        let adapters = adapters(name)?;
        assert_eq!(distance(&logits(&bare, &adapters)?, &logits(&whole, &adapters)?), 0.0, "{name}");
    }
    Ok(())
}

/// GGUF's name of a Hugging Face tensor, as llama.cpp's converter gives it.
fn gguf_name(name: &str) -> String {
    let parts = [
        ("model.layers.", "blk."),
        ("transformer.h.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("transformer.wte", "token_embd"),
        ("transformer.wpe", "position_embd"),
        ("model.norm", "output_norm"),
        ("transformer.ln_f", "output_norm"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("attn.c_attn", "attn_qkv"),
        ("attn.c_proj", "attn_output"),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("ln_1", "attn_norm"),
        ("ln_2", "ffn_norm"),
    ];
    parts.iter().fold(name.to_string(), |name, (theirs, gguf)| name.replace(theirs, gguf))
}

/// Rows (j, j + W/2) of each head to (2j, 2j + 1): `LlamaModel.permute` of llama.cpp's converter.
fn interleave(x: &Tensor, heads: usize) -> Tensor {
    let half = x.dims()[0] / heads / 2;
    let halves = x.reshape((heads, 2, half, x.elem_count() / x.dims()[0])).unwrap();
    halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape(x.shape()).unwrap()
}

/// The model of a golden folder as llama.cpp's converter would write it, in f32.
fn to_gguf(name: &str, architecture: &str, path: &Path) {
    let model = Decoder::open(golden(name), &Device::Cpu).unwrap();
    let config = model.config();
    let (kind, float) = (|key: &str| format!("{architecture}.{key}"), |x: f64| Value::F32(x as f32));
    let number = |n: usize| Value::U32(n as u32);
    let mut metadata = vec![
        ("general.architecture".to_string(), Value::String(architecture.to_string())),
        (kind("embedding_length"), number(config.width)),
        (kind("block_count"), number(config.layers)),
        (kind("attention.head_count"), number(config.heads)),
        (kind("feed_forward_length"), number(config.intermediate)),
        (kind("context_length"), number(config.context)),
    ];
    let tokens = vec![Value::String("a".to_string()); config.vocabulary];
    metadata.push(("tokenizer.ggml.tokens".to_string(), Value::Array(tokens)));
    let mut tensors = tensors(name);
    match &config.positions {
        Positions::Learned => {
            metadata.push((kind("attention.layer_norm_epsilon"), float(config.norm_epsilon)));
        }
        Positions::Rotary(frequencies) => {
            metadata.push((kind("attention.layer_norm_rms_epsilon"), float(config.norm_epsilon)));
            metadata.push((kind("attention.head_count_kv"), number(config.kv_heads)));
            metadata.push((kind("attention.key_length"), number(config.head_width)));
            metadata.push((kind("attention.value_length"), number(config.head_width)));
            metadata.push((kind("rope.freq_base"), float(frequencies.theta)));
            if frequencies.scaling != FrequencyScaling::None {
                let plain = Frequencies { theta: frequencies.theta, scaling: FrequencyScaling::None };
                let (plain, scaled) =
                    (plain.of(config.head_width).unwrap(), frequencies.of(config.head_width).unwrap());
                let divisors: Vec<f32> = plain.iter().zip(scaled).map(|(p, s)| (p / s) as f32).collect();
                assert!(divisors[0] == 1.0 && divisors[1] > 1.0 && divisors[1] < 8.0, "{divisors:?}");
                tensors.insert("rope_freqs.weight".to_string(), Tensor::new(divisors, &Device::Cpu).unwrap());
            }
        }
    }
    let stored: Vec<(String, QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let tensor = match name {
                n if architecture == "llama" && n.contains("q_proj") => interleave(tensor, config.heads),
                n if architecture == "llama" && n.contains("k_proj") => interleave(tensor, config.kv_heads),
                n if n.contains(".c_") && n.ends_with("weight") => tensor.t().unwrap().contiguous().unwrap(),
                _ => tensor.clone(),
            };
            (gguf_name(name), QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let stored: Vec<_> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &stored).unwrap();
    std::fs::write(path, file.into_inner()).unwrap();
}

#[test]
fn a_gguf_file_is_the_same_model() -> Result<()> {
    let folder = TempDir::new().unwrap();
    for (name, architecture) in [
        ("tiny", "llama"),
        ("tied", "llama"),
        ("llama3", "llama"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
        ("gpt2", "gpt2"),
    ] {
        let path = folder.path().join(format!("{name}.gguf"));
        to_gguf(name, architecture, &path);
        let (truth, model) =
            (Decoder::open(golden(name), &Device::Cpu)?, Decoder::open(&path, &Device::Cpu)?);
        assert_eq!(model.targets(), truth.targets());
        assert_eq!(model.config().parameters(), truth.config().parameters(), "{name}");
        let adapters = adapters(name)?;
        let off = distance(&logits(&model, &adapters)?, &logits(&truth, &adapters)?);
        assert!(off < 2e-6, "{name}: {off:e}");
    }
    Ok(())
}

/// The head of the second Baichuan has rows of length 1, whatever the file holds.
#[test]
fn a_head_of_unit_rows() -> Result<()> {
    let model = Decoder::open(golden("baichuan2"), &Device::Cpu)?;
    let folder = TempDir::new().unwrap();
    std::fs::copy(golden("baichuan2").join("config.json"), folder.path().join("config.json")).unwrap();
    let mut scaled = tensors("baichuan2");
    let head = scaled["lm_head.weight"].clone();
    scaled.insert("lm_head.weight".to_string(), (head * 3.0)?);
    candle_core::safetensors::save(&scaled, folder.path().join("model.safetensors"))?;
    let adapters = adapters("baichuan2")?;
    let again = logits(&Decoder::open(folder.path(), &Device::Cpu)?, &adapters)?;
    assert!(distance(&again, &logits(&model, &adapters)?) < 1e-6);
    Ok(())
}

/// Such an export was refused.
#[test]
fn divisors_of_a_gguf_file_become_the_formula_of_llama_3() -> Result<()> {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(golden("llama3_frequencies.json")).unwrap()).unwrap();
    for case in &cases {
        let name = &case["name"];
        let number = |of: &serde_json::Value| of.as_f64().unwrap();
        let numbers = |key: &str| case[key].as_array().unwrap().iter().map(number).collect::<Vec<_>>();
        let width = number(&case["width"]) as usize;
        let divided = Frequencies {
            theta: number(&case["theta"]),
            scaling: FrequencyScaling::Divisors(numbers("divisors")),
        };
        let scaling = divided.as_formula(width)?.unwrap();
        let found = Frequencies { theta: divided.theta, scaling: scaling.clone() }.of(width)?;
        for (found, expected) in found.iter().zip(numbers("frequencies")) {
            assert!((found - expected).abs() <= 1e-6 * expected, "{name}: {found} for {expected}");
        }
        let expected = &case["rope_scaling"];
        let of = |key: &str| number(&expected[key]);
        let same = FrequencyScaling::Llama3 {
            factor: of("factor"),
            low: of("low_freq_factor"),
            high: of("high_freq_factor"),
            original: of("original_max_position_embeddings"),
        };
        assert_eq!(scaling, same, "{name}");
    }
    let linear = Frequencies { theta: 10000.0, scaling: FrequencyScaling::Divisors(vec![4.0; 16]) };
    assert_eq!(linear.as_formula(32)?, Some(FrequencyScaling::Linear { factor: 4.0 }));
    let none = Frequencies { theta: 10000.0, scaling: FrequencyScaling::Divisors(vec![1.0; 16]) };
    assert_eq!(none.as_formula(32)?, Some(FrequencyScaling::None));
    let wild = Frequencies { theta: 10000.0, scaling: FrequencyScaling::Divisors(vec![1.0, 9.0, 2.0, 5.0]) };
    assert_eq!(wild.as_formula(8)?, None);

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("llama3.gguf");
    to_gguf("llama3", "llama", &path);
    let model = Decoder::open(&path, &Device::Cpu)?;
    let to = folder.path().join("folder");
    model.export(&to, &ExportOptions { dtype: ExportType::F32, ..Default::default() })?;
    let (again, truth) = (Decoder::open(&to, &Device::Cpu)?, Decoder::open(golden("llama3"), &Device::Cpu)?);
    let adapters = adapters("llama3")?;
    let off = distance(&logits(&again, &adapters)?, &logits(&truth, &adapters)?);
    assert!(off < 2e-6, "{off:e}");
    Ok(())
}
