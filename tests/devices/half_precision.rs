//! Products in a half type: f16, on the CPU through the code that GPUs run. PyTorch's autocast made the losses
//! (`golden/autocast.py`, in bf16, whose gradients are off by 6 to 14 % in these tiny models; f16 has 8 times its
//! precision). On a GPU the steps are those of bf16, as autocast made them.

use crate::common::devices::{first, half};
use crate::common::golden::Constants;
use crate::common::reference::{file, json};
use lorascope::candle_core::quantized::QTensor;
use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::error::Result;
use lorascope::lora::{Adapters, LoraConfig, TargetModules};
use lorascope::model::{Decoder, Recompute, Tokens, Weight};
use lorascope::ops::random::{Random, Stream};
use lorascope::ops::{Kernels, Precision};
use lorascope::text::{Example, Pack, pack};
use lorascope::train::step::{Accumulated, Learned, evaluate, forward_backward, mean, step};
use lorascope::train::{AdamWConfig, Batch, OptimizerConfig, RunConfig, StepMemory};
use std::collections::BTreeMap;

const FAMILIES: [&str; 7] = ["tiny", "llama3", "qwen2", "qwen3", "gpt2", "baichuan2", "tied"];

#[derive(serde::Deserialize)]
struct Golden {
    rows: Vec<Row>,
    optimizer: Option<Constants>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

/// What PyTorch's autocast made of a model.
#[derive(serde::Deserialize)]
struct Autocast {
    losses: Vec<f64>,
    loss_after: f64,
}

fn packs(name: &str) -> Vec<Pack> {
    let golden: Golden = json(&format!("{name}.json"));
    let example = |row: &Row| Example { ids: row.ids.clone(), trained: row.trained.clone() };
    let rows: Vec<Example> = golden.rows.iter().map(example).collect();
    pack(&rows.iter().collect::<Vec<_>>(), 64).unwrap()
}

fn model(name: &str) -> Result<Decoder> {
    Decoder::open(file(name), &first())
}

fn adapters(name: &str) -> Result<Adapters> {
    Adapters::open(file(&format!("{name}-adapter")), &first())
}

/// The loss and the gradients of one pass.
fn gradients(model: &Decoder, adapters: &Adapters, packs: &[Pack]) -> Result<Accumulated> {
    let mut all = Accumulated::default();
    forward_backward(
        model,
        &Learned::new(adapters.clone(), 5),
        &Batch::of(packs.to_vec()),
        &mut all,
        &|| true,
    )?;
    Ok(all)
}

fn random(shape: &[usize], index: u64) -> Tensor {
    let mut random = Random::at(7, Stream::Init, 1, index);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.normal() as f32).collect();
    Tensor::from_vec(values, shape, &first()).unwrap()
}

