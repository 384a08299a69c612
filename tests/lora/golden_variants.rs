//! Each kind of adapter against PyTorch and PEFT: DoRA, patterns, blocks, expressions, embeddings,
//! heads, modules that are trained whole, biases; all weights under SGD; LoRA+; combinations; PiSSA.
//! `golden/variants.py` made the numbers, in f64.

use crate::common::reference::{file, json};
use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Combine, DropoutPass, Gradients, Init, LoraConfig};
use lorascope::model::{Counted, Decoder, Tokens};
use lorascope::ops::Kernels;
use lorascope::text::{Example, Pack, pack};
use lorascope::train::step::Learned;
use lorascope::train::step::step;
use lorascope::train::{AdamWConfig, OptimizerConfig, SgdConfig};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

#[derive(serde::Deserialize)]
struct Golden {
    base: String,
    losses: Vec<f64>,
    #[serde(default)]
    trained: usize,
    #[serde(default)]
    ratio: f64,
    padding: Option<u32>,
}

#[derive(serde::Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

/// The learning rate of `variants.py`.
const LR: f64 = 2e-3;

static GOLDEN: LazyLock<BTreeMap<String, Golden>> = LazyLock::new(|| json("variants.json"));
static TRUTH: LazyLock<HashMap<String, Tensor>> =
    LazyLock::new(|| candle_core::safetensors::load(file("variants.safetensors"), &Device::Cpu).unwrap());

fn model(base: &str, kernels: Kernels) -> Decoder {
    Decoder::open(file(base), &Device::Cpu).unwrap().with_kernels(kernels)
}

/// The base of a variant; where that has a padding token, its config says so.
fn base_of(name: &str, kernels: Kernels) -> Decoder {
    let Golden { base, padding, .. } = &GOLDEN[name];
    let Some(padding) = padding else { return model(base, kernels) };
    let folder = tempfile::tempdir().unwrap();
    let from = std::path::PathBuf::from(file(base));
    std::fs::copy(from.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config: serde_json::Value = json(&format!("{base}/config.json"));
    config["pad_token_id"] = (*padding).into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Decoder::open(folder.path(), &Device::Cpu).unwrap().with_kernels(kernels)
}

fn packed(base: &str) -> Vec<Pack> {
    let rows: Rows = json(&format!("{base}.json"));
    let rows: Vec<Example> =
        rows.rows.into_iter().map(|row| Example { ids: row.ids, trained: row.trained }).collect();
    pack(&rows.iter().collect::<Vec<_>>(), 64).unwrap()
}

fn norm(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

/// |ours − truth| / |truth|
#[track_caller]
fn error(ours: &Tensor, truth: &Tensor) -> f64 {
    assert_eq!(ours.dims(), truth.dims());
    let truth = truth.to_dtype(DType::F64).unwrap();
    norm(&(ours.to_dtype(DType::F64).unwrap() - &truth).unwrap()) / norm(&truth)
}

/// Logits of each row by itself.
fn logits(model: &Decoder, adapters: &Adapters, base: &str) -> Vec<Tensor> {
    let rows: Rows = json(&format!("{base}.json"));
    let one = |row: &Row| {
        let tokens = Tokens { ids: &row.ids, borders: &[0, row.ids.len()] };
        model.logits(&model.hidden(tokens, adapters, &|| true)?, adapters)
    };
    rows.rows.iter().map(|row| one(row).unwrap()).collect()
}

/// The gradients of a whole batch.
fn gradients(model: &Decoder, adapters: &Adapters, packs: &[Pack]) -> Result<Gradients> {
    let scale = 1.0 / packs.iter().map(Pack::trained_tokens).sum::<usize>() as f64;
    let mut gradients = Gradients::new();
    for pack in packs {
        let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
        let (hidden, saved) = model.forward(tokens, adapters, &|| true)?;
        let (rows, targets): (Vec<u32>, Vec<u32>) =
            (0..).zip(&pack.targets).filter_map(|(place, target)| Some((place, (*target)?))).unzip();
        let (_, dhidden) = model.loss_backward(
            &hidden,
            Counted { places: &rows, targets: &targets },
            scale,
            adapters,
            &mut gradients,
            &|| true,
        )?;
        model.backward(saved, &dhidden, &pack.borders, adapters, &mut gradients, &|| true)?;
    }
    Ok(gradients)
}

fn check_gradients(name: &str, model: &Decoder, adapters: &Adapters, packs: &[Pack]) -> Result<()> {
    let gradients = gradients(model, adapters, packs)?;
    let prefix = format!("{name}.grad.");
    let expected: BTreeMap<&str, &Tensor> =
        TRUTH.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, value))).collect();
    let ours: Vec<&str> = gradients.tensors().map(|(tensor, _)| tensor).collect();
    assert_eq!(ours, expected.keys().copied().collect::<Vec<_>>(), "{name}");
    for (tensor, truth) in expected {
        let off = error(gradients.get(tensor).unwrap(), truth);
        assert!(off < 5e-5, "{name}: the gradient of {tensor} is off by {off:e}");
    }
    assert_eq!(adapters.parameters(), GOLDEN[name].trained, "{name}");
    Ok(())
}

