//! What a row carries along of another format, after it was edited by hand or went through other programs.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Extra, Layout, RowSchema, WriteOptions, convert};
use serde_json::{Value as Json, json};

const KEEP: WriteOptions = WriteOptions {
    extra: Extra::Keep,
    layout: Layout::Keep,
    misfits: lorascope::format::Misfits::Fail,
    existing: Existing::Replace,
};

/// A row as it is written in another schema, with what that cannot hold.
fn there(files: &Files, row: &Json, schema: RowSchema) -> Json {
    let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
    data.write_with(files.path("there.jsonl"), schema, &KEEP).unwrap();
    serde_json::from_str(&std::fs::read_to_string(files.path("there.jsonl")).unwrap()).unwrap()
}

/// The row again in its first schema, and what was noted.
fn back(files: &Files, there: &Json, schema: RowSchema) -> (Json, Vec<String>) {
    let data = Dataset::open(files.put("edited.jsonl", there.to_string())).unwrap();
    assert_eq!(data.len(), 1, "{there}");
    data.write_with(files.path("back.jsonl"), schema, &KEEP).unwrap();
    let problems = data.problems().unwrap();
    let column = |name: &str| {
        let column = problems.column(name).unwrap().str().unwrap().clone();
        column.iter().map(|text| text.unwrap().to_string()).collect::<Vec<String>>()
    };
    let noted = column("kind").into_iter().zip(column("outcome")).zip(column("what"));
    let noted = noted.filter(|((kind, _), _)| kind == "edited since").map(|((_, outcome), what)| {
        assert_eq!(outcome, "kept");
        what
    });
    let back = serde_json::from_str(&std::fs::read_to_string(files.path("back.jsonl")).unwrap()).unwrap();
    (back, noted.collect())
}

fn called() -> Json {
    let call = json!({"id": "c00000001", "type": "function", "function": {"name": "g", "arguments": "{}"}});
    json!({"messages": [
        {"role": "user", "content": "first"}, {"role": "assistant", "content": "one", "weight": 0.5},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "let me see", "tool_calls": [call]},
        {"role": "tool", "content": "r", "tool_call_id": "c00000001"},
        {"role": "assistant", "content": "done", "reasoning_content": "hm"},
    ]})
}

#[test]
fn nothing_is_noted_of_what_was_not_edited() {
    let files = Files::new();
    let there = there(&files, &called(), RowSchema::ShareGpt);
    assert_eq!(back(&files, &there, RowSchema::OpenAi), (called(), vec![]));
    // In other containers, and as other programs write it: more white space, keys in their own order.
    for name in ["there.json", "there.parquet", "there.csv"] {
        let data = Dataset::open(files.path("row.jsonl")).unwrap();
        data.write_with(files.path(name), RowSchema::ShareGpt, &KEEP).unwrap();
        let again = Dataset::open(files.path(name)).unwrap();
        assert_eq!(again.problems().unwrap().height(), 0, "{name}: {:?}", again.problems());
        assert_eq!(again.conversation(0).unwrap(), data.conversation(0).unwrap(), "{name}");
    }
    let pretty = serde_json::to_string_pretty(&there).unwrap();
    let data = Dataset::open(files.put("pretty.json", format!("[{pretty}]"))).unwrap();
    assert_eq!(data.problems().unwrap().height(), 0, "{:?}", data.problems());
}

