//! Blocks that the backward pass runs again, and the layer at which numbers stop being finite.

use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::error::Result;
use lorascope::lora::{Adapters, DropoutPass, Gradients, LoraConfig};
use lorascope::model::{Counted, Decoder, Recompute, Tokens};
use lorascope::ops::Kernels;
use lorascope::train::RunConfig;

const IDS: [u32; 11] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
const BORDERS: [usize; 3] = [0, 5, 11];
const TOKENS: Tokens = Tokens { ids: &IDS, borders: &BORDERS };

fn model(name: &str) -> Result<Decoder> {
    Decoder::open(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR")), &Device::Cpu)
}

/// Adapters beside all linear layers that add something, with dropout.
fn adapters(model: &Decoder) -> Result<Adapters> {
    let config = LoraConfig { rank: 3, alpha: 5.0, dropout: 0.2, ..Default::default() };
    let trained = model.new_adapters(&config, 1)?.map(|name, x| match name.ends_with("lora_B") {
        true => Ok(((x.ones_like()? * 0.1)? + name.len() as f64 * 1e-3)?),
        false => Ok(x.clone()),
    })?;
    Ok(trained.training(DropoutPass { seed: 4, step: 2, pack: 1 }))
}

/// The losses of all targets and all gradients, as bits.
#[derive(Debug, PartialEq)]
struct Bits {
    losses: Vec<u32>,
    gradients: Vec<(String, Vec<u32>)>,
}

fn bits(model: &Decoder, adapters: &Adapters) -> Result<Bits> {
    let gradients = |gradients: &mut Gradients| {
        let (hidden, saved) = model.forward(TOKENS, adapters, &|| true)?;
        let (rows, targets) = ([0, 1, 3, 6, 9], [1, 4, 5, 6, 5]);
        let (losses, d) = model.loss_backward(
            &hidden,
            Counted { places: &rows, targets: &targets },
            0.2,
            adapters,
            gradients,
            &|| true,
        )?;
        model.backward(saved, &d, &BORDERS, adapters, gradients, &|| true)?;
        Result::<_>::Ok(losses)
    };
    let mut all = Gradients::new();
    let losses = gradients(&mut all)?;
    let of = |x: &Tensor| -> Result<Vec<u32>> {
        Ok(x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    let all = all.tensors().map(|(name, x)| Ok((name.to_string(), of(x)?))).collect::<Result<_>>()?;
    Ok(Bits { losses: losses.into_iter().map(f32::to_bits).collect(), gradients: all })
}

/// In every family, with dropout, with both kernels, with adapters and with all weights trained.
#[test]
fn recomputed_blocks_give_the_same_bits() -> Result<()> {
    for name in ["tiny", "gpt2", "qwen3", "baichuan2"] {
        for kernels in [Kernels::Fused, Kernels::Candle] {
            let model = model(name)?.with_kernels(kernels);
            let again = model.with_recompute(Recompute::Blocks);
            assert_eq!((model.recompute(), again.recompute()), (Recompute::Nothing, Recompute::Blocks));
            let lora = adapters(&model)?;
            let kept = bits(&model, &lora)?;
            assert_eq!(kept, bits(&again, &lora)?, "{name}, {kernels:?}");
            assert!(
                kept.gradients.iter().all(|(_, x)| x.iter().any(|bits| *bits != 0)),
                "{name}, {kernels:?}"
            );
            if name != "baichuan2" {
                let all = model.all_trained()?;
                assert_eq!(bits(&model, &all)?, bits(&again, &all)?, "all of {name}, {kernels:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_run_says_what_is_computed_again() {
    let config = RunConfig::default().recompute(Recompute::Blocks);
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""recompute":"blocks""#), "{text}");
    assert_eq!(serde_json::from_str::<RunConfig>(&text).unwrap().recompute, Recompute::Blocks);
    assert_eq!(serde_json::from_str::<RunConfig>("{}").unwrap().recompute, Recompute::Nothing);
}

/// The same adapters with one value in all of one tensor.
fn with(adapters: &Adapters, broken: &str, value: f32) -> Result<Adapters> {
    let mut met = false;
    let changed = adapters.map(|name, x| match name == broken {
        true => {
            met = true;
            Ok(Tensor::full(value, x.dims(), x.device())?)
        }
        false => Ok(x.clone()),
    })?;
    assert!(met, "{broken}");
    Ok(changed)
}

#[test]
fn the_first_layer_that_is_not_finite_has_a_name() -> Result<()> {
    let tiny = model("tiny")?;
    let fine = adapters(&tiny)?;
    assert_eq!(tiny.first_not_finite(TOKENS, &fine)?, None);
    for layer in [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.k_proj",
        "model.layers.1.self_attn.v_proj",
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.mlp.gate_proj",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.mlp.down_proj",
    ] {
        for value in [f32::NAN, f32::INFINITY, f32::MAX] {
            let broken = with(&fine, &format!("{layer}.lora_A"), value)?;
            assert_eq!(tiny.first_not_finite(TOKENS, &broken)?.as_deref(), Some(layer), "{value}");
        }
    }
    // Large but finite: what lies between the layers overflows.
    let broken = with(&fine, "model.layers.1.self_attn.q_proj.lora_B", 1e30)?;
    let broken = with(&broken, "model.layers.1.self_attn.k_proj.lora_B", 1e30)?;
    let found = tiny.first_not_finite(TOKENS, &broken)?;
    assert_eq!(found.as_deref(), Some("model.layers.1.self_attn"));
    let broken = with(&fine, "model.layers.0.mlp.gate_proj.lora_B", 1e25)?;
    let broken = with(&broken, "model.layers.0.mlp.up_proj.lora_B", 1e25)?;
    assert_eq!(tiny.first_not_finite(TOKENS, &broken)?.as_deref(), Some("model.layers.0.mlp"));
    // Weights outside of the blocks, norms, a fused projection, norms of heads.
    for (name, tensor, layer) in [
        ("tiny", "model.embed_tokens.weight", "model.embed_tokens"),
        ("tiny", "model.norm.weight", "model.norm"),
        ("tiny", "lm_head.weight", "lm_head"),
        ("tiny", "model.layers.1.post_attention_layernorm.weight", "model.layers.1.post_attention_layernorm"),
        ("qwen3", "model.layers.1.self_attn.k_norm.weight", "model.layers.1.self_attn.k_norm"),
        ("gpt2", "transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attn"),
    ] {
        let model = model(name)?;
        let all = with(&model.all_trained()?, tensor, f32::NAN)?;
        assert_eq!(model.first_not_finite(TOKENS, &all)?.as_deref(), Some(layer));
    }
    Ok(())
}

#[test]
fn the_first_gradient_that_the_backward_pass_met() -> Result<()> {
    let model = model("gpt2")?;
    let mut gradients = Gradients::new();
    let mut add = |name: &str, value: f32| {
        gradients.add_tensor(name.to_string(), Tensor::new(&[1f32, value], &Device::Cpu)?)?;
        Ok::<_, lorascope::error::Error>((gradients.not_finite()?, model.last_not_finite(&gradients)?))
    };
    assert_eq!(add("transformer.h.1.mlp.c_proj.weight", 3.0)?, (vec![], None));
    for name in [
        "transformer.wpe.weight",
        "transformer.h.0.mlp.c_fc.lora_A",
        "transformer.h.1.attn.c_attn.lora_B",
        "transformer.h.1.ln_2.bias",
        "transformer.ln_f.weight",
    ] {
        let (all, last) = add(name, f32::NAN)?;
        assert!(all.iter().any(|known| known == name), "{all:?}");
        assert_eq!(last.as_deref(), Some(name));
    }
    assert_eq!(add("transformer.wte.weight", f32::INFINITY)?.0.len(), 6);
    assert_eq!(
        add("transformer.h.1.ln_1.weight", f32::NEG_INFINITY)?.1.as_deref(),
        Some("transformer.ln_f.weight")
    );
    Ok(())
}
