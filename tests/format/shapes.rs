//! Shapes of rows beside the usual ones, and what other programs' readers find in what we write.

use crate::common::files::Files;
use crate::common::one_row::{open, said, turns, written};
use lorascope::dataset::Dataset;
use lorascope::format::Role::{Assistant, System, User};
use lorascope::format::{Layout, RowSchema, WriteOptions};
use serde_json::Value as Json;

#[test]
fn history_stands_before_every_kind_of_prompt() {
    let all =
        [(User, "q1"), (Assistant, "a1"), (User, "q2"), (Assistant, "a2"), (User, "q3"), (Assistant, "a3")];
    let pairs = r#""history":[["q1","a1"],["q2","a2"]]"#;
    for row in [
        format!(r#"{{"prompt":"q3","response":"a3",{pairs}}}"#),
        format!(r#"{{{pairs},"query":"q3","response":"a3"}}"#),
        format!(r#"{{"input":"q3","output":"a3",{pairs}}}"#),
        format!(r#"{{"instruction":"q3","output":"a3",{pairs}}}"#),
        r#"{"prompt":"q3","response":"a3","history":[{"role":"user","content":"q1"},{"role":"assistant","content":"a1"},{"role":"user","content":"q2"},{"role":"assistant","content":"a2"}]}"#.to_string(),
    ] {
        assert_eq!(said(&open(&row).1), turns(&all), "{row}");
    }
    let row = format!(r#"{{"prompt":"q3","chosen":"a3","rejected":"x",{pairs}}}"#);
    assert_eq!(said(&open(&row).1), turns(&all));
    // Beside lists of turns, whose system text is the first of all.
    let last = r#"{"role":"user","content":"q3"},{"role":"assistant","content":"a3"}"#;
    let talk = r#"{"from":"human","value":"q3"},{"from":"gpt","value":"a3"}"#;
    let system = r#"{"role":"system","content":"S"},"#;
    let mut with_system = vec![(System, "S")];
    with_system.extend(all);
    for (row, right) in [
        (format!(r#"{{"messages":[{last}],{pairs}}}"#), &all[..]),
        (format!(r#"{{{pairs},"conversations":[{talk}]}}"#), &all),
        (format!(r#"{{{pairs},"messages":[{system}{last}]}}"#), &with_system),
        (format!(r#"{{"system":"S",{pairs},"messages":[{last}]}}"#), &with_system),
    ] {
        let (files, data) = open(&row);
        assert_eq!(said(&data), turns(right), "{row}");
        let out = written(&files, &data, RowSchema::OpenAi);
        assert_eq!(out["messages"].as_array().unwrap().len(), right.len(), "{out}");
        assert!(out.get("history").is_none(), "{out}");
    }
    // Another thing by that name is a key like any other.
    for other in [r#"[]"#, r#""2024""#, r#"["a", "b"]"#, r#"[["a", "b", "c"]]"#, r#"{"n": 1}"#] {
        let (_, data) = open(&format!(r#"{{"messages":[{last}],"history":{other}}}"#));
        assert_eq!(said(&data), turns(&all[4..]), "{other}");
    }
}

#[test]
fn parts_of_other_kinds() {
    let row = r#"{"messages":[{"role":"user","content":[{"type":"text","value":"Colour?"}],"loss_weight":0.0},{"role":"assistant","content":[{"type":"reasoning","value":"grass"},{"type":"text","value":"Green."}],"loss_weight":1.0}]}"#;
    let (files, data) = open(row);
    assert_eq!(said(&data), turns(&[(User, "Colour?"), (Assistant, "Green.")]));
    let all = data.conversation(0).unwrap();
    assert_eq!(
        (all[0].weight, all[1].weight, all[1].extra.as_deref()),
        (Some(0.0), Some(1.0), Some(r#"{"reasoning_content":"grass"}"#))
    );
    let openai = written(&files, &data, RowSchema::OpenAi);
    assert_eq!(openai["messages"][1]["content"], "Green.");
    assert_eq!(openai["messages"][1]["reasoning_content"], "grass");
    let row = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"tool_call","value":"{\"name\": \"f\", \"arguments\": {}}"}]},{"role":"tool","content":[{"type":"text","value":"r"}]},{"role":"assistant","content":"a"}]}"#;
    let (_, data) = open(row);
    let call = &data.conversation(0).unwrap()[1];
    assert_eq!(
        (call.content.as_deref(), call.tool_calls.as_deref()),
        (None, Some(r#"[{"type": "function", "function": {"name": "f", "arguments": {}}}]"#))
    );
}

#[test]
fn lists_of_turns_and_texts() {
    let both = turns(&[(User, "q"), (Assistant, "a"), (User, "r"), (Assistant, "b")]);
    let objects = r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"user","content":"r"},{"role":"assistant","content":"b"}]"#;
    for row in [
        r#"{"id":"1","data":["q","a","r","b"]}"#.to_string(),
        r#"{"conversation":["q","a","r","b"]}"#.to_string(),
        r#"{"messages":["q","a","r","b"],"lang":"en"}"#.to_string(),
        r#"{"dialog":["q","a","r","b"]}"#.to_string(),
        format!("{{\"turns\":{objects}}}"),
        format!("{{\"chat\":{objects},\"n\":1}}"),
    ] {
        let (files, data) = open(&row);
        assert_eq!(said(&data), both, "{row}");
        let openai = written(&files, &data, RowSchema::OpenAi);
        assert_eq!(openai["messages"], serde_json::from_str::<Json>(objects).unwrap());
    }
}

#[test]
fn lists_of_turns_without_an_object() {
    let row = r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#;
    let files = Files::new();
    let data = Dataset::open(files.put("rows.jsonl", format!("{row}\n{row}\n"))).unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a")]));
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("again.jsonl"), RowSchema::OpenAi, &keep).unwrap();
    assert_eq!(std::fs::read_to_string(files.path("again.jsonl")).unwrap(), format!("{row}\n{row}\n"));
    data.write(files.path("usual.jsonl"), RowSchema::OpenAi).unwrap();
    let usual = std::fs::read_to_string(files.path("usual.jsonl")).unwrap();
    assert_eq!(usual.lines().next(), Some(format!("{{\"messages\":{row}}}").as_str()));
}

#[test]
fn instances_and_capitals() {
    let (files, data) = open(
        r#"{"id":"s1","name":"add","instruction":"Add.","instances":[{"input":"1 2","output":"3"}],"is_classification":false}"#,
    );
    assert_eq!(said(&data), turns(&[(User, "Add.\n1 2"), (Assistant, "3")]));
    let row = written(&files, &data, RowSchema::Alpaca);
    assert_eq!(
        (&row["instruction"], &row["input"], &row["output"]),
        (&"Add.".into(), &"1 2".into(), &"3".into())
    );
    assert_eq!(row["is_classification"], false);
    let several =
        r#"{"instruction":"Add.","instances":[{"input":"1 2","output":"3"},{"input":"1 3","output":"4"}]}"#;
    let error = Dataset::open(files.put("several.jsonl", several)).unwrap_err().to_string();
    assert!(error.contains("`instances` holds 2") && error.contains("instances.0.output"), "{error}");
    let map = lorascope::format::Map::new().user("instruction").assistant("instances.0.output");
    assert_eq!(Dataset::open_as(files.path("several.jsonl"), map).unwrap().len(), 1);
    for row in [
        r#"{"Instruction":"q","Output":"a"}"#,
        r#"{"INSTRUCTION":"q","INPUT":"","OUTPUT":"a"}"#,
        r#"{"Prompt":"q","Response":"a"}"#,
        r#"{"Question":"q","Answer":"a","Source":"x"}"#,
        r#"{"Messages":[{"Role":"user","Content":"q"},{"Role":"assistant","Content":"a"}]}"#,
        r#"{"conversation":[{"Human":"q","Assistant":"a"}]}"#,
    ] {
        let (files, data) = open(row);
        assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a")]), "{row}");
        let alpaca = written(&files, &data, RowSchema::Alpaca);
        assert_eq!((&alpaca["instruction"], &alpaca["output"]), (&"q".into(), &"a".into()));
    }
}

#[test]
fn an_input_alone_has_no_line_break_before_it() {
    let (files, data) = open(r#"{"instruction":"","input":"1 + 1","output":"2"}"#);
    assert_eq!(said(&data), turns(&[(User, "1 + 1"), (Assistant, "2")]));
    let row = written(&files, &data, RowSchema::Alpaca);
    assert_eq!((&row["instruction"], &row["input"]), (&"".into(), &"1 + 1".into()));
}

#[test]
fn the_usual_keys_are_the_default() {
    for (row, schema, expected) in [
        (
            r#"{"id":"1","messages":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"n":1}"#,
            RowSchema::OpenAi,
            r#"{"id":"1","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"n":1}"#,
        ),
        (
            r#"{"question":"q","answer":"a","split":"x"}"#,
            RowSchema::PromptCompletion,
            r#"{"prompt":"q","completion":"a","split":"x"}"#,
        ),
        (
            r#"{"id":"1","conversations":[{"from":"user","value":"q"},{"from":"chatgpt","value":"a"}]}"#,
            RowSchema::ShareGpt,
            r#"{"id":"1","conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#,
        ),
        (
            r#"{"output":"a","context":"i","instruction":"q"}"#,
            RowSchema::Alpaca,
            r#"{"instruction":"q","input":"i","output":"a"}"#,
        ),
        (
            r#"{"prompt":"q","response":"a","label":"yes"}"#,
            RowSchema::Kto,
            r#"{"prompt":"q","completion":"a","label":true}"#,
        ),
    ] {
        let (files, data) = open(row);
        data.write(files.path("out.jsonl"), schema).unwrap();
        assert_eq!(std::fs::read_to_string(files.path("out.jsonl")).unwrap().trim_end(), expected);
        assert!(data.losses(schema).unwrap().is_empty());
    }
}

/// The call of a `function_call` turn as LLaMA-Factory documents it: JSON of name and arguments, or a
/// list of these.
fn read_call(value: &Json) -> Vec<(String, Json)> {
    let parsed: Json = serde_json::from_str(value.as_str().unwrap()).unwrap();
    let calls = if parsed.is_array() { parsed.as_array().unwrap().clone() } else { vec![parsed] };
    calls.iter().map(|call| (call["name"].as_str().unwrap().to_string(), call["arguments"].clone())).collect()
}

#[test]
fn calls_go_both_ways() {
    let call = |n: u8| {
        format!(
            r#"{{"id":"c{n}","type":"function","function":{{"name":"f{n}","arguments":"{{\"a\": {n}}}"}}}}"#
        )
    };
    let row = format!(
        r#"{{"messages":[{{"role":"system","content":"S"}},{{"role":"user","content":"q"}},{{"role":"assistant","content":"let me see","tool_calls":[{},{}]}},{{"role":"tool","tool_call_id":"c1","content":"r1"}},{{"role":"tool","tool_call_id":"c2","content":"r2"}},{{"role":"assistant","content":"a"}}]}}"#,
        call(1),
        call(2)
    );
    let (files, data) = open(&row);
    let old = written(&files, &data, RowSchema::ShareGpt);
    let turns = old["conversations"].as_array().unwrap();
    let roles: Vec<&str> = turns.iter().map(|turn| turn["from"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "human", "function_call", "observation", "observation", "gpt"]);
    let calls = read_call(&turns[2]["value"]);
    assert_eq!(
        calls,
        [("f1".to_string(), serde_json::json!({"a": 1})), ("f2".to_string(), serde_json::json!({"a": 2}))]
    );
    let losses = data.losses(RowSchema::ShareGpt).unwrap();
    let lost: Vec<&str> = losses.lost.keys().map(String::as_str).collect();
    let sides = "that question and answer take turns: tools answer one after the other, and some readers of the format leave such rows out";
    assert_eq!(lost, ["ids of calls, and which call a tool answers", "texts beside calls of tools", sides]);
    // And back: each call is wrapped and has an id, which its answer names.
    let again = Dataset::open(files.path("other.jsonl")).unwrap();
    again.write(files.path("back.jsonl"), RowSchema::OpenAi).unwrap();
    let back: Json =
        serde_json::from_str(&std::fs::read_to_string(files.path("back.jsonl")).unwrap()).unwrap();
    let messages = back["messages"].as_array().unwrap();
    let made = messages[2]["tool_calls"].as_array().unwrap();
    assert_eq!(made.len(), 2);
    for (n, call) in made.iter().enumerate() {
        assert_eq!(call["type"], "function");
        assert_eq!(call["function"]["arguments"], serde_json::json!({"a": n + 1}));
        assert!(call["id"].is_string());
        assert_eq!(messages[3 + n]["tool_call_id"], call["id"]);
    }
    assert_eq!(messages[2]["content"], Json::Null);
    assert!(again.losses(RowSchema::OpenAi).unwrap().is_empty());
    assert_eq!(said(&data)[0], (System, "S".to_string()));
}

#[test]
fn losses_name_the_keys() {
    let (files, data) = open(
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"images":["x.png"],"context":"c"}"#,
    );
    let losses = data.losses(RowSchema::Alpaca).unwrap();
    assert_eq!(losses.lost.keys().collect::<Vec<_>>(), ["`context`", "`images`"]);
    let done = data.write(files.path("out.jsonl"), RowSchema::Alpaca).unwrap();
    assert!(
        done.to_string().contains("left out: `context`, `images` have no place in alpaca, in 1 row"),
        "{done}"
    );
    let plain = open(r#"{"answer":"a","question":"q"}"#).1;
    let losses = plain.losses(RowSchema::OpenAi).unwrap();
    assert!(losses.is_empty() && losses.laid_out == 1);
}

/// Readers take the form of the first row's prompt for that of all.
#[test]
fn prompts_of_a_file_have_one_form() {
    let files = Files::new();
    let text = r#"{"prompt":"q","completion":"a","label":true}"#;
    let turns = r#"{"prompt":[{"role":"system","content":"S"},{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}],"label":true}"#;
    let pref = r#"{"prompt":"q","chosen":"a","rejected":"b"}"#;
    let history = r#"{"history":[["x","y"]],"prompt":"q","chosen":"a","rejected":"b"}"#;
    for (rows, schema, keys) in [
        ([text, turns], RowSchema::Kto, &["prompt", "completion"][..]),
        ([text, turns], RowSchema::PromptCompletion, &["prompt", "completion"]),
        ([turns, text], RowSchema::PromptCompletion, &["prompt", "completion"]),
        ([pref, history], RowSchema::Preference, &["prompt", "chosen", "rejected"]),
    ] {
        let path = files.put("rows.jsonl", rows.join("\n"));
        let data = Dataset::open(&path).unwrap();
        data.overwrite(files.path("out.jsonl"), schema).unwrap();
        let overwrite = WriteOptions { existing: lorascope::format::Existing::Replace, ..Default::default() };
        lorascope::format::convert(&path, files.path("again.jsonl"), schema, &Default::default(), &overwrite)
            .unwrap();
        let out = std::fs::read_to_string(files.path("out.jsonl")).unwrap();
        assert_eq!(out, std::fs::read_to_string(files.path("again.jsonl")).unwrap());
        for line in out.lines() {
            let row: Json = serde_json::from_str(line).unwrap();
            assert!(keys.iter().all(|key| row[*key].is_array()), "{line}");
        }
        let one = Dataset::open(files.put("one.jsonl", format!("{}\n{}", rows[0], rows[0]))).unwrap();
        one.overwrite(files.path("out.jsonl"), schema).unwrap();
    }
    let data = Dataset::open(files.put("texts.jsonl", format!("{text}\n{text}"))).unwrap();
    data.overwrite(files.path("out.jsonl"), RowSchema::PromptCompletion).unwrap();
    let out = std::fs::read_to_string(files.path("out.jsonl")).unwrap();
    assert_eq!(out.lines().next(), Some(r#"{"prompt":"q","completion":"a"}"#));
}

#[test]
fn moss() {
    let files = Files::new();
    let row = r#"{"conversation_id": 1, "meta_instruction": "You are MOSS.", "num_turns": 2, "chat": {"turn_1": {"Human": "<|Human|>: hi <b> there<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n", "MOSS": "<|MOSS|>: Hello<eom>\n"}, "turn_2": {"Human": "bye", "MOSS": "<|MOSS|>: Bye."}}}"#;
    let path = files.put("moss.jsonl", row);
    let data = Dataset::open(&path).unwrap();
    let turns = data.conversation(0).unwrap();
    let said: Vec<&str> = turns.iter().map(|turn| turn.text()).collect();
    assert_eq!(said, ["You are MOSS.", "hi <b> there", "Hello", "bye", "Bye."]);
    // Back as it was, and what the others have no place for is named.
    let out = files.path("back.jsonl");
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(&out, RowSchema::Firefly, &keep).unwrap();
    let compact = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(compact(&std::fs::read_to_string(&out).unwrap()), compact(row));
    let losses = data.losses(RowSchema::OpenAi).unwrap();
    let lost: Vec<&str> = losses.lost.keys().map(String::as_str).collect();
    assert_eq!(lost, ["`Inner Thoughts`", "`conversation_id`", "`num_turns`"]);
    // Another format's file has the other format's keys.
    data.write(files.path("fire.jsonl"), RowSchema::Firefly).unwrap();
    let fire = std::fs::read_to_string(files.path("fire.jsonl")).unwrap();
    assert!(fire.contains(r#""conversation":[{"human":"hi <b> there","assistant":"Hello"}"#), "{fire}");
    // Marks, calls, and keys that are there twice.
    let opened = |row: String| Dataset::open(files.put("odd.jsonl", row));
    let unweighted =
        opened(row.replace(r#""MOSS": "<|MOSS|>: Bye.""#, r#""MOSS": "Bye.", "loss": false"#)).unwrap();
    assert_eq!(unweighted.conversation(0).unwrap()[4].weight, Some(0.0));
    let call = row.replace("<|Inner Thoughts|>: None<eot>", "x").replace("Inner Thoughts", "Commands");
    let error = opened(call.replace(r#""Commands": "x"#, r#""Commands": "<|Commands|>: Search(\"a\")<eoc>"#))
        .unwrap_err();
    assert!(
        error.to_string().contains("`Commands` of `turn_1` calls a tool in MOSS's own language"),
        "{error}"
    );
    assert!(
        opened(row.replace("turn_2", "turn_1")).is_err()
            && opened(row.replace("Inner Thoughts", "Human")).is_err()
    );
    // Beside other rows the key is one like any other.
    let other =
        opened(r#"{"instruction": "q", "output": "a", "meta_instruction": {"lang": "en"}}"#.into()).unwrap();
    assert_eq!(other.conversation(0).unwrap().len(), 2);
    // What only looks so is no row, and no pair is made of two turns.
    let other = row.replace("\"MOSS\":", "\"Bot\":");
    let error = Dataset::open(files.put("other.jsonl", other)).unwrap_err().to_string();
    let pair = "Map::new().user(\"chat.turn_1.Human\").assistant(\"chat.turn_1.Bot\")";
    assert!(error.contains("the record has the keys") && error.contains(pair), "{error}");
}

/// An instruction of nothing leaves no line before its input, and an input of nothing none after it.
#[test]
fn a_blank_instruction_leaves_no_line_before_its_input() {
    for (row, asked) in [
        (r#"{"instruction":"  ","input":"in2","output":"a"}"#, "in2"),
        (r#"{"instruction":"","input":"in2","output":"a"}"#, "in2"),
        (r#"{"instruction":"\n","context":"in2","response":"a"}"#, "in2"),
        (r#"{"instruction":"q","input":" \n","output":"a"}"#, "q"),
        (r#"{"instruction":"  ","instances":[{"input":"in2","output":"a"}]}"#, "in2"),
        (r#"{"instruction":"q","instances":[{"input":"  ","output":"a"}]}"#, "q"),
        (r#"{"instruction":" ","input":"in2","chosen":"a","rejected":"b"}"#, "in2"),
        (r#"{"instruction":"q","input":"in2","output":"a"}"#, "q\nin2"),
    ] {
        // Written as it was, nothing of it is lost.
        let (_, data) = open(row);
        assert_eq!(said(&data), turns(&[(User, asked), (Assistant, "a")]), "{row}");
    }
}
