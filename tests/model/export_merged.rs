//! A model written with an adapter merged into it: finite numbers, and every token at which it stops.

use crate::common::llama;
use crate::common::tiny::{Bench, Tiny};
use lorascope::candle_core::{Device, Tensor};
use lorascope::error::Result;
use lorascope::model::{Decoder, ExportOptions, ExportType};
use serde_json::{Value as Json, json};
use std::path::Path;

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
        assert!(said.contains("merged/model.safetensors") && !said.contains(".lorascope-"), "{said}");
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

/// The numbers of a 16-bit file, beside those that the adapter makes of the base in 32 bits.
#[test]
fn an_export_says_what_rounding_left_of_the_change() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let usual = llama::adapters(model.decoder(), 2)?;
    let small = usual.map(|name, t| Ok(if name.ends_with("lora_B") { (t * 2e-3)? } else { t.clone() }))?;
    let load = |folder: &str| {
        lorascope::candle_core::safetensors::load(Path::new(folder).join("model.safetensors"), &Device::Cpu)
    };
    let numbers = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(tensor.to_dtype(lorascope::candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
    };
    for (name, adapters) in [("usual", &usual), ("small", &small)] {
        let whole = model.export_merged(adapters, format!("{name}-whole"), &options(ExportType::F32))?;
        assert_eq!((whole.kept.len(), whole.share_kept()), (0, 1.0));
        for dtype in [ExportType::Bf16, ExportType::F16] {
            let (to, base) = (format!("{name}-{dtype:?}"), format!("{name}-{dtype:?}-base"));
            let exported = model.export_merged(adapters, &to, &options(dtype))?;
            assert!(model.export(&base, &options(dtype))?.kept.is_empty());
            let (plain, exact) =
                (model.export("plain", &options(ExportType::F32))?, load(&format!("{name}-whole"))?);
            let before = load("plain")?;
            std::fs::remove_dir_all(plain.folder).unwrap();
            let (merged, rounded) = (load(&to)?, load(&base)?);
            assert_eq!(exported.kept.len(), adapters.len());
            let (mut all, mut off) = (0.0, 0.0);
            for kept in &exported.kept {
                let of = |file: &std::collections::HashMap<String, Tensor>| {
                    numbers(&file[&format!("{}.weight", kept.module)])
                };
                let (w, e, m, r) = (of(&before)?, of(&exact)?, of(&merged)?, of(&rounded)?);
                let (mut change, mut lost) = (0f64, 0f64);
                for i in 0..w.len() {
                    let delta = f64::from(e[i]) - f64::from(w[i]);
                    change += delta.powi(2);
                    lost += (f64::from(m[i]) - f64::from(r[i]) - delta).powi(2);
                }
                assert!((kept.change - change.sqrt()).abs() < 1e-9 * change.sqrt(), "{}", kept.module);
                assert!((kept.lost - lost.sqrt()).abs() < 1e-9 * change.sqrt(), "{}", kept.module);
                (all, off) = (all + change, off + lost);
            }
            let share = (1.0 - (off / all).sqrt()).clamp(0.0, 1.0);
            assert!((exported.share_kept() - share).abs() < 1e-9, "{share}");
            let note = exported.notes.iter().find(|note| note.contains("of the change ΔW")).unwrap();
            let bf16 = dtype == ExportType::Bf16;
            assert!(
                note.contains(if bf16 { "rounding to bf16 keeps" } else { "rounding to f16 keeps" }),
                "{note}"
            );
            assert!(note.contains("least in model.layers.0."), "{note}");
            let low = note.contains("write ExportType::F32, or leave the adapter beside the model");
            if bf16 {
                assert_eq!((share < 0.9, low), (name == "small", name == "small"), "{name}: {note}");
            }
        }
    }
    Ok(())
}

/// A temporary name that is too long: the error named it, or the folder around, and not what was asked for.
#[test]
#[cfg(target_os = "linux")]
fn errors_name_what_was_asked_for() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let adapters = llama::adapters(model.decoder(), 2)?;
    let mut deep = bench.folder.path().to_path_buf();
    while deep.as_os_str().len() < 3800 {
        deep.push("a".repeat(200));
    }
    deep.push("b".repeat(4082 - deep.as_os_str().len()));
    std::fs::create_dir_all(&deep).unwrap();
    let asked = deep.join("m");
    let series = [lorascope::plot::Series::line("loss", [(0.0, 1.0), (1.0, 2.0)])];
    let figure = lorascope::plot::lines("t", "x", "y", &series, lorascope::plot::Scale::Linear)?;
    for (error, name) in [
        (model.export(&asked, &options(ExportType::F32)).unwrap_err(), "m"),
        (adapters.save(&asked, "base").unwrap_err(), "m"),
        (figure.save(deep.join("m.svg")).unwrap_err(), "m.svg"),
    ] {
        let said = error.to_string();
        assert!(said.starts_with(&format!("{}: ", deep.join(name).display())), "{said}");
        assert!(said.contains("File name too long") && !said.contains(".lorascope-"), "{said}");
    }
    Ok(())
}
