//! Runs that begin with adapters which PEFT wrote: at step 0 the model says what PEFT's does, of tied and untied
//! models, and what such a run saves after a step is left for the real PEFT (`golden/check_round_trip.py`).

use crate::common::reference::{file, json};
use crate::common::working_folder::WorkingFolder;
use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::{Model, Tokens};
use lorascope::run::Run;
use lorascope::train::RunConfig;
use serde_json::{Value as Json, json as object};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The letters of the rows, and the marks around a turn.
const LETTERS: &str = "0123456789+=?";
const MARKS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>{% endif %}";
const ROWS: &str =
    "{\"instruction\": \"1+1=?\", \"output\": \"2\"}\n{\"instruction\": \"20+3=?\", \"output\": \"23\"}\n";

/// Where the adapters come from, the model, and the file of PEFT's logits with what stands in front of their names.
struct Case {
    name: String,
    from: String,
    base: String,
    truth: (String, String),
}

/// All adapters of the golden numbers that a run can begin with.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for base in ["tiny", "tied", "gpt2", "qwen2", "qwen3", "llama3"] {
        let truth = (format!("{base}.safetensors"), String::new());
        let from = format!("{base}-adapter");
        cases.push(Case { name: from.clone(), from, base: base.to_string(), truth });
    }
    for folder in ["tying", "variants"] {
        let golden: serde_json::Map<String, Json> = json(&format!("{folder}.json"));
        for (name, about) in golden {
            let from = format!("{folder}/{name}");
            // Those with a padding token are of another model, which has one.
            if !Path::new(&file(&from)).exists() || !about["padding"].is_null() {
                continue;
            }
            let (base, truth) =
                (about["base"].as_str().unwrap().to_string(), format!("{folder}.safetensors"));
            cases.push(Case {
                from,
                base,
                truth: (truth, format!("{name}.")),
                name: format!("{folder}-{name}"),
            });
        }
    }
    cases
}

/// The model of the golden numbers, with a tokenizer.
fn model(folder: &Path, base: &str) -> Result<Model> {
    let folder = folder.join(base);
    if !folder.exists() {
        fs::create_dir(&folder).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::copy(Path::new(&file(base)).join(name), folder.join(name)).unwrap();
        }
        let write = |name: &str, value: Json| fs::write(folder.join(name), value.to_string()).unwrap();
        let count = LETTERS.chars().count();
        let vocabulary: serde_json::Map<String, Json> =
            LETTERS.chars().enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
        let marks = MARKS.iter().enumerate().map(|(n, mark)| {
            object!({"id": count + n, "content": mark, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        });
        let bytes = object!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        write(
            "tokenizer.json",
            object!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
                "added_tokens": marks.collect::<Vec<_>>(), "pre_tokenizer": bytes, "decoder": bytes,
                "post_processor": null,
                "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                    "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                    "merges": []}}),
        );
        write("tokenizer_config.json", object!({"eos_token": MARKS[1], "chat_template": TEMPLATE}));
    }
    Model::open(folder)
}

/// Logits of each golden row by itself.
fn logits(model: &Model, adapters: &Adapters, base: &str) -> Vec<Tensor> {
    let golden: Json = json(&format!("{base}.json"));
    let one = |row: &Json| {
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        let tokens = Tokens { ids: &ids, borders: &[0, ids.len()] };
        let hidden = model.decoder().hidden(tokens, adapters, &|| true)?;
        model.decoder().logits(&hidden, adapters)
    };
    golden["rows"].as_array().unwrap().iter().map(|row| one(row).unwrap()).collect()
}

fn largest(x: &Tensor) -> f32 {
    x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// The largest difference of a logit, as a part of the largest logit.
fn off(ours: &[Tensor], truth: &[Tensor]) -> f32 {
    assert_eq!(ours.len(), truth.len());
    let pairs = ours.iter().zip(truth);
    pairs.map(|(a, b)| largest(&(a - b).unwrap()) / largest(b)).fold(0.0, f32::max)
}

/// A folder for the real PEFT: an adapter, and the logits that it has here.
fn leave(adapter: &Path, name: &str, logits: &[Tensor]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs-for-peft").join(name);
    fs::create_dir_all(&folder).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(adapter.join(name), folder.join(name)).unwrap();
    }
    let rows: HashMap<String, Tensor> =
        logits.iter().enumerate().map(|(i, row)| (format!("{i}"), row.clone())).collect();
    candle_core::safetensors::save(&rows, folder.join("logits.safetensors")).unwrap();
}

fn begin(folder: &Path, name: &str, base: &str, from: &Path) -> Result<Run> {
    let rows = folder.join("rows.jsonl");
    fs::write(&rows, ROWS).unwrap();
    let config = RunConfig::default().batch(2).lr(1e-2).warmup(1).seed(7).init_from(from);
    Run::new(name, &model(folder, base)?, &Dataset::open(rows)?, config)
}

#[test]
fn runs_that_begin_with_adapters_are_left_for_peft() -> Result<()> {
    let left = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs-for-peft");
    if left.exists() {
        fs::remove_dir_all(&left).unwrap();
    }
    let place = WorkingFolder::enter();
    let cases = cases();
    assert!(cases.iter().filter(|case| case.base == "tied").count() >= 12 && cases.len() >= 30);
    for Case { name, from, base, truth: (numbers, prefix) } in &cases {
        let from = PathBuf::from(file(from));
        let run = begin(place.path(), name, base, &from)?;
        let model = run.model();
        let begun = logits(model, &run.adapters(), base);
        // What PEFT computes with the same folder, here in f64; its own f32 is looked at by the script.
        let truth = candle_core::safetensors::load(file(numbers), &Device::Cpu)?;
        let truth: Vec<Tensor> =
            (0..).map_while(|i| truth.get(&format!("{prefix}logits.{i}")).cloned()).collect();
        let truth: Vec<Tensor> =
            truth.iter().map(|x| x.to_dtype(candle_core::DType::F32)).collect::<candle_core::Result<_>>()?;
        let distance = off(&begun, &truth);
        assert!(distance < 1e-5, "{name}: at step 0 the logits are off by {distance:e}");
        leave(&from, &format!("{name}-begun"), &begun);

        run.step()?;
        let after = logits(model, &run.adapters(), base);
        let moved = off(&after, &begun);
        assert!(moved > 1e-3, "{name}: a step moves the logits by {moved:e}");
        run.save_adapter(format!("saved-{name}"))?;
        leave(&place.path().join(format!("saved-{name}")), &format!("{name}-step-1"), &after);
        // The run goes on from the same, in another handle too.
        let read = model.adapters(format!("saved-{name}"))?;
        assert!(off(&logits(model, &read, base), &after) < 1e-6, "{name}");
    }
    // Files that PEFT cannot read: what a run of them saves, it can.
    for from in ["kohya.safetensors", "mlx", "mlx-alpha", "mlx-dora"] {
        let name = format!("foreign-{}", from.replace('.', "-"));
        let path = PathBuf::from(file(&format!("foreign/{from}")));
        let run = begin(place.path(), &name, "tiny", &path)?;
        let model = run.model();
        let begun = logits(model, &run.adapters(), "tiny");
        assert!(off(&begun, &logits(model, &model.adapters(&path)?, "tiny")) < 1e-6, "{name}");
        for step in 0..2 {
            let saved = place.path().join(format!("saved-{name}-{step}"));
            run.save_adapter(&saved)?;
            leave(&saved, &format!("{name}-step-{step}"), &logits(model, &run.adapters(), "tiny"));
            run.step()?;
        }
    }
    Ok(())
}
