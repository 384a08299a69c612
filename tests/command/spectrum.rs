//! `lorascope spectrum`: what it prints and writes, and how it ends.
#![cfg(feature = "cli")]

use lorascope::candle_core::{Device, Tensor, safetensors};
use lorascope::lora::Adapters;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

fn spectrum(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    command.arg("spectrum").args(arguments).current_dir(folder).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An adapter that PEFT wrote.
fn golden(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A copy of it with another config.
fn begun(folder: &Path, name: &str, init: &str) -> String {
    let (from, copy) = (golden("tiny-adapter"), folder.join(name));
    std::fs::create_dir_all(&copy).unwrap();
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{from}/adapter_config.json")).unwrap())
            .unwrap();
    config["init_lora_weights"] = init.into();
    std::fs::write(copy.join("adapter_config.json"), config.to_string()).unwrap();
    let tensors = "adapter_model.safetensors";
    std::fs::copy(format!("{from}/{tensors}"), copy.join(tensors)).unwrap();
    copy.to_string_lossy().into_owned()
}

/// A copy of it with other tensors.
fn damaged(folder: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) -> String {
    let copy = folder.join("damaged");
    std::fs::create_dir_all(&copy).unwrap();
    let from = golden("tiny-adapter");
    std::fs::copy(format!("{from}/adapter_config.json"), copy.join("adapter_config.json")).unwrap();
    let mut tensors = safetensors::load(format!("{from}/adapter_model.safetensors"), &Device::Cpu).unwrap();
    change(&mut tensors);
    safetensors::save(&tensors, copy.join("adapter_model.safetensors")).unwrap();
    copy.to_string_lossy().into_owned()
}

#[test]
fn every_adapter_of_peft_has_spectra() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "tiny-adapter",
        "tied-adapter",
        "gpt2-adapter",
        "qwen3-adapter",
        "variants/dora",
        "variants/embedding",
    ] {
        let adapter = golden(name);
        let output = spectrum(folder.path(), &[&adapter, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", err(&output));
        let answer: Value = serde_json::from_str(&out(&output)).unwrap();
        let own = Adapters::open(&adapter, &Device::Cpu).unwrap();
        let found = answer["adapters"].as_array().unwrap();
        assert_eq!(found.len(), own.len());
        for (found, (path, pair)) in found.iter().zip(own.iter()) {
            assert_eq!(found["name"], path);
            let squares: f64 = found["singular_values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| s.as_f64().unwrap().powi(2))
                .sum();
            let dense = pair.delta().unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!((squares / f64::from(dense) - 1.0).abs() < 1e-5, "{path}: {squares} for {dense}");
        }
    }
    let output = spectrum(folder.path(), &[&golden("tiny-adapter"), "--svg", "spectra.svg"]);
    assert!(out(&output).starts_with("effective rank of B·A: 14 adapters of rank 3"), "{}", out(&output));
    assert!(std::fs::read_to_string(folder.path().join("spectra.svg")).unwrap().contains("tiny-adapter"));
    let again = spectrum(folder.path(), &[&golden("tiny-adapter"), "--svg", "spectra.svg"]);
    assert_eq!(again.status.code(), Some(2), "{}", err(&again));
}

#[test]
fn a_cut_adapter_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = golden("tied-adapter"); // rsLoRA, alpha 7
    let cut = |extra: &[&str]| {
        let fixed = [adapter.as_str(), "--truncate", "0.8", "--out", "small"];
        spectrum(folder.path(), &[&fixed[..], extra].concat())
    };
    let output = cut(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    let (whole, small) = (
        Adapters::open(&adapter, &Device::Cpu).unwrap(),
        Adapters::open(folder.path().join("small"), &Device::Cpu).unwrap(),
    );
    assert_eq!(Adapters::base_of(folder.path().join("small")).unwrap(), Adapters::base_of(&adapter).unwrap());
    for (path, pair) in small.iter() {
        let old = whole.get(path).unwrap();
        assert!((pair.scale() / old.scale() - 1.0).abs() < 1e-12);
        assert_eq!(answer["truncated"]["ranks"][path], pair.rank());
        let norm = |t: Tensor| f64::from(t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
        let (kept, all) = (norm(pair.delta().unwrap()), norm(old.delta().unwrap()));
        assert!(kept / all >= 0.8 - 1e-6, "{path}: {}", kept / all);
        let spectrum = whole.spectra().unwrap().get(path).unwrap();
        assert_eq!(pair.rank(), spectrum.energy_rank(0.8).unwrap());
    }
    assert!(small.parameters() < whole.parameters());
    let refused = cut(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).starts_with("lorascope: small: this exists already"), "{}", err(&refused));
    assert_eq!(out(&refused), "");
    let replaced = cut(&["--overwrite"]);
    assert_eq!(replaced.status.code(), Some(0), "{}", err(&replaced));
    assert!(out(&replaced).contains("cut adapter in small: "), "{}", out(&replaced));
}

#[test]
fn a_beginning_that_changed_the_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let plain = spectrum(folder.path(), &[&golden("tiny-adapter"), "--json"]);
    let plain: Value = serde_json::from_str(&out(&plain)).unwrap();
    let pissa = begun(folder.path(), "pissa", "pissa");
    let output = spectrum(folder.path(), &[&pissa, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let answer: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(answer["adapters"], plain["adapters"]);
    assert!(plain.get("initialisation").is_none() && answer["initialisation"] == "\"pissa\"");
    assert!(
        out(&spectrum(folder.path(), &[&pissa]))
            .contains("initialised with \"pissa\", which subtracts a part")
    );
    // A cut of it would stand beside a model that is not there.
    let refused = spectrum(folder.path(), &[&pissa, "--truncate", "0.9", "--out", "cut"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("which changes the weights of the model"), "{}", err(&refused));
    assert!(!folder.path().join("cut").exists());
}

#[test]
fn nothing_is_written_where_one_file_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = golden("tiny-adapter");
    std::fs::write(folder.path().join("there.svg"), "mine").unwrap();
    for figure in ["there.svg", "figure.pdf"] {
        let output = spectrum(folder.path(), &[&tiny, "--truncate", "0.9", "--out", "cut", "--svg", figure]);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""), "{}", err(&output));
        assert!(err(&output).contains(figure), "{}", err(&output));
        assert!(!folder.path().join("cut").exists() && !folder.path().join("figure.pdf").exists());
    }
    std::fs::create_dir(folder.path().join("cut")).unwrap();
    let output = spectrum(folder.path(), &[&tiny, "--truncate", "0.9", "--out", "cut", "--svg", "new.svg"]);
    assert!(err(&output).starts_with("lorascope: cut: this exists already"), "{}", err(&output));
    assert!(!folder.path().join("new.svg").exists());
    assert_eq!(std::fs::read_to_string(folder.path().join("there.svg")).unwrap(), "mine");
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let output = spectrum(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {}", out(&output));
        assert_eq!(out(&output), "");
        err(&output)
    };
    let error = said(&["."]);
    assert!(error.contains("adapter_config.json: no such file or folder; give the folder that"), "{error}");
    let tiny = golden("tiny-adapter");
    let error = said(&[&tiny, "--truncate", "1.2", "--out", "cut"]);
    assert!(error.contains("an energy of 1.2; ask for a share above 0 and up to 1"), "{error}");
    assert!(!folder.path().join("cut").exists());
    assert!(said(&[&tiny, "--truncate", "0.9"]).contains("--out"), "clap names what is missing");
    assert!(said(&[&tiny, "--out", "cut"]).contains("--truncate"));
    let name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight";
    let nan = damaged(folder.path(), |tensors| {
        let broken = (tensors[name].zeros_like().unwrap() / 0.0).unwrap();
        tensors.insert(name.to_string(), broken);
    });
    let error = said(&[&nan]);
    assert!(error.contains(name) && error.contains("number 0 of this tensor is NaN"), "{error}");
    let ranks = damaged(folder.path(), |tensors| {
        let short = tensors[name].narrow(1, 0, 2).unwrap().contiguous().unwrap();
        tensors.insert(name.to_string(), short);
    });
    let error = said(&[&ranks]);
    assert!(error.contains("layer model.layers.1.mlp.up_proj: A has shape [3, "), "{error}");
    assert!(error.contains(", 2], expected [r, in] and [out, r]"), "{error}");
}

/// Where B is zero, as before the first step: numbers and no null, no rank, a sentence that says so.
#[test]
fn an_adapter_that_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let zero = damaged(folder.path(), |tensors| {
        for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
            *tensor = tensor.zeros_like().unwrap();
        }
    });
    let output =
        spectrum(folder.path(), &[&zero, "--json", "--svg", "s.svg", "--truncate", "0.9", "--out", "cut"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(!text.contains("null") && !text.contains("NaN"), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let modules = answer["adapters"].as_array().unwrap();
    assert!(!modules.is_empty());
    for module in modules {
        assert_eq!(
            (module["effective_rank"].as_f64(), module["condition"].as_f64()),
            (Some(0.0), None),
            "{module}"
        );
    }
    assert!(folder.path().join("s.svg").exists());
    let output = spectrum(folder.path(), &[&zero]);
    assert!(out(&output).contains("this adapter changes nothing"), "{}", out(&output));
}
