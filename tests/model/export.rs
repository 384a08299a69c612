//! Models as Hugging Face folders: what is read back is what was written.

use crate::common;
use crate::common::llama;
use crate::common::llama::{EVEN, gradients};
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::{
    Decoder, ExportOptions, ExportType, GenerateConfig, Model, OpenOptions, Tokens, WeightDtype,
};
use lorascope::text::{GenerationPrompt, Message};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn options(dtype: ExportType) -> ExportOptions {
    ExportOptions { dtype, ..Default::default() }
}

fn logits(model: &Decoder) -> Result<Vec<f32>> {
    let ids: Vec<u32> = (0..20).map(|i| (i * 13 + 5) % 40).collect();
    let tokens = Tokens { ids: &ids, borders: &[0, 7, 20] };
    let hidden = model.hidden(tokens, &Adapters::default(), &|| true)?;
    Ok(model.logits(&hidden, &Adapters::default())?.flatten_all()?.to_vec1()?)
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_dense_model_comes_back_bit_for_bit() -> Result<()> {
    for name in ["tiny", "tied"] {
        let model = Decoder::open(golden(name), &Device::Cpu)?;
        // It stays there for golden/check_export.py.
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-export"));
        if to.exists() {
            std::fs::remove_dir_all(&to).unwrap();
        }
        let exported = model.export(&to, &options(ExportType::F32))?;
        assert_eq!(exported.shards, ["model.safetensors"]);
        assert_eq!(exported.notes, ["there is no tokenizer in the folder"]);
        let again = Decoder::open(&to, &Device::Cpu)?;
        assert_eq!(again.config(), model.config());
        assert_eq!(logits(&again)?, logits(&model)?, "{name}");
        let read = |folder: &Path| -> HashMap<String, Tensor> {
            candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap()
        };
        let (ours, theirs) = (read(&to), read(&golden(name)));
        assert_eq!(ours.len(), theirs.len());
        for (tensor, value) in &theirs {
            let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(bits(&ours[tensor]), bits(value), "{tensor}");
        }
        let error = model.export(&to, &options(ExportType::F32)).unwrap_err();
        assert!(
            error.is_input() && error.to_string().ends_with("the folder exists already; choose another name")
        );
    }
    Ok(())
}

#[test]
fn shards_hold_what_one_file_holds_and_the_same_bytes_each_time() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let model = Decoder::open(golden("tiny"), &Device::Cpu)?;
    let small = ExportOptions { dtype: ExportType::F32, shard_bytes: 12_000 };
    let exported = model.export(folder.path().join("a"), &small)?;
    model.export(folder.path().join("b"), &small)?;
    let files = contents(&folder.path().join("a"));
    assert_eq!(files, contents(&folder.path().join("b")));
    let count = exported.shards.len();
    assert!(count > 3, "{count}");
    assert_eq!(exported.shards[1], format!("model-00002-of-{count:05}.safetensors"));
    assert_eq!(files.len(), count + 2);
    for shard in &exported.shards {
        assert!(files[shard].len() < 12_000 + 2_000, "{shard} has {} bytes", files[shard].len());
    }
    let index: serde_json::Value = serde_json::from_slice(&files["model.safetensors.index.json"]).unwrap();
    assert_eq!(index["metadata"]["total_size"], exported.bytes);
    assert_eq!(index["weight_map"]["lm_head.weight"], exported.shards[count - 1]);
    assert_eq!(index["weight_map"].as_object().unwrap().len(), 21);
    assert_eq!(logits(&Decoder::open(folder.path().join("a"), &Device::Cpu)?)?, logits(&model)?);
    // A tensor that is larger than a shard has one of its own.
    let tight = ExportOptions { dtype: ExportType::F32, shard_bytes: 1 };
    assert_eq!(model.export(folder.path().join("c"), &tight)?.shards.len(), 21);
    let none = ExportOptions { shard_bytes: 0, ..small };
    assert!(model.export(folder.path().join("d"), &none).unwrap_err().is_input());
    Ok(())
}

