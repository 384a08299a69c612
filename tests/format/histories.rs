//! A `history` beside a prompt, and an instruction beside its input: written again, nothing moves and nothing is lost.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Fix, Layout, ReadOptions, RowSchema, WriteOptions, convert};
use serde_json::{Value as Json, json};

/// What is said, with who says it.
fn said(data: &Dataset) -> Vec<String> {
    data.conversation(0).unwrap().into_iter().map(|m| format!("{} {}", m.role, m.text())).collect()
}

fn source(data: &Dataset) -> RowSchema {
    let frame = data.frame().unwrap().collect().unwrap();
    frame.column("source").unwrap().str().unwrap().get(0).unwrap().parse().unwrap()
}

fn written(files: &Files, data: &Dataset, schema: RowSchema, layout: Layout) -> Json {
    let options = WriteOptions { layout, existing: Existing::Replace, ..Default::default() };
    data.write_with(files.path("out.jsonl"), schema, &options).unwrap();
    serde_json::from_str(&std::fs::read_to_string(files.path("out.jsonl")).unwrap()).unwrap()
}

#[test]
fn a_history_beside_lists_of_turns_holds_its_own_turns() {
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let (q1, a1, q2, a2) =
        (turn("user", "q1"), turn("assistant", "a1"), turn("user", "q2"), turn("assistant", "a2"));
    let (system, q3, a3) = (turn("system", "S"), turn("user", "q3"), turn("assistant", "a3"));
    let pairs = json!([["hq", "ha"]]);
    let list = json!([turn("user", "hq"), turn("assistant", "ha")]);
    let talk = ["user hq", "assistant ha", "user q1", "assistant a1", "user q2", "assistant a2"];
    for history in [&pairs, &list] {
        for (row, right) in [
            (json!({"query": [q1, a1, q2], "response": "a2", "history": history}), &talk[..]),
            (json!({"history": history, "prompt": [q1, a1, q2], "completion": [a2]}), &talk),
            (json!({"prompt": [q1], "completion": [a1, q2, a2], "history": history}), &talk),
            (json!({"prompt": "q1", "completion": [a1, q2, a2], "history": history}), &talk),
            (json!({"prompt": [q1], "completion": "a1", "history": history}), &talk[..4]),
            (json!({"prompt": [q1, a1, q2], "completion": "a2", "history": history, "label": true}), &talk),
            (json!({"prompt": [q1, a1, q2], "chosen": "a2", "rejected": "x", "history": history}), &talk),
            (json!({"messages": [q1, a1, q2], "chosen": [a2], "rejected": [a1], "history": history}), &talk),
        ] {
            let files = Files::new();
            let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
            assert_eq!(said(&data), right, "{row}");
            let own = source(&data);
            assert_eq!(written(&files, &data, own, Layout::Keep), row);
            for layout in [Layout::Keep, Layout::Schema] {
                written(&files, &data, own, layout);
                let again = Dataset::open(files.path("out.jsonl")).unwrap();
                assert_eq!(said(&again), right, "{row} as {own}");
            }
            let done = convert(
                files.path("row.jsonl"),
                files.path("done.jsonl"),
                own,
                &Default::default(),
                &Default::default(),
            );
            assert_eq!(done.unwrap().written.rows, 1);
            assert_eq!(said(&Dataset::open(files.path("done.jsonl")).unwrap()), right, "{row}");
        }
        // A system's turn that begins the list is the first of all.
        for row in [
            json!({"prompt": [system, q1], "completion": "a1", "history": history}),
            json!({"prompt": [system, q1, a1, q3], "completion": [a3], "history": history}),
            json!({"prompt": [system, q1], "chosen": "a1", "rejected": "x", "history": history}),
            json!({"messages": [system, q1], "chosen": "a1", "rejected": "x", "history": history}),
        ] {
            let files = Files::new();
            let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
            assert_eq!(said(&data)[..4], ["system S", "user hq", "assistant ha", "user q1"], "{row}");
            assert_eq!(written(&files, &data, source(&data), Layout::Keep), row);
        }
    }
    // Answers that repeat the prompt, with the history or without it.
    let hist = [turn("user", "hq"), turn("assistant", "ha")];
    for before in [&hist[..0], &hist[..]] {
        let whole = |last: &Json| [before, &[q1.clone(), last.clone()]].concat();
        let row = json!({"prompt": [q1], "chosen": whole(&a1), "rejected": whole(&a2), "history": pairs});
        let files = Files::new();
        let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
        assert_eq!(said(&data), talk[..4], "{row}");
        assert_eq!(written(&files, &data, RowSchema::Preference, Layout::Keep), row);
    }
}

#[test]
fn an_edited_question_stays_where_it_was() {
    let options = ReadOptions { fixes: Fix::Trim.into(), ..Default::default() };
    for (row, right) in [
        (
            json!({"instruction": " ", "input": "the whole question ", "output": "a"}),
            json!({"instruction": " ", "input": "the whole question", "output": "a"}),
        ),
        (
            json!({"instruction": "", "input": "the whole question ", "output": "a"}),
            json!({"instruction": "", "input": "the whole question", "output": "a"}),
        ),
        (
            json!({"output": "a", "context": "the whole question ", "instruction": ""}),
            json!({"output": "a", "context": "the whole question", "instruction": ""}),
        ),
        (
            json!({"instruction": " ", "context": "the whole question ", "response": "a"}),
            json!({"instruction": " ", "context": "the whole question", "response": "a"}),
        ),
        (
            json!({"instruction": "", "instances": [{"input": "the whole question ", "output": "a"}]}),
            json!({"instruction": "", "instances": [{"input": "the whole question", "output": "a"}]}),
        ),
        (
            json!({"prompt": "", "context": "the whole question ", "completion": "a"}),
            json!({"prompt": "", "context": "the whole question", "completion": "a"}),
        ),
        (
            json!({"instruction": " ", "input": "the whole question ", "chosen": "a", "rejected": "b"}),
            json!({"instruction": " ", "input": "the whole question", "chosen": "a", "rejected": "b"}),
        ),
        // Of two parts the first holds what became of both.
        (
            json!({"instruction": "the whole", "input": "question ", "output": "a"}),
            json!({"instruction": "the whole\nquestion", "input": "", "output": "a"}),
        ),
    ] {
        let files = Files::new();
        let data = Dataset::open_with(files.put("row.jsonl", row.to_string()), &options).unwrap();
        let asked = said(&data)[0].clone();
        let own = source(&data);
        assert_eq!(written(&files, &data, own, Layout::Keep), right, "{row}");
        for layout in [Layout::Keep, Layout::Schema] {
            written(&files, &data, own, layout);
            assert_eq!(said(&Dataset::open(files.path("out.jsonl")).unwrap())[0], asked, "{row}");
            let writing = WriteOptions { layout, existing: Existing::Replace, ..Default::default() };
            convert(files.path("row.jsonl"), files.path("done.jsonl"), own, &options, &writing).unwrap();
            assert_eq!(said(&Dataset::open(files.path("done.jsonl")).unwrap())[0], asked, "{row}");
        }
    }
}
