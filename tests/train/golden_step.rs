//! The step against PyTorch and PEFT: ten updates of AdamW, plain, clipped and with weight decay
//! (`golden/tiny.py` made the numbers, in f64). And what a step promises beyond its numbers.

use crate::common::golden::check_steps;
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::Decoder;
use lorascope::ops::Kernels;
use lorascope::text::{Example, Pack, pack};
use lorascope::train::step::step;
use lorascope::train::step::{Learned, StepNumbers};
use lorascope::train::{AdamWConfig, OptimizerConfig};
use std::cell::Cell;
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

/// A golden model with its adapters and its rows.
struct Case {
    model: Decoder,
    adapters: Adapters,
    examples: Vec<Example>,
}

impl Case {
    fn open(name: &str) -> Result<Self> {
        let file = |name: &str| format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        let golden: Golden =
            serde_json::from_slice(&std::fs::read(file(&format!("{name}.json"))).unwrap()).unwrap();
        let example = |row: &Row| Example { ids: row.ids.clone(), trained: row.trained.clone() };
        Ok(Self {
            model: Decoder::open(file(name), &Device::Cpu)?,
            adapters: Adapters::open(file(&format!("{name}-adapter")), &Device::Cpu)?,
            examples: golden.rows.iter().map(example).collect(),
        })
    }

    /// The rows in packs of at most so many tokens.
    fn packs(&self, context: usize) -> Vec<Pack> {
        pack(&self.examples.iter().collect::<Vec<_>>(), context).unwrap()
    }

    /// The numbers of a first step and its gradients: with β₁ = 0 they are the optimiser's means.
    fn first(&self, adapters: &Adapters, packs: &[Pack]) -> Result<(StepNumbers, BTreeMap<String, Tensor>)> {
        let config = OptimizerConfig::AdamW(AdamWConfig { beta1: 0.0, ..Default::default() });
        let (learned, numbers) = step(&self.model, &start(adapters), packs, 1e-3, None, &config, &|| true)?;
        let moments = learned.optimizer.moments();
        Ok((numbers, moments.iter().map(|(name, m)| (name.clone(), m.mean.clone())).collect()))
    }
}

fn start(adapters: &Adapters) -> Learned {
    Learned::new(adapters.clone(), 0)
}

fn norm(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// |ours − truth| / |truth|
fn error(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.dims(), truth.dims());
    let truth = truth.to_dtype(DType::F64).unwrap();
    norm(&(ours.to_dtype(DType::F64).unwrap() - &truth).unwrap()) / norm(&truth)
}