fn norm(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// Checks f16 against f32 and returns the largest distance of a gradient, relative to its norm.
fn check(name: &str, model: &Decoder, adapters: &Adapters, packs: &[Pack], limit: f64) -> Result<f64> {
    let half = model.with_precision(Precision::F16);
    let (truth, ours) = (gradients(model, adapters, packs)?, gradients(&half, adapters, packs)?);
    let off = (ours.loss() / truth.loss() - 1.0).abs();
    assert!(off < 2e-3 && off > 0.0, "the loss of {name} is off by {off:e}");
    assert_eq!(ours.gradients.len(), truth.gradients.len());
    let mut worst = 0f64;
    for (tensor, truth) in truth.gradients.tensors() {
        let gradient = ours.gradients.get(tensor).unwrap();
        assert_eq!((gradient.dtype(), gradient.dims()), (DType::F32, truth.dims()), "{tensor} of {name}");
        let off = norm(&(gradient - truth)?) / norm(truth);
        assert!(off < limit, "the gradient of {tensor} of {name} is off by {off:e}");
        worst = worst.max(off);
    }
    assert!(worst > 1e-5, "{name} was computed in f32");
    Ok(worst)
}

#[test]
fn device_f16_gradients_are_near_those_of_f32() -> Result<()> {
    for name in FAMILIES {
        let (model, packs) = (model(name)?, packs(name));
        let worst = check(name, &model, &adapters(name)?, &packs, 0.02)?;
        println!("{name}: gradients in f16 are off by {worst:.1e}");
        let half = model.with_precision(Precision::F16);
        let kept = gradients(&half, &adapters(name)?, &packs)?;
        let again = gradients(&half.with_recompute(Recompute::Blocks), &adapters(name)?, &packs)?;
        assert_eq!(kept.sum.to_bits(), again.sum.to_bits());
        for (tensor, gradient) in kept.gradients.tensors() {
            assert_eq!(norm(&(gradient - again.gradients.get(tensor).unwrap())?), 0.0, "{tensor} of {name}");
        }
    }
    Ok(())
}

/// Ten AdamW steps: the losses that each saw and the one after them, within 1 % of PyTorch's.
#[test]
fn device_half_steps_follow_those_of_autocast() -> Result<()> {
    let all: BTreeMap<String, Autocast> = json("autocast.json");
    assert_eq!(all.len(), FAMILIES.len());
    for name in FAMILIES {
        let golden: Golden = json(&format!("{name}.json"));
        let Some(Constants { lr, beta1, beta2, eps }) = golden.optimizer else { panic!("no optimizer") };
        let config = AdamWConfig { beta1, beta2, epsilon: eps, weight_decay: 0.0, lora_plus: 1.0 };
        let (model, packs) = (model(name)?.with_precision(half()), packs(name));
        let mut learned = Learned::new(adapters(name)?, 0);
        let mut losses = Vec::new();
        for _ in 0..10 {
            let config = OptimizerConfig::AdamW(config.clone());
            let (next, numbers) = step(&model, &learned, &packs, lr, None, &config, &|| true)?;
            learned = next;
            losses.push(numbers.loss);
        }
        losses.push(mean(&evaluate(&model, &learned.adapters, &Batch::of(packs), &|| true)?).0);
        let truth = &all[name];
        let truth = truth.losses.iter().chain([&truth.loss_after]);
        for (i, (ours, truth)) in losses.iter().zip(truth).enumerate() {
            let off = (ours / truth - 1.0).abs();
            assert!(off < 0.01, "{name}, step {}: the loss {ours} is off by {off:e} of {truth}", i + 1);
        }
        assert!(losses[10] < 0.9 * losses[0], "{losses:?}");
        for (tensor, value) in learned.adapters.tensors() {
            assert_eq!(value.dtype(), DType::F32, "{tensor} of {name}");
        }
        for moments in learned.optimizer.moments().values() {
            assert_eq!(moments.mean.dtype(), DType::F32);
        }
    }
    Ok(())
}

/// Adapters beside embedding and head, DoRA, dropout, a head that is trained whole.
#[test]
fn device_f16_has_all_kinds_of_adapters() -> Result<()> {
    let named = |names: &[&str]| TargetModules::Named(names.iter().map(|name| name.to_string()).collect());
    let plain = LoraConfig { rank: 3, alpha: 5.0, ..LoraConfig::default() };
    let configs = [
        ("dropout", LoraConfig { dropout: 0.3, ..plain.clone() }),
        ("dora", LoraConfig { dora: true, dropout: 0.2, ..plain.clone() }),
        ("head", LoraConfig { target_modules: named(&["lm_head", "q_proj"]), ..plain.clone() }),
        ("embedding", LoraConfig { target_modules: named(&["embed_tokens", "down_proj"]), ..plain.clone() }),
        ("whole head", LoraConfig { modules_to_save: vec!["lm_head".to_string()], ..plain }),
    ];
    for family in ["tiny", "tied"] {
        let (model, packs) = (model(family)?, packs(family));
        for (name, config) in &configs {
            // B is zero in the beginning, and with it the gradient of A.
            let moved = model
                .new_adapters(config, 3)?
                .map(|name, tensor| Ok((tensor + (random(tensor.dims(), name.len() as u64) * 0.1)?)?))?;
            check(&format!("{name} of {family}"), &model, &moved, &packs, 0.02)?;
        }
    }
    Ok(())
}

#[test]
fn device_f16_trains_all_weights() -> Result<()> {
    for name in ["tiny", "gpt2", "qwen3"] {
        let model = model(name)?;
        check(name, &model, &model.all_trained()?, &packs(name), 0.02)?;
    }
    Ok(())
}

/// A product takes the type of its left factor, whatever the weight is stored in; in f32 it is what it was.
#[test]
fn device_products_have_the_type_of_their_input() -> Result<()> {
    let values = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<f32>>();
    let w = Tensor::from_vec(values(40 * 64, 0.37), (40, 64), &Device::Cpu)?;
    let x = Tensor::from_vec(values(9 * 64, 0.71), (9, 64), &first())?;
    let blocks = |dtype| Weight::quantized(QTensor::quantize(&w, dtype).unwrap());
    use lorascope::candle_core::quantized::GgmlDType::{F16, Q4_0, Q8_0};
    let weights = [
        Weight::dense(w.clone())?,
        Weight::dense(w.to_dtype(DType::F16)?)?,
        Weight::dense(w.to_dtype(DType::BF16)?)?,
        blocks(Q4_0)?,
        blocks(Q8_0)?,
        blocks(F16)?,
    ];
    for weight in weights {
        let weight = weight.to_device(&first())?;
        let truth = x.matmul(&weight.expand()?.t()?)?;
        let y = weight.forward(&x.to_dtype(DType::F16)?)?;
        assert_eq!((y.dtype(), weight.forward(&x)?.dtype()), (DType::F16, DType::F32));
        let off = norm(&(y.to_dtype(DType::F32)? - &truth)?) / norm(&truth);
        assert!(off > 1e-6 && off < 1e-3, "{weight:?} is off by {off:e}");
        let back = truth.matmul(&weight.expand()?)?;
        let dx = weight.backward(&truth.to_dtype(DType::F16)?)?;
        let off = norm(&(dx.to_dtype(DType::F32)? - &back)?) / norm(&back);
        assert!(dx.dtype() == DType::F16 && off < 1e-3, "{weight:?} is off by {off:e}");
    }
    Ok(())
}

/// Blocks of all types, expanded there: what candle's decoders for the processor give.
#[test]
fn device_weights_are_those_of_the_file() -> Result<()> {
    use lorascope::candle_core::quantized::GgmlDType::{
        BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
    };
    let values: Vec<f32> = (0..48 * 512).map(|i| (i as f32 * 0.37).sin() * (1 + i % 5) as f32).collect();
    let w = Tensor::from_vec(values, (48, 512), &Device::Cpu)?;
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        let blocks = QTensor::quantize(&w, dtype)?;
        let truth = blocks.dequantize(&Device::Cpu)?;
        let weight = Weight::quantized(blocks)?.to_device(&first())?;
        let off = |ours: Tensor, truth: &Tensor| -> Result<f64> {
            Ok(norm(&(ours.to_device(&Device::Cpu)? - truth)?) / norm(truth))
        };
        assert!(off(weight.expand()?, &truth)? < 1e-6, "{dtype:?}");
        let rows = truth.index_select(&Tensor::new(&[5u32, 47, 0], &Device::Cpu)?, 0)?;
        assert!(off(weight.rows(&[5, 47, 0])?, &rows)? < 1e-6, "{dtype:?}");
        // Through the half type that a product has: 8 bits of bf16, 11 of f16.
        let x = Tensor::eye(512, DType::F32, &first())?.to_dtype(half().dtype())?;
        let product = weight.forward(&x)?.to_dtype(DType::F32)?.t()?.contiguous()?;
        assert!(off(product, &truth)? < 5e-3, "{dtype:?}");
    }
    Ok(())
}

