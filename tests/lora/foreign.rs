//! Adapters that others wrote: PyTorch's archives, kohya's files and mlx-lm's folders. `golden/foreign.py` wrote them
//! out of the adapter of `tiny`.

use crate::common::tiny_adapters::{golden, open, refused, tiny};
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Target};
use lorascope::model::{Decoder, Tokens};
use std::collections::HashMap;
use tempfile::TempDir;

/// How far the logits with an adapter are from PyTorch's with the PEFT adapter.
fn distance(adapters: &Adapters) -> Result<f64> {
    distance_of(&tiny(), "tiny.json", adapters, "tiny.safetensors", "")
}

/// How far the logits of a model with an adapter are from those of this name in a file.
fn distance_of(model: &Decoder, rows: &str, adapters: &Adapters, file: &str, name: &str) -> Result<f64> {
    let rows: serde_json::Value = serde_json::from_slice(&std::fs::read(golden(rows)).unwrap()).unwrap();
    let truth: HashMap<String, Tensor> = candle_core::safetensors::load(golden(file), &Device::Cpu)?;
    let mut worst = 0f64;
    for (i, row) in rows["rows"].as_array().unwrap().iter().enumerate() {
        let ids: Vec<u32> =
            row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let tokens = Tokens { ids: &ids, borders: &[0, ids.len()] };
        let hidden = model.hidden(tokens, adapters, &|| true)?;
        let logits = model.logits(&hidden, adapters)?.to_dtype(DType::F64)?;
        let truth = &truth[&format!("{name}logits.{i}")];
        let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        worst = worst.max(norm(&(logits - truth)?) / norm(truth));
    }
    Ok(worst)
}

#[test]
fn golden_foreign_adapters_compute_the_same() -> Result<()> {
    for path in
        ["tiny-adapter", "foreign/bin", "foreign/kohya.safetensors", "foreign/mlx", "foreign/mlx-alpha"]
    {
        let adapters = open(golden(path))?;
        let off = distance(&adapters)?;
        println!("{path}: {off:.1e}");
        assert!(off < 1e-5, "{path} is off by {off:e}");
        assert_eq!((adapters.len(), adapters.config().rank), (14, 3), "{path}");
    }
    assert!(distance(&Adapters::default())? > 0.1, "the adapter makes a difference");
    // A file in the folder is as good as the folder.
    for path in [
        "foreign/mlx/adapters.safetensors",
        "foreign/bin/adapter_model.bin",
        "tiny-adapter/adapter_model.safetensors",
    ] {
        assert_eq!(open(golden(path))?.len(), 14);
    }
    let (bin, plain) = (open(golden("foreign/bin"))?, open(golden("tiny-adapter"))?);
    for ((name, ours), (_, truth)) in bin.tensors().zip(plain.tensors()) {
        assert_eq!(ours.to_vec2::<f32>()?, truth.to_vec2::<f32>()?, "{name}");
    }
    let scales: Vec<f64> =
        open(golden("foreign/kohya.safetensors"))?.iter().map(|(_, p)| p.scale()).collect();
    assert_eq!(scales[..6], [1.0, 2.0, 4.0, 1.0, 1.0, 4.0]);
    Ok(())
}

#[test]
fn golden_mlx_dora_and_embeddings() -> Result<()> {
    for (name, base, layers) in
        [("mlx-dora", "tiny", 4), ("mlx-embedding", "tiny", 3), ("mlx-tied", "tied", 3 + 2)]
    {
        let model = Decoder::open(golden(base), &Device::Cpu)?;
        let adapters = Adapters::open_for(golden("foreign").join(name), &model.targets(), &Device::Cpu)?;
        model.check(&adapters)?;
        let rows = format!("{base}.json");
        let prefix = format!("{name}.");
        let off = distance_of(&model, &rows, &adapters, "foreign.safetensors", &prefix)?;
        assert!(off < 1e-5, "{name} is off by {off:e}");
        let merged = model.merged(&adapters)?;
        let off = distance_of(&merged, &rows, &Adapters::default(), "foreign.safetensors", &prefix)?;
        assert!(off < 1e-5, "{name} merged is off by {off:e}");
        assert_eq!((adapters.len(), adapters.config().dora), (layers, name == "mlx-dora"), "{name}");

        // PEFT's files keep it all.
        let folder = TempDir::new().unwrap();
        let saved = folder.path().join("peft");
        adapters.save(&saved, base)?;
        let again = Adapters::open_for(&saved, &model.targets(), &Device::Cpu)?;
        let off = distance_of(&model, &rows, &again, "foreign.safetensors", &prefix)?;
        assert!(off < 1e-5, "{name} saved for PEFT is off by {off:e}");
    }
    Ok(())
}

