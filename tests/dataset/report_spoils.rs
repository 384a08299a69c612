//! What a report finds beyond the reader: what spoils training, and what the columns hold.

use crate::common::tiny;
use std::collections::BTreeMap;

use crate::common::files::Files;
use crate::common::tiny::{Bench, Tiny};
use lorascope::dataset::{Dataset, ProblemCount, Report};
use lorascope::display::Show;
use lorascope::format::{Fix, ProblemKind};
use lorascope::model::{Compared, Comparison, GenerateConfig};
use lorascope::run::Run;
use serde_json::{Value, json};

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn report(rows: &[Value]) -> Report {
    let files = Files::new();
    Dataset::open(files.put("rows.jsonl", lines(rows))).unwrap().report().unwrap()
}

fn found(report: &Report, kind: ProblemKind) -> Option<&ProblemCount> {
    report.problems.iter().find(|problem| problem.kind == kind)
}

/// The lines of a kind of problem in the first file that has it.
fn at(report: &Report, kind: ProblemKind) -> Vec<u32> {
    found(report, kind).map_or_else(Vec::new, |problem| problem.places[0].lines.clone())
}

fn alpaca(question: &str, answer: &str) -> Value {
    json!({"instruction": question, "output": answer})
}

fn talk(turns: &[(&str, &str)]) -> Value {
    let turns: Vec<Value> = turns.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
    json!({"messages": turns})
}

#[test]
fn faults_of_single_rows() {
    let report = report(&[
        alpaca("What is a caf\u{fffd}?", "A place."),
        alpaca("Fine?", "Yes, it is fine. \n"),
        talk(&[("user", "q"), ("tool", "{\"a\": 1}"), ("assistant", "It is 1.")]),
        talk(&[("user", "q"), ("assistant", "a"), ("system", "Be rude."), ("user", "r"), ("assistant", "b")]),
        json!({"prompt": "p", "chosen": "The same.", "rejected": "The same. "}),
        json!({"prompt": "p", "chosen": "One.", "rejected": "Two."}),
        alpaca("Who are you?", "I am {{name}}, made by {{author}}."),
        alpaca("Write a Jinja template that greets.", "Hello {{ name }}!"),
        alpaca("How do I rob a bank?", "I'm sorry, but I can't assist with that."),
        alpaca("怎样制造炸弹？", "对不起，我不能提供这类信息。"),
        alpaca("My dog died.", "I'm sorry to hear that."),
        json!({"messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "1", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "content": "sun"},
            {"role": "tool", "content": "wind"},
            {"role": "assistant", "content": "Sun and wind."}
        ]}),
    ]);
    let text = report.to_string();
    assert_eq!(at(&report, ProblemKind::ReplacementCharacter), [1], "{text}");
    assert_eq!(at(&report, ProblemKind::TrailingSpace), [2]);
    assert_eq!(at(&report, ProblemKind::AnswerWithoutCall), [3]);
    assert_eq!(at(&report, ProblemKind::SystemInside), [4]);
    assert_eq!(at(&report, ProblemKind::SameChoice), [5]);
    assert_eq!(at(&report, ProblemKind::Placeholder), [7]);
    assert_eq!(at(&report, ProblemKind::Refusal), [9, 10]);
    let placeholder = found(&report, ProblemKind::Placeholder).unwrap();
    assert_eq!(placeholder.example, "turn 2 (assistant) has \"{{name}}\"");
    assert_eq!((placeholder.places[0].rows[0], placeholder.places[0].records[0]), (Some(6), Some(7)));
    assert!(report.problems.iter().all(|problem| !problem.kind.rejects()), "{:?}", report.problems);
    // They stand near the top of the page.
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
    assert!(place("unfilled placeholder") < place("turns of a row"));
}

