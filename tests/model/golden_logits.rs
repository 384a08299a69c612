//! The real model against transformers on the same dequantised weights: `golden/logits.py` made the
//! numbers.

use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::{Cache, Decoder, Tokens};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Golden {
    columns: Vec<u32>,
    prompts: Vec<Prompt>,
}

#[derive(serde::Deserialize)]
struct Prompt {
    name: String,
    ids: Vec<u32>,
    continuation: Vec<u32>,
    largest_logit: f64,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn model() -> Result<Decoder> {
    let path = std::env::var_os("LORASCOPE_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2-135m.gguf"),
        PathBuf::from,
    );
    assert!(path.exists(), "there is no {}: run `make model`", path.display());
    Decoder::open(path, &Device::Cpu)
}

/// max |ours − truth|
fn distance(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.dims(), truth.dims());
    let off = (ours - truth).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    off.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn golden_logits_and_greedy_continuations() -> Result<()> {
    let golden: Golden = serde_json::from_slice(&std::fs::read(file("logits.json")).unwrap()).unwrap();
    let model = model()?;
    let none = Adapters::from_pairs(LoraConfig::default(), BTreeMap::new());
    let columns = Tensor::new(golden.columns, &Device::Cpu)?;
    for prompt in &golden.prompts {
        let path = file(&format!("logits-{}.safetensors", prompt.name));
        let truth: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu)?;
        let tokens = Tokens { ids: &prompt.ids, borders: &[0, prompt.ids.len()] };
        let logits = model.logits(&model.hidden(tokens, &none, &|| true)?, &none)?; // [T, V]
        let last = logits.get(prompt.ids.len() - 1)?;
        for (what, ours, truth) in [
            ("last position", &last, &truth["last"]),
            ("columns", &logits.index_select(&columns, 1)?, &truth["columns"]),
        ] {
            let off = distance(ours, truth) / prompt.largest_logit;
            assert!(off < 1e-4, "{}: {what} off by {off:e} of the largest logit", prompt.name);
        }

        // Token by token through the cache.
        let (mut cache, mut next, mut said) = (Cache::default(), prompt.ids.clone(), Vec::new());
        for _ in &prompt.continuation {
            let hidden = model.extend(&next, &mut cache, &none)?;
            let best = model.logits(&hidden, &none)?.get(0)?.argmax(0)?.to_scalar::<u32>()?;
            said.push(best);
            next = vec![best];
        }
        assert_eq!(said, prompt.continuation, "{}", prompt.name);
    }
    Ok(())
}
