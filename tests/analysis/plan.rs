//! Memory and time before a model is loaded, against the model when it is.

use crate::common;
use lorascope::analysis::Plan;
use lorascope::candle_core::Device;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::LoraConfig;
use lorascope::model::{Decoder, DecoderConfig, OpenOptions, Recompute, WeightDtype};
use lorascope::train::{OptimizerConfig, RunConfig, SgdConfig, StepMemory};
use std::process::Command;

const LLAMA_2_7B: &str = r#"{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096,
    "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": false}"#;

#[test]
fn seven_billion_weights_three_times() -> Result<()> {
    let config = DecoderConfig::from_json(LLAMA_2_7B)?;
    let plan = Plan::of(&config, &RunConfig::default().rank(8).context(2048), &[Device::Cpu])?;
    assert_eq!(plan.parameters, 6_738_415_616);
    assert_eq!((plan.micro_batch, plan.step_tokens), (2048, 16 * 2048));
    let gigabytes = |bytes: u64| (bytes as f64 / 1e9 * 10.0).round() / 10.0;
    let [sgd, adam, f32, bf16, q4k] = &plan.ways[..] else { panic!("{} ways", plan.ways.len()) };
    let m = &sgd.memory;
    assert_eq!([m.weights, m.gradients, m.moments].map(gigabytes), [27.0, 27.0, 27.0]);
    assert_eq!(gigabytes(adam.memory.moments), 53.9);
    assert!(adam.memory.peak() > sgd.memory.peak() && sgd.memory.peak() > 3 * 26_900_000_000);
    assert_eq!([f32, bf16, q4k].map(|way| gigabytes(way.memory.weights)), [27.0, 13.5, 3.8]);
    // Per block 8·(4·(4096 + 4096) + 3·(4096 + 11008)).
    assert!([f32, bf16, q4k].iter().all(|way| way.trained == 32 * 624_640));
    assert!(q4k.memory.peak() * 7 < sgd.memory.peak(), "{} {}", q4k.memory.peak(), sgd.memory.peak());
    // 6NT for all weights, 4NT beside frozen ones: N without the embedding, which is looked up.
    let n = 6_738_415_616.0 - 32_000.0 * 4096.0 - 65.0 * 4096.0;
    let tokens = plan.step_tokens as f64;
    let attention = 7.0 * 2048.0 * 4096.0 * 32.0;
    assert_eq!(sgd.operations, tokens * (6.0 * n + attention));
    assert_eq!(f32.operations, tokens * (4.0 * n + 6.0 * 19_988_480.0 + attention));
    assert!(plan.speed > 1e9 && plan.estimate(sgd) > plan.estimate(f32));
    let again = RunConfig::default().rank(8).context(2048).recompute(Recompute::Blocks);
    let again = Plan::of(&config, &again, &[])?;
    assert!(again.ways[2].memory.activations * 8 < f32.memory.activations);
    assert!(again.ways[2].operations > f32.operations);
    let shown = plan.show();
    for part in [
        "full, SGD with momentum, f32",
        "27.0 GB",
        "19,988,480 (0.30 %)",
        "fits CPU",
        "estimated",
        "100.00 %",
    ] {
        assert!(shown.text.contains(part) && shown.html.contains(part), "{part} in {}", shown.text);
    }
    Ok(())
}

/// What the config says is what the loaded model says.
#[test]
fn the_same_numbers_with_and_without_the_weights() -> Result<()> {
    let path = common::model_path();
    let config = DecoderConfig::open(&path)?;
    let run = RunConfig::default().rank(8).batch(1).context(256);
    let plan = Plan::of(&config, &run, &[Device::Cpu])?;
    assert_eq!((plan.micro_batch, plan.step_tokens), (256, 256));
    for (way, weights) in [(2, WeightDtype::F32), (3, WeightDtype::Bf16), (4, WeightDtype::Q4K)] {
        let model = Decoder::open_with(&path, &OpenOptions { weights, device: Device::Cpu })?;
        assert_eq!(config, *model.config());
        let adapters = model.new_adapters(&run.lora, 0)?;
        let memory = StepMemory::of(&model, &adapters, &run.optimizer, 256);
        assert_eq!(plan.ways[way].memory, memory, "{weights:?}");
        assert_eq!(plan.ways[way].trained, adapters.parameters() as u64);
        if weights == WeightDtype::F32 {
            let sgd = OptimizerConfig::Sgd(SgdConfig::default());
            let full = StepMemory::of(&model, &model.all_trained()?, &sgd, 256);
            assert_eq!(plan.ways[0].memory, full);
        }
    }
    Ok(())
}

/// Adapters of every kind are counted as they are made.
#[test]
fn adapters_are_counted_without_making_them() -> Result<()> {
    let golden = |name: &str| {
        Decoder::open(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR")), &Device::Cpu)
    };
    let base = LoraConfig { rank: 3, alpha: 5.0, ..Default::default() };
    let parts = [("c_attn".to_string(), vec![true, false, true])].into();
    for (name, config) in [
        ("tiny", base.clone()),
        ("tiny", LoraConfig { dora: true, ..base.clone() }),
        (
            "tiny",
            LoraConfig { rank_pattern: [("q_proj".to_string(), 2)].into_iter().collect(), ..base.clone() },
        ),
        ("tiny", base.clone().targets(["q_proj", "embed_tokens", "lm_head"])),
        ("gpt2", LoraConfig { enable_lora: parts, ..base.clone() }),
    ] {
        let model = golden(name)?;
        let adapters = model.new_adapters(&config, 0)?;
        let (all, largest) = config.parameters(&model.targets())?;
        assert_eq!(all, adapters.parameters() as u64, "{name}: {config:?}");
        assert!(
            adapters.tensors().any(|(_, x)| x.elem_count() as u64 == largest) || name == "gpt2",
            "{config:?}"
        );
    }
    Ok(())
}

/// One step of the command: its peak and what was computed, in MiB.
fn measured(options: &[&str]) -> [f64; 2] {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    command.args(["bench", "step", "--batch", "1", "--rank", "8", "--steps", "1", "--json", "--model"]);
    let output = command.arg(common::model_path()).args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    ["peak_mb", "computed_mb"].map(|name| figures[name].as_f64().unwrap())
}

#[test]
fn a_recomputed_step_peaks_lower_and_as_computed() {
    let [kept, again] = [&["--tokens", "512"][..], &["--tokens", "512", "--recompute"]].map(measured);
    for [peak, computed] in [kept, again] {
        assert!((computed / peak - 1.0).abs() < 0.15, "{computed} MiB computed, {peak} measured");
    }
    assert!(again[0] < kept[0] - 200.0, "{again:?} {kept:?}");
}

#[test]
fn the_command_plans_from_a_config_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), LLAMA_2_7B).unwrap();
    let plan = |path: &str, options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
        let output = command.arg("plan").arg(path).args(options).current_dir(folder.path()).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (fine, said) = plan(".", &["--rank", "4", "--context", "512", "--batch-tokens", "4096"]);
    assert!(fine && said.contains("1,024 tokens in a micro-batch, 4,096 in a step"), "{said}");
    assert!(said.contains("9,994,240 (0.15 %)"), "{said}");
    assert!(
        plan("config.json", &["--batch-tokens", "100"])
            .1
            .contains("100 tokens in a micro-batch, 100 in a step")
    );
    let (fine, said) = plan("missing.json", &[]);
    assert!(!fine && said.contains("give a config.json"), "{said}");
}
