//! Every schema, in the variants that occur: what a row is in the table, and that it is written as it was.

use crate::common::files::{Files, message};
use crate::common::rows::normal;
use lorascope::dataset::Dataset;
use lorascope::format::{Extra, Join, Layout, Map, Misfits, ReadOptions, Role, RowSchema, WriteOptions};
use lorascope::text::Message;

/// Opens one row, and checks that writing it in its own schema gives it back.
fn open(row: &str) -> (Files, Dataset) {
    let files = Files::new();
    let data = Dataset::open(files.put("row.jsonl", row)).unwrap();
    assert_eq!(data.len(), 1, "{row}");
    let schema: RowSchema = text(&data, "source").unwrap().parse().unwrap();
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("again.jsonl"), schema, &keep).unwrap();
    let again = std::fs::read_to_string(files.path("again.jsonl")).unwrap();
    assert_eq!(normal(&again), normal(row));
    assert!(data.losses(schema).unwrap().is_empty());
    (files, data)
}

/// A text column of the only row.
fn text(data: &Dataset, column: &str) -> Option<String> {
    let frame = data.frame().unwrap().collect().unwrap();
    frame.column(column).unwrap().str().unwrap().get(0).map(str::to_string)
}

fn said(data: &Dataset) -> Vec<(Role, String)> {
    data.conversation(0).unwrap().into_iter().map(|m| (m.role, m.text().to_string())).collect()
}

