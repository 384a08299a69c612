//! Opening datasets: what is read, what is listed as a problem, what is an error.

use std::path::PathBuf;

use crate::common::files::{Files, MIXED, message};
use crate::common::generate::rows::Generate;
use lorascope::dataset::Dataset;
use lorascope::format::{Role, RowSchema};
use lorascope::text::Message;

/// line, kind and row (rejected or kept) of each problem.
fn problems(data: &Dataset) -> Vec<(u32, String, String)> {
    let frame = data.problems().unwrap();
    let text = |name: &str| frame.column(name).unwrap().str().unwrap().clone();
    let (kind, row) = (text("kind"), text("outcome"));
    let lines = frame.column("line").unwrap().u32().unwrap().clone();
    (0..frame.height())
        .map(|i| (lines.get(i).unwrap(), kind.get(i).unwrap().into(), row.get(i).unwrap().into()))
        .collect()
}

fn whats(data: &Dataset) -> Vec<String> {
    let frame = data.problems().unwrap();
    frame.column("what").unwrap().str().unwrap().iter().flatten().map(str::to_string).collect()
}

#[test]
fn schemas_may_differ_from_row_to_row() {
    let files = Files::new();
    let data = Dataset::open(files.put("mixed.json", MIXED)).unwrap();
    assert_eq!(data.len(), 6);
    assert_eq!(problems(&data), []);
    let frame = data.frame().unwrap().collect().unwrap();
    let column = |name: &str| -> Vec<Option<String>> {
        frame.column(name).unwrap().str().unwrap().iter().map(|text| text.map(str::to_string)).collect()
    };
    assert_eq!(
        column("id").into_iter().flatten().collect::<Vec<_>>(),
        ["row-1", "row-2", "17", "x", "row-6", "row-7"]
    );
    assert_eq!(
        column("source").into_iter().flatten().collect::<Vec<_>>(),
        ["alpaca", "alpaca", "sharegpt", "belle-chat", "openai", "alpaca"]
    );
    assert_eq!(column("system")[1].as_deref(), Some("Be brief."));
    assert_eq!(
        column("extra")[1].as_deref(),
        Some(
            r#"{"source":"book","lorascope":{"input":[4,5,12],"keys":["instruction","input","output","system","source"]}}"#
        )
    );
    assert_eq!(
        column("extra")[3].as_deref(),
        Some(
            r#"{"lorascope":{"turns":[4,0,0],"keys":["id",["conversations",["m0@user-chat","m1@belle-chat","m2@belle-chat","m3@belle-chat"]]]}}"#
        )
    );
    assert_eq!(
        frame.column("line").unwrap().u32().unwrap().into_no_null_iter().collect::<Vec<_>>(),
        [1, 2, 4, 5, 6, 7],
        "the blank line counts"
    );

    assert_eq!(data.conversation(0).unwrap(), [Message::user("3 + 4 = ?"), Message::assistant("7")]);
    assert_eq!(data.conversation(1).unwrap()[1].text(), "Add.\n1 and 2");
    assert_eq!(
        data.conversation(2).unwrap(),
        [Message::system("Rules"), Message::user("a"), Message::assistant("b")]
    );
    let openai = data.conversation(4).unwrap();
    assert_eq!(
        openai.iter().map(|m| m.role).collect::<Vec<_>>(),
        [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Assistant]
    );
    assert_eq!(openai[1].name.as_deref(), Some("Ann"));
    assert_eq!(openai[2].tool_calls.as_deref(), Some(r#"[{"id": "1"}]"#));
    assert_eq!(openai[4].weight, Some(0.5));
    assert_eq!(data.tools(4).unwrap().as_deref(), Some(r#"[{"name": "t"}]"#));
    assert_eq!(data.tools(0).unwrap(), None);
    let history: Vec<String> =
        data.conversation(5).unwrap().into_iter().map(|m| m.text().to_string()).collect();
    assert_eq!(history, ["q0", "a0", "q1", "a1", "q2", "a2"]);
    let error = data.conversation(6).unwrap_err();
    assert_eq!(error.to_string(), "there is no row 6; the rows are numbered 0 to 5");
}

#[test]
fn calls_of_tools_come_through() {
    let files = Files::new();
    let line = r#"{"id":"1","conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\":  \"f\"}"},{"from":"observation","value":"r"},{"from":"gpt","value":"a"}],"tools":"[{\"name\": \"f\"}]"}"#;
    let data = Dataset::open(files.put("calls.jsonl", format!("{line}\n"))).unwrap();
    let call = &data.conversation(0).unwrap()[1];
    let calls = r#"[{"type": "function", "function": {"name":  "f"}}]"#;
    assert_eq!((call.role, call.tool_calls.as_deref()), (Role::Assistant, Some(calls)));
    data.write(files.path("again.jsonl"), RowSchema::ShareGpt).unwrap();
    assert_eq!(std::fs::read_to_string(files.path("again.jsonl")).unwrap(), format!("{line}\n"));
}

#[test]
fn faults_are_listed_and_not_fatal() {
    let files = Files::new();
    let mut lines: Vec<Vec<u8>> = [
        r#"{"instruction": "q", "output": "a"}"#,
        r#"{"instruction": "q", "output": 42}"#,
        r#"{"instruction": "q", "output": "#,
        r#"{"instruction": "q"}"#,
        r#"{"id": "e", "conversations": []}"#,
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": " \n"}]}"#,
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "alien", "value": "a"}]}"#,
        r#"{"conversations": [{"from": "gpt", "value": "a"}]}"#,
        r#"{"id": "z", "messages": [{"role": "user", "content": "a"}]}"#,
        r#"{"query": "q", "reply": "a"}"#,
        r#"[1, 2]"#,
        r#"{"id": "r", "instruction": "p", "output": "\n\na"}"#,
        r#"{"id": "r", "instruction": "q", "output": "a"}"#,
        r#"{"messages": [{"content": "a"}]}"#,
        r#"{"conversations": ["a"]}"#,
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f()"}]}"#,
    ]
    .iter()
    .map(|line| line.as_bytes().to_vec())
    .collect();
    lines.insert(7, b"{\"instruction\": \"\xff\", \"output\": \"a\"}".to_vec());
    let data = Dataset::open(files.put("faults.jsonl", lines.join(&b"\r\n"[..]))).unwrap();
    assert_eq!(data.len(), 3);
    let expected = [
        (2, "wrong type", "rejected", "`output` is the number 42, not a string"),
        (3, "broken JSON", "rejected", "EOF while parsing a value, at column 30"),
        (4, "wrong type", "rejected", "`output` is missing or null"),
        (5, "empty turn", "rejected", "the conversation has no turns"),
        (6, "empty turn", "rejected", "turn 2 of 2 says nothing"),
        (7, "unknown role", "rejected", "conversations[1] is spoken by \"alien\""),
        (8, "invalid UTF-8", "rejected", "byte 18 of the record is not UTF-8"),
        (9, "does not start with the user", "rejected", "the first turn is of the role assistant"),
        (10, "does not end with the assistant", "rejected", "the last turn is of the role user"),
        (11, "unknown schema", "rejected", "the record has the keys query, reply"),
        (12, "wrong type", "rejected", "the record is a list, not an object"),
        (13, "leading line breaks", "kept", "a turn begins with line breaks"),
        (14, "duplicate id", "kept", "has the id of the row in line 13"),
        (14, "duplicate row", "kept", "says the same as the row in line 1"),
        (15, "wrong type", "rejected", "messages[0] does not say who speaks"),
        (16, "does not end with the assistant", "rejected", "the last turn is of the role user"),
        (17, "wrong type", "rejected", "conversations[1] calls a tool, but not as JSON"),
    ];
    let found: Vec<(u32, String, String, String)> =
        problems(&data).into_iter().zip(whats(&data)).map(|((l, k, r), w)| (l, k, r, w)).collect();
    let expected: Vec<(u32, String, String, String)> =
        expected.iter().map(|(l, k, r, w)| (*l, k.to_string(), r.to_string(), w.to_string())).collect();
    assert_eq!(found, expected);
    let frame = data.problems().unwrap();
    assert_eq!(frame.get_column_names(), ["file", "line", "row", "id", "kind", "outcome", "what", "fix"]);
    assert_eq!(frame.column("id").unwrap().str().unwrap().get(3), Some("e"));
    assert_eq!(data.conversation(1).unwrap()[1].text(), "\n\na", "kept as it is");
}

#[test]
fn an_array_is_cut_into_records_with_their_lines() {
    let files = Files::new();
    let array = "\u{feff}\n[\n  {\"instruction\": \"a ] } , \\\" \",\n   \"output\": \"b\"},\n  {\"instruction\": 1},\n\n  {\"instruction\": \"c\", \"output\": \"d\"}\n]\n";
    let data = Dataset::open(files.put("array.jsonl", array)).unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(data.conversation(0).unwrap()[0].text(), "a ] } , \" ");
    assert_eq!(problems(&data), [(5, "wrong type".into(), "rejected".into())]);
    assert_eq!(
        data.frame().unwrap().collect().unwrap().column("line").unwrap().u32().unwrap().get(1),
        Some(7)
    );

    let cut = &array[..array.len() - 30];
    let data = Dataset::open(files.put("cut.json", cut)).unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(
        whats(&data).last().unwrap(),
        "the array is not closed: the file was cut off, or a bracket is missing"
    );
    let more = Dataset::open(files.put("more.json", format!("{array} {{}}"))).unwrap();
    assert_eq!(whats(&more).last().unwrap(), "something follows the end of the array");

    let broken =
        "[\n{\"instruction\": \"a\",\n \"output\" \"b\"},\n{\"instruction\": \"c\", \"output\": \"d\"}]";
    let data = Dataset::open(files.put("broken.json", broken)).unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(
        problems(&data),
        [(3, "broken JSON".into(), "rejected".into())],
        "the line of the fault itself"
    );
}

#[test]
fn a_record_larger_than_a_block_and_many_blocks() {
    let files = Files::new();
    let large = "数".repeat(2_000_000);
    let rows = [
        serde_json::json!({"instruction": "a", "output": "b"}),
        serde_json::json!({"instruction": large, "output": large}),
        serde_json::json!({"instruction": "c", "output": "d"}),
    ];
    let lines: Vec<String> = rows.iter().map(|row| row.to_string()).collect();
    let as_lines = Dataset::open(files.put("large.jsonl", lines.join("\n"))).unwrap();
    let as_array = Dataset::open(files.put("large.json", format!("[{}]", lines.join(",")))).unwrap();
    assert_eq!((as_lines.len(), as_lines.conversation(1).unwrap()[1].text().len()), (3, 6_000_000));
    assert_eq!(as_lines.fingerprint().unwrap(), as_array.fingerprint().unwrap());

    let plan = Generate { rows: 30_000, ..Generate::default() };
    plan.write(files.path("many.jsonl")).unwrap();
    plan.write(files.path("many.json")).unwrap();
    let (lines, array) =
        (Dataset::open(files.path("many.jsonl")).unwrap(), Dataset::open(files.path("many.json")).unwrap());
    assert_eq!(lines.len(), 30_000);
    assert_eq!(lines.fingerprint().unwrap(), array.fingerprint().unwrap());
    let at = |data: &Dataset, i: usize| {
        data.frame().unwrap().collect().unwrap().column("line").unwrap().u32().unwrap().get(i)
    };
    assert_eq!((at(&lines, 29_999), at(&array, 29_999)), (Some(30_000), Some(30_001)));
    let ids = array
        .frame()
        .unwrap()
        .collect()
        .unwrap()
        .column("id")
        .unwrap()
        .str()
        .unwrap()
        .get(29_999)
        .map(str::to_string);
    assert_eq!(ids.as_deref(), Some("row-30000"));
}

#[test]
fn files_that_cannot_be_opened_say_why() {
    let files = Files::new();
    let open = |path: PathBuf| {
        let error = Dataset::open(path).unwrap_err();
        (message(&error, &files), error)
    };
    let (text, error) = open(files.path("none.jsonl"));
    assert_eq!(text, "none.jsonl: no such file or folder; its folder is empty");
    assert!(error.is_not_found());
    let error = Dataset::open(files.0.path()).unwrap_err().to_string();
    assert!(error.contains(": the folder holds no file of rows: it is empty"), "{error}");
    for empty in ["", " \n\n", "\u{feff}"] {
        let (text, error) = open(files.put("empty.jsonl", empty));
        assert_eq!(text, "empty.jsonl: the file is empty; name a file that holds JSON, CSV or Parquet");
        assert!(error.is_format());
    }
    assert_eq!(
        open(files.put("array.json", "[]")).0,
        "array.json: the file holds no records; name a file that holds JSON lines or a JSON array"
    );
    assert_eq!(
        open(files.put("notes.txt", "Dear all,\nhello\n")).0,
        "notes.txt, line 1: this is neither JSON, CSV nor Parquet: expected value, at column 1; \
         name a file that holds one JSON object a line, or an array of objects"
    );
    assert_eq!(
        open(files.put("byte.json", "{")).0,
        "byte.json, line 1: this is neither JSON, CSV nor Parquet: EOF while parsing an object, at \
         column 1; name a file that holds one JSON object a line, or an array of objects"
    );
    assert_eq!(
        open(files.put("rows.jsonl.gz", b"\x1f\x8b\x08\x00")).0,
        "rows.jsonl.gz: the gzip archive is cut off here; fetch the file again"
    );
    assert_eq!(
        open(files.put("qa.jsonl", "{\"query\": \"q\", \"reply\": {\"a.b\": \"long\"}}\n{\"x\": 1}\n")).0,
        "qa.jsonl, line 1: none of its 2 records is a row: the record has the keys query, reply; known are \
         instruction and output (alpaca), conversations of from and value (sharegpt, belle-chat), messages of \
         role and content (openai), conversation of human and assistant (firefly), prompt and completion or \
         question and answer (prompt-completion), prompt, chosen and rejected (preference), these with a label \
         of true or false (kto), text; or map the keys: Dataset::open_as(path, \
         Map::new().user(\"query\").assistant(\"reply.a\\\\.b\")), on the command line \
         --map 'user=query,assistant=reply.a\\.b'"
    );
    assert_eq!(
        open(files.put("types.jsonl", "{\"instruction\": [], \"output\": \"a\"}")).0,
        "types.jsonl, line 1: its one record is no row: wrong type, `instruction` is a list, not a \
         string; write the value as the schema wants it"
    );
}

/// What would be lost or changed without a word is a problem instead.
#[test]
fn rows_that_cannot_be_kept_whole_are_rejected() {
    let files = Files::new();
    let turns = r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#;
    let heavy = |weight: &str| turns.replace("\"b\"", &format!("\"b\", \"weight\": {weight}"));
    let rows = [
        format!("{{\"messages\": {turns}, \"conversations\": null}}"),
        format!("{{\"messages\": {turns}, \"conversations\": {turns}}}"),
        format!("{{\"messages\": {}}}", heavy("1e39")),
        format!("{{\"messages\": {}}}", heavy(&"9".repeat(40))),
    ];
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    let rejected = |line| (line, "wrong type".to_string(), "rejected".to_string());
    assert_eq!(problems(&data), [2, 3, 4].map(rejected));
    let both = "the row has both `conversations` and `messages`: keep the one that is meant";
    let large = |number: &str| {
        format!(
            "`weight` of messages[1] is the number {number}, which does not say whether the turn is trained on"
        )
    };
    assert_eq!(whats(&data), [both.into(), large("1e39"), large("99999999999999999999…")]);
    let error = Dataset::open("/dev/null").unwrap_err().to_string();
    assert_eq!(error, "/dev/null: this is not a file; write the rows to a file first");
}
