//! `lorascope bench step` with a model of given sizes and random weights, and `bench generate`.
#![cfg(feature = "cli")]

use crate::common::command::{command, err, out};
use serde_json::Value;

const SIZES: &str = r#"{"model_type": "llama", "vocab_size": 400, "hidden_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64, "tie_word_embeddings": true}"#;

fn measured(folder: &tempfile::TempDir, options: &[&str]) -> Value {
    let step = ["bench", "step", "--shapes", "sizes.json", "--rank", "4", "--steps", "1", "--json"];
    let output = command(folder, &[&step, options].concat()).output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    serde_json::from_str(&out(&output)).unwrap()
}

#[test]
fn bench_times_a_model_of_given_sizes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sizes.json"), SIZES).unwrap();
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap();
    let mut losses = Vec::new();
    for (options, weights) in [
        (&["--batch", "2", "--tokens", "24"][..], "bf16"),
        (&["--batch", "2", "--tokens", "24", "--devices", "cpu:1"], "bf16"),
        (&["--batch", "1", "--tokens", "24", "--weights", "q4k", "--precision", "f16"], "Q4K"),
        (&["--batch", "2", "--tokens", "24", "--devices", "cpu:2"], "bf16"),
    ] {
        let found = measured(&folder, options);
        assert_eq!(found["weights"], weights, "{found}");
        // Small weights know nothing: each of 400 tokens is as likely.
        assert!((number(&found, "loss") / 400f64.ln() - 1.0).abs() < 0.05, "{found}");
        for name in ["tokens_per_second", "gflops", "product_gflops", "share"] {
            assert!(number(&found, name) > 0.0, "{name} in {found}");
        }
        // 2 blocks of 589,824 weights and a head of 102,400: 4 operations each, 6 for those of adapters of
        // rank 4, 7 · 24 · 256 in each block for attention. Both numbers are rounded to a tenth.
        let operations = 4.0 * (2.0 * 589_824.0 + 102_400.0) + 6.0 * 32_768.0 + 2.0 * 7.0 * 24.0 * 256.0;
        let expected = number(&found, "tokens_per_second") * operations / 1e9;
        assert!(
            (number(&found, "gflops") - expected).abs() < 0.06 + 0.01 * expected,
            "{expected} in {found}"
        );
        losses.push(number(&found, "loss"));
    }
    assert_eq!(losses[0], losses[1], "the device of one rank is the processor");
    // A micro-batch for each row has the same rows.
    assert!((losses[0] - losses[3]).abs() < 2e-4, "{losses:?}");
    let split = ["--devices", "cpu:2", "--split", "2", "--reduction", "on-devices"];
    let on = "cpu:2, the model split over 2, gradients added on the devices";
    assert_eq!(measured(&folder, &[&["--batch", "2", "--tokens", "24"], &split[..]].concat())["devices"], on);
    for (arguments, error) in [
        (["cpu:1", "2"], "1 device for a model split over 2"),
        (["auto", "0"], "a model split over 0 devices"),
        (["cpu:3", "3"], "a model of 2 blocks split over 3 devices"),
    ] {
        let [devices, split] = arguments;
        let step = ["bench", "step", "--shapes", "sizes.json", "--devices", devices, "--split", split];
        let output = command(&folder, &step).output().unwrap();
        assert!(err(&output).contains(error), "{}", err(&output));
    }
    let output = command(&folder, &["bench", "step"]).output().unwrap();
    assert!(err(&output).contains("<--model <MODEL>|--shapes <FILE>>"), "{}", err(&output));
}

#[test]
fn bench_times_generation() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{}/tests/golden/tiny", env!("CARGO_MANIFEST_DIR"));
    let of = |options: &[&str]| {
        let generate = ["bench", "generate", "--model", &model, "--turns", "1", "--json"];
        command(&folder, &[&generate, options].concat()).output().unwrap()
    };
    for rank in [0, 3] {
        let output = of(&["--tokens", "20", "--prompt", "4", "--rank", &rank.to_string()]);
        assert!(output.status.success(), "{}", err(&output));
        let found: Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(found["rank"], rank);
        for name in ["tokens_per_second", "first_token_seconds", "peak_mb"] {
            assert!(found[name].as_f64().unwrap() > 0.0, "{name} in {found}");
        }
    }
    for (options, error) in [
        (["--tokens", "1", "--prompt", "4"], "tokens at least 2"),
        (["--tokens", "61", "--prompt", "4"], "together at most 64"),
    ] {
        let output = of(&options);
        assert!(!output.status.success() && err(&output).contains(error), "{}", err(&output));
    }
}
