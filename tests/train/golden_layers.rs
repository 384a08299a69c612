//! Each layer, forward and backward, against PyTorch: `golden/layers.py` made the numbers, in f64.

use candle_core::{DType, Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapter, Adapters, Gradients, LoraConfig};
use lorascope::model::Weight;
use lorascope::model::layers::linear::Wanted;
use lorascope::model::layers::{
    Gelu, LayerNorm, LearnedPositions, Linear, RmsNorm, Rotary, attention, fused, loss, swiglu,
};
use lorascope::ops::Kernels;
use std::collections::{BTreeMap, HashMap};

const BOTH: [Kernels; 2] = [Kernels::Candle, Kernels::Fused];

/// The tensors of one layer.
struct Golden {
    layer: &'static str,
    all: HashMap<String, Tensor>,
}

impl Golden {
    fn of(layer: &'static str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/layers.safetensors");
        Self { layer, all: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.all[&format!("{}.{name}", self.layer)]
    }

    fn number(&self, name: &str) -> f64 {
        self.get(name).to_vec1::<f64>().unwrap()[0]
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        self.get(name).to_vec1().unwrap()
    }

    /// As the file has it, `[T, heads, W]`, to `[heads, T, W]`.
    fn heads(&self, name: &str) -> Tensor {
        self.get(name).transpose(0, 1).unwrap().contiguous().unwrap()
    }

    /// Ours is within 1e-6 of the tensor's norm.
    fn assert_close(&self, name: &str, ours: &Tensor, truth: &Tensor) {
        assert_eq!(ours.dims(), truth.dims(), "{}.{name}", self.layer);
        let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        let ours = ours.to_dtype(DType::F64).unwrap();
        let error = norm(&(ours - truth).unwrap()) / norm(truth);
        assert!(error < 1e-6, "{}.{name} is off by {error:e}", self.layer);
    }

    fn check(&self, name: &str, ours: &Tensor) {
        self.assert_close(name, ours, self.get(name));
    }

    fn check_heads(&self, name: &str, ours: &Tensor) {
        self.assert_close(name, ours, &self.heads(name));
    }
}

#[test]
fn golden_rms_norm() -> Result<()> {
    let g = Golden::of("rms_norm");
    let norm = RmsNorm::new(g.get("weight").clone(), g.number("eps"));
    for kernels in BOTH {
        g.check("y", &norm.forward(g.get("x"), kernels)?);
        g.check("dx", &norm.backward(g.get("x"), g.get("dy"), kernels)?);
    }
    Ok(())
}

#[test]
fn golden_rotary() -> Result<()> {
    let g = Golden::of("rotary");
    let (tokens, heads, width) = g.get("x").dims3()?;
    let positions: Vec<u32> = g.integers("positions").iter().map(|p| *p as u32).collect();
    let rotary = Rotary::new(&positions, width, g.number("theta"), &Device::Cpu)?;
    for kernels in BOTH {
        let x = g.get("x").reshape((tokens, heads * width))?;
        g.check_heads("y", &rotary.forward(&x, heads, kernels)?);
        let dx = rotary.backward(&g.heads("dy"), kernels)?;
        g.check("dx", &dx.reshape((tokens, heads, width))?);
    }
    Ok(())
}

#[test]
fn golden_attention() -> Result<()> {
    let g = Golden::of("attention");
    let (q, k, v) = (g.heads("q"), g.heads("k"), g.heads("v"));
    let mut borders: Vec<usize> = g.integers("starts").iter().map(|s| *s as usize).collect();
    borders.push(g.get("q").dims()[0]);
    for kernels in BOTH {
        let (y, saved) = attention::forward(&q, &k, &v, &borders, kernels)?;
        g.check_heads("y", &y);
        let (dq, dk, dv) = attention::backward(&q, &k, &v, &y, &saved, &g.heads("dy"), &borders, kernels)?;
        g.check_heads("dq", &dq);
        g.check_heads("dk", &dk);
        g.check_heads("dv", &dv);
    }
    Ok(())
}

#[test]
fn golden_swiglu() -> Result<()> {
    let g = Golden::of("swiglu");
    for kernels in BOTH {
        g.check("y", &swiglu::forward(g.get("gate"), g.get("up"), kernels)?);
        let (dgate, dup) = swiglu::backward(g.get("gate"), g.get("up"), g.get("dy"), kernels)?;
        g.check("dgate", &dgate);
        g.check("dup", &dup);
    }
    Ok(())
}

#[test]
fn golden_linear_with_bias() -> Result<()> {
    let g = Golden::of("linear");
    let layer = Linear::new("p", Weight::dense(g.get("weight").clone())?, Some(g.get("bias").clone()));
    let none = Adapters::from_pairs(LoraConfig::default(), BTreeMap::new());
    g.check("y", &layer.forward(g.get("x"), &none)?);
    let dx = layer.backward(g.get("x"), g.get("dy"), &none, &mut Gradients::new(), Wanted::Input)?;
    g.check("dx", &dx.unwrap());
    Ok(())
}

#[test]
fn golden_lora() -> Result<()> {
    let g = Golden::of("lora");
    let layer = Linear::new("p", Weight::dense(g.get("weight").clone())?, None);
    let pair = Adapter::new(g.get("a").clone(), g.get("b").clone(), g.number("scale"))?;
    let adapters = Adapters::from_pairs(LoraConfig::default(), BTreeMap::from([("p".to_string(), pair)]));
    let mut gradients = Gradients::new();
    g.check("y", &layer.forward(g.get("x"), &adapters)?);
    let dx = layer.backward(g.get("x"), g.get("dy"), &adapters, &mut gradients, Wanted::Input)?;
    g.check("dx", &dx.unwrap());
    g.check("da", gradients.get("p.lora_A").unwrap());
    g.check("db", gradients.get("p.lora_B").unwrap());
    Ok(())
}

#[test]
fn golden_loss_over_trained_tokens() -> Result<()> {
    let g = Golden::of("head_loss");
    let head = Weight::dense(g.get("weight").clone())?;
    let targets = g.integers("targets");
    let (rows, trained): (Vec<u32>, Vec<u32>) =
        targets.iter().enumerate().filter(|(_, t)| **t >= 0).map(|(row, t)| (row as u32, *t as u32)).unzip();
    let rows = Tensor::new(rows, &Device::Cpu)?;
    let hidden = g.get("x").index_select(&rows, 0)?;
    let truth = g.get("y").to_scalar::<f64>()?;
    let scale = 1.0 / trained.len() as f64;
    for kernels in BOTH {
        let (losses, dx) = loss::forward_backward(&hidden, &trained, &head, scale, kernels)?;
        let sum: f64 = losses.into_iter().map(f64::from).sum();
        assert!((sum * scale / truth - 1.0).abs() < 1e-6, "{} for {truth}", sum * scale);
        // Tokens that are not trained on have no gradient.
        g.check("dx", &g.get("x").zeros_like()?.index_add(&rows, &dx, 0)?);
    }
    Ok(())
}

#[test]
fn golden_layer_norm() -> Result<()> {
    let g = Golden::of("layer_norm");
    let norm = LayerNorm::new(g.get("weight").clone(), g.get("bias").clone(), g.number("eps"));
    for kernels in BOTH {
        g.check("y", &norm.forward(g.get("x"), kernels)?);
        g.check("dx", &norm.backward(g.get("x"), g.get("dy"), kernels)?);
    }
    Ok(())
}

#[test]
fn golden_gelu() -> Result<()> {
    for (layer, gelu) in [("gelu_tanh", Gelu::Tanh), ("gelu_erf", Gelu::Erf)] {
        let g = Golden::of(layer);
        for kernels in BOTH {
            g.check("y", &gelu.forward(g.get("x"), kernels)?);
            g.check("dx", &gelu.backward(g.get("x"), g.get("dy"), kernels)?);
        }
    }
    Ok(())
}

#[test]
fn golden_norm_of_heads() -> Result<()> {
    let g = Golden::of("head_norm");
    let norm = RmsNorm::new(g.get("weight").clone(), g.number("eps"));
    for kernels in BOTH {
        g.check("y", &norm.forward_heads(g.get("x"), kernels)?);
        g.check("dx", &norm.backward_heads(g.get("x"), g.get("dy"), kernels)?);
    }
    Ok(())
}

#[test]
fn golden_learned_positions() -> Result<()> {
    let g = Golden::of("positions");
    let learned = LearnedPositions::new(Weight::dense(g.get("table").clone())?);
    let positions: Vec<u32> = g.integers("positions").iter().map(|p| *p as u32).collect();
    for kernels in BOTH {
        g.check("y", &learned.forward(g.get("x").copy()?, &positions, kernels)?);
        g.check("dtable", &learned.backward(g.get("dy"), &positions, kernels)?);
        g.check("dx", g.get("dy"));
    }
    Ok(())
}

#[test]
fn golden_fused_projection() -> Result<()> {
    let g = Golden::of("fused");
    for kernels in BOTH {
        let scaled = |parts: [Tensor; 3]| -> Result<Tensor> {
            let [q, k, v] = parts;
            fused::join([&q, &(k * 2.0)?, &(v * -3.0)?], kernels)
        };
        g.check("y", &scaled(fused::split(g.get("whole"), [6, 4, 4], kernels)?)?);
        g.check("dwhole", &scaled(fused::split(g.get("dy"), [6, 4, 4], kernels)?)?);
    }
    Ok(())
}

#[test]
fn golden_head_of_unit_rows() -> Result<()> {
    let g = Golden::of("unit_rows");
    let head = Weight::dense(g.get("weight").clone())?.unit_rows()?;
    g.check("y", &head.forward(g.get("x"))?);
    g.check("dx", &head.backward(g.get("dy"))?);
    Ok(())
}