fn check_losses(
    name: &str,
    model: &Decoder,
    adapters: Adapters,
    packs: &[Pack],
    config: &OptimizerConfig,
) -> Result<()> {
    let mut learned = Learned::new(adapters, 0);
    for (i, loss) in GOLDEN[name].losses.iter().enumerate() {
        let (next, numbers) = step(model, &learned, packs, LR, None, config, &|| true)?;
        learned = next;
        let off = (numbers.loss / loss - 1.0).abs();
        assert!(off < 1e-5, "{name}, step {}: the loss is off by {off:e}", i + 1);
    }
    Ok(())
}

const VARIANTS: [&str; 13] = [
    "dora",
    "dora_biased",
    "patterns",
    "blocks",
    "expression",
    "embedding",
    "tied_embedding",
    "head",
    "saved_head",
    "biases",
    "own_biases",
    "padded_embedding",
    "padded_saved",
];

#[test]
fn golden_logits_gradients_and_ten_steps() -> Result<()> {
    let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    for name in VARIANTS {
        let base = &GOLDEN[name].base;
        let adapters = Adapters::open(file(&format!("variants/{name}")), &Device::Cpu)?;
        assert!(adapters.unknown_fields().is_empty(), "{:?}", adapters.unknown_fields());
        let packs = packed(base);
        for kernels in [Kernels::Candle, Kernels::Fused] {
            let model = base_of(name, kernels);
            model.check(&adapters)?;
            let merged = model.merged(&adapters)?;
            let none = Adapters::default();
            let pairs = logits(&model, &adapters, base).into_iter().zip(logits(&merged, &none, base));
            for (i, (ours, merged)) in pairs.enumerate() {
                let truth = &TRUTH[&format!("{name}.logits.{i}")];
                let off = largest(&(&ours - truth)?) / largest(truth);
                assert!(off < 1e-5, "{name}: the logits of row {i} are off by {off:e}");
                let off = largest(&(&merged - &ours)?) / largest(truth);
                assert!(off < 1e-5, "{name}: merged, the logits of row {i} are off by {off:e}");
            }
            check_gradients(name, &model, &adapters, &packs)?;
            check_losses(name, &model, adapters.clone(), &packs, &OptimizerConfig::default())?;
        }
    }
    Ok(())
}

#[test]
fn saved_and_read_they_are_what_they_were() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for name in VARIANTS {
        let read = Adapters::open(file(&format!("variants/{name}")), &Device::Cpu)?;
        let path = read.save(folder.path().join(name), "base")?;
        let again = Adapters::open(&path, &Device::Cpu)?;
        let all = |adapters: &Adapters| -> Vec<(String, Vec<f32>)> {
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
            adapters.tensors().map(|(name, tensor)| (name, values(tensor))).collect()
        };
        assert_eq!(all(&read), all(&again), "{name}");
        for (path, pair) in read.iter() {
            let other = again.get(path).unwrap();
            assert_eq!((pair.scale(), pair.rank()), (other.scale(), other.rank()), "{name} {path}");
        }
        // The same input, the same bytes.
        let twice = read.save(folder.path().join(format!("{name}-2")), "base")?;
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            assert_eq!(std::fs::read(path.join(file)).unwrap(), std::fs::read(twice.join(file)).unwrap());
        }
    }
    Ok(())
}

