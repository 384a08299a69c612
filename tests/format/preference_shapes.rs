//! Shapes of preferences beside the usual ones: whole conversations in both answers.

use crate::common::one_row::{open, said, turns, written};
use lorascope::dataset::Dataset;
use lorascope::format::Role::{Assistant, System, User};
use lorascope::format::{Layout, RowSchema, WriteOptions};
use serde_json::Value as Json;

#[test]
fn transcripts_in_both_answers() {
    let of = |text: &str| serde_json::to_string(text).unwrap();
    for (chosen, rejected, prompt, answers) in [
        (
            "\n\nHuman: Tea or coffee?\n\nAssistant: Tea.\n\nHuman: Why?\n\nAssistant: It is milder.",
            "\n\nHuman: Tea or coffee?\n\nAssistant: Tea.\n\nHuman: Why?\n\nAssistant: No idea.",
            vec!["Tea or coffee?", "Tea.", "Why?"],
            [vec!["It is milder."], vec!["No idea."]],
        ),
        (
            "\n\nHuman: How is it outside?\n\nAssistant: Sunny all day.",
            "\n\nHuman: How is it outside?\n\nAssistant: Sure, look yourself.",
            vec!["How is it outside?"],
            [vec!["Sunny all day."], vec!["Sure, look yourself."]],
        ),
        (
            "\n\nHuman: Sky?\n\nAssistant: Blue",
            "\n\nHuman: Sky?\n\nAssistant: Blue, as the sea and my car",
            vec!["Sky?"],
            [vec!["Blue"], vec!["Blue, as the sea and my car"]],
        ),
        (
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "\n\nHuman: a\n\nAssistant: x\n\nHuman: y\n\nAssistant: z",
            vec!["a"],
            [vec!["b", "c", "d"], vec!["x", "y", "z"]],
        ),
        (
            "\n\nHuman: first\n\nHuman: is a word\nAssistant: too\n\nAssistant: one\n\ntwo",
            "\n\nHuman: first\n\nHuman: is a word\nAssistant: too\n\nAssistant: three",
            vec!["first", "is a word\nAssistant: too"],
            [vec!["one\n\ntwo"], vec!["three"]],
        ),
    ] {
        let (files, data) = open(&format!("{{\"chosen\":{},\"rejected\":{}}}", of(chosen), of(rejected)));
        let row = written(&files, &data, RowSchema::Preference);
        let texts = |key: &str| -> Vec<String> {
            match &row[key] {
                Json::String(text) => vec![text.clone()],
                turns => turns
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|turn| turn["content"].as_str().unwrap().to_string())
                    .collect(),
            }
        };
        assert_eq!(
            (texts("prompt"), texts("chosen")),
            (
                prompt.into_iter().map(String::from).collect(),
                answers[0].iter().map(|t| t.to_string()).collect()
            )
        );
        assert_eq!(texts("rejected"), answers[1]);
    }
    // The prompt in a key of its own.
    let row = r#"{"prompt":"\n\nHuman: Tea?\n\nAssistant: No.\n\nHuman: Why?\n\nAssistant:","chosen":" It is late.","rejected":" x"}"#;
    assert_eq!(
        said(&open(row).1),
        turns(&[(User, "Tea?"), (Assistant, "No."), (User, "Why?"), (Assistant, " It is late.")])
    );
}

