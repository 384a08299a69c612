//! Runs of a small model with the real tokenizer on short rows, and one beside them that nobody disturbs.

use super::llama::Sizes;
use super::working_folder::WorkingFolder;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::gguf_file::Value;
use lorascope::candle_core;
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::Model;
use lorascope::run::Run;
use lorascope::train::{RunConfig, Snapshots};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Bench {
    pub model: Model,
    pub data: Dataset,
    folder: WorkingFolder,
}

/// A llama of eight small blocks: a step takes some hundredths of a second, most of it in the head.
pub const SMALL: Sizes =
    Sizes { vocabulary: 49152, width: 32, heads: 2, kv_heads: 1, head: 16, intermediate: 48, layers: 8 };

/// It, with the real model's tokenizer and chat template.
fn small(folder: &Path) -> PathBuf {
    model(&folder.join("small.gguf"), SMALL)
}

/// The same in other sizes.
pub fn model(path: &Path, sizes: Sizes) -> PathBuf {
    let mut file = fs::File::open(super::model_path()).unwrap();
    let metadata = Content::read(&mut file).unwrap().metadata;
    let more = metadata.into_iter().filter(|(name, _)| name.starts_with("tokenizer."));
    let more = more.chain([("llama.context_length".to_string(), Value::U32(256))]).collect();
    sizes.write_gguf_with(path, &sizes.tensors(), GgmlDType::F32, more);
    path.to_path_buf()
}

/// Twelve short rows.
fn rows(folder: &Path) -> PathBuf {
    let path = folder.join("rows.jsonl");
    let line = |n: u32| format!("{{\"instruction\":\"{n} + {n} = ?\",\"output\":\"{}\"}}\n", 2 * n);
    fs::write(&path, (1..=12).map(line).collect::<String>()).unwrap();
    path
}

impl Bench {
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn new() -> Result<Self> {
        let folder = WorkingFolder::enter();
        let (model, data) = (Model::open(small(folder.path()))?, Dataset::open(rows(folder.path()))?);
        Ok(Self { model, data, folder })
    }

    pub fn run(&self, name: &str, config: RunConfig) -> Result<Run> {
        Run::new(name, &self.model, &self.data, config)
    }
}

/// Dropout is drawn, and there is a snapshot after every step.
pub fn config() -> RunConfig {
    let mut config = RunConfig::default().rank(2).batch(2).targets(["q_proj", "down_proj"]).warmup(3).seed(7);
    config.lora.dropout = 0.1;
    config.snapshots(Snapshots { every_seconds: 0.0, ..Snapshots::default() })
}

pub fn bits(adapters: &Adapters) -> Vec<(String, Vec<u32>)> {
    let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    adapters.tensors().map(|(name, t)| (name, values(t).into_iter().map(f32::to_bits).collect())).collect()
}

pub fn losses(run: &Run) -> Vec<(u64, u64)> {
    run.history().steps().iter().map(|s| (s.step, s.loss.to_bits())).collect()
}

/// An undisturbed run, step by step.
pub struct Straight {
    pub run: Run,
    seen: Vec<Vec<(String, Vec<u32>)>>,
}

impl Straight {
    pub fn new(bench: &Bench) -> Result<Self> {
        let run = bench.run("straight", config())?;
        Ok(Self { seen: vec![bits(&run.adapters())], run })
    }

    pub fn at(&mut self, step: u64) -> Result<&[(String, Vec<u32>)]> {
        while self.seen.len() as u64 <= step {
            self.run.step()?;
            self.seen.push(bits(&self.run.adapters()));
        }
        Ok(&self.seen[step as usize])
    }

    pub fn agrees(&mut self, other: &Run) -> Result<()> {
        let step = other.status().step;
        assert_eq!(bits(&other.adapters()), self.at(step)?, "adapters after step {step}");
        assert_eq!(losses(other), losses(&self.run)[..step as usize]);
        Ok(())
    }
}