/// DoRA's tensors with another config, or with one of them missing.
#[test]
fn mlx_dora_that_is_not_whole() -> Result<()> {
    let mut tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(golden("foreign/mlx-dora/adapters.safetensors"), &Device::Cpu)?;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("adapters.safetensors");
    let config = |kind: &str| {
        let text =
            format!(r#"{{"fine_tune_type": {kind:?}, "lora_parameters": {{"rank": 2, "scale": 2.0}}}}"#);
        std::fs::write(folder.path().join("adapter_config.json"), text).unwrap();
    };
    let write = |tensors: &HashMap<String, Tensor>| candle_core::safetensors::save(tensors, &path).unwrap();
    let layer = "model.layers.0.mlp.down_proj";
    write(&tensors);
    config("lora");
    assert_eq!(
        refused(folder.path(), &path),
        format!(
            ": unexpected tensor \"{layer}.m\"; \
             expected pairs named <path>.lora_a and <path>.lora_b; only \"dora\" has <path>.m"
        )
    );
    config("dora");
    let m = tensors.remove(&format!("{layer}.m")).unwrap();
    write(&tensors);
    assert_eq!(
        refused(folder.path(), &path),
        format!(", layer {layer}.lora_a: it has no m beside it; the file is cut off: fetch it again")
    );
    tensors.insert(format!("{layer}.m"), m.narrow(0, 1, 20)?.contiguous()?);
    write(&tensors);
    let error = refused(folder.path(), &path);
    assert!(error.starts_with(&format!(", layer {layer}: the magnitude has shape [20]")), "{error}");
    let embedding = golden("foreign/mlx-embedding/adapters.safetensors");
    std::fs::copy(embedding, &path).unwrap();
    let error = refused(folder.path(), &path);
    assert!(
        error.starts_with(", layer model.embed_tokens: DoRA beside an embedding is not supported"),
        "{error}"
    );
    Ok(())
}

#[test]
fn adapters_of_another_model_name_the_tensor() {
    let wider = |path: &str| -> String {
        let targets: Vec<Target> = tiny()
            .targets()
            .into_iter()
            .map(|t| match t.path.contains("1.mlp.up_proj") {
                true => Target { shape: [44, 24], ..t },
                false => t,
            })
            .collect();
        Adapters::open_for(golden(path), &targets, &Device::Cpu).unwrap_err().to_string()
    };
    let other = "; these adapters belong to another model";
    let name = "layer lora_te_model_layers_1_mlp_up_proj.lora_up.weight";
    let what = "and beside this model's layer it would be";
    assert!(
        wider("foreign/kohya.safetensors")
            .ends_with(&format!("{name}: shape [40, 3], {what} [44, 3]{other}"))
    );
    let name = "layer model.layers.1.mlp.up_proj.lora_b";
    assert!(wider("foreign/mlx").ends_with(&format!("{name}: shape [3, 40], {what} [3, 44]{other}")));
    assert!(wider("tiny-adapter").ends_with(&format!(
        "layer model.layers.1.mlp.up_proj: an adapter of 40×24 beside a weight of 44×24{other}"
    )));
    let none = |path: &str| Adapters::open_for(golden(path), &[], &Device::Cpu).unwrap_err().to_string();
    for path in ["foreign/kohya.safetensors", "foreign/mlx"] {
        assert!(none(path).contains("belongs to no linear layer of the model"), "{}", none(path));
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = open(folder.path().join("nowhere")).unwrap_err();
    assert!(missing.is_not_found() && missing.to_string().contains("give a PEFT folder"), "{missing}");
}

#[test]
fn mlx_configs_that_are_something_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("adapter_config.json");
    std::fs::copy(golden("foreign/mlx/adapters.safetensors"), folder.path().join("adapters.safetensors"))
        .unwrap();
    for (config, what) in [
        (
            r#"{"fine_tune_type": "full", "lora_parameters": {"rank": 3, "scale": 2.0}}"#,
            ": fine_tune_type is \"full\", which is not supported; supported: \"lora\" and \"dora\"",
        ),
        (
            r#"{"lora_parameters": {"rank": 3}}"#,
            ": lora_parameters is {\"rank\":3}, expected a rank and a scale that is not 0",
        ),
        (r#"{"model": "x"}"#, ": neither PEFT's peft_type nor mlx's lora_parameters is in it"),
        ("{\n", ", line 2: EOF while parsing"),
    ] {
        std::fs::write(&path, config).unwrap();
        let error = refused(folder.path(), &path);
        assert!(error.starts_with(what), "{error}");
    }
}
