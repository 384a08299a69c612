//! Small inputs from public reports about other programs, with the values that are right: `cases/NAME` as they came.

use crate::common::command;
use crate::common::working_folder::WorkingFolder;
use lorascope::candle_core::{DType, Device, Tensor, safetensors};
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::{Decoder, ExportOptions, ExportType, Model, Tokens};
use lorascope::run::Run;
use lorascope::train::RunConfig;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of a case: what is made of it lies beside it.
fn copy(name: &str) -> TempDir {
    fn into(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in from.read_dir().unwrap().map(|entry| entry.unwrap()) {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                into(&from, &to);
            } else {
                std::fs::copy(from, to).unwrap();
            }
        }
    }
    let folder = TempDir::new().unwrap();
    into(&case(name), folder.path());
    folder
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn tensors(folder: &Path) -> HashMap<String, Tensor> {
    safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap()
}

/// Of the tokens 40 to 71, `[32, V]`.
fn logits(model: &Decoder, adapters: &Adapters) -> Result<Tensor> {
    let ids: Vec<u32> = (40..72).collect();
    let hidden = model.hidden(Tokens { ids: &ids, borders: &[0, ids.len()] }, adapters, &|| true)?;
    model.logits(&hidden, adapters)
}

fn largest(x: &Tensor) -> Result<f32> {
    Ok(x.abs()?.max_all()?.to_scalar()?)
}

fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// huggingface/peft 2018 and 2777: merged, the head went into the embedding too, or was thrown away when the folder
/// was loaded. A copy of the embedding that is trained leaves the head on the old one, as PEFT does.
#[test]
fn case_16_the_head_of_a_tied_model() -> Result<()> {
    let folder = copy("16-head-of-a-tied-model");
    let at = |name: &str| folder.path().join(name);
    let model = Model::open(at("model"))?;
    assert!(model.decoder().is_tied());
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tied_head.safetensors");
    let (peft, base) = (safetensors::load(golden, &Device::Cpu)?, tensors(&at("model")));
    for name in ["lora-head", "whole-head", "whole-embedding"] {
        let adapters = model.adapters(at(name))?;
        let ours = logits(model.decoder(), &adapters)?;
        let off = largest(&(ours.narrow(0, 28, 4)? - &peft[name])?)? / largest(&peft[name])?;
        assert!(off < 1e-5, "{name}: {off:e} off what PEFT computes");

        let out = at(&format!("merged-{name}"));
        model.export_merged(
            &adapters,
            &out,
            &ExportOptions { dtype: ExportType::F32, ..Default::default() },
        )?;
        let merged = Model::open(&out)?;
        let off = largest(&(logits(merged.decoder(), &Adapters::default())? - &ours)?)?;
        assert!(off < 1e-5, "{name}: merged, {off:e} off");
        assert_eq!(read(&out.join("config.json"))["tie_word_embeddings"], false, "{name}");
        let written = tensors(&out);
        let (table, head) =
            (numbers(&written["model.embed_tokens.weight"])?, numbers(&written["lm_head.weight"])?);
        let old = numbers(&base["model.embed_tokens.weight"])?;
        assert_ne!(table, head, "{name}");
        assert_eq!(
            (table == old, head == old),
            match name {
                "whole-embedding" => (false, true),
                _ => (true, false),
            },
            "{name}"
        );
    }
    Ok(())
}

