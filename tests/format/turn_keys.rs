//! A turn reaches the chat template as its file has it: null content, ids, reasoning, other keys.

use crate::common;
use std::sync::OnceLock;

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Extra, Map, RowSchema, WriteOptions};
use lorascope::text::{GenerationPrompt, Tokenizer};

/// SmolLM2's tokenizer.
fn base() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let mut file = std::fs::File::open(common::model_path()).unwrap();
        let content = lorascope::candle_core::quantized::gguf_file::Content::read(&mut file).unwrap();
        Tokenizer::from_gguf(&content.metadata).unwrap()
    })
}

fn rendered(template: &str, rows: &str) -> Vec<String> {
    let files = Files::new();
    let t = base().with_template(template).unwrap();
    let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
    let text = |i| {
        t.render(&data.conversation(i).unwrap(), data.tools(i).unwrap().as_deref(), GenerationPrompt::Omit)
    };
    (0..data.len()).map(|i| text(i).unwrap_or_else(|error| format!("refused: {error}"))).collect()
}

const CALL: &str =
    r#"{"id":"c00000001","type":"function","function":{"name":"f","arguments":"{\"town\": \"Oslo\"}"}}"#;

/// In the manner of DeepSeek's distillates: a call is written only where the content is null.
const ONLY_NULL: &str = "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }};{% endif %}\
    {% if m.role == 'assistant' and m.content is none %}{% for c in m.tool_calls %}C:{{ c.function.name + ' ' + c.function.arguments }};{% endfor %}{% endif %}\
    {% if m.role == 'assistant' and m.content is not none %}A:{{ m.content }};{% endif %}{% if m.role == 'tool' %}T:{{ m.content }};{% endif %}{% endfor %}";