/// The same as lists of turns: one answer is the beginning of the other, or both are the same.
#[test]
fn lists_of_turns_in_both_answers() {
    let list = |texts: &[&str]| -> Json {
        let role = |n: usize| ["user", "assistant"][n % 2];
        texts
            .iter()
            .enumerate()
            .map(|(n, text)| serde_json::json!({"role": role(n), "content": text}))
            .collect()
    };
    for (chosen, rejected, lead) in [
        (&["Sky?", "Blue."][..], &["Sky?", "Green."][..], 1),
        (&["Sky?", "Blue."], &["Sky?", "Blue.", "Sure?", "Green."], 1),
        (&["Sky?", "Blue."], &["Sky?", "Blue."], 1),
        // More of the kind: three turns in common, and two conversations that part at the user's turn.
        (&["Tea?", "No.", "Why?", "It is late."], &["Tea?", "No.", "Why?", "No idea."], 3),
        (&["a", "b", "c", "d"], &["a", "b", "e", "f"], 1),
        (&["a", "b", "c", "d"], &["a", "x", "y", "z"], 1),
    ] {
        let row = serde_json::json!({"chosen": list(chosen), "rejected": list(rejected)}).to_string();
        let (files, data) = open(&row);
        let out = written(&files, &data, RowSchema::Preference);
        let texts = |key: &str| -> Vec<String> {
            let text = |turn: &Json| turn["content"].as_str().unwrap().to_string();
            match &out[key] {
                Json::String(text) => vec![text.clone()],
                turns => turns.as_array().unwrap().iter().map(text).collect(),
            }
        };
        assert_eq!(texts("prompt"), chosen[..lead], "{row}");
        assert_eq!(texts("chosen"), chosen[lead..], "{row}");
        assert_eq!(texts("rejected"), rejected[lead..], "{row}");
        // Two answers that are the same are said.
        let problems = data.report().unwrap().problems;
        let same = problems.iter().any(|problem| problem.kind == lorascope::format::ProblemKind::SameChoice);
        assert_eq!(same, chosen == rejected, "{row}");
    }
}

/// LLaMA-Factory's v1 preferences: the whole conversation in both answers, under keys of their own.
#[test]
fn preferences_of_llama_factory_v1() {
    let turn = |role: &str, text: &str, weight: &str| {
        format!(
            r#"{{"role":"{role}","content":[{{"type":"text","value":"{text}"}}],"loss_weight":{weight}}}"#
        )
    };
    let lead = [turn("system", "Brief.", "0.0"), turn("user", "Sky?", "0.0")].join(",");
    let row = format!(
        r#"{{"chosen_messages":[{lead},{}],"rejected_messages":[{lead},{}]}}"#,
        turn("assistant", "Blue.", "1.0"),
        turn("assistant", " Green.", "1.0")
    );
    let (files, data) = open(&row);
    assert_eq!(said(&data), turns(&[(System, "Brief."), (User, "Sky?"), (Assistant, "Blue.")]));
    let out = written(&files, &data, RowSchema::Preference);
    assert!(out["rejected"].to_string().contains(" Green."), "{out}");
    let trained: Vec<bool> = data.conversation(0).unwrap().iter().map(|m| m.is_trained()).collect();
    assert_eq!(trained, [false, false, true]);
    // More of the kind: several turns in common and different ones after, and answers to a prompt beside.
    let talk = |answer: &str| {
        let all = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", answer)];
        let all = all.map(|(role, text)| turn(role, text, "1.0"));
        format!("[{}]", all.join(","))
    };
    let row = format!(r#"{{"chosen_messages":{},"rejected_messages":{}}}"#, talk("d"), talk("e"));
    let (files, data) = open(&row);
    assert_eq!(said(&data), turns(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]));
    assert_eq!(written(&files, &data, RowSchema::Preference)["rejected"].as_array().map_or(1, Vec::len), 1);
    let (good, bad) = (turn("assistant", "good", "1.0"), turn("assistant", "bad", "1.0"));
    let row = format!(r#"{{"prompt":"q","chosen_messages":[{good}],"rejected_messages":[{bad}]}}"#);
    let (files, data) = open(&row);
    assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "good")]));
    // Cells of CSV hold them as JSON.
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("kept.csv"), RowSchema::Preference, &keep).unwrap();
    let again = Dataset::open(files.path("kept.csv")).unwrap();
    assert_eq!(again.conversation(0).unwrap(), data.conversation(0).unwrap());
}