/// Logits of a half type are handed out in f32, and a cache gives what the whole text gives.
#[test]
fn device_f16_generates() -> Result<()> {
    for name in ["tiny", "gpt2", "qwen3"] {
        let (model, adapters) = (model(name)?, adapters(name)?);
        let half = model.with_precision(Precision::F16);
        let ids: Vec<u32> = (0..9).map(|i| i * 5 % 53).collect();
        let tokens = Tokens { ids: &ids, borders: &[0, 9] };
        let last = |model: &Decoder| -> Result<Tensor> {
            let hidden = model.hidden(tokens, &adapters, &|| true)?.narrow(0, 8, 1)?.contiguous()?;
            model.logits(&hidden, &adapters)
        };
        let mut cache = Default::default();
        half.extend(&ids[..5], &mut cache, &adapters)?;
        let step = half.logits(&half.extend(&ids[5..], &mut cache, &adapters)?, &adapters)?;
        let (truth, whole) = (last(&model)?, last(&half)?);
        for (what, logits) in [("cache", step), ("whole", whole)] {
            let off = norm(&(&logits - &truth)?) / norm(&truth);
            assert!(off > 1e-6 && off < 5e-3, "{what} of {name} is off by {off:e}");
        }
    }
    Ok(())
}

/// A block of `tiny` keeps of a token x and middle (24 each) and 4 sums of attention in f32, and q, the output of
/// attention (24 each), k, v (12 each), gate and up (40 each) in the type of the products.
#[test]
fn device_f16_keeps_half_of_what_products_read() -> Result<()> {
    let (model, adapters) = (model("tiny")?, adapters("tiny")?);
    let kept =
        |model: &Decoder| StepMemory::of(model, &adapters, &OptimizerConfig::default(), 100).activations;
    assert_eq!(kept(&model), 2 * 100 * 4 * (52 + 152));
    let half = model.with_precision(Precision::F16);
    assert_eq!(kept(&half), 2 * 100 * (4 * 52 + 2 * 152));
    assert_eq!(kept(&half.with_recompute(Recompute::Blocks)), 100 * (2 * 4 * 24 + 4 * 52 + 2 * 152));
    Ok(())
}

