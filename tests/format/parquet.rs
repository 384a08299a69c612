//! Parquet: each column has one type that readers know, what has none is said, and what JSON does not
//! hold is said on the way in.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Layout, RowSchema, WriteOptions, Written, convert};
use polars::prelude::*;

fn lost(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(what, rows)| (what.to_string(), *rows)).collect()
}

fn frame(path: &Path) -> DataFrame {
    ParquetReader::new(std::fs::File::open(path).unwrap()).finish().unwrap()
}

/// A type in a few words.
fn word(dtype: &DataType) -> String {
    match dtype {
        DataType::String => "text".into(),
        DataType::List(inside) => format!("[{}]", word(inside)),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{} {}", f.name(), word(f.dtype()))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn types(path: &Path) -> Vec<(String, String)> {
    frame(path).columns().iter().map(|column| (column.name().to_string(), word(column.dtype()))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, dtype)| (name.to_string(), dtype.to_string())).collect()
}

/// Writes rows as Parquet.
fn write(files: &Files, rows: &str, schema: RowSchema) -> Written {
    let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
    let options = WriteOptions { existing: Existing::Replace, ..Default::default() };
    data.write_with(files.path("out.parquet"), schema, &options).unwrap()
}

/// The rows of a file as JSON, laid out as they stand there.
fn values(files: &Files, path: &Path, schema: RowSchema) -> Vec<serde_json::Value> {
    let lines = files.path("again.jsonl");
    let options = WriteOptions { existing: Existing::Replace, layout: Layout::Keep, ..Default::default() };
    Dataset::open(path).unwrap().write_with(&lines, schema, &options).unwrap();
    let text = std::fs::read_to_string(lines).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(column: &Column) -> Vec<Option<String>> {
    column.str().unwrap().iter().map(|text| text.map(str::to_string)).collect()
}

const TURNS: &str = "[{role text, content text}]";

#[test]
fn texts_are_texts_where_all_are() {
    let files = Files::new();
    let rows = r#"{"prompt": "say \"hi\"", "completion": "hi"}
{"prompt": "[1, 2]", "completion": "{\"a\": 1}"}
"#;
    let written = write(&files, rows, RowSchema::PromptCompletion);
    assert_eq!(types(&written.path), pairs(&[("prompt", "text"), ("completion", "text")]));
    assert!(written.lost.is_empty(), "{:?}", written.lost);
    let table = frame(&written.path);
    let text = |text: &str| Some(text.to_string());
    assert_eq!(texts(table.column("prompt").unwrap()), [text("say \"hi\""), text("[1, 2]")]);
    assert_eq!(texts(table.column("completion").unwrap()), [text("hi"), text("{\"a\": 1}")]);
}

/// One row with a system text is enough that all rows are lists of turns; none is JSON in quotes.
#[test]
fn prompts_have_one_form_in_the_whole_file() {
    let files = Files::new();
    let rows = r#"{"prompt": "q", "chosen": "good", "rejected": "bad"}
{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "r"}], "chosen": [{"role": "assistant", "content": "x"}], "rejected": [{"role": "assistant", "content": "y"}]}
"#;
    let written = write(&files, rows, RowSchema::Preference);
    let expected = [("prompt", TURNS), ("chosen", TURNS), ("rejected", TURNS)];
    assert_eq!(types(&written.path), pairs(&expected));
    assert!(written.lost.is_empty(), "the form changes, and nothing that the rows say");
    let again = Dataset::open(&written.path).unwrap();
    let data = Dataset::open(files.path("rows.jsonl")).unwrap();
    assert_eq!(again.fingerprint().unwrap(), data.fingerprint().unwrap());
    let found = values(&files, &written.path, RowSchema::Preference);
    assert_eq!(found[0]["prompt"], serde_json::json!([{"role": "user", "content": "q"}]));
    assert_eq!(found[0]["rejected"], serde_json::json!([{"role": "assistant", "content": "bad"}]));
    assert_eq!(found[1]["prompt"][0]["content"], "s");

    // The same where only one of the keys is mixed, and on the way from another schema.
    let rows = r#"{"instruction": "q", "output": "a"}
{"instruction": "q2", "output": "a2", "system": "s"}
{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}]}
"#;
    let path = files.put("mixed.jsonl", rows);
    let to = files.path("mixed.parquet");
    convert(&path, &to, RowSchema::PromptCompletion, &Default::default(), &Default::default()).unwrap();
    assert_eq!(types(&to), pairs(&[("prompt", TURNS), ("completion", TURNS)]));
    let found = values(&files, &to, RowSchema::PromptCompletion);
    assert_eq!(found[0]["completion"], serde_json::json!([{"role": "assistant", "content": "a"}]));
    assert_eq!(found[2]["prompt"][2]["content"], "3");
}

