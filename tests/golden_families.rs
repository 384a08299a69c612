//! A tiny model of each family with adapters against PyTorch and PEFT: one forward and backward pass,
//! and ten updates of AdamW. `golden/families.py` made the numbers, in f64, and the folders.

use candle_core::{DType, Device, Tensor};
use golden::check_pass;
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::Decoder;
use lorascope::ops::Kernels;
use lorascope::text::{Example, pack};
use lorascope::train::step::{evaluate, step};
use lorascope::train::{self, AdamWConfig, Learned, OptimizerConfig};
use std::collections::{BTreeMap, HashMap};

#[path = "common/golden.rs"]
mod golden;

#[derive(serde::Deserialize)]
struct Golden {
    rows: Vec<Row>,
    optimizer: Optimizer,
    runs: BTreeMap<String, Run>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

#[derive(serde::Deserialize)]
struct Optimizer {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
}

#[derive(serde::Deserialize)]
struct Run {
    max_norm: Option<f64>,
    weight_decay: f64,
    losses: Vec<f64>,
    loss_after: f64,
    grad_norms: Vec<f64>,
}

fn file(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn norm(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// Losses and gradient norms of ten steps, and where the adapter ends.
fn check_steps(name: &str, kernels: Kernels) -> Result<()> {
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(file(&format!("{name}.json"))).unwrap()).unwrap();
    let truth: HashMap<String, Tensor> =
        candle_core::safetensors::load(file(&format!("{name}.safetensors")), &Device::Cpu)?;
    let model = Decoder::open(file(name), &Device::Cpu)?.with_kernels(kernels);
    let begin = Adapters::open(file(&format!("{name}-adapter")), &Device::Cpu)?;
    let row = |row: &Row| Example { ids: row.ids.clone(), trained: row.trained.clone() };
    let rows: Vec<Example> = golden.rows.iter().map(row).collect();
    let packs = pack(&rows.iter().collect::<Vec<_>>(), 64).unwrap();
    let (mut worst, mut worst_move) = (0f64, 0f64);
    for (run, truth_of) in &golden.runs {
        let Optimizer { lr, beta1, beta2, eps } = golden.optimizer;
        let weight_decay = truth_of.weight_decay;
        let config = AdamWConfig { beta1, beta2, epsilon: eps, weight_decay, lora_plus: 1.0 };
        let config = OptimizerConfig::AdamW(config);
        let mut learned = Learned { adapters: begin.clone(), optimizer: train::Optimizer::new(), seed: 0 };
        assert_eq!(truth_of.losses.len(), 10);
        for (i, (loss, gradient_norm)) in truth_of.losses.iter().zip(&truth_of.grad_norms).enumerate() {
            let (next, numbers) = step(&model, &learned, &packs, lr, truth_of.max_norm, &config, &|| true)?;
            learned = next;
            let off = (numbers.loss / loss - 1.0).abs();
            assert!(off < 1e-5, "{name}, {run}, step {}: the loss is off by {off:e}", i + 1);
            worst = worst.max(off);
            let off = (numbers.gradient_norm / gradient_norm - 1.0).abs();
            assert!(off < 1e-4, "{name}, {run}, step {}: the gradient norm is off by {off:e}", i + 1);
        }
        let (after, _) = evaluate(&model, &learned.adapters, &packs, &|| true)?;
        let off = (after / truth_of.loss_after - 1.0).abs();
        assert!(off < 1e-5, "{name}, {run}: the loss after the last step is off by {off:e}");
        for ((tensor, begin), (_, end)) in begin.tensors().zip(learned.adapters.tensors()) {
            let begin = begin.to_dtype(DType::F64)?;
            let expected = (&truth[&format!("{run}.base_model.model.{tensor}.weight")] - &begin)?;
            let moved = (end.to_dtype(DType::F64)? - &begin)?;
            let off = norm(&(moved - &expected)?) / norm(&expected);
            assert!(off < 1e-3, "{name}, {run}: the movement of {tensor} is off by {off:e}");
            worst_move = worst_move.max(off);
        }
    }
    println!("{name}, {kernels:?}: losses of ten steps {worst:.1e}, movement {worst_move:.1e}");
    Ok(())
}

fn check(name: &str) -> Result<()> {
    for kernels in [Kernels::Candle, Kernels::Fused] {
        check_pass(name, kernels)?;
        check_steps(name, kernels)?;
    }
    Ok(())
}

#[test]
fn golden_qwen2_with_biases() -> Result<()> {
    check("qwen2")
}

#[test]
fn golden_qwen3_with_norms_of_heads() -> Result<()> {
    check("qwen3")
}

#[test]
fn golden_gpt2_fused_with_layer_norms() -> Result<()> {
    check("gpt2")
}

#[test]
fn golden_llama3_with_scaled_frequencies() -> Result<()> {
    check("llama3")
}

#[test]
fn golden_baichuan2_with_a_head_of_unit_rows() -> Result<()> {
    check("baichuan2")
}
