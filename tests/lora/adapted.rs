//! Adapters on the real model: begun, merged and taken out again, switched, listed; and what is
//! refused.

use crate::common::clock;
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::{Adapter, Adapters, Beside, Init, LoraConfig};
use lorascope::model::{Decoder, GenerateConfig, Model, Tokens};
use lorascope::run::Run;
use lorascope::train::RunConfig;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn model() -> Model {
    let path = std::env::var("LORASCOPE_MODEL")
        .unwrap_or_else(|_| format!("{}/models/smollm2-135m.gguf", env!("CARGO_MANIFEST_DIR")));
    Model::open(path).unwrap()
}

fn golden(name: &str) -> Decoder {
    Decoder::open(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR")), &Device::Cpu).unwrap()
}

fn logits(decoder: &Decoder, adapters: &Adapters) -> Vec<f32> {
    let count = decoder.config().vocabulary as u32;
    let ids: Vec<u32> = (0..24).map(|i| (i * i * 31 + 17) % count).collect();
    let tokens = Tokens { ids: &ids, borders: &[0, ids.len()] };
    let hidden = decoder.hidden(tokens, adapters, &|| true).unwrap();
    decoder.logits(&hidden, adapters).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Fresh adapters whose B is not zero.
fn moved(model: &Model, config: &LoraConfig, seed: u64) -> Adapters {
    let fresh = model.new_adapters(config, seed).unwrap();
    fresh
        .map(|name, tensor| {
            if !name.ends_with("lora_B") {
                return Ok(tensor.clone());
            }
            let values = (0..tensor.elem_count()).map(|i| (i as f32 * 0.37 + seed as f32).sin() * 0.02);
            Ok(Tensor::from_vec(values.collect(), tensor.dims(), &Device::Cpu)?)
        })
        .unwrap()
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    let largest = b.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    a.iter().zip(b).fold(0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

#[test]
fn merged_is_what_the_adapters_are_and_leaves_the_model_alone() -> Result<()> {
    let (model, none) = (model(), Adapters::default());
    let before = logits(model.decoder(), &none);
    let config = LoraConfig { rank: 8, alpha: 16.0, ..Default::default() };
    let adapters = moved(&model, &config, 1);
    let with = logits(model.decoder(), &adapters);
    assert!(off(&with, &before) > 1e-2, "the adapters do nothing");

    let merged = model.merged(&adapters)?;
    assert!(merged.is_merged() && !model.is_merged());
    let off = off(&logits(merged.decoder(), &none), &with);
    assert!(off < 1e-4, "merged, the logits are off by {off:e}");
    // The same as an option of generation.
    let config = GenerateConfig { max_tokens: 6, ..Default::default() };
    let answer = |config: &GenerateConfig| model.complete_with(&adapters, "3 + 5 =", config);
    assert_eq!(answer(&config)?, answer(&GenerateConfig { merge: true, ..config.clone() })?);
    // W₀ is what it was, bit for bit.
    assert_eq!(logits(model.decoder(), &none), before);
    assert_eq!(logits(merged.unmerged().decoder(), &none), before);
    let status = merged.adapter_status(&adapters)?;
    assert!(status.merged && status.show().text.contains("merged"));

    let data = lorascope::dataset::Dataset::open(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/datasets/school_math.jsonl"
    ))?;
    let error = Run::new("merged", &merged, &data, RunConfig::default()).unwrap_err().to_string();
    assert!(error.contains("export() it and open the folder"), "{error}");
    Ok(())
}

#[test]
fn switching_loads_nothing() -> Result<()> {
    let model = model();
    let config = LoraConfig { rank: 8, ..Default::default() };
    let (math, code) = (moved(&model, &config, 1), moved(&model, &config, 2));
    let sets = model.adapter_sets();
    sets.add("math", &math)?;
    sets.add("code", &code)?;
    for (name, adapters) in [("math", &math), ("code", &code)] {
        let begun = Instant::now();
        sets.activate(name)?;
        drop(sets.active());
        clock::within(begun, Duration::from_millis(10));
        let active = sets.active();
        assert_eq!(logits(model.decoder(), &active), logits(model.decoder(), adapters));
    }
    assert_eq!(
        sets.add("code", &math).unwrap_err().to_string(),
        "the adapter \"code\" is active; deactivate() it first"
    );
    sets.activate_weighted([("math", 0.25), ("code", -1.5)])?;
    let active = sets.active();
    for (path, pair) in active.iter() {
        let of = |set: &Adapters, weight: f64| (set.get(path).unwrap().delta().unwrap() * weight).unwrap();
        let truth = (of(&math, 0.25) + of(&code, -1.5))?;
        let difference = (pair.delta()? - &truth)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(
            difference <= 1e-6 * truth.abs()?.max_all()?.to_scalar::<f32>()?.max(1.0),
            "{path}: {difference}"
        );
    }
    sets.deactivate();
    assert!(sets.active().is_empty());
    let other = Adapters::new(
        &LoraConfig { rank: 2, ..Default::default() },
        &golden("tiny").targets(),
        0,
        &Device::Cpu,
    )?;
    assert!(sets.add("tiny", &other).unwrap_err().to_string().contains("belong to another model"));
    Ok(())
}

/// On the quantised base every beginning leaves the model as it is: PiSSA's start is taken off in
/// factors, and no weight is changed.
#[test]
fn beginnings_on_a_quantised_base() -> Result<()> {
    let (model, none) = (model(), Adapters::default());
    let before = logits(model.decoder(), &none);
    let config = |init, dora| {
        LoraConfig { rank: 4, init, dora, ..Default::default() }
            .targets(["layers.0.self_attn.q_proj", "layers.29.mlp.down_proj"])
    };
    for config in [config(Init::Pissa, false), config(Init::Orthogonal, false), config(Init::Kaiming, true)] {
        let adapters = model.new_adapters(&config, 3)?;
        let off = off(&logits(model.decoder(), &adapters), &before);
        assert!(off < 1e-5, "{:?}: {off:e}", config.init);
    }
    Ok(())
}

#[test]
fn status_counts_as_peft_does() -> Result<()> {
    let model = model();
    let adapters = model.new_adapters(&LoraConfig { rank: 8, ..Default::default() }, 1)?;
    let status = model.adapter_status(&adapters)?;
    // PEFT on the same model and settings.
    assert_eq!(
        status.to_string(),
        "trainable params: 2,442,240 || all params: 136,957,248 || trainable%: 1.7832"
    );
    assert_eq!(status.layers.len(), 210);
    let first = &status.layers[0];
    assert_eq!((first.kind, first.rank, first.scale), ("LoRA", 8, 4.0));
    assert_eq!(first.norms[1..], [0.0, 0.0]);
    assert!(first.norms[0] > 0.0);
    Ok(())
}

/// GPT-2's `c_attn` is q, k and v in one: adapters for q and v alone leave k as it is.
#[test]
fn parts_of_a_fused_layer() -> Result<()> {
    let (decoder, none) = (golden("gpt2"), Adapters::default());
    let config = LoraConfig {
        rank: 2,
        enable_lora: BTreeMap::from([("c_attn".to_string(), vec![true, false, true])]),
        ..Default::default()
    }
    .targets(["c_attn"]);
    let fresh = decoder.new_adapters(&config, 1)?;
    assert_eq!(off(&logits(&decoder, &fresh), &logits(&decoder, &none)), 0.0);
    let width = decoder.config().width;
    assert_eq!(fresh.parameters(), decoder.config().layers * (2 * 2 * width + 2 * width * 2));
    let pair = fresh.iter().next().unwrap().1;
    assert_eq!(*pair.beside(), Beside::Parts(vec![true, false, true]));
    let filled = Adapter::merged(
        pair.a().clone(),
        Tensor::ones((2 * width, 2), DType::F32, &Device::Cpu)?,
        &[true, false, true],
        pair.scale(),
    )?;
    let delta = filled.delta()?.to_vec2::<f32>()?;
    assert!(delta[width..2 * width].iter().flatten().all(|x| *x == 0.0));
    assert!(delta[..width].iter().flatten().any(|x| *x != 0.0));

    let uneven = LoraConfig {
        enable_lora: BTreeMap::from([(
            "c_attn".to_string(),
            vec![true, false, true, true, true, true, true],
        )]),
        ..config
    };
    let error = decoder.new_adapters(&uneven, 1).unwrap_err().to_string();
    assert!(error.contains("cannot be cut into 7 equal parts"), "{error}");
    Ok(())
}

#[test]
fn what_cannot_be_adapted_is_said() {
    let decoder = golden("tiny");
    let said = |config: LoraConfig| decoder.new_adapters(&config, 1).unwrap_err().to_string();
    let rank = |rank| LoraConfig { rank, ..Default::default() };
    assert_eq!(
        said(rank(25)),
        "layer model.layers.0.self_attn.q_proj: rank 25 is more than B·A of 24×24 can have; take a rank of at most 24"
    );
    assert!(
        said(rank(4).targets(["qproj"]))
            .starts_with("unknown target module \"qproj\"; this model has q_proj, ")
    );
    assert!(said(LoraConfig { dropout: 1.0, ..rank(4) }).contains("dropout is 1"));
    assert!(said(LoraConfig { dora: true, init: Init::Pissa, ..rank(4) }).contains("not defined"));
    let saved = LoraConfig { modules_to_save: vec!["lm_haed".into()], ..rank(4) };
    assert!(said(saved).contains("modules_to_save names \"lm_haed\", which is not in this model"));
    let both = LoraConfig { modules_to_save: vec!["q_proj".into()], ..rank(4) };
    assert!(said(both).contains("adapted and trained whole"));
    let dora = LoraConfig { dora: true, ..rank(4) };
    assert!(said(dora.targets(["embed_tokens"])).contains("neither DoRA nor PiSSA"));
}
