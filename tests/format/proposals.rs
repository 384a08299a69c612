//! Maps that an error proposes: each works when pasted, in both forms, and loses nothing.

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::format::{Map, ReadOptions};

/// The map that the error of a file proposes, as Rust and as the command line has it.
fn proposed(rows: &str) -> Option<(String, String)> {
    let files = Files::new();
    let error = Dataset::open(files.put("rows.jsonl", rows)).unwrap_err().to_string();
    let (_, rest) = error.split_once("Dataset::open_as(path, ")?;
    let (code, rest) = rest.split_once("), on the command line --map ").unwrap();
    let flag = match rest.strip_prefix('\'') {
        Some(rest) => rest.split_once('\'').unwrap().0,
        None => rest.split([' ', ';']).next().unwrap(),
    };
    Some((code.to_string(), flag.to_string()))
}

/// The map that Rust makes of its code.
fn of_code(code: &str) -> Map {
    let mut rest = code.strip_prefix("Map::new()").unwrap();
    let mut map = Map::new();
    while let Some(call) = rest.strip_prefix('.') {
        let (name, inside) = call.split_once('(').unwrap();
        let mut values = Vec::new();
        let mut inside = inside;
        loop {
            let mut texts = serde_json::Deserializer::from_str(inside).into_iter::<String>();
            values.push(texts.next().unwrap().unwrap());
            inside = &inside[texts.byte_offset()..];
            match inside.strip_prefix(", ") {
                Some(more) => inside = more,
                None => break,
            }
        }
        rest = inside.strip_prefix(')').unwrap();
        map = match (name, values.as_slice()) {
            ("user", [path]) => map.user(path),
            ("input", [path]) => map.input(path),
            ("assistant", [path]) => map.assistant(path),
            ("system", [path]) => map.system(path),
            ("label", [path]) => map.label(path),
            ("messages", [path]) => map.messages(path),
            ("role_key", [key]) => map.role_key(key),
            ("content_key", [key]) => map.content_key(key),
            ("text", [path]) => map.text(path),
            ("role", [name, role]) => map.role(name, role),
            _ => panic!("{code}"),
        };
    }
    assert_eq!(rest, "");
    map
}

/// The texts of a value, but not who speaks.
fn leaves(value: &serde_json::Value, roles: Option<&str>, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => out.push(text.trim().to_string()),
        serde_json::Value::Array(values) => values.iter().for_each(|value| leaves(value, roles, out)),
        serde_json::Value::Object(keys) => {
            keys.iter().filter(|(key, _)| roles != Some(key)).for_each(|(_, value)| leaves(value, roles, out))
        }
        _ => {}
    }
}

/// What is said in a record by the map that is proposed for it.
fn said(record: &str) -> Vec<(String, String)> {
    let (code, flag) = proposed(record).unwrap_or_else(|| panic!("nothing is proposed for {record}"));
    let map: Map = flag.parse().unwrap();
    assert_eq!(of_code(&code), map, "{record}");
    let files = Files::new();
    let options = ReadOptions { map: Some(map.clone()), ..Default::default() };
    let data = Dataset::open_with(files.put("rows.jsonl", record), &options).unwrap();
    assert_eq!((data.len(), data.rejected().unwrap()), (1, 0), "{record}: {flag}");
    let frame = data.frame().unwrap().collect().unwrap();
    let beside = ["extra", "id", "tools"].map(|name| frame.column(name).unwrap().str().unwrap().get(0));
    let row = format!("{beside:?}{}", beside.iter().flatten().copied().collect::<String>());
    let turns: Vec<(String, String)> = match map.text {
        Some(_) => {
            vec![("text".into(), frame.column("text").unwrap().str().unwrap().get(0).unwrap().into())]
        }
        None => data.conversation(0).unwrap().iter().map(|m| (m.role.to_string(), m.text().into())).collect(),
    };
    let mut texts = Vec::new();
    leaves(&serde_json::from_str(record).unwrap(), map.role_key.as_deref(), &mut texts);
    for text in texts {
        let said = turns.iter().any(|(_, said)| said.contains(&text));
        assert!(said || row.contains(&text) || format!("{turns:?}").contains(&text), "{text:?} of {record}");
    }
    turns
}

fn turns(turns: &[(&str, &str)]) -> Vec<(String, String)> {
    turns.iter().map(|(role, text)| (role.to_string(), text.to_string())).collect()
}

