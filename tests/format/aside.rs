//! What stands beside a question and its answer: contexts, choices, reasoning, tools under their older name,
//! messages of trees; and marks on parts of a turn.

use crate::common::files::Files;
use lorascope::dataset::{Dataset, Report};
use lorascope::format::{Fix, ProblemKind, ReadOptions, Role, RowSchema};
use serde_json::{Value, json};

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn open(rows: &[Value]) -> (Files, Dataset) {
    let files = Files::new();
    let data = Dataset::open(files.put("rows.jsonl", lines(rows))).unwrap();
    (files, data)
}

fn first_user(data: &Dataset, row: usize) -> String {
    let said = data.conversation(row).unwrap();
    said.into_iter().find(|m| m.role == Role::User).unwrap().text().to_string()
}

/// The lines of a kind of problem, and what is wrong in the first.
fn at(report: &Report, kind: ProblemKind) -> (Vec<u32>, String) {
    let found = report.problems.iter().find(|problem| problem.kind == kind);
    found.map_or_else(Default::default, |problem| (problem.places[0].lines.clone(), problem.example.clone()))
}

fn written(files: &Files, data: &Dataset, schema: RowSchema) -> Vec<Value> {
    data.overwrite(files.path("out.jsonl"), schema).unwrap();
    let text = std::fs::read_to_string(files.path("out.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_question_is_about_is_asked_with_it() {
    let rows = [
        json!({"question": "Is it so?", "context": "Text A.", "answer": "yes"}),
        json!({"question": "Is it so?", "context": "Text B.", "answer": "yes"}),
        json!({"instruction": "Shorten.", "query": "A long text.", "response": "A text.", "history": []}),
        json!({"instruction": "Shorten.", "input": "", "context": "A long text.", "output": "A text."}),
        json!({"question": "Who?", "article": "Ann came.", "answer": "Ann"}),
        json!({"instruction": "", "query": "Who?", "response": "Ann"}),
    ];
    let (files, data) = open(&rows);
    let asked: Vec<String> = (0..data.len()).map(|row| first_user(&data, row)).collect();
    assert_eq!(
        asked,
        [
            "Is it so?\nText A.",
            "Is it so?\nText B.",
            "Shorten.\nA long text.",
            "Shorten.\nA long text.",
            "Who?\nAnn came.",
            "Who?"
        ]
    );
    assert_eq!(data.dedup().unwrap().len(), 5, "only the third and the fourth say the same");
    let report = data.report().unwrap();
    assert_eq!(at(&report, ProblemKind::Aside).0, [0_u32; 0]);
    // Each is written in its own schema as readers of the schema have it, and reads as the same again.
    for schema in [RowSchema::Alpaca, RowSchema::PromptCompletion, RowSchema::OpenAi] {
        written(&files, &data, schema);
        let again = Dataset::open(files.path("out.jsonl")).unwrap();
        let said: Vec<String> = (0..again.len()).map(|row| first_user(&again, row)).collect();
        assert_eq!(said, asked, "{schema}");
    }
}

#[test]
fn a_question_is_asked_as_it_stands_where_it_has_its_context() {
    let (_files, data) = open(&[
        json!({"prompt": "Answer the question: Who?", "input": "Who?", "output": "Ann"}),
        json!({"prompt": "Ann came. Who came?", "context": "Ann came.", "completion": "Ann"}),
        json!({"question": "Who?", "answer": "Ann", "input": ["x"]}),
        json!({"prompt": "Who?", "context": "Ann came.", "article": "Bob went.", "completion": "Ann"}),
        json!({"prompt": "Who?", "chosen": "Ann", "rejected": "Bob", "input": {"x": 1}}),
    ]);
    let asked: Vec<String> = (0..data.len()).map(|row| first_user(&data, row)).collect();
    assert_eq!(
        asked,
        ["Answer the question: Who?", "Ann came. Who came?", "Who?", "Who?\nAnn came.", "Who?"]
    );
    // Of two contexts the second is said, and what is no text.
    let (lines, first) = at(&data.report().unwrap(), ProblemKind::Aside);
    assert_eq!(
        (lines, first.as_str()),
        (vec![3, 4, 5], "`input` stands beside the question and is no part of it")
    );
}

#[test]
fn what_is_left_beside_a_question_or_a_text_is_said() {
    let (_files, data) = open(&[
        json!({"question": "Which?", "options": ["A", "B"], "answer": "A"}),
        json!({"instruction": "Which?", "input": "", "output": "A", "choices": {"text": ["A"]}}),
        json!({"prompt": "Write a story.", "text": "Once upon a time."}),
        json!({"question": "Which?", "options": [], "answer": "B"}),
        json!({"text": "A text alone.", "url": "u"}),
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "history": "of art"}),
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "history": [{"user": "q", "assistant": "a"}]}),
    ]);
    let (lines, first) = at(&data.report().unwrap(), ProblemKind::Aside);
    assert_eq!(lines, [1, 2, 3, 6, 7]);
    assert_eq!(first, "`options` stands beside the question and is no part of it");
}

