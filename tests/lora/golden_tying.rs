//! Embeddings and heads that are trained whole, in models whose head is the embedding and in others, against
//! PEFT (`golden/tying.py`); combinations with weights of both signs (`golden/signs.py`).

use crate::common::reference::{file, json};
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Combine, LoraConfig};
use lorascope::model::{Decoder, ExportOptions, ExportType, Tokens};
use lorascope::text::{Example, pack};
use lorascope::train::OptimizerConfig;
use lorascope::train::step::Learned;
use lorascope::train::step::step;
use std::collections::{BTreeMap, HashMap};

#[derive(serde::Deserialize)]
struct Golden {
    base: String,
    losses: Vec<f64>,
    trained: usize,
}

#[derive(serde::Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(file(name), &Device::Cpu).unwrap()
}

fn open(base: &str) -> Decoder {
    Decoder::open(file(base), &Device::Cpu).unwrap()
}

fn largest(x: &Tensor) -> f32 {
    x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn logits(model: &Decoder, adapters: &Adapters, base: &str) -> Vec<Tensor> {
    let Rows { rows } = json(&format!("{base}.json"));
    let one = |row: &Row| {
        let tokens = Tokens { ids: &row.ids, borders: &[0, row.ids.len()] };
        model.logits(&model.hidden(tokens, adapters, &|| true)?, adapters)
    };
    rows.iter().map(|row| one(row).unwrap()).collect()
}

#[track_caller]
fn agree(name: &str, ours: &[Tensor], truth: &[Tensor], limit: f32) {
    for (i, (ours, truth)) in ours.iter().zip(truth).enumerate() {
        let off = largest(&(ours - truth).unwrap()) / largest(truth);
        assert!(off < limit, "{name}: the logits of row {i} are off by {off:e}");
    }
}

fn truth_of(name: &str, truth: &HashMap<String, Tensor>) -> Vec<Tensor> {
    (0..).map_while(|i| truth.get(&format!("{name}.logits.{i}")).cloned()).collect()
}

#[test]
fn golden_embeddings_and_heads_that_are_trained_whole() -> Result<()> {
    let golden: BTreeMap<String, Golden> = json("tying.json");
    let truth = tensors("tying.safetensors");
    assert_eq!(golden.len(), 14);
    let folder = tempfile::tempdir().unwrap();
    for (name, Golden { base, losses, trained }) in &golden {
        let model = open(base);
        let adapters = Adapters::open(file(&format!("tying/{name}")), &Device::Cpu)?;
        model.check(&adapters)?;
        let expected = truth_of(name, &truth);
        assert!(expected.len() >= 3, "{name}");
        agree(name, &logits(&model, &adapters, base), &expected, 1e-5);
        assert_eq!(adapters.parameters(), *trained, "{name}");

        // Written here and read again, merged, and exported as a model of its own.
        let again = Adapters::open(adapters.save(folder.path().join(name), base)?, &Device::Cpu)?;
        agree(name, &logits(&model, &again, base), &expected, 1e-5);
        // PEFT 0.21 ties by the names embed_tokens and lm_head: GPT-2's wte stays alone.
        let merged = model.merged(&adapters)?;
        agree(name, &logits(&merged, &Adapters::default(), base), &expected, 1e-5);
        let own_head = base == "tiny" || base == "gpt2" || !name.ends_with("_ensured");
        assert_eq!(merged.is_tied(), !own_head, "{name}");
        let options = ExportOptions { dtype: ExportType::F32, ..Default::default() };
        let out = merged.export(folder.path().join(format!("{name}-model")), &options)?.folder;
        let exported = Decoder::open(&out, &Device::Cpu)?;
        agree(name, &logits(&exported, &Adapters::default(), base), &expected, 1e-5);
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["tie_word_embeddings"], !own_head, "{name}");

        let Rows { rows } = json(&format!("{base}.json"));
        let rows: Vec<Example> =
            rows.into_iter().map(|row| Example { ids: row.ids, trained: row.trained }).collect();
        let packs = pack(&rows.iter().collect::<Vec<_>>(), 64)?;
        let mut learned = Learned::new(adapters, 0);
        for (i, loss) in losses.iter().enumerate() {
            let (next, numbers) =
                step(&model, &learned, &packs, 2e-3, None, &OptimizerConfig::default(), &|| true)?;
            learned = next;
            let off = (numbers.loss / loss - 1.0).abs();
            assert!(off < 1e-5, "{name}, step {}: the loss is off by {off:e}", i + 1);
        }
    }
    Ok(())
}

/// What is begun here has the tensors that PEFT trains.
#[test]
fn a_beginning_has_the_tensors_that_peft_trains() -> Result<()> {
    let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight");
    for (base, names, ensured, expected) in [
        ("tied", &["embed_tokens"][..], false, &[embedding][..]),
        ("tied", &["lm_head"], false, &[head]),
        ("tied", &["embed_tokens", "lm_head"], false, &[head, embedding]),
        ("tied", &["embed_tokens"], true, &[embedding]),
        ("tied", &["lm_head"], true, &[embedding]),
        ("tied", &["embed_tokens", "lm_head"], true, &[embedding]),
        ("tiny", &["embed_tokens", "lm_head"], true, &[head, embedding]),
        ("tiny", &["lm_head"], true, &[head]),
    ] {
        let config = LoraConfig {
            rank: 2,
            modules_to_save: names.iter().map(|name| name.to_string()).collect(),
            ensure_weight_tying: ensured,
            ..Default::default()
        };
        let adapters = open(base).new_adapters(&config.targets(["v_proj"]), 1)?;
        assert_eq!(adapters.wholes().map(|(name, _)| name).collect::<Vec<_>>(), expected, "{base} {names:?}");
    }
    let pairs = LoraConfig { rank: 2, ensure_weight_tying: true, ..Default::default() };
    let error = open("tied").new_adapters(&pairs.targets(["embed_tokens"]), 1).unwrap_err().to_string();
    assert!(error.contains("one pair for embedding and head"), "{error}");
    Ok(())
}

#[test]
fn golden_combinations_with_weights_of_both_signs() -> Result<()> {
    let first = Adapters::open(file("tiny-adapter"), &Device::Cpu)?;
    let second = Adapters::open(file("variants/second"), &Device::Cpu)?;
    let truth = tensors("signs.safetensors");
    let norm = |x: &Tensor| -> f64 {
        x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
    };
    let mut compared = 0;
    for (negative, weights) in [("second", [0.7, -0.4]), ("first", [-1.3, 0.2]), ("both", [-0.7, -0.4])] {
        for (name, how) in [
            ("linear", Combine::Linear),
            ("cat", Combine::Cat),
            ("svd", Combine::Rank(2)),
            ("ties", Combine::Ties(0.4)),
        ] {
            let combined = Adapters::combine(&[(&first, weights[0]), (&second, weights[1])], how)?;
            let prefix = format!("{negative}.{name}.");
            for (path, truth) in truth.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?, v))) {
                let off = norm(&(combined.get(path).unwrap().delta()? - truth)?) / norm(truth);
                assert!(off < 1e-6, "{prefix}{path} is off by {off:e}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * 4 * 7);
    Ok(())
}