#[test]
fn an_answer_may_be_a_number_or_a_letter() {
    let asked = turns(&[("user", "What is 1 + 1?"), ("assistant", "2")]);
    for record in [
        r#"{"question": {"text": "What is 1 + 1?"}, "std_answer": "2"}"#,
        r#"{"id": "q-1", "question": {"text": "What is 1 + 1?", "lang": "en"}, "std_answer": {"text": "2"}}"#,
        r#"{"question": {"stem": "What is 1 + 1?"}, "answerKey": "2"}"#,
        r#"{"questionText": "What is 1 + 1?", "goldAnswer": "2"}"#,
        r#"{"题目": "What is 1 + 1?", "答案": "2"}"#,
    ] {
        assert_eq!(said(record), asked, "{record}");
    }
    let letter = r#"{"question":{"stem":"Is A the first letter?"},"answerKey":"A"}"#;
    assert_eq!(said(letter), turns(&[("user", "Is A the first letter?"), ("assistant", "A")]));
    // Without what it was chosen from a letter is no answer.
    for record in [
        r#"{"id":"7","question":{"stem":"Which is a fruit?","choices":[{"text":"a brick","label":"A"},{"text":"an apple","label":"B"}]},"answerKey":"B"}"#,
        r#"{"stem":"Which is a fruit?","options":["a brick","an apple"],"key_answer":"B"}"#,
        r#"{"stem":"Which is a fruit?","options":{"A":"a brick","B":"an apple"},"gold_answer":"B"}"#,
    ] {
        assert_eq!(proposed(record), None, "{record}");
    }
}

#[test]
fn who_speaks_is_not_what_is_said() {
    let short = turns(&[("user", "Hi"), ("assistant", "Oh")]);
    for record in [
        // The names are longer than what is said.
        r#"{"log": [{"speaker": "Annabel Lee", "text": "Hi"}, {"speaker": "Edgar Allan", "text": "Oh"}]}"#,
        r#"{"log": [{"text": "Hi", "speaker": "Annabel Lee"}, {"text": "Oh", "speaker": "Edgar Allan"}]}"#,
        r#"{"t": {"log": [{"who": "the customer", "said": "Hi"}, {"who": "the assistant of the shop", "said": "Oh"}]}}"#,
        r#"{"log": [{"speaker": "spk_0", "utterance": "Hi"}, {"speaker": "spk_1", "utterance": "Oh"}]}"#,
        r#"{"log": [{"name": "Annabel Lee", "message": "Hi"}, {"name": "Edgar Allan", "message": "Oh"}]}"#,
        // One of two is known, and the other is the other.
        r#"{"log": [{"speaker": "Annabel Lee", "text": "Hi"}, {"speaker": "bot", "text": "Oh"}]}"#,
        r#"{"log": [{"speaker": "user", "text": "Hi"}, {"speaker": "Edgar Allan", "text": "Oh"}]}"#,
    ] {
        assert_eq!(said(record), short, "{record}");
    }
    for record in [
        // Lists of other things, more than two people, nobody who answers.
        r#"{"shelf": [{"name": "chair", "price": "1"}, {"name": "table", "price": "2"}]}"#,
        r#"{"log": [{"speaker": "A", "text": "Hi"}, {"speaker": "B", "text": "Oh"}, {"speaker": "C", "text": "No"}]}"#,
        r#"{"log": [{"speaker": "Annabel Lee", "text": "Hi"}]}"#,
        // The one who helps speaks first, and the other is no assistant.
        r#"{"log": [{"speaker": "Agent", "text": "What is it?"}, {"speaker": "Customer", "text": "Hi"}, {"speaker": "Agent", "text": "Oh"}]}"#,
        r#"{"uid": "identity_0", "speaker": "Annabel Lee", "sender": "Edgar Allan"}"#,
    ] {
        assert_eq!(proposed(record), None, "{record}");
    }
}

#[test]
fn an_input_stands_below_its_question() {
    let both = turns(&[("user", "Shorten.\nA long text."), ("assistant", "A text.")]);
    for record in [
        r#"{"task": "Shorten.", "context": "A long text.", "std_answer": "A text."}"#,
        r#"{"Task": "Shorten.", "source_passage": "A long text.", "summary": "A text."}"#,
    ] {
        assert_eq!(said(record), both, "{record}");
    }
    let system = r#"{"ask": "Why?", "bot_system": "Be brief.", "std_answer": "So."}"#;
    assert_eq!(said(system), turns(&[("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")]));

    // Several instances: the first of each, with its input.
    let row = r#"{"instruction": "Shorten.", "instances": [{"input": "A long text.", "output": "A text."}, {"input": "Many words.", "output": "Words."}]}"#;
    assert_eq!(said(row), both);
    let none = r#"{"instruction": "Greet.", "instances": [{"input": "", "output": "Hi."}, {"input": "", "output": "Hello."}]}"#;
    assert_eq!(said(none), turns(&[("user", "Greet."), ("assistant", "Hi.")]));
    let alone =
        r#"{"instruction": " ", "instances": [{"input": "Hi?", "output": "Hi."}, {"output": "Oh."}]}"#;
    assert_eq!(said(alone), turns(&[("user", "Hi?"), ("assistant", "Hi.")]));

    let error = "messages=m,input=i".parse::<Map>().unwrap_err().to_string();
    assert!(error.contains("the map has an input") && error.contains("but no user"), "{error}");
}

