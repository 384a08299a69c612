//! What stands in place of a model's weights: a pointer of Git LFS, pickles, parts without an index.

use candle_core::Device;
use lorascope::candle_core;
use lorascope::lora::Adapters;
use lorascope::model::{Decoder, Model};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
    oid sha256:5c1f2a36f6c0b0f4f4e3d0cbd2e6bd5c3c5b8a4f7d6e5c4b3a29181706f5e4d3\nsize 4683073184\n";
const NAMED: &str = ": a Git LFS pointer, which stands for the file and is not the file itself; \
    run `git lfs pull` in its folder, or fetch the file again";

/// A golden folder without its weights.
fn folder(files: &[&str]) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny");
    let folder = TempDir::new().unwrap();
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    for file in files {
        std::fs::write(folder.path().join(file), "weights").unwrap();
    }
    folder
}

#[track_caller]
fn refusal(opened: &Path, named: &Path) -> String {
    let error = Decoder::open(opened, &Device::Cpu).unwrap_err().to_string();
    assert_eq!(Model::open(opened).unwrap_err().to_string(), error);
    let Some(rest) = error.strip_prefix(&named.display().to_string()) else {
        panic!("{error} does not name {}", named.display())
    };
    rest.to_string()
}

fn pointer(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, POINTER).unwrap();
    path
}

#[test]
fn a_pointer_of_git_lfs_is_named() {
    let folder = folder(&[]);
    let gguf = pointer(&folder, "model.gguf");
    assert_eq!(refusal(&gguf, &gguf), NAMED);
    let weights = pointer(&folder, "model.safetensors");
    assert_eq!(refusal(folder.path(), &weights), NAMED);

    std::fs::remove_file(&weights).unwrap();
    let part = pointer(&folder, "model-00001-of-00001.safetensors");
    let index = r#"{"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(refusal(folder.path(), &part), NAMED);
}

#[test]
fn adapters_that_are_a_pointer_are_named() {
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}"#;
    for name in ["adapter_model.safetensors", "adapter_model.bin"] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
        let path = pointer(&folder, name);
        let error = Adapters::open(folder.path(), &Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, format!("{}{NAMED}", path.display()));
    }
}

#[test]
fn pickles_are_named_with_the_way_out() {
    for name in ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"] {
        let folder = folder(&[name]);
        let path = folder.path();
        assert_eq!(
            refusal(path, path),
            format!(
                ": the weights are in {name}, a pickle; safetensors are read; \
                 write model.safetensors beside it, in Python: AutoModelForCausalLM\
                 .from_pretrained({path:?}).save_pretrained({path:?}, safe_serialization=True)"
            )
        );
    }
}

#[test]
fn parts_without_an_index_are_named() {
    let folder = folder(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    assert_eq!(
        refusal(folder.path(), folder.path()),
        ": model-00001-of-00002.safetensors is a part of a model, but there is no \
         model.safetensors.index.json, which says what each part holds; \
         fetch model.safetensors.index.json too, from where the parts are from"
    );
}

#[test]
fn a_gguf_file_in_the_folder_is_named() {
    let folder = folder(&["tiny-q8_0.gguf"]);
    assert_eq!(
        refusal(folder.path(), folder.path()),
        ": no model.safetensors inside, but tiny-q8_0.gguf; give the path of the .gguf file itself"
    );
}
