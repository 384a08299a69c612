//! Frozen weights beside ΔW: their norms, their shapes, and what DoRA really adds to them.

use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Base, LoraConfig};
use lorascope::model::{Decoder, Model};
use lorascope::spectrum::{Amplification, IntruderConfig, Intruders};
use std::collections::BTreeMap;

fn golden(name: &str) -> Decoder {
    Decoder::open(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR")), &Device::Cpu).unwrap()
}

/// Fresh adapters whose B and magnitudes have moved.
fn moved(decoder: &Decoder, config: &LoraConfig) -> Adapters {
    let change = |name: &str, tensor: &Tensor| -> Result<Tensor> {
        if name.ends_with("lora_A") {
            return Ok(tensor.clone());
        }
        let values = (0..tensor.elem_count()).map(|i| (i as f32 * 0.37 + name.len() as f32).sin() * 0.05);
        Ok((tensor + Tensor::from_vec(values.collect(), tensor.dims(), &Device::Cpu)?)?)
    };
    decoder.new_adapters(config, 1).unwrap().map(change).unwrap()
}

fn f64s(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

fn norm(tensor: &Tensor) -> f64 {
    f64s(tensor).sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
}

fn largest(tensor: &Tensor) -> f64 {
    f64s(tensor).abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap()
}

const Q: &str = "model.layers.1.self_attn.q_proj";

#[test]
fn a_weight_has_the_shape_of_its_adapter() -> Result<()> {
    let decoder = golden("tiny");
    let config = LoraConfig { rank: 3, alpha: 5.0, ..Default::default() };
    let adapters = moved(&decoder, &config.targets(["q_proj", "down_proj", "embed_tokens"]));
    let norms = decoder.weight_norms(&adapters)?;
    assert_eq!(norms.len(), adapters.len());
    for (path, _) in adapters.iter() {
        let dense = norm(&decoder.matrix(path)?);
        let weight = decoder.base_weight(path)?;
        assert!((weight.frobenius_norm() - dense).abs() <= 1e-12 * dense);
        assert!((norms[path] - dense).abs() <= 1e-12 * dense);
        assert_eq!(decoder.base_weight_of(&adapters, path)?.singular_values(3)?, weight.singular_values(3)?);
        // Whatever is asked of the two together fits: also of an embedding, which is turned.
        let delta = adapters.vectors(path)?;
        let amplification = Amplification::of(&weight, &delta, 2, 1)?;
        assert!(amplification.along_delta > 0.0 && amplification.along_delta <= amplification.along_weight);
        assert!(amplification.show().html.contains("</svg>"));
        let intruders = Intruders::of(&weight, &delta, &IntruderConfig { top: 4, ..Default::default() })?;
        assert_eq!(intruders.plot()?.data()?.height(), 4);
    }
    let spectra = adapters.spectra()?;
    let figure = spectra.relative_heat_map(&norms)?;
    let found: Vec<f64> = figure.data()?.column("‖ΔW‖ / ‖W₀‖")?.f64()?.iter().flatten().collect();
    assert_eq!(found.len(), adapters.len());
    let expected = spectra.get(Q)?.frobenius_norm() / norms[Q];
    assert!(found.iter().any(|value| (value - expected).abs() <= 1e-12 * expected));
    Ok(())
}

#[test]
fn dora_adds_what_the_merged_weight_has_more() -> Result<()> {
    let decoder = golden("tiny");
    let config = LoraConfig { rank: 3, alpha: 5.0, dora: true, ..Default::default() };
    let adapters = moved(&decoder, &config);
    let (weight, merged) = (decoder.matrix(Q)?, decoder.merged(&adapters)?.matrix(Q)?);
    let delta = decoder.effective_delta(&adapters, Q)?;
    assert_eq!((delta.dims(), delta.dtype()), (weight.dims(), DType::F64));
    let off = largest(&((f64s(&merged) - f64s(&weight))? - &delta)?);
    assert!(off <= 2e-7 * largest(&merged), "{off:e}"); // the merged weight is in f32
    // The magnitude of PEFT's start is ‖W‖; here it has moved, so that more than r directions have.
    let full = decoder.effective_spectrum(&adapters, Q)?;
    assert!((full.frobenius_norm() - norm(&delta)).abs() <= 1e-13 * norm(&delta));
    assert_eq!(full.rank, full.out_features.min(full.in_features));
    assert!(full.numerical_rank(None) > 3);
    let plain = adapters.spectra()?.get(Q)?;
    assert_eq!(plain.singular_values.len(), 3);
    // Nothing trained: nothing is added, but for the rounding of a magnitude in f32.
    let fresh = decoder.new_adapters(&LoraConfig { rank: 3, dora: true, ..Default::default() }, 1)?;
    assert!(largest(&decoder.effective_delta(&fresh, Q)?) <= 2e-7 * largest(&weight));
    Ok(())
}

#[test]
fn without_dora_it_is_the_product() -> Result<()> {
    let decoder = golden("tiny");
    let adapters = moved(&decoder, &LoraConfig { rank: 3, alpha: 5.0, ..Default::default() });
    let pair = adapters.get(Q).unwrap();
    let dense = (f64s(pair.b()).matmul(&f64s(pair.a()))? * (5.0 / 3.0))?;
    assert!(largest(&(&dense - decoder.effective_delta(&adapters, Q)?)?) <= 1e-15 * largest(&dense));
    assert_eq!(decoder.effective_spectrum(&adapters, Q)?, adapters.spectra()?.get(Q)?);
    Ok(())
}

#[test]
fn parts_of_a_fused_layer_are_rows() -> Result<()> {
    let decoder = golden("gpt2");
    let parts = BTreeMap::from([("c_attn".to_string(), vec![true, false, true])]);
    let config = LoraConfig { rank: 2, alpha: 3.0, enable_lora: parts, ..Default::default() };
    let fresh = decoder.new_adapters(&config.targets(["c_attn"]), 1)?;
    // Only the blocks of B that are trained move: rank 2 in the rows of q and of v.
    let adapters = fresh.map(|name, tensor| {
        if name.ends_with("lora_A") {
            return Ok(tensor.clone());
        }
        let (rows, columns) = tensor.dims2()?;
        let value = |i: usize, j: usize| match (3 * i / rows, j / 2) {
            (0, 0) | (2, 1) => 0.1 + (i + 7 * j) as f32 * 0.01,
            _ => 0.0,
        };
        let all = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
        Ok(Tensor::from_vec(all.map(|(i, j)| value(i, j)).collect(), (rows, columns), &Device::Cpu)?)
    })?;
    let path = adapters.iter().next().unwrap().0.to_string();
    let weight = decoder.matrix(&path)?;
    let rows = weight.dims()[0] / 3;
    let norms = decoder.weight_norms(&adapters)?;
    let names: Vec<String> = adapters.spectra()?.iter().map(|s| s.name.clone()).collect();
    assert_eq!(norms.keys().cloned().collect::<Vec<_>>(), names);
    for part in [0, 2] {
        let name = format!("{path}[{part}]");
        let own = norm(&weight.narrow(0, part * rows, rows)?);
        assert!((norms[&name] - own).abs() <= 1e-12 * own);
        assert!((decoder.base_weight_of(&adapters, &name)?.frobenius_norm() - own).abs() <= 1e-12 * own);
        let delta = decoder.effective_delta(&adapters, &name)?;
        let of_all = f64s(&adapters.get(&path).unwrap().delta()?.narrow(0, part * rows, rows)?);
        assert!(largest(&delta) > 0.0);
        assert!(largest(&(&delta - of_all)?) <= 1e-6 * largest(&delta));
        assert_eq!(decoder.effective_spectrum(&adapters, &name)?, adapters.spectra()?.get(&name)?);
    }
    let error = decoder.base_weight_of(&adapters, &format!("{path}[1]")).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("c_attn[0]"), "{error}");
    Ok(())
}

#[test]
fn an_unknown_path_is_answered_with_near_ones() -> Result<()> {
    let decoder = golden("tiny");
    let error = decoder.base_weight("model.layers.1.self_attn.q_porj").unwrap_err();
    assert!(error.is_not_found());
    assert!(error.to_string().contains("ask for one such as model.layers.1.self_attn.q_proj, "), "{error}");
    let error = decoder.base_weight("layers.99.mlp.down_proj").unwrap_err().to_string();
    assert!(error.contains("model.layers.0.mlp.down_proj, model.layers.1.mlp.down_proj"), "{error}");
    let none = Adapters::default();
    let error = decoder.effective_delta(&none, Q).unwrap_err().to_string();
    assert!(error.contains("these adapters are empty"), "{error}");
    let other = moved(&golden("gpt2"), &LoraConfig { rank: 2, ..Default::default() });
    assert!(decoder.weight_norms(&other).unwrap_err().to_string().contains("belong to another model"));
    Ok(())
}

#[test]
fn a_model_answers_as_its_decoder_does() -> Result<()> {
    let path = std::env::var("LORASCOPE_MODEL")
        .unwrap_or_else(|_| format!("{}/models/smollm2-135m.gguf", env!("CARGO_MANIFEST_DIR")));
    let model = Model::open(path)?;
    let path = "model.layers.29.mlp.down_proj";
    let config = LoraConfig { rank: 2, ..Default::default() }.targets([path]);
    let adapters = moved(model.decoder(), &config);
    let dense = norm(&model.decoder().matrix(path)?);
    assert!((model.weight_norms(&adapters)?[path] - dense).abs() <= 1e-12 * dense);
    assert!((model.base_weight(path)?.frobenius_norm() - dense).abs() <= 1e-12 * dense);
    assert_eq!(model.base_weight_of(&adapters, path)?.name(), path);
    assert_eq!(model.effective_delta(&adapters, path)?.dims(), [576, 1536]);
    assert_eq!(model.effective_spectrum(&adapters, path)?, adapters.spectra()?.get(path)?);
    Ok(())
}
