//! Two whole models with adapters against PyTorch and PEFT, in one forward and backward pass:
//! `golden/tiny.py` made the numbers, in f64, and the folders, with transformers and PEFT.

use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Gradients};
use lorascope::model::{Decoder, Tokens};
use lorascope::ops::Kernels;
use std::collections::HashMap;

#[derive(serde::Deserialize)]
struct Golden {
    rows: Vec<Row>,
    trained_tokens: usize,
    loss: f64,
    grad_norm: f64,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

fn file(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// |ours − truth| / |truth|
fn error(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.dims(), truth.dims());
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm(&(ours.to_dtype(DType::F64).unwrap() - truth).unwrap()) / norm(truth)
}

/// Logits, loss and all gradients of a batch that is packed into one sequence.
fn check(name: &str, kernels: Kernels) -> Result<()> {
    check_at(name, name, kernels)
}

/// The same, with the weights somewhere else.
fn check_at(name: &str, weights: &str, kernels: Kernels) -> Result<()> {
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(file(&format!("{name}.json"))).unwrap()).unwrap();
    let truth: HashMap<String, Tensor> =
        candle_core::safetensors::load(file(&format!("{name}.safetensors")), &Device::Cpu)?;
    let model = Decoder::open(file(weights), &Device::Cpu)?.with_kernels(kernels);
    let adapters = Adapters::open(file(&format!("{name}-adapter")), &Device::Cpu)?;

    let (mut ids, mut borders) = (Vec::new(), vec![0]);
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for row in &golden.rows {
        for i in (1..row.ids.len()).filter(|i| row.trained[*i]) {
            places.push((ids.len() + i - 1) as u32);
            targets.push(row.ids[i]);
        }
        ids.extend(&row.ids);
        borders.push(ids.len());
    }
    assert_eq!(targets.len(), golden.trained_tokens);

    let go_on = || true;
    let tokens = Tokens { ids: &ids, borders: &borders };
    let (hidden, saved) = model.forward(tokens, &adapters, &go_on)?;
    let logits = model.logits(&hidden)?;
    for (i, border) in borders.windows(2).enumerate() {
        let off = error(&logits.narrow(0, border[0], border[1] - border[0])?, &truth[&format!("logits.{i}")]);
        assert!(off < 1e-5, "the logits of row {i} of {name} are off by {off:e}");
    }

    let scale = 1.0 / targets.len() as f64;
    let (sum, dhidden) = model.loss(&hidden, &places, &targets, Some(scale))?;
    let off = (sum * scale / golden.loss - 1.0).abs();
    assert!(off < 1e-6, "the loss of {name} is off by {off:e}");

    let mut gradients = Gradients::new();
    model.backward(saved, &dhidden.unwrap(), &borders, &adapters, &mut gradients, &go_on)?;
    let expected = truth.keys().filter(|key| key.starts_with("grad.")).count();
    assert_eq!(gradients.tensors().count(), expected);
    for (tensor, gradient) in gradients.tensors() {
        let off = error(gradient, &truth[&format!("grad.base_model.model.{tensor}.weight")]);
        assert!(off < 5e-5, "the gradient of {tensor} of {name} is off by {off:e}");
    }
    let off = (gradients.norm()? / golden.grad_norm - 1.0).abs();
    assert!(off < 1e-5, "the norm of {name}'s gradients is off by {off:e}");
    Ok(())
}

#[test]
fn golden_grouped_heads_and_a_head_of_its_own() -> Result<()> {
    check("tiny", Kernels::Candle)?;
    check("tiny", Kernels::Fused)
}

#[test]
fn golden_tied_with_biases_and_rank_stabilised() -> Result<()> {
    check("tied", Kernels::Candle)?;
    check("tied", Kernels::Fused)
}

/// `golden/quantised.py` made the blocks and expanded them for PyTorch, with the `gguf` package.
#[test]
fn golden_weights_in_blocks() -> Result<()> {
    let types = Decoder::open(file("quantised.gguf"), &Device::Cpu)?.weight_types();
    assert_eq!(types, "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0");
    check_at("quantised", "quantised.gguf", Kernels::Candle)?;
    check_at("quantised", "quantised.gguf", Kernels::Fused)
}