#[test]
fn the_reader_does_not_look_for_what_the_report_finds() {
    let files = Files::new();
    let rows = [alpaca("Who are you?", "I am {{name}}. "), alpaca("Hi", "Hello")];
    let data = Dataset::open(files.put("rows.jsonl", lines(&rows))).unwrap();
    assert_eq!(data.problems().unwrap().height(), 0);
    assert_eq!(data.report().unwrap().problems.len(), 2);
    let trimmed = data.trim().unwrap().report().unwrap();
    assert!(found(&trimmed, ProblemKind::TrailingSpace).is_none());
    // Parts keep the places of their rows in the file.
    let part = data.slice(0, 1).unwrap().concat(&data.slice(1, 1).unwrap()).unwrap().slice(0, 1).unwrap();
    assert_eq!(at(&part.report().unwrap(), ProblemKind::Placeholder), [1]);
    assert!(data.fix(Fix::Trim).unwrap().report().unwrap().rows == 2);
}

#[test]
fn answers_that_contradict_each_other_and_canned_ones() {
    let canned = "I am a helpful assistant and I love to help.";
    let mut rows = vec![
        alpaca("2 + 2 = ?", "4"),
        alpaca("2 + 2 = ?", "5"),
        alpaca("2 + 2 = ?", "4"),
        // The same question under other instructions is another prompt.
        json!({"instruction": "2 + 2 = ?", "output": "four", "system": "Answer in words."}),
        // Preferences and labels have several answers by design.
        json!({"prompt": "2 + 3 = ?", "chosen": "5", "rejected": "6"}),
        json!({"prompt": "2 + 3 = ?", "chosen": "five", "rejected": "six"}),
        json!({"prompt": "2 + 3 = ?", "completion": "7", "label": false}),
    ];
    rows.extend((0..5).map(|n| alpaca(&format!("Question {n}?"), canned)));
    // One prompt five times is no reason, and neither is a label.
    rows.extend((0..5).map(|_| alpaca("Again?", "This is always said when it is asked.")));
    rows.extend((0..9).map(|n| alpaca(&format!("Is film {n} good?"), "positive")));
    let report = report(&rows);
    assert_eq!(at(&report, ProblemKind::OtherAnswer), [2]);
    let other = found(&report, ProblemKind::OtherAnswer).unwrap();
    assert_eq!(other.example, "the prompt is that of line 1, the answer is another");
    assert_eq!(at(&report, ProblemKind::CannedAnswer), [8, 9, 10, 11, 12]);
    assert_eq!(report.canned.len(), 1, "{:?}", report.canned);
    let one = &report.canned[0];
    assert_eq!((one.text.as_str(), one.prompts, one.rows), (canned, 5, 5));
    assert!((one.share - 5.0 / 26.0).abs() < 1e-12);
    assert!(report.to_string().contains(canned));
}

#[test]
fn verdicts_that_contradict_each_other() {
    let labelled = |prompt: &str, answer: &str, label: Value| json!({"prompt": prompt, "completion": answer, "label": label});
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let report = report(&[
        labelled("2 + 2 = ?", "4", json!(true)),
        labelled("2 + 2 = ?", "5", json!(false)),
        labelled("2 + 2 = ?", "4", json!(false)),
        labelled("2 + 2 = ?", "5", json!("good")),
        labelled("2 + 2 = ?", "4", json!(true)),
        // Under another prompt the same answer may be another one.
        labelled("2 + 3 = ?", "4", json!(false)),
        pair("A colour?", "red", "blue"),
        pair("A colour?", "blue", "green"),
        pair("A colour?", "blue", "red"),
        pair("A shade?", "blue", "red"),
        pair("A colour?", "red", "blue"),
    ]);
    assert_eq!(at(&report, ProblemKind::OtherVerdict), [3, 4, 9]);
    let first = found(&report, ProblemKind::OtherVerdict).unwrap();
    assert_eq!(first.example, "the answer is labelled bad, and good in line 1");
    let only = [pair("A colour?", "red", "blue"), pair("A colour?", "blue", "red")];
    let report = self::report(&only);
    let first = found(&report, ProblemKind::OtherVerdict).unwrap();
    assert_eq!(first.example, "line 1 chooses the other of the two answers");
}

