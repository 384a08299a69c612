//! `lorascope data rows`, `clean`, `split`, `--map`, and where answers and progress go.
#![cfg(feature = "cli")]

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Stdio;

use crate::common::command::{command, data, err, out, put, read, row};
use crate::common::tiny::{CHATML, Tiny};
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(
        &folder,
        "rows.jsonl",
        &[
            row("小明有3个苹果，又买了5个，一共有几个苹果？", "8个"),
            row("What is the sum of 3 and 5?", "It is 8."),
            row("Who are you, and who made you?", "I am {{name}}, made by {{author}}. "),
            row("What is the longest of these questions, of which there are four?", "This one is, I think."),
        ],
    );
    folder
}

#[test]
fn rows_are_shown_as_chats() {
    let folder = folder();
    let one = data(&folder, &["rows", "rows.jsonl", "--row", "1"]);
    assert_eq!(one.status.code(), Some(0), "{}", err(&one));
    let text = out(&one);
    assert!(
        text.contains("rows.jsonl, line 2\n[user] What is the sum of 3 and 5?\n[assistant] It is 8.\n"),
        "{text}"
    );
    let none = data(&folder, &["rows", "rows.jsonl", "--row", "9"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(err(&none).contains("there is no row 9; the rows are numbered 0 to 3"), "{}", err(&none));

    let text = out(&data(&folder, &["rows", "rows.jsonl", "--lang", "zh"]));
    assert!(text.starts_with("1 of 4 rows\n") && text.contains("小明") && !text.contains("sum"), "{text}");
    let text = out(&data(&folder, &["rows", "rows.jsonl", "--longer", "50", "--limit", "1"]));
    assert!(text.starts_with("2 of 4 rows\n"), "{text}");
    assert!(
        text.contains("the longest of these") && text.contains("and 1 more"),
        "the longest first: {text}"
    );
    // A row has the number that --row takes.
    for selection in [&["--lang", "zh"][..], &["--longer", "50"], &["--sample", "2"]] {
        let shown = out(&data(&folder, &[&["rows", "rows.jsonl"], selection].concat()));
        let numbers: Vec<&str> =
            shown.lines().filter_map(|line| line.strip_prefix("row ")?.split(' ').next()).collect();
        assert!(!numbers.is_empty(), "{shown}");
        for number in numbers {
            let row = out(&data(&folder, &["rows", "rows.jsonl", "--row", number]));
            assert!(shown.contains(row.trim_end()), "{row} in {shown}");
        }
    }
    let sample = ["rows", "rows.jsonl", "--sample", "2", "--seed", "7"];
    let text = out(&data(&folder, &sample));
    assert!(text.starts_with("2 of 4 rows\n") && text.matches("[user]").count() == 2, "{text}");
    assert_eq!(text, out(&data(&folder, &sample)), "a seed says which");
    let table = out(&data(&folder, &["rows", "rows.jsonl"]));
    assert!(table.contains("4 rows · no problems") && table.contains("first user text"), "{table}");
}

#[test]
fn rows_with_problems_are_those_of_the_report_and_of_the_reader() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("rows.jsonl")).unwrap();
    std::fs::write(folder.path().join("rows.jsonl"), format!("{text}{{\"instruction\": \"cut\n")).unwrap();
    let shown = data(&folder, &["rows", "rows.jsonl", "--problems"]);
    assert_eq!(shown.status.code(), Some(1), "a record was rejected");
    let text = out(&shown);
    let parts = [
        "broken JSON: 1 rejected",
        "line 5",
        "unfilled placeholder: 1 kept",
        "line 3",
        "{{name}}",
        "trailing white space: 1 kept",
    ];
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    // In a folder, too.
    std::fs::create_dir(folder.path().join("all")).unwrap();
    std::fs::copy(folder.path().join("rows.jsonl"), folder.path().join("all/a.jsonl")).unwrap();
    put(&folder, "all/b.jsonl", &[row("Who?", "I, [Your Name].")]);
    let text = out(&data(&folder, &["rows", "all", "--problems"]));
    assert!(text.contains("b.jsonl, line 1") && text.contains("[Your Name]"), "{text}");
    // And by a pattern: the broken record as it stands in its file.
    let text = out(&data(&folder, &["rows", "all/*.jsonl", "--problems"]));
    assert!(text.contains("a.jsonl, line 5") && text.contains("{\"instruction\": \"cut"), "{text}");
}

