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

    let reported = run(&["report", "rows.jsonl"]);
    assert_eq!(reported.status.code(), Some(1), "a record was rejected");
    assert!(err(&reported).starts_with("1 record was rejected\n"), "{}", err(&reported));
    let report = out(&reported);
    assert!(report.starts_with("1,999 rows · 1 rejected · "), "{report}");
    let converted = run(&["convert", "rows.jsonl", "talk.json", "--to", "sharegpt"]);
    assert!(
        out(&converted)
            .contains("written to talk.json\nleft out: where the input begins, in 100 rows\nrejected: 1 record\n  rows.jsonl, line 778: broken JSON: "),
        "{}",
        out(&converted)
    );
    assert_eq!(converted.status.code(), Some(1));
    let reported = run(&["report", "talk.json"]);
    assert_eq!(reported.status.code(), Some(0), "{}", err(&reported));
    let report = out(&reported);
    assert!(report.starts_with("1,999 rows · 0 rejected · "), "{report}");
    assert!(report.contains("rows of sharegpt"), "{report}");

    let refused = run(&["convert", "rows.jsonl", "talk.json", "--to", "openai"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        err(&refused),
        "lorascope: talk.json: the file exists; choose another name, or say --overwrite\n"
    );
    assert_eq!(out(&refused), "");
    let replaced = run(&["convert", "rows.jsonl", "talk.json", "--to", "openai", "--overwrite"]);
    assert_eq!(replaced.status.code(), Some(1));

    let held_out = run(&["generate", "--rows", "20", "--kinds", "held-out", "held.json"]);
    assert_eq!(held_out.status.code(), Some(0));
    let talks = run(&["generate", "--rows", "20", "--conversations", "talks.jsonl"]);
    assert_eq!(talks.status.code(), Some(0));
    let report = out(&run(&["report", "talks.jsonl"]));
    let sharegpt: Vec<&str> = report.lines().filter(|line| line.starts_with("rows of sharegpt ")).collect();
    assert!(matches!(sharegpt[..], [line] if line.split_whitespace().nth(3) == Some("20")), "{report}");
}

