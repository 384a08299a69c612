//! Gradients through every type that a weight can have: those of an f32 model made of the
//! dequantised weights. `golden_llama.rs` holds quantised ones against PyTorch.

use crate::common;
use crate::common::llama::{EVEN, Sizes, Tensors, adapters, gradients, off};
use crate::common::working_folder::WorkingFolder;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::{Decoder, Model, OpenOptions, WeightDtype};
use lorascope::run::Run;
use lorascope::train::RunConfig;
use std::path::Path;
use tempfile::TempDir;

fn as_weights(weights: WeightDtype) -> OpenOptions {
    OpenOptions { weights, ..Default::default() }
}

/// Every matrix after `change`; vectors as they are.
fn changed(tensors: &Tensors, change: impl Fn(&Tensor) -> Tensor) -> Tensors {
    let one = |t: &Tensor| if t.rank() == 2 { change(t) } else { t.clone() };
    tensors.iter().map(|(name, tensor)| (name.clone(), one(tensor))).collect()
}

/// As candle dequantises what it quantised.
fn through(tensor: &Tensor, dtype: GgmlDType) -> Tensor {
    QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap()
}

/// How far loss and gradients of a model are from those of the f32 model with these tensors.
fn distance(model: &Decoder, sizes: Sizes, truth: &Tensors) -> Result<f64> {
    let folder = TempDir::new().unwrap();
    sizes.write_folder(folder.path(), truth);
    let dense = Decoder::open(folder.path(), &Device::Cpu)?;
    assert_eq!(dense.weight_types(), "f32");
    let adapters = adapters(model, 3)?;
    let ((loss, ours), (expected, truth)) = (gradients(model, &adapters)?, gradients(&dense, &adapters)?);
    assert_eq!(ours.len(), 7 * 2 * sizes.layers);
    let mut worst = (loss / expected - 1.0).abs();
    for ((name, ours), (other, truth)) in ours.iter().zip(&truth) {
        assert_eq!(name, other);
        worst = worst.max(off(ours, truth));
    }
    Ok(worst)
}

#[test]
fn gradients_through_every_way_to_load() -> Result<()> {
    let folder = TempDir::new().unwrap();
    let tensors = EVEN.tensors();
    EVEN.write_folder(folder.path(), &tensors);
    let bf16 = |t: &Tensor| t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    let q8_0 = |t: &Tensor| through(t, GgmlDType::Q8_0);
    let q4k = |t: &Tensor| through(t, GgmlDType::Q4K);
    let mut bytes = Vec::new();
    for (weights, name, truth) in [
        (WeightDtype::Stored, "f32", tensors.clone()),
        (WeightDtype::F32, "f32", tensors.clone()),
        (WeightDtype::Bf16, "bf16", changed(&tensors, bf16)),
        (WeightDtype::Q8_0, "Q8_0", changed(&tensors, q8_0)),
        (WeightDtype::Q4K, "Q4K", changed(&tensors, q4k)),
    ] {
        let model = Decoder::open_with(folder.path(), &as_weights(weights))?;
        assert_eq!(model.weight_types(), name);
        let worst = distance(&model, EVEN, &truth)?;
        println!("{weights:?}: {worst:.1e}");
        assert!(worst < 1e-5, "{weights:?}: {worst:e}");
        bytes.push(model.bytes());
        if weights != WeightDtype::Stored && weights != WeightDtype::F32 {
            // The comparison can see a difference: the weights before are further away.
            assert!(distance(&model, EVEN, &tensors)? > 1e-4);
        }
    }
    let numbers = bytes[0] / 4;
    assert_eq!(bytes, [numbers * 4, numbers * 4, numbers * 2, numbers * 34 / 32, numbers * 144 / 256]);
    Ok(())
}

