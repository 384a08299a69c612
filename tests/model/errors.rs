//! Files that are no model, or a damaged one: the error names the file, the tensor or the value and
//! says what to do.

use crate::common;
use crate::common::gguf::{gguf, refusal};
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::{Decoder, Model, Tokens};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Puts a number where the header describes a tensor: `at` bytes after its name.
fn patch(mut file: Vec<u8>, tensor: &str, at: usize, value: u64) -> Vec<u8> {
    let name = file.windows(tensor.len()).position(|bytes| bytes == tensor.as_bytes()).unwrap();
    let at = name + tensor.len() + at;
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    file
}

const DAMAGED: &str = "; the file is damaged: fetch it again";
const CUT: &str = "; the download was cut off: fetch it again";
const OTHER: &str =
    "; the weights and the config belong to two models, or the file is damaged: fetch both again";
const PART: &str = "; the file does not hold a whole model: fetch it again";

/// What the error says about these bytes as a .gguf file.
#[track_caller]
fn refused(bytes: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("small.gguf");
    std::fs::write(&path, bytes).unwrap();
    refusal(&path, &path)
}

fn opened(bytes: &[u8]) -> Result<Decoder> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("small.gguf");
    std::fs::write(&path, bytes).unwrap();
    Decoder::open(&path, &Device::Cpu)
}

fn none() -> Adapters {
    Adapters::from_pairs(LoraConfig::default(), BTreeMap::new())
}

fn hidden(model: &Decoder, ids: &[u32]) -> Result<Vec<f32>> {
    let tokens = Tokens { ids, borders: &[0, ids.len()] };
    Ok(model.hidden(tokens, &none(), &|| true)?.flatten_all()?.to_vec1()?)
}

#[test]
fn a_small_gguf_is_a_model() -> Result<()> {
    let model = opened(&gguf(|_| {}))?;
    assert_eq!(model.targets().len(), 7 + 2); // the embedding and the head too
    assert!(model.config().tied_embeddings, "there is no output.weight");
    let untied = opened(&gguf(|parts| parts.tensor("output", &[40, 32], GgmlDType::F32)))?;
    assert!(!untied.config().tied_embeddings);
    assert_eq!(untied.bytes(), model.bytes() + 40 * 32 * 4);
    let values = hidden(&model, &[0, 39, 7])?;
    assert!(values.len() == 3 * 32 && values.iter().all(|x| x.is_finite()));
    Ok(())
}

#[test]
fn no_file_no_content_no_gguf() {
    let folder = tempfile::tempdir().unwrap();
    let missing = &folder.path().join("model.gguf");
    assert_eq!(
        refusal(missing, missing),
        ": no such file or folder; give a .gguf file or a Hugging Face folder; `make model` fetches one"
    );
    assert_eq!(refused(b""), ": the file is empty; fetch it again");
    let what = "; give a .gguf file or a Hugging Face folder";
    assert_eq!(
        refused(b"PK\x03\x04 a zip"),
        format!(": not a GGUF file: it begins with \"PK\\u{{3}}\\u{{4}}\" instead of \"GGUF\"{what}")
    );
    assert_eq!(refused(b"GG"), format!(": not a GGUF file: it begins with \"GG\" instead of \"GGUF\"{what}"));
}

#[test]
fn a_gguf_that_ends_early() {
    let file = gguf(|_| {});
    let end = file.len() - 16; // the last tensor is padded
    assert_eq!(
        refused(&file[..end / 2]),
        format!(": the file ends early: its tensors need {end} bytes, it has {}{CUT}", end / 2)
    );
    assert!(opened(&file[..end]).is_ok());
    for length in (4..1500).step_by(97) {
        let error = refused(&file[..length]);
        assert!(error.ends_with(DAMAGED) || error.ends_with(CUT), "{length} bytes: {error}");
    }
    let whole = std::fs::read(common::model_path()).unwrap();
    let half = whole.len() / 2;
    assert_eq!(
        refused(&whole[..half]),
        format!(": the file ends early: its tensors need 98362432 bytes, it has {half}{CUT}")
    );
}