#[test]
fn other_types_are_what_rounding_gives() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let tensors = EVEN.tensors();
    EVEN.write_folder(&folder.path().join("f32"), &tensors);
    let model = Decoder::open(folder.path().join("f32"), &Device::Cpu)?;
    for (kind, dtype, name) in
        [(ExportType::Bf16, DType::BF16, "bfloat16"), (ExportType::F16, DType::F16, "float16")]
    {
        let to = folder.path().join(name);
        model.export(&to, &options(kind))?;
        let read = candle_core::safetensors::load(to.join("model.safetensors"), &Device::Cpu)?;
        for (tensor, value) in &tensors {
            let bits =
                |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(read[tensor].dtype(), dtype);
            assert_eq!(bits(&read[tensor]), bits(&value.to_dtype(dtype)?), "{tensor}");
        }
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(to.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["torch_dtype"], name);
        // Once rounded, nothing more is lost.
        let again = Decoder::open(&to, &Device::Cpu)?;
        again.export(folder.path().join("again"), &options(kind))?;
        assert_eq!(contents(&to), contents(&folder.path().join("again")));
        std::fs::remove_dir_all(folder.path().join("again")).unwrap();
    }
    // Blocks are expanded, and that is said.
    let blocks = Decoder::open_with(
        folder.path().join("f32"),
        &OpenOptions { weights: WeightDtype::Q4K, ..Default::default() },
    )?;
    let exported = blocks.export(folder.path().join("expanded"), &options(ExportType::F32))?;
    assert!(exported.notes[1].starts_with("16 matrices were in blocks (Q4K)"), "{:?}", exported.notes);
    let expanded = Decoder::open(folder.path().join("expanded"), &Device::Cpu)?;
    let adapters = llama::adapters(&blocks, 3)?;
    let ((a, ours), (b, theirs)) = (gradients(&blocks, &adapters)?, gradients(&expanded, &adapters)?);
    assert_eq!(a, b);
    assert!(ours.iter().zip(&theirs).all(|(x, y)| llama::off(&x.1, &y.1) < 1e-6));

    // What does not fit leaves nothing behind.
    let mut large = tensors.clone();
    let name = "model.layers.1.mlp.down_proj.weight";
    large.insert(name.to_string(), (&tensors[name] * 1e6)?);
    EVEN.write_folder(&folder.path().join("large"), &large);
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    let model = Decoder::open(folder.path().join("large"), &Device::Cpu)?;
    let error = model.export(folder.path().join("half"), &options(ExportType::F16)).unwrap_err().to_string();
    assert!(
        error.contains(name) && error.contains("which f16 cannot hold; write it as ExportType::Bf16"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
    Ok(())
}

/// The real model out of its GGUF file: weights, tokenizer, template, stops.
#[test]
fn a_gguf_becomes_a_folder() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let model = Model::open(common::model_path())?;
    let to = folder.path().join("smol");
    let exported = model.export(&to, &ExportOptions { dtype: ExportType::F32, shard_bytes: 200_000_000 })?;
    assert_eq!(exported.shards.len(), 3);
    let shown = exported.show().text;
    assert!(
        shown.contains("538.1 MB in 3 file(s)") && shown.contains("matrices were in blocks (Q4_1, Q8_0)"),
        "{shown}"
    );
    let again = Model::open(&to)?;
    // GGUF keeps ε in 32 bits, and so does the config.
    assert_eq!(again.config(), model.config());
    assert_eq!(logits(again.decoder())?, logits(model.decoder())?);

    let (ours, theirs) = (again.tokenizer(), model.tokenizer());
    assert_eq!((ours.bos(), ours.eos(), ours.stop_ids()), (theirs.bos(), theirs.eos(), theirs.stop_ids()));
    assert_eq!(ours.vocabulary_size(), theirs.vocabulary_size());
    for text in ["3 + 5 = ?", "小明有3个苹果🙂", "<|im_start|>user\n x<|im_end|>", " a  b\n\n1234.5 don't"]
    {
        assert_eq!(ours.encode(text)?, theirs.encode(text)?, "{text}");
        assert_eq!(ours.encode_plain(text)?, theirs.encode_plain(text)?, "{text}");
        assert_eq!(ours.decode(&ours.encode(text)?)?, text);
    }
    let messages = [Message::system("Be brief."), Message::user("3 + 5?"), Message::assistant("8")];
    for prompt in [GenerationPrompt::Add, GenerationPrompt::Omit] {
        assert_eq!(ours.render(&messages, None, prompt)?, theirs.render(&messages, None, prompt)?);
    }
    let config = GenerateConfig { max_tokens: 12, ..Default::default() };
    let asked = [Message::user("Name a colour.")];
    assert_eq!(again.chat(&asked, &config)?, model.chat(&asked, &config)?);

    // Out of the folder into another: its own files are taken along.
    std::fs::write(to.join("special_tokens_map.json"), "{}\n").unwrap();
    let half = folder.path().join("half");
    let exported = again.export(&half, &ExportOptions::default())?;
    assert_eq!((exported.notes.len(), exported.bytes * 2), (0, 538_060_032));
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"]
    {
        assert_eq!(std::fs::read(half.join(name)).unwrap(), std::fs::read(to.join(name)).unwrap(), "{name}");
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(half.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["torch_dtype"], &config["tie_word_embeddings"]), (&"bfloat16".into(), &true.into()));
    assert!(
        !Model::open(&half)?
            .chat(&asked, &GenerateConfig { max_tokens: 2, ..Default::default() })?
            .as_str()
            .is_empty()
    );

    let other = Decoder::open(golden("tiny"), &Device::Cpu)?;
    assert!(
        model.export_as(&other, folder.path().join("x"), &ExportOptions::default()).unwrap_err().is_input()
    );
    Ok(())
}
