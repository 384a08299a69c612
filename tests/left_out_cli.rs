//! What `lorascope train` says of rows that are not trained on: each with its file, line and reason.
#![cfg(feature = "cli")]

#[path = "common/command.rs"]
mod command;
#[path = "common/llama.rs"]
mod llama;
#[path = "common/tiny.rs"]
mod tiny;

use command::{command, err, out};
use serde_json::json;
use tempfile::TempDir;
use tiny::Tiny;

/// Refuses what does not alternate, in many words.
const ALTERNATE: &str = "{%- for m in messages %}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant, which is what this template was made for; the row that it was given has two turns of one side after each other, and what a model learns of such a row nobody knows, so that it is refused as a whole and not in parts, which would be worse') }}{%- endif %}{{- '<|im_start|>' + m.role + ' ' + m.content + '<|im_end|>' }}{%- endfor %}";

fn place() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let tiny = Tiny { template: Some(ALTERNATE), ..Tiny::default() };
    tiny.write(&model);
    folder
}

fn pair(question: &str, answer: &str) -> serde_json::Value {
    json!({"prompt": question, "completion": answer})
}

fn train(folder: &TempDir, arguments: &[&str]) -> std::process::Output {
    let usual = ["train", "run", "--model", "model", "--steps", "1", "--batch", "2", "--overwrite"];
    command(folder, &[&usual, arguments].concat()).output().unwrap()
}

#[test]
fn rows_that_are_left_out_are_named_with_their_reasons() {
    let folder = place();
    let twice = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]});
    let mut text: String = (0..3).map(|n| format!("{}\n", pair(&format!("{n}?"), "yes"))).collect();
    text += "{\"prompt\": \"broken\n";
    text += &format!("{}\n{twice}\n", pair(&"long ".repeat(60), "yes"));
    text += "{\"prompt\": \"x\", \"completion\": \"y\", \"label\": false}\n";
    text += &"{\"prompt\": \"x\", \"completion\": \"y\", \"label\": \"perhaps\"}\n".repeat(14);
    std::fs::write(folder.path().join("rows.jsonl"), text).unwrap();
    let done = train(&folder, &["--data", "rows.jsonl", "--context", "120"]);
    let said = err(&done);
    // What can be trained on is: that is no failure.
    assert_eq!(done.status.code(), Some(0), "{said}");
    for line in [
        "rejected by the reader: 15",
        "rows.jsonl, line 4: broken JSON",
        "rows.jsonl, line 8: label not read",
        "  and 5 more; lorascope data report FILE has all lines",
        "too long: 1",
        "rows.jsonl, line 5: ",
        "refused by the chat template: 1",
        "rows.jsonl, line 6: ",
        "as a whole and not in parts, which would be worse",
        "labelled bad: 1",
        "rows.jsonl, line 7",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // Nothing of a note is cut.
    let answer = out(&done);
    assert!(
        answer.contains("trained on 3 of 21 records") && answer.contains("which would be worse"),
        "{answer}"
    );
    assert!(answer.lines().all(|line| !line.trim_end().ends_with('…')), "{answer}");
    assert!(answer.contains("--context N, or context = N in the file"), "{answer}");
    // Strict, the first of them ends it, and nothing is begun.
    let strict = train(&folder, &["--data", "rows.jsonl", "--strict"]);
    assert_eq!(strict.status.code(), Some(2));
    assert!(err(&strict).contains("rows.jsonl, line 4"), "{}", err(&strict));
}

#[test]
fn lists_of_rows_are_chosen_and_the_others_said() {
    let folder = place();
    let both = json!({"train": [pair("1?", "yes"), pair("2?", "no")], "test": [pair("3?", "yes")]});
    std::fs::write(folder.path().join("both.json"), both.to_string()).unwrap();
    let done = train(&folder, &["--data", "both.json"]);
    let second = "both.json: the file has a second list of rows, `test` (1 row), which is not read";
    assert!(err(&done).contains(second), "{}", err(&done));
    assert!(out(&done).contains("2 to train on"), "{}", out(&done));
    let lists = ["--data", "both.json", "--list", "train", "--eval", "both.json", "--eval-list", "test"];
    let done = train(&folder, &lists);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(!err(&done).contains("second list"), "{}", err(&done));
    assert!(out(&done).contains("2 to train on") && out(&done).contains("1 row"), "{}", out(&done));
    let none = train(&folder, &["--data", "both.json", "--list", "valid"]);
    assert!(
        none.status.code() == Some(2) && err(&none).contains("no list of rows `valid`"),
        "{}",
        err(&none)
    );
}