#[test]
fn null_content_is_null_for_the_template() {
    let talk = |call: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{call},{{"role":"tool","content":"r"}},{{"role":"assistant","content":"a"}}]}}"#
        )
    };
    let right = r#"U:q;C:f {"town": "Oslo"};T:r;A:a;"#;
    for call in [
        format!(r#"{{"role":"assistant","content":null,"tool_calls":[{CALL}]}}"#),
        format!(r#"{{"role":"assistant","tool_calls":[{CALL}]}}"#),
        r#"{"role":"assistant","function_call":{"name":"f","arguments":"{\"town\": \"Oslo\"}"}}"#.to_string(),
        r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":{"town": "Oslo"}}}"#
            .to_string(),
    ] {
        assert_eq!(rendered(ONLY_NULL, &talk(&call)), [right], "{call}");
    }
    let old = r#"{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"town\": \"Oslo\"}}"},{"from":"observation","value":"r"},{"from":"gpt","value":"a"}]}"#;
    assert_eq!(rendered(ONLY_NULL, old), [right]);
    // An empty text is no null, as with Hugging Face.
    let empty = talk(&format!(r#"{{"role":"assistant","content":"","tool_calls":[{CALL}]}}"#));
    assert_eq!(rendered(ONLY_NULL, &empty), ["U:q;A:;T:r;A:a;"]);
    // No calls are none: such a turn says nothing.
    let files = Files::new();
    let none = talk(r#"{"role":"assistant","content":null,"tool_calls":[]}"#);
    assert!(Dataset::open(files.put("rows.jsonl", none)).unwrap_err().to_string().contains("says nothing"));
}

#[test]
fn arguments_have_the_form_that_the_template_needs() {
    let dumps = "{% for m in messages %}{% for c in m.tool_calls or [] %}<{{ c.function.arguments | tojson }}>{% endfor %}{% endfor %}";
    let joins = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ '<' + c.function.arguments + '>' }}{% endfor %}{% endfor %}";
    let either = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.function.arguments is string %}<{{ c.function.arguments }}>{% else %}={{ c.function.arguments | tojson }}={% endif %}{% endfor %}{% endfor %}";
    let row = |arguments: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"c00000001","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}},{{"role":"tool","tool_call_id":"c00000001","content":"r"}},{{"role":"assistant","content":"a"}}]}}"#
        )
    };
    let (text, object) =
        (row(r#""{\"town\": \"Oslo\", \"n\": 2.50}""#), row(r#"{"town": "Oslo", "n": 2.5}"#));
    assert_eq!(rendered(dumps, &text), [r#"<{"town": "Oslo", "n": 2.5}>"#]);
    assert_eq!(rendered(dumps, &object), rendered(dumps, &text));
    assert_eq!(
        rendered(joins, &text),
        [r#"<{"town": "Oslo", "n": 2.50}>"#],
        "text stays the text that it is"
    );
    assert_eq!(rendered(joins, &object), [r#"<{"town": "Oslo", "n": 2.5}>"#]);
    assert_eq!(rendered(either, &text), [r#"<{"town": "Oslo", "n": 2.50}>"#]);
    assert_eq!(rendered(either, &object), [r#"={"town": "Oslo", "n": 2.5}="#]);
    // A text that is no object stays one.
    assert_eq!(rendered(dumps, &row("\"Oslo\"")), ["<\"Oslo\">"]);
}

#[test]
fn ids_of_answers_stand() {
    let ids = "{% for m in messages %}{% if m.role == 'tool' %}{{ m.content }}={{ m.tool_call_id }};{% endif %}{% endfor %}";
    let row = |answers: &str| {
        let calls = [1, 2]
            .map(|n| {
                format!(r#"{{"id":"c{n}","type":"function","function":{{"name":"f{n}","arguments":{{}}}}}}"#)
            })
            .join(",");
        format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":null,"tool_calls":[{calls}]}},{answers},{{"role":"assistant","content":"a"}}]}}"#
        )
    };
    let tool = |text: &str, more: &str| format!(r#"{{"role":"tool","content":"{text}"{more}}}"#);
    let said = |id: &str| format!(r#","tool_call_id":"{id}""#);
    for (answers, expected) in [
        (vec![tool("two", &said("c2")), tool("one", &said("c1"))], "two=c2;one=c1;"),
        (vec![tool("two", &said("c2"))], "two=c2;"),
        (vec![tool("one", ""), tool("two", "")], "one=c1;two=c2;"),
        (vec![tool("one", ""), tool("two", &said("c2"))], "one=c1;two=c2;"),
        (vec![tool("two", ""), tool("one", &said("c1"))], "two=c2;one=c1;"),
        (vec![tool("two", r#","name":"f2""#)], "two=c2;"),
    ] {
        assert_eq!(rendered(ids, &row(&answers.join(","))), [expected]);
    }
    // Where the template insists on ids of nine characters, missing ones are made up.
    let strict = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}{{ c.id }}:{{ c.function.arguments | tojson }};{% endfor %}{% if m.role == 'tool' %}{{ m.tool_call_id }};{% endif %}{% endfor %}";
    let old = r#"{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {}}]"},{"from":"tool_response","value":"r"},{"from":"observation","value":"s"},{"from":"gpt","value":"a"}]}"#;
    assert_eq!(rendered(strict, old), ["call00001:{};call00002:{};call00001;call00002;"]);
    // The ids survive writing.
    let files = Files::new();
    let data = Dataset::open(
        files.put("rows.jsonl", row(&[tool("two", &said("c2")), tool("one", &said("c1"))].join(","))),
    )
    .unwrap();
    for name in ["out.jsonl", "out.parquet"] {
        data.write(files.path(name), RowSchema::OpenAi).unwrap();
        let back = Dataset::open(files.path(name)).unwrap();
        let ids: Vec<_> = back.conversation(0).unwrap().into_iter().filter_map(|m| m.tool_call_id).collect();
        assert_eq!(ids, ["c2", "c1"], "{name}");
    }
}

#[test]
fn reasoning_is_passed_on_and_trained() {
    let thinks = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content is string %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let files = Files::new();
    let t = base().with_template(thinks).unwrap();
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let row = format!(
            r#"{{"messages":[{{"role":"user","content":"7 · 6?"}},{{"role":"assistant","content":"42","{key}":"seven times six"}}]}}"#
        );
        let data = Dataset::open(files.put("rows.jsonl", &row)).unwrap();
        let example = t.example(&data.conversation(0).unwrap(), None).unwrap();
        let said: Vec<u32> =
            example.ids.iter().zip(&example.trained).filter(|(_, t)| **t).map(|(id, _)| *id).collect();
        assert_eq!(t.decode(&said).unwrap(), "<think>seven times six</think>42<|im_end|>", "{key}");
        // Nothing of it is lost on the way to other formats that have turns.
        data.overwrite(files.path("out.jsonl"), RowSchema::ShareGpt).unwrap();
        assert!(std::fs::read_to_string(files.path("out.jsonl")).unwrap().contains("seven times six"));
        let losses = data.losses(RowSchema::Alpaca).unwrap();
        assert_eq!(losses.lost.keys().collect::<Vec<_>>(), [&format!("`{key}` of turns")]);
        let written = data.overwrite(files.path("out.jsonl"), RowSchema::Alpaca).unwrap();
        assert!(
            written.to_string().contains(&format!("`{key}` of turns has no place in alpaca")),
            "{written}"
        );
    }
    // Rows that differ in it alone are no duplicates.
    let rows: Vec<String> = ["a", "b", "a"].iter().map(|thought| format!(r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"42","reasoning_content":"{thought}"}}]}}"#)).collect();
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    assert_eq!(data.dedup().unwrap().len(), 2);
    // Every other key of a turn as well.
    let any = "{% for m in messages %}{{ m.mood }}{{ m.meta.n if m.meta }}{% endfor %}";
    assert_eq!(
        rendered(
            any,
            r#"{"messages":[{"role":"user","content":"q","mood":"odd"},{"role":"assistant","content":"a","meta":{"n":1}}]}"#
        ),
        ["odd1"]
    );
}

#[test]
fn empty_is_none() {
    let strict = "{% if tools is not none %}TOOLS {{ tools | tojson }} {% endif %}{% if messages[0].role == 'system' %}S[{{ messages[0].content }}]{% else %}default{% endif %}{% for m in messages %}{{ m.role }} {{ m.content }};{% endfor %}";
    let talk = r#""conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]"#;
    let right = "defaultuser q;assistant a;";
    for more in [
        "",
        r#","tools":"""#,
        r#","tools":"[]""#,
        r#","tools":[]"#,
        r#","tools":"null""#,
        r#","tools":" [ ] ""#,
        r#","tools":{}"#,
        r#","tools":null"#,
        r#","system":"""#,
        r#","system":"  ""#,
        r#","system_prompt":"\n""#,
        r#","system":null"#,
    ] {
        assert_eq!(rendered(strict, &format!("{{{talk}{more}}}")), [right], "{more}");
    }
    for system in [
        r#"{"role":"system","content":" "}"#,
        r#"{"role":"system","content":null}"#,
        r#"{"role":"system","content":""}"#,
    ] {
        let row = format!(
            r#"{{"messages":[{system},{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}]}}"#
        );
        assert_eq!(rendered(strict, &row), [right], "{system}");
        // No format gets a turn of the system that says nothing, and the row stays what it was.
        let files = Files::new();
        let data = Dataset::open(files.put("row.jsonl", &row)).unwrap();
        for schema in [RowSchema::Alpaca, RowSchema::ShareGpt, RowSchema::OpenAi] {
            data.overwrite(files.path("out.jsonl"), schema).unwrap();
            assert!(
                !std::fs::read_to_string(files.path("out.jsonl")).unwrap().contains("system"),
                "{schema}"
            );
        }
    }
    // Rows that say the same are the same.
    let files = Files::new();
    let rows = [
        format!("{{{talk}}}"),
        format!("{{{talk},\"tools\":\"[]\"}}"),
        format!("{{{talk},\"system\":\"\"}}"),
    ];
    assert_eq!(Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap().dedup().unwrap().len(), 1);
    // Bare tools are wrapped.
    let row = format!("{{{talk},\"tools\":\"[{{\\\"name\\\": \\\"f\\\"}}]\"}}");
    assert_eq!(
        rendered(strict, &row),
        [format!(r#"TOOLS [{{"type": "function", "function": {{"name": "f"}}}}] {right}"#)]
    );
}

#[test]
fn keys_of_the_systems_turn_are_kept() {
    // In the manner of GLM's templates: the tools stand in the system's turn.
    let template = "{% for m in messages %}{% if m.tools is defined %}[{% for t in m.tools %}{{ t.name }} {% endfor %}]{% endif %}{{ m.role }}{% if m.name %}({{ m.name }}){% endif %}:{{ m.content }};{% endfor %}";
    let tools = r#"[{"name":"clock","n":1.50},{"name":"map"}]"#;
    let row = |system: &str| {
        format!(
            r#"{{"messages":[{system},{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}]}}"#
        )
    };
    let turn = format!(r#"{{"role":"system","content":"s","tools":{tools}}}"#);
    let blank = format!(r#"{{"role":"system","content":"","tools":{tools}}}"#);
    let named = r#"{"role":"system","content":"s","name":"host"}"#;
    assert_eq!(rendered(template, &row(&turn)), ["[clock map ]system:s;user:q;assistant:a;"]);
    assert_eq!(rendered(template, &row(&blank)), ["[clock map ]system:;user:q;assistant:a;"]);
    assert_eq!(rendered(template, &row(named)), ["system(host):s;user:q;assistant:a;"]);
    let chatglm = format!(
        r#"{{"conversations":[{turn},{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}]}}"#
    );
    assert_eq!(rendered(template, &chatglm), ["[clock map ]system:s;user:q;assistant:a;"]);
    let chosen = format!(
        r#"{{"chosen":[{turn},{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}],"rejected":[{turn},{{"role":"user","content":"q"}},{{"role":"assistant","content":"b"}}]}}"#
    );
    assert_eq!(rendered(template, &chosen), ["[clock map ]system:s;user:q;assistant:a;"]);

    let files = Files::new();
    let path = files.put("rows.jsonl", row(&turn));
    let by_map = Dataset::open_as(&path, Map::new().messages("messages")).unwrap();
    for data in [Dataset::open(&path).unwrap(), by_map] {
        let system = &data.conversation(0).unwrap()[0];
        assert_eq!(system.extra.as_deref(), Some(&*format!(r#"{{"tools":{tools}}}"#)));
        let out = files.path("out.jsonl");
        let options = WriteOptions { existing: Existing::Replace, ..WriteOptions::default() };
        let written = data.write_with(&out, RowSchema::OpenAi, &options).unwrap();
        assert!(written.lost.is_empty(), "{:?}", written.lost);
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.contains(&format!(r#"{{"role":"system","content":"s","tools":{tools}}}"#)), "{text}");
        // Alpaca has a place for the text alone, and says so.
        let losses = data.losses(RowSchema::Alpaca).unwrap();
        assert_eq!(losses.lost.get("`tools` of the system's turn"), Some(&1), "{:?}", losses.lost);
    }
    // A blank text beside nulls and weights is no system text.
    for empty in [
        r#"{"role":"system","content":"","reasoning_content":null}"#,
        r#"{"role":"system","content":" ","loss":false,"name":null}"#,
        r#"{"role":"system","content":null,"weight":0}"#,
    ] {
        assert_eq!(rendered(template, &row(empty)), ["user:q;assistant:a;"], "{empty}");
    }
    // The keys of a prompt's system stand where the answers repeat its text.
    let plain = r#"{"role":"system","content":"s"},{"role":"user","content":"q"}"#;
    let prompt = format!(
        r#"{{"prompt":[{turn},{{"role":"user","content":"q"}}],"chosen":[{plain},{{"role":"assistant","content":"a"}}],"rejected":[{plain},{{"role":"assistant","content":"b"}}]}}"#
    );
    assert_eq!(rendered(template, &prompt), ["[clock map ]system:s;user:q;assistant:a;"]);
    // Calls in it may be text with line breaks: what carries them stays on one line.
    let odd = r#"{"role":"system","content":"s","tool_calls":"[\n{\"id\":\"1\"}]"}"#;
    let data = Dataset::open(files.put("odd.jsonl", row(odd))).unwrap();
    let keep = WriteOptions { extra: Extra::Keep, ..WriteOptions::default() };
    data.write_with(files.path("carried.jsonl"), RowSchema::Alpaca, &keep).unwrap();
    let text = std::fs::read_to_string(files.path("carried.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    // Rows that differ in it only are no duplicates.
    let twice = format!("{}\n{}\n{}\n", row(&turn), row(&turn.replace("clock", "dial")), row(&turn));
    let data = Dataset::open(files.put("twice.jsonl", twice)).unwrap();
    assert_eq!(data.dedup().unwrap().len(), 2);
}

/// In the manner of Qwen2.5's: a system text of its own where the row has none.
const PERSONA: &str = "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content }}\
    {%- else %}{{- '<|im_start|>system\nDefault persona.' }}{%- endif %}{{- '<|im_end|>\n' }}\
    {%- for m in messages %}{%- if m.role != 'system' %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}\
    {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

#[test]
fn a_blank_system_beside_pairs_is_none() {
    let right = "<|im_start|>system\nDefault persona.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n\
                 <|im_start|>assistant\n4<|im_end|>\n";
    for pair in [
        r#""instruction":"2 + 2?","input":"","output":"4""#,
        r#""prompt":"2 + 2?","completion":"4""#,
        r#""conversation":[{"human":"2 + 2?","assistant":"4"}]"#,
        r#""prompt":"2 + 2?","chosen":"4","rejected":"5""#,
        r#""prompt":"2 + 2?","completion":"4","label":true"#,
    ] {
        for system in
            ["", r#","system":"""#, r#","system":"  ""#, r#","system_prompt":"\n""#, r#","system":null"#]
        {
            let row = format!("{{{pair}{system}}}");
            assert_eq!(rendered(PERSONA, &row), [right], "{row}");
            // No format gets a turn of the system, and nothing is lost.
            let files = Files::new();
            let data = Dataset::open(files.put("row.jsonl", &row)).unwrap();
            data.write(files.path("out.jsonl"), RowSchema::OpenAi).unwrap();
            let out = std::fs::read_to_string(files.path("out.jsonl")).unwrap();
            let out: serde_json::Value = serde_json::from_str(&out).unwrap();
            let two = serde_json::json!([{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]);
            assert_eq!(out["messages"], two, "{row}");
            data.write(files.path("talk.jsonl"), RowSchema::ShareGpt).unwrap();
            let talk = std::fs::read_to_string(files.path("talk.jsonl")).unwrap();
            assert!(!talk.contains(r#""from":"system""#), "{row}: {talk}");
        }
        // One that says something stands.
        let row = format!("{{{pair},\"system\":\"Be brief.\"}}");
        assert_eq!(rendered(PERSONA, &row), [right.replace("Default persona.", "Be brief.")], "{row}");
    }
    // What is trained is of one length, as the report counts it.
    let files = Files::new();
    let t = base().with_template(PERSONA).unwrap();
    let pair = r#""instruction":"2 + 2?","input":"","output":"4""#;
    let rows = ["", r#","system":"""#, r#","system":"  ""#].map(|system| format!("{{{pair}{system}}}"));
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    let one = t.example(&data.conversation(0).unwrap(), None).unwrap();
    assert_eq!(data.report_with(&t).unwrap().tokens.unwrap().total, 3 * one.len() as u64);
    assert_eq!(data.dedup().unwrap().len(), 1);
}
