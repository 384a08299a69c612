//! The command line as a person meets it: help for everything, names that are listed, runs found by name and by
//! path, and a model that answers, is merged and is written.
#![cfg(feature = "cli")]

use crate::common::runs::{Bench, bits, config};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::{GenerateConfig, Model};
use lorascope::run::Run;
use lorascope::text::Message;
use std::path::Path;
use std::process::Command;

fn lorascope(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a command that must end well printed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = lorascope(folder, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = lorascope(folder, arguments);
    assert_eq!(code, Some(2), "{arguments:?}: {out}{err}");
    err
}

/// The help of a command and of all below it.
fn helps(path: &[String]) -> Vec<(String, String)> {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let text = done(Path::new("."), &arguments);
    let mut all = vec![(path.join(" "), text.clone())];
    let below = text.split_once("Commands:\n").map(|(_, rest)| rest).unwrap_or_default();
    let names = below.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        all.extend(helps(&[path, &[name.to_string()]].concat()));
    }
    all
}

/// The options, arguments and commands of a help that say nothing of themselves.
fn silent(help: &str) -> Vec<String> {
    let lines: Vec<&str> = help.lines().collect();
    let is_item = |line: &str| {
        let item = line.trim_start();
        let deep = line.len() - item.len();
        (2..=6).contains(&deep) && item.starts_with(['-', '<', '['])
    };
    let says = |at: usize| {
        let words = lines[at].trim_start().split_once("  ").map(|(_, said)| said.trim()).unwrap_or_default();
        let next = lines.get(at + 1).map(|line| line.trim()).unwrap_or_default();
        let said = if words.is_empty() { next } else { words };
        !said.is_empty() && !said.starts_with(['[', '-', '<'])
    };
    (0..lines.len()).filter(|at| is_item(lines[*at]) && !says(*at)).map(|at| lines[at].to_string()).collect()
}

#[test]
fn every_option_has_a_sentence() {
    let all = helps(&[]);
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["train", "sample", "merge", "export", "plan", "data report", "bench step", "spectrum"] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    for (name, help) in &all {
        assert!(silent(help).is_empty(), "{name}: {:?}", silent(help));
        let about = help.lines().next().unwrap_or_default();
        assert!(about.chars().next().is_some_and(char::is_uppercase), "{name}: {about:?}");
    }
    // The check can fail.
    assert_eq!(silent("Options:\n      --rank <R>\n      --seed <N>  The seed\n").len(), 1);
    assert_eq!(silent("Options:\n      --rank <R>  [default: 8]\n").len(), 1);
}

#[test]
fn names_are_listed_where_one_is_wrong() -> Result<()> {
    let bench = Bench::new()?;
    let folder = bench.folder();
    for command in ["train", "data report", "data convert", "data clean", "data split", "data rows"] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = done(folder, &arguments);
        assert!(help.contains("alpaca, sharegpt, belle-chat, openai"), "{command}: {help}");
    }
    let told = refused(folder, &["data", "convert", "rows.jsonl", "out.jsonl", "--to", "sharegtp"]);
    assert!(told.contains("possible values: alpaca, sharegpt") && told.contains("similar value"), "{told}");
    let told = refused(folder, &["data", "clean", "rows.jsonl", "out.jsonl", "--fix", "trimm"]);
    assert!(told.contains("strip-control"), "{told}");

    assert!(refused(folder, &["train", "none", "--resume"]).contains("no run lies in "));
    let told = refused(folder, &["train", "none", "--precision", "fp8"]);
    assert!(told.contains("precision \"fp8\"; write f32, bf16 or f16"), "{told}");
    let told = refused(folder, &["train", "none", "--precision", "bf16", "--resume"]);
    assert!(told.contains("cannot be used with"), "{told}");
    for name in ["maths", "chinese"] {
        bench.run(name, config())?.close()?;
    }
    let told = refused(folder, &["train", "math", "--resume"]);
    assert!(told.contains("no run \"math\"; there are chinese, maths"), "{told}");
    let told = Run::get("math").unwrap_err();
    assert!(told.is_not_found() && told.to_string().ends_with("there are chinese, maths"), "{told}");
    assert!(refused(folder, &["sample", "hi?", "--run", "math"]).contains("there are chinese, maths"));

    // What is in the way is said with the option that takes it away.
    let told = refused(folder, &["data", "convert", "rows.jsonl", "rows.jsonl", "--to", "alpaca"]);
    assert!(told.contains("--overwrite"), "{told}");
    Ok(())
}

