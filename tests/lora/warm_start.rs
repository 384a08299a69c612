//! Runs that begin with adapters from a folder or a file: these as they are, and what follows from them.

use crate::common::runs::{Bench, bits, config, losses};
use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::{Adapter, Adapters, LoraConfig};
use lorascope::model::{Decoder, ExportOptions, Tokens};
use lorascope::run::Run;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

fn numbers(rows: usize, columns: usize, seed: usize) -> Tensor {
    let value = |i: usize| ((i + 31 * seed) as f32 * 0.731).sin() * 0.2;
    Tensor::from_vec((0..rows * columns).map(value).collect(), (rows, columns), &Device::Cpu).unwrap()
}

/// Layer, rank, alpha, `[out, in]`: other ranks and scales in each layer, one rank above both sides.
const PAIRS: [(&str, usize, f32, [usize; 2]); 4] = [
    ("model.layers.0.self_attn.q_proj", 3, 12.0, [32, 32]),
    ("model.layers.1.self_attn.v_proj", 40, 7.0, [16, 32]),
    ("model.layers.5.mlp.down_proj", 2, 0.3, [32, 48]),
    ("model.layers.7.mlp.up_proj", 3, 5.0, [48, 32]),
];

/// A file as kohya's tools write it.
fn kohya(bench: &Bench) -> PathBuf {
    let mut tensors = HashMap::new();
    for (seed, (path, rank, alpha, [out, inner])) in PAIRS.iter().enumerate() {
        let module = format!("lora_te_{}", path.replace('.', "_"));
        tensors.insert(format!("{module}.lora_down.weight"), numbers(*rank, *inner, seed));
        tensors.insert(format!("{module}.lora_up.weight"), numbers(*out, *rank, seed + 9));
        tensors.insert(format!("{module}.alpha"), Tensor::new(*alpha, &Device::Cpu).unwrap());
    }
    let path = bench.folder().join("kohya.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

fn logits(model: &Decoder, adapters: &Adapters) -> Vec<f32> {
    let ids: Vec<u32> = (500..540).collect();
    let hidden = model.hidden(Tokens { ids: &ids, borders: &[0, 40] }, adapters, &|| true).unwrap();
    model.logits(&hidden, adapters).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_adapters_of_a_file_are_trained_as_they_are() -> Result<()> {
    let bench = Bench::new()?;
    let file = kohya(&bench);
    let read = bench.model.adapters(&file)?;
    let run = bench.run("warm", config().init_from(&file))?;
    let begun = run.adapters();
    assert_eq!(begun.len(), PAIRS.len());
    for (path, rank, alpha, _) in PAIRS {
        let pair = begun.get(path).unwrap();
        assert_eq!(pair.rank(), rank, "{path}");
        assert!(
            (pair.scale() / (f64::from(alpha) / rank as f64) - 1.0).abs() < 1e-7,
            "{path}: {}",
            pair.scale()
        );
    }
    let (ours, truth) = (logits(bench.model.decoder(), &begun), logits(bench.model.decoder(), &read));
    let largest = truth.iter().fold(0f32, |m, x| m.max(x.abs()));
    let off = ours.iter().zip(&truth).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
    assert!(off < 1e-6 * largest, "{off} of {largest}");
    let moved = logits(bench.model.decoder(), &Adapters::default());
    assert!(moved.iter().zip(&truth).any(|(x, y)| (x - y).abs() > 1e-2 * largest));

    let said = run.show().text;
    let noted = "kohya.safetensors are trained as they are; not taken from the config:";
    assert!(said.contains(noted), "{said}");
    assert!(said.contains("rank 2 (it is 3)") && said.contains("dropout 0.1 (it is 0.0)"), "{said}");
    assert!(said.contains(r#"target_modules {"named":["q_proj","down_proj"]}"#), "{said}");

    // Every pair learns, the one of rank 40 too, and has spectra.
    run.steps(3)?;
    for ((name, before), (_, after)) in bits(&begun).iter().zip(&bits(&run.adapters())) {
        assert_ne!(before, after, "{name}");
    }
    assert_eq!(run.adapters().spectra()?.iter().count(), PAIRS.len());
    Ok(())
}

#[test]
fn such_a_run_goes_on_to_the_bit() -> Result<()> {
    let bench = Bench::new()?;
    let file = kohya(&bench);
    let straight = bench.run("straight", config().init_from(&file))?;
    let first = bits(&straight.adapters());
    straight.steps(4)?;
    let other = bench.run("other", config().init_from(&file))?;
    other.steps(2)?;
    other.close()?;
    // What it began from is its own.
    std::fs::remove_file(&file).unwrap();
    let other = Run::open(other.folder())?;
    other.steps(2)?;
    assert_eq!(bits(&other.adapters()), bits(&straight.adapters()));
    assert_eq!(losses(&other), losses(&straight));
    let fork = other.fork("fork", |config| config.lr *= 1.0)?;
    assert_eq!(bits(&fork.adapters()), bits(&other.adapters()));
    fork.close()?;
    let fork = Run::open(fork.folder())?;
    fork.steps(1)?;
    other.rewind(0)?;
    assert_eq!(bits(&other.adapters()), first);
    other.steps(4)?;
    assert_eq!(bits(&other.adapters()), bits(&straight.adapters()));
    Ok(())
}

#[test]
fn a_pair_without_a_layer_and_all_weights_are_errors() -> Result<()> {
    let bench = Bench::new()?;
    let pair = |seed| Adapter::new(numbers(2, 32, seed), numbers(32, 2, seed), 1.5);
    let pairs = BTreeMap::from([
        ("model.layers.0.self_attn.q_proj".to_string(), pair(1)?),
        ("model.layers.8.self_attn.q_proj".to_string(), pair(2)?),
    ]);
    let config_of_them = LoraConfig { rank: 2, alpha: 3.0, ..Default::default() }.targets(["q_proj"]);
    let folder = Adapters::from_pairs(config_of_them, pairs).save("nine-layers", "base")?;
    let error = bench.run("unused", config().init_from(&folder)).unwrap_err().to_string();
    assert!(error.contains("model.layers.8.self_attn.q_proj") && error.contains("another model"), "{error}");
    let error = bench.run("full", config().full().init_from(kohya(&bench))).unwrap_err().to_string();
    assert!(error.contains("init_from begins with adapters, and all weights are to be trained"), "{error}");
    Ok(())
}

#[test]
fn nothing_is_noted_where_nothing_was_left() -> Result<()> {
    let bench = Bench::new()?;
    let mut same = config();
    same.lora.dropout = 0.0;
    let folder = bench.model.new_adapters(&same.lora, 3)?.save("same", "base")?;
    let run = bench.run("same", same.init_from(folder))?;
    assert!(!run.show().text.contains("not taken"), "{}", run.show().text);
    Ok(())
}

/// They were kept in silence.
#[test]
fn what_a_config_says_beyond_us_is_said_wherever_the_adapters_are() -> Result<()> {
    let bench = Bench::new()?;
    let folder = bench.model.new_adapters(&config().lora, 3)?.save("newer", "base")?;
    let edit = |folder: &Path, edit: &dyn Fn(&mut Json)| {
        let path = folder.join("adapter_config.json");
        let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut json);
        std::fs::write(&path, json.to_string()).unwrap();
    };
    assert!(bench.model.adapters(&folder)?.notes().is_empty());
    edit(&folder, &|json| json["of_tomorrow"] = serde_json::json!({"twist": 2}));
    let note = "unknown in adapter_config.json, without effect here: of_tomorrow";
    for adapters in [bench.model.adapters(&folder)?, Adapters::open(&folder, &Device::Cpu)?] {
        assert_eq!(adapters.notes(), [note]);
        assert!(adapters.to_string().starts_with("16 adapters of rank 2: "), "{adapters}");
        assert!(adapters.to_string().ends_with(&format!("\nnote: {note}")), "{adapters}");
        assert!(adapters.show().text.contains(note), "{}", adapters.show().text);
        // Other values of theirs, and what is written of them, are of the same config.
        assert_eq!(adapters.map(|_, x| Ok(x.clone()))?.notes(), [note]);
        let again = adapters.save(format!("again-{}", bench.folder().read_dir().unwrap().count()), "base")?;
        assert_eq!(bench.model.adapters(again)?.notes(), [note]);
    }
    let adapters = bench.model.adapters(&folder)?;
    let status = bench.model.adapter_status(&adapters)?.show().text;
    assert!(status.contains(note), "{status}");
    let sets = bench.model.adapter_sets();
    sets.add("newer", &adapters)?;
    assert!(sets.show().text.contains(&format!("newer: {note}")), "{}", sets.show().text);
    let exported = bench.model.export_merged(&adapters, "merged", &ExportOptions::default())?;
    assert!(exported.notes.contains(&format!("of the adapters: {note}")), "{:?}", exported.notes);
    let run = bench.run("newer", config().init_from(&folder))?;
    let text = run.show().text;
    assert!(text.contains(&format!("of the adapters of newer: {note}")), "{text}");
    assert_eq!(run.adapters().notes(), [note]);

    // What mlx-lm says of its layers.
    let mlx = bench.folder().join("mlx");
    std::fs::create_dir(&mlx).unwrap();
    let layer = "model.layers.0.self_attn.q_proj";
    let pair = [("lora_a", numbers(32, 2, 1)), ("lora_b", numbers(2, 32, 2))];
    let tensors: HashMap<String, Tensor> =
        pair.into_iter().map(|(name, tensor)| (format!("{layer}.{name}"), tensor)).collect();
    candle_core::safetensors::save(&tensors, mlx.join("adapters.safetensors")).unwrap();
    let usual = serde_json::json!({"rank": 2, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]});
    let json =
        serde_json::json!({"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": usual, "iters": 9});
    std::fs::write(mlx.join("adapter_config.json"), json.to_string()).unwrap();
    assert!(bench.model.adapters(&mlx)?.notes().is_empty());
    edit(&mlx, &|json| json["lora_parameters"]["twist"] = 2.into());
    let note = "unknown in lora_parameters of adapter_config.json, without effect here: twist";
    assert_eq!(bench.model.adapters(&mlx)?.notes(), [note]);
    let run = bench.run("mlx", config().init_from(&mlx))?;
    assert!(run.show().text.contains(note), "{}", run.show().text);
    Ok(())
}

/// PEFT's expressions are Python's; the error was that of the parser.
#[test]
fn an_expression_that_looks_ahead_is_refused_with_the_way_out() -> Result<()> {
    let bench = Bench::new()?;
    let folder = bench.model.new_adapters(&config().lora, 3)?.save("ahead", "base")?;
    let path = folder.join("adapter_config.json");
    let plain: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for field in ["rank_pattern", "alpha_pattern"] {
        for pattern in [r"layers\.(?!0\.).*q_proj", r"(?<=self_attn\.)q_proj"] {
            let mut json = plain.clone();
            json[field] = serde_json::json!({pattern: 4});
            std::fs::write(&path, json.to_string()).unwrap();
            let error = bench.model.adapters(&folder).unwrap_err().to_string();
            assert!(error.contains("uses look-ahead or look-behind"), "{error}");
            assert!(error.contains("name the layers instead"), "{error}");
        }
    }
    Ok(())
}
