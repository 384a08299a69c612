//! Preferences: faults of prompts and answers and their repairs, and prompts that hold an answer already.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Fix, Fixes, Layout, ReadOptions, RowSchema, WriteOptions, convert};
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
    let noted = (0..problems.height()).map(|n| format!("{}: {}", column("outcome", n), column("what", n)));
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

/// The row in its own layout, and as it is by default.
fn read(row: &Json) -> (Json, Vec<String>) {
    let files = Files::new();
    let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("again.jsonl"), RowSchema::Preference, &keep).unwrap();
    let again = std::fs::read_to_string(files.path("again.jsonl")).unwrap();
    assert_eq!(serde_json::from_str::<Json>(&again).unwrap(), *row);
    data.write(files.path("out.jsonl"), RowSchema::Preference).unwrap();
    let out = serde_json::from_str(&std::fs::read_to_string(files.path("out.jsonl")).unwrap()).unwrap();
    (out, data.conversation(0).unwrap().iter().map(|m| m.text().to_string()).collect())
}

#[test]
fn a_prompt_that_holds_an_answer_is_cut_before_it() {
    let (q, a, b) = (user("q"), says("a"), says("b"));
    let (r, c, d) = (user("r"), says("c"), says("d"));
    let system = json!({"role": "system", "content": "S"});
    let one = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
    let old = |role: &str, text: &str| json!({"from": role, "value": text});
    for (row, right) in [
        (json!({"messages": [q, a], "chosen": [q, a], "rejected": [q, b]}), one.clone()),
        (json!({"messages": [q, b], "chosen": [q, a], "rejected": [q, b]}), one.clone()),
        (json!({"prompt": [q, a], "chosen": [a], "rejected": [b]}), one.clone()),
        (json!({"prompt": [q, a], "chosen": "a", "rejected": "b"}), one.clone()),
        (json!({"prompt": [q, b], "chosen": "a", "rejected": "b"}), one.clone()),
        (
            json!({"conversations": [old("human", "q"), old("gpt", "a")], "chosen": old("gpt", "a"), "rejected": old("gpt", "b")}),
            one.clone(),
        ),
        (
            json!({"messages": [q, a, r, c], "chosen": [q, a, r, c], "rejected": [q, a, r, d]}),
            json!({"prompt": [q, a, r], "chosen": [c], "rejected": [d]}),
        ),
        (
            json!({"messages": [q, a, r, c], "chosen": [q, a, r, c], "rejected": [q, b]}),
            json!({"prompt": [q], "chosen": [a, r, c], "rejected": [b]}),
        ),
        (
            json!({"messages": [system, q, a], "chosen": [system, q, a], "rejected": [system, q, b]}),
            json!({"prompt": [system, q], "chosen": [a], "rejected": [b]}),
        ),
        // What stands beside the repeated answer stays where it is.
        (
            json!({"messages": [q, {"role": "assistant", "content": "a", "mood": 1}], "chosen": [q, a], "rejected": [q, b]}),
            one.clone(),
        ),
        // A prompt alone, and an answer that is another one.
        (
            json!({"messages": [q, a, r], "chosen": [c], "rejected": [d]}),
            json!({"prompt": [q, a, r], "chosen": [c], "rejected": [d]}),
        ),
    ] {
        let (out, said) = read(&row);
        assert_eq!(out, right, "{row}");
        assert!(said.iter().filter(|text| *text == "q").count() == 1, "{row}: {said:?}");
    }
}

#[test]
fn a_held_answer_with_keys_of_its_own_stays_and_is_said() {
    let held = json!({"role": "assistant", "content": "A", "weight": 0, "name": "n"});
    let row = json!({"prompt": [user("q"), held], "chosen": "A", "rejected": "B"});
    let (out, noted) = mended(&Files::new(), &row, Fixes::default()).unwrap();
    assert_eq!(out["prompt"][1], held);
    assert!(noted.iter().any(|note| note.contains("the prompt ends with the answer itself")), "{noted:?}");
}

#[test]
fn a_history_before_a_transcript_is_written_with_its_own_turns() {
    let talk = |end: &str| format!("\n\nHuman: q1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant: {end}");
    let row =
        json!({"prompt": talk("x"), "chosen": talk("x"), "rejected": talk("y"), "history": [["h1", "h2"]]});
    let files = Files::new();
    let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
    let said: Vec<String> = data.conversation(0).unwrap().iter().map(|m| m.text().to_string()).collect();
    assert_eq!(said, ["h1", "h2", "q1", "a1", "q2", "x"]);
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("kept.jsonl"), RowSchema::Preference, &keep).unwrap();
    let kept: Json =
        serde_json::from_str(&std::fs::read_to_string(files.path("kept.jsonl")).unwrap()).unwrap();
    assert_eq!(kept, row);
}

#[test]
fn transcripts_that_repeat_their_prompt_are_cut_after_it() {
    let answer = |text: &str| format!("\n\nHuman: hi\n\nAssistant: {text}");
    let right = json!({"prompt": "hi", "chosen": "a", "rejected": "b"});
    for prompt in [
        "\n\nHuman: hi\n\nAssistant:",
        "hi",
        "hi ",
        "\n\nHuman: hi\n\nAssistant: a",
        "\n\nHuman: hi\n\nAssistant: b",
    ] {
        for key in ["prompt", "question"] {
            let row = json!({key: prompt, "chosen": answer("a"), "rejected": answer("b")});
            let (mut out, _) = read(&row);
            out["prompt"] = out["prompt"].as_str().unwrap().trim().into();
            assert_eq!(out, right, "{row}");
        }
    }
    // The answers have more in common than the prompt.
    let more = |text: &str| format!("{}\n\nHuman: more\n\nAssistant: {text}", answer("yo"));
    let row = json!({"prompt": "\n\nHuman: hi\n\nAssistant:", "chosen": more("a"), "rejected": more("b")});
    assert_eq!(read(&row).1, ["hi", "yo", "more", "a"]);
    // Another prompt is no beginning of theirs.
    let row = json!({"prompt": "other", "chosen": answer("a"), "rejected": answer("b")});
    assert_eq!(read(&row).1, ["other".to_string(), answer("a")]);
}
