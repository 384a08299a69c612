//! Writing datasets in every schema, and reading them again.

use crate::common::files::{Files, HOSTILE, MIXED, message};
use crate::common::generate::rows::Generate;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::format::{Layout, RowSchema, WriteOptions};
use proptest::prelude::*;

#[test]
fn writing_every_schema() {
    let files = Files::new();
    let data = Dataset::open(files.put("mixed.jsonl", MIXED)).unwrap();
    let head = data.head(2).unwrap();
    let read = |name: &str| std::fs::read_to_string(files.path(name)).unwrap();
    let written = head.write(files.path("belle.jsonl"), RowSchema::BelleChat).unwrap();
    let text = read("belle.jsonl");
    assert_eq!(
        text,
        "{\"id\":\"row-1\",\"conversations\":[{\"from\":\"human\",\"value\":\"3 + 4 = ?\"},\
         {\"from\":\"assistant\",\"value\":\"7\"}]}\n\
         {\"id\":\"row-2\",\"conversations\":[{\"from\":\"system\",\"value\":\"Be brief.\"},\
         {\"from\":\"human\",\"value\":\"Add.\\n1 and 2\"},{\"from\":\"assistant\",\"value\":\"3\"}]}\n"
    );
    assert_eq!((written.rows, written.bytes), (2, text.len() as u64));
    let lost = ["`source`", "where the input begins"];
    assert_eq!(written.lost, lost.map(|what| (what.to_string(), 1)).into());
    assert_eq!(head.losses(RowSchema::BelleChat).unwrap().lost, written.lost);
    assert!(
        written.to_string().contains("left out: `source` has no place in belle-chat, in 1 row"),
        "{written}"
    );
    head.write(files.path("alpaca.json"), RowSchema::Alpaca).unwrap();
    assert_eq!(
        read("alpaca.json"),
        "[\n{\"instruction\":\"3 + 4 = ?\",\"input\":\"\",\"output\":\"7\"},\n\
         {\"system\":\"Be brief.\",\"instruction\":\"Add.\",\"input\":\"1 and 2\",\"output\":\"3\",\
         \"source\":\"book\"}\n]\n",
        "the usual order, and the keys that no schema knows"
    );
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    let written = head.write_with(files.path("kept.jsonl"), RowSchema::Alpaca, &keep).unwrap();
    assert_eq!(
        read("kept.jsonl"),
        "{\"instruction\":\"3 + 4 = ?\",\"input\":\"\",\"output\":\"7\"}\n\
         {\"instruction\":\"Add.\",\"input\":\"1 and 2\",\"output\":\"3\",\"system\":\"Be brief.\",\
         \"source\":\"book\"}\n"
    );
    assert!(written.lost.is_empty());
    data.slice(4, 1).unwrap().write(files.path("openai.jsonl"), RowSchema::OpenAi).unwrap();
    assert_eq!(
        read("openai.jsonl"),
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"u\",\
         \"name\":\"Ann\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\": \"1\"}]},\
         {\"role\":\"tool\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"done\",\"weight\":0.5}],\
         \"tools\":[{\"type\": \"function\", \"function\": {\"name\": \"t\"}}]}\n"
    );
    let error = data.write(files.path("no.json"), RowSchema::Alpaca).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "mixed.jsonl, line 6: alpaca holds pairs of user and assistant, and row row-6 has the turns user, \
         assistant (without a text), tool (without a text), assistant; 1 of 6 rows does not fit: choose another \
         schema, or leave them out with WriteOptions { misfits: Misfits::LeaveOut, ..Default::default() }"
    );
    let error = data.write(files.path("rows.txt"), RowSchema::OpenAi).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "rows.txt: the name does not say how to write the rows; end it in .jsonl for JSON lines, .json for an \
         array, .csv, .tsv or .parquet; .gz or .zst may follow"
    );
    let error = data.write(files.path("belle.jsonl"), RowSchema::OpenAi).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "belle.jsonl: the file exists; choose another name, or say overwrite"
    );
    assert_eq!(read("belle.jsonl"), text, "refused before anything was written");
    assert_eq!(data.overwrite(files.path("belle.jsonl"), RowSchema::OpenAi).unwrap().rows, 6);
    data.write(files.path("new/folder/rows.jsonl"), RowSchema::OpenAi).unwrap();
    assert_eq!(read("new/folder/rows.jsonl"), read("belle.jsonl"));
    let mut left: Vec<String> = std::fs::read_dir(files.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["alpaca.json", "belle.jsonl", "kept.jsonl", "mixed.jsonl", "new", "openai.jsonl"],
        "no temporary file stays"
    );
    data.slice(0, 0).unwrap().write(files.path("none.json"), RowSchema::OpenAi).unwrap();
    assert_eq!(read("none.json"), "[\n\n]\n");
}

#[test]
fn many_rows_are_written_in_order() {
    let files = Files::new();
    let plan = Generate { rows: 20_001, ..Generate::default() };
    plan.write(files.path("rows.jsonl")).unwrap();
    let data = Dataset::open(files.path("rows.jsonl")).unwrap();
    for (name, schema) in
        [("a.json", RowSchema::ShareGpt), ("b.jsonl", RowSchema::OpenAi), ("c.json", RowSchema::Alpaca)]
    {
        let written = data.write(files.path(name), schema).unwrap();
        assert_eq!(written.rows, 20_001);
        assert_eq!(written.bytes, std::fs::metadata(files.path(name)).unwrap().len());
        let again = Dataset::open(files.path(name)).unwrap();
        assert_eq!(again.fingerprint().unwrap(), data.fingerprint().unwrap(), "{name}");
    }
    // What began as alpaca comes back as it was, input and all.
    let values = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(files.path(name)).unwrap();
        match name.ends_with(".json") {
            true => serde_json::from_str(&text).unwrap(),
            false => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    };
    assert!(values("rows.jsonl") == values("c.json"));
}

