//! Models and adapters whose headers are damaged at random: an error or a model, never a panic and
//! never an allocation that the file does not justify.

mod common;

use crate::common::gguf::gguf;
use candle_core::Device;
use candle_core::quantized::gguf_file;
use lorascope::candle_core;
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::{Decoder, Tokens};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Bytes written over a header: at a place, one to eight of them.
type Damage = Vec<(Index, Vec<u8>)>;

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..3),
        Just(vec![0; 4]),
        Just(vec![0; 8]),
        Just(vec![255; 8]),
        (0..64u32).prop_map(|bit| (1u64 << bit).to_le_bytes().to_vec()),
    ];
    proptest::collection::vec((any::<Index>(), bytes), 1..4)
}

fn write_damaged(path: &Path, mut file: Vec<u8>, header: usize, damage: &Damage) {
    for (at, bytes) in damage {
        let at = at.index(header);
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(path, file).unwrap();
}

/// The most address space that this process has had, in MiB: an allocation counts when it is asked
/// for, touched or not.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn safetensors_header(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize
}

/// Opens what may be damaged. Where that goes well, the model runs, or says why not.
fn open_and_run(path: &Path) {
    let none = Adapters::from_pairs(LoraConfig::default(), BTreeMap::new());
    let tokens = Tokens { ids: &[1, 2, 3], borders: &[0, 3] };
    match Decoder::open(path, &Device::Cpu).and_then(|model| model.hidden(tokens, &none, &|| true)) {
        Ok(hidden) => assert_eq!(hidden.dims()[0], 3),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_damaged_gguf_header_never_panics(damage in damage()) {
        let file = gguf(|_| {});
        let header = gguf_file::Content::read(&mut std::io::Cursor::new(&file)).unwrap().tensor_data_offset;
        let before = peak();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("small.gguf");
        write_damaged(&path, file, header as usize, &damage);
        open_and_run(&path);
        prop_assert!(peak() < before + 2048, "{before} to {} MiB", peak());
    }

    #[test]
    fn a_damaged_safetensors_header_never_panics(damage in damage()) {
        let before = peak();
        let folder = TempDir::new().unwrap();
        std::fs::copy(golden("tiny/config.json"), folder.path().join("config.json")).unwrap();
        let file = std::fs::read(golden("tiny/model.safetensors")).unwrap();
        let header = safetensors_header(&file);
        write_damaged(&folder.path().join("model.safetensors"), file, header, &damage);
        open_and_run(folder.path());
        prop_assert!(peak() < before + 2048, "{before} to {} MiB", peak());
    }
    #[test]
    fn a_damaged_adapter_never_panics(damage in damage()) {
        let before = peak();
        let folder = TempDir::new().unwrap();
        let config = "adapter_config.json";
        std::fs::copy(golden("tiny-adapter").join(config), folder.path().join(config)).unwrap();
        let file = std::fs::read(golden("tiny-adapter/adapter_model.safetensors")).unwrap();
        let header = safetensors_header(&file);
        write_damaged(&folder.path().join("adapter_model.safetensors"), file, header, &damage);
        match Adapters::open(folder.path(), &Device::Cpu) {
            Ok(adapters) => prop_assert!(!adapters.is_empty()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        prop_assert!(peak() < before + 2048, "{before} to {} MiB", peak());
    }
}