/// What `golden/check_round_trip.py` loads with the real PEFT: adapters as they are written here, and
/// the logits that they give here. Also those that PEFT does not make itself: PiSSA whose start is
/// part of the adapter, parts of a fused layer.
#[test]
fn adapters_are_left_for_peft() -> Result<()> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("for-peft");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    let leave = |name: &str, base: &str, model: &Decoder, adapters: &Adapters| -> Result<()> {
        let path = adapters.save(folder.join(name), base)?;
        let rows = logits(model, adapters, base);
        let rows: HashMap<String, Tensor> =
            rows.into_iter().enumerate().map(|(i, row)| (format!("{i}"), row)).collect();
        Ok(candle_core::safetensors::save(&rows, path.join("logits.safetensors"))?)
    };
    for name in VARIANTS {
        let base = &GOLDEN[name].base;
        let adapters = Adapters::open(file(&format!("variants/{name}")), &Device::Cpu)?;
        leave(name, base, &model(base, Kernels::Fused), &adapters)?;
    }
    let move_on = |name: &str, x: &Tensor| {
        let values = (0..x.elem_count()).map(|i| ((i + name.len()) as f32 * 0.37).sin() * 0.1);
        let noise = Tensor::from_vec(values.collect(), x.dims(), &Device::Cpu)?;
        // The zeros of a merged layer's B stay what they are.
        let merged = name.ends_with("c_attn.lora_B");
        Ok(if merged { x.clone() } else { (x + noise)? })
    };
    let tying: BTreeMap<String, Golden> = json("tying.json");
    for (name, Golden { base, .. }) in &tying {
        let adapters = Adapters::open(file(&format!("tying/{name}")), &Device::Cpu)?;
        leave(&format!("whole_{name}"), base, &model(base, Kernels::Fused), &adapters)?;
    }
    // Begun here, and trained a little.
    for (name, modules) in [("own_head", "lm_head"), ("own_embedding", "embed_tokens")] {
        for tying in [false, true] {
            let config = LoraConfig {
                rank: 2,
                alpha: 3.0,
                modules_to_save: vec![modules.to_string()],
                ensure_weight_tying: tying,
                ..Default::default()
            };
            let tied = model("tied", Kernels::Fused);
            let begun = tied.new_adapters(&config.targets(["v_proj"]), 4)?.map(move_on)?;
            leave(&format!("{name}_{tying}"), "tied", &tied, &begun)?;
        }
    }
    let tiny = model("tiny", Kernels::Fused);
    // Warm starts: files of others, with ranks and scales of their own.
    for from in ["foreign/kohya.safetensors", "foreign/mlx", "foreign/mlx-alpha", "foreign/mlx-dora"] {
        let warm = Adapters::open_for(file(from), &tiny.targets(), &Device::Cpu)?;
        leave(&format!("warm_{}", from.replace(['/', '.'], "_")), "tiny", &tiny, &warm.map(move_on)?)?;
    }
    let pissa = LoraConfig { rank: 4, alpha: 6.0, init: Init::Pissa, ..Default::default() };
    leave(
        "pissa",
        "tiny",
        &tiny,
        &tiny.new_adapters(&pissa.targets(["q_proj", "down_proj"]), 3)?.map(move_on)?,
    )?;
    let gpt2 = model("gpt2", Kernels::Fused);
    let all = LoraConfig { rank: 2, alpha: 3.0, ..Default::default() }.targets(["c_attn", "c_fc", "wte"]);
    leave("gpt2", "gpt2", &gpt2, &gpt2.new_adapters(&all, 3)?.map(move_on)?)?;
    let width = gpt2.config().width;
    let mut pairs = BTreeMap::new();
    for (path, pair) in gpt2.new_adapters(&all.targets(["c_attn"]), 4)?.iter() {
        let a = Tensor::cat(&[pair.a(), &(pair.a() * 0.5)?], 0)?;
        let b: Vec<f32> = (0..2 * width * 2).map(|i| (i as f32 * 0.61).cos() * 0.2).collect();
        let b = Tensor::from_vec(b, (2 * width, 2), &Device::Cpu)?;
        let parts = lorascope::lora::Adapter::merged(a, b, &[true, false, true], 1.5)?;
        pairs.insert(path.to_string(), parts);
    }
    let config = LoraConfig { rank: 2, alpha: 3.0, fan_in_fan_out: true, ..Default::default() };
    leave("parts", "gpt2", &gpt2, &Adapters::from_pairs(config.targets(["c_attn"]), pairs))
}

