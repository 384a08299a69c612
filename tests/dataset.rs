//! Opening, cutting, converting and reporting datasets, and every way in which that can go wrong.

use std::path::{Path, PathBuf};

use lorascope::dataset::generate::Generate;
use lorascope::dataset::{Dataset, Lengths, Recipe, RowSchema};
use lorascope::display::Show;
use lorascope::polars::prelude::*;
use lorascope::text::{Message, Role, Tokenizer};
use proptest::prelude::*;
use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// The message of an error, without the folder of the test.
fn message(error: &lorascope::error::Error, files: &Files) -> String {
    error.to_string().replace(&format!("{}/", files.0.path().display()), "")
}

/// line, kind and row (rejected or kept) of each problem.
fn problems(data: &Dataset) -> Vec<(u32, String, String)> {
    let frame = data.problems().unwrap();
    let text = |name: &str| frame.column(name).unwrap().str().unwrap().clone();
    let (kind, row) = (text("kind"), text("row"));
    let lines = frame.column("line").unwrap().u32().unwrap().clone();
    (0..frame.height())
        .map(|i| (lines.get(i).unwrap(), kind.get(i).unwrap().into(), row.get(i).unwrap().into()))
        .collect()
}

fn whats(data: &Dataset) -> Vec<String> {
    let frame = data.problems().unwrap();
    frame.column("what").unwrap().str().unwrap().iter().flatten().map(str::to_string).collect()
}

fn schools(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(name)
}

const MIXED: &str = r#"{"instruction": "3 + 4 = ?", "input": "", "output": "7"}
{"instruction": "Add.", "input": "1 and 2", "output": "3", "system": "Be brief.", "source": "book"}