#[test]
fn a_gguf_header_that_cannot_be() {
    let file = gguf(|_| {});
    let name = "blk.0.attn_q.weight";
    let (dims, offset) = (4, 4 + 2 * 8 + 4);
    let place = format!(", layer {name}: ");
    let before = refused(&patch(file.clone(), name, offset, 2));
    assert!(before.starts_with(&format!("{place}the tensor begins at byte ")), "{before}");
    assert!(before.ends_with(&format!(", which is no multiple of 4{DAMAGED}")), "{before}");
    assert_eq!(
        refused(&patch(file.clone(), name, offset, u64::MAX - 31)),
        format!("{place}a tensor of shape [32, 32] at {} fits into no file{DAMAGED}", u64::MAX - 31)
    );
    assert_eq!(
        refused(&patch(file.clone(), name, dims, 1 << 62)),
        format!("{place}a tensor of shape [32, {}] at 1760 fits into no file{DAMAGED}", 1u64 << 62)
    );
    for wrong in [Value::U32(0), Value::U32(24), Value::U64(32), Value::U8(0)] {
        let file = gguf(|parts| drop(parts.metadata.insert("general.alignment", wrong)));
        assert_eq!(refused(&file), format!(": general.alignment is not a power of two in 32 bits{DAMAGED}"));
    }
}

#[test]
fn a_gguf_of_another_model() {
    let with = |key: &'static str, value: Value| gguf(|parts| drop(parts.metadata.insert(key, value)));
    assert_eq!(
        refused(&with("general.architecture", Value::String("mamba".to_string()))),
        ": architecture \"mamba\" is not supported; supported in GGUF files: llama, qwen2, qwen3, gpt2"
    );
    assert_eq!(
        refused(&gguf(|parts| drop(parts.metadata.remove("llama.context_length")))),
        ": llama.context_length is missing or no number"
    );
    assert_eq!(
        refused(&with("llama.attention.head_count_kv", Value::U32(3))),
        ": 4 heads cannot share 3 key-value heads evenly"
    );
    assert_eq!(
        refused(&with("llama.rope.freq_base", Value::F32(f32::INFINITY))),
        ": the rotary base is inf: it must be positive"
    );
    assert_eq!(
        refused(&with("llama.feed_forward_length", Value::U32(96))),
        format!(
            ", layer model.layers.0.mlp.gate_proj.weight: shape [64, 32] where the model's config says [96, 32]{OTHER}"
        )
    );
    assert_eq!(
        refused(&with("llama.block_count", Value::U32(9_000_000))),
        format!(", layer model.layers.1.input_layernorm.weight: this tensor is missing{PART}")
    );
    assert_eq!(
        refused(&gguf(|parts| parts.tensor("blk.0.ffn_norm", &[64], GgmlDType::F32))),
        format!(
            ", layer model.layers.0.post_attention_layernorm.weight: shape [64] where the model's config says [32]{OTHER}"
        )
    );
    let yarn = gguf(|parts| {
        parts.metadata.insert("llama.rope.scaling.type", Value::String("yarn".to_string()));
    });
    assert!(
        refused(&yarn).starts_with(": rotary scaling \"yarn\" is not supported; llama3 and linear are; ")
    );
    assert!(
        refused(&with("llama.attention.value_length", Value::U32(4)))
            .starts_with(": heads of 8 with a part of 4; supported are only models that rotate whole heads")
    );
}

#[test]
fn a_gguf_whose_frequencies_or_biases_do_not_fit() {
    let with = |name: &'static str, values: Vec<f32>| {
        gguf(move |parts| {
            let values = Tensor::new(values, &Device::Cpu).unwrap();
            let tensor = QTensor::quantize(&values, GgmlDType::F32).unwrap();
            parts.tensors.insert(name.to_string(), tensor);
        })
    };
    assert_eq!(
        refused(&with("rope_freqs.weight", vec![1.0; 5])),
        format!(", layer rope_freqs.weight: shape [5] where the model's config says [4]{OTHER}")
    );
    assert_eq!(
        refused(&with("rope_freqs.weight", vec![1.0, 2.0, -1.0, 8.0])),
        ": rotary scaling by 4 divisors for heads of 8 makes no sense; \
         factors are positive, high is above low, and each pair of a head has one divisor"
    );
    assert!(opened(&with("rope_freqs.weight", vec![1.0, 2.0, 4.0, 8.0])).is_ok());
    assert_eq!(
        refused(&with("blk.0.attn_q.bias", vec![1.0; 32])),
        format!(", layer model.layers.0.self_attn.k_proj.bias: this tensor is missing{PART}")
    );
    assert_eq!(
        refused(&with("blk.0.attn_k.bias", vec![1.0; 16])),
        ", layer model.layers.0.self_attn.k_proj.bias: a bias that is not in the model's config; \
         the layers beside it have none: the file is damaged, fetch it again"
    );
}

/// A copy of a golden folder to break.
struct Folder {
    folder: TempDir,
    tensors: HashMap<String, Tensor>,
}