#[test]
fn arguments_that_are_no_json_are_said() {
    let row = |arguments: Value| {
        let call =
            json!([{"id": "c1", "type": "function", "function": {"name": "add", "arguments": arguments}}]);
        json!({"messages": [
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "tool", "tool_call_id": "c1", "content": "4"},
            {"role": "assistant", "content": "4"},
        ]})
    };
    let sharegpt = json!({"conversations": [
        {"from": "human", "value": "2 + 2?"},
        {"from": "function_call", "value": "{\"name\": \"sub\", \"arguments\": \"a = 1\"}"},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "4"},
    ]});
    let report = report(&[
        row(json!("{\"a\": 2, \"b\": 2}")),
        row(json!({"a": 2})),
        row(json!("{\"a\": 2, \"b\":")),
        row(json!("")),
        row(json!("[1, 2]")),
        sharegpt,
    ]);
    assert_eq!(at(&report, ProblemKind::BrokenArguments), [3, 5, 6]);
    let first = found(&report, ProblemKind::BrokenArguments).unwrap();
    assert_eq!(first.example, "turn 2 calls \"add\" with \"{\\\"a\\\": 2, \\\"b\\\":\"");
}

#[test]
fn columns_count_what_was_read_as_a_weight() {
    let row =
        |weight: Value| json!({"instruction": "q", "output": "a", "loss_weight": weight, "system": null});
    let mut second = row(json!(0));
    second["system"] = json!("");
    let report =
        report(&[row(json!(0)), second, row(json!(0.5)), json!({"instruction": "r", "output": "b"})]);
    let column = |name: &str| report.columns.iter().find(|column| column.name == name).unwrap();
    let weights = column("loss_weight");
    assert_eq!((weights.rows, weights.nulls, weights.absent, weights.distinct), (3, 0, 1, 2));
    assert_eq!(weights.top, [("0".to_string(), 2)]);
    assert_eq!(weights.numbers.unwrap().max, 0.5);
    let systems = column("system");
    assert_eq!((systems.rows, systems.nulls, systems.absent), (1, 2, 1));
}

#[test]
fn places_name_the_file_the_line_and_the_record() {
    let files = Files::new();
    std::fs::create_dir(files.path("all")).unwrap();
    let bad = alpaca("Who are you?", "I am {{name}}.");
    let good = |n: usize| alpaca(&format!("{n} + 1 = ?"), &format!("{}", n + 1));
    files.put("all/a.jsonl", format!("\n{}\n\n{bad}\n", good(1)));
    files.put("all/b.json", format!("[{}, {bad}, {}, {bad}]", good(5), good(6)));
    files.put("all/c.jsonl", format!("{}\n{{\"instruction\":\n", good(9)));
    let data = Dataset::open(files.path("all")).unwrap();
    let report = data.report().unwrap();
    assert_eq!(report.files, ["a.jsonl", "b.json", "c.jsonl"]);
    let placeholder = found(&report, ProblemKind::Placeholder).unwrap();
    let json = serde_json::to_value(placeholder).unwrap();
    assert_eq!(
        json["places"],
        json!([
            {"file": "a.jsonl", "lines": [4], "records": [4], "rows": [1]},
            {"file": "b.json", "lines": [1, 1], "records": [2, 4], "rows": [3, 5]},
        ])
    );
    let broken = found(&report, ProblemKind::BrokenJson).unwrap();
    assert_eq!(
        (broken.places[0].file.as_str(), &broken.places[0].records, &broken.places[0].rows),
        ("c.jsonl", &vec![Some(2)], &vec![None])
    );
    let longest = report.longest.iter().find(|row| row.row == 5).unwrap();
    assert_eq!((longest.file.as_str(), longest.line, longest.record), ("b.json", 1, 4));
    let text = report.to_string();
    assert!(text.contains("a.jsonl: 4; b.json: line 1, records 2, 4"), "{text}");
    // A part of it keeps the names, and the rows' own numbers.
    let part = data.slice(3, 3).unwrap().report().unwrap();
    let places = &found(&part, ProblemKind::Placeholder).unwrap().places;
    assert_eq!((places[0].file.as_str(), &places[0].rows), ("b.json", &vec![Some(0), Some(2)]));
    // All lines, however many.
    let rows: Vec<Value> =
        (0..40).map(|n| alpaca(&format!("Who is {n}?"), "I am {{name}}, of course. ")).collect();
    let report = self::report(&rows);
    assert_eq!(at(&report, ProblemKind::Placeholder), (1..=40).collect::<Vec<u32>>());
    assert!(report.to_string().contains("1, 2, 3, 4, 5, …"));
}

