//! JSON as Python writes it: halves of surrogate pairs and NaN. Each is said, and has a repair.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Fix, Fixes, ReadOptions, RowSchema, convert};

/// `json.dumps` of rows that were cut at 2,000 UTF-16 units, with pandas' empty cells.
const ROWS: &str = r#"{"instruction": "Wave", "input": "", "output": "\ud83d\udc4b hello"}
{"instruction": "Cut", "input": "", "output": "that is nice \ud83d"}
{"instruction": "Empty", "input": NaN, "output": "yes"}
{"instruction": "What is NaN?", "input": "", "output": "NaN is \"not a number\": {\"x\": NaN}"}
{"instruction": "Backwards", "input": "", "output": "\udc4b\ud83d"}
"#;

/// Line, kind, row (rejected, kept or repaired) and what of all problems.
fn problems(data: &Dataset) -> Vec<(u32, String, String, String)> {
    let table = data.problems().unwrap();
    let texts = |name: &str, i: usize| table.column(name).unwrap().str().unwrap().get(i).unwrap().to_string();
    let line = |i: usize| table.column("line").unwrap().u32().unwrap().get(i).unwrap();
    (0..table.height()).map(|i| (line(i), texts("kind", i), texts("outcome", i), texts("what", i))).collect()
}

fn turns(data: &Dataset, i: usize) -> Vec<String> {
    data.conversation(i).unwrap().into_iter().map(|message| message.text().to_string()).collect()
}

fn answers(data: &Dataset) -> Vec<String> {
    (0..data.len()).map(|i| turns(data, i).pop().unwrap()).collect()
}

fn repairing() -> ReadOptions {
    ReadOptions { fixes: Fixes::from(Fix::ReplaceInvalidUtf8), ..Default::default() }
}

fn said(rows: &[(u32, &str, &str, &str)]) -> Vec<(u32, String, String, String)> {
    rows.iter().map(|(n, a, b, c)| (*n, a.to_string(), b.to_string(), c.to_string())).collect()
}

#[test]
fn what_json_does_not_allow_is_rejected_with_its_repair() {
    let files = Files::new();
    let path = files.put("rows.jsonl", ROWS);
    let data = Dataset::open(&path).unwrap();
    assert_eq!(answers(&data), ["👋 hello", "NaN is \"not a number\": {\"x\": NaN}"]);
    let half = "half a surrogate pair";
    let expected = [
        (2, half, "rejected", "half of a surrogate pair stands alone, at column 61"),
        (3, "not a number", "rejected", "`input` is NaN, not a string"),
        (5, half, "rejected", "half of a surrogate pair stands alone, at column 54"),
    ];
    assert_eq!(problems(&data), said(&expected));
    let table = data.problems().unwrap();
    let fixes = table.column("fix").unwrap().str().unwrap();
    assert!(fixes.iter().all(|fix| fix.unwrap().contains("Fix::ReplaceInvalidUtf8")), "{fixes:?}");
}

#[test]
fn the_repair_reads_all_rows() {
    let files = Files::new();
    let path = files.put("rows.jsonl", ROWS);
    let data = Dataset::open_with(&path, &repairing()).unwrap();
    let expected = [
        "👋 hello",
        "that is nice \u{fffd}",
        "yes",
        "NaN is \"not a number\": {\"x\": NaN}",
        "\u{fffd}\u{fffd}",
    ];
    assert_eq!(answers(&data), expected);
    assert_eq!(turns(&data, 2)[0], "Empty");
    assert!(problems(&data).iter().all(|(_, _, row, _)| row == "repaired"));
    let out = files.path("out.jsonl");
    let done = convert(&path, &out, RowSchema::OpenAi, &repairing(), &Default::default()).unwrap();
    assert_eq!((done.written.rows, done.rejected), (5, 0));
    assert_eq!(done.repaired, [(Fix::ReplaceInvalidUtf8, 3)].into());
    assert!(done.to_string().contains("repaired by Fix::ReplaceInvalidUtf8: 3 rows"), "{done}");
    assert_eq!(answers(&Dataset::open(&out).unwrap()), expected);
}

