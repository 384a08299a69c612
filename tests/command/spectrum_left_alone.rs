//! `lorascope spectrum` needs A and B only: it shows them, and says what else an adapter has.
#![cfg(feature = "cli")]

use lorascope::candle_core::{Device, Tensor, safetensors};
use lorascope::lora::Adapters;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const PREFIX: &str = "base_model.model.";

/// A copy of the golden adapter with other tensors and another config.
fn copy(folder: &Path, fields: &[(&str, Value)], change: impl Fn(&mut HashMap<String, Tensor>)) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-adapter");
    let to = folder.join("adapter");
    std::fs::create_dir_all(&to).unwrap();
    let text = std::fs::read(from.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    for (name, value) in fields {
        config[*name] = value.clone();
    }
    std::fs::write(to.join("adapter_config.json"), config.to_string()).unwrap();
    let mut tensors = safetensors::load(from.join("adapter_model.safetensors"), &Device::Cpu).unwrap();
    change(&mut tensors);
    safetensors::save(&tensors, to.join("adapter_model.safetensors")).unwrap();
    to
}

fn spectrum(adapter: &Path) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    let output = command.arg("spectrum").arg(adapter).arg("--json").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), error)
}

fn renamed(tensors: &mut HashMap<String, Tensor>, name: impl Fn(&str) -> String) {
    *tensors = tensors.drain().map(|(old, tensor)| (name(&old), tensor)).collect();
}

#[test]
fn what_a_model_cannot_take_has_spectra() {
    let folder = tempfile::tempdir().unwrap();
    let plain = spectrum(&copy(folder.path(), &[], |_| ())).0["adapters"].clone();
    assert_eq!(plain.as_array().unwrap().len(), 14);
    for (field, value, said) in [
        ("lora_bias", json!(true), "lora_bias is set"),
        ("trainable_token_indices", json!([1, 2]), "trainable_token_indices is set"),
        ("target_parameters", json!(["experts.w"]), "target_parameters is set"),
        ("rank_pattern", json!({"^(?!x)never$": 3}), "rank_pattern has an expression"),
        ("made_up", json!(3), "made_up"),
    ] {
        let (found, error) = spectrum(&copy(folder.path(), &[(field, value)], |_| ()));
        assert_eq!(found["adapters"], plain, "{field}: {error}");
        assert!(found["left_alone"].to_string().contains(said), "{found}");
    }
    let (found, error) = spectrum(&copy(folder.path(), &[("lora_alpha", json!(-7))], |_| ()));
    assert!(found["left_alone"].to_string().contains("alpha is negative"), "{error}");
    let (found, error) = spectrum(&copy(folder.path(), &[("lora_alpha", json!(0))], |_| ()));
    assert_eq!(found["adapters"][0]["singular_values"], json!([0.0, 0.0, 0.0]), "{error}");
    let tables = copy(folder.path(), &[], |tensors| {
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let table = Tensor::ones((97, 24), lorascope::candle_core::DType::F32, &Device::Cpu).unwrap();
            tensors.insert(format!("{PREFIX}{name}"), table);
        }
    });
    let (found, error) = spectrum(&tables);
    assert_eq!(found["adapters"], plain, "{error}");
    assert!(found["left_alone"].to_string().contains("model.embed_tokens.weight"), "{found}");
    // Beside a model they are weights that were trained whole, as PEFT takes them.
    assert_eq!(Adapters::open(&tables, &Device::Cpu).unwrap().wholes().count(), 1);
}

#[test]
fn wrappers_and_empty_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let plain = spectrum(&copy(folder.path(), &[], |_| ())).0["adapters"].clone();
    type Rename = fn(&str) -> String;
    for (name, said) in [
        ((|n| format!("_orig_mod.{n}")) as Rename, "torch.compile"),
        (|n| n.replace(PREFIX, &format!("{PREFIX}_orig_mod.")), "torch.compile"),
        (|n| n.replace(".weight", ".default.weight"), "the name of an adapter"),
        (|n| n.replace(PREFIX, ""), "no `base_model.model.` in front"),
    ] {
        let adapter = copy(folder.path(), &[], |tensors| renamed(tensors, name));
        let (found, error) = spectrum(&adapter);
        assert_eq!(found["adapters"], plain, "{said}: {error}");
        assert!(found["left_alone"].to_string().contains(said), "{found}");
        let error = Adapters::open(&adapter, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let (_, error) = spectrum(&copy(folder.path(), &[], HashMap::clear));
    assert!(error.contains("no adapter inside; DeepSpeed ZeRO-3"), "{error}");
}