#[test]
fn turns_that_were_taken_out_get_nothing_of_others() {
    let files = Files::new();
    let mut there = there(&files, &called(), RowSchema::ShareGpt);
    there["conversations"].as_array_mut().unwrap().drain(..2);
    let (back, noted) = back(&files, &there, RowSchema::OpenAi);
    let messages = back["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[3]["content"]), (4, &json!("done")), "{back}");
    assert!(messages[3].get("tool_calls").is_none(), "{back}");
    assert_eq!(
        noted,
        [
            "the row has 4 turns, and 6 when its key `lorascope` was written: what that key carries for turns and answers is ignored"
        ]
    );
    // Said by a conversion, too.
    let done = convert(
        files.path("edited.jsonl"),
        files.path("done.jsonl"),
        RowSchema::OpenAi,
        &Default::default(),
        &Default::default(),
    );
    assert!(done.unwrap().to_string().contains("edited since: the row has 4 turns"));
}

#[test]
fn an_edited_turn_stays_as_it_was_edited() {
    let files = Files::new();
    let first = there(&files, &called(), RowSchema::ShareGpt);
    let edit = |turn: usize, key: &str, value: Json| {
        let mut there = first.clone();
        there["conversations"][turn][key] = value;
        back(&files, &there, RowSchema::OpenAi)
    };
    let noted = |turn: usize| {
        vec![format!(
            "turn {turn} changed since the row's key `lorascope` was written: what that key carries for it is ignored"
        )]
    };
    let (row, told) = edit(3, "value", json!(r#"{"name": "h", "arguments": {}}"#));
    assert_eq!(row["messages"][3]["tool_calls"][0]["function"]["name"], "h", "{row}");
    assert_eq!(told, noted(4));
    // What is carried of other turns is theirs still.
    assert_eq!(row["messages"][4]["tool_call_id"], "c00000001");
    let (row, told) = edit(1, "weight", json!(0));
    assert_eq!((row["messages"][1]["weight"].as_f64(), told), (Some(0.0), noted(2)));
    let (row, told) = edit(5, "reasoning_content", json!("ah"));
    assert_eq!((&row["messages"][5]["reasoning_content"], told), (&json!("ah"), noted(6)));
    let (row, told) = edit(1, "from", json!("human"));
    assert_eq!((&row["messages"][1]["role"], told), (&json!("user"), noted(2)));
    // A turn of which nothing is carried may be edited.
    let (row, told) = edit(2, "value", json!("other"));
    assert_eq!((&row["messages"][2]["content"], told), (&json!("other"), vec![]));
}

#[test]
fn what_stands_beside_the_turns_is_not_overwritten() {
    let files = Files::new();
    let pair = [json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "a"})];
    let system = json!({"role": "system", "content": "S", "name": "host"});
    let row = json!({"messages": [system, pair[0], pair[1]]});
    let mut alpaca = there(&files, &row, RowSchema::Alpaca);
    assert_eq!(back(&files, &alpaca, RowSchema::OpenAi), (row, vec![]));
    alpaca["system"] = "T".into();
    let (row, noted) = back(&files, &alpaca, RowSchema::OpenAi);
    assert_eq!(row["messages"][0], json!({"role": "system", "content": "T"}));
    assert!(noted[0].starts_with("the system's turn changed since"), "{noted:?}");
    // A blank system text that was carried takes no other's place.
    let row = json!({"system": " ", "instruction": "q", "input": "i", "output": "a"});
    let mut openai = there(&files, &row, RowSchema::OpenAi);
    openai["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "T"}));
    let data = Dataset::open(files.put("edited.jsonl", openai.to_string())).unwrap();
    assert_eq!(data.conversation(0).unwrap()[0].text(), "T");
    // Tools that were wrapped, and that were edited.
    let row = json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": r#"[{"name": "f"}]"#});
    let mut openai = there(&files, &row, RowSchema::OpenAi);
    assert_eq!(back(&files, &openai, RowSchema::ShareGpt).1, [""; 0]);
    openai["tools"] = json!([{"type": "function", "function": {"name": "h"}}]);
    let (row, noted) = back(&files, &openai, RowSchema::ShareGpt);
    assert!(row["tools"].as_str().unwrap().contains("\"h\""), "{row}");
    assert!(noted[0].starts_with("the list of tools changed since"), "{noted:?}");
    // A mark that was put beside the turns since counts.
    let mut marked = there(&files, &called(), RowSchema::ShareGpt);
    marked["weight"] = 0.into();
    let data = Dataset::open(files.put("marked.jsonl", marked.to_string())).unwrap();
    assert!(data.conversation(0).unwrap().iter().all(|message| !message.is_trained()));
    assert_eq!(data.problems().unwrap().height(), 0);
    // The rejected answer belongs to the turns that were there.
    let row = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
    let mut openai = there(&files, &row, RowSchema::OpenAi);
    assert_eq!(back(&files, &openai, RowSchema::Preference), (row, vec![]));
    openai["messages"].as_array_mut().unwrap().extend(pair);
    let data = Dataset::open(files.put("edited.jsonl", openai.to_string())).unwrap();
    assert_eq!(data.conversation(0).unwrap().len(), 4);
    assert_eq!(data.problems().unwrap().height(), 1);
    assert!(data.losses(RowSchema::OpenAi).unwrap().is_empty());
}

/// What a key `lorascope` holds may be anything: a layout that is none is left alone.
#[test]
fn a_layout_that_is_none_is_left_alone() {
    let turns = r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#;
    let pair = r#""instruction":"q","input":"","output":"a""#;
    let beside = r#"["x",{"=":1}]"#;
    for keys in ["[[]]", r#"[["chat"]]"#, r#"[["id"],[1,2],["id","id","id"]]"#, "[{}]"] {
        let keys = format!("{},{beside}]", &keys[..keys.len() - 1]);
        for (row, schema) in
            [(format!(r#""messages":{turns}"#), RowSchema::OpenAi), (pair.to_string(), RowSchema::Alpaca)]
        {
            let extra = format!(r#"{{"lorascope":{{"keys":{keys}}}}}"#);
            let carried = format!(r#"{{"source":"{}","extra":{extra}}}"#, schema.name());
            let files = Files::new();
            let path = files.put("row.jsonl", format!("{{{row},\"lorascope\":{carried}}}"));
            let data = Dataset::open(path).unwrap();
            for layout in [Layout::Schema, Layout::Keep] {
                let options = WriteOptions { layout, existing: Existing::Replace, ..Default::default() };
                data.write_with(files.path("out.jsonl"), schema, &options).unwrap();
                let again = Dataset::open(files.path("out.jsonl")).unwrap();
                assert_eq!(again.conversation(0).unwrap(), data.conversation(0).unwrap(), "{keys}");
            }
        }
    }
}

/// Twice the keys take twice the time.
#[test]
fn many_unknown_keys_are_counted_at_once() {
    const KEYS: usize = 100_000;
    let files = Files::new();
    let keys: String = (0..KEYS).map(|n| format!(",\"key {n}\":{n}")).collect();
    let turn = format!(
        r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"{keys}}}]}}"#
    );
    let beside = format!(r#"{{"output":"a","instruction":"q"{keys}}}"#);
    for (row, schema, lost) in [
        (turn, RowSchema::Alpaca, KEYS),
        (beside.clone(), RowSchema::OpenAi, KEYS),
        (beside, RowSchema::Alpaca, 0),
    ] {
        let begun = std::time::Instant::now();
        let data = Dataset::open(files.put("row.jsonl", row)).unwrap();
        for layout in [Layout::Schema, Layout::Keep] {
            let options = WriteOptions { layout, existing: Existing::Replace, ..Default::default() };
            let written = data.write_with(files.path("out.jsonl"), schema, &options).unwrap();
            assert_eq!(written.lost.len(), lost);
        }
        assert!(begun.elapsed().as_secs() < 40, "{:?} to {schema}", begun.elapsed());
    }
}