/// Calls of tools are structs; of arguments that differ in their keys each would get the others' keys.
#[test]
fn calls_are_structs_and_their_arguments_are_said() {
    let files = Files::new();
    let row = |arguments: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}},{{"role":"tool","content":"t"}},{{"role":"assistant","content":"a"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"type":"object","properties":{{"x":{{"type":"string"}}}}}}}}}}]}}"#
        ) + "\n"
    };
    let same = row("{\"x\":\"1\"}") + &row("{\"x\":\"2\"}");
    let written = write(&files, &same, RowSchema::OpenAi);
    let call = |arguments: &str| {
        format!(
            "[{{role text, content text, tool_calls [{{id text, type text, function {{name text, arguments {arguments}}}}}]}}]"
        )
    };
    let tools = "[{type text, function {name text, parameters {type text, properties {x {type text}}}}}]";
    assert_eq!(types(&written.path), pairs(&[("messages", &call("{x text}")), ("tools", tools)]));
    let first = |rows: &str| serde_json::from_str::<serde_json::Value>(rows.lines().next().unwrap()).unwrap();
    let mut found = values(&files, &written.path, RowSchema::OpenAi).remove(0);
    found["messages"][1].as_object_mut().unwrap().remove("content");
    assert_eq!(found, first(&same));

    let differ = row("{\"x\":\"1\"}") + &row("{\"y\":2}");
    let written = write(&files, &differ, RowSchema::OpenAi);
    assert_eq!(types(&written.path), pairs(&[("messages", &call("text")), ("tools", tools)]));
    let what = "types of values under `messages.tool_calls.function.arguments`: what is no string is written as JSON text";
    assert_eq!(written.lost.get(what), Some(&2), "{:?}", written.lost);
    let found = values(&files, &written.path, RowSchema::OpenAi);
    assert_eq!(
        found[1]["messages"][1]["tool_calls"][0]["function"]["arguments"],
        serde_json::json!({"y": 2})
    );
}