fn values(adapters: &Adapters) -> Vec<Vec<f32>> {
    adapters.tensors().map(|(_, x)| x.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn golden_ten_steps_with_all_modules() -> Result<()> {
    check_steps("tiny", Kernels::Candle)?;
    check_steps("tiny", Kernels::Fused)
}

#[test]
fn golden_ten_steps_tied_with_biases_and_rank_stabilised() -> Result<()> {
    check_steps("tied", Kernels::Candle)?;
    check_steps("tied", Kernels::Fused)
}

#[test]
fn micro_batches_do_not_change_the_step() -> Result<()> {
    let case = Case::open("tiny")?;
    let (whole, truth) = case.first(&case.adapters, &case.packs(64))?;
    for (context, count) in [(17, 2), (22, 2)] {
        let packs = case.packs(context);
        assert_eq!(packs.len(), count);
        let (numbers, gradients) = case.first(&case.adapters, &packs)?;
        assert!((numbers.loss / whole.loss - 1.0).abs() < 1e-6, "{} and {}", numbers.loss, whole.loss);
        assert_eq!((numbers.tokens, numbers.trained_tokens), (whole.tokens, whole.trained_tokens));
        for (name, gradient) in &gradients {
            let off = error(gradient, &truth[name]);
            assert!(off < 1e-6, "{name} is off by {off:e} in {count} packs of {context}");
        }
    }
    let rows: Vec<Pack> = case.examples.iter().flat_map(|row| pack(&[row], 64).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    for (name, gradient) in case.first(&case.adapters, &rows)?.1 {
        let off = error(&gradient, &truth[&name]);
        assert!(off < 1e-6, "{name} is off by {off:e} row by row");
    }
    Ok(())
}

#[test]
fn every_adapter_gets_its_gradient() -> Result<()> {
    let case = Case::open("tiny")?;
    let (_, gradients) = case.first(&case.adapters, &case.packs(64))?;
    assert_eq!(gradients.len(), 2 * 7 * 2, "A and B of seven modules in two layers");
    for (name, gradient) in &gradients {
        assert!(norm(gradient) > 1e-3, "the gradient of {name} has norm {:e}", norm(gradient));
    }
    Ok(())
}

/// One adapted layer alone, and in a full set whose other adapters add nothing yet (B = 0).
#[test]
fn an_adapter_alone_gets_the_gradient_that_it_gets_among_others() -> Result<()> {
    let case = Case::open("tiny")?;
    for path in ["model.layers.1.self_attn.v_proj", "model.layers.0.mlp.up_proj"] {
        let others_zero = |name: &str, x: &Tensor| {
            let keep = name.starts_with(path) || name.ends_with("lora_A");
            Ok(if keep { x.clone() } else { x.zeros_like()? })
        };
        let pair = case.adapters.get(path).unwrap().clone();
        let alone = Adapters::from_pairs(
            case.adapters.config().clone().targets([path]),
            BTreeMap::from([(path.to_string(), pair)]),
        );
        let (numbers, all) = case.first(&case.adapters.map(others_zero)?, &case.packs(64))?;
        let (alone_numbers, gradients) = case.first(&alone, &case.packs(64))?;
        assert_eq!(numbers.loss, alone_numbers.loss);
        assert_eq!(
            gradients.keys().collect::<Vec<_>>(),
            [&format!("{path}.lora_A"), &format!("{path}.lora_B")]
        );
        for (name, gradient) in &gradients {
            assert!(norm(gradient) > 1e-3);
            let off = error(gradient, &all[name]);
            assert!(off < 1e-6, "{name} is off by {off:e}");
        }
    }
    Ok(())
}

/// `go_on` is asked before each block on the way up and on the way down; wherever it says no,
/// nothing has changed, and the step can be done again.
#[test]
fn an_interrupted_step_changes_nothing() -> Result<()> {
    let case = Case::open("tiny")?;
    let packs = case.packs(17);
    let config = OptimizerConfig::default();
    let go = |learned: &Learned, go_on: &dyn Fn() -> bool| {
        step(&case.model, learned, &packs, 1e-3, Some(1.0), &config, go_on)
    };
    let learned = go(&start(&case.adapters), &|| true)?.0;
    let before = values(&learned.adapters);

    let asked = Cell::new(0);
    let (next, numbers) = go(&learned, &|| {
        asked.set(asked.get() + 1);
        true
    })?;
    assert_eq!(asked.get(), 2 * (2 * 2 + 1), "two packs, two blocks up and down, and the head");
    for allowed in 0..asked.get() {
        let left = Cell::new(allowed);
        let go_on = || left.replace(left.get() - 1) > 0;
        let error = go(&learned, &go_on).unwrap_err();
        assert!(error.is_interrupted(), "{error}");
        assert_eq!(values(&learned.adapters), before, "stopped after {allowed} blocks");
        assert_eq!(learned.optimizer.updates(), 1);
    }
    let (again, same) = go(&learned, &|| true)?;
    assert_eq!((values(&again.adapters), same), (values(&next.adapters), numbers));
    Ok(())
}

#[test]
fn numbers_that_are_not_finite_end_the_step() -> Result<()> {
    let case = Case::open("tiny")?;
    for bad in [f32::INFINITY, f32::NAN] {
        let broken = case.adapters.map(|name, x| match name {
            "model.layers.1.mlp.up_proj.lora_A" => Ok((x.ones_like()? * bad as f64)?),
            _ => Ok(x.clone()),
        })?;
        let learned = start(&broken);
        let before = values(&learned.adapters).concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let config = OptimizerConfig::default();
        let error =
            step(&case.model, &learned, &case.packs(64), 1e-3, Some(1.0), &config, &|| true).unwrap_err();
        assert!(error.is_compute());
        assert_eq!(
            error.to_string(),
            "layer model.layers.1.mlp.up_proj: the loss of row 0 is NaN (3 of 3 rows are not finite)"
        );
        let after = values(&learned.adapters).concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!((after, learned.optimizer.updates()), (before, 0));
    }
    Ok(())
}

#[test]
fn a_batch_without_an_answer_is_refused() -> Result<()> {
    let case = Case::open("tiny")?;
    let row = Example { ids: vec![1, 2, 3], trained: vec![true, false, false] };
    let packs = pack(&[&row], 64)?;
    let config = OptimizerConfig::default();
    let error = step(&case.model, &start(&case.adapters), &packs, 1e-3, None, &config, &|| true).unwrap_err();
    assert_eq!(error.to_string(), "no token of this batch is trained on; check that the rows have an answer");
    Ok(())
}
