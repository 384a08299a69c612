//! An adapter is replaced, and what lies beside it stays.

use candle_core::Device;
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig, Target};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const BIN: &str = "adapter_model.bin";

fn adapters(rank: usize) -> Adapters {
    let layer = [Target::linear("model.layers.0.mlp.up_proj", [32, 16])];
    Adapters::new(&LoraConfig { rank, ..Default::default() }, &layer, 1, &Device::Cpu).unwrap()
}

fn rank(folder: &Path) -> usize {
    Adapters::open(folder, &Device::Cpu).unwrap().config().rank
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            all.extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            all.insert(name, std::fs::read(path).unwrap());
        }
    }
    all
}

/// An adapter of rank 2 among other things.
fn lived_in() -> (TempDir, BTreeMap<String, Vec<u8>>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("adapter");
    adapters(2).save(&path, "base").unwrap();
    for name in ["README.md", "tokenizer.json", "model.safetensors", "checkpoint-7/state.bin", ".git/HEAD"] {
        let file = path.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("my {name}")).unwrap();
    }
    let mut rest = contents(&path);
    rest.retain(|name, _| name != CONFIG && name != WEIGHTS);
    assert_eq!(rest.len(), 5);
    (folder, rest)
}

#[test]
fn what_lies_beside_an_adapter_stays() -> Result<()> {
    let (folder, rest) = lived_in();
    let path = folder.path().join("adapter");
    // Another program would read this one first, or instead.
    std::fs::write(path.join(BIN), "an older one").unwrap();
    adapters(5).overwrite(&path, "base")?;
    assert_eq!(rank(&path), 5);
    let mut after = contents(&path);
    assert!(after.remove(CONFIG).is_some() && after.remove(WEIGHTS).is_some());
    assert_eq!(after, rest, "nothing else changed, nothing temporary is left, and the .bin is gone");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    Ok(())
}

#[test]
fn an_adapter_in_a_bin_alone_is_replaced() -> Result<()> {
    let (folder, rest) = lived_in();
    let path = folder.path().join("adapter");
    std::fs::rename(path.join(WEIGHTS), path.join(BIN)).unwrap();
    adapters(3).overwrite(&path, "base")?;
    assert_eq!(rank(&path), 3);
    assert_eq!(contents(&path).len(), rest.len() + 2);
    Ok(())
}

#[test]
fn a_folder_of_mlx_is_not_replaced() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(CONFIG), r#"{"lora_parameters": {"rank": 8}}"#).unwrap();
    std::fs::write(folder.path().join("adapters.safetensors"), "tensors").unwrap();
    let before = contents(folder.path());
    let error = adapters(2).overwrite(folder.path(), "base").unwrap_err().to_string();
    assert!(error.contains("this is an adapter of mlx"), "{error}");
    assert_eq!(contents(folder.path()), before);
}

#[cfg(unix)]
#[test]
fn links_are_kept_or_replaced_but_never_written_through() -> Result<()> {
    use std::os::unix::fs::symlink;
    let (folder, rest) = lived_in();
    let (real, link) = (folder.path().join("adapter"), folder.path().join("link"));
    symlink(&real, &link).unwrap();
    // As in the cache of the hub, where the files of a folder are links to blobs.
    let blob = folder.path().join("blob");
    std::fs::rename(real.join(WEIGHTS), &blob).unwrap();
    symlink(&blob, real.join(WEIGHTS)).unwrap();
    let bytes = std::fs::read(&blob).unwrap();
    adapters(4).overwrite(&link, "base")?;
    assert!(link.symlink_metadata().unwrap().is_symlink(), "a linked folder stays a link");
    assert!(!real.join(WEIGHTS).symlink_metadata().unwrap().is_symlink());
    assert_eq!((rank(&link), rank(&real)), (4, 4));
    assert_eq!(std::fs::read(&blob).unwrap(), bytes, "what a link leads to belongs to somebody else");
    assert_eq!(contents(&real).len(), rest.len() + 2);
    Ok(())
}

#[test]
fn a_failure_leaves_the_old_adapter() {
    let (folder, rest) = lived_in();
    let path = folder.path().join("adapter");
    let old = contents(&path);
    // The config cannot be put in place, after the weights were.
    let config = std::fs::read(path.join(CONFIG)).unwrap();
    let broken = Adapters::from_pairs(LoraConfig { rank: 0, ..Default::default() }, BTreeMap::new());
    assert!(broken.overwrite(&path, "base").is_err());
    assert_eq!(contents(&path), old);
    std::fs::remove_file(path.join(WEIGHTS)).unwrap();
    std::fs::create_dir(path.join(WEIGHTS)).unwrap();
    let error = adapters(4).overwrite(&path, "base").unwrap_err().to_string();
    assert!(error.contains("this is a folder"), "{error}");
    assert_eq!(std::fs::read(path.join(CONFIG)).unwrap(), config);
    assert_eq!(contents(&path).len(), rest.len() + 1);
}

#[test]
fn an_error_says_what_would_be_replaced() {
    let (folder, _) = lived_in();
    let path = folder.path().join("adapter");
    let error = adapters(2).save(&path, "base").unwrap_err().to_string();
    assert!(error.contains("replaces adapter_config.json, adapter_model.safetensors and leaves"), "{error}");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = adapters(2).save(&empty, "base").unwrap_err().to_string();
    assert!(error.ends_with("the folder exists already; choose another name"), "{error}");
}