/// A score that pandas did not know costs no row: it is null in what is written, and that is said.
#[test]
fn nan_in_a_key_that_nobody_reads_costs_no_row() {
    let files = Files::new();
    let rows = r#"{"instruction": "a", "output": "b", "score": NaN}
{"id": NaN, "conversations": [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d", "at": -Infinity}]}
{"messages": [{"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}], "meta": {"x": [1, Infinity, "NaN"]}}
"#;
    let path = files.put("rows.jsonl", rows);
    let data = Dataset::open(&path).unwrap();
    assert_eq!((answers(&data), data.rejected().unwrap()), (["b", "d", "f"].map(String::from).to_vec(), 0));
    let kept = |line, key: &str, word: &str| {
        let what = format!("`{key}` is {word}, which JSON has not: read as null");
        (line, "not a number".to_string(), "kept".to_string(), what)
    };
    assert_eq!(problems(&data), [kept(1, "score", "NaN"), kept(2, "id", "NaN"), kept(3, "x", "Infinity")]);
    for (name, schema, expected) in [
        ("a.jsonl", RowSchema::Alpaca, r#""score":null"#),
        ("b.jsonl", RowSchema::OpenAi, r#""meta":{"x": [1, null, "NaN"]}"#),
    ] {
        let done =
            convert(&path, files.path(name), schema, &Default::default(), &Default::default()).unwrap();
        let text = std::fs::read_to_string(files.path(name)).unwrap();
        assert!(text.contains(expected), "{text}");
        let json = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert!(text.lines().all(json), "{text}");
        assert!(done.to_string().contains("`score` is NaN, which JSON has not: read as null"), "{done}");
    }
}

/// The same inside an array over several lines: the line is that of the fault.
#[test]
fn faults_stand_on_their_own_line() {
    let files = Files::new();
    let rows = "[\n {\"instruction\": \"a\",\n  \"output\": \"b\"},\n {\"instruction\": \"c\",\n  \"output\": \"d\\ud800\\u0041\"},\n \
                {\"instruction\": \"e\",\n  \"output\": NaN}\n]\n";
    let path = files.put("rows.json", rows);
    let data = Dataset::open(&path).unwrap();
    let lines: Vec<(u32, String)> =
        problems(&data).into_iter().map(|(line, kind, ..)| (line, kind)).collect();
    assert_eq!(lines, [(5, "half a surrogate pair".to_string()), (7, "not a number".to_string())]);
    let data = Dataset::open_with(&path, &repairing()).unwrap();
    assert_eq!(answers(&data), ["b", "d\u{fffd}A"]);
    let (line, kind, row, what) = problems(&data).pop().unwrap();
    assert_eq!((line, kind.as_str(), row.as_str()), (6, "wrong type", "rejected"), "{what}");
    assert!(what.contains("`output` is missing or null"), "no repair makes an answer of NaN: {what}");
}

/// What is broken in another way as well stays broken.
#[test]
fn other_faults_are_said_as_before() {
    let files = Files::new();
    let rows = "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"a\", \"output\": NaN\n{\"instruction\": \"a\", \"output\": nan}\n{\"x\": NaN}\n";
    let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
    let kinds: Vec<(u32, String)> =
        problems(&data).into_iter().map(|(line, kind, ..)| (line, kind)).collect();
    let expected = [(2, "broken JSON"), (3, "broken JSON"), (4, "unknown schema")];
    assert_eq!(kinds, expected.map(|(line, kind)| (line, kind.to_string())));
}

/// Cells that pandas wrote as text: read as the text that they are, and said.
#[test]
fn nan_cells_are_said() {
    let files = Files::new();
    let table = "instruction,input,output,score\na,nan,b,nan\nc,\"nan\",d,1\ne,,NaN,2\n";
    let data = Dataset::open(files.put("rows.csv", table)).unwrap();
    assert_eq!((data.len(), turns(&data, 0)), (3, vec!["a\nnan".to_string(), "b".to_string()]));
    let what = |name: &str, text: &str| {
        format!("the cell `{name}` is {text}, as pandas writes what is no value: read as this text")
    };
    let found: Vec<(u32, String)> =
        problems(&data).into_iter().map(|(line, _, _, what)| (line, what)).collect();
    assert_eq!(found, [(2, what("input", "nan")), (4, what("output", "NaN"))]);
    assert_eq!(data.rejected().unwrap(), 0);
}