#[test]
fn rows_are_matched_by_all_that_they_hold() {
    let turns = |extra: Value| json!([{"role": "user", "content": "q"}, extra]);
    let (_files, data) = open(&[
        json!({"prompt": "q", "chosen": "a", "rejected": "my secret"}),
        json!({"messages": turns(json!({"role": "assistant", "content": "a", "reasoning_content": "secret"}))}),
        json!({"messages": turns(json!({"role": "assistant", "content": "a", "tool_calls": [{"type": "function", "function": {"name": "secret", "arguments": {}}}]}))}),
        json!({"messages": turns(json!({"role": "assistant", "content": "a"})), "tools": [{"type": "function", "function": {"name": "secret"}}]}),
        json!({"instruction": "q", "output": "a", "source": "secret"}),
        json!({"text": "A secret."}),
        json!({"instruction": "q", "output": "a"}),
    ]);
    assert_eq!(data.not_matching("secret").unwrap().row_numbers().unwrap(), [6]);
    assert_eq!(data.matching("secret").unwrap().len(), 6);
}

#[test]
fn tools_at_hand_make_another_row() {
    let row = |tools: Value| json!({"messages": [{"role": "user", "content": "Send a mail to Ann, please."}, {"role": "assistant", "content": "I cannot send mails."}], "tools": tools});
    let mail = json!([{"type": "function", "function": {"name": "mail"}}]);
    let (_files, data) = open(&[row(Value::Null), row(mail.clone()), row(mail)]);
    assert_eq!(data.dedup_near(1.0).unwrap().row_numbers().unwrap(), [0, 1]);
}

#[test]
fn reasoning_beside_an_answer_is_that_of_its_turn() {
    let (files, data) = open(&[
        json!({"question": "2 + 2?", "reasoning": "Two and two.", "answer": "4"}),
        json!({"Question": "2 + 2?", "Complex_CoT": "Two and two.", "Response": "4"}),
        json!({"instruction": "2 + 2?", "input": "", "output": "4", "reasoning_content": "Counted."}),
        json!({"prompt": "2 + 2?", "completion": "4", "thinking": " "}),
    ]);
    let thoughts: Vec<Value> = written(&files, &data, RowSchema::OpenAi)
        .iter()
        .map(|row| row["messages"][1]["reasoning_content"].clone())
        .collect();
    assert_eq!(thoughts, [json!("Two and two."), json!("Two and two."), json!("Counted."), Value::Null]);
    assert_eq!(data.dedup().unwrap().len(), 3, "rows that differ in their reasoning are none of the same");
    let lost = data.slice(0, 3).unwrap().losses(RowSchema::OpenAi).unwrap();
    assert!(lost.is_empty(), "{:?}", lost.lost);
    // In its own schema nothing of it is lost.
    let again = written(&files, &data, RowSchema::Alpaca);
    assert_eq!(again[2]["reasoning_content"], "Counted.");
}