#[test]
fn a_question_keeps_what_it_is_about() {
    for row in [
        r#"{"question":"Who?","context":"Ann came.","answer":"Ann"}"#,
        r#"{"context":"Ann came.","prompt":"Who?","completion":"Ann"}"#,
        r#"{"prompt":"Who?","input":"Ann came.","output":"Ann"}"#,
        r#"{"query":"Who?","context":"Ann came.","response":"Ann","source":"book"}"#,
    ] {
        let (files, data) = open(row);
        assert_eq!(text(&data, "source").as_deref(), Some("prompt-completion"), "{row}");
        assert_eq!(said(&data), turns(&[(User, "Who?\nAnn came."), (Assistant, "Ann")]), "{row}");
        let alpaca = written(&files, &data, RowSchema::Alpaca);
        assert!(alpaca.contains(r#""instruction":"Who?\nAnn came.""#), "{alpaca}");
    }
    let row = r#"{"prompt":"Who?","context":"Ann came.","chosen":"Ann","rejected":"Bob"}"#;
    let (_, data) = open(row);
    assert_eq!(said(&data), turns(&[(User, "Who?\nAnn came."), (Assistant, "Ann")]));
    // What is no text is no part of the question, and stays a key like any other.
    let row = r#"{"question":"Who?","context":{"titles":["Ann"]},"answer":"Ann"}"#;
    let (_, data) = open(row);
    assert_eq!(said(&data), turns(&[(User, "Who?"), (Assistant, "Ann")]));
    assert_eq!(text(&data, "extra").as_deref().map(|extra| extra.contains("titles")), Some(true));
    let (_, data) = open(r#"{"question":"Who?","context":"","answer":"Ann"}"#);
    assert_eq!(said(&data), turns(&[(User, "Who?"), (Assistant, "Ann")]));
}

/// The row in another schema.
fn written(files: &Files, data: &Dataset, schema: RowSchema) -> String {
    data.overwrite(files.path("other.jsonl"), schema).unwrap();
    std::fs::read_to_string(files.path("other.jsonl")).unwrap().trim_end().to_string()
}

fn turns(turns: &[(Role, &str)]) -> Vec<(Role, String)> {
    turns.iter().map(|(role, text)| (*role, text.to_string())).collect()
}

use Role::{Assistant, System, Tool, User};

#[test]
fn alpaca() {
    for row in [
        r#"{"instruction":"q","input":"","output":"a"}"#,
        r#"{"instruction":"q","output":"a"}"#,
        r#"{"output":"a","input":null,"instruction":"q"}"#,
        r#"{"instruction":"q","context":"","response":"a","category":"x"}"#,
        r#"{"id":7,"system_prompt":null,"instruction":"q","input":"","output":"a","history":[],"text":"full text"}"#,
    ] {
        let (files, data) = open(row);
        assert_eq!(text(&data, "source").as_deref(), Some("alpaca"));
        assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a")]), "{row}");
        let id = if row.contains("\"id\"") { "7" } else { "row-1" };
        assert_eq!(
            written(&files, &data, RowSchema::ShareGpt),
            format!(
                r#"{{"id":"{id}","conversations":[{{"from":"human","value":"q"}},{{"from":"gpt","value":"a"}}]}}"#
            )
        );
    }
    let (_, data) = open(r#"{"instruction":"q","input":"","output":"a"}"#);
    assert_eq!(text(&data, "extra"), None, "an ordinary row keeps nothing beside");
    let row = r#"{"instruction":"q2","input":"i","output":"a2","history":[["q1","a1"]],"system":"S"}"#;
    let (files, data) = open(row);
    let all = [(System, "S"), (User, "q1"), (Assistant, "a1"), (User, "q2\ni"), (Assistant, "a2")];
    assert_eq!(said(&data), turns(&all));
    assert_eq!(
        written(&files, &data, RowSchema::Firefly),
        r#"{"system":"S","conversation":[{"human":"q1","assistant":"a1"},{"human":"q2\ni","assistant":"a2"}]}"#
    );
    let options = ReadOptions { join: Join::Nothing, ..Default::default() };
    let data = Dataset::open_with(files.path("row.jsonl"), &options).unwrap();
    assert_eq!(data.conversation(0).unwrap()[3].text(), "q2i");
    let usual = r#"{"system":"S","instruction":"q2","input":"i","output":"a2","history":[["q1","a1"]]}"#;
    assert_eq!(written(&files, &data, RowSchema::Alpaca), usual);
}

#[test]
fn several_turns_in_an_instruction() {
    let row = r#"{"instruction":"Human:a\nAssistant: b\n\nHuman:c d\nAssistant:","input":"","output":"e"}"#;
    let (files, data) = open(row);
    assert_eq!(said(&data), turns(&[(User, "a"), (Assistant, "b"), (User, "c d"), (Assistant, "e")]));
    let history = r#"{"instruction":"c d","input":"","output":"e","history":[["a","b"]]}"#;
    data.write_with(
        files.path("plain.jsonl"),
        RowSchema::Alpaca,
        &WriteOptions { layout: Layout::Schema, ..Default::default() },
    )
    .unwrap();
    assert_eq!(std::fs::read_to_string(files.path("plain.jsonl")).unwrap().trim_end(), history);
    for row in [
        r#"{"instruction":"Human:a\nAssistant:b","output":"c"}"#,
        r#"{"instruction":"Human:a\nHuman:b\nAssistant:","output":"c"}"#,
        r#"{"instruction":"Human: \nAssistant:","output":"c"}"#,
        r#"{"instruction":"a\nAssistant:","output":"c"}"#,
    ] {
        assert_eq!(open(row).1.conversation(0).unwrap().len(), 2, "{row}");
    }
    // A person may well ask such a thing in one turn: alpaca would say something else.
    let row = r#"{"messages":[{"role":"user","content":"Human:a\nAssistant:"},{"role":"assistant","content":"b"}]}"#;
    let (_, data) = open(row);
    let losses = data.losses(RowSchema::Alpaca).unwrap();
    assert_eq!(losses.lost.keys().collect::<Vec<_>>(), ["one turn for what reads as several"]);
}

#[test]
fn conversations() {
    let (files, data) = open(
        r#"{"id":"1","conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"tools":"[]"}"#,
    );
    assert_eq!(text(&data, "source").as_deref(), Some("sharegpt"));
    assert_eq!(
        written(&files, &data, RowSchema::BelleChat),
        r#"{"id":"1","conversations":[{"from":"human","value":"q"},{"from":"assistant","value":"a"}]}"#,
        "no tools are none"
    );
    for (word, source) in
        [("bing", "sharegpt"), ("chatgpt", "sharegpt"), ("bard", "sharegpt"), ("assistant", "belle-chat")]
    {
        let row = format!(
            r#"{{"conversations":[{{"from":"system","value":"S"}},{{"from":"user","value":"q"}},{{"from":"{word}","value":"a"}}]}}"#
        );
        let (files, data) = open(&row);
        assert_eq!(text(&data, "source").as_deref(), Some(source));
        assert_eq!(said(&data), turns(&[(System, "S"), (User, "q"), (Assistant, "a")]));
        assert_eq!(
            written(&files, &data, RowSchema::OpenAi),
            r#"{"messages":[{"role":"system","content":"S"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#
        );
    }
    let row = r#"{"system":"S","conversations":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    assert_eq!(said(&open(row).1)[0], (System, "S".to_string()));
}

#[test]
fn tools() {
    let row = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":  1}"}}]},{"role":"tool","tool_call_id":"c1","name":"f","content":"1"},{"role":"assistant","content":"a"}],"tools":[{"type":"function","n":1.50}]}"#;
    let (files, data) = open(row);
    let all = data.conversation(0).unwrap();
    assert_eq!(
        all[1].tool_calls.as_deref(),
        Some(r#"[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":  1}"}}]"#)
    );
    assert_eq!((all[2].role, all[2].name.as_deref()), (Tool, Some("f")));
    assert_eq!(data.tools(0).unwrap().as_deref(), Some(r#"[{"type":"function","n":1.50}]"#));
    assert_eq!(
        written(&files, &data, RowSchema::ShareGpt),
        r#"{"id":"row-1","conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"a\":  1}}"},{"from":"observation","value":"1","name":"f"},{"from":"gpt","value":"a"}],"tools":"[{\"type\":\"function\",\"n\":1.50}]"}"#
    );
    assert!(
        data.losses(RowSchema::ShareGpt)
            .unwrap()
            .lost
            .contains_key("ids of calls, and which call a tool answers")
    );
    // Arguments as an object, the old function_call, and a call as text.
    for (call, calls) in [
        (
            r#""content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1.0}}}]"#,
            r#"[{"function":{"name":"f","arguments":{"a":1.0}}}]"#,
        ),
        (
            r#""function_call":{"name":"f","arguments":"{}"}"#,
            r#"[{"type": "function", "function": {"name":"f","arguments":"{}"}}]"#,
        ),
        (r#""content":null,"tool_calls":"[{\"id\": 1}]""#, r#"[{"id": 1}]"#),
    ] {
        let row = format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant",{call}}},{{"role":"function","content":""}},{{"role":"assistant","content":"a"}}]}}"#
        );
        let (_, data) = open(&row);
        assert_eq!(data.conversation(0).unwrap()[1].tool_calls.as_deref(), Some(calls));
    }
    let row = r#"{"id":"1","conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {}}"},{"from":"observation","value":"r"},{"from":"gpt","value":"a"}]}"#;
    let (files, data) = open(row);
    assert_eq!(
        written(&files, &data, RowSchema::OpenAi),
        r#"{"id":"1","messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {}}}]},{"role":"tool","content":"r","tool_call_id":"call00001"},{"role":"assistant","content":"a"}]}"#
    );
}

#[test]
fn parts_of_content() {
    let row = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"one "},{"text":"two","n":1},"!"]},{"role":"assistant","content":[{"type":"text","text":"a"}]}]}"#;
    assert_eq!(said(&open(row).1), turns(&[(User, "one two!"), (Assistant, "a")]));
    let files = Files::new();
    let row = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"x"}]},{"role":"assistant","content":"a"}]}"#;
    let error = Dataset::open(files.put("row.jsonl", row)).unwrap_err();
    assert!(error.to_string().contains("part 1 of `content` of messages[0] is no text"), "{error}");
}