/// The JSON inside a row may be laid out over several lines; the row may not.
#[test]
fn json_with_line_breaks_stays_one_row() {
    let files = Files::new();
    let [tools, calls] =
        ["[\n  {\"name\": \"t\"}\r\n]", "[\n{\"id\": \"a\\nb\"}]"].map(serde_json::Value::from);
    let row = serde_json::json!({"tools": tools, "messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": calls}]});
    let data = Dataset::open(files.put("rows.jsonl", row.to_string())).unwrap();
    for schema in [RowSchema::OpenAi, RowSchema::ShareGpt] {
        let path = files.path(&format!("{schema}.jsonl"));
        data.write(&path, schema).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        let again = Dataset::open(&path).unwrap();
        let json = |text: Option<String>| serde_json::from_str::<serde_json::Value>(&text.unwrap()).unwrap();
        assert_eq!(json(again.tools(0).unwrap()), json(data.tools(0).unwrap()));
        let calls = |data: &Dataset| json(data.conversation(0).unwrap()[1].tool_calls.clone());
        assert_eq!(calls(&again), calls(&data));
    }
}

/// Only an id that the row would be given again is left out.
#[test]
fn ids_of_the_file_are_written() {
    let files = Files::new();
    let rows = r#"{"instruction": "a", "output": "b"}
{"id": "row-7", "instruction": "c", "output": "d"}
{"id": "row-3", "instruction": "e", "output": "f"}"#;
    let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
    data.write(files.path("out.jsonl"), RowSchema::OpenAi).unwrap();
    let again = Dataset::open(files.path("out.jsonl")).unwrap();
    let ids = |data: &Dataset| {
        data.frame()
            .unwrap()
            .collect()
            .unwrap()
            .column("id")
            .unwrap()
            .str()
            .unwrap()
            .iter()
            .flatten()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&again), ["row-1", "row-7", "row-3"]);
    assert!(!std::fs::read_to_string(files.path("out.jsonl")).unwrap().contains("row-1"));
}

/// Any text that says something: hostile pieces between random ones.
fn saying() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        proptest::sample::select(&HOSTILE[..]).prop_map(str::to_string),
        Just("\n".to_string()),
        Just("\\u0041\\\"".to_string()),
    ];
    proptest::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat()).prop_map(|text| {
        match text.trim() {
            "" => format!("{text}."),
            _ => text,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// What goes through every schema and both containers is what was there at the start.
    #[test]
    fn conversations_survive_every_schema(
        talks in proptest::collection::vec((proptest::option::of(saying()), proptest::collection::vec((saying(), saying()), 1..4)), 1..6),
        ids in any::<bool>(),
    ) {
        let files = Files::new();
        let rows: Vec<String> = talks.iter().enumerate().map(|(i, (system, pairs))| {
            let system = system.iter().map(|text| serde_json::json!({"role": "system", "content": text}));
            let pairs = pairs.iter().flat_map(|(q, a)| [
                serde_json::json!({"role": "user", "content": q}),
                serde_json::json!({"role": "assistant", "content": a}),
            ]);
            let messages: Vec<serde_json::Value> = system.chain(pairs).collect();
            match ids {
                true => serde_json::json!({"id": format!("talk {i}"), "messages": messages}).to_string(),
                false => serde_json::json!({"messages": messages}).to_string(),
            }
        }).collect();
        let data = Dataset::open(files.put("start.jsonl", rows.join("\n"))).unwrap();
        prop_assert_eq!(data.len(), talks.len());
        let mut last = data.clone();
        let schemas = [RowSchema::ShareGpt, RowSchema::Alpaca, RowSchema::BelleChat, RowSchema::OpenAi];
        for (i, schema) in schemas.into_iter().enumerate() {
            let path = files.path(&format!("{i}.{}", if i % 2 == 0 { "json" } else { "jsonl" }));
            let written = last.write(&path, schema).unwrap();
            prop_assert!(written.lost.is_empty());
            last = Dataset::open(path).unwrap();
            prop_assert_eq!(last.fingerprint().unwrap(), data.fingerprint().unwrap());
        }
        for i in 0..talks.len() {
            prop_assert_eq!(last.conversation(i).unwrap(), data.conversation(i).unwrap());
        }
        let path = files.path("end.jsonl");
        last.write(&path, RowSchema::OpenAi).unwrap();
        let values = |text: String| -> Vec<serde_json::Value> {
            text.split('\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        prop_assert_eq!(values(std::fs::read_to_string(path).unwrap()), values(rows.join("\n")));
    }

    /// No bytes make the reader panic, and every record is either a row or a problem.
    #[test]
    fn any_bytes_are_a_dataset_or_an_error(
        pieces in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            proptest::sample::select(&["[", "]", "{", "}", "\"", ",", "\n", "\\", "{\"instruction\":\"a\",\"output\":\"b\"}", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "null"][..])
                .prop_map(|text| text.as_bytes().to_vec()),
        ], 0..30),
    ) {
        let files = Files::new();
        if let Ok(data) = Dataset::open(files.put("any.json", pieces.concat())) {
            prop_assert!(!data.is_empty());
            prop_assert!(data.report().unwrap().rows > 0);
            let _ = data.show();
        }
    }
}