#[test]
fn functions_are_tools() {
    let functions = json!([{"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {}}}]);
    let turns = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "function_call": {"name": "get_weather", "arguments": "{}"}},
        {"role": "function", "name": "get_weather", "content": "sun"},
        {"role": "assistant", "content": "Sun."},
    ]);
    let (files, data) = open(&[
        json!({"messages": turns, "functions": functions}),
        json!({"messages": turns, "functions": ["sin", "cos"]}),
        json!({"messages": turns, "functions": []}),
    ]);
    assert!(data.tools(0).unwrap().is_some_and(|tools| tools.contains("get_weather")));
    assert_eq!((data.tools(1).unwrap(), data.tools(2).unwrap()), (None, None));
    let row = &written(&files, &data, RowSchema::OpenAi)[0];
    assert_eq!(row["tools"][0]["function"]["name"], "get_weather");
    assert_eq!(row.get("functions"), None);
}

#[test]
fn a_message_of_a_tree_is_no_document() {
    let (_files, data) = open(&[
        json!({"message_id": "1", "parent_id": null, "text": "Can you write?", "role": "prompter", "deleted": false}),
        json!({"message_id": "2", "parent_id": "1", "text": "Yes.", "role": "assistant", "deleted": false}),
        json!({"text": "A document.", "role": "editor"}),
        // Whole conversations, whatever stands beside them.
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "text": "q a", "role": "assistant", "parent_id": null}),
        json!({"instruction": "i", "output": "o", "text": "t", "role": "x", "parent_id": "1"}),
    ]);
    assert_eq!((data.len(), data.rejected().unwrap()), (3, 2));
    let (lines, first) = at(&data.report().unwrap(), ProblemKind::UnknownSchema);
    assert_eq!(lines, [1, 2]);
    assert!(first.contains("one message of a tree"), "{first}");
}

#[test]
fn marks_of_parts_are_those_of_their_turn() {
    let row = |parts: Value| json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": parts}]});
    let part = |text: &str, key: &str, mark: Value| json!({"type": "text", "text": text, key: mark});
    let (files, data) = open(&[
        row(json!([part("Wrong.", "train", json!(false)), part("Wrong too.", "train", json!(false))])),
        row(json!([part("Wrong.", "weight", json!(0)), part(" ", "cache", json!(1))])),
        row(json!([part("Wrong.", "train", json!(false)), part("Right.", "train", json!(true))])),
        row(json!([part("Wrong.", "loss", json!(0)), "Right."])),
        row(json!([part("Right.", "train", json!(true)), part("Right.", "cache", json!(1))])),
        json!({"messages": [{"role": "user", "content": [part("q", "train", json!(false)), "r"]}, {"role": "assistant", "content": "a"}]}),
        row(json!([part("Wrong.", "train", json!("some"))])),
        row(json!([{"type": "tool_call", "tool_call": {"name": "f", "arguments": {}}, "weight": 0}])),
        row(
            json!([{"type": "thinking", "thinking": "Hm.", "train": false}, part("Right.", "train", json!(true))]),
        ),
    ]);
    assert_eq!(data.rejected().unwrap(), 4);
    let (lines, first) = at(&data.report().unwrap(), ProblemKind::WrongType);
    assert_eq!(lines, [3, 4, 7, 9]);
    assert!(
        first.contains("messages[1]") && first.contains("some parts are trained on and others are not"),
        "{first}"
    );
    let weights: Vec<Option<f32>> =
        (0..data.len()).map(|row| data.conversation(row).unwrap()[1].weight).collect();
    assert_eq!(weights, [Some(0.0), Some(0.0), Some(1.0), None, Some(0.0)]);
    // Nor are they learned where the row is written in another schema.
    let row = &written(&files, &data, RowSchema::ShareGpt)[1];
    assert_eq!(
        (&row["conversations"][1]["value"], &row["conversations"][1]["weight"]),
        (&json!("Wrong. "), &json!(0))
    );
}

#[test]
fn an_answer_whose_loss_is_off_is_not_learned() {
    let turns = json!([
        {"system": "s", "input": "q1", "output": "bad", "output_with_loss": false},
        {"input": "q2", "output": "good", "output_with_loss": true},
    ]);
    let (files, data) = open(&[json!({"conversation": turns})]);
    let row = &written(&files, &data, RowSchema::OpenAi)[0];
    assert_eq!(row["messages"][2]["weight"], 0);
    assert_ne!(row["messages"][4]["weight"], 0);
}

