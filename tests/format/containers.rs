//! Every container, plain and packed: what is written is read back.

use crate::common::files::{Files, HOSTILE, MIXED, message};
use crate::common::found::{PRETTY, gzip, problems, whats};
use crate::common::generate::rows::{Faults, Generate};
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Layout, ReadOptions, RowSchema, WriteOptions};

fn lines(data: &Dataset) -> Vec<u32> {
    let frame = data.columns().unwrap();
    frame.column("line").unwrap().u32().unwrap().into_no_null_iter().collect()
}

const NAMES: [&str; 13] = [
    "a.jsonl",
    "b.jsonl.gz",
    "c.ndjson.zst",
    "d.json",
    "e.json.gz",
    "f.json.zst",
    "g.csv",
    "h.csv.gz",
    "i.csv.zst",
    "j.tsv",
    "k.tsv.gz",
    "l.tsv.zst",
    "m.parquet",
];

fn replace(layout: Layout) -> WriteOptions {
    WriteOptions { layout, existing: Existing::Replace, ..Default::default() }
}

/// The rows as JSON values in `schema`, whatever the container was; ids that the file does not give
/// come from the line, and so from the container.
fn values(data: &Dataset, files: &Files, schema: RowSchema, layout: Layout) -> Vec<serde_json::Value> {
    let path = files.path("as-lines.jsonl");
    data.write_with(&path, schema, &replace(layout)).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in rows.iter_mut().filter_map(|row| row.as_object_mut()) {
        if row.get("id").and_then(|id| id.as_str()).is_some_and(|id| id.starts_with("row-")) {
            row.remove("id");
        }
        // CSV has texts only, and says so.
        if let Some(id) = row.get_mut("id").filter(|id| id.is_number()) {
            *id = id.to_string().into();
        }
    }
    rows
}

#[test]
fn every_container_gives_the_rows_back() {
    let files = Files::new();
    let rows: Vec<String> = HOSTILE
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let turn = |role: &str, text: &str| serde_json::json!({"role": role, "content": text});
            serde_json::json!({
                "id": format!("r{i}, \"{i}\""),
                "messages": [turn("system", "s"), turn("user", text), turn("assistant", "a\r\n\"b\",\t;c")],
            })
            .to_string()
        })
        .collect();
    let mixed = Dataset::open(files.put("mixed.jsonl", MIXED)).unwrap();
    let hostile = Dataset::open(files.put("hostile.jsonl", rows.join("\n"))).unwrap();
    let plan = Generate { rows: 20_000, ..Generate::default() };
    plan.write(files.path("many.jsonl")).unwrap();
    let many = Dataset::open(files.path("many.jsonl")).unwrap();
    for schema in [RowSchema::ShareGpt, RowSchema::OpenAi, RowSchema::Alpaca] {
        for data in [&mixed, &hostile, &many] {
            // What Alpaca has no place for was left out before.
            let data = match schema {
                RowSchema::Alpaca => &data.head(2).unwrap(),
                _ => data,
            };
            if schema != RowSchema::ShareGpt && data.len() > 10_000 {
                continue;
            }
            let expected = values(data, &files, schema, Layout::Schema);
            for name in NAMES {
                let path = files.path(name);
                let written = data.write_with(&path, schema, &replace(Layout::Schema)).unwrap();
                assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
                let again = Dataset::open(&path).unwrap();
                assert_eq!(
                    (again.len(), again.rejected().unwrap()),
                    (data.len(), 0),
                    "{name} {:?}",
                    whats(&again)
                );
                let found = values(&again, &files, schema, Layout::Schema);
                let other = found.iter().zip(&expected).find(|(found, expected)| found != expected);
                assert!(found == expected, "{schema} as {name}: {other:?}");
            }
        }
    }
}