#[test]
fn gradients_through_every_type_of_a_gguf() -> Result<()> {
    use GgmlDType::*;
    let folder = TempDir::new().unwrap();
    let tensors = EVEN.tensors();
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K, Q8K] {
        let path = folder.path().join("model.gguf");
        EVEN.write_gguf(&path, &tensors, dtype);
        let truth = changed(&tensors, |t| through(t, dtype));
        for weights in [WeightDtype::Stored, WeightDtype::F32] {
            let model = Decoder::open_with(&path, &as_weights(weights))?;
            let worst = distance(&model, EVEN, &truth)?;
            println!("{dtype:?} {weights:?}: {worst:.1e}");
            assert!(worst < 1e-5, "{dtype:?} {weights:?}: {worst:e}");
        }
    }
    Ok(())
}

#[test]
fn rows_that_the_blocks_do_not_divide() -> Result<()> {
    // q, k, v, gate, up, embedding and head have rows of 96, o of 40, down of 256.
    let odd =
        Sizes { vocabulary: 31, width: 96, heads: 2, kv_heads: 1, head: 20, intermediate: 256, layers: 1 };
    let folder = TempDir::new().unwrap();
    let tensors = odd.tensors();
    odd.write_folder(folder.path(), &tensors);
    let model = Decoder::open_with(folder.path(), &as_weights(WeightDtype::Q4K))?;
    assert_eq!(model.weight_types(), "Q4K, Q8_0, bf16");
    let truth = changed(&tensors, |t| match t.dims()[1] {
        256 => through(t, GgmlDType::Q4K),
        96 => through(t, GgmlDType::Q8_0),
        _ => t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap(),
    });
    let worst = distance(&model, odd, &truth)?;
    assert!(worst < 1e-5, "{worst:e}");
    Ok(())
}

#[test]
fn each_way_to_load_is_a_model_of_its_own() -> Result<()> {
    let path = common::model_path();
    let stored = Model::open(&path)?;
    let options = as_weights(WeightDtype::Q8_0);
    let other = Model::open_with(&path, &options)?;
    let decoder = |model: &Model| std::ptr::from_ref(model.decoder());
    assert_ne!(decoder(&stored), decoder(&other));
    assert_eq!(decoder(&Model::open_with(&path, &options)?), decoder(&other));
    assert_eq!(decoder(&Model::open(&path)?), decoder(&stored));
    assert_eq!(other.fingerprint()?, format!("{}-Q8_0", stored.fingerprint()?));
    assert!(stored.show().text.contains("as stored: Q4_1, Q8_0"), "{}", stored.show().text);
    assert!(other.show().text.contains(", as Q8_0"), "{}", other.show().text);
    drop(other);
    let small = Model::open_with(&path, &as_weights(WeightDtype::Q4K))?;
    let shown = small.show().text;
    assert!(
        shown.contains(
            "as Q4K: 30 matrices, and 181 Q8_0 whose row length is not a multiple of its block size"
        ),
        "{shown}"
    );
    Ok(())
}

/// A run on weights in another type goes on with them when it is opened again.
#[test]
fn a_run_remembers_how_its_weights_were_loaded() -> Result<()> {
    let folder = WorkingFolder::enter();
    let model = Model::open_with(common::model_path(), &as_weights(WeightDtype::Q8_0))?;
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/school_math.jsonl");
    let data = Dataset::open(rows)?.head(8)?;
    let config = RunConfig::default().rank(2).batch(2).targets(["v_proj"]).seed(7);
    let run = Run::new("eight-bits", &model, &data, config)?;
    run.step()?;
    run.pause()?;
    // A copy of the folder is a run of its own, and is read from disk.
    let copy = folder.path().join("runs/copy");
    let mut folders = vec![run.folder().to_path_buf()];
    while let Some(from) = folders.pop() {
        let to = copy.join(from.strip_prefix(run.folder()).unwrap());
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => drop(std::fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap()),
            }
        }
    }
    let again = Run::open(&copy)?;
    assert_eq!((again.status().step, run.status().step), (1, 1));
    let (ours, theirs) = (again.step()?, run.step()?);
    assert_eq!((ours.step, ours.loss.to_bits()), (2, theirs.loss.to_bits()));
    assert_eq!(ours.gradient_norm.to_bits(), theirs.gradient_norm.to_bits());
    Ok(())
}