#[test]
fn clean_says_what_each_step_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let long = "A farmer has seven fields, and on each of them grow twelve rows of eleven apple trees.";
    put(
        &folder,
        "in.jsonl",
        &[
            json!({"question": "1 + 1 = ?", "answer": "2", "level": 1}),
            json!({"question": "1 + 1 = ?", "answer": "2 ", "level": 1}),
            json!({"question": format!("{long} How many trees are there?"), "answer": "924"}),
            json!({"question": format!("{long} How many trees are there!"), "answer": "924"}),
        ],
    );
    let done =
        data(&folder, &["clean", "in.jsonl", "out.jsonl", "--fix", "trim", "--dedup", "--dedup-near", "0.8"]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let text = out(&done);
    let cells: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(cells[1], ["fix trim", "4", "4", "0"], "{text}");
    assert_eq!(cells[2], ["dedup", "4", "3", "1"], "{text}");
    assert_eq!(cells[3][1..], ["3", "2", "1"], "{text}");
    assert!(text.contains("2 rows, ") && text.contains("written to out.jsonl"), "{text}");
    // In the keys of the file, and with those that no schema knows.
    let rows = read(&folder, "out.jsonl");
    assert_eq!(rows[0], json!({"question": "1 + 1 = ?", "answer": "2", "level": 1}));
    assert_eq!(rows.len(), 2);
    let again = data(&folder, &["clean", "in.jsonl", "out.jsonl"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        err(&again).contains("out.jsonl: the file exists; choose another name, or say --overwrite"),
        "{}",
        err(&again)
    );
    let schema = data(&folder, &["clean", "in.jsonl", "out.jsonl", "--overwrite", "--layout", "schema"]);
    assert_eq!(schema.status.code(), Some(0), "{}", err(&schema));
    assert_eq!(read(&folder, "out.jsonl")[0]["prompt"], "1 + 1 = ?");
    let tokens = data(&folder, &["clean", "in.jsonl", "other.jsonl", "--max-tokens", "5"]);
    assert!(tokens.status.code() == Some(2) && err(&tokens).contains("--tokenizer"), "{}", err(&tokens));
}

#[test]
fn advice_is_for_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let rows = [
        json!({"prompt": "q", "completion": "a"}),
        json!({"prompt": "q", "completion": "b", "label": "maybe"}),
        json!({"messages": [turn("user", "q"), turn("user", "r"), turn("assistant", " ")]}),
        json!({"messages": [turn("assistant", "q"), turn("user", "r"), turn("assistant", "a")]}),
        json!({"prompt": "\nq", "completion": "same"}),
        json!({"prompt": "\nq", "completion": "same"}),
    ];
    put(&folder, "in.jsonl", &rows);
    let reported = data(&folder, &["report", "in.jsonl"]);
    let all = out(&reported) + &err(&reported);
    for part in [
        "--from prompt-completion",
        "--fix drop-empty-turns",
        "--fix drop-leading-assistant",
        "--fix trim",
        "--dedup",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
    for part in ["Fix::", "ReadOptions", "RowSchema::", "trim()", "dedup()"] {
        assert!(!all.contains(part), "{part} in {all}");
    }
    // The advice helps.
    let done =
        data(&folder, &["convert", "in.jsonl", "o.jsonl", "--to", "openai", "--from", "prompt-completion"]);
    assert!(out(&done).starts_with("4 rows"), "{}{}", out(&done), err(&done));
    // A path that is not there: the keys that are.
    put(&folder, "odd.jsonl", &[json!({"Frage": "q", "std_answer": "a"})]);
    let done = data(&folder, &["rows", "odd.jsonl", "--map", "user=Frgae,assistant=std_answer"]);
    let said = err(&done);
    assert!(
        said.contains("there is nothing at \"Frgae\"; the record's other keys are \"Frage\", \"std_answer\""),
        "{said}"
    );
    assert!(said.contains("--map"), "{said}");
}

#[test]
fn clean_counts_what_is_rejected_after_the_repairs() {
    let folder = tempfile::tempdir().unwrap();
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let trailing = json!({"messages": [turn("user", "q"), turn("assistant", "a"), turn("user", "r")]});
    let fine = json!({"messages": [turn("user", "Who?"), turn("assistant", "I.")]});
    put(&folder, "in.jsonl", &[fine.clone(), trailing.clone()]);
    let repaired = ["clean", "in.jsonl", "out.jsonl", "--fix", "drop-trailing-user", "--overwrite"];
    let done = data(&folder, &repaired);
    assert_eq!((done.status.code(), err(&done).as_str()), (Some(0), ""), "{}", out(&done));
    assert!(out(&done).contains("fix drop-trailing-user"), "{}", out(&done));
    assert_eq!(read(&folder, "out.jsonl").len(), 2);
    let strict = data(&folder, &[&repaired[..], &["--strict"]].concat());
    assert_eq!(strict.status.code(), Some(0), "{}", err(&strict));
    assert_eq!(read(&folder, "out.jsonl").len(), 2);
    let plain = data(&folder, &["clean", "in.jsonl", "plain.jsonl"]);
    assert_eq!(plain.status.code(), Some(1), "{}", err(&plain));
    // Where every row needs it, too; and a fault that no repair takes away is still one.
    put(&folder, "in.jsonl", std::slice::from_ref(&trailing));
    let done = data(&folder, &repaired);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    put(&folder, "in.jsonl", &[fine, trailing, json!({"messages": [turn("robot", "x")]})]);
    let done = data(&folder, &repaired);
    assert!(done.status.code() == Some(1) && err(&done).contains("1 record was rejected"), "{}", err(&done));
    assert_eq!(data(&folder, &[&repaired[..], &["--strict"]].concat()).status.code(), Some(2));
}

#[test]
fn rejected_records_are_said_with_every_choice_of_rows() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("rows.jsonl")).unwrap();
    std::fs::write(folder.path().join("rows.jsonl"), format!("{text}{{\"instruction\": \"cut\n")).unwrap();
    for choice in [&["--lang", "zh"][..], &["--longer", "5"], &["--sample", "2"], &[]] {
        let shown = data(&folder, &[&["rows", "rows.jsonl"], choice].concat());
        assert_eq!(shown.status.code(), Some(1), "{choice:?}");
        assert!(err(&shown).contains("1 record was rejected"), "{choice:?}: {}", err(&shown));
    }
}

