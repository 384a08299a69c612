//! What a file marks as not to be learned: labels of answers and weights of turns, in every spelling.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Map, ReadOptions, RowSchema, WriteOptions, convert};

fn column(data: &Dataset, name: &str) -> Vec<Option<bool>> {
    let frame = data.frame().unwrap().collect().unwrap();
    frame.column(name).unwrap().bool().unwrap().iter().collect()
}

fn problems(data: &Dataset) -> Vec<(u32, String, String)> {
    let frame = data.problems().unwrap();
    let text = |name: &str, i: usize| frame.column(name).unwrap().str().unwrap().get(i).unwrap().to_string();
    let lines = frame.column("line").unwrap().u32().unwrap().clone();
    (0..frame.height()).map(|i| (lines.get(i).unwrap(), text("kind", i), text("what", i))).collect()
}

#[test]
fn labels_in_every_spelling() {
    let files = Files::new();
    for (good, bad) in [
        ("true", "false"),
        ("1", "0"),
        ("1.0", "0.0"),
        ("\"true\"", "\"false\""),
        ("\"True\"", "\"FALSE\""),
        ("\"1\"", "\"0\""),
        ("\"yes\"", "\"no\""),
        ("\"desirable\"", "\"undesirable\""),
        ("1", "-1"),
    ] {
        let rows = format!(
            "{{\"prompt\":\"q\",\"completion\":\"a\",\"label\":{good}}}\n\
             {{\"instruction\":\"q\",\"output\":\"b\",\"kto_tag\":{bad}}}\n\
             {{\"messages\":[{{\"role\":\"user\",\"content\":\"q\"}},{{\"role\":\"assistant\",\"content\":\"c\"}}],\"Label\":{bad}}}\n"
        );
        let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
        assert_eq!(column(&data, "label"), [Some(true), Some(false), Some(false)], "{good} {bad}");
        let sources = data.frame().unwrap().collect().unwrap();
        let sources: Vec<_> =
            sources.column("source").unwrap().str().unwrap().iter().flatten().map(String::from).collect();
        assert_eq!(sources, ["kto", "kto", "kto"]);
    }
    // No text says nothing.
    let data =
        Dataset::open(files.put("none.jsonl", r#"{"prompt":"q","completion":"a","label":""}"#)).unwrap();
    assert_eq!(column(&data, "label"), [None]);
}

#[test]
fn a_turn_of_which_parts_are_trained_is_no_row() {
    let files = Files::new();
    let row = |detail: &str| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"q\"}},{{\"role\":\"assistant\",\"content\":\"a b\",\"train_detail\":{detail}}}]}}\n"
        )
    };
    let rows = [
        row("null"),
        row("[]"),
        row(
            r#"[{"begin_offset":0,"end_offset":1,"train":false},{"begin_offset":1,"end_offset":3,"train":true}]"#,
        ),
    ];
    let data = Dataset::open(files.put("rows.jsonl", rows.concat())).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (2, 1));
    let found = problems(&data).into_iter().find(|(line, _, _)| *line == 3).unwrap();
    assert!(
        found.2.contains("`train_detail` of messages[1] is a list of parts, which does not say whether the turn is trained on"),
        "{}",
        found.2
    );
}

