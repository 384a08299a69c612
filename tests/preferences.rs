//! Preferences: faults of prompts and answers, and their repairs.

#[path = "common/files.rs"]
mod files;

use files::Files;
use lorascope::dataset::{
    Dataset, Existing, Fix, Fixes, ReadOptions, RowSchema, WriteOptions, convert,
};
use serde_json::{Value as Json, json};

fn user(text: &str) -> Json {
    json!({"role": "user", "content": text})
}

fn says(text: &str) -> Json {
    json!({"role": "assistant", "content": text})
}

/// The row as a preference, with lists of turns; and what was noted.
fn mended(files: &Files, row: &Json, fixes: Fixes) -> Result<(Json, Vec<String>), String> {
    let options = ReadOptions { fixes, ..Default::default() };
    let path = files.put("row.jsonl", row.to_string());
    let data = Dataset::open_with(&path, &options).map_err(|error| error.to_string())?;
    let writing = WriteOptions { existing: Existing::Replace, ..Default::default() };
    data.write_with(files.path("out.jsonl"), RowSchema::Preference, &writing).unwrap();
    let out = std::fs::read_to_string(files.path("out.jsonl")).unwrap();
    convert(&path, files.path("out.jsonl"), RowSchema::Preference, &options, &writing).unwrap();
    assert_eq!(std::fs::read_to_string(files.path("out.jsonl")).unwrap(), out);
    let problems = data.problems().unwrap();
    let column =
        |name: &str, n: usize| problems.column(name).unwrap().str().unwrap().get(n).unwrap().to_string();
    let noted = (0..problems.height()).map(|n| format!("{}: {}", column("row", n), column("what", n)));
    Ok((serde_json::from_str(&out).unwrap(), noted.collect()))
}

#[test]
fn turns_of_one_speaker_are_said_and_merged() {
    let files = Files::new();
    for (row, what, merged) in [
        (
            json!({"prompt": [user("q"), user("r")], "chosen": [says("a")], "rejected": [says("b")]}),
            "turns 1 and 2 are both of the role user",
            json!({"prompt": "q\nr", "chosen": "a", "rejected": "b"}),
        ),
        (
            json!({"prompt": [user("q")], "chosen": [says("a"), says("b")], "rejected": [says("c")]}),
            "chosen: turns 2 and 3 are both of the role assistant",
            json!({"prompt": "q", "chosen": "a\nb", "rejected": "c"}),
        ),
        (
            json!({"prompt": "q", "chosen": "c", "rejected": [says("a"), says("b")]}),
            "rejected: turns 2 and 3 are both of the role assistant",
            json!({"prompt": "q", "chosen": "c", "rejected": "a\nb"}),
        ),
        (
            json!({"chosen": [user("q"), user("r"), says("a")], "rejected": [user("q"), user("r"), says("b")]}),
            "turns 1 and 2 are both of the role user",
            json!({"prompt": "q\nr", "chosen": "a", "rejected": "b"}),
        ),
    ] {
        let (_, noted) = mended(&files, &row, Fixes::default()).unwrap();
        assert_eq!(noted, [format!("kept: {what}")], "{row}");
        let (out, noted) = mended(&files, &row, Fix::MergeSameRole.into()).unwrap();
        assert_eq!(out, merged, "{row}");
        assert!(noted.len() == 1 && noted[0].starts_with("repaired: turns "), "{noted:?}");
    }
    // Between a prompt and its answers nothing can be merged.
    let row = json!({"prompt": [user("q"), says("a")], "chosen": [says("b")], "rejected": [says("c")]});
    for fixes in [Fixes::default(), Fix::MergeSameRole.into()] {
        let (_, noted) = mended(&files, &row, fixes).unwrap();
        assert_eq!(noted, ["kept: turns 2 and 3 are both of the role assistant"]);
    }
}

#[test]
fn repairs_that_are_advised_help() {
    let files = Files::new();
    let all = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
    for (row, advice, fix) in [
        (
            json!({"prompt": [user("q")], "chosen": [says("a"), user("x")], "rejected": [says("b")]}),
            "chosen: the last turn is of the role user; Fix::DropTrailingUser",
            Fix::DropTrailingUser,
        ),
        (
            json!({"prompt": [user("q")], "chosen": [says("a")], "rejected": [says("b"), user("x"), user("y")]}),
            "rejected: the last turn is of the role user; Fix::DropTrailingUser",
            Fix::DropTrailingUser,
        ),
        (
            json!({"prompt": [says("hi"), user("q")], "chosen": [says("a")], "rejected": [says("b")]}),
            "chosen: the first turn is of the role assistant; Fix::DropLeadingAssistant",
            Fix::DropLeadingAssistant,
        ),
        (
            json!({"chosen": [says("hi"), user("q"), says("a")], "rejected": [says("hi"), user("q"), says("b")]}),
            "chosen: the first turn is of the role assistant; Fix::DropLeadingAssistant",
            Fix::DropLeadingAssistant,
        ),
        (
            json!({"prompt": [user("q"), says(" ")], "chosen": [says("a")], "rejected": [says("b"), says("")]}),
            "chosen: turn 2 of 3 says nothing",
            Fix::DropEmptyTurns,
        ),
    ] {
        let error = mended(&files, &row, Fixes::default()).unwrap_err();
        assert!(error.contains(advice), "{row}: {error}");
        let (out, noted) = mended(&files, &row, fix.into()).unwrap();
        assert_eq!(out, all, "{row}");
        assert!(noted.len() == 1 && noted[0].starts_with("repaired: "), "{noted:?}");
    }
    // An answer that says nothing cannot be repaired.
    let row = json!({"prompt": "q", "chosen": "a", "rejected": " "});
    assert!(mended(&files, &row, Fixes::all()).unwrap_err().contains("rejected: "));
}