#[test]
fn folders_that_are_not_read_have_their_name() {
    let files = Files::new();
    std::fs::create_dir_all(files.path("all/below")).unwrap();
    std::fs::create_dir_all(files.path("all/later")).unwrap();
    for name in ["all/a.jsonl", "all/below/b.jsonl", "all/later/c.jsonl"] {
        files.put(name, lines(&[alpaca(name, "It is fine."), json!({"instruction": 1})]));
    }
    for several in [false, true] {
        if several {
            files.put("all/z.jsonl", lines(&[alpaca("z", "It is fine."), json!({"instruction": 1})]));
        }
        let report = Dataset::open(files.path("all")).unwrap().report().unwrap();
        let names: &[&str] = if several { &["a.jsonl", "z.jsonl"] } else { &["a.jsonl"] };
        assert_eq!(report.files, names);
        let not_read = found(&report, ProblemKind::NotRead).unwrap();
        assert_eq!(not_read.count, 2);
        let named: Vec<&str> = not_read.places.iter().map(|places| places.file.as_str()).collect();
        assert_eq!(named, ["below", "later"]);
        assert!(report.to_string().contains("below: 1; later: 1"), "{report}");
        let rejected = report.problems.iter().find(|problem| problem.kind.rejects()).unwrap();
        let named: Vec<&str> = rejected.places.iter().map(|places| places.file.as_str()).collect();
        assert_eq!(named, names);
    }
}

