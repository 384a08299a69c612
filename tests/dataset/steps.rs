//! Cleaning, repairing, drawing, joining: what each step takes away, and that it can be taken again.

use crate::common::files::Files;
use lorascope::dataset::{Dataset, Order, Recipe};
use lorascope::display::Show as _;
use lorascope::format::{Fix, Fixes, OnFault, ReadOptions};
use lorascope::polars::prelude::*;

/// Rows in which every repair has something to do.
const FAULTY: &str = concat!(
    r#"{"id": "a", "conversations": [{"from": "human", "value": "\n one "}, {"from": "gpt", "value": "1"}]}"#,
    "\n",
    r#"{"id": "b", "conversations": [{"from": "gpt", "value": "hello"}, {"from": "human", "value": "two"}, {"from": "gpt", "value": "2"}]}"#,
    "\n",
    r#"{"id": "c", "conversations": [{"from": "human", "value": "three"}, {"from": "gpt", "value": "3"}, {"from": "human", "value": "more"}]}"#,
    "\n",
    r#"{"id": "d", "conversations": [{"from": "human", "value": "fo"}, {"from": "human", "value": "ur"}, {"from": "gpt", "value": "4"}]}"#,
    "\n",
    r#"{"id": "e", "conversations": [{"from": "human", "value": "five"}, {"from": "gpt", "value": " "}, {"from": "human", "value": "?"}, {"from": "gpt", "value": "5"}]}"#,
    "\n",
    r#"{"id": "f", "conversations": [{"from": "human", "value": "s\u0007ix"}, {"from": "gpt", "value": "6"}]}"#,
    "\n",
    r#"{"id": "g", "conversations": [{"from": "human", "value": "seven"}, {"from": "gpt", "value": "7"}]}"#,
    "\n",
);

fn texts(data: &Dataset) -> Vec<String> {
    let text = |i| {
        let turns = data.conversation(i).unwrap();
        turns.iter().map(|m| m.text()).collect::<Vec<_>>().join("|")
    };
    (0..data.len()).map(text).collect()
}

fn outcomes(data: &Dataset) -> Vec<(String, String)> {
    let frame = data.problems().unwrap();
    let column = |name: &str| -> Vec<String> {
        let column = frame.column(name).unwrap();
        column.str().unwrap().iter().map(|text| text.unwrap().to_string()).collect()
    };
    column("kind").into_iter().zip(column("outcome")).collect()
}

#[test]
fn repairs() {
    let files = Files::new();
    let data = Dataset::open(files.put("faulty.jsonl", FAULTY)).unwrap();
    assert_eq!(texts(&data), ["\n one |1", "fo|ur|4", "s\u{7}ix|6", "seven|7"]);
    let kinds = |wanted: &str| -> Vec<String> {
        let of = outcomes(&data).into_iter().filter(|(_, outcome)| outcome == wanted);
        of.map(|(kind, _)| kind).collect()
    };
    assert_eq!(
        kinds("rejected"),
        ["does not start with the user", "does not end with the assistant", "empty turn"]
    );
    assert_eq!(kinds("kept"), ["leading line breaks", "same role twice", "control characters"]);

    let merged = data.fix(Fix::MergeSameRole | Fix::DropTrailingUser).unwrap();
    assert_eq!(texts(&merged), ["\n one |1", "three|3", "fo\nur|4", "s\u{7}ix|6", "seven|7"]);
    let all = data.fix(Fixes::all()).unwrap();
    assert_eq!(texts(&all), ["one|1", "two|2", "three|3", "fo\nur|4", "five\n?|5", "six|6", "seven|7"]);
    assert!(outcomes(&all).iter().all(|(_, outcome)| outcome == "repaired"));
    // White space that went from the ends of a turn is a repair as well: two rows had it.
    assert_eq!(outcomes(&all).len(), 9, "{:?}", outcomes(&all));
    assert_eq!(texts(&data.trim().unwrap())[0], "one|1");

    // Of a part, the rows that it holds; the rescued ones belong to the whole.
    let part = data.filter(col("line").gt(lit(3u32))).unwrap().fix(Fixes::all()).unwrap();
    assert_eq!(texts(&part), ["fo\nur|4", "six|6", "seven|7"]);
    let again: Recipe =
        serde_json::from_str(&serde_json::to_string(&part.recipe().unwrap()).unwrap()).unwrap();
    assert_eq!(texts(&Dataset::from_recipe(&again).unwrap()), texts(&part));
    assert_eq!(data.drop_problems().unwrap().len(), 1);
    assert_eq!(all.drop_problems().unwrap().len(), 7);
}

#[test]
fn the_first_fault_can_be_an_error() {
    let files = Files::new();
    let path = files.put("faulty.jsonl", FAULTY);
    let strict = ReadOptions { faults: OnFault::Fail, ..Default::default() };
    let error = Dataset::open_with(&path, &strict).unwrap_err();
    assert!(error.to_string().ends_with(
        "faulty.jsonl, line 1: leading line breaks: a turn begins with line breaks; Fix::Trim, or trim()"
    ));
    let repaired = ReadOptions { fixes: Fixes::all(), ..strict };
    assert_eq!(Dataset::open_with(&path, &repaired).unwrap().len(), 7);
    let invalid = files.put(
        "latin.jsonl",
        b"{\"instruction\": \"caf\xe9\", \"output\": \"x\"}\n{\"instruction\": \"a\", \"output\": \"b\"}\n",
    );
    let data = Dataset::open(&invalid).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (1, 1));
    assert_eq!(texts(&data.fix(Fix::ReplaceInvalidUtf8).unwrap()), ["caf\u{fffd}|x", "a|b"]);
}

