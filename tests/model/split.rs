//! A GGUF model in parts is the model that it was in one file; parts that do not make one are named.

use crate::common::gguf::{Parts, gguf, refusal};
use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Value};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig};
use lorascope::model::{Decoder, Model, Tokens, tokenizer_of};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

const AGAIN: &str = "; parts of two models, or a damaged one: fetch all parts again";
const DAMAGED: &str = "; the file is damaged: fetch it again";

type Metadata = BTreeMap<&'static str, Value>;

fn split(number: u16, count: u16, tensors: i32) -> Metadata {
    BTreeMap::from([
        ("split.no", Value::U16(number)),
        ("split.count", Value::U16(count)),
        ("split.tensors.count", Value::I32(tensors)),
    ])
}

/// A folder with `whole.gguf` and the same in parts, `tiny-00001-of-0000N.gguf` and so on.
struct Folder(TempDir);

impl Folder {
    /// Parts of so many tensors each; `change` may set what each says.
    fn new(sizes: &[usize], change: impl Fn(usize, &mut Metadata)) -> Self {
        let folder = Self(TempDir::new().unwrap());
        let whole = gguf(|parts| {
            let strings = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
            let tokens: Vec<String> = ('A'..='Z').chain('a'..='n').map(String::from).collect();
            parts.metadata.insert("tokenizer.ggml.model", Value::String("gpt2".to_string()));
            parts.metadata.insert("tokenizer.ggml.pre", Value::String("gpt-2".to_string()));
            parts.metadata.insert("tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1); 40]));
            parts.metadata.insert("tokenizer.ggml.tokens", strings(&tokens));
            parts.metadata.insert("tokenizer.ggml.merges", Value::Array(Vec::new()));
            parts.metadata.insert("tokenizer.ggml.eos_token_id", Value::U32(39));
            folder.write(parts, sizes, &change);
        });
        std::fs::write(folder.file("whole.gguf"), whole).unwrap();
        folder
    }

    fn write(&self, parts: &Parts, sizes: &[usize], change: &impl Fn(usize, &mut Metadata)) {
        let mut tensors = parts.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        for (number, size) in sizes.iter().enumerate() {
            let mut metadata = split(number as u16, sizes.len() as u16, parts.tensors.len() as i32);
            if number == 0 {
                metadata.extend(parts.metadata.clone());
            }
            change(number, &mut metadata);
            let metadata: Vec<_> = metadata.iter().map(|(name, value)| (*name, value)).collect();
            let tensors: Vec<_> = tensors.by_ref().take(*size).collect();
            let path = self.part(number + 1, sizes.len());
            gguf_file::write(&mut std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn part(&self, number: usize, count: usize) -> PathBuf {
        self.file(&format!("tiny-{number:05}-of-{count:05}.gguf"))
    }
}

fn hidden(model: &Model) -> Result<Vec<f32>> {
    let tokens = Tokens { ids: &[0, 39, 7], borders: &[0, 3] };
    let none = Adapters::from_pairs(LoraConfig::default(), BTreeMap::new());
    Ok(model.decoder().hidden(tokens, &none, &|| true)?.flatten_all()?.to_vec1()?)
}

/// Two parts of 6 and 5 tensors, and what opening the first says about the second.
#[track_caller]
fn second_refused(change: impl Fn(&mut Metadata)) -> String {
    let folder = Folder::new(&[6, 5], |number, metadata| {
        if number == 1 {
            change(metadata);
        }
    });
    refusal(&folder.part(1, 2), &folder.part(2, 2))
}

#[test]
fn any_part_opens_the_whole_model() -> Result<()> {
    for sizes in [&[6, 5][..], &[0, 11], &[1, 0, 4, 6]] {
        let folder = Folder::new(sizes, |_, _| {});
        let whole = Model::open(folder.file("whole.gguf"))?;
        for number in 1..=sizes.len() {
            let path = folder.part(number, sizes.len());
            let model = Model::open(&path)?;
            assert_eq!(model.fingerprint()?, whole.fingerprint()?, "{sizes:?}, part {number}");
            assert_eq!(model.decoder().parameters(), whole.decoder().parameters());
            assert_eq!(model.path(), std::fs::canonicalize(folder.part(1, sizes.len())).unwrap());
            assert_eq!(hidden(&model)?, hidden(&whole)?);
            let tokenizer = tokenizer_of(&path)?;
            assert_eq!(tokenizer.vocabulary_size(), 40);
            assert_eq!(tokenizer.encode("Bad")?, whole.tokenizer().encode("Bad")?);
        }
    }
    Ok(())
}

#[test]
fn another_second_part_is_another_model() -> Result<()> {
    let (one, two) = (Folder::new(&[6, 5], |_, _| {}), Folder::new(&[6, 5], |_, _| {}));
    let before = Model::open(one.part(1, 2))?;
    std::fs::copy(two.part(2, 2), one.part(2, 2)).unwrap();
    let after = Model::open(one.part(1, 2))?;
    assert_ne!(before.fingerprint()?, after.fingerprint()?);
    Ok(())
}

/// As in the hub's cache, where names are links to files that are called after their content.
#[cfg(unix)]
#[test]
fn parts_that_are_links_are_found_by_the_names_of_the_links() -> Result<()> {
    let folder = Folder::new(&[6, 5], |_, _| {});
    let links = Folder(TempDir::new().unwrap());
    for number in [1, 2] {
        let blob = folder.file(&format!("blob{number}"));
        std::fs::rename(folder.part(number, 2), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, links.part(number, 2)).unwrap();
    }
    let model = Model::open(links.part(2, 2))?;
    assert_eq!(model.fingerprint()?, Model::open(folder.file("whole.gguf"))?.fingerprint()?);
    assert_eq!(Model::open(model.path())?.fingerprint()?, model.fingerprint()?); // as a run opens it again
    assert_eq!(
        refusal(&folder.file("blob2"), &folder.file("blob2")),
        ": this is part 2 of 2 of a model, but its name does not end in \"-00002-of-00002.gguf\": \
         the others are not found; \
         give all parts their names back, or join them: llama-gguf-split --merge"
    );
    Ok(())
}

#[test]
fn a_missing_part_is_named() {
    for (opened, lost) in [(1, 2), (2, 1)] {
        let folder = Folder::new(&[6, 5], |_, _| {});
        std::fs::remove_file(folder.part(lost, 2)).unwrap();
        assert_eq!(
            refusal(&folder.part(opened, 2), &folder.part(lost, 2)),
            format!(
                ": this file is missing: part {lost} of 2 of the model; \
                 fetch it too, into the folder of tiny-{opened:05}-of-00002.gguf"
            )
        );
        let error = tokenizer_of(folder.part(opened, 2)).unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
}

#[test]
fn a_part_that_is_cut_off_is_named() {
    let folder = Folder::new(&[6, 5], |_, _| {});
    let bytes = std::fs::read(folder.part(2, 2)).unwrap();
    std::fs::write(folder.part(2, 2), &bytes[..bytes.len() / 2]).unwrap();
    let error = refusal(&folder.part(1, 2), &folder.part(2, 2));
    assert!(error.starts_with(": the file ends early: its tensors need "), "{error}");
    std::fs::write(folder.part(2, 2), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
    let error = refusal(&folder.part(1, 2), &folder.part(2, 2));
    assert!(error.contains("Git LFS pointer"), "{error}");
}

#[test]
fn parts_of_different_models() {
    assert_eq!(
        second_refused(|metadata| *metadata = split(1, 3, 11)),
        format!(
            ": split.no 1, split.count 3 and split.tensors.count 11 where tiny-00001-of-00002.gguf \
             has split.count 2 and split.tensors.count 11{AGAIN}"
        )
    );
    assert_eq!(
        second_refused(|metadata| *metadata = split(1, 2, 12)),
        format!(
            ": split.no 1, split.count 2 and split.tensors.count 12 where tiny-00001-of-00002.gguf \
             has split.count 2 and split.tensors.count 11{AGAIN}"
        )
    );
    assert_eq!(
        second_refused(|metadata| *metadata = split(0, 2, 11)),
        format!(
            ": split.no 0, split.count 2 and split.tensors.count 11 where tiny-00001-of-00002.gguf \
             has split.count 2 and split.tensors.count 11{AGAIN}"
        )
    );
    assert_eq!(
        second_refused(Metadata::clear),
        format!(
            ": no split.count where tiny-00001-of-00002.gguf \
             has split.count 2 and split.tensors.count 11{AGAIN}"
        )
    );
    let qwen = || Value::String("qwen2".to_string());
    assert_eq!(
        second_refused(|metadata| drop(metadata.insert("general.architecture", qwen()))),
        format!(": general.architecture differs from that of the first part{AGAIN}")
    );
}

#[test]
fn a_tensor_twice_or_none() {
    let folder = Folder::new(&[6, 5], |_, _| {});
    let other = Folder::new(&[5, 6], |_, _| {}); // the sixth tensor is in its second part
    std::fs::copy(other.part(2, 2), folder.part(2, 2)).unwrap();
    assert_eq!(
        refusal(&folder.part(1, 2), &folder.part(2, 2)),
        format!(", layer blk.0.ffn_down.weight: another part has this tensor too{AGAIN}")
    );
    std::fs::copy(other.part(1, 2), folder.part(1, 2)).unwrap();
    let whole = Folder::new(&[6, 5], |_, _| {});
    std::fs::copy(whole.part(2, 2), folder.part(2, 2)).unwrap();
    assert_eq!(
        refusal(&folder.part(2, 2), &folder.part(1, 2)),
        format!(": split.tensors.count is 11, but the parts hold 10 together{AGAIN}")
    );

    // Within one part: one name becomes another of the same length.
    let mut bytes = std::fs::read(whole.part(1, 2)).unwrap();
    let at = bytes.windows(12).position(|bytes| bytes == b"blk.0.attn_k").unwrap();
    bytes[at..at + 12].copy_from_slice(b"blk.0.attn_q");
    std::fs::write(whole.part(1, 2), bytes).unwrap();
    let error = refusal(&whole.part(1, 2), &whole.part(1, 2));
    assert!(error.ends_with(&format!(": the file holds a tensor twice{DAMAGED}")), "{error}");
}

#[test]
fn counts_that_cannot_be() -> Result<()> {
    // What `llama-gguf-split --merge` writes into the whole.
    let merged = Folder::new(&[11], |_, metadata| metadata.extend(split(0, 0, 11)));
    assert_eq!(Decoder::open(merged.part(1, 1), &Device::Cpu)?.targets().len(), 7 + 2);
    assert_eq!(Decoder::open(Folder::new(&[11], |_, _| {}).part(1, 1), &Device::Cpu)?.targets().len(), 7 + 2);

    let first = |metadata: Metadata| {
        let folder = Folder::new(&[6, 5], |number, own| {
            if number == 0 {
                own.retain(|key, _| !key.starts_with("split."));
                own.extend(metadata.clone());
            }
        });
        let path = folder.part(1, 2);
        refusal(&path, &path)
    };
    let neither = "but the file holds 6 tensors: it is neither a part of a model nor the whole";
    for count in [0, 1] {
        assert_eq!(
            first(split(0, count, 11)),
            format!(": split.no 0, split.count {count} and split.tensors.count 11, {neither}{DAMAGED}")
        );
    }
    assert_eq!(
        first(split(2, 2, 11)),
        format!(": split.no 2, split.count 2 and split.tensors.count 11 cannot be{DAMAGED}")
    );
    assert_eq!(
        first(split(0, 65535, 11)),
        ": this is part 1 of 65535 of a model, but its name does not end in \"-00001-of-65535.gguf\": \
         the others are not found; \
         give all parts their names back, or join them: llama-gguf-split --merge"
    );
    let with = |key, value| {
        let mut metadata = split(0, 2, 11);
        metadata.insert(key, value);
        first(metadata)
    };
    assert_eq!(
        with("split.count", Value::I32(-2)),
        format!(": split.count is I32(-2), which is not a count{DAMAGED}")
    );
    assert_eq!(
        with("split.count", Value::U64(u64::MAX)),
        format!(": split.no 0, split.count {} and split.tensors.count 11 cannot be{DAMAGED}", u64::MAX)
    );
    assert_eq!(
        with("split.no", Value::String("0".to_string())),
        format!(": split.no is String(\"0\"), which is not a count{DAMAGED}")
    );
    for key in ["split.no", "split.tensors.count"] {
        let mut metadata = split(0, 2, 11);
        metadata.remove(key);
        assert_eq!(first(metadata), format!(": a part of a model without {key}{DAMAGED}"));
    }

    let folder = Folder::new(&[11], |_, metadata| metadata.extend(split(0, 65535, 11)));
    let path = folder.part(1, 65535);
    std::fs::rename(folder.part(1, 1), &path).unwrap();
    assert_eq!(
        refusal(&path, &folder.part(2, 65535)),
        ": this file is missing: part 2 of 65535 of the model; \
         fetch it too, into the folder of tiny-00001-of-65535.gguf"
    );
    Ok(())
}
