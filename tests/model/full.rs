//! All weights trained: the baseline that LoRA is compared with, as a run.

use crate::common;
use crate::common::llama::Sizes;
use crate::common::working_folder::WorkingFolder;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{self, Value};
use lorascope::candle_core;
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::model::{ExportOptions, ExportType, GenerateConfig, Model};
use lorascope::run::Run;
use lorascope::train::{OptimizerConfig, RunConfig, SgdConfig};
use std::collections::HashMap;
use std::path::Path;

/// A run that trains all weights of a small model with the real tokenizer: it pauses, is opened again
/// from disk and goes on to the bit; there is no adapter to save, but the model is written.
#[test]
fn all_weights_are_trained_saved_and_opened() -> Result<()> {
    let _folder = WorkingFolder::enter();
    let mut real = std::fs::File::open(common::model_path()).unwrap();
    let metadata = gguf_file::Content::read(&mut real)?.metadata;
    let mut more: HashMap<String, Value> =
        metadata.into_iter().filter(|(name, _)| name.starts_with("tokenizer.")).collect();
    more.insert("llama.context_length".to_string(), Value::U32(512));
    let sizes =
        Sizes { vocabulary: 49_152, width: 32, heads: 2, kv_heads: 1, head: 16, intermediate: 48, layers: 2 };
    sizes.write_gguf_with(Path::new("small.gguf"), &sizes.tensors(), GgmlDType::F32, more);
    let model = Model::open("small.gguf")?;
    let data =
        Dataset::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/school_math.jsonl"))?.head(16)?;
    let run = Run::new("full", &model, &data, all_weights())?;
    run.steps(3)?;
    let losses: Vec<f64> = run.history().steps().iter().map(|step| step.loss).collect();
    assert!(losses[2] < losses[0], "{losses:?}");
    let adapters = run.adapters();
    assert_eq!(adapters.parameters() as u64, model.config().parameters());
    let said = run.save_adapter("adapter").unwrap_err().to_string();
    assert!(said.starts_with("there is no adapter to save") && !Path::new("adapter").exists(), "{said}");
    let exported = model.export_merged(
        &adapters,
        "trained",
        &ExportOptions { dtype: ExportType::F32, ..Default::default() },
    )?;
    let trained = Model::open(&exported.folder)?;
    let few = GenerateConfig { max_tokens: 5, ..Default::default() };
    assert_eq!(trained.complete("3 + 5 =", &few)?, model.complete_with(&adapters, "3 + 5 =", &few)?);

    let next = run.step()?;
    run.close()?;
    // From disk, and beside a run that was never interrupted.
    let again = Run::open("runs/full")?;
    assert_eq!(
        (again.status().step, again.history().steps().last().unwrap().loss.to_bits()),
        (4, next.loss.to_bits())
    );
    let other = Run::new("other", &model, &data, all_weights())?;
    other.steps(5)?;
    assert_eq!(again.step()?.loss.to_bits(), other.history().steps()[4].loss.to_bits());
    Ok(())
}

fn all_weights() -> RunConfig {
    let sgd = OptimizerConfig::Sgd(SgdConfig::default());
    RunConfig::default().full().optimizer(sgd).lr(0.05).batch(4).warmup(1).seed(7)
}