/// Where no type fits, texts stay texts, and our own reader finds what each value was.
#[test]
fn mixed_values_are_said_and_read_again() {
    let files = Files::new();
    let row = |value: &str| format!(r#"{{"instruction":"q","input":"","output":"a","x":{value}}}"#) + "\n";
    let cells = ["\"two\"", "1", "\"1\"", "{\"a\":[null]}", "true", "\"say \\\"hi\\\"\"", "\"null\"", "null"];
    let rows: String = cells.iter().map(|value| row(value)).collect();
    let written = write(&files, &rows, RowSchema::Alpaca);
    let types = "types of values under `x`: what is no string is written as JSON text";
    let nulls = "nulls under `x`: they are read as keys that are not there";
    assert_eq!(written.lost, lost(&[(types, 5), (nulls, 1)]));
    let table = frame(&written.path);
    let found: Vec<Option<String>> = texts(table.column("x").unwrap());
    let expected = ["two", "1", "\"1\"", "{\"a\":[null]}", "true", "say \"hi\"", "\"null\""];
    let expected: Vec<Option<String>> =
        expected.iter().map(|text| Some(text.to_string())).chain([None]).collect();
    assert_eq!(found, expected);
    let found = values(&files, &written.path, RowSchema::Alpaca);
    for (found, value) in found.iter().zip(&cells[..7]) {
        assert_eq!(found["x"], serde_json::from_str::<serde_json::Value>(value).unwrap());
    }
    assert!(found[7].get("x").is_none());
    // Whole numbers among others: one type, and it is said.
    let rows: String = ["1", "0.5", "3"].iter().map(|value| row(value)).collect();
    let written = write(&files, &rows, RowSchema::Alpaca);
    let what = "types of values under `x`: whole numbers are written as 1.0";
    assert_eq!(written.lost, lost(&[(what, 2)]));
    let numbers = frame(&written.path).column("x").unwrap().f64().unwrap().to_vec();
    assert_eq!(numbers, [Some(1.0), Some(0.5), Some(3.0)]);
}

/// `datasets` cannot sort or concatenate views of strings: readers of Arrow find `large_string`.
#[test]
fn texts_are_no_views_for_readers_of_arrow() {
    let files = Files::new();
    let rows = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;
    let written = write(&files, rows, RowSchema::OpenAi);
    let mut file = std::fs::File::open(&written.path).unwrap();
    let about = polars_parquet::read::read_metadata(&mut file).unwrap();
    let said = about.key_value_metadata().as_ref().unwrap();
    let schema = said.iter().find(|said| said.key == "ARROW:schema").unwrap().value.as_deref().unwrap();
    let bytes = base64(schema);
    let (schema, _) =
        polars_arrow::io::ipc::read::deserialize_schema(&bytes[8..]).map(|found| (found.0, ())).unwrap();
    let types: Vec<String> = schema.iter_values().map(|field| format!("{:?}", field.dtype)).collect();
    assert!(types[0].contains("LargeUtf8") && !types[0].contains("View"), "{types:?}");
    assert_eq!(said.iter().filter(|said| said.key == "ARROW:schema").count(), 1);
}

fn base64(text: &str) -> Vec<u8> {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text.bytes().filter_map(|byte| SIGNS.iter().position(|sign| *sign == byte));
    let bits: Vec<usize> = values.collect();
    let group = |four: &[usize]| {
        let number = four.iter().enumerate().fold(0, |all, (i, six)| all | six << (18 - 6 * i));
        [number >> 16, number >> 8, number].map(|byte| byte as u8)[..four.len() - 1].to_vec()
    };
    bits.chunks(4).flat_map(group).collect()
}

/// Bytes that are no text are left out, and NaN is null: both with their rows.
#[test]
fn what_json_does_not_hold_is_said() {
    let files = Files::new();
    let images = StructChunked::from_series(
        "image".into(),
        3,
        [
            Series::new("bytes".into(), [Some(&b"\xff\xd8"[..]), None, Some(b"\xff")]),
            Series::new("path".into(), ["a.png", "b.png", "c.png"]),
        ]
        .iter(),
    )
    .unwrap();
    let scores = [Some(vec![0.5, f64::NAN, f64::NAN]), Some(vec![1.0]), None];
    let scores = scores.map(|row| row.map(|row| Series::new("".into(), row)));
    let mut table = DataFrame::new(
        3,
        vec![
            Column::new("instruction".into(), ["q", "r", "s"]),
            Column::new("output".into(), ["a", "b", "c"]),
            images.into_series().into_column(),
            Column::new("note".into(), [&b"text"[..], b"\xe4\xb8\xad", b"more"]),
            Series::new("scores".into(), scores.to_vec()).into_column(),
            Column::new("far".into(), [1.5f32, f32::INFINITY, f32::NEG_INFINITY]),
        ],
    )
    .unwrap();
    let path = files.path("x.parquet");
    let file = std::fs::File::create(&path).unwrap();
    ParquetWriter::new(file).with_row_group_size(Some(1)).finish(&mut table).unwrap();
    let data = Dataset::open(&path).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (3, 0));
    let problems = data.problems().unwrap();
    let column = |name: &str| texts(problems.column(name).unwrap());
    let said: Vec<(String, String)> =
        column("kind").into_iter().zip(column("what")).map(|(a, b)| (a.unwrap(), b.unwrap())).collect();
    let expected = [
        ("not a number", "the column `scores` holds NaN or infinity in 1 row: read as null"),
        ("column left out", "the column `image.bytes` holds bytes that are no text in 2 rows: left out"),
        ("not a number", "the column `far` holds NaN or infinity in 2 rows: read as null"),
    ];
    assert_eq!(said, pairs(&expected));
    let lines = problems.column("line").unwrap().u32().unwrap().to_vec();
    assert_eq!(lines, [Some(1), Some(1), Some(2)]);
    let found = values(&files, &path, RowSchema::Alpaca);
    assert_eq!(found[0]["image"], serde_json::json!({"path": "a.png"}));
    assert_eq!(found[0]["scores"], serde_json::json!([0.5, null, null]));
    assert_eq!((&found[1]["note"], &found[2]["far"]), (&"中".into(), &serde_json::Value::Null));
    let to = files.path("out.jsonl");
    let done = convert(&path, &to, RowSchema::Alpaca, &Default::default(), &Default::default()).unwrap();
    assert!(done.to_string().contains("`image.bytes` holds bytes that are no text in 2 rows"), "{done}");
}

/// Arguments as text beside arguments as objects: the same JSON, and no quotes around it.
#[test]
fn arguments_as_text_have_no_quotes() {
    let files = Files::new();
    let row = |arguments: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"1","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}},{{"role":"tool","content":"t","tool_call_id":"1"}},{{"role":"assistant","content":"a"}}]}}"#
        ) + "\n"
    };
    let rows = row(r#""{\"a\": 3}""#) + &row(r#"{"b":4}"#) + &row(r#""no object""#);
    let written = write(&files, &rows, RowSchema::OpenAi);
    let said = "strings under `messages.tool_calls.function.arguments`: read as objects, as in other rows";
    assert_eq!(written.lost[said], 1);
    let frame = ParquetReader::new(std::fs::File::open(&written.path).unwrap()).finish().unwrap();
    let turns = frame.column("messages").unwrap().list().unwrap().get_as_series(0).unwrap();
    let field = |of: &Series, name: &str| of.struct_().unwrap().field_by_name(name).unwrap();
    let calls = field(&turns, "tool_calls").list().unwrap().get_as_series(1).unwrap();
    let arguments = field(&field(&calls, "function"), "arguments");
    assert_eq!(arguments.str().unwrap().get(0), Some(r#"{"a": 3}"#));
    let again = Dataset::open(&written.path).unwrap();
    let call = |i: usize| again.conversation(i).unwrap()[1].tool_calls.clone().unwrap();
    assert!(call(0).contains(r#""arguments":{"a": 3}"#), "{}", call(0));
    assert!(call(1).contains(r#""arguments":{"b":4}"#) && call(2).contains(r#""arguments":"no object""#));
}