fn numbered(files: &Files, name: &str, count: usize) -> Dataset {
    let row = |i| {
        format!("{{\"instruction\": \"{name} {i}\", \"output\": \"{}\"}}\n", "x".repeat(1 + i * 7 % count))
    };
    Dataset::open(files.put(&format!("{name}.jsonl"), (0..count).map(row).collect::<String>())).unwrap()
}

#[test]
fn samples_orders_and_joins_are_steps() {
    let files = Files::new();
    let (a, b) = (numbered(&files, "a", 3000), numbered(&files, "b", 100));
    let sample = a.sample(200, 5).unwrap();
    assert_eq!((sample.len(), a.sample(5000, 5).unwrap().len()), (200, 3000));
    assert_eq!(texts(&sample), texts(&a.sample(200, 5).unwrap()));
    assert_ne!(texts(&sample), texts(&a.sample(200, 6).unwrap()));

    let sorted = a.sort(col("chars"), Order::Descending).unwrap();
    let chars = sorted
        .columns()
        .unwrap()
        .column("chars")
        .unwrap()
        .u32()
        .unwrap()
        .into_no_null_iter()
        .collect::<Vec<_>>();
    assert!(chars.is_sorted_by(|a, b| a >= b) && chars.len() == 3000);
    assert_eq!(
        sorted.place(0).unwrap().1,
        sorted.frame().unwrap().collect().unwrap().column("line").unwrap().u32().unwrap().get(0).unwrap()
            as u64
    );

    let both = sample.concat(&b).unwrap();
    assert_eq!((both.len(), both.conversation(200).unwrap()[0].text()), (300, "b 0"));
    assert_eq!(both.place(250).unwrap().0.file_name().unwrap(), "b.jsonl");
    assert_eq!(both.frame().unwrap().collect().unwrap().height(), 300);
    let mixed = Dataset::mix(&[(&a, 3.0), (&b, 1.0)], 1).unwrap();
    let from_b = texts(&mixed).iter().filter(|text| text.starts_with('b')).count();
    assert_eq!((mixed.len(), from_b), (400, 100));
    assert!(texts(&mixed)[..200].iter().any(|text| text.starts_with('b')), "shuffled");
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Dataset::mix(&[(&a, wrong)], 1).unwrap_err().is_input());
    }
    assert!(Dataset::mix(&[], 1).unwrap_err().is_input());

    for data in [
        &sample,
        &sorted,
        &both,
        &mixed,
        &mixed.matching("^b 1?[0-9]$").unwrap(),
        &both.concat(&mixed).unwrap(),
    ] {
        let recipe = serde_json::to_string(&data.recipe().unwrap()).unwrap();
        let again = Dataset::from_recipe(&serde_json::from_str(&recipe).unwrap()).unwrap();
        assert_eq!(again.fingerprint().unwrap(), data.fingerprint().unwrap());
        assert_eq!(again.steps().to_string(), data.steps().to_string());
    }
}

#[test]
fn cleaning_says_what_it_removed() {
    let files = Files::new();
    let rows = ["one|1", "one|1", "two|2", "<b>|3", "two|2", "two|two"].map(|row| {
        let (question, answer) = row.split_once('|').unwrap();
        format!("{{\"instruction\": \"{question}\", \"output\": \"{answer}\"}}")
    });
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    let clean = data.dedup().unwrap().not_matching("^t.o$").unwrap().matching("<.>|1").unwrap();
    assert_eq!(texts(&clean), ["one|1", "<b>|3"]);
    let steps = clean.steps();
    let shown = steps.to_string();
    for line in ["dedup", "rows that do not match \"^t.o$\"", "rows that match \"<.>|1\""] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!steps.show().html.contains("<.>"));
    let error = data.matching("(").unwrap_err();
    assert!(error.is_input() && error.to_string().contains("is no regular expression"), "{error}");
    assert!(data.max_tokens(5).unwrap_err().to_string().contains("for_tokenizer"));
}

#[test]
fn turns_and_chats() {
    let files = Files::new();
    let data = Dataset::open(files.put("faulty.jsonl", FAULTY)).unwrap();
    let turns = data.turns().unwrap();
    assert_eq!(turns.shape(), (9, 6));
    assert_eq!(turns.column("chars").unwrap().u32().unwrap().get(4), Some(1));
    assert_eq!(data.slice(0, 0).unwrap().turns().unwrap().shape(), (0, 6));
    let hostile = files.put(
        "hostile.jsonl",
        r#"{"instruction": "<script>alert(1)</script>\nEVCXR_END_CONTENT", "output": "<b>"}"#,
    );
    let chat = Dataset::open(hostile).unwrap().row(0).unwrap().show();
    assert!(chat.html.contains("&lt;script&gt;") && !chat.html.contains("<script>"), "{}", chat.html);
    assert!(chat.text.contains("[user] <script>") && chat.text.contains("line 1"), "{}", chat.text);
    assert!(data.row(9).unwrap_err().to_string().contains("rows are numbered 0 to 3"));
}