#[test]
fn wrong_usage_and_failures_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| lorascope(folder.path(), arguments);
    let unknown = run(&["convert", "a.jsonl", "b.jsonl", "--to", "csv"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        err(&unknown).contains("possible values: alpaca, sharegpt, belle-chat, openai"),
        "{}",
        err(&unknown)
    );
    assert_eq!(run(&["generate", "--rows", "0", "a.jsonl"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    let missing = run(&["report", "none.jsonl"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(err(&missing), "lorascope: none.jsonl: no such file or folder; its folder is empty\n");
    std::fs::write(folder.path().join("a.jsonl"), "{\"instruction\": \"q\", \"output\": \"a\"}").unwrap();
    let model = run(&["report", "a.jsonl", "--model", "none.gguf"]);
    assert_eq!(
        err(&model),
        "lorascope: none.gguf: no such file or folder; give a .gguf file or a Hugging Face folder; `make model` fetches one\n"
    );
    std::fs::write(folder.path().join("wrong.gguf"), "GGUX, not a model").unwrap();
    let model = run(&["report", "a.jsonl", "--model", "wrong.gguf"]);
    assert_eq!(model.status.code(), Some(2));
    assert!(err(&model).starts_with("lorascope: wrong.gguf: "), "{}", err(&model));
}

#[test]
fn reports_as_json_and_as_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| lorascope(folder.path(), arguments);
    run(&["generate", "--rows", "300", "rows.jsonl"]);
    let json: serde_json::Value =
        serde_json::from_str(&out(&run(&["report", "rows.jsonl", "--json"]))).unwrap();
    assert_eq!((json["rows"].as_u64(), json["rejected"].as_u64()), (Some(300), Some(0)));
    let page = run(&["report", "rows.jsonl", "--html", "report.html"]);
    assert_eq!((page.status.code(), out(&page).as_str()), (Some(0), ""));
    let html = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("300"));
    assert_eq!(run(&["report", "rows.jsonl", "--html", "report.html"]).status.code(), Some(2));
    assert_eq!(run(&["report", "rows.jsonl", "--html", "report.html", "--overwrite"]).status.code(), Some(0));
}

#[test]
fn conversions_from_any_container_to_any() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| lorascope(folder.path(), arguments);
    run(&["generate", "--rows", "3000", "--seed", "3", "rows.jsonl"]);
    let steps = ["a.csv.gz", "b.parquet", "c.json.zst", "d.tsv", "e.jsonl"];
    let mut from = "rows.jsonl";
    for to in steps {
        let done = run(&["convert", from, to, "--to", "sharegpt", "--keep-extra"]);
        assert_eq!(done.status.code(), Some(0), "{to}: {}", err(&done));
        from = to;
    }
    assert_eq!(run(&["convert", "e.jsonl", "f.jsonl", "--to", "alpaca"]).status.code(), Some(0));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let rows = |name: &str| -> Vec<serde_json::Value> {
        read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(rows("f.jsonl"), rows("rows.jsonl"));

    // Faults in the middle move the rows after them up, in every block alike.
    let mut faulty: Vec<String> = (0..60_000)
        .map(|i| format!("{{\"instruction\": \"question {i}\", \"output\": \"{}\"}}", "answer ".repeat(20)))
        .collect();
    for i in (0..60_000).step_by(7_919) {
        faulty[i] = "{\"instruction\": ".into();
    }
    std::fs::write(folder.path().join("faulty.jsonl"), faulty.join("\n")).unwrap();
    let done = run(&["convert", "faulty.jsonl", "whole.jsonl", "--to", "sharegpt"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(out(&done).contains("rejected: 8 records"), "{}", out(&done));
    let ids: Vec<String> = rows("whole.jsonl").iter().map(|row| row["id"].as_str().unwrap().into()).collect();
    assert_eq!(ids, (1..=59_992).map(|n| format!("row-{n}")).collect::<Vec<_>>());
    assert_eq!(
        run(&["convert", "faulty.jsonl", "strict.jsonl", "--to", "sharegpt", "--strict"]).status.code(),
        Some(2)
    );
    assert!(!folder.path().join("strict.jsonl").exists());
    // Two answers in a row fit no pair.
    let odd = r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]}"#;
    std::fs::write(folder.path().join("odd.jsonl"), format!("{odd}\n{}\n", faulty[1])).unwrap();
    let refused = run(&["convert", "odd.jsonl", "pairs.jsonl", "--to", "alpaca"]);
    assert!(refused.status.code() == Some(2) && err(&refused).contains("--leave-out"), "{}", err(&refused));
    let left = run(&["convert", "odd.jsonl", "pairs.jsonl", "--to", "alpaca", "--leave-out"]);
    assert_eq!((left.status.code(), rows("pairs.jsonl").len()), (Some(0), 1), "{}", err(&left));
    let fixed =
        run(&["convert", "odd.jsonl", "fixed.jsonl", "--to", "alpaca", "--fix", "merge-same-role,trim"]);
    assert_eq!((fixed.status.code(), rows("fixed.jsonl").len()), (Some(0), 2), "{}", err(&fixed));
}

#[test]
fn what_python_writes_is_repaired_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let rows = r#"{"instruction": "Wave", "input": "", "output": "\ud83d\udc4b hello"}
{"instruction": "Cut", "input": "", "output": "that is nice \ud83d"}
{"instruction": "Empty", "input": NaN, "output": "yes"}
{"instruction": "What is NaN?", "input": "", "output": "NaN is \"not a number\": {\"x\": NaN}"}
{"instruction": "Backwards", "input": "", "output": "\udc4b\ud83d"}
{"instruction": "Unused", "input": "", "output": "fine", "score": -Infinity}
{"instruction": "half \ud83d", "input": "", "output": "a question"}
"#;
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    assert_eq!(
        lorascope(folder.path(), &["report", "rows.jsonl"]).status.code(),
        Some(1),
        "some are rejected"
    );
    let report = lorascope(folder.path(), &["report", "rows.jsonl", "--fix", "replace-invalid-utf8"]);
    assert_eq!(report.status.code(), Some(0), "{}", err(&report));
    let convert = ["convert", "rows.jsonl", "out.jsonl", "--to", "openai", "--fix", "replace-invalid-utf8"];
    let done = lorascope(folder.path(), &convert);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let written = std::fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answers: Vec<&str> = rows.iter().map(|row| row["messages"][1]["content"].as_str().unwrap()).collect();
    let right = [
        "👋 hello",
        "that is nice \u{fffd}",
        "yes",
        "NaN is \"not a number\": {\"x\": NaN}",
        "\u{fffd}\u{fffd}",
        "fine",
        "a question",
    ];
    assert_eq!(answers, right);
    assert_eq!(rows[2]["messages"][0]["content"], "Empty");
    assert_eq!(rows[6]["messages"][0]["content"], "half \u{fffd}");
}

#[test]
fn a_proposed_map_works_in_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    for row in [
        r#"{"question": {"text": "What is 1 + 1?"}, "std_answer": "2"}"#,
        r#"{"the question": "Why's that?", "it's answer": "So."}"#,
        r#"{"a.question": "Why is that?", "b\\answer": "So."}"#,
        r#"{"log": [{"speaker": "Annabel Lee", "text": "Hi"}, {"speaker": "Edgar, Allan", "text": "Oh"}]}"#,
        r#"{"instruction": "Shorten.", "instances": [{"input": "A text.", "output": "Text."}, {"input": "Words.", "output": "Word."}]}"#,
    ] {
        std::fs::write(folder.path().join("rows.jsonl"), row).unwrap();
        let refused = err(&lorascope(folder.path(), &["report", "rows.jsonl"]));
        let (_, map) =
            refused.split_once("on the command line --map ").unwrap_or_else(|| panic!("{refused}"));
        let map = map.lines().next().unwrap().split("; ").next().unwrap();
        let line = format!("{} data report rows.jsonl --map {map}", env!("CARGO_BIN_EXE_lorascope"));
        let done = Command::new("sh").args(["-c", &line]).current_dir(folder.path()).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{line}: {}", err(&done));
        assert!(out(&done).starts_with("1 row"), "{}", out(&done));
    }
}