#[test]
fn a_class_is_no_verdict_where_the_schema_is_named() {
    let files = Files::new();
    let row =
        |label: Value| json!({"instruction": "Good film?", "input": "", "output": "No.", "label": label});
    let path =
        files.put("rows.jsonl", lines(&[row(json!(0)), row(json!(1)), row(json!(2)), row(json!(false))]));
    let options = ReadOptions { schema: Some(RowSchema::Alpaca), ..Default::default() };
    let data = Dataset::open_with(&path, &options).unwrap();
    let labels: Vec<Option<bool>> = (0..data.len()).map(|row| data.label(row).unwrap()).collect();
    assert_eq!(labels, [None, None, None, Some(false)], "false is no class");
    // Each is counted once, as what it is.
    let report = data.report().unwrap();
    let label = report.columns.iter().find(|column| column.name == "label").unwrap();
    assert_eq!((label.rows, label.types["number"], label.types["true or false"]), (4, 3, 1));
}

#[test]
fn answers_that_differ_in_their_reasoning_are_two() {
    let answer = |thought: &str| json!([{"role": "assistant", "content": "4", "reasoning_content": thought}]);
    let row = |a: &str, b: &str| json!({"prompt": [{"role": "user", "content": "2 + 2?"}], "chosen": answer(a), "rejected": answer(b)});
    let scored = |score: u32| json!([{"role": "assistant", "content": "5", "score": score}]);
    let scored = json!({"prompt": [{"role": "user", "content": "2 + 3?"}], "chosen": scored(9), "rejected": scored(1)});
    let (_files, data) = open(&[row("right", "wrong"), row("right", "right"), scored]);
    assert_eq!(
        at(&data.report().unwrap(), ProblemKind::SameChoice).0,
        [2, 3],
        "a score is no part of an answer"
    );
}

#[test]
fn a_tools_turn_that_holds_its_call_is_said() {
    let (_files, data) = open(&[
        json!({"text": "t"}),
        json!({"conversations": [
            {"role": "user", "content": "Books?"},
            {"role": "tool", "name": "get_books", "parameters": {"n": 1}, "observation": "[\"A\"]"},
            {"role": "assistant", "content": "A."},
        ]}),
    ]);
    assert_eq!(data.rejected().unwrap(), 1);
    let (_, first) = at(&data.report().unwrap(), ProblemKind::WrongType);
    assert!(first.contains("conversations[1]") && first.contains("`observation`"), "{first}");
}

#[test]
fn the_system_text_is_examined_and_repaired() {
    let row = json!({"messages": [
        {"role": "system", "content": "  be\u{1} good \n"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]});
    let (_files, data) = open(&[row]);
    let (lines, first) = at(&data.report().unwrap(), ProblemKind::ControlCharacters);
    assert_eq!((lines, first.as_str()), (vec![1], "the system text holds the control character U+0001"));
    let clean = data.fix(Fix::StripControl | Fix::Trim).unwrap();
    assert_eq!(clean.conversation(0).unwrap()[0].text(), "be good");
}

#[test]
fn turns_that_are_merged_are_said_to_be_and_the_others_too() {
    let turn = |role: &str, text: &str, weight: Option<u8>| match weight {
        Some(weight) => json!({"role": role, "content": text, "weight": weight}),
        None => json!({"role": role, "content": text}),
    };
    let turns = [
        turn("user", "a", None),
        turn("user", "b", None),
        turn("assistant", "c", None),
        turn("assistant", "d", Some(0)),
    ];
    let (_files, data) = open(&[json!({"messages": turns})]);
    let clean = data.fix(Fix::MergeSameRole).unwrap();
    assert_eq!(first_user(&clean, 0), "a\nb");
    let found: Vec<(String, u64)> = clean
        .report()
        .unwrap()
        .problems
        .iter()
        .filter(|problem| problem.kind == ProblemKind::SameRole)
        .map(|problem| (problem.outcome.name().to_string(), problem.count))
        .collect();
    assert!(
        found.contains(&("repaired".to_string(), 1)) && found.contains(&("kept".to_string(), 1)),
        "{found:?}"
    );
}
