//! Adapters and the model that they stand beside, and what of PEFT's configs is refused.

use candle_core::Device;
use lorascope::candle_core;
use lorascope::error::{Error, Result};
use lorascope::lora::{Adapters, LoraConfig, TargetKind, TargetModules};
use lorascope::model::Decoder;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn model(name: &str) -> Decoder {
    Decoder::open(golden(name), &Device::Cpu).unwrap()
}

/// The golden adapter of `tiny` with other values in its config.
fn adapter(changes: &[(&str, Value)]) -> Result<Adapters> {
    let folder = TempDir::new().map_err(|e| Error::io("a temporary folder", e))?;
    let from = golden("tiny-adapter");
    std::fs::copy(from.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors"))
        .unwrap();
    let text = std::fs::read(from.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    for (key, value) in changes {
        config[key] = value.clone();
    }
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    Adapters::open(folder.path(), &Device::Cpu)
}

#[track_caller]
fn refused(key: &str, value: Value) -> String {
    let error = adapter(&[(key, value)]).unwrap_err();
    assert!(error.is_format());
    let text = error.to_string();
    let (path, what) = text.split_once(": ").unwrap();
    assert!(path.ends_with("/adapter_config.json"), "{text}");
    what.to_string()
}

#[test]
fn adapters_of_another_model_are_found_out() -> Result<()> {
    let tiny = adapter(&[])?;
    tiny.check(&model("tiny").targets())?;
    assert_eq!(
        tiny.check(&model("tied").targets()).unwrap_err().to_string(),
        "layer model.layers.0.mlp.down_proj: an adapter of 24×40 beside a weight of 15×37; \
         these adapters belong to another model"
    );
    let tied = Adapters::open(golden("tied-adapter"), &Device::Cpu)?;
    tied.check(&model("tied").targets())?;
    let shallow: Vec<_> =
        model("tied").targets().into_iter().filter(|t| !t.path.contains("layers.2")).collect();
    let error = tied.check(&shallow).unwrap_err();
    assert!(error.is_input());
    assert_eq!(
        error.to_string(),
        "layer model.layers.2.mlp.down_proj: this model has no linear layer for this adapter; \
         these adapters belong to another model"
    );
    Ok(())
}

#[test]
fn beginnings_that_change_the_model_are_refused() -> Result<()> {
    for name in ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga"] {
        assert_eq!(
            refused("init_lora_weights", json!(name)),
            format!(
                "init_lora_weights is {name:?}, which changes the weights of the model; save the adapter with \
                 PEFT's path_initial_model_for_weight_conversion, for the model as it was"
            )
        );
    }
    for fine in [
        json!(true),
        json!(false),
        json!(null),
        json!("gaussian"),
        json!("orthogonal"),
        json!("eva"),
        json!("mica"),
    ] {
        assert_eq!(adapter(&[("init_lora_weights", fine)])?.len(), 14);
    }
    Ok(())
}

#[test]
fn what_changes_the_product_is_refused() -> Result<()> {
    for (key, value) in [
        ("use_bdlora", json!({ "nblocks": 2 })),
        ("arrow_config", json!({ "top_k": 3 })),
        ("kasa_config", json!({ "beta": 1e-4 })),
        ("monteclora_config", json!({ "n": 4 })),
        ("lora_bias", json!(true)),
    ] {
        assert_eq!(refused(key, value), format!("{key} is set, which is not supported yet"));
    }
    assert_eq!(adapter(&[("layers_pattern", json!("layers"))])?.len(), 14);
    assert_eq!(refused("bias", json!("some")), "bias is \"some\"; expected none, all or lora_only");
    Ok(())
}

/// The names that are written must select in PEFT what is adapted here, no more.
#[test]
fn target_modules_are_exact() -> Result<()> {
    let folder = TempDir::new().map_err(|e| Error::io("a temporary folder", e))?;
    let written = |name: &str, adapters: &Adapters| -> Result<Value> {
        let folder = adapters.save(folder.path().join(name), "tiny")?;
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
        Ok(config["target_modules"].clone())
    };
    let targets = model("tiny").targets();
    let fresh =
        |config: LoraConfig| Adapters::new(&LoraConfig { rank: 2, ..config }, &targets, 0, &Device::Cpu);
    let all = json!(["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]);
    assert_eq!(written("all", &fresh(LoraConfig::default())?)?, all);
    assert_eq!(
        written("some", &fresh(LoraConfig::default().targets(["v_proj", "q_proj"]))?)?,
        json!(["q_proj", "v_proj"])
    );
    let one = fresh(LoraConfig::default().targets(["layers.1.self_attn.v_proj"]))?;
    assert_eq!(one.len(), 1);
    assert_eq!(written("one", &one)?, json!(["layers.1.self_attn.v_proj"]));

    // From PEFT: names as they are, but whole paths where other fields or an expression narrow them.
    let linear = targets.iter().filter(|t| t.kind == TargetKind::Linear);
    let whole: Vec<&str> = linear.map(|t| t.path.as_str()).collect();
    let sorted = |mut paths: Vec<&str>| {
        paths.sort();
        json!(paths)
    };
    assert_eq!(written("read", &adapter(&[])?)?, all);
    assert_eq!(written("shortcut", &adapter(&[("target_modules", json!("all-linear"))])?)?, all);
    for (name, key, value) in [
        ("layers", "layers_to_transform", json!([0, 1])),
        ("layer", "layers_to_transform", json!(0)),
        ("excluded", "exclude_modules", json!(["lm_head"])),
        ("expression", "target_modules", json!(".*_proj")),
        ("other", "target_modules", json!(["q_proj"])),
    ] {
        let read = adapter(&[(key, value)])?;
        assert!(matches!(read.config().target_modules, TargetModules::Named(_)));
        assert_eq!(written(name, &read)?, sorted(whole.clone()), "{name}");
    }
    Ok(())
}

#[test]
fn an_adapter_is_replaced_only_by_name() -> Result<()> {
    let folder = TempDir::new().map_err(|e| Error::io("a temporary folder", e))?;
    let path = folder.path().join("new/adapter");
    let (read, fresh) = (adapter(&[])?, |seed| {
        let config = LoraConfig { rank: 2, ..Default::default() };
        Adapters::new(&config, &model("tiny").targets(), seed, &Device::Cpu)
    });
    read.save(&path, "tiny")?;
    let error = read.save(&path, "tiny").unwrap_err().to_string();
    let instead = "the folder exists already; choose another name, or say overwrite, which replaces adapter_config.json, \
                   adapter_model.safetensors and leaves what else is in it";
    assert!(error.ends_with(instead), "{error}");
    fresh(1)?.overwrite(&path, "tiny")?;
    assert_eq!(Adapters::open(&path, &Device::Cpu)?.config().rank, 2);
    read.overwrite(folder.path().join("other"), "tiny")?;

    let files = |path: &Path| path.read_dir().unwrap().map(|entry| entry.unwrap()).collect::<Vec<_>>();
    assert_eq!(files(&folder.path().join("new")).len(), 1, "the old one is gone, and nothing stays beside");
    #[cfg(unix)]
    {
        // As any other new file under the same umask, not private as temporary ones.
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert_eq!(mode(path.clone()), mode(folder.path().join("folder")));
        for file in files(&path) {
            assert_eq!(mode(file.path()), mode(folder.path().join("file")));
        }
    }
    let error = read.overwrite(folder.path(), "tiny").unwrap_err().to_string();
    assert!(error.contains("this holds no adapter_config.json"), "{error}");
    assert!(path.exists());
    Ok(())
}
