//! A whole model with adapters against PyTorch and PEFT, in one forward and backward pass and in ten
//! steps.

use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Gradients};
use lorascope::model::{Counted, Decoder, Tokens};
use lorascope::ops::Kernels;
use lorascope::text::{Example, pack};
use lorascope::train::step::Learned;
use lorascope::train::step::{evaluate, mean, step};
use lorascope::train::{AdamWConfig, Batch, OptimizerConfig};
use std::collections::{BTreeMap, HashMap};

#[derive(serde::Deserialize)]
struct Golden {
    rows: Vec<Row>,
    trained_tokens: usize,
    loss: f64,
    grad_norm: f64,
    optimizer: Option<Constants>,
    #[serde(default)]
    runs: BTreeMap<String, Run>,
}

/// Of AdamW, for all runs.
#[derive(serde::Deserialize)]
pub struct Constants {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
}

#[derive(serde::Deserialize)]
struct Run {
    max_norm: Option<f64>,
    weight_decay: f64,
    losses: Vec<f64>,
    loss_after: f64,
    grad_norms: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

fn file(name: &str) -> String {
    format!("{}/tests/golden/{name}", super::root().display())
}

/// |ours − truth| / |truth|
fn error(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.dims(), truth.dims());
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm(&(ours.to_dtype(DType::F64).unwrap() - truth).unwrap()) / norm(truth)
}

/// Logits, loss and all gradients of a batch that is packed into one sequence.
pub fn check_pass(name: &str, kernels: Kernels) -> Result<()> {
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(file(&format!("{name}.json"))).unwrap()).unwrap();
    let truth: HashMap<String, Tensor> =
        candle_core::safetensors::load(file(&format!("{name}.safetensors")), &Device::Cpu)?;
    let model = Decoder::open(file(name), &Device::Cpu)?.with_kernels(kernels);
    let adapters = Adapters::open(file(&format!("{name}-adapter")), &Device::Cpu)?;
    adapters.check(&model.targets())?;

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
    let logits = model.logits(&hidden, &adapters)?;
    let mut largest = [0f64; 2];
    for (i, border) in borders.windows(2).enumerate() {
        let off = error(&logits.narrow(0, border[0], border[1] - border[0])?, &truth[&format!("logits.{i}")]);
        assert!(off < 1e-5, "the logits of row {i} of {name} are off by {off:e}");
        largest[0] = largest[0].max(off);
    }

    let scale = 1.0 / targets.len() as f64;
    let mut gradients = Gradients::new();
    let (losses, dhidden) = model.loss_backward(
        &hidden,
        Counted { places: &places, targets: &targets },
        scale,
        &adapters,
        &mut gradients,
        &|| true,
    )?;
    let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    let loss_off = (sum * scale / golden.loss - 1.0).abs();
    assert!(loss_off < 1e-6, "the loss of {name} is off by {loss_off:e}");

    model.backward(saved, &dhidden, &borders, &adapters, &mut gradients, &go_on)?;
    let expected = truth.keys().filter(|key| key.starts_with("grad.")).count();
    assert_eq!(gradients.tensors().count(), expected);
    for (tensor, gradient) in gradients.tensors() {
        let off = error(gradient, &truth[&format!("grad.base_model.model.{tensor}.weight")]);
        assert!(off < 5e-5, "the gradient of {tensor} of {name} is off by {off:e}");
        largest[1] = largest[1].max(off);
    }
    let off = (gradients.norm()? / golden.grad_norm - 1.0).abs();
    assert!(off < 1e-5, "the norm of {name}'s gradients is off by {off:e}");
    let [of_logits, of_gradients] = largest;
    println!(
        "{name}, {kernels:?}: logits {of_logits:.1e}, loss {loss_off:.1e}, gradients {of_gradients:.1e}"
    );
    Ok(())
}

/// Losses and gradient norms of ten steps, and where the adapter ends.
pub fn check_steps(name: &str, kernels: Kernels) -> Result<()> {
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(file(&format!("{name}.json"))).unwrap()).unwrap();
    let truth: HashMap<String, Tensor> =
        candle_core::safetensors::load(file(&format!("{name}.safetensors")), &Device::Cpu)?;
    let model = Decoder::open(file(name), &Device::Cpu)?.with_kernels(kernels);
    let begin = Adapters::open(file(&format!("{name}-adapter")), &Device::Cpu)?;
    let row = |row: &Row| Example { ids: row.ids.clone(), trained: row.trained.clone() };
    let rows: Vec<Example> = golden.rows.iter().map(row).collect();
    let packs = pack(&rows.iter().collect::<Vec<_>>(), 64).unwrap();
    assert_eq!(packs.len(), 1);
    assert_eq!(golden.runs.keys().collect::<Vec<_>>(), ["clipped", "decayed", "plain"]);
    let (mut worst, mut worst_move) = (0f64, 0f64);
    for (run, truth_of) in &golden.runs {
        let Some(Constants { lr, beta1, beta2, eps }) = golden.optimizer else { panic!("no optimizer") };
        let weight_decay = truth_of.weight_decay;
        let config = AdamWConfig { beta1, beta2, epsilon: eps, weight_decay, lora_plus: 1.0 };
        let config = OptimizerConfig::AdamW(config);
        let mut learned = Learned::new(begin.clone(), 0);
        assert_eq!(truth_of.losses.len(), 10);
        for (i, (loss, gradient_norm)) in truth_of.losses.iter().zip(&truth_of.grad_norms).enumerate() {
            let (next, numbers) = step(&model, &learned, &packs, lr, truth_of.max_norm, &config, &|| true)?;
            learned = next;
            let off = (numbers.loss / loss - 1.0).abs();
            assert!(off < 1e-5, "{name}, {run}, step {}: the loss is off by {off:e}", i + 1);
            worst = worst.max(off);
            let off = (numbers.gradient_norm / gradient_norm - 1.0).abs();
            assert!(off < 1e-4, "{name}, {run}, step {}: the gradient norm is off by {off:e}", i + 1);
            assert_eq!((numbers.trained_tokens, numbers.tokens), (golden.trained_tokens, packs[0].len()));
        }
        assert_eq!(learned.optimizer.updates(), 10);
        let (after, _) = mean(&evaluate(&model, &learned.adapters, &Batch::of(packs.clone()), &|| true)?);
        let off = (after / truth_of.loss_after - 1.0).abs();
        assert!(off < 1e-5, "{name}, {run}: the loss after the last step is off by {off:e}");
        for ((tensor, begin), (_, end)) in begin.tensors().zip(learned.adapters.tensors()) {
            let begin = begin.to_dtype(DType::F64)?;
            let expected = (&truth[&format!("{run}.base_model.model.{tensor}.weight")] - &begin)?;
            let moved = (end.to_dtype(DType::F64)? - &begin)?;
            let off = error(&moved, &expected);
            assert!(off < 1e-3, "{name}, {run}: the movement of {tensor} is off by {off:e}");
            worst_move = worst_move.max(off);
        }
    }
    println!("{name}, {kernels:?}: losses of ten steps {worst:.1e}, movement {worst_move:.1e}");
    Ok(())
}