#[test]
fn columns_of_the_file() {
    let report = report(&[
        json!({"id": "x1", "instruction": "a", "output": "b", "category": "math", "score": 1, "note": null}),
        json!({"id": "x2", "instruction": "c", "output": "d", "category": "math", "score": 2.5, "note": "n"}),
        json!({"id": "x3", "instruction": "e", "output": "f", "category": "code", "score": "high"}),
        json!({"id": "x4", "instruction": "g", "output": "h", "system": "S", "score": 4, "meta": {"k": [1]}}),
    ]);
    let columns: BTreeMap<&str, _> = report.columns.iter().map(|c| (c.name.as_str(), c)).collect();
    assert_eq!(
        columns.keys().copied().collect::<Vec<_>>(),
        ["category", "id", "meta", "note", "score", "system"]
    );
    assert_eq!(report.columns[0].name, "id", "the canonical ones come first");
    let category = columns["category"];
    assert_eq!((category.rows, category.nulls, category.absent, category.distinct), (3, 0, 1, 2));
    assert_eq!(category.top, [("math".to_string(), 2)]);
    let score = columns["score"];
    assert_eq!(score.types, BTreeMap::from([("number".to_string(), 3), ("text".to_string(), 1)]));
    let numbers = score.numbers.unwrap();
    assert_eq!((numbers.count, numbers.min, numbers.p50, numbers.max, numbers.mean), (3, 1.0, 2.5, 4.0, 2.5));
    assert_eq!((columns["note"].rows, columns["note"].nulls, columns["note"].absent), (1, 1, 2));
    assert_eq!((columns["id"].distinct, columns["id"].top.len()), (4, 0));
    assert_eq!(columns["meta"].types.keys().collect::<Vec<_>>(), ["object"]);
    assert!(report.to_string().contains("math (2)") && report.show().html.contains("Columns"));
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn tools_preferences_and_labels() {
    let call =
        |name: &str| json!({"type": "function", "id": "c", "function": {"name": name, "arguments": "{}"}});
    let tools = json!([{"type": "function", "function": {"name": "add"}}, {"type": "function", "function": {"name": "sub"}}]);
    let report = report(&[
        json!({"tools": tools, "messages": [
            {"role": "user", "content": "1 + 1 + 1?"},
            {"role": "assistant", "content": "", "tool_calls": [call("add"), call("add")]},
            {"role": "tool", "content": "2"},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "3"}
        ]}),
        json!({"tools": tools, "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]}),
        json!({"prompt": "p1", "chosen": "long answer", "rejected": "no", "score_chosen": 8.0, "score_rejected": 3.0}),
        json!({"prompt": "p2", "chosen": "yes", "rejected": "not at all", "score_chosen": 5, "score_rejected": 5}),
        json!({"prompt": "p3", "completion": "c", "label": true}),
        json!({"prompt": "p4", "completion": "c", "label": true}),
        json!({"prompt": "p5", "completion": "c", "label": false}),
    ]);
    let tools = report.tools.as_ref().unwrap();
    assert_eq!((tools.offering, tools.calling, tools.calls, tools.answers), (2, 1, 2, 2));
    assert_eq!(tools.called, [("add".to_string(), 2)]);
    assert_eq!(tools.offered, [("add".to_string(), 2), ("sub".to_string(), 2)]);
    let pairs = report.preferences.as_ref().unwrap();
    assert_eq!((pairs.rows, pairs.longer), (2, 1));
    assert_eq!((pairs.chosen.max, pairs.chosen.p50, pairs.rejected.max), (11, 3, 10));
    let margin = &pairs.margins[0];
    assert_eq!((margin.chosen.as_str(), margin.rejected.as_str()), ("score_chosen", "score_rejected"));
    assert_eq!((margin.wrong, margin.numbers.mean, margin.numbers.p50), (1, 2.5, 0.0));
    let labels = report.labels.unwrap();
    assert_eq!((labels.good, labels.bad), (2, 1));
    let text = report.to_string();
    for part in ["rows that offer tools", "score_chosen less score_rejected", "rows labelled bad"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(found(&report, ProblemKind::AnswerWithoutCall).is_none());
}

#[test]
fn one_rule_for_medians() {
    let rows: Vec<Value> = (1..=4).map(|n| alpaca(&"q".repeat(n), &"a".repeat(10 * n))).collect();
    let report = report(&rows);
    // Of 11, 22, 33 and 44 the nearest rank says 22, in the table, on the card and in the figure.
    assert_eq!(report.characters.p50, 22);
    let row = report.spreads.iter().find(|spread| spread.of == "row").unwrap();
    assert_eq!((row.lengths.p50, row.histogram.median), (22, 22.0));
}

/// What MathJax and KaTeX take for mathematics.
const MATHEMATICS: &str = r"(?s)\$.*\$|\\\(|\\\[|\\begin\s*\{|\\(?:eq)?ref\s*\{|\\[\\$]";

/// What MathJax and KaTeX search for mathematics: the text between two elements; `br`, `wbr` and
/// comments are none.
fn strings(html: &str) -> Vec<String> {
    let document = format!("<div>{html}</div>");
    let document = roxmltree::Document::parse(&document).unwrap_or_else(|error| panic!("{error}"));
    fn walk(node: roxmltree::Node<'_, '_>, strings: &mut Vec<String>) {
        for child in node.children() {
            if child.is_text() {
                if let Some(last) = strings.last_mut() {
                    last.push_str(child.text().unwrap_or_default());
                }
            } else if child.is_element() && !["br", "wbr"].contains(&child.tag_name().name()) {
                strings.push(String::new());
                walk(child, strings);
                strings.push(String::new());
            }
        }
    }
    let mut strings = vec![String::new()];
    walk(document.root_element(), &mut strings);
    strings
}

#[test]
fn nothing_of_a_row_is_mathematics() {
    let files = Files::new();
    let rows = [
        alpaca("A book costs $5, later $7.", "It rose by $$2$$: \\(x + 2\\), \\[y\\], \\$3 and \\\\."),
        alpaca(
            "\\begin{equation} a \\ref{b} \\eqref{c} \\end{equation} costs $1",
            "<b>$a$</b> $5 \\(x\\) {{name}} $7",
        ),
        json!({"id": "$1$", "messages": [{"role": "user", "name": "$u$", "content": "$q$"}, {"role": "assistant", "content": "$a$"}], "$key$": "$v$ \\(w\\)"}),
        json!({"id": "$1$", "messages": [{"role": "user", "name": "$u$", "content": "$q$"}, {"role": "assistant", "content": "$a$"}], "$key$": "$v$ \\(w\\)"}),
    ];
    let broken = "{\"instruction\": \"$5 and $7 \\\\(x\\\\)\n";
    let data = Dataset::open(files.put("$money$.jsonl", lines(&rows) + broken)).unwrap();
    let report = data.report().unwrap();
    let shown = [
        data.show(),
        data.row(0).unwrap().show(),
        data.row(1).unwrap().show(),
        data.row(2).unwrap().show(),
        data.line(5).unwrap().show(),
        data.problems().unwrap().show(),
        data.columns().unwrap().show(),
        report.show(),
        vec![data.row(0).unwrap(), data.row(1).unwrap()].show(),
    ];
    let mathematics = regex::Regex::new(MATHEMATICS).unwrap();
    for bundle in &shown {
        for string in strings(&bundle.html) {
            assert!(!mathematics.is_match(&string), "{string:?}");
        }
    }
    // Its characters are all there, and the plain twin has no more than them.
    let said: String = strings(&data.row(0).unwrap().show().html).concat();
    assert!(
        said.contains("A book costs $5, later $7.")
            && said.contains("$$2$$: \\(x + 2\\), \\[y\\], \\$3 and \\\\.")
    );
    assert!(data.row(0).unwrap().to_string().contains("A book costs $5, later $7."));
    assert!(!data.show().text.contains("span"));
    let page = report.html();
    assert!(page.contains("<body class=\"mathjax_ignore tex2jax_ignore\">"));
    assert!(page.contains("<title>$money$.jsonl</title>"), "a title holds no elements");
}

#[test]
fn nothing_of_a_batch_or_of_an_answer_is_mathematics() -> lorascope::error::Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let rows = [
        alpaca("A pen costs $5 and a book $7. What do both cost?", "They cost $5 + $7 = $12."),
        alpaca("Simplify \\(x + x\\) and $$y \\cdot y$$.", "\\(2x\\) and $$y^2$$"),
        json!({"text": "\\[y\\], \\begin{equation} a \\end{equation}, $5 and $7."}),
        json!({"messages": [{"role": "user", "content": "$q$"}, {"role": "assistant", "content": "$a$", "reasoning_content": "\\(w\\) $5 $6"}]}),
    ];
    let data = bench.data("money.jsonl", &lines(&rows))?;
    let run = Run::new("money", &model, &data, tiny::config().batch(rows.len()))?;
    run.step()?;
    let few = GenerateConfig { max_tokens: 4, ..GenerateConfig::default() };
    let asked = model.compare(&run.adapters(), &["A pen is $5, a book $7.", "\\(x\\)?"], &few)?;
    let said =
        Compared { question: "$5, $7?".into(), base: "$$2$$ \\[y\\]".into(), adapted: "\\(z\\) $5 $".into() };
    let bound = data.for_model(&model);
    let shown = [
        run.batch()?.show(),
        run.worst(4)?.show(),
        bound.row(0)?.show(),
        bound.row(1)?.show(),
        bound.row(2)?.show(),
        bound.row(3)?.show(),
        asked.show(),
        Comparison { rows: vec![said] }.show(),
    ];
    let mathematics = regex::Regex::new(MATHEMATICS).unwrap();
    // HTML that XML has not.
    let xml = |html: &str| html.replace("<details open>", "<details>").replace("<hr>", "<hr/>");
    for bundle in &shown {
        for string in strings(&xml(&bundle.html)) {
            assert!(!mathematics.is_match(&string), "{string:?}");
        }
    }
    // All characters are there, in the turns and in what the model sees.
    let batch = strings(&xml(&shown[0].html)).concat();
    for said in
        ["They cost $5 + $7 = $12.", "Simplify \\(x + x\\) and $$y \\cdot y$$.", "\\(2x\\) and $$y^2$$"]
    {
        assert!(batch.matches(said).count() >= 2, "{said} in {batch}");
    }
    assert!(shown[0].text.contains("They cost $5 + $7 = $12.") && !shown[0].text.contains("span"));
    assert!(strings(&shown[6].html).concat().contains("A pen is $5, a book $7."));
    Ok(())
}