#[test]
fn a_label_that_cannot_be_read_is_a_problem() {
    let files = Files::new();
    let rows = "{\"prompt\":\"q\",\"completion\":\"a\",\"label\":true}\n{\"prompt\":\"q\",\"completion\":\"b\",\"label\":\"maybe\"}\n{\"prompt\":\"q\",\"completion\":\"c\",\"label\":2}\n";
    let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (1, 2));
    let found = problems(&data);
    assert_eq!(found[0].0, 2);
    assert_eq!(found[0].1, "label not read");
    assert_eq!(
        found[0].2,
        "`label` is \"maybe\", which says neither that the answer is good nor that it is bad"
    );
    assert!(found[1].2.contains("the number 2"), "{found:?}");
    // Where it is no verdict on the answer, naming the format is the way out.
    let options = ReadOptions { schema: Some(RowSchema::PromptCompletion), ..Default::default() };
    assert_eq!(Dataset::open_with(files.path("rows.jsonl"), &options).unwrap().len(), 3);
    // Of a plain text a word or a number is its class, and false is no class.
    let text = |label: &str| {
        let row = format!("{{\"text\":\"t\",\"label\":{label}}}");
        column(&Dataset::open(files.put("text.jsonl", row)).unwrap(), "label")
    };
    assert_eq!((text("\"sports\""), text("0"), text("false")), (vec![None], vec![None], vec![Some(false)]));
    // A bad answer is heard in every format that is named.
    let row = r#"{"prompt":"q","completion":"bad","label":false}"#;
    let data = Dataset::open_with(files.put("bad.jsonl", row), &options).unwrap();
    assert_eq!(column(&data, "label"), [Some(false)]);
    let both = r#"{"prompt":"q","completion":"a","label":"","kto_tag":false}"#;
    assert_eq!(column(&Dataset::open(files.put("both.jsonl", both)).unwrap(), "label"), [Some(false)]);
}