#[test]
fn lines_are_those_of_their_own_file() {
    let folder = tempfile::tempdir().unwrap();
    for (name, cut) in [("d/x/rows.jsonl", "of x"), ("d/rows.jsonl", "of d"), ("d/a/rows.jsonl", "of a")] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{}\n{{\"instruction\": \"{cut}\n", row(name, "Yes."))).unwrap();
    }
    let text = out(&data(&folder, &["rows", "d/**/*.jsonl", "--problems"]));
    for cut in ["of x", "of d", "of a"] {
        assert_eq!(text.matches(&format!("{{\"instruction\": \"{cut}")).count(), 1, "{cut}: {text}");
    }
}

/// What makes a template take no system text.
const NO_SYSTEM: &str =
    "{% if messages[0].role == 'system' %}{{ raise_exception('No system text, please.') }}{% endif %}";

#[test]
fn rows_that_the_template_refuses_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let template = [NO_SYSTEM, CHATML].concat();
    Tiny { template: Some(&template), ..Tiny::default() }.write(&folder.path().join("model"));
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let system = json!({"messages": [turn("system", "s"), turn("user", "q"), turn("assistant", "a")]});
    let two = [turn("user", "q"), turn("assistant", "first"), turn("user", "r"), turn("assistant", "second")];
    put(&folder, "in.jsonl", &[json!({"messages": two}), system, row("Long?", &"very ".repeat(100))]);
    let counting = ["--tokenizer", "model", "--to", "openai"];
    let done =
        data(&folder, &[&["clean", "in.jsonl", "out.jsonl", "--max-tokens", "200"], &counting[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(read(&folder, "out.jsonl").len(), 1);
    for part in ["the chat template refuses 1 row: left out", "in.jsonl, line 2: ", "No system text, please."]
    {
        assert!(err(&done).contains(part), "{part} in {}", err(&done));
    }
    let step = "at most 200 tokens, 1 refused";
    assert!(out(&done).contains(step), "{}", out(&done));
    let longer = data(&folder, &["rows", "in.jsonl", "--longer", "200", "--tokenizer", "model"]);
    assert!(err(&longer).contains("in.jsonl, line 2: "), "{}", err(&longer));

    // What is trained on is told as a run would be.
    let trained = |choice: &[&str]| {
        let report =
            data(&folder, &[&["report", "out.jsonl", "--json", "--tokenizer", "model"], choice].concat());
        let json: Value =
            serde_json::from_str(&out(&report)).unwrap_or_else(|e| panic!("{e}: {}", err(&report)));
        let spreads = json["spreads"].as_array().unwrap();
        let of = spreads.iter().find(|spread| spread["of"] == "trained").unwrap();
        (of["lengths"]["total"].as_u64().unwrap(), json["tokens"]["total"].as_u64().unwrap())
    };
    let (first, second) = ("first".len() as u64 + 1, "second".len() as u64 + 1);
    assert_eq!(trained(&[]).0, first + second);
    assert_eq!(trained(&["--trained", "assistant"]).0, first + second);
    assert_eq!(trained(&["--trained", "last-assistant"]).0, second);
    let (all, tokens) = trained(&["--trained", "all"]);
    assert!(all + 1 >= tokens && all > first + second, "{all} of {tokens}");
    let alone = data(&folder, &["report", "out.jsonl", "--trained", "all"]);
    assert!(alone.status.code() == Some(2) && err(&alone).contains("--tokenizer"), "{}", err(&alone));
}

#[test]
fn a_map_opens_a_file_of_no_known_format() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [json!({"uid": "q-0001", "thema": {"frage": "1 + 1 = ?"}, "std_answer": "It is 2."})];
    put(&folder, "own.jsonl", &rows);
    let unknown = data(&folder, &["report", "own.jsonl"]);
    assert_eq!(unknown.status.code(), Some(2));
    let flag = "--map user=thema.frage,assistant=std_answer";
    let code = "Dataset::open_as(path, Map::new().user(\"thema.frage\").assistant(\"std_answer\"))";
    assert!(err(&unknown).contains(flag) && err(&unknown).contains(code), "{}", err(&unknown));
    let map = ["--map", "user=thema.frage,assistant=std_answer,id=uid"];
    let shown = data(&folder, &[&["rows", "own.jsonl", "--row", "0"], &map[..]].concat());
    assert!(out(&shown).contains("[user] 1 + 1 = ?\n[assistant] It is 2."), "{}{}", out(&shown), err(&shown));
    let done = data(&folder, &[&["convert", "own.jsonl", "out.jsonl", "--to", "openai"], &map[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(read(&folder, "out.jsonl")[0]["messages"][1]["content"], "It is 2.");
    for command in [&["report", "own.jsonl"][..], &["clean", "own.jsonl", "clean.jsonl", "--to", "openai"]] {
        assert_eq!(data(&folder, &[command, &map[..]].concat()).status.code(), Some(0), "{command:?}");
    }
    let wrong = data(&folder, &["report", "own.jsonl", "--map", "user=a,bot=b"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("\"bot=b\" is no part of a map: there is no \"bot\""), "{}", err(&wrong));
    let turns = json!({"log": [{"who": "me", "said": "Hi"}, {"who": "it", "said": "Hello"}]});
    put(&folder, "log.jsonl", &[turns]);
    let map = "messages=log,role_key=who,content_key=said,role.me=user,role.it=assistant";
    let shown = data(&folder, &["rows", "log.jsonl", "--row", "0", "--map", map]);
    assert!(out(&shown).contains("[user] Hi\n[assistant] Hello"), "{}", err(&shown));
    // Training takes it too, and names the file that it cannot use with it.
    let train = command(
        &folder,
        &["train", "r", "--model", "none.gguf", "--data", "log.jsonl", "--map", "user=q,assistant=a"],
    )
    .output()
    .unwrap();
    assert!(
        train.status.code() == Some(2) && err(&train).contains("there is nothing at \"q\""),
        "{}",
        err(&train)
    );
}

#[test]
fn layouts_are_kept_or_not() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "in.jsonl", &[json!({"question": "q", "answer": "a"})]);
    for (layout, key) in [("keep", "question"), ("schema", "prompt")] {
        let done = data(
            &folder,
            &[
                "convert",
                "in.jsonl",
                "out.jsonl",
                "--to",
                "prompt-completion",
                "--layout",
                layout,
                "--overwrite",
            ],
        );
        assert_eq!(done.status.code(), Some(0), "{}", err(&done));
        assert_eq!(read(&folder, "out.jsonl")[0][key], "q", "{layout}");
    }
    let wrong = data(&folder, &["convert", "in.jsonl", "out.jsonl", "--to", "text", "--layout", "odd"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn the_report_as_json_has_all_places_and_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Value> =
        (0..12).map(|n| row(&format!("Who are you, number {n}?"), "I am {{name}}.")).collect();
    put(&folder, "rows.jsonl", &rows);
    let report = data(&folder, &["report", "rows.jsonl", "--json"]);
    let json: Value = serde_json::from_str(&out(&report)).unwrap();
    let problem = json["problems"].as_array().unwrap().iter().find(|p| p["kind"] == "placeholder").unwrap();
    let numbers: Vec<u32> = (1..=12).collect();
    assert_eq!(
        problem["places"],
        json!([{"file": "rows.jsonl", "lines": numbers, "records": numbers, "rows": (0..12).collect::<Vec<u32>>()}])
    );
}

/// The commands that print an answer and need no model.
fn answers(folder: &TempDir) -> Vec<Vec<&'static str>> {
    put(
        folder,
        "rows.jsonl",
        &(0..40).map(|n| row(&format!("{n} + 1 = ?"), &format!("{}", n + 1))).collect::<Vec<_>>(),
    );
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false}"#,
    )
    .unwrap();
    vec![
        vec!["data", "report", "rows.jsonl"],
        vec!["data", "report", "rows.jsonl", "--json"],
        vec!["data", "rows", "rows.jsonl", "--sample", "3"],
        vec!["data", "convert", "rows.jsonl", "o1.jsonl", "--to", "openai", "--overwrite"],
        vec!["data", "clean", "rows.jsonl", "o2.jsonl", "--dedup", "--overwrite"],
        vec!["data", "split", "rows.jsonl", "o3.jsonl", "o4.jsonl", "--fraction", "0.5", "--overwrite"],
        vec!["data", "generate", "o5.jsonl", "--rows", "5", "--overwrite"],
        vec!["plan", "config.json"],
        vec!["--help"],
        vec!["data", "rows", "--help"],
        vec!["--version"],
    ]
}

#[test]
fn an_answer_that_cannot_be_written_is_a_code_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in answers(&folder) {
        let heard = command(&folder, &arguments).output().unwrap();
        assert_eq!(heard.status.code(), Some(0), "{arguments:?}: {}", err(&heard));
        assert!(!heard.stdout.is_empty() && heard.stderr.is_empty(), "{arguments:?}: {}", err(&heard));
        if Path::new("/dev/full").exists() {
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            let unheard = command(&folder, &arguments).stdout(full).output().unwrap();
            assert_eq!(unheard.status.code(), Some(3), "{arguments:?}: {}", err(&unheard));
            assert!(
                err(&unheard).starts_with("lorascope: the answer cannot be written: "),
                "{}",
                err(&unheard)
            );
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = command(&folder, &arguments).stdout(writer).output().unwrap();
        assert_eq!((closed.status.code(), err(&closed).as_str()), (Some(3), ""), "{arguments:?}");
    }
    // What was done stays done.
    assert_eq!(read(&folder, "o1.jsonl").len(), 40);
}

#[test]
fn progress_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let done = data(&folder, &["generate", "big.jsonl", "--rows", "60000"]);
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(out(&done).lines().count(), 1, "{}", out(&done));
    let log = File::create(folder.path().join("log")).unwrap();
    let report = command(&folder, &["data", "report", "big.jsonl", "--json"])
        .stderr(Stdio::from(log))
        .output()
        .unwrap();
    assert!(serde_json::from_slice::<Value>(&report.stdout).is_ok(), "only JSON");
}