impl Folder {
    fn copy(name: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let folder = TempDir::new().unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
        }
        let tensors = candle_core::safetensors::load(from.join("model.safetensors"), &Device::Cpu).unwrap();
        Self { folder, tensors }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, key: &str, value: serde_json::Value) -> &Self {
        let path = self.file("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(path, config.to_string()).unwrap();
        self
    }

    fn without(&mut self, tensor: &str) -> &Self {
        self.tensors.remove(tensor).unwrap();
        candle_core::safetensors::save(&self.tensors, self.file("model.safetensors")).unwrap();
        self
    }

    /// What the error at opening says after the name of this file in the folder, or, where none is
    /// given, of the folder.
    #[track_caller]
    fn refused(&self, named: &str) -> String {
        let folder = self.folder.path();
        refusal(folder, &if named.is_empty() { folder.to_path_buf() } else { self.file(named) })
    }
}

#[test]
fn a_folder_that_lacks_a_file() {
    let folder = Folder::copy("tiny");
    std::fs::remove_file(folder.file("config.json")).unwrap();
    assert_eq!(
        folder.refused("config.json"),
        ": no such file or folder; a Hugging Face folder has it beside the weights"
    );
    std::fs::remove_file(folder.file("model.safetensors")).unwrap();
    let path = folder.folder.path();
    assert_eq!(
        refusal(path, path),
        ": no model.safetensors inside; \
         give a .gguf file or a Hugging Face folder with config.json and model.safetensors"
    );
}

#[test]
fn a_folder_in_parts() -> Result<()> {
    let folder = Folder::copy("tiny");
    let whole = hidden(&Decoder::open(folder.folder.path(), &Device::Cpu)?, &[3, 1, 4])?;
    std::fs::remove_file(folder.file("model.safetensors")).unwrap();
    let part = |name: &str| match name.contains("layers.1") {
        true => "model-00002-of-00002.safetensors",
        false => "model-00001-of-00002.safetensors",
    };
    for file in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        let tensors: HashMap<&str, Tensor> = folder
            .tensors
            .iter()
            .filter(|(name, _)| part(name) == file)
            .map(|(name, tensor)| (name.as_str(), tensor.clone()))
            .collect();
        candle_core::safetensors::save(&tensors, folder.file(file))?;
    }
    let map: BTreeMap<&str, &str> = folder.tensors.keys().map(|name| (name.as_str(), part(name))).collect();
    let index = folder.file("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    assert_eq!(hidden(&Decoder::open(folder.folder.path(), &Device::Cpu)?, &[3, 1, 4])?, whole);

    std::fs::remove_file(folder.file("model-00002-of-00002.safetensors")).unwrap();
    assert_eq!(
        folder.refused("model-00002-of-00002.safetensors"),
        ": this part of the model is missing; model.safetensors.index.json names it: fetch it too"
    );
    for outside in ["../model.safetensors", "/etc/passwd", "..", "a/b.safetensors", ""] {
        std::fs::write(&index, serde_json::json!({ "weight_map": { "a": outside } }).to_string()).unwrap();
        assert_eq!(
            folder.refused("model.safetensors.index.json"),
            format!(
                ": weight_map names {outside:?}, which is not a plain file name; \
                 fetch the model again, from a source that you trust"
            )
        );
    }
    std::fs::write(&index, "{\n}").unwrap();
    assert_eq!(
        folder.refused("model.safetensors.index.json"),
        ", line 2: missing field `weight_map` at line 2 column 1"
    );
    Ok(())
}

