//! A model written with an adapter merged into it: finite numbers, and every token at which it stops.

use lorascope::candle_core::{Device, Tensor};
use lorascope::error::Result;
use lorascope::model::{Decoder, ExportOptions, ExportType};
use serde_json::{Value as Json, json};
use std::path::Path;
use tiny::{Bench, Tiny};

#[path = "common/llama.rs"]
mod llama;
#[path = "common/tiny.rs"]
mod tiny;

const TYPES: [ExportType; 3] = [ExportType::F32, ExportType::Bf16, ExportType::F16];

fn options(dtype: ExportType) -> ExportOptions {
    ExportOptions { dtype, ..Default::default() }
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_merged_weight_that_is_not_finite_is_named_and_nothing_is_written() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let huge =
        llama::adapters(model.decoder(), 2)?.map(|_, tensor| Ok(tensor.ones_like()?.affine(3e38, 0.0)?))?;
    let files = || std::fs::read_dir(bench.folder.path()).unwrap().count();
    let before = files();
    for dtype in TYPES {
        let said = model.export_merged(&huge, "merged", &options(dtype)).unwrap_err().to_string();
        assert!(said.contains("a weight is inf") && said.contains("model.layers.0."), "{said}");
        assert!(said.contains("look at the adapter that was merged"), "{said}");
        assert_eq!(files(), before, "{said}");
    }
    Ok(())
}

/// Rounded to nearest, 3.4e38 is finite in 32 bits and infinite in bf16, and 65520 is so in f16.
#[test]
fn a_weight_that_rounding_makes_infinite_is_named() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let name = "model.layers.1.mlp.down_proj.weight";
    for (value, dtype, said) in [
        (3.4e38, ExportType::Bf16, "which bf16 cannot hold; write it as ExportType::F32"),
        (65520.0, ExportType::F16, "which f16 cannot hold; write it as ExportType::Bf16"),
    ] {
        let mut tensors = llama::EVEN.tensors();
        let large = Tensor::full(value as f32, tensors[name].dims(), &Device::Cpu)?;
        tensors.insert(name.to_string(), large);
        let from = folder.path().join(format!("{value}"));
        llama::EVEN.write_folder(&from, &tensors);
        let model = Decoder::open(&from, &Device::Cpu)?;
        let error = model.export(folder.path().join("half"), &options(dtype)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(said), "{error}");
        assert!(!folder.path().join("half").exists());
        model.export(folder.path().join(format!("whole-{value}")), &options(ExportType::F32))?;
    }
    Ok(())
}

#[test]
fn both_configs_have_every_token_at_which_the_model_stops() -> Result<()> {
    let bench = Bench::new();
    let path = bench.folder.path().join("model");
    Tiny { eos: "</s>", ..Default::default() }.write(&path);
    std::fs::write(path.join("generation_config.json"), r#"{"eos_token_id": 257, "max_new_tokens": 64}"#)
        .unwrap();
    let model = lorascope::model::Model::open(&path)?;
    assert_eq!(model.tokenizer().stop_ids(), [257, 260]);
    let adapters = llama::adapters(model.decoder(), 2)?;
    model.export_merged(&adapters, "merged", &ExportOptions::default())?;
    model.export("plain", &ExportOptions::default())?;
    for folder in ["merged", "plain"] {
        let generation = read(&Path::new(folder).join("generation_config.json"));
        assert_eq!(generation, json!({"eos_token_id": [257, 260], "max_new_tokens": 64}), "{folder}");
        assert_eq!(read(&Path::new(folder).join("config.json"))["eos_token_id"], json!([257, 260]));
    }
    // Where there is one only, it is a number, also where the model had no such file.
    let one = bench.folder.path().join("one");
    Tiny::default().write(&one);
    let model = lorascope::model::Model::open(&one)?;
    model.export("single", &ExportOptions::default())?;
    for name in ["generation_config.json", "config.json"] {
        assert_eq!(read(&Path::new("single").join(name))["eos_token_id"], json!(260), "{name}");
    }
    Ok(())
}