#[test]
fn keys_that_need_quotes_work_when_pasted() {
    for record in [
        r#"{"the question": "Why is it so?", "the answer": "Because."}"#,
        r#"{"q.question": "Why is it so?", "q,answer": "Because."}"#,
        r#"{"a": {"b\\question": "Why is it so?"}, "c": {"x.answer": "Because."}}"#,
    ] {
        assert_eq!(said(record), turns(&[("user", "Why is it so?"), ("assistant", "Because.")]), "{record}");
    }
}

/// A system text, tools, reasoning and what a question is about are no answers.
#[test]
fn only_answers_are_answers() {
    let calls = r#"[{\"name\": \"f\", \"arguments\": {}}]"#;
    let asked = |question: &str, answer: &str| turns(&[("user", question), ("assistant", answer)]);
    let xlam = format!(
        r#"{{"query": "What is the weather?", "answers": "{calls}", "tools": "[{{\"name\": \"f\", \"description\": \"a long text about what it does\"}}]"}}"#
    );
    assert_eq!(said(&xlam), asked("What is the weather?", r#"[{"name": "f", "arguments": {}}]"#));
    let squad = r#"{"id": "56be", "title": "A history of Rome", "question": "Who came?", "context": "Ann came, and a long text.", "answers": {"text": ["Ann", "Ann came"], "answer_start": [0, 0]}}"#;
    assert_eq!(said(squad), asked("Who came?\nAnn came, and a long text.", "Ann"));
    for (record, question, answer) in [
        (
            r#"{"definition": "Say what it is.", "inputs": "An apple, red and round.", "targets": "A fruit."}"#,
            "Say what it is.\nAn apple, red and round.",
            "A fruit.",
        ),
        (
            r#"{"inputs": "What is an apple?", "targets": "A fruit.", "task": "wiki_dialog"}"#,
            "What is an apple?",
            "A fruit.",
        ),
        (
            r#"{"source": "Is it a fruit?", "target": "Yes.", "rationale": "An apple is one, and so it is.", "task": "boolq"}"#,
            "Is it a fruit?",
            "Yes.",
        ),
        (
            r#"{"input": "Is it a fruit?", "reasoning_content": "An apple is one, and so it is.", "content": "Yes."}"#,
            "Is it a fruit?",
            "Yes.",
        ),
        (
            r#"{"problem": "Is it a fruit?", "rationale": "An apple is one."}"#,
            "Is it a fruit?",
            "An apple is one.",
        ),
    ] {
        assert_eq!(said(record), asked(question, answer), "{record}");
    }
    let system = r#"{"system_prompt": "Be brief, and do not say too much.", "ask": "Why?", "reply": "So."}"#;
    let all = [("system", "Be brief, and do not say too much."), ("user", "Why?"), ("assistant", "So.")];
    assert_eq!(said(system), turns(&all));
    for record in [
        // Two answers, of which one is the better.
        r#"{"prompt": "Is it a fruit?", "response_0": "Yes, it is.", "response_1": "No, it is none at all.", "better_response_id": 0}"#,
        r#"{"ask": "Is it a fruit?", "answer_a": "Yes, it is.", "answer_b": "No, it is none at all."}"#,
        r#"{"sentence1": "It is a fruit.", "sentence2": "It is an apple.", "gold": 1}"#,
        // Several turns in one text.
        r#"{"system": "SYSTEM: You may call functions.", "chat": "USER: Hi there\n\n\nASSISTANT: Hello!  <|endoftext|>\n\n\n"}"#,
        r#"{"prefix": "MOSS is an assistant that helps.", "num_turns": 1, "plain_text": "[Human]: Hi<eoh> [MOSS]: Hello.<eoa> "}"#,
        r#"{"dialogue": "Customer: It is broken.\nAgent: Since when?"}"#,
        // Nothing that answers.
        r#"{"question": "Who came?", "context": "Ann came, and a long text."}"#,
        r#"{"query": "What is the weather?", "tools": "[{\"name\": \"f\", \"description\": \"what it does\"}]"}"#,
        r#"{"problem": "Is it a fruit?", "thinking": "An apple is one, and so it is."}"#,
        r#"{"system": "Be brief, and do not say too much.", "question": "Why is it so?"}"#,
    ] {
        assert_eq!(proposed(record), None, "{record}");
    }
    let text = "Ann came, and it is a long text.".to_string();
    assert_eq!(said(r#"{"passage": "Ann came, and it is a long text."}"#), [("text".to_string(), text)]);
    // A speaker's name in a sentence is no turn.
    let note = r#"{"ask": "What does it say?", "reply": "It says: user: none, and the assistant: none."}"#;
    assert_eq!(said(note), asked("What does it say?", "It says: user: none, and the assistant: none."));
}
