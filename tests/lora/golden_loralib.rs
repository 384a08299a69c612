//! Our layers against those of Microsoft's loralib: `golden/loralib_layers.py` made the numbers, in f64.

use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapter, Adapters, Gradients, LoraConfig};
use lorascope::model::layers::linear::Wanted;
use lorascope::model::layers::{Embedding, Linear};
use lorascope::model::{Decoder, ExportOptions, ExportType, Tokens, Weight};
use lorascope::text::{Example, pack};
use lorascope::train::step::Learned;
use lorascope::train::step::step;
use lorascope::train::{AdamWConfig, OptimizerConfig};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The tensors and constants of one case.
struct Golden {
    case: &'static str,
    all: HashMap<String, Tensor>,
    constants: Value,
}

impl Golden {
    fn of(case: &'static str) -> Self {
        let all = candle_core::safetensors::load(file("loralib.safetensors"), &Device::Cpu).unwrap();
        Self { case, all, constants: json(file("loralib.json"))[case].clone() }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.all[&format!("{}.{name}", self.case)]
    }

    fn number(&self, name: &str) -> f64 {
        self.constants[name].as_f64().unwrap()
    }

    fn enabled(&self) -> Vec<bool> {
        self.constants["enable_lora"].as_array().unwrap().iter().map(|on| on.as_bool().unwrap()).collect()
    }

    /// An output: each number is within 1e-5 of the largest.
    fn output(&self, name: &str, ours: &Tensor) {
        let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        let off = largest(&self.difference(name, ours)) / largest(self.get(name));
        assert!(off < 1e-5, "{}.{name} is off by {off:e}", self.case);
    }

    /// A gradient: within 1e-4 of its norm.
    fn gradient(&self, name: &str, ours: &Tensor) {
        let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        let off = norm(&self.difference(name, ours)) / norm(self.get(name));
        assert!(off < 1e-4, "{}.{name} is off by {off:e}", self.case);
    }

    fn difference(&self, name: &str, ours: &Tensor) -> Tensor {
        assert_eq!(ours.dims(), self.get(name).dims(), "{}.{name}", self.case);
        (ours.to_dtype(DType::F64).unwrap() - self.get(name)).unwrap()
    }
}

fn beside(path: &str, pair: Adapter) -> Adapters {
    Adapters::from_pairs(LoraConfig::default(), BTreeMap::from([(path.to_string(), pair)]))
}

#[test]
fn golden_loralib_embedding() -> Result<()> {
    for case in ["embedding", "padded", "short", "padded_short"] {
        let g = Golden::of(case);
        let ids: Vec<u32> = g.get("x").to_vec1::<i64>()?.iter().map(|id| *id as u32).collect();
        let layer = Embedding::new("e", Weight::dense(g.get("weight").clone())?)
            .with_padding(g.constants["padding"].as_u64().map(|id| id as u32))
            .with_max_norm(g.constants["max_norm"].as_f64());
        let pair = Adapter::embedding(g.get("a").clone(), g.get("b").clone(), g.number("scale"))?;
        let adapters = beside("e", pair);
        g.output("y", &layer.forward(&ids, &adapters)?);
        let mut gradients = Gradients::new();
        layer.backward(&ids, g.get("dy"), &adapters, &mut gradients)?;
        g.gradient("da", gradients.get("e.lora_embedding_A").unwrap());
        g.gradient("db", gradients.get("e.lora_embedding_B").unwrap());

        // Nothing changed in place; what PyTorch changed is what an update starts from.
        let settled = layer.settled(ids.iter().copied(), &adapters)?;
        g.output("settled.a", settled.get("e").unwrap().a());
        assert_eq!(layer.weight().expand()?.to_vec2::<f32>()?, g.get("weight").to_vec2::<f32>()?);

        // Merged, a layer gives what it gave before: with a max_norm loralib's would not, as PyTorch
        // shortens the sum then.
        let merged = layer.merged(&adapters)?;
        g.output("y", &merged.forward(&ids, &Adapters::default())?);
        if g.constants["max_norm"].is_null() {
            g.output("merged", &merged.weight().expand()?);
        }
    }
    Ok(())
}

#[test]
fn golden_loralib_embedding_trained_whole() -> Result<()> {
    let g = Golden::of("short");
    let ids: Vec<u32> = g.get("x").to_vec1::<i64>()?.iter().map(|id| *id as u32).collect();
    let layer = Embedding::new("e", Weight::dense(g.get("weight").zeros_like()?)?)
        .with_max_norm(g.constants["max_norm"].as_f64());
    let whole = BTreeMap::from([("e.weight".to_string(), g.get("weight").clone())]);
    let adapters = Adapters::default().with_whole(whole);
    g.output("settled.weight", layer.settled(ids, &adapters)?.whole("e.weight").unwrap());
    Ok(())
}

