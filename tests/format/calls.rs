//! Calls of tools: ids that a chat template asks for, the order of answers, and the forms that readers
//! of each format expect.

use crate::common::files::Files;
use crate::common::tiny::{Bench, Tiny, config, finding};
use lorascope::analysis::Preflight;
use lorascope::dataset::{Dataset, Report};
use lorascope::display::Show;
use lorascope::format::{Extra, Layout, ProblemKind, RowSchema, WriteOptions};
use lorascope::run::Run;
use lorascope::text::{GenerationPrompt, Tokenizer};
use lorascope::train::Severity;
use serde_json::{Value as Json, json};

/// In the manner of Mistral's: ids of nine characters, beside names alone.
const NINE: &str = "{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}\
    {%- elif m.tool_calls %}{{- '[CALLS]' }}{%- for call in m.tool_calls %}\
    {%- if call.id is not defined or call.id | length != 9 %}{{- raise_exception('call ids have nine characters') }}{%- endif %}\
    {{- call.function.name + '#' + call.id + ' ' }}{%- endfor %}\
    {%- elif m.role == 'assistant' %}{{- ' ' + m.content + '</s>' }}\
    {%- elif m.role == 'tool' %}{{- '[RESULT]' + m.content + '#' + m.tool_call_id }}{%- endif %}{%- endfor %}";

fn tokenizer(template: &str) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    Tiny { template: Some(template), ..Tiny::default() }.write(folder.path());
    Tokenizer::from_folder(folder.path()).unwrap()
}

fn rendered(template: &str, row: &str) -> String {
    let files = Files::new();
    let data = Dataset::open(files.put("row.jsonl", row)).unwrap();
    let messages = data.conversation(0).unwrap();
    let text =
        tokenizer(template).render(&messages, data.tools(0).unwrap().as_deref(), GenerationPrompt::Omit);
    text.unwrap_or_else(|error| format!("refused: {error}"))
}

/// A question, a call of `f` as its keys say, a result and an answer.
fn called(call: Json, result: Json) -> String {
    let mut made = json!({"type": "function", "function": {"name": "f", "arguments": {"a": 1}}});
    call.as_object().unwrap().iter().for_each(|(key, value)| made[key] = value.clone());
    let mut answer = json!({"role": "tool", "content": "sun"});
    result.as_object().unwrap().iter().for_each(|(key, value)| answer[key] = value.clone());
    json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [made]},
        answer,
        {"role": "assistant", "content": "a"},
    ]})
    .to_string()
}

#[test]
fn ids_are_made_up_for_templates_that_ask_for_them() {
    let right = "[INST] q[/INST][CALLS]f#call00001 [RESULT]sun#call00001 a</s>";
    let none = json!({});
    for row in [
        called(none.clone(), none.clone()),
        // None is what null and an empty text are.
        called(json!({"id": null}), json!({"tool_call_id": null})),
        called(json!({"id": ""}), json!({"tool_call_id": ""})),
        called(json!({"id": ""}), none.clone()),
        // One without a name for its kind.
        called(json!({"type": null}), none.clone()),
        json!({"conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": r#"{"name": "f", "arguments": {"a": 1}}"#},
            {"from": "observation", "value": "sun"},
            {"from": "gpt", "value": "a"},
        ]})
        .to_string(),
        json!({"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{\"a\": 1}"}},
            {"role": "function", "name": "f", "content": "sun"},
            {"role": "assistant", "content": "a"},
        ]})
        .to_string(),
    ] {
        assert_eq!(rendered(NINE, &row), right, "{row}");
    }
    // What the file gives stands, and is refused where the template refuses it.
    let given = called(json!({"id": "abcdefgh9"}), json!({"tool_call_id": "abcdefgh9"}));
    assert_eq!(rendered(NINE, &given), right.replace("call00001", "abcdefgh9"));
    let long = called(json!({"id": "call_abcdefghijkl"}), json!({"tool_call_id": "call_abcdefghijkl"}));
    assert!(rendered(NINE, &long).contains("call ids have nine characters"), "{}", rendered(NINE, &long));
}

const TWO: &str = r#"[{"id": "aaaaaaaa1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Oslo"}}}, {"id": "bbbbbbbb2", "type": "function", "function": {"name": "weather", "arguments": {"town": "Rome"}}}]"#;