#[test]
fn a_run_is_found_by_its_path_too() -> Result<()> {
    let bench = Bench::new()?;
    let folder = bench.folder();
    let new =
        ["--model", "small.gguf", "--data", "rows.jsonl", "--batch", "2", "--rank", "2", "--steps", "1"];
    done(folder, &[&["train", "runs/new"], &new[..]].concat());
    assert!(folder.join("runs/new/run.json").exists());
    for path in ["runs/new", "runs/new/", "./runs/new", folder.join("runs/new").to_str().unwrap()] {
        done(folder, &["train", path, "--resume", "--more", "1"]);
    }
    std::fs::rename(folder.join("runs/new"), folder.join("moved")).unwrap();
    done(folder, &["train", "./moved", "--resume", "--more", "1"]);
    done(folder, &["train", "./moved", "--resume", "--accept", "--more", "1"]);
    let run = Run::get("./moved")?;
    assert_eq!(run.status().step, 7);
    assert!(Run::exists("moved/")? && !Run::exists("moved")?);
    assert!(refused(folder, &["train", "./else", "--resume"]).contains("there are moved"));
    Ok(())
}

#[test]
fn a_model_answers_is_merged_and_is_written() -> Result<()> {
    let bench = Bench::new()?;
    let folder = bench.folder();
    let run = bench.run("learned", config().lr(1e-2))?;
    run.steps(6)?;
    run.save_adapter(folder.join("adapter"))?;
    let ask = [Message::user("1 + 1 = ?")];
    let few = GenerateConfig { max_tokens: 12, ..GenerateConfig::default() };
    let [plain, adapted] = [Adapters::default(), run.adapters()]
        .map(|adapters| bench.model.chat_with(&adapters, &ask, &few).unwrap().to_string());
    assert_ne!(plain, adapted, "the test needs an adapter that shows");
    let sample = |arguments: &[&str]| {
        done(folder, &[&["sample", "1 + 1 = ?", "--max-tokens", "12"], arguments].concat())
    };
    assert_eq!(sample(&["--model", "small.gguf"]), format!("{plain}\n"));
    assert_eq!(sample(&["--model", "small.gguf", "--adapter", "adapter"]), format!("{adapted}\n"));
    // Also while the run is open here.
    assert_eq!(sample(&["--run", "learned"]), format!("{adapted}\n"));
    let lines = sample(&["2 + 2 = ?", "--run", "runs/learned", "--json"]);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), lines[0]["answer"].as_str()), (2, Some(adapted.as_str())));
    assert!(sample(&["2 + 2 = ?", "--run", "learned"]).starts_with("> 1 + 1 = ?\n"));
    assert!(refused(folder, &["sample", "hi?"]).contains("--model <PATH>"));

    done(folder, &["merge", "merged", "--run", "learned", "--dtype", "f32"]);
    done(folder, &["merge", "again", "--model", "small.gguf", "--adapter", "adapter", "--dtype", "f32"]);
    let merged = Model::open(folder.join("merged"))?;
    assert_eq!(merged.chat(&ask, &few)?.to_string(), adapted);
    assert_eq!(merged.fingerprint()?, Model::open(folder.join("again"))?.fingerprint()?);
    let out = done(folder, &["export", "plain", "--model", "small.gguf", "--dtype", "f32"]);
    assert!(out.contains("plain"), "{out}");
    assert_eq!(Model::open(folder.join("plain"))?.chat(&ask, &few)?.to_string(), plain);
    for command in
        [&["merge", "merged", "--run", "learned"][..], &["export", "plain", "--model", "small.gguf"]]
    {
        assert!(refused(folder, command).contains("the folder exists already"));
    }
    assert!(refused(folder, &["merge", "new", "--model", "small.gguf"]).contains("--adapter PATH"));

    // A run's folder in place of an adapter's.
    let [of_run, of_adapter] = ["runs/learned", "adapter"].map(|path| done(folder, &["spectrum", path]));
    assert_eq!(of_run.lines().nth(1), of_adapter.lines().nth(1));
    let saved = Run::saved("learned")?;
    assert_eq!((saved.step, bits(&bench.model.adapters(&saved.snapshot)?)), (6, bits(&run.adapters())));
    assert!(run.show().text.contains("learned"));
    Ok(())
}