#[test]
fn rows_labelled_bad_go_into_no_format_without_labels() {
    let files = Files::new();
    let rows = "{\"prompt\":\"q\",\"completion\":\"good\",\"label\":1}\n{\"prompt\":\"q\",\"completion\":\"bad\",\"label\":0}\n{\"prompt\":\"p\",\"completion\":\"worse\",\"label\":\"false\"}\n{\"prompt\":\"p\",\"completion\":\"fine\",\"label\":true}\n";
    let path = files.put("rows.jsonl", rows);
    let data = Dataset::open(&path).unwrap();
    for schema in RowSchema::ALL {
        let out = files.path("out.jsonl");
        match schema {
            RowSchema::Text | RowSchema::Preference => continue,
            RowSchema::Kto => {
                assert_eq!(data.overwrite(&out, schema).unwrap().rows, 4);
                let text = std::fs::read_to_string(&out).unwrap();
                let labels: Vec<&str> =
                    text.lines().map(|line| line.split("\"label\":").nth(1).unwrap()).collect();
                assert_eq!(labels, ["true}", "false}", "false}", "true}"]);
                continue;
            }
            _ => {}
        }
        let written = data.overwrite(&out, schema).unwrap();
        assert_eq!(
            (written.rows, written.labelled_bad, &written.bad_lines[..]),
            (2, 2, &[2, 3][..]),
            "{schema}"
        );
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(
            text.contains("good")
                && text.contains("fine")
                && !text.contains("bad")
                && !text.contains("worse")
        );
        assert!(
            written
                .to_string()
                .contains("left out: 2 rows whose answer is marked as not to be learned (lines 2, 3)"),
            "{written}"
        );
        let losses = data.losses(schema).unwrap();
        assert_eq!((losses.labelled_bad, losses.left_out), (2, 0));
        std::fs::remove_file(&out).unwrap();
        let done = convert(&path, &out, schema, &Default::default(), &Default::default()).unwrap();
        assert_eq!((done.written.rows, done.written.labelled_bad), (2, 2));
        assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
    }
    let bad =
        Dataset::open(files.put("bad.jsonl", r#"{"prompt":"q","completion":"bad","label":false}"#)).unwrap();
    let error = bad.write(files.path("none.jsonl"), RowSchema::Alpaca).unwrap_err().to_string();
    assert!(error.contains("no row is left: 1 answers are marked as not to be learned"), "{error}");
    assert!(!files.path("none.jsonl").exists());
}

#[test]
fn weights_in_every_spelling_wherever_a_turn_stands() {
    let files = Files::new();
    for none in [
        "\"weight\":0",
        "\"loss_weight\":0.0",
        "\"loss\":false",
        "\"loss_mask\":0",
        "\"train\":false",
        "\"weight\":\"0\"",
        "\"train\":\"false\"",
        "\"training\":\"no\"",
        "\"Loss\":false",
        "\"weight\":1,\"train\":false",
    ] {
        let turn = |role: &str, text: &str, mark: &str| {
            format!("{{\"role\":\"{role}\",\"content\":\"{text}\"{mark}}}")
        };
        let marked = turn("assistant", "black", &format!(",{none}"));
        let (user, last) = (turn("user", "q", ""), turn("assistant", "white", ""));
        let all = format!("[{user},{marked},{user},{last}]");
        let old = format!(
            "[{{\"from\":\"human\",\"value\":\"q\"}},{{\"from\":\"gpt\",\"value\":\"black\",{none}}},{{\"from\":\"human\",\"value\":\"q\"}},{{\"from\":\"gpt\",\"value\":\"white\"}}]"
        );
        for (name, row) in [
            ("messages", format!("{{\"messages\":{all}}}")),
            ("conversations", format!("{{\"conversations\":{old}}}")),
            ("bare", all.clone()),
            ("prompt", format!("{{\"prompt\":[{user},{marked},{user}],\"completion\":[{last}]}}")),
            (
                "chosen",
                format!(
                    "{{\"chosen\":{all},\"rejected\":[{user},{marked},{user},{}]}}",
                    turn("assistant", "x", "")
                ),
            ),
            ("history", format!("{{\"history\":[{user},{marked}],\"prompt\":\"q\",\"response\":\"white\"}}")),
        ] {
            let data = Dataset::open(files.put("rows.jsonl", &row)).unwrap();
            let trained: Vec<bool> = data.conversation(0).unwrap().iter().map(|m| m.is_trained()).collect();
            assert_eq!(trained, [false, false, false, true], "{name}: {row}");
        }
        let map = Map::new().messages("log");
        let data = Dataset::open_as(files.put("map.jsonl", format!("{{\"log\":{all}}}")), map).unwrap();
        assert!(!data.conversation(0).unwrap()[1].is_trained(), "{none}");
    }
    let row =
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","loss":"some"}]}"#;
    let error = Dataset::open(files.put("rows.jsonl", row)).unwrap_err().to_string();
    assert!(
        error.contains(
            "`loss` of messages[1] is the text \"some\", which does not say whether the turn is trained on"
        ),
        "{error}"
    );
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn a_map_names_the_label() {
    let files = Files::new();
    let path = files.put("rows.jsonl", "{\"q\":\"a\",\"a\":\"b\",\"ok\":{\"v\":1}}\n{\"q\":\"a\",\"a\":\"c\",\"ok\":{\"v\":\"no\"}}\n{\"q\":\"a\",\"a\":\"d\",\"ok\":{\"v\":7}}");
    let data = Dataset::open_as(&path, Map::new().user("q").assistant("a").label("ok.v")).unwrap();
    assert_eq!(column(&data, "label"), [Some(true), Some(false)]);
    assert_eq!(problems(&data)[0].1, "label not read");
    assert_eq!(data.write(files.path("out.jsonl"), RowSchema::OpenAi).unwrap().labelled_bad, 1);
}

#[test]
fn an_empty_label_is_said() {
    let files = Files::new();
    let rows = "{\"prompt\":\"q\",\"completion\":\"a\",\"label\":true}\n{\"prompt\":\"q\",\"completion\":\"b\",\"label\":null}\n{\"prompt\":\"p\",\"completion\":\"c\",\"label\":\" \"}\n{\"instruction\":\"p\",\"output\":\"d\",\"kto_tag\":null}\n";
    let path = files.put("kto.jsonl", rows);
    let data = Dataset::open(&path).unwrap();
    assert_eq!(column(&data, "label"), [Some(true), None, None, None]);
    let found = problems(&data);
    let kinds: Vec<(u32, &str)> = found.iter().map(|(line, kind, _)| (*line, kind.as_str())).collect();
    assert_eq!(kinds, [(2, "no label"), (3, "no label"), (4, "no label")]);
    assert_eq!(found[0].2, "`label` says nothing: the row is read as one without a label");
    assert_eq!(data.rejected().unwrap(), 0);
    // Of a text it is a class, and of a preference nobody asks.
    let others = "{\"text\":\"t\",\"label\":null}\n{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\",\"label\":null}\n";
    assert_eq!(problems(&Dataset::open(files.put("others.jsonl", others)).unwrap()), []);
}

#[test]
fn a_weight_of_nothing_beside_the_turns_is_that_of_the_row() {
    let files = Files::new();
    let turns = r#""messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#;
    for mark in [r#""weight":0"#, r#""train":false"#, r#""loss_mask":"0""#, r#""Loss":0.0"#] {
        for row in [
            format!(r#"{{"instruction":"q","output":"a",{mark}}}"#),
            format!(r#"{{"prompt":"q","completion":"a",{mark}}}"#),
            format!(r#"{{{turns},{mark}}}"#),
            format!(r#"{{{mark},"conversation":[{{"human":"q","assistant":"a"}}]}}"#),
        ] {
            let data = Dataset::open(files.put("row.jsonl", &*row)).unwrap();
            assert_eq!(data.conversation(0).unwrap()[1].weight, Some(0.0), "{row}");
            // Pairs have no weights: the row is not for them; a row of pairs keeps its own key.
            let own = data.frame().unwrap().collect().unwrap();
            let own: RowSchema =
                own.column("source").unwrap().str().unwrap().get(0).unwrap().parse().unwrap();
            if own != RowSchema::Alpaca {
                assert_eq!(data.losses(RowSchema::Alpaca).unwrap().labelled_bad, 1, "{row}");
            }
            for to in [own, RowSchema::OpenAi] {
                let out = files.path("out.jsonl");
                let options = WriteOptions { existing: Existing::Replace, ..Default::default() };
                let written = data.write_with(&out, to, &options).unwrap();
                assert!(written.lost.is_empty(), "{row} as {to}: {:?}", written.lost);
                let again = Dataset::open(&out).unwrap();
                assert_eq!(again.conversation(0).unwrap()[1].weight, Some(0.0), "{row} as {to}");
            }
        }
    }
    // Another value may mean anything, and is kept as a key.
    for other in [r#""loss":1.25"#, r#""train":"set a""#, r#""weight":null"#] {
        let row = format!(r#"{{"instruction":"q","output":"a",{other}}}"#);
        let data = Dataset::open(files.put("row.jsonl", row)).unwrap();
        assert_eq!(data.conversation(0).unwrap()[1].weight, None, "{other}");
    }
}

#[test]
fn a_turn_of_reasoning_alone_says_something() {
    let files = Files::new();
    let row = |extra: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":null{extra}}}]}}"#
        )
    };
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let data = Dataset::open(files.put("row.jsonl", row(&format!(r#","{key}":"so""#)))).unwrap();
        assert_eq!(data.rejected().unwrap(), 0, "{key}");
    }
    for silent in ["", r#","reasoning_content":" ""#, r#","reasoning_content":null"#] {
        assert!(Dataset::open(files.put("row.jsonl", row(silent))).is_err(), "{silent}");
    }
}

#[test]
fn marks_of_other_trainers_are_read() {
    let files = Files::new();
    for none in [
        r#""is_train":false"#,
        r#""isTrain":0"#,
        r#""masked":true"#,
        r#""is-masked":"yes""#,
        r#""lossWeight":0"#,
        r#""loss-weight":0.0"#,
        r#""LOSS_WEIGHT":"0""#,
        r#""train_on_turn":false"#,
        r#""train-on-turn":"off""#,
        r#""trainOnTurn":"F""#,
        r#""trainable":"N""#,
        r#""weight":0.5,"masked":1"#,
    ] {
        let turns = format!(
            r#"[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a",{none}}},{{"role":"user","content":"q"}},{{"role":"assistant","content":"b"}}]"#
        );
        let trained = |name: &str, row: String, map: Option<Map>| -> Vec<bool> {
            let options = ReadOptions { map, ..Default::default() };
            let data = Dataset::open_with(files.put(name, &row), &options).unwrap();
            assert_eq!(data.problems().unwrap().height(), 0, "{row}");
            data.conversation(0).unwrap().iter().map(|m| m.is_trained()).collect()
        };
        let last = [false, false, false, true];
        assert_eq!(trained("m.jsonl", format!(r#"{{"messages":{turns}}}"#), None), last, "{none}");
        assert_eq!(trained("l.jsonl", format!(r#"{{"l":{turns}}}"#), Some(Map::new().messages("l"))), last);
        let pairs = format!(
            r#"{{"conversation":[{{"human":"q","assistant":"a",{none}}},{{"human":"q","assistant":"b"}}]}}"#
        );
        assert_eq!(trained("p.jsonl", pairs, None), last, "{none}");
        // Beside the turns it is that of the row.
        for row in [
            format!(r#"{{"instruction":"q","output":"a",{none}}}"#),
            format!(r#"{{"prompt":"q","completion":"a",{none}}}"#),
        ] {
            assert_eq!(trained("row.jsonl", row.clone(), None), [false, false], "{row}");
        }
        let map = Map::new().user("q").assistant("a");
        let row = format!(r#"{{"q":"q","a":"a",{none}}}"#);
        assert_eq!(trained("map.jsonl", row, Some(map)), [false, false], "{none}");
    }
    for some in [
        r#""is_train":true"#,
        r#""masked":false"#,
        r#""masked":null"#,
        r#""train_on_turn":"on""#,
        r#""trainable":"Y""#,
        r#""train":"T""#,
        r#""lossWeight":0.5"#,
    ] {
        let row = format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a",{some}}}]}}"#
        );
        let data = Dataset::open(files.put("some.jsonl", row)).unwrap();
        assert!(data.conversation(0).unwrap()[1].is_trained(), "{some}");
    }
    // A plain yes takes nothing from a number.
    let both = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","weight":0.5,"train":true}]}"#;
    let data = Dataset::open(files.put("both.jsonl", both)).unwrap();
    assert_eq!(data.conversation(0).unwrap()[1].weight, Some(0.5));
}

#[test]
fn a_weight_that_cannot_be_one_is_a_problem() {
    let files = Files::new();
    let good = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    for (mark, what) in [
        (r#""weight":-1"#, "`weight` of messages[1] is the number -1"),
        (r#""loss-weight":"-0.5""#, "`loss-weight` of messages[1] is the text \"-0.5\""),
        (r#""lossWeight":NaN"#, "`lossWeight` of messages[1] is "),
        (r#""is_train":"maybe""#, "`is_train` of messages[1] is the text \"maybe\""),
        (r#""masked":0.5"#, "`masked` of messages[1] is the number 0.5"),
        (r#""train_on_turn":[]"#, "`train_on_turn` of messages[1] is a"),
    ] {
        let bad = format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a",{mark}}}]}}"#
        );
        let data = Dataset::open(files.put("rows.jsonl", format!("{good}\n{bad}\n"))).unwrap();
        assert_eq!((data.len(), data.rejected().unwrap()), (1, 1), "{mark}");
        let found = problems(&data);
        assert_eq!(found[0].0, 2, "{mark}");
        assert!(found[0].2.contains(what), "{mark}: {found:?}");
    }
    // Beside the turns the row stays, and it is said.
    for mark in [r#""weight":-1"#, r#""loss_weight":"some""#, r#""masked":0.5"#, r#""is_train":"set a""#] {
        let bad = format!(r#"{{"instruction":"another","output":"a",{mark}}}"#);
        let data = Dataset::open(files.put("rows.jsonl", format!("{good}\n{bad}\n"))).unwrap();
        assert_eq!((data.len(), data.rejected().unwrap()), (2, 0), "{mark}");
        let found = problems(&data);
        assert_eq!((found.len(), found[0].0), (1, 2), "{mark}: {found:?}");
        assert!(found[0].2.contains("does not say whether the answers are trained on"), "{found:?}");
    }
}

/// A text that is marked is not trained on: it has no turn that could be.
#[test]
fn a_text_of_no_weight_is_left_out() {
    let files = Files::new();
    for mark in ["\"weight\":0", "\"train\":false", "\"loss_mask\":\"0\"", "\"masked\":true"] {
        let row = format!("{{\"text\":\"t\",{mark}}}");
        let data = Dataset::open(files.put("text.jsonl", &row)).unwrap();
        assert_eq!(column(&data, "label"), [Some(false)], "{row}");
        // Its own format keeps the key.
        data.overwrite(files.path("again.jsonl"), RowSchema::Text).unwrap();
        assert_eq!(std::fs::read_to_string(files.path("again.jsonl")).unwrap().trim_end(), row);
    }
    for mark in ["\"weight\":1", "\"train\":\"a\"", "\"loss\":0.3"] {
        let data = Dataset::open(files.put("text.jsonl", format!("{{\"text\":\"t\",{mark}}}"))).unwrap();
        assert_eq!(column(&data, "label"), [None], "{mark}");
    }
}

#[test]
fn a_second_system_text_is_no_answer_that_stands_too_early() {
    let files = Files::new();
    let row = r#"{"system":"S","messages":[{"role":"system","content":"T"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    let path = files.put("two.jsonl", format!("{row}\n{}", row.replace("\"system\":\"S\",", "")));
    let fixes = lorascope::format::Fix::DropLeadingAssistant.into();
    for options in [ReadOptions::default(), ReadOptions { fixes, ..Default::default() }] {
        let data = Dataset::open_with(&path, &options).unwrap();
        assert_eq!((data.len(), data.rejected().unwrap()), (1, 1));
        assert!(problems(&data)[0].2.contains("put both into one"), "{:?}", problems(&data));
    }
}

/// A row whose keys are not written as they were loses what they say of weights: it is left out like any other.
#[test]
fn a_row_that_loses_its_mark_is_left_out() {
    let files = Files::new();
    let good = r#"{"conversation":[{"human":"q","assistant":"good"}]}"#;
    for (marked, schema) in [
        (
            r#"{"conversation":[{"human":"a","assistant":"wrong","weight":0},{"human":" ","assistant":" "}]}"#,
            RowSchema::Firefly,
        ),
        (
            r#"{"conversation":[{"human":"a","assistant":"wrong","loss":false},{"human":"b","assistant":"c"},{"human":" ","assistant":" "}]}"#,
            RowSchema::Firefly,
        ),
        // MOSS's turns are written as pairs, which have no weights.
        (r#"{"chat":{"turn_1":{"Human":"a","MOSS":"wrong","weight":0}}}"#, RowSchema::Firefly),
        (
            r#"{"instruction":"a","response":"wrong","history":[[" "," "],["x","y"]],"weight":0}"#,
            RowSchema::Alpaca,
        ),
    ] {
        let path = files.put("rows.jsonl", format!("{marked}\n{}", good));
        let fixes = lorascope::format::Fix::DropEmptyTurns.into();
        let options = ReadOptions { fixes, ..Default::default() };
        let writing = WriteOptions { existing: Existing::Replace, ..Default::default() };
        let data = Dataset::open_with(&path, &options).unwrap();
        assert_eq!(data.len(), 2, "{marked}");
        let losses = data.losses(schema).unwrap();
        assert_eq!((losses.labelled_bad, &losses.bad_lines[..]), (1, &[1][..]), "{marked}");
        let out = files.path("out.jsonl");
        let written = data.write_with(&out, schema, &writing).unwrap();
        assert_eq!((written.rows, written.labelled_bad), (1, 1), "{marked}");
        assert!(!std::fs::read_to_string(&out).unwrap().contains("wrong"), "{marked}");
        let done = convert(&path, &out, schema, &options, &writing).unwrap();
        assert_eq!((done.written.rows, done.written.labelled_bad), (1, 1), "{marked}");
        assert!(!std::fs::read_to_string(&out).unwrap().contains("wrong"), "{marked}");
    }
    // One that is written as it was keeps its mark.
    let marked =
        r#"{"conversation":[{"human":"a","assistant":"wrong","weight":0},{"human":"b","assistant":"c"}]}"#;
    let data = Dataset::open(files.put("rows.jsonl", marked)).unwrap();
    assert_eq!(data.overwrite(files.path("out.jsonl"), RowSchema::Firefly).unwrap().rows, 1);
    assert_eq!(std::fs::read_to_string(files.path("out.jsonl")).unwrap().trim_end(), marked);
}