#[test]
fn precision_is_said_in_files_where_it_is_not_the_usual_one() -> Result<()> {
    let text = |config: &RunConfig| serde_json::to_string(config).unwrap();
    assert!(!text(&RunConfig::default()).contains("precision"));
    let config = RunConfig::default().precision(Precision::Bf16);
    assert!(text(&config).contains(r#""precision":"bf16""#));
    assert_eq!(serde_json::from_str::<RunConfig>(&text(&config)).unwrap().precision, Precision::Bf16);
    assert_eq!(toml::from_str::<RunConfig>("precision = \"f16\"").unwrap().precision, Precision::F16);
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        assert_eq!(precision.to_string().parse::<Precision>()?, precision);
    }
    Ok(())
}

/// candle does not multiply bf16 on the CPU; f32 keeps the kernels that a decoder has.
#[test]
fn precision_bf16_on_the_processor_is_refused() -> Result<()> {
    let model = Decoder::open(file("tiny"), &Device::Cpu)?;
    let adapters = || Adapters::open(file("tiny-adapter"), &Device::Cpu);
    let error = gradients(&model.with_precision(Precision::Bf16), &adapters()?, &packs("tiny"))
        .map(|_| ())
        .unwrap_err();
    assert!(error.is_input());
    assert_eq!(
        error.to_string(),
        "precision bf16 on the CPU, where it cannot be multiplied; take f16 or f32 there, or train on a GPU"
    );
    for kernels in [Kernels::Fused, Kernels::Candle] {
        let before = gradients(&model.with_kernels(kernels), &adapters()?, &packs("tiny"))?;
        let same = model.with_kernels(kernels).with_precision(Precision::F32);
        let after = gradients(&same, &adapters()?, &packs("tiny"))?;
        assert_eq!(before.sum.to_bits(), after.sum.to_bits());
    }
    Ok(())
}
