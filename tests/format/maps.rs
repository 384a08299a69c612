//! Files of no known schema by a map: what stands beside the turns that it names.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Map, ReadOptions, RowSchema, WriteOptions, convert};
use serde_json::{Value as Json, json};

fn open(files: &Files, row: &Json, map: &str) -> Dataset {
    Dataset::open_as(files.put("row.jsonl", row.to_string()), map.parse::<Map>().unwrap()).unwrap()
}

fn label(data: &Dataset) -> Option<bool> {
    data.frame().unwrap().collect().unwrap().column("label").unwrap().bool().unwrap().get(0)
}

#[test]
fn marks_count_wherever_the_map_points() {
    let files = Files::new();
    for mark in ["\"weight\":0", "\"train\":false", "\"loss_mask\":\"0\"", "\"masked\":true"] {
        let marked = |row: &str| -> Json { serde_json::from_str(&row.replace("MARK", mark)).unwrap() };
        // A text has no turns: it is left out as a whole.
        for (row, map) in [
            (r#"{"doc":"a text","MARK"}"#, "text=doc"),
            (r#"{"doc":{"body":"a text","MARK"}}"#, "text=doc.body"),
        ] {
            let row = marked(&row.replace("\"MARK\"", "MARK"));
            let data = open(&files, &row, map);
            assert_eq!(label(&data), Some(false), "{row}");
            let error = data.write(files.path("none.jsonl"), RowSchema::Text).unwrap_err().to_string();
            assert!(error.contains("marked as not to be learned"), "{error}");
        }
        for (row, map) in [
            (r#"{"q":"x","a":"y",MARK}"#, "user=q,assistant=a"),
            (r#"{"q":{"text":"x"},"a":{"text":"y",MARK}}"#, "user=q.text,assistant=a.text"),
            (r#"{"pair":{"q":"x","a":"y",MARK}}"#, "user=pair.q,assistant=pair.a"),
            (r#"{"pairs":[{"q":"x","a":"y",MARK}]}"#, "user=pairs.0.q,assistant=pairs.0.a"),
            (r#"{"pair":{"q":"x","a":{"text":"y"},MARK}}"#, "user=pair.q,assistant=pair.a.text"),
            (r#"{"log":["x","y"],MARK}"#, "messages=log"),
            (r#"{"talk":{"log":["x","y"],MARK}}"#, "messages=talk.log"),
        ] {
            let row = marked(row);
            let data = open(&files, &row, map);
            let trained: Vec<bool> = data.conversation(0).unwrap().iter().map(|m| m.is_trained()).collect();
            assert_eq!(trained, [false, false], "{row}");
            // The mark is in the turn, and so nothing is lost by writing it.
            assert!(data.losses(RowSchema::OpenAi).unwrap().lost.is_empty(), "{row}");
            assert_eq!(data.losses(RowSchema::Alpaca).unwrap().labelled_bad, 1, "{row}");
        }
    }
    // An object around one turn may say how much, and what cannot be read is said.
    let half = open(&files, &json!({"q": "x", "a": {"text": "y", "weight": 0.5}}), "user=q,assistant=a.text");
    assert_eq!(half.conversation(0).unwrap()[1].weight, Some(0.5));
    for (row, what) in [
        (json!({"q": "x", "a": {"text": "y", "loss_mask": "some"}}), "`a.loss_mask` is the text \"some\""),
        (json!({"q": "x", "a": {"text": "y"}, "loss_mask": [1]}), "`loss_mask` is a list"),
    ] {
        let data = open(&files, &row, "user=q,assistant=a.text");
        let problems = data.problems().unwrap();
        let said = problems.column("what").unwrap().str().unwrap().get(0).unwrap().to_string();
        assert!(said.starts_with(what) && said.contains("they are"), "{said}");
    }
    // What stands elsewhere is another thing.
    let other = json!({"q": "x", "a": "y", "meta": {"id": "7", "weight": 0}, "loss": "mse"});
    let data = open(&files, &other, "user=q,assistant=a,id=meta.id");
    assert!(data.conversation(0).unwrap()[1].is_trained());
    assert_eq!(data.problems().unwrap().height(), 0);
}

#[test]
fn id_system_and_tools_are_read_under_their_usual_keys() {
    let files = Files::new();
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let messages = [json!({"role": "user", "content": "x"}), json!({"role": "assistant", "content": "y"})];
    for (row, map) in [
        (json!({"q": "x", "a": "y", "tools": tools, "id": "x1", "system": "S"}), "user=q,assistant=a"),
        (json!({"log": messages, "tools": tools, "system": "S", "id": "x1"}), "messages=log"),
        (
            json!({"ID": "x1", "log": messages, "Tools": tools.to_string(), "system_prompt": "S"}),
            "messages=log",
        ),
    ] {
        let data = open(&files, &row, map);
        let parsed: Json = serde_json::from_str(&data.tools(0).unwrap().unwrap()).unwrap();
        assert_eq!(parsed, tools, "{row}");
        assert_eq!(data.conversation(0).unwrap()[0].text(), "S", "{row}");
        let options = ReadOptions { map: Some(map.parse().unwrap()), ..Default::default() };
        let out = files.path("out.jsonl");
        let writing = WriteOptions { existing: lorascope::format::Existing::Replace, ..Default::default() };
        let done = convert(files.path("row.jsonl"), &out, RowSchema::OpenAi, &options, &writing).unwrap();
        assert!(done.written.lost.is_empty(), "{done}");
        let out: Json = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
        assert_eq!((&out["id"], &out["tools"]), (&json!("x1"), &tools), "{row}");
    }
    // What the map takes is what it says, and a system's turn stands before a key.
    let row = json!({"q": "x", "a": "y", "system": "S", "persona": "P", "id": 7, "n": 8});
    let data = open(&files, &row, "user=q,assistant=a,system=persona,id=n");
    assert_eq!(data.conversation(0).unwrap()[0].text(), "P");
    let lost = data.losses(RowSchema::OpenAi).unwrap().lost;
    assert_eq!(lost.keys().collect::<Vec<_>>(), ["`id`", "`system`"]);
    let row = json!({"log": [{"role": "system", "content": "T"}, messages[0], messages[1]], "system": "S"});
    assert_eq!(open(&files, &row, "messages=log").conversation(0).unwrap()[0].text(), "T");
    // Nothing is none, and what is no list of tools is said.
    let row = json!({"q": "x", "a": "y", "system": " ", "tools": null, "id": null});
    let data = open(&files, &row, "user=q,assistant=a");
    assert_eq!(data.conversation(0).unwrap().len(), 2);
    assert!(data.losses(RowSchema::OpenAi).unwrap().is_empty());
    let data = open(&files, &json!({"q": "x", "a": "y", "tools": "weather"}), "user=q,assistant=a");
    let problems = data.problems().unwrap();
    let said = problems.column("what").unwrap().str().unwrap().get(0).unwrap().to_string();
    assert!(said.contains("`tools` is a text that is no JSON"), "{said}");
    // Other values by these names are keys like any other.
    let data = open(&files, &json!({"q": "x", "a": "y", "tools": 3, "id": [1]}), "user=q,assistant=a");
    let lost = data.losses(RowSchema::OpenAi).unwrap().lost;
    assert_eq!(lost.keys().collect::<Vec<_>>(), ["`id`", "`tools`"]);
}