/// Rows that are laid out as they were: JSON and Parquet keep the type of every value, CSV says what
/// it cannot keep.
#[test]
fn values_keep_their_types() {
    let files = Files::new();
    let text = r#"{"id": "a", "messages": [{"role": "user", "content": "q", "n": 1}, {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": null}}}]}, {"role": "tool", "content": "[1]"}, {"role": "assistant", "content": "r", "weight": 0.5}], "score": 3, "share": 0.25, "meta": {"a": [1, null]}, "tags": ["x"], "none": [], "mixed": 1, "said": "[1, 2]", "big": 123456789012345678901234567890}
{"id": "b", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "score": 4, "meta": {}, "mixed": "two", "said": "{}", "good": true, "far": -0}
"#;
    let data = Dataset::open(files.put("rows.jsonl", text)).unwrap();
    let mut expected: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values(&data, &files, RowSchema::OpenAi, Layout::Keep), expected);
    // A null of Parquet is no value.
    expected[0]["messages"][1].as_object_mut().unwrap().remove("content");
    let written = data.write(files.path("rows.parquet"), RowSchema::OpenAi).unwrap();
    let types =
        |path: &str| format!("types of values under `{path}`: what is no string is written as JSON text");
    let lost = [
        ("nulls under `messages.content`: they are read as keys that are not there".to_string(), 1),
        (types("messages.tool_calls.function.arguments"), 1),
        (types("meta"), 2),
        (types("mixed"), 1),
        (types("big"), 1),
    ];
    assert_eq!(written.lost, lost.into());
    let again = Dataset::open(files.path("rows.parquet")).unwrap();
    let mut found = values(&again, &files, RowSchema::OpenAi, Layout::Keep);
    for row in &mut found {
        if row["messages"][1]["content"].is_null() {
            row["messages"][1].as_object_mut().unwrap().remove("content");
        }
    }
    assert_eq!(found, expected);
    let written = data.write(files.path("rows.csv"), RowSchema::OpenAi).unwrap();
    let lost = |name: &str, rows| (format!("types of values under `{name}`: CSV has texts only"), rows);
    let expected =
        [("score", 2), ("share", 1), ("meta", 2), ("tags", 1), ("none", 1), ("mixed", 1), ("big", 1)];
    let more = [("good", 1), ("far", 1)];
    assert_eq!(written.lost, expected.into_iter().chain(more).map(|(name, rows)| lost(name, rows)).collect());
    let rows = "{\"instruction\":\"nan\",\"output\":\"NA\",\"input\":null}";
    let data = Dataset::open(files.put("nan.jsonl", rows)).unwrap();
    let written = data.write(files.path("nan.csv"), RowSchema::Alpaca).unwrap();
    let missing =
        |name: &str| format!("texts under `{name}` that pandas reads as no value, such as nan and null");
    assert_eq!(written.lost, [(missing("instruction"), 1), (missing("output"), 1)].into());
}

#[test]
fn generated_rows_go_into_every_container() {
    let files = Files::new();
    let plan = Generate { rows: 500, faults: Faults::Without, ..Generate::default() };
    plan.write(files.path("rows.jsonl")).unwrap();
    let expected = Dataset::open(files.path("rows.jsonl")).unwrap().fingerprint().unwrap();
    for name in NAMES {
        plan.write(files.path(name)).unwrap();
        assert_eq!(Dataset::open(files.path(name)).unwrap().fingerprint().unwrap(), expected, "{name}");
    }
}