fn two(first: &str, second: &str) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": "Oslo and Rome?"}}, {{"role": "assistant", "content": "", "tool_calls": {TWO}}}, {{"role": "tool", "tool_call_id": "{first}", "content": "sun"}}, {{"role": "tool", "tool_call_id": "{second}", "content": "snow"}}, {{"role": "assistant", "content": "Snow and sun."}}]}}"#
    )
}

/// In the manner of templates that tell results by the name of their tool.
const NAMES: &str = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name or '' }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{{ m.content or '' }}<|im_end|>{% endfor %}";

/// Calls of two tools, answered the other way round.
fn named(names: [&str; 2]) -> String {
    let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": {}}});
    let answer =
        |id: &str, name: &str| json!({"role": "tool", "tool_call_id": id, "name": name, "content": "r"});
    json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call("aaaaaaaa1", names[0])]},
        {"role": "assistant", "content": "", "tool_calls": [call("bbbbbbbb2", names[1])]},
        answer("bbbbbbbb2", names[1]), answer("aaaaaaaa1", names[0]),
        {"role": "assistant", "content": "a"},
    ]})
    .to_string()
}

/// The lines of a fault.
fn lines(report: &Report, kind: ProblemKind) -> Vec<u32> {
    let found = report.problems.iter().filter(|problem| problem.kind == kind);
    found.flat_map(|problem| problem.places.iter().flat_map(|places| places.lines.clone())).collect()
}

/// Answers in another order than their calls are fine where the template writes ids, and mistaken for one
/// another where it does not.
#[test]
fn answers_out_of_order_are_a_problem_of_templates_without_ids() -> lorascope::error::Result<()> {
    let by_place = "{% for m in messages %}<|im_start|>{{ m.role }} {% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{{ m.content or '' }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}";
    let bench = Bench::new();
    let rows = [
        two("aaaaaaaa1", "bbbbbbbb2"),
        two("bbbbbbbb2", "aaaaaaaa1"),
        two("bbbbbbbb2", "nobody999"),
        two("", ""),
    ];
    let data = bench.data("two.jsonl", &rows.join("\n"))?;
    let report = data.report_with(&tokenizer(by_place))?;
    assert_eq!(lines(&report, ProblemKind::NotWritten), [2], "{}", report.show().text);
    let problem = report.problems.iter().find(|problem| problem.kind == ProblemKind::NotWritten).unwrap();
    assert!(problem.example.contains("in another order than the calls"), "{}", problem.example);
    let report = data.report_with(&tokenizer(NINE))?;
    assert_eq!(lines(&report, ProblemKind::NotWritten), [0u32; 0], "{}", report.show().text);
    // Names tell the answers of two tools apart, and not those of one; calls may stand in turns of their own.
    let by_name = [named(["weather", "time"]), named(["time", "time"]), two("bbbbbbbb2", "aaaaaaaa1")];
    let by_name = bench.data("named.jsonl", &by_name.join("\n"))?;
    let of = |template: &str| {
        by_name.report_with(&tokenizer(template)).map(|r| lines(&r, ProblemKind::NotWritten))
    };
    assert_eq!((of(NAMES)?, of(by_place)?, of(NINE)?), (vec![2, 3], vec![1, 2, 3], vec![]));
    assert_eq!(lines(&by_name.report()?, ProblemKind::AnswerWithoutCall), [0u32; 0]);
    // An answer to a call that nobody made is one whatever the template writes.
    assert_eq!(lines(&data.report()?, ProblemKind::AnswerWithoutCall), [3]);
    // Said before a run, with its line.
    let model = bench.model(Tiny { template: Some(by_place), ..Tiny::default() })?;
    let found = Preflight::of(&data, &model, &config())?;
    let tools = finding(&found, "tools");
    assert_eq!(tools.severity, Severity::Warning);
    assert_eq!((tools.line, tools.row), (Some(2), Some(1)), "{}", found.show().text);
    // Trained all the same.
    let run = Run::new("order", &model, &data, config().batch(4))?;
    assert_eq!(run.step()?.rows.len(), 4);
    Ok(())
}

fn written(files: &Files, data: &Dataset, schema: RowSchema, layout: Layout) -> Json {
    let options =
        WriteOptions { layout, existing: lorascope::format::Existing::Replace, ..Default::default() };
    data.write_with(files.path("out.jsonl"), schema, &options).unwrap();
    serde_json::from_str(&std::fs::read_to_string(files.path("out.jsonl")).unwrap()).unwrap()
}