{"id": 17, "conversations": [{"from": "system", "value": "Rules"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
{"id": "x", "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}, {"from": "human", "value": "c"}, {"from": "assistant", "value": "d", "mood": 1}]}
{"messages": [{"role": "developer", "content": "S"}, {"role": "user", "content": "u", "name": "Ann"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": ""}, {"role": "assistant", "content": "done", "weight": 0.5}], "tools": [{"name": "t"}]}
{"instruction": "q2", "output": "a2", "history": [["q0", "a0"], ["q1", "a1"]], "input": null}
"#;

#[test]
fn schemas_may_differ_from_row_to_row() {
    let files = Files::new();
    let data = Dataset::open(files.put("mixed.json", MIXED)).unwrap();
    assert_eq!(data.len(), 6);
    assert_eq!(problems(&data), []);
    let frame = data.frame();
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
    assert_eq!(column("extra")[1].as_deref(), Some(r#"{"source":"book","input":"1 and 2"}"#));
    assert_eq!(column("extra")[3].as_deref(), Some(r#"{"conversations[3].mood":1}"#));
    assert_eq!(
        frame.column("line").unwrap().u32().unwrap().into_no_null_iter().collect::<Vec<_>>(),
        [1, 2, 4, 5, 6, 7],
        "the blank line counts"
    );

    assert_eq!(data.conversation(0).unwrap(), [Message::user("3 + 4 = ?"), Message::assistant("7")]);
    assert_eq!(data.conversation(1).unwrap()[1].content, "Add.\n1 and 2");
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
    assert_eq!(openai[2].tool_calls.as_deref(), Some(r#"[{"id":"1"}]"#));
    assert_eq!(openai[4].weight, Some(0.5));
    assert_eq!(data.tools(4).unwrap().as_deref(), Some(r#"[{"name":"t"}]"#));
    assert_eq!(data.tools(0).unwrap(), None);
    let history: Vec<String> = data.conversation(5).unwrap().into_iter().map(|m| m.content).collect();
    assert_eq!(history, ["q0", "a0", "q1", "a1", "q2", "a2"]);
    let error = data.conversation(6).unwrap_err();
    assert_eq!(error.to_string(), "there is no row 6; the rows are numbered 0 to 5");
}

#[test]
fn calls_of_tools_come_through() {
    let files = Files::new();
    let line = r#"{"id":"1","conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\":  \"f\"}"},{"from":"observation","value":"r"},{"from":"gpt","value":"a"}],"tools":"[]"}"#;
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
        r#"{"question": "q", "answer": "a"}"#,
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
        (2, "wrong type", "rejected", "`output`: invalid type: integer `42`, expected a string"),
        (3, "broken JSON", "rejected", "EOF while parsing a value, at column 31"),
        (4, "wrong type", "rejected", "`output` is missing or null"),
        (5, "empty turn", "rejected", "the conversation has no turns"),
        (6, "empty turn", "rejected", "turn 2 of 2 says nothing"),
        (7, "unknown role", "rejected", "conversations[1] is spoken by \"alien\""),
        (8, "invalid UTF-8", "rejected", "byte 18 of the record is not UTF-8"),
        (9, "does not start with the user", "rejected", "the first turn is of the role assistant"),
        (10, "does not end with the assistant", "rejected", "the last turn is of the role user"),
        (11, "unknown schema", "rejected", "the record has the keys question, answer"),
        (12, "wrong type", "rejected", "invalid type: sequence, expected an object"),
        (13, "leading line breaks", "kept", "a turn begins with line breaks"),
        (14, "duplicate id", "kept", "has the id of the row in line 13"),
        (14, "duplicate row", "kept", "says the same as row-1 in line 1"),
        (15, "wrong type", "rejected", "messages[0] does not say who speaks"),
        (
            16,
            "wrong type",
            "rejected",
            "`conversations`: invalid type: string \"a\", expected a turn: an object with from and value, or role and content",
        ),
        (17, "wrong type", "rejected", "conversations[1] calls a tool, but not as JSON"),
    ];
    let found: Vec<(u32, String, String, String)> =
        problems(&data).into_iter().zip(whats(&data)).map(|((l, k, r), w)| (l, k, r, w)).collect();
    let expected: Vec<(u32, String, String, String)> =
        expected.iter().map(|(l, k, r, w)| (*l, k.to_string(), r.to_string(), w.to_string())).collect();
    assert_eq!(found, expected);
    let frame = data.problems().unwrap();
    assert_eq!(frame.get_column_names(), ["file", "line", "id", "kind", "row", "what", "fix"]);
    assert_eq!(frame.column("id").unwrap().str().unwrap().get(3), Some("e"));
    assert_eq!(data.conversation(1).unwrap()[1].content, "\n\na", "kept as it is");
}

#[test]
fn an_array_is_cut_into_records_with_their_lines() {
    let files = Files::new();
    let array = "\u{feff}\n[\n  {\"instruction\": \"a ] } , \\\" \",\n   \"output\": \"b\"},\n  {\"instruction\": 1},\n\n  {\"instruction\": \"c\", \"output\": \"d\"}\n]\n";
    let data = Dataset::open(files.put("array.jsonl", array)).unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(data.conversation(0).unwrap()[0].content, "a ] } , \" ");
    assert_eq!(problems(&data), [(5, "wrong type".into(), "rejected".into())]);
    assert_eq!(data.frame().column("line").unwrap().u32().unwrap().get(1), Some(7));

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
    assert_eq!((as_lines.len(), as_lines.conversation(1).unwrap()[1].content.len()), (3, 6_000_000));
    assert_eq!(as_lines.fingerprint().unwrap(), as_array.fingerprint().unwrap());

    let plan = Generate { rows: 30_000, ..Generate::default() };
    plan.write(files.path("many.jsonl")).unwrap();
    plan.write(files.path("many.json")).unwrap();
    let (lines, array) =
        (Dataset::open(files.path("many.jsonl")).unwrap(), Dataset::open(files.path("many.json")).unwrap());
    assert_eq!(lines.len(), 30_000);
    assert_eq!(lines.fingerprint().unwrap(), array.fingerprint().unwrap());
    let at = |data: &Dataset, i: usize| data.frame().column("line").unwrap().u32().unwrap().get(i);
    assert_eq!((at(&lines, 29_999), at(&array, 29_999)), (Some(30_000), Some(30_001)));
    let ids = array.frame().column("id").unwrap().str().unwrap().get(29_999).map(str::to_string);
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
    assert_eq!(text, "none.jsonl: no such file or folder");
    assert!(error.is_not_found());
    let error = Dataset::open(files.0.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: this is a folder; name one file in it", files.0.path().display())
    );
    for empty in ["", " \n\n", "\u{feff}"] {
        let (text, error) = open(files.put("empty.jsonl", empty));
        assert_eq!(text, "empty.jsonl: the file is empty; name a file that holds JSON lines or a JSON array");
        assert!(error.is_format());
    }
    assert_eq!(
        open(files.put("array.json", "[]")).0,
        "array.json: the file holds no records; name a file that holds JSON lines or a JSON array"
    );
    assert_eq!(
        open(files.put("notes.txt", "Dear all,\nhello\n")).0,
        "notes.txt, line 1: this is neither JSON lines nor a JSON array: expected value, at column 1; \
         name a file that holds one JSON object a line, or an array of objects"
    );
    assert_eq!(
        open(files.put("byte.json", "{")).0,
        "byte.json, line 1: this is neither JSON lines nor a JSON array: EOF while parsing an object, at \
         column 1; name a file that holds one JSON object a line, or an array of objects"
    );
    assert_eq!(
        open(files.put("rows.jsonl.gz", b"\x1f\x8b\x08\x00")).0,
        "rows.jsonl.gz: this is gzip, not JSON lines or a JSON array; unpack it first"
    );
    assert_eq!(
        open(files.put("qa.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\n{\"x\": 1}\n")).0,
        "qa.jsonl, line 1: none of its 2 records is a row: the record has the keys question, answer; known \
         are instruction and output (alpaca), conversations of from and value (sharegpt, belle-chat), \
         messages of role and content (openai)"
    );
    assert_eq!(
        open(files.put("types.jsonl", "{\"instruction\": [], \"output\": \"a\"}")).0,
        "types.jsonl, line 1: its one record is no row: wrong type, `instruction`: invalid type: sequence, \
         expected a string; write the value as the schema wants it"
    );
}

#[test]
fn a_split_keeps_like_questions_together() {
    let files = Files::new();
    let rows: String = (0..600)
        .map(|i| {
            let question = ["How many are {}?", "how many  are {}", "HOW MANY ARE {} ?"][i % 3];
            let question = question.replace("{}", &(i / 3).to_string());
            format!("{{\"instruction\": \"{question}\", \"output\": \"{i}\"}}\n")
        })
        .collect();
    let data = Dataset::open(files.put("like.jsonl", rows)).unwrap();
    let (train, test) = data.split(0.8, 7).unwrap();
    assert_eq!((train.len(), test.len()), (480, 120));
    let groups = |data: &Dataset| -> std::collections::BTreeSet<usize> {
        let answer = |i| data.conversation(i).unwrap()[1].content.parse::<usize>().unwrap() / 3;
        (0..data.len()).map(answer).collect()
    };
    assert!(groups(&train).is_disjoint(&groups(&test)));
    assert_eq!(groups(&train).len() + groups(&test).len(), 200);

    let again = data.split(0.8, 7).unwrap();
    assert_eq!(train.fingerprint().unwrap(), again.0.fingerprint().unwrap());
    assert_ne!(train.fingerprint().unwrap(), data.split(0.8, 8).unwrap().0.fingerprint().unwrap());
    let lines: Vec<u32> = train.frame().column("line").unwrap().u32().unwrap().into_no_null_iter().collect();
    assert!(lines.is_sorted(), "each side keeps its order");
    for (fraction, sizes) in [(0.0001, (3, 597)), (0.9999, (597, 3))] {
        let (a, b) = data.split(fraction, 1).unwrap();
        assert_eq!((a.len(), b.len()), sizes, "neither side is empty");
    }
    for fraction in [0.0, 1.0, -1.0, f64::NAN] {
        let error = data.split(fraction, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a dataset cannot be split at {fraction}; give a fraction between 0 and 1, such as 0.98")
        );
    }
    let error = data.head(3).split(0.5, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the 3 rows cannot be split: they all begin with the same user text; take more rows, or slice them \
         by number"
    );
}

#[test]
fn slices_and_filters() {
    let data = Dataset::open(schools("conversations.json")).unwrap();
    assert_eq!(
        (data.len(), data.head(7).len(), data.slice(298, 10).len(), data.slice(900, 1).len()),
        (300, 7, 2, 0)
    );
    assert_eq!(data.slice(5, 2).conversation(0).unwrap(), data.conversation(5).unwrap());
    let long = data.filter(col("turns").gt(lit(8))).unwrap();
    assert!(!long.is_empty() && long.len() < 150, "{}", long.len());
    assert!((0..long.len()).all(|i| long.conversation(i).unwrap().len() == 10));
    let one = data.filter(col("id").eq(lit("school-17"))).unwrap();
    assert_eq!(one.conversation(0).unwrap(), data.conversation(16).unwrap());
    assert_eq!(data.filter(col("turns").gt(lit(99))).unwrap().len(), 0);
    let error = data.filter(col("nothing").gt(lit(8))).unwrap_err();
    assert!(error.is_input());
    let text = error.to_string();
    assert!(text.starts_with("the filter cannot be used: ") && text.contains("nothing"), "{text}");
    assert!(text.ends_with("see columns() and frame() for the columns that it may name"), "{text}");

    let columns = data.columns().unwrap();
    assert_eq!(
        columns.get_column_names(),
        ["id", "line", "source", "turns", "chars", "first_user", "last_answer"]
    );
    let talk = data.conversation(3).unwrap();
    let chars: usize = talk.iter().map(|m| m.content.chars().count()).sum();
    assert_eq!(columns.column("chars").unwrap().u32().unwrap().get(3), Some(chars as u32));
    assert_eq!(
        columns.column("last_answer").unwrap().str().unwrap().get(3),
        talk.last().map(|m| m.content.as_str())
    );
    let empty = data.slice(0, 0);
    assert_eq!(empty.report().unwrap().rows, 0);
    assert!(empty.show().text.starts_with("0 rows"));
    assert_eq!(empty.conversation(0).unwrap_err().to_string(), "there is no row 0: the dataset is empty");
}

#[test]
fn a_recipe_finds_the_same_rows_again_and_notices_a_changed_file() {
    let files = Files::new();
    let path = files.path("rows.jsonl");
    Generate { rows: 500, ..Generate::default() }.write(&path).unwrap();
    let data = Dataset::open(&path).unwrap();
    let (train, test) = data.split(0.9, 3).unwrap();
    let part = train.filter(col("chars").gt(lit(80))).unwrap().slice(10, 40);
    for data in [&data, &test, &part] {
        let json = serde_json::to_string(&data.recipe()).unwrap();
        let recipe: Recipe = serde_json::from_str(&json).unwrap();
        let again = Dataset::from_recipe(&recipe).unwrap();
        assert_eq!(again.len(), data.len());
        assert_eq!(again.fingerprint().unwrap(), data.fingerprint().unwrap());
        assert_eq!(again.recipe(), data.recipe());
    }
    assert_eq!(part.len(), 40);
    assert_ne!(part.fingerprint().unwrap(), test.fingerprint().unwrap());
    assert!(part.recipe().path.is_absolute());

    let mut text = std::fs::read_to_string(&path).unwrap();
    let at = text.rfind('1').unwrap();
    text.replace_range(at..=at, "2");
    std::fs::write(&path, text).unwrap();
    let error = Dataset::from_recipe(&part.recipe()).unwrap_err();
    assert!(error.is_state());
    let text = message(&error, &files);
    assert!(text.starts_with("rows.jsonl: the file has changed: it had "), "{text}");
    assert!(text.ends_with("; put the old file back, or open the new one with Dataset::open"), "{text}");
    std::fs::remove_file(&path).unwrap();
    assert!(Dataset::from_recipe(&part.recipe()).unwrap_err().is_not_found());
    let wrong = Recipe { steps: vec![lorascope::dataset::Step::Keep { rows: vec![7000] }], ..data.recipe() };
    Generate { rows: 500, ..Generate::default() }.write(&path).unwrap();
    assert!(Dataset::from_recipe(&wrong).is_err());
}

#[test]
fn writing_every_schema() {
    let files = Files::new();
    let data = Dataset::open(files.put("mixed.jsonl", MIXED)).unwrap();
    let head = data.head(2);
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
    assert_eq!(written.lost, [("keys that no schema knows".to_string(), 1)].into());
    assert!(written.to_string().ends_with("left out: keys that no schema knows, in 1 rows"), "{written}");
    head.write(files.path("alpaca.json"), RowSchema::Alpaca).unwrap();
    assert_eq!(
        read("alpaca.json"),
        "[\n{\"instruction\":\"3 + 4 = ?\",\"input\":\"\",\"output\":\"7\"},\n\
         {\"system\":\"Be brief.\",\"instruction\":\"Add.\",\"input\":\"1 and 2\",\"output\":\"3\"}\n]\n"
    );
    data.slice(4, 1).write(files.path("openai.jsonl"), RowSchema::OpenAi).unwrap();
    assert_eq!(
        read("openai.jsonl"),
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"u\",\
         \"name\":\"Ann\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"1\"}]},\
         {\"role\":\"tool\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"done\",\"weight\":0.5}],\
         \"tools\":[{\"name\":\"t\"}]}\n"
    );
    let error = data.write(files.path("no.json"), RowSchema::Alpaca).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "mixed.jsonl, line 6: alpaca holds pairs of user and assistant, and row row-6 has the turns user, \
         assistant, tool, assistant; write sharegpt or openai, or filter such rows out"
    );
    let error = data.write(files.path("rows.csv"), RowSchema::OpenAi).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "rows.csv: the name does not say how to write the rows; end it in .jsonl for JSON lines or in .json \
         for an array"
    );
    let error = data.write(files.path("belle.jsonl"), RowSchema::OpenAi).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "belle.jsonl: the file exists; choose another name, or say overwrite"
    );
    assert_eq!(read("belle.jsonl"), text, "refused before anything was written");
    assert_eq!(data.overwrite(files.path("belle.jsonl"), RowSchema::OpenAi).unwrap().rows, 6);
    assert!(data.write(files.path("no/where.jsonl"), RowSchema::OpenAi).unwrap_err().is_not_found());
    let mut left: Vec<String> = std::fs::read_dir(files.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["alpaca.json", "belle.jsonl", "mixed.jsonl", "openai.jsonl"],
        "no temporary file stays"
    );
    data.slice(0, 0).write(files.path("none.json"), RowSchema::OpenAi).unwrap();
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

const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "EVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n<b>x</b>\nEVCXR_END_CONTENT",
    "nul \u{0} bell \u{7} escape \u{1b}[31m",
    "\u{202e}right to left\u{202c} \u{200f}",
    "\" onmouseover=\"x' & <",
    "\u{feff}mark, \u{10ffff}, e\u{301}, 👩‍👩‍👧",
];

#[test]
fn hostile_text_shows_as_text() {
    let files = Files::new();
    let rows: Vec<String> = HOSTILE
        .iter()
        .map(|text| {
            serde_json::json!({"id": text, "conversations": [
                {"from": "human", "value": text}, {"from": "gpt", "value": text}]})
            .to_string()
        })
        .chain([serde_json::json!({"<i>EVCXR_END_CONTENT": 1}).to_string()])
        .collect();
    let data = Dataset::open(files.put("hostile.jsonl", rows.join("\n"))).unwrap();
    for (i, text) in HOSTILE.iter().enumerate() {
        assert_eq!(data.conversation(i).unwrap()[0].content, *text, "stored as it is");
    }
    let shown = [data.show(), data.report().unwrap().show(), data.problems().unwrap().show()];
    for bundle in shown {
        for bad in ["<script", "<b>x", "<i>", "EVCXR_BEGIN", "EVCXR_END", "\u{0}", "\u{1b}", "onmouseover=\""]
        {
            assert!(!bundle.html.contains(bad), "{bad:?} in {}", bundle.html);
        }
        assert!(
            !bundle.text.contains("EVCXR_BEGIN") && !bundle.text.contains("EVCXR_END"),
            "{}",
            bundle.text
        );
    }
    let name = "EVCXR_BEGIN_CONTENT text.jsonl";
    let error = Dataset::open(files.path(name)).unwrap_err();
    assert!(!error.to_string().contains("EVCXR_BEGIN"));
}

#[test]
fn a_table_of_head_and_tail() {
    let data = Dataset::open(schools("school_math.jsonl")).unwrap();
    let text = data.show().text;
    assert!(text.starts_with("1,999 rows · "), "{text}");
    assert!(text.contains("problems: see problems() and report()"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 5 + 1 + 5);
    assert!(lines[12].trim_start().starts_with("1998"), "{}", lines[12]);
    assert_eq!(data.head(4).to_string().lines().count(), 2 + 4);
    assert!(!data.show().html.contains("color:"), "no fixed colours");
}

#[test]
fn the_committed_file_has_its_faults_in_the_report() {
    let data = Dataset::open(schools("school_math.jsonl")).unwrap();
    let report = data.report().unwrap();
    assert_eq!((report.rows, report.rejected, report.turns.total), (1_999, 1, 3_998));
    assert_eq!(report.roles, [("assistant".to_string(), 1_999), ("user".to_string(), 1_999)].into());
    let columns = data.columns().unwrap();
    let chars = columns.column("chars").unwrap().u32().unwrap();
    assert_eq!(report.characters, Lengths::of(chars.into_no_null_iter().map(u64::from).collect()));
    assert_eq!(report.histogram.counts.iter().sum::<u64>(), 1_999);
    assert_eq!(
        report.problems.iter().map(|p| p.count).sum::<u64>() as usize,
        data.problems().unwrap().height()
    );
    let text = report.to_string();
    for part in ["1,999 rows · 1 rejected", "broken JSON", "repair the line in the file", "trim the turn"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (train, _) = data.split(0.5, 1).unwrap();
    let half = train.report().unwrap();
    assert_eq!(half.rejected, 0, "a part has no rejected rows");
    let breaks = |report: &lorascope::dataset::Report| {
        report.problems.iter().find(|p| p.kind.name() == "leading line breaks").map_or(0, |p| p.count)
    };
    assert!(breaks(&half) > 0 && breaks(&half) < breaks(&report));
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<lorascope::dataset::Report>(&json).unwrap(), report);
}

/// A tokenizer of one token a word, with a chat template that refuses the word "no".
fn words(files: &Files) -> Tokenizer {
    let vocabulary = r#"{"<unk>": 0, "user": 1, "assistant": 2}"#;
    files.put(
        "tokenizer.json",
        format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null,
            "decoder": null, "model": {{"type": "WordLevel", "vocab": {vocabulary}, "unk_token": "<unk>"}}}}"#
        ),
    );
    files.put("tokenizer_config.json", "{}");
    let template = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('no!') }}{% endif %}\
                    {{ m.role }} {{ m.content }}\n{% endfor %}";
    Tokenizer::from_folder(files.0.path()).unwrap().with_template(template).unwrap()
}

#[test]
fn tokens_are_counted_under_the_chat_template() {
    let files = Files::new();
    let row =
        |words: usize| format!("{{\"instruction\": \"{}\", \"output\": \"x y\"}}\n", "w ".repeat(words));
    let rows: String = (1..=100).map(row).collect();
    let refused = "{\"instruction\": \"no\", \"output\": \"a\"}\n";
    let data = Dataset::open(files.put("rows.jsonl", rows + refused)).unwrap();
    let report = data.report_with(&words(&files)).unwrap();
    let tokens = report.tokens.unwrap();
    // user w…w assistant x y
    assert_eq!((tokens.p50, tokens.p90, tokens.p99, tokens.max), (54, 94, 103, 104));
    assert_eq!((tokens.mean, tokens.total), (54.5, 5450));
    assert_eq!(report.histogram.unit, "tokens");
    assert_eq!(report.histogram.counts.iter().sum::<u64>(), 100);
    let problem = &report.problems[0];
    assert_eq!(
        (problem.kind.name(), problem.count, problem.lines.as_slice()),
        ("refused by the chat template", 1, &[101][..])
    );
    assert_eq!(report.rejected, 0);
    let error = data.slice(100, 1).report_with(&words(&files)).unwrap_err();
    assert!(error.to_string().contains("no!"), "{error}");
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