#[test]
fn golden_all_weights_with_momentum() -> Result<()> {
    let sgd = OptimizerConfig::Sgd(SgdConfig { momentum: 0.9, weight_decay: 0.0 });
    for (name, base) in [("full_tiny", "tiny"), ("full_tied", "tied"), ("full_baichuan2", "baichuan2")] {
        for kernels in [Kernels::Candle, Kernels::Fused] {
            let (model, packs) = (model(base, kernels), packed(base));
            let all = model.all_trained()?;
            check_gradients(name, &model, &all, &packs)?;
            check_losses(name, &model, all, &packs, &sgd)?;
        }
    }
    Ok(())
}

#[test]
fn golden_lora_plus() -> Result<()> {
    let golden = &GOLDEN["lora_plus"];
    let adapters = Adapters::open(file("tiny-adapter"), &Device::Cpu)?;
    let config = OptimizerConfig::AdamW(AdamWConfig { lora_plus: golden.ratio, ..Default::default() });
    let packs = packed(&golden.base);
    check_losses("lora_plus", &model(&golden.base, Kernels::Fused), adapters, &packs, &config)
}

#[test]
fn golden_combinations() -> Result<()> {
    let first = Adapters::open(file("tiny-adapter"), &Device::Cpu)?;
    let second = Adapters::open(file("variants/second"), &Device::Cpu)?;
    for (name, how) in [
        ("linear", Combine::Linear),
        ("cat", Combine::Cat),
        ("svd", Combine::Rank(2)),
        ("ties", Combine::Ties(0.4)),
    ] {
        let combined = Adapters::combine(&[(&first, 0.7), (&second, 0.4)], how)?;
        assert_eq!(combined.len(), 14);
        let prefix = format!("combine.{name}.");
        let truth: Vec<_> = TRUTH.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?, v))).collect();
        assert_eq!(truth.len(), 7);
        for (path, truth) in truth {
            let off = error(&combined.get(path).unwrap().delta()?, truth);
            assert!(off < 1e-6, "{name} of {path} is off by {off:e}");
        }
    }
    // All of the energy is all of it; half of it takes fewer directions.
    let all = Adapters::combine(&[(&first, 0.7), (&second, 0.4)], Combine::Energy(1.0))?;
    let cat = Adapters::combine(&[(&first, 0.7), (&second, 0.4)], Combine::Cat)?;
    let half = Adapters::combine(&[(&first, 0.7), (&second, 0.4)], Combine::Energy(0.5))?;
    for (path, pair) in all.iter() {
        assert!(error(&pair.delta()?, &cat.get(path).unwrap().delta()?) < 1e-6);
        assert!(half.get(path).unwrap().rank() < pair.rank());
    }
    Ok(())
}

#[test]
fn golden_pissa() -> Result<()> {
    let model = model("tiny", Kernels::Fused);
    let config = LoraConfig { rank: 4, alpha: 6.0, init: Init::Pissa, ..Default::default() }
        .targets(["q_proj", "down_proj"]);
    let adapters = model.new_adapters(&config, 3)?;
    for (path, pair) in adapters.iter() {
        let start = lorascope::lora::Adapter::new(pair.a().clone(), pair.b().clone(), pair.scale())?;
        let off = error(&start.delta()?, &TRUTH[&format!("pissa.{path}")]);
        assert!(off < 1e-6, "{path}: {off:e}");
    }
    // The model is what it was, and the first gradients are those of A and B beside the rest of W.
    let none = Adapters::default();
    for (with, without) in logits(&model, &adapters, "tiny").iter().zip(logits(&model, &none, "tiny")) {
        assert!(error(with, &without) < 1e-6);
    }
    let gradients = gradients(&model, &adapters, &packed("tiny"))?;
    assert!(gradients.tensors().all(|(_, g)| norm(g) > 1e-6));
    // In PEFT's files it is an adapter of twice the rank, which needs no changed weights.
    let folder = tempfile::tempdir().unwrap();
    let moved = adapters.map(|_, x| Ok((x * 1.1)?))?;
    let read = Adapters::open(moved.save(folder.path().join("pissa"), "tiny")?, &Device::Cpu)?;
    for (path, pair) in read.iter() {
        assert_eq!(pair.rank(), 8);
        assert!(error(&pair.delta()?, &moved.get(path).unwrap().delta()?) < 1e-6);
    }
    Ok(())
}