/// Readers of ShareGPT dump the arguments of a call: a text would be quoted twice.
#[test]
fn arguments_of_a_function_call_turn_are_objects() {
    let files = Files::new();
    let objects = json!({"name": "f", "arguments": {"a": 1}});
    let quoted = r#"{"name": "f", "arguments": "{\"a\": 1}"}"#;
    let call = |value: &str| {
        json!({"id": "x", "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": value},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "a"},
        ]})
        .to_string()
    };
    let old = |call: Json| {
        json!({"messages": [
            {"role": "user", "content": "q"}, call,
            {"role": "function", "name": "f", "content": "r"}, {"role": "assistant", "content": "a"},
        ]})
        .to_string()
    };
    let several = format!("[{quoted}, {quoted}]");
    for (row, right) in [
        (call(quoted), objects.clone()),
        (call(&several), json!([objects, objects])),
        (
            old(
                json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{\"a\": 1}"}}),
            ),
            objects.clone(),
        ),
        (
            old(
                json!({"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}),
            ),
            objects.clone(),
        ),
        // In a row that is otherwise written as it was, since an id has no place.
        (call(quoted).replace("\"value\":\"r\"", "\"value\":\"r\",\"tool_call_id\":\"x\""), objects.clone()),
        // What is no object stays.
        (call(r#"{"name": "f", "arguments": "none"}"#), json!({"name": "f", "arguments": "none"})),
    ] {
        let data = Dataset::open(files.put("row.jsonl", &row)).unwrap();
        let out = written(&files, &data, RowSchema::ShareGpt, Layout::Schema);
        let value = out["conversations"][1]["value"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Json>(value).unwrap(), right, "{row}");
    }
    // The layout of the file, where that is asked for.
    for row in [call(quoted), call(&several)] {
        let data = Dataset::open(files.put("row.jsonl", &row)).unwrap();
        let out = written(&files, &data, RowSchema::ShareGpt, Layout::Keep);
        assert_eq!(out, serde_json::from_str::<Json>(&row).unwrap());
    }
}

/// Calls without their function, and a tool or a call without a list, are what readers of the format expect.
#[test]
fn bare_calls_are_wrapped() {
    let files = Files::new();
    let bare = json!({"name": "f", "arguments": {"x": 1}});
    let right = json!([{"type": "function", "function": bare}]);
    for (calls, tools) in [
        (json!([bare]), json!([{"name": "f", "parameters": {}}])),
        (
            json!([{"name": "f", "arguments": {"x": 1}, "type": "function"}]),
            json!({"name": "f", "parameters": {}}),
        ),
        (right.clone(), json!({"type": "function", "function": {"name": "f", "parameters": {}}})),
    ] {
        let row = json!({"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "tool_calls": calls},
            {"role": "tool", "content": "r"},
            {"role": "assistant", "content": "a"},
        ], "tools": tools});
        let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
        let out = written(&files, &data, RowSchema::OpenAi, Layout::Schema);
        assert_eq!(out["messages"][1]["tool_calls"], right, "{row}");
        assert_eq!(
            out["tools"],
            json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]),
            "{row}"
        );
        assert_eq!(written(&files, &data, RowSchema::OpenAi, Layout::Keep), row);
        assert!(data.losses(RowSchema::OpenAi).unwrap().is_empty());
    }
}

#[test]
fn bare_tools_are_wrapped_in_their_own_schema_too() {
    let files = Files::new();
    let bare = json!([{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}]);
    let wrapped = json!([{"type": "function", "function": bare[0]}]);
    for (row, schema) in [
        (
            json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": bare}),
            RowSchema::OpenAi,
        ),
        (json!({"prompt": "q", "completion": "a", "tools": bare}), RowSchema::PromptCompletion),
        (json!({"prompt": "q", "chosen": "a", "rejected": "b", "tools": bare}), RowSchema::Preference),
        (json!({"prompt": "q", "completion": "a", "label": true, "tools": bare}), RowSchema::Kto),
    ] {
        let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
        assert_eq!(written(&files, &data, schema, Layout::Schema)["tools"], wrapped, "{schema}");
        assert_eq!(written(&files, &data, schema, Layout::Keep), row, "{schema}");
        let mut named = row.clone();
        named["tools"][0]["type"] = "function".into();
        let data = Dataset::open(files.put("named.jsonl", named.to_string())).unwrap();
        assert_eq!(written(&files, &data, schema, Layout::Schema)["tools"], wrapped, "{schema}");
        assert_eq!(written(&files, &data, schema, Layout::Keep), named, "{schema}");
        // Nothing that the row says is lost.
        assert!(data.losses(schema).unwrap().is_empty(), "{schema}");
    }
}