/// hiyouga/LlamaFactory 7454: a base that was taught ChatML stops at `<|im_end|>` here, and every server that reads
/// the exported configs talked on.
#[cfg(feature = "cli")]
#[test]
fn case_22_the_stop_tokens_of_an_export() -> Result<()> {
    let folder = copy("22-stop-token-of-an-export");
    let at = |name: &str| folder.path().join(name);
    let weights = case("23-merged-in-sixteen-bits").join("model/model.safetensors"); // the same
    std::fs::copy(weights, at("model/model.safetensors")).unwrap();
    let arguments = ["chat", "--model", "model", "--data", "rows.jsonl", "--steps", "2", "--save", "adapter"];
    let done = command::command(&folder, &[&["train"], &arguments[..]].concat()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let model = Model::open(at("model"))?;
    assert_eq!(model.tokenizer().stop_ids(), [261, 263], "<|endoftext|> and <|im_end|>");
    model.export_merged(&model.adapters(at("adapter"))?, at("merged"), &ExportOptions::default())?;
    let generation = read(&at("merged/generation_config.json"));
    assert_eq!(generation, json!({"eos_token_id": [261, 263], "max_new_tokens": 64}));
    assert_eq!(read(&at("merged/config.json"))["eos_token_id"], json!([261, 263]));
    // The exported folder is read as it says.
    assert_eq!(Model::open(at("merged"))?.tokenizer().stop_ids(), [261, 263]);
    Ok(())
}

/// The nearest number of bf16, of two that are as near the even one.
fn nearest(x: f32) -> u32 {
    let bits = x.to_bits();
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// meta-pytorch/torchtune 1101: W + s·B·A, rounded once, and the export says what part of ‖ΔW‖ is left.
#[test]
fn case_23_merged_in_sixteen_bits() -> Result<()> {
    let folder = copy("23-merged-in-sixteen-bits");
    let at = |name: &str| folder.path().join(name);
    let model = Model::open(at("model"))?;
    let base = tensors(&at("model"));
    let mut shares = Vec::new();
    for name in ["usual", "small"] {
        let adapters = model.adapters(at(name))?;
        let exported =
            model.export_merged(&adapters, at(&format!("merged-{name}")), &ExportOptions::default())?;
        let merged = tensors(&exported.folder);
        let (mut worst, mut other, mut total, mut whole, mut left) = (0, 0, 0, 0f64, 0f64);
        for (path, pair) in adapters.iter() {
            let name = format!("{path}.weight");
            assert_eq!(merged[&name].dtype(), DType::BF16);
            let double = |x: &Tensor| x.to_dtype(DType::F64);
            let delta = (double(pair.b())?.matmul(&double(pair.a())?)? * pair.scale())?;
            let delta: Vec<f64> = delta.flatten_all()?.to_vec1()?;
            for ((w, m), d) in numbers(&base[&name])?.into_iter().zip(numbers(&merged[&name])?).zip(delta) {
                let gap = nearest((f64::from(w) + d) as f32).abs_diff(m.to_bits() >> 16);
                (worst, other, total) = (worst.max(gap), other + usize::from(gap > 0), total + 1);
                let before = f32::from_bits(nearest(w) << 16);
                whole += d * d;
                left += (f64::from(m) - f64::from(before) - d).powi(2);
            }
        }
        assert!(worst <= 1 && other * 1000 <= total, "{name}: {other} of {total}, by {worst}");
        let share = 1.0 - (left / whole).sqrt();
        assert!(
            (exported.share_kept() - share.max(0.0)).abs() < 1e-4,
            "{name}: {share} {}",
            exported.share_kept()
        );
        let note = exported.notes.iter().find(|note| note.contains("rounding to bf16 keeps")).unwrap();
        assert_eq!(note.contains("write ExportType::F32"), name == "small", "{note}");
        shares.push(share);
    }
    // Nearly all of the usual one arrives; of the small one nothing but noise, which is larger than itself.
    assert!(shares[0] > 0.95 && shares[1] < 0.0, "{shares:?}");
    Ok(())
}

/// huggingface/transformers 32266: the model in two files is the model in one, whichever is named.
#[test]
fn case_34_a_gguf_in_parts() -> Result<()> {
    let folder = copy("34-gguf-in-parts");
    let at = |name: &str| folder.path().join(name);
    let whole = Model::open(at("whole.gguf"))?;
    let truth = numbers(&logits(whole.decoder(), &Adapters::default())?)?;
    let _working = WorkingFolder::enter();
    std::fs::write("rows.jsonl", "{\"instruction\": \"Say 0\", \"output\": \"0.\"}\n").unwrap();
    let data = Dataset::open("rows.jsonl")?;
    let config = RunConfig::default().rank(2).batch(1).warmup(1).seed(7);
    let step = |name: &str, model: &Model| Run::new(name, model, &data, config.clone())?.step();
    let first = step("whole", &whole)?;
    for part in [1, 2] {
        let model = Model::open(at(&format!("tiny-0000{part}-of-00002.gguf")))?;
        assert_eq!(model.decoder().parameters(), whole.decoder().parameters());
        assert_eq!(model.fingerprint()?, whole.fingerprint()?);
        assert_eq!(numbers(&logits(model.decoder(), &Adapters::default())?)?, truth);
        assert_eq!(step(&format!("part-{part}"), &model)?.loss.to_bits(), first.loss.to_bits());
        // A run of one is opened beside the other.
        Run::get(&format!("part-{part}"))?.close()?;
        Run::open(format!("runs/part-{part}"))?;
    }
    Ok(())
}