#[test]
fn every_beginning_leaves_the_model_as_it_is() -> Result<()> {
    let model = model("tiny", Kernels::Fused);
    let none = Adapters::default();
    let before = logits(&model, &none, "tiny");
    let names = ["q_proj", "k_proj", "down_proj"];
    let config = |init| LoraConfig { rank: 4, init, ..Default::default() }.targets(names);
    let mut configs = vec![LoraConfig { dora: true, ..config(Init::Kaiming) }];
    configs.extend([Init::Kaiming, Init::Gaussian, Init::Orthogonal, Init::Pissa].map(config));
    configs.push(LoraConfig { rank: 4, ..Default::default() }.targets(["embed_tokens", "lm_head"]));
    for config in configs {
        let adapters = model.new_adapters(&config, 5)?;
        for (ours, before) in logits(&model, &adapters, "tiny").iter().zip(&before) {
            assert!(error(ours, before) < 2e-6, "{:?}", config.init);
        }
        let values = |a: &Adapters| -> Vec<Vec<f32>> {
            a.tensors().map(|(_, t)| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
        };
        assert_eq!(values(&adapters), values(&model.new_adapters(&config, 5)?));
        assert!(config.init == Init::Pissa || values(&adapters) != values(&model.new_adapters(&config, 6)?));
    }
    let odd = LoraConfig { rank: 3, ..config(Init::Orthogonal) };
    let error = model.new_adapters(&odd, 5).unwrap_err().to_string();
    assert!(error.contains("needs an even rank, not 3"), "{error}");
    Ok(())
}

/// Dropout in training only, drawn from seed, step, pack and layer; its backward pass is that of the
/// forward pass that was drawn.
#[test]
fn dropout_s_gradient_is_that_of_what_was_dropped() -> Result<()> {
    let model = model("tiny", Kernels::Fused);
    let fixed = Adapters::open(file("tiny-adapter"), &Device::Cpu)?;
    let config = LoraConfig { dropout: 0.3, ..fixed.config().clone() };
    let pairs = fixed.iter().map(|(path, pair)| (path.to_string(), pair.clone())).collect();
    let adapters = Adapters::from_pairs(config, pairs);
    let packs = packed("tiny");
    let pass = |step| DropoutPass { seed: 1, step, pack: 0 };
    let loss = |adapters: &Adapters| -> f64 {
        let tokens = Tokens { ids: &packs[0].ids, borders: &packs[0].borders };
        let hidden = model.hidden(tokens, adapters, &|| true).unwrap();
        let (rows, targets): (Vec<u32>, Vec<u32>) =
            (0..).zip(&packs[0].targets).filter_map(|(i, t)| Some((i, (*t)?))).unzip();
        let losses = model.loss(&hidden, Counted { places: &rows, targets: &targets }, adapters).unwrap();
        losses.into_iter().map(f64::from).sum::<f64>() / targets.len() as f64
    };
    assert_eq!(loss(&adapters), loss(&fixed));
    let (one, two) = (adapters.training(pass(1)), adapters.training(pass(2)));
    assert_eq!(loss(&one), loss(&adapters.training(pass(1))));
    assert!((loss(&one) - loss(&two)).abs() > 1e-4);
    let gradients = gradients(&model, &one, &packs)?;
    // Along the gradient itself the loss rises by its square, to second order.
    let square = gradients.norm()?.powi(2);
    let h = 1e-3 / square.sqrt();
    let moved = |sign: f64| {
        let there = one.map(|name, x| Ok((x + (gradients.get(name).unwrap() * (sign * h))?)?)).unwrap();
        loss(&there)
    };
    let slope = (moved(1.0) - moved(-1.0)) / (2.0 * h);
    assert!((slope / square - 1.0).abs() < 5e-3, "{slope} for {square}");
    Ok(())
}