/// Tools that no chat template can use are a problem with its line; the row is kept.
#[test]
fn tools_that_are_no_json_are_said() {
    let files = Files::new();
    let row = |tools: &str| format!(r#"{{"prompt":"q","completion":"a","tools":{tools}}}"#);
    let rows = [
        row(r#""[{\"name\": \"f\"}]""#),
        row(r#""{not json""#),
        row("\"\""),
        row(r#""None""#),
        row(r#""weather""#),
        row(r#"[{"name":"f"}]"#),
    ];
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (6, 0));
    let problems = data.problems().unwrap();
    let lines = problems.column("line").unwrap().u32().unwrap().clone();
    let whats = problems.column("what").unwrap().str().unwrap().clone();
    let about =
        |what: Option<&str>| what.is_some_and(|what| what.contains("`tools` is a text that is no JSON"));
    let told = lines.iter().zip(whats.iter()).filter(|(_, what)| about(*what));
    assert_eq!(told.filter_map(|(line, _)| line).collect::<Vec<u32>>(), [2, 5]);
}

/// Calls in turns of their own are answered in their order: by what is written, and for the chat template.
#[test]
fn calls_one_after_the_other_are_answered_in_their_order() {
    let files = Files::new();
    let ids = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}={{ c.id }};{% endfor %}{% if m.role == 'tool' %}{{ m.content }}={{ m.tool_call_id }};{% endif %}{% endfor %}";
    let strict = ids.replace("{{ c.id }}", "{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}{{ c.id }}");
    let old = |turns: &[(&str, &str)]| {
        let turns: Vec<Json> =
            turns.iter().map(|(from, value)| json!({"from": from, "value": value})).collect();
        json!({"conversations": turns}).to_string()
    };
    let swift = |turns: &[(&str, &str)]| {
        let turns: Vec<Json> =
            turns.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
        json!({"messages": turns}).to_string()
    };
    let [fa, fb] = [r#"{"name": "fa", "arguments": {}}"#, r#"{"name": "fb", "arguments": {}}"#];
    let both = "fa=call00001;fb=call00002;result a=call00001;result b=call00002;";
    for (row, right) in [
        (
            old(&[
                ("human", "q"),
                ("function_call", fa),
                ("function_call", fb),
                ("observation", "result a"),
                ("observation", "result b"),
                ("gpt", "a"),
            ]),
            both,
        ),
        (
            swift(&[
                ("user", "q"),
                ("tool_call", fa),
                ("tool_call", fb),
                ("tool_response", "result a"),
                ("tool_response", "result b"),
                ("assistant", "a"),
            ]),
            both,
        ),
        // A call after an answer begins anew, and so does one after the user.
        (
            old(&[
                ("human", "q"),
                ("function_call", fa),
                ("observation", "result a"),
                ("function_call", fb),
                ("observation", "result b"),
                ("gpt", "a"),
            ]),
            "fa=call00001;result a=call00001;fb=call00002;result b=call00002;",
        ),
        (
            old(&[
                ("human", "q"),
                ("function_call", fa),
                ("human", "and b?"),
                ("function_call", fb),
                ("observation", "result b"),
                ("gpt", "a"),
            ]),
            "fa=call00001;fb=call00002;result b=call00002;",
        ),
    ] {
        assert_eq!(rendered(&strict, &row), right, "{row}");
        let data = Dataset::open(files.put("row.jsonl", &row)).unwrap();
        for schema in [RowSchema::OpenAi, RowSchema::PromptCompletion] {
            let source = data.frame().unwrap().collect().unwrap();
            let source = source.column("source").unwrap().str().unwrap().get(0).unwrap().to_string();
            if source == schema.name() {
                continue;
            }
            let out = written(&files, &data, schema, Layout::Schema).to_string();
            assert_eq!(rendered(ids, &out), right, "{row} as {schema}: {out}");
        }
    }
    // What one says that it answers is taken, and the other is the other's.
    let told = json!({"conversations": [
        {"from": "human", "value": "q"}, {"from": "function_call", "value": fa}, {"from": "function_call", "value": fb},
        {"from": "observation", "value": "result b", "name": "fb"}, {"from": "observation", "value": "result a"},
        {"from": "gpt", "value": "a"},
    ]});
    let data = Dataset::open(files.put("row.jsonl", told.to_string())).unwrap();
    let out = written(&files, &data, RowSchema::OpenAi, Layout::Schema).to_string();
    assert_eq!(rendered(ids, &out), "fa=call00001;fb=call00002;result b=call00002;result a=call00001;");
}

/// Keys of calls that a format has no place for are said, and bare calls come back as they were.
#[test]
fn keys_of_calls_are_said_or_kept() {
    let files = Files::new();
    let call =
        json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}});
    let openai = called(json!({"id": "c1", "index": 0}), json!({"tool_call_id": "c1"}));
    let data = Dataset::open(files.put("row.jsonl", openai)).unwrap();
    let losses = data.losses(RowSchema::ShareGpt).unwrap();
    assert_eq!(losses.lost.get("`index` of calls"), Some(&1), "{:?}", losses.lost);
    let said = data.write(files.path("said.jsonl"), RowSchema::ShareGpt).unwrap().to_string();
    assert!(said.contains("left out: `index` of calls has no place in sharegpt, in 1 row"), "{said}");
    // A kind of call that is none of a function has no place either.
    let other = called(json!({"id": "c1", "type": "custom"}), json!({"tool_call_id": "c1"}));
    let data = Dataset::open(files.put("row.jsonl", other)).unwrap();
    assert!(data.losses(RowSchema::BelleChat).unwrap().lost.contains_key("`type` of calls"));
    // In its own format the text of a call keeps them.
    let row = |value: String| {
        json!({"id": "x", "conversations": [
            {"from": "human", "value": "q"}, {"from": "function_call", "value": value},
            {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"},
        ]})
    };
    let mut bare = call.clone();
    bare.as_object_mut().unwrap().remove("id");
    for calls in [json!([bare]), json!([call]), json!([bare, bare])] {
        let row = row(calls.to_string());
        let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
        assert_eq!(written(&files, &data, RowSchema::ShareGpt, Layout::Schema), row);
        assert!(data.losses(RowSchema::ShareGpt).unwrap().is_empty());
    }
    // A bare call has its id beside the function, once; carried along, the row comes back as it was.
    let bare = json!([{"id": "c9", "name": "g", "arguments": {}}]);
    let row = json!({"messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": bare},
        {"role": "tool", "content": "r", "tool_call_id": "c9"}, {"role": "assistant", "content": "a"},
    ]});
    let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
    let keep = WriteOptions { extra: Extra::Keep, layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("there.jsonl"), RowSchema::PromptCompletion, &keep).unwrap();
    let there = std::fs::read_to_string(files.path("there.jsonl")).unwrap();
    let there: Json = serde_json::from_str(&there).unwrap();
    assert_eq!(
        there["prompt"][1]["tool_calls"],
        json!([{"id": "c9", "type": "function", "function": {"name": "g", "arguments": {}}}])
    );
    let again = Dataset::open(files.path("there.jsonl")).unwrap();
    again.write_with(files.path("back.jsonl"), RowSchema::OpenAi, &keep).unwrap();
    let back: Json =
        serde_json::from_str(&std::fs::read_to_string(files.path("back.jsonl")).unwrap()).unwrap();
    assert_eq!(back, row);
}

/// Twice the calls take twice the time.
#[test]
fn many_calls_in_one_row_are_written_at_once() {
    const PAIRS: usize = 40_000;
    let files = Files::new();
    let mut turns = vec![json!({"from": "human", "value": "q"})];
    for n in 0..PAIRS {
        turns.push(json!({"from": "function_call", "value": r#"{"name": "f", "arguments": {}}"#}));
        turns.push(json!({"from": "observation", "value": n.to_string()}));
    }
    turns.push(json!({"from": "gpt", "value": "a"}));
    let data = Dataset::open(files.put("row.jsonl", json!({"conversations": turns}).to_string())).unwrap();
    let begun = std::time::Instant::now();
    let out = written(&files, &data, RowSchema::OpenAi, Layout::Schema);
    assert!(begun.elapsed().as_secs() < 40, "{:?}", begun.elapsed());
    assert_eq!(out["messages"][2 * PAIRS]["tool_call_id"], format!("call{PAIRS:05}"));
    // An id like ours that the row has already is nobody else's, also at the beginning of a longer one.
    let row = json!({"conversations": [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": r#"{"name": "call00001x", "arguments": {"n": "call000029"}}"#},
        {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"},
    ]});
    let data = Dataset::open(files.put("row.jsonl", row.to_string())).unwrap();
    let out = written(&files, &data, RowSchema::OpenAi, Layout::Schema);
    assert_eq!(out["messages"][1]["tool_calls"][0]["id"], "call00003");
}