#[test]
fn golden_loralib_linear() -> Result<()> {
    for case in ["linear", "merged_linear", "merged_linear_all", "merged_linear_turned"] {
        let g = Golden::of(case);
        let (a, b, scale) = (g.get("a").clone(), g.get("b").clone(), g.number("scale"));
        let pair = match case {
            "linear" => Adapter::new(a.clone(), b, scale)?,
            _ => Adapter::merged(a.clone(), b, &g.enabled(), scale)?,
        };
        let turned = g.constants["fan_in_fan_out"].as_bool() == Some(true);
        let upright = |w: &Tensor| if turned { w.t()?.contiguous() } else { Ok(w.clone()) };
        let bias = g.all.get(&format!("{case}.bias")).cloned();
        let layer = Linear::new("p", Weight::dense(upright(g.get("weight"))?)?, bias);
        let adapters = beside("p", pair);
        let x = g.get("x");
        g.output("y", &layer.forward(x, &adapters)?);
        let mut gradients = Gradients::new();
        let dx = layer.backward(x, g.get("dy"), &adapters, &mut gradients, Wanted::Input)?;
        g.gradient("dx", &dx.unwrap());
        g.gradient("da", gradients.get("p.lora_A").unwrap());
        let db = gradients.get("p.lora_B").unwrap();
        match case {
            "linear" => g.gradient("db", db),
            // B in full has a block for each enabled part, and no gradient beside them.
            _ => {
                let full = Adapter::merged(a, g.get("db").to_dtype(DType::F32)?, &g.enabled(), 1.0)?;
                let off = (db - full.b())?.abs()?.max_all()?.to_scalar::<f32>()?;
                let largest = full.b().abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(off < 1e-5 * largest, "{case}.db is off by {off:e}");
            }
        }
        let merged = layer.merged(&adapters)?;
        g.output("merged", &upright(&merged.weight().expand()?)?);
        g.output("y", &merged.forward(x, &Adapters::default())?);
    }
    Ok(())
}

/// loralib: "The length of enable_lora must divide out_features".
#[test]
fn golden_loralib_refuses_parts_that_are_not_equal() -> Result<()> {
    assert!(Golden::of("indivisible").constants["refused"].as_str().unwrap().contains("must divide"));
    let g = Golden::of("merged_linear");
    let b = Tensor::ones((9, 2), DType::F32, &Device::Cpu)?;
    assert_eq!(
        Adapter::merged(g.get("a").clone(), b, &g.enabled(), 1.0).unwrap_err().to_string(),
        "A has shape [4, 5] and B has shape [9, 2] for 2 enabled parts; \
         A is [n·r, in] and B [n·out / parts, r]"
    );
    let config = LoraConfig {
        rank: 2,
        enable_lora: BTreeMap::from([("p".to_string(), g.enabled())]),
        target_modules: lorascope::lora::TargetModules::Named(vec!["p".to_string()]),
        ..Default::default()
    };
    let target = |out| [lorascope::lora::Target::linear("p", [out, 5])];
    Adapters::new(&config, &target(12), 1, &Device::Cpu)?;
    let error = Adapters::new(&config, &target(13), 1, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("13") && error.contains("3"), "{error}");
    Ok(())
}

/// `tiny` with a `max_norm` in its config.json.
fn short(folder: &Path, max_norm: f64) -> Result<Decoder> {
    std::fs::copy(file("tiny/model.safetensors"), folder.join("model.safetensors")).unwrap();
    let mut config = json(file("tiny/config.json"));
    config["max_norm"] = max_norm.into();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    Decoder::open(folder, &Device::Cpu)
}

#[test]
fn golden_loralib_max_norm_in_a_model() -> Result<()> {
    let g = Golden::of("model");
    let folder = tempfile::tempdir().unwrap();
    let model = short(folder.path(), g.number("max_norm"))?;
    let path = "model.embed_tokens";
    let pair = Adapter::embedding(g.get("a").clone(), g.get("b").clone(), g.number("scale"))?;
    let adapters = beside(path, pair);
    let rows: Vec<Example> = json(file("tiny.json"))["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| Example {
            ids: serde_json::from_value(row["ids"].clone()).unwrap(),
            trained: serde_json::from_value(row["trained"].clone()).unwrap(),
        })
        .collect();

    // Merged, exported and opened again: the same logits, and no max_norm that would shorten the sum.
    let merged = model.merged(&adapters)?;
    let exported = folder.path().join("exported");
    let options = ExportOptions { dtype: ExportType::F32, ..Default::default() };
    merged.export(&exported, &options)?;
    let again = Decoder::open(&exported, &Device::Cpu)?;
    assert_eq!((model.config().max_norm.is_some(), again.config().max_norm), (true, None));
    for (i, row) in rows.iter().enumerate() {
        let tokens = Tokens { ids: &row.ids, borders: &[0, row.ids.len()] };
        for (model, adapters) in [(&model, &adapters), (&again, &Adapters::default())] {
            let hidden = model.hidden(tokens, adapters, &|| true)?;
            g.output(&format!("logits.{i}"), &model.logits(&hidden, adapters)?);
        }
    }

    let packs = pack(&rows.iter().collect::<Vec<_>>(), 64).unwrap();
    let [beta1, beta2, epsilon] = ["beta1", "beta2", "eps"].map(|name| g.number(name));
    let config =
        OptimizerConfig::AdamW(AdamWConfig { beta1, beta2, epsilon, weight_decay: 0.0, lora_plus: 1.0 });
    let mut learned = Learned::new(adapters, 0);
    for (i, loss) in g.constants["losses"].as_array().unwrap().iter().enumerate() {
        let (next, numbers) = step(&model, &learned, &packs, g.number("lr"), None, &config, &|| true)?;
        learned = next;
        let off = (numbers.loss / loss.as_f64().unwrap() - 1.0).abs();
        assert!(off < 1e-5, "step {}: the loss is off by {off:e}", i + 1);
    }
    let pair = learned.adapters.get(path).unwrap();
    let seen = Tensor::new(&packs[0].ids[..], &Device::Cpu)?;
    let (ours, theirs) = (pair.a().index_select(&seen, 1)?, g.get("after.a").index_select(&seen, 1)?);
    let off = (ours.to_dtype(DType::F64)? - theirs)?.abs()?.max_all()?.to_scalar::<f64>()?;
    assert!(off < 1e-4, "A is off by {off:e}");
    g.gradient("after.b", pair.b());

    assert_eq!(
        short(folder.path(), -1.0).unwrap_err().to_string().rsplit(": ").next().unwrap(),
        "it must be positive"
    );
    Ok(())
}