/// The fingerprint is that of all files that were opened, and a change in one makes another model.
#[test]
fn a_folder_that_changes_is_another_model() -> Result<()> {
    let folder = Folder::copy("tiny");
    let tokenizer = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}"#;
    std::fs::write(folder.file("tokenizer.json"), tokenizer).unwrap();
    let path = folder.folder.path();
    let first = Model::open(path)?;
    assert_eq!(Model::open(path)?.fingerprint()?, first.fingerprint()?);
    let shared = |a: &Model, b: &Model| std::ptr::eq(a.tokenizer(), b.tokenizer());
    assert!(shared(&Model::open(path)?, &first));

    let mut seen = vec![first.fingerprint()?];
    for (name, text) in [
        ("tokenizer_config.json", r#"{"eos_token": "b"}"#),
        ("chat_template.jinja", "{{ 1 }}"),
        ("chat_template.jinja", "{{ 2 }}{# longer #}"),
        ("generation_config.json", r#"{"eos_token_id": 0}"#),
    ] {
        std::fs::write(folder.file(name), text).unwrap();
        let next = Model::open(path)?;
        assert!(!shared(&next, &first), "{name}");
        seen.push(next.fingerprint()?);
    }
    folder.config("comment", "the same model, but not the same file".into());
    seen.push(Model::open(path)?.fingerprint()?);
    let different: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(different.len(), 6, "{seen:?}");
    assert_eq!(first.fingerprint()?, seen[0], "of what was loaded, whatever lies there now");
    Ok(())
}

#[test]
fn a_folder_whose_config_fits_another_model() {
    let folder = Folder::copy("tiny");
    assert_eq!(
        folder.config("model_type", "mamba".into()).refused("config.json"),
        ": architecture \"mamba\" is not supported; supported: llama, mistral, qwen2, qwen3, gpt2, baichuan"
    );
    assert_eq!(
        Folder::copy("tiny").config("intermediate_size", 44.into()).refused(""),
        format!(
            ", layer model.layers.0.mlp.gate_proj.weight: shape [40, 24] where the model's config says [44, 24]{OTHER}"
        )
    );
    let scaled = serde_json::json!({ "rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4 });
    assert_eq!(
        Folder::copy("tiny").config("rope_parameters", scaled).refused("config.json"),
        ": low_freq_factor is missing"
    );
    let damaged = Folder::copy("tiny");
    std::fs::write(damaged.file("config.json"), "{\n\"model_type\": \"llama\",\n}").unwrap();
    assert_eq!(damaged.refused("config.json"), ", line 3: trailing comma at line 3 column 1");
}

#[test]
fn a_folder_that_lacks_a_tensor() -> Result<()> {
    let lacks = |name: &str| format!(", layer {name}: this tensor is missing{PART}");
    let mut untied = Folder::copy("tiny");
    assert_eq!(untied.without("lm_head.weight").refused(""), lacks("lm_head.weight"));
    untied.config("tie_word_embeddings", true.into());
    assert!(Decoder::open(untied.folder.path(), &Device::Cpu)?.config().tied_embeddings);

    let bias = "model.layers.1.self_attn.o_proj.bias";
    assert_eq!(Folder::copy("tied").without(bias).refused(""), lacks(bias));
    assert_eq!(
        Folder::copy("tied").config("attention_bias", false.into()).refused(""),
        ", layer model.layers.0.self_attn.q_proj.bias: a bias that is not in the model's config; \
         set attention_bias or mlp_bias in config.json if it belongs to the model"
    );
    assert_eq!(
        Folder::copy("tied").config("mlp_bias", true.into()).refused(""),
        lacks("model.layers.0.mlp.gate_proj.bias")
    );
    Ok(())
}

#[test]
fn safetensors_that_are_cut_or_empty() {
    let folder = Folder::copy("tiny");
    let path = folder.file("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let damaged = "; the file is damaged or cut off: fetch it again";
    for (bytes, what) in [
        (&whole[..whole.len() / 2], ": incomplete metadata, file not fully covered"),
        (&whole[..100], ": invalid header length"),
        (&whole[..5], ": header too small"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(folder.refused("model.safetensors"), format!("{what}{damaged}"));
    }
    std::fs::write(&path, "").unwrap();
    assert_eq!(folder.refused("model.safetensors"), ": the file is empty; fetch it again");
}

#[test]
fn what_a_model_is_asked_for_in_vain() -> Result<()> {
    let model = opened(&gguf(|_| {}))?;
    let refused = |config: LoraConfig| {
        Adapters::new(&config, &model.targets(), 0, &Device::Cpu).unwrap_err().to_string()
    };
    assert_eq!(
        refused(LoraConfig { rank: 0, ..Default::default() }),
        "rank is 0; give LoRA a rank of at least 1"
    );
    assert_eq!(
        refused(LoraConfig { rank: 17, ..Default::default() }),
        "layer model.layers.0.self_attn.k_proj: rank 17 is more than B·A of 16×32 can have; \
         take a rank of at most 16"
    );
    assert_eq!(
        refused(LoraConfig::default().targets(["v_proj", "w_proj"])),
        "unknown target module \"w_proj\"; \
         this model has k_proj, o_proj, q_proj, v_proj, up_proj, down_proj, gate_proj, lm_head, embed_tokens"
    );
    assert!(hidden(&model, &[1; 16]).is_ok());
    assert_eq!(
        hidden(&model, &[1; 17]).unwrap_err().to_string(),
        "a row has 17 tokens; the model was made for at most 16"
    );
    assert_eq!(hidden(&model, &[1, 40]).unwrap_err().to_string(), "token 40 is not in a vocabulary of 40");
    Ok(())
}