#[test]
fn firefly() {
    let (files, data) =
        open(r#"{"conversation":[{"human":"q","assistant":"a"},{"assistant":"a2","human":"q2"}]}"#);
    assert_eq!(text(&data, "source").as_deref(), Some("firefly"));
    assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a"), (User, "q2"), (Assistant, "a2")]));
    assert_eq!(
        written(&files, &data, RowSchema::Alpaca),
        r#"{"instruction":"q2","input":"","output":"a2","history":[["q","a"]]}"#
    );
    for row in [r#"{"input":"q","output":"a"}"#, r#"{"kind":"NLI","input":"q","target":"a"}"#] {
        let (_, data) = open(row);
        assert_eq!(text(&data, "source").as_deref(), Some("firefly"));
        assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a")]));
    }
    let row = r#"{"conversation":[{"content":"q","role":"user"},{"content":"a","role":"assistant"}]}"#;
    assert_eq!(text(&open(row).1, "source").as_deref(), Some("openai"));
}

#[test]
fn questions_and_answers() {
    for (question, answer) in [
        ("question", "answer"),
        ("prompt", "completion"),
        ("prompt", "response"),
        ("query", "response"),
        ("question", "response"),
    ] {
        let (files, data) = open(&format!(r#"{{"{question}":"q","{answer}":"a"}}"#));
        assert_eq!(text(&data, "source").as_deref(), Some("prompt-completion"));
        assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a")]));
        let losses = data.losses(RowSchema::Alpaca).unwrap();
        assert!(losses.is_empty());
        assert_eq!(losses.laid_out == 0, question == "prompt" && answer == "completion");
        assert_eq!(
            written(&files, &data, RowSchema::Alpaca),
            r#"{"instruction":"q","input":"","output":"a"}"#
        );
    }
    let row = r#"{"prompt":[{"role":"system","content":"S"},{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}"#;
    let (files, data) = open(row);
    assert_eq!(text(&data, "extra"), None);
    assert_eq!(said(&data), turns(&[(System, "S"), (User, "q"), (Assistant, "a")]));
    assert_eq!(
        written(&files, &data, RowSchema::Firefly),
        r#"{"system":"S","conversation":[{"human":"q","assistant":"a"}]}"#
    );
}

#[test]
fn preferences() {
    let answers = r#""chosen":[{"role":"assistant","content":"good"}],"rejected":[{"role":"assistant","content":"bad"}]"#;
    let user = r#"{"role":"user","content":"q"}"#;
    for row in [
        r#"{"prompt":"q","chosen":"good","rejected":"bad"}"#.to_string(),
        r#"{"question":"q","response_chosen":"good","response_rejected":"bad"}"#.to_string(),
        r#"{"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"good"},"rejected":{"from":"gpt","value":"bad"}}"#.to_string(),
        format!(r#"{{"prompt":[{user}],{answers}}}"#),
        format!(r#"{{"prompt":"q",{}}}"#, answers.replace('[', &format!("[{user},"))),
        format!(r#"{{{}}}"#, answers.replace('[', &format!("[{user},"))),
        r#"{"instruction":"q","input":"","chosen":"good","rejected":"bad","score":5}"#.to_string(),
    ] {
        let (files, data) = open(&row);
        assert_eq!(text(&data, "source").as_deref(), Some("preference"));
        assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "good")]), "{row}");
        let frame = data.frame().unwrap().collect().unwrap();
        for (column, content) in [("messages", "q"), ("chosen", "good"), ("rejected", "bad")] {
            let turns = frame.column(column).unwrap().list().unwrap().get_as_series(0).unwrap();
            let contents = turns.struct_().unwrap().field_by_name("content").unwrap();
            let contents: Vec<Option<&str>> = contents.str().unwrap().iter().collect();
            assert_eq!(contents, [Some(content)], "{row}");
        }
        assert_eq!(
            written(&files, &data, RowSchema::PromptCompletion),
            r#"{"prompt":"q","completion":"good"}"#
        );
        assert!(data.losses(RowSchema::OpenAi).unwrap().lost.keys().any(|what| what.contains("rejected")));
    }
    let files = Files::new();
    let error = Dataset::open(files.put("row.jsonl", r#"{"chosen":"good","rejected":"bad"}"#)).unwrap_err();
    assert!(error.to_string().contains("there is no `prompt`"), "{error}");
}

#[test]
fn labels() {
    for row in [
        r#"{"prompt":"q","completion":"a","label":true}"#,
        r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"label":true}"#,
        r#"{"instruction":"q","input":"","output":"a","kto_tag":true}"#,
    ] {
        let (files, data) = open(row);
        assert_eq!(text(&data, "source").as_deref(), Some("kto"));
        assert_eq!(said(&data), turns(&[(User, "q"), (Assistant, "a")]));
        let frame = data.frame().unwrap().collect().unwrap();
        assert_eq!(frame.column("label").unwrap().bool().unwrap().get(0), Some(true));
        let losses = data.losses(RowSchema::PromptCompletion).unwrap();
        assert!(losses.lost.contains_key("labels"));
        assert_eq!(written(&files, &data, RowSchema::PromptCompletion), r#"{"prompt":"q","completion":"a"}"#);
    }
}

#[test]
fn plain_text() {
    let (files, data) = open(r#"{"text":"once upon a time","n":1}"#);
    assert_eq!(text(&data, "text").as_deref(), Some("once upon a time"));
    assert_eq!(data.conversation(0).unwrap(), []);
    let error = data.write(files.path("other.jsonl"), RowSchema::OpenAi).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "row.jsonl, line 1: openai holds conversations, and row row-1 is plain text; 1 of 1 row does not fit: \
         choose another schema, or leave them out with WriteOptions { misfits: Misfits::LeaveOut, ..Default::default() }"
    );
}

/// What a row is in the table says nothing of how large its numbers are or how deep its values lie.
#[test]
fn values_that_no_schema_knows_are_kept_as_they_were() {
    let deep = format!("{}1{}", "[".repeat(126), "]".repeat(126));
    let row = format!(
        r#"{{"big":12345678901234567890123.50,"e":1e400,"twice":{{"x":1,"x":2}},"deep":{deep},"lorascope":{{"mine":1}},"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a"}}]}}"#
    );
    let (files, data) = open(&row);
    let keep = WriteOptions { extra: Extra::Keep, ..Default::default() };
    data.write_with(files.path("kept.jsonl"), RowSchema::Alpaca, &keep).unwrap();
    let kept = Dataset::open(files.path("kept.jsonl")).unwrap();
    assert_eq!(text(&kept, "source").as_deref(), Some("openai"));
    assert_eq!(normal(&written(&files, &kept, RowSchema::OpenAi)), normal(&row));
}

#[test]
fn keys_that_stand_twice_and_depth_are_problems_of_their_row() {
    let files = Files::new();
    let deep = format!(r#"{{"text":"t","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let rows = [
        r#"{"instruction":"q","output":"a","output":"b"}"#,
        r#"{"messages":[{"role":"user","content":"q","content":"r"},{"role":"assistant","content":"a"}]}"#,
        &deep,
        r#"{"text":"t"}"#,
    ];
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    assert_eq!(data.len(), 1);
    let frame = data.problems().unwrap();
    let what: Vec<Option<&str>> = frame.column("what").unwrap().str().unwrap().iter().collect();
    assert_eq!(what[0], Some("the record has the key \"output\" twice"));
    assert_eq!(what[1], Some("messages[0] has the key \"content\" twice"));
    assert!(
        what[2].unwrap().starts_with("lists and objects lie in each other more than 128 deep"),
        "{what:?}"
    );
}

#[test]
fn a_schema_can_be_told() {
    let files = Files::new();
    let path = files.put(
        "rows.jsonl",
        "{\"text\":\"t\",\"prompt\":\"q\",\"completion\":\"a\",\"label\":true}\n{\"prompt\":\"q\",\"completion\":\"a\"}",
    );
    let read = |schema| {
        Dataset::open_with(&path, &ReadOptions { schema: Some(schema), ..Default::default() }).unwrap()
    };
    let data = read(RowSchema::Text);
    assert_eq!((data.len(), text(&data, "text").as_deref()), (1, Some("t")));
    let frame = data.problems().unwrap();
    assert_eq!(
        frame.column("what").unwrap().str().unwrap().get(0),
        Some("the record is no text row: it has not `text`")
    );
    let data = read(RowSchema::PromptCompletion);
    assert_eq!(data.len(), 2);
    assert_eq!(
        text(&data, "extra").as_deref(),
        Some(r#"{"text":"t","label":true,"lorascope":{"keys":["text","prompt","completion","label"]}}"#)
    );
}

#[test]
fn maps() {
    let files = Files::new();
    let row = r#"{"n":5,"meta":{"sys":"S","k":1},"log":[{"who":"me","what":{"said":"q"}},{"who":"bot","what":{"said":"a"},"mood":"good"}]}"#;
    let path = files.put("rows.jsonl", row);
    let map = Map::new()
        .id("n")
        .system("meta.sys")
        .messages("log")
        .role_key("who")
        .content_key("what.said")
        .role("me", "user");
    let json = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<Map>(&json).unwrap(), map);
    let options = ReadOptions { map: Some(map), ..Default::default() };
    let data = Dataset::open_with(&path, &options).unwrap();
    assert_eq!(said(&data), turns(&[(System, "S"), (User, "q"), (Assistant, "a")]));
    assert_eq!(text(&data, "id").as_deref(), Some("5"));
    assert_eq!(text(&data, "source").as_deref(), Some("map"));
    assert_eq!(text(&data, "extra").as_deref(), Some(r#"{"meta":{"k":1}}"#));
    assert_eq!(data.conversation(0).unwrap()[2].extra.as_deref(), Some(r#"{"mood":"good"}"#));
    let error = |map: Map| {
        let options = ReadOptions { map: Some(map), ..Default::default() };
        Dataset::open_with(&path, &options).unwrap_err().to_string()
    };
    assert!(error(Map::new()).starts_with("the map does not say where the turns are; give it"));
    assert!(error(Map::new().text("t").role("x", "boss")).contains("makes \"x\" the role \"boss\""));
    let text = error(Map::new().user("meta.sys").assistant("meta.k"));
    assert!(text.contains("\"meta.k\" is the number 1, not a string"), "{text}");
    let text = error(Map::new().user("meta.sys").assistant("nowhere.0"));
    assert!(text.contains("there is nothing at \"nowhere.0\""), "{text}");
    let strings = files.put("strings.jsonl", r#"{"log":["q","a"]}"#);
    let options = ReadOptions { map: Some(Map::new().messages("log")), ..Default::default() };
    let data = Dataset::open_with(&strings, &options).unwrap();
    assert_eq!(data.conversation(0).unwrap(), [Message::user("q"), Message::assistant("a")]);
}

#[test]
fn rows_that_do_not_fit_are_left_out_when_told() {
    let files = Files::new();
    let rows = [
        r#"{"messages":[{"role":"user","content":"q"},{"role":"user","content":"q2"},{"role":"assistant","content":"a"}]}"#,
        r#"{"instruction":"q","input":"","output":"a"}"#,
        r#"{"id":"t","text":"t"}"#,
        r#"{"instruction":"q2","input":"","output":"a2"}"#,
    ];
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    assert!(data.write(files.path("out.jsonl"), RowSchema::Alpaca).is_err());
    assert!(!files.path("out.jsonl").exists());
    let losses = data.losses(RowSchema::Alpaca).unwrap();
    assert_eq!(losses.left_out, 2);
    let options = WriteOptions { misfits: Misfits::LeaveOut, ..Default::default() };
    let written = data.write_with(files.path("out.jsonl"), RowSchema::Alpaca, &options).unwrap();
    assert_eq!((written.rows, written.left_out, &written.misfits), (2, 2, &losses.misfits));
    assert_eq!(
        written.misfits.iter().map(|m| (m.line, m.id.as_str())).collect::<Vec<_>>(),
        [(1, "row-1"), (3, "t")]
    );
    assert_eq!(
        written.misfits[0].what,
        "alpaca holds pairs of user and assistant, and row row-1 has the turns user, user, assistant"
    );
    data.write_with(files.path("talk.jsonl"), RowSchema::ShareGpt, &options).unwrap();
    let talk = Dataset::open(files.path("talk.jsonl")).unwrap();
    let frame = talk.frame().unwrap().collect().unwrap();
    let ids: Vec<Option<&str>> = frame.column("id").unwrap().str().unwrap().iter().collect();
    assert_eq!(ids, [Some("row-1"), Some("row-2"), Some("row-3")], "by the place in the output");
    let text = data.slice(2, 1).unwrap();
    assert!(text.write_with(files.path("none.jsonl"), RowSchema::Alpaca, &options).is_err());
    assert!(!files.path("none.jsonl").exists());
}

/// An id that reads as one that is made up is lost only where rows always have one, at its own place.
#[test]
fn ids_that_name_the_place_of_their_row() {
    let row = |id: &str| format!(r#"{{"id":"{id}","instruction":"q","input":"","output":"a"}}"#);
    let (files, data) = open(&row("row-1"));
    assert!(data.losses(RowSchema::OpenAi).unwrap().is_empty());
    assert!(written(&files, &data, RowSchema::OpenAi).starts_with(r#"{"id":"row-1","messages""#));
    assert_eq!(data.losses(RowSchema::ShareGpt).unwrap().laid_out, 1);
    let (_, data) = open(&row("row-2"));
    assert!(data.losses(RowSchema::ShareGpt).unwrap().is_empty());
    let (files, data) =
        open(r#"{"id":"row-1","conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#);
    assert!(data.losses(RowSchema::OpenAi).unwrap().is_empty());
    assert!(written(&files, &data, RowSchema::OpenAi).starts_with(r#"{"messages""#));
}