#[test]
fn objects_around_and_over_several_lines() {
    let files = Files::new();
    let open = |text: &str| Dataset::open(files.put("x.json", text)).unwrap();
    let data = open(PRETTY);
    assert_eq!((data.len(), lines(&data)), (2, vec![1, 5]));
    let one = open(&PRETTY[PRETTY.find("}\n{").unwrap() + 2..]);
    assert_eq!((one.len(), one.conversation(0).unwrap()[1].text()), (1, "d"));

    let rows =
        "[\n{\"instruction\": \"a\", \"output\": \"b\"},\n{\"instruction\": \"c\", \"output\": \"d\"}]";
    let data = open(&format!(
        "\u{feff}{{\"version\": \"1\",\r\n \"meta\": {{\"n\": [2]}}, \"data\": {rows}, \"end\": \"}}\"}}\n"
    ));
    assert_eq!((data.len(), lines(&data), problems(&data)), (2, vec![3, 4], vec![]));
    let data = open(&format!("{{\"train\": {rows}, \"test\": {rows}}}"));
    assert_eq!(data.len(), 2);
    let second = "the file has a second list of rows, `test` (2 rows), which is not read";
    assert_eq!(whats(&data), [second]);
    assert_eq!(data.rejected().unwrap(), 0);
    let data = open(&format!("{{\"data\": {rows}}}\n{{}}"));
    assert_eq!(problems(&data), [("broken JSON".to_string(), 4)], "{:?}", whats(&data));
    let data = open(&format!("{{\"data\": {rows}, \"x\": {{"));
    assert!(whats(&data)[0].starts_with("the object is not closed"));
    let data = open("{\"data\": [{\"instruction\": \"a\", \"output\": \"b\"},");
    assert_eq!(problems(&data).len(), 1, "{:?}", whats(&data));
}

#[test]
fn cells_become_rows() {
    let files = Files::new();
    let table = "\u{feff}instruction,input,output,history\r\n\
        \"a, \"\"b\"\"\r\nc\",,x,\"[[\"\"q\"\", \"\"a\"\"]]\"\r\n\
        \r\n\
        d,\"\",\"[1, 2]\",\r\n\
        only,three,cells\r\n\
        \"stray \" quote\",,x,\r\n\
        e,f,g,,\r\n";
    let data = Dataset::open(files.put("t.csv", table)).unwrap();
    let said = |i: usize| -> Vec<String> {
        data.conversation(i).unwrap().into_iter().map(|message| message.text().to_string()).collect()
    };
    assert_eq!(said(0), ["q", "a", "a, \"b\"\r\nc", "x"]);
    assert_eq!(said(1), ["d", "[1, 2]"]);
    assert_eq!(said(2), ["e\nf", "g"]);
    assert_eq!(lines(&data), [2, 5, 8]);
    assert_eq!(problems(&data), [("wrong cells".to_string(), 6), ("wrong cells".to_string(), 7)]);
    assert_eq!(whats(&data)[0], "the row has 3 cells, and the header 4");

    // The content decides, not the name.
    for (name, text) in [
        ("a.txt", "instruction;output\n\"a;b\";c\nd;e\n"),
        ("b.json", "instruction\toutput\na, b, c\td\ne\tf\n"),
        (
            "c.csv",
            "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"c\", \"output\": \"d\"}\n",
        ),
    ] {
        let data = Dataset::open(files.put(name, text)).unwrap();
        assert_eq!((data.len(), data.rejected().unwrap()), (2, 0), "{name}");
    }
    let message =
        |name: &str, bytes: &[u8]| message(&Dataset::open(files.put(name, bytes)).unwrap_err(), &files);
    assert_eq!(
        message("double.csv", b"output,output\na,b\n"),
        "double.csv: two columns are called output; give each column its own name"
    );
    assert_eq!(
        message("gbk.csv", b"\xd6\xd0,output\na,b\n"),
        "gbk.csv: the header is not UTF-8; convert the file, from GB18030 for instance with iconv -f GB18030 -t UTF-8"
    );
}

