//! `lorascope data`: what it prints, and how it ends.
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::{Command, Output};

fn lorascope(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    command.arg("data").args(arguments).current_dir(folder).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn generate_report_convert() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| lorascope(folder.path(), arguments);
    let made = run(&["generate", "--rows", "2000", "--seed", "7", "--faults", "rows.jsonl"]);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    assert!(out(&made).starts_with("2,000 rows, "), "{}", out(&made));

    let report = out(&run(&["report", "rows.jsonl"]));
    assert!(report.starts_with("1,999 rows · 1 rejected · "), "{report}");
    let converted = run(&["convert", "rows.jsonl", "talk.json", "--to", "sharegpt"]);
    assert!(
        out(&converted).contains("written to talk.json\nleft out: 1 rejected records"),
        "{}",
        out(&converted)
    );
    let report = out(&run(&["report", "talk.json"]));
    assert!(report.starts_with("1,999 rows · 0 rejected · "), "{report}");
    assert!(report.contains("rows of sharegpt"), "{report}");

    let refused = run(&["convert", "rows.jsonl", "talk.json", "--to", "openai"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        err(&refused),
        "lorascope: talk.json: the file exists; choose another name, or say overwrite\n"
    );
    assert_eq!(out(&refused), "");
    let replaced = run(&["convert", "rows.jsonl", "talk.json", "--to", "openai", "--overwrite"]);
    assert_eq!(replaced.status.code(), Some(0));

    let held_out = run(&["generate", "--rows", "20", "--kinds", "held-out", "held.json"]);
    assert_eq!(held_out.status.code(), Some(0));
    let talks = run(&["generate", "--rows", "20", "--conversations", "talks.jsonl"]);
    assert_eq!(talks.status.code(), Some(0));
    let report = out(&run(&["report", "talks.jsonl"]));
    let sharegpt: Vec<&str> = report.lines().filter(|line| line.starts_with("rows of sharegpt ")).collect();
    assert!(matches!(sharegpt[..], [line] if line.split_whitespace().nth(3) == Some("20")), "{report}");
}

#[test]
fn wrong_usage_ends_with_2_and_failures_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| lorascope(folder.path(), arguments);
    let unknown = run(&["convert", "a.jsonl", "b.jsonl", "--to", "csv"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(err(&unknown).contains("known are alpaca, sharegpt, belle-chat, openai"), "{}", err(&unknown));
    assert_eq!(run(&["generate", "--rows", "0", "a.jsonl"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    let missing = run(&["report", "none.jsonl"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(err(&missing), "lorascope: none.jsonl: no such file or folder\n");
    std::fs::write(folder.path().join("a.jsonl"), "{\"instruction\": \"q\", \"output\": \"a\"}").unwrap();
    let model = run(&["report", "a.jsonl", "--model", "none.gguf"]);
    assert_eq!(
        err(&model),
        "lorascope: none.gguf: no such file or folder; give a .gguf file or a Hugging Face folder; `make model` fetches one\n"
    );
    std::fs::write(folder.path().join("wrong.gguf"), "GGUX, not a model").unwrap();
    let model = run(&["report", "a.jsonl", "--model", "wrong.gguf"]);
    assert_eq!(model.status.code(), Some(1));
    assert!(err(&model).starts_with("lorascope: wrong.gguf: "), "{}", err(&model));
}