/// Parquet as others write it: small integers, dates, lists of other things, groups of rows, packed.
#[test]
fn parquet_of_other_shapes() {
    use polars::prelude::*;
    let files = Files::new();
    let turns = df!(
        "role" => ["user", "assistant", "user", "assistant"],
        "content" => ["q", "a", "r", "b"],
    )
    .unwrap()
    .into_struct("messages".into())
    .into_series();
    // Each row has two of the turns.
    let messages = Series::new("messages".into(), vec![turns.slice(0, 2), turns.slice(2, 2)]);
    let mut frame = DataFrame::new(
        2,
        vec![
            Column::new("id".into(), [7i64, 8]),
            messages.into(),
            Column::new("score".into(), [0.5f32, f32::NAN]),
            Column::new("good".into(), [Some(true), None]),
            Column::new("image".into(), [&b"\xff\xd8"[..], b"\xff"]),
            Column::new("day".into(), [20_781i32, 0]).cast(&DataType::Date).unwrap(),
        ],
    )
    .unwrap();
    let path = files.path("x.parquet");
    let file = std::fs::File::create(&path).unwrap();
    ParquetWriter::new(file).with_row_group_size(Some(1)).finish(&mut frame).unwrap();
    let data = Dataset::open(&path).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (2, 0), "{:?}", whats(&data));
    let said = [
        "the column `image` holds bytes that are no text in 2 rows: left out",
        "the column `score` holds NaN or infinity in 1 row: read as null",
    ];
    assert_eq!(whats(&data), said);
    assert_eq!(data.conversation(1).unwrap()[0].text(), "r");
    let table = data.frame().unwrap().collect().unwrap();
    let text =
        |column: &str, i: usize| table.column(column).unwrap().str().unwrap().get(i).unwrap().to_string();
    assert_eq!((text("id", 0), text("id", 1)), ("7".into(), "8".into()));
    let extra = |i: usize| {
        let mut extra: serde_json::Value = serde_json::from_str(&text("extra", i)).unwrap();
        // How the row was laid out.
        extra.as_object_mut().unwrap().remove("lorascope");
        extra
    };
    assert_eq!(extra(0), serde_json::json!({"score": 0.5, "good": true, "day": "2026-11-24"}));
    assert_eq!(extra(1), serde_json::json!({"score": null, "day": "1970-01-01"}));

    let packed = files.put("x.parquet.gz", gzip(&std::fs::read(&path).unwrap()));
    assert_eq!(Dataset::open(packed).unwrap().fingerprint().unwrap(), data.fingerprint().unwrap());
}

/// A text that a cell would make another value of is written, and said: one cell ends no conversion.
#[test]
fn texts_that_cells_read_as_values_are_said() {
    let files = Files::new();
    for (row, key, schema) in [
        (r#"{"prompt":"[{\"role\": \"user\"}]","completion":"b"}"#, "prompt", RowSchema::PromptCompletion),
        (r#"{"text":"t","label":"True"}"#, "label", RowSchema::Text),
        (r#"{"prompt":"q","completion":"b","extra":"[1, 2]"}"#, "extra", RowSchema::PromptCompletion),
        (
            r#"{"prompt":"q","completion":"b","messages2":"c","conversations":"[]"}"#,
            "conversations",
            RowSchema::PromptCompletion,
        ),
    ] {
        let path = files.put("rows.jsonl", format!("{row}\n{}", row.replace('[', "").replace("True", "x")));
        let what = format!(
            "texts under `{key}` that are read as a list, an object, true or false: CSV has texts only"
        );
        let reading = ReadOptions { schema: Some(schema), ..Default::default() };
        let data = Dataset::open_with(&path, &reading).unwrap();
        assert_eq!(data.len(), 2, "{row}");
        for name in ["out.csv", "out.tsv"] {
            let written = data.overwrite(files.path(name), schema).unwrap();
            assert_eq!((written.rows, written.lost.get(&what)), (2, Some(&1)), "{row}: {:?}", written.lost);
            assert_eq!(data.losses_to(name, schema).unwrap().lost.get(&what), Some(&1), "{row}");
            let writing = replace(Layout::Schema);
            let done =
                lorascope::format::convert(&path, files.path(name), schema, &reading, &writing).unwrap();
            assert!(done.to_string().contains(&what), "{done}");
        }
    }
}
