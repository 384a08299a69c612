//! Random rows of every schema as JSON text, drawn from a tape of choices so that failures shrink.

/// Choices, one after the other; all are the first one after the end.
pub struct Tape<'a>(std::slice::Iter<'a, u16>);

const TEXTS: [&str; 20] = [
    "a",
    "Why is the sky blue?",
    "天空为什么是蓝色的?\n请回答。",
    " leading and trailing \n",
    "quote \" backslash \\ slash / tab \t nul \u{0} bell \u{7}",
    "👩‍👩‍👧 e\u{301} \u{feff}\u{10ffff}\u{2028}",
    "Human:hi\nAssistant:",
    "Human: one\nAssistant: two\n\nHuman:three\nAssistant:",
    "Human:\nAssistant:",
    "=text",
    "m0",
    "{\"=\":1}",
    "[1, 2]",
    "12345678",
    "row-1",
    "null",
    "1234567\"",
    "line one\r\nline two",
    "\\u0041",
    "a longer text, so that more than one word of eight bytes is looked at, with a \"quote\" at its end",
];
const VALUES: [&str; 22] = [
    "null",
    "true",
    "0",
    "-0",
    "1.50",
    "12345678901234567890123",
    "1e400",
    "\"\"",
    "\"a \\u0041 \\/ \\ud83d\\udc4b\"",
    "[]",
    "{}",
    "[1,  2 , [null]]",
    "{\"=\":1}",
    "{\"+\":[\"m0\"]}",
    "{\"a\":{\"=\":{\"=\":2}},\"b\":[{\"keys\":[\"id\"]}]}",
    "{\"x\":1,\"x\":2}",
    "{\"lorascope\":{\"keys\":[]}}",
    "\"m0\"",
    "false",
    "[\"=\"]",
    "{\"z\":1,\"a\":2}",
    "\"sharegpt\"",
];

pub fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn object(keys: &[(String, String)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{}: {value}", json(key))).collect();
    format!("{{{}}}", keys.join(", "))
}

fn list(values: &[String]) -> String {
    format!("[{}]", values.join(", "))
}

type Keys = Vec<(String, String)>;

/// How turns name their speaker, most often one for all of a row.
#[derive(Clone, Copy)]
struct Words {
    keys: [&'static str; 2],
    user: &'static str,
    assistant: &'static str,
    tool: &'static str,
}

const WORDS: [Words; 5] = [
    Words { keys: ["from", "value"], user: "human", assistant: "gpt", tool: "observation" },
    Words { keys: ["from", "value"], user: "human", assistant: "assistant", tool: "observation" },
    Words { keys: ["from", "value"], user: "user", assistant: "assistant", tool: "observation" },
    Words { keys: ["role", "content"], user: "user", assistant: "assistant", tool: "tool" },
    Words { keys: ["from", "value"], user: "User", assistant: "bing", tool: "function" },
];

impl<'a> Tape<'a> {
    pub fn new(choices: &'a [u16]) -> Self {
        Self(choices.iter())
    }

    fn pick(&mut self, n: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.pick(all.len())]
    }

    /// True once in `n` times, and never at the end of the tape.
    fn once_in(&mut self, n: usize) -> bool {
        self.pick(n) == n - 1
    }

    fn text(&mut self) -> String {
        let text = self.of(&TEXTS).to_string();
        if self.once_in(4) { text + self.of(&TEXTS) } else { text }
    }

    fn string(&mut self) -> String {
        json(&self.text())
    }

    fn add(&mut self, keys: &mut Keys, key: &str, value: String) {
        // The name of a key may be written with escapes as well.
        keys.push((key.to_string(), value));
    }

    /// Sometimes other keys, null and another order.
    fn finish(&mut self, mut keys: Keys, more: &[(&str, &str)]) -> String {
        if self.once_in(4) {
            for _ in 0..=self.pick(2) {
                let names = ["category", "lorascope", "m0", "", "extra", "é\"\\\n", "keys", "meta.data"];
                let (key, value) = (self.of(&names), self.of(&VALUES).to_string());
                if keys.iter().all(|(name, _)| name != key) {
                    keys.push((key.to_string(), value));
                }
            }
        }
        if self.once_in(6) && !more.is_empty() {
            let (key, value) = self.of(more);
            if keys.iter().all(|(name, _)| name != key) {
                keys.push((key.to_string(), value.to_string()));
            }
        }
        if self.once_in(4) {
            for i in (1..keys.len()).rev() {
                let j = i - self.pick(i + 1);
                keys.swap(i, j);
            }
        }
        object(&keys)
    }

    /// id, system and tools.
    fn beside(&mut self, keys: &mut Keys, id_first: bool) {
        let ids = ["\"a 1\"", "\"row-3\"", "5", "null", "\"\"", "1e3", "\"77771\"", "\"row-1\""];
        if id_first != self.once_in(4) {
            let id = self.of(&ids);
            keys.insert(0, ("id".into(), id.into()));
        }
        let in_turns =
            |(_, value): &(_, String)| value.contains("\"system\"") || value.contains("\"developer\"");
        if self.once_in(5) && !keys.iter().any(in_turns) {
            let key = self.of(&["system", "system_prompt"]);
            let value = if self.once_in(3) { self.of(&["null", "\"\""]).to_string() } else { self.string() };
            let at = self.pick(keys.len() + 1);
            keys.insert(at, (key.into(), value));
        }
        if self.once_in(5) {
            let texts = [
                "[]",
                "[{\"name\": \"t\",  \"n\": 1e400}]",
                "[\n {\"name\": \"t\"}\n]",
                "no json",
                "",
                " []",
                "\"s\"",
                "{}",
            ];
            let value = match self.pick(3) {
                0 => json(self.of(&texts)),
                1 => self.of(&["[]", "[{\"name\": \"t\", \"a\": {}}]", "{\"x\":1}"]).to_string(),
                _ => "null".to_string(),
            };
            self.add(keys, "tools", value);
        }
    }

    fn calls(&mut self) -> String {
        let all = [
            r#"[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":  1}"}}]"#,
            r#"[{"type": "function", "function": {"name": "f", "arguments": {"a": 1.50}}}]"#,
            r#"[{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {}}]"#,
            "[{\"type\": \"function\", \"function\": {\"name\": \"數\", \"arguments\": \"數\"}}]",
            "[{\"type\": \"function\", \"function\": {\"name\": \"數\"}}]",
        ];
        self.of(&all).to_string()
    }

    fn turn(&mut self, words: Words, role: &str) -> String {
        // Who says assistant in conversations is of Belle.
        let like: &[Words] =
            if words.assistant == "assistant" { &WORDS[1..4] } else { &[WORDS[0], WORDS[4]] };
        let words = if self.once_in(12) { self.of(like) } else { words };
        let word = match role {
            "user" => words.user,
            "assistant" => words.assistant,
            "tool" => words.tool,
            other => other,
        };
        let openai = words.keys[0] == "role";
        let mut keys: Keys = vec![(words.keys[0].into(), json(word))];
        let text = |tape: &mut Self| {
            if !tape.once_in(8) || role == "call" {
                return tape.string();
            }
            let parts: Vec<String> = (0..=tape.pick(2))
                .map(|_| format!("{{\"type\": \"text\", \"text\": {}}}", tape.string()))
                .collect();
            list(&parts)
        };
        match role {
            "call" if openai => {
                keys[0].1 = "\"assistant\"".into();
                if !self.once_in(4) {
                    keys.push(("content".into(), self.of(&["null", "\"\""]).into()));
                }
                match self.pick(6) {
                    4 => keys.push(("function_call".into(), r#"{"name": "f", "arguments": "{}"}"#.into())),
                    5 => keys.push(("tool_calls".into(), json(&self.calls()))),
                    _ => keys.push(("tool_calls".into(), self.calls())),
                }
            }
            "call" => {
                keys[0].1 = "\"function_call\"".into();
                let calls = self.calls();
                let texts = ["{\"name\":  \"f\"}", "{\n \"name\": \"f\"}", " {\"name\": \"f\"} ", &calls];
                keys.push(("value".into(), json(self.of(&texts))));
            }
            "tool" => {
                let value = if self.once_in(4) { "\"\"".into() } else { text(self) };
                keys.push((words.keys[1].into(), value));
                if self.once_in(2) {
                    keys.push(("tool_call_id".into(), "\"c1\"".into()));
                }
            }
            _ => {
                let value = text(self);
                keys.push((words.keys[1].into(), value));
            }
        }
        if self.once_in(10) {
            let value = if self.once_in(3) { "null".into() } else { self.string() };
            keys.push(("name".into(), value));
        }
        if role == "assistant" && self.once_in(10) {
            keys.push(("tool_calls".into(), self.calls()));
        }
        if self.once_in(10) {
            keys.push(("weight".into(), self.of(&["0", "1", "0.5", "1.0", "0.1000", "null", "1e-7"]).into()));
        }
        if self.once_in(8) {
            self.finish(
                keys,
                &[
                    ("tool_calls", "null"),
                    ("mood", "{\"=\": 1}"),
                    ("loss", "true"),
                    ("train", "0"),
                    ("reasoning_content", "\"hm\""),
                ],
            )
        } else {
            object(&keys)
        }
    }

    /// Turns that start with the user and end with the assistant.
    fn talk(&mut self, words: Words) -> Vec<String> {
        let mut turns = Vec::new();
        for _ in 0..=self.pick(3) {
            turns.push(self.turn(words, "user"));
            while self.once_in(5) {
                turns.push(self.turn(words, "call"));
                turns.push(self.turn(words, "tool"));
            }
            turns.push(self.turn(words, "assistant"));
        }
        turns
    }

    fn with_system(&mut self, words: Words, mut turns: Vec<String>) -> Vec<String> {
        if self.once_in(4) {
            let name = if self.once_in(4) { "developer" } else { "system" };
            turns.insert(0, self.turn(words, name));
        }
        turns
    }

    fn pairs(&mut self, around: [&str; 3]) -> String {
        let pairs: Vec<String> = (0..=self.pick(2))
            .map(|_| format!("{}{}{}{}{}", around[0], self.string(), around[1], self.string(), around[2]))
            .collect();
        list(&pairs)
    }

    fn asked(&mut self, last: &mut Keys) -> Keys {
        let question = self.of(&["prompt", "question", "query"]);
        let answer = self.of(&["completion", "answer", "response"]);
        let mut keys = Keys::new();
        if self.once_in(3) {
            let mut turns = self.talk(WORDS[3]);
            let count = if turns.len() > 2 && self.once_in(3) { 2 } else { 1 };
            let answers = turns.split_off(turns.len() - count);
            let turns = self.with_system(WORDS[3], turns);
            self.add(&mut keys, question, list(&turns));
            self.add(&mut keys, answer, list(&answers));
        } else {
            let (q, a) = (self.string(), self.string());
            self.add(&mut keys, question, q);
            self.add(&mut keys, answer, a);
        }
        keys.append(last);
        keys
    }

    fn instructed(&mut self) -> Keys {
        let mut keys = Keys::new();
        let variants = self.pick(6) == 5;
        let (input, output) = if variants { ("context", "response") } else { ("input", "output") };
        if self.once_in(6) {
            let text = "Human:你好\nAssistant: hello \nHuman:\n再见\nAssistant:";
            self.add(&mut keys, "instruction", json(text));
        } else {
            let text = self.string();
            self.add(&mut keys, "instruction", text);
        }
        match self.pick(5) {
            0 | 1 => self.add(&mut keys, input, "\"\"".into()),
            2 => {
                let text = self.string();
                self.add(&mut keys, input, text);
            }
            3 => {}
            _ => self.add(&mut keys, "input", "null".into()),
        }
        let text = self.string();
        self.add(&mut keys, output, text);
        if self.once_in(5) {
            let history = match self.pick(3) {
                0 => self.pairs(["[", ", ", "]"]),
                1 => "[]".into(),
                _ => "null".into(),
            };
            self.add(&mut keys, "history", history);
        }
        keys
    }

    fn preference(&mut self) -> Keys {
        let words = WORDS[3];
        let answer = |tape: &mut Self| tape.turn(words, "assistant");
        let (mut keys, names) =
            (Keys::new(), self.of(&[["chosen", "rejected"], ["response_chosen", "response_rejected"]]));
        let mut prompt = self.talk(words);
        prompt.pop();
        if !prompt.last().is_some_and(|turn| turn.contains("\"user\"")) {
            prompt.push(self.turn(words, "user"));
        }
        let (chosen, rejected) = (answer(self), answer(self));
        match self.pick(7) {
            0 | 1 => {
                let (q, c, r) = (self.string(), self.string(), self.string());
                let key = self.of(&["prompt", "question"]);
                keys.extend([(key.into(), q), (names[0].into(), c), (names[1].into(), r)]);
            }
            2 => {
                let prompt = self.with_system(words, prompt);
                keys.push(("prompt".into(), list(&prompt)));
                keys.extend([(names[0].into(), list(&[chosen])), (names[1].into(), list(&[rejected]))]);
            }
            3 => {
                let prompt = self.with_system(words, prompt);
                let whole = |last: String| list(&[prompt.clone(), vec![last]].concat());
                if self.once_in(2) {
                    keys.push(("prompt".into(), list(&prompt)));
                }
                keys.extend([(names[0].into(), whole(chosen)), (names[1].into(), whole(rejected))]);
            }
            4 => {
                let mut talk = self.talk(WORDS[0]);
                talk.pop();
                talk.push(self.turn(WORDS[0], "user"));
                keys.push(("conversations".into(), list(&talk)));
                let (c, r) = (self.turn(WORDS[0], "assistant"), self.turn(WORDS[0], "assistant"));
                keys.extend([(names[0].into(), c), (names[1].into(), r)]);
            }
            5 => {
                let (q, i) = (self.string(), self.string());
                keys.extend([("instruction".into(), q), ("input".into(), i)]);
                if self.once_in(2) {
                    let history = self.pairs(["[", ", ", "]"]);
                    keys.push(("history".into(), history));
                }
                keys.extend([(names[0].into(), chosen), (names[1].into(), rejected)]);
            }
            _ => {
                let q = self.string();
                keys.extend([
                    ("prompt".into(), q),
                    (names[0].into(), chosen),
                    (names[1].into(), list(&[rejected])),
                ]);
            }
        }
        keys
    }

    /// A row of the schema that is called so.
    pub fn row(&mut self, schema: &str) -> String {
        let more: &[(&str, &str)] =
            &[("lable", "\"x\""), ("Label", "\"\""), ("completion", "null"), ("score", "[1e400]")];
        let mut keys = Keys::new();
        match schema {
            "alpaca" => keys = self.instructed(),
            "sharegpt" | "belle-chat" => {
                let choices: &[Words] =
                    if schema == "sharegpt" { &[WORDS[0], WORDS[4]] } else { &WORDS[1..4] };
                let words = if self.once_in(4) { self.of(choices) } else { choices[0] };
                let talk = self.talk(words);
                let talk = self.with_system(words, talk);
                keys.push(("conversations".into(), list(&talk)));
            }
            "openai" => {
                let talk = self.talk(WORDS[3]);
                let talk = self.with_system(WORDS[3], talk);
                let key = if self.once_in(8) { "conversation" } else { "messages" };
                keys.push((key.into(), list(&talk)));
            }
            "firefly" if self.once_in(4) => {
                let (q, a) = (self.string(), self.string());
                let key = self.of(&["output", "target"]);
                keys.extend([("input".into(), q), (key.into(), a)]);
            }
            "firefly" => {
                let around = if self.once_in(5) {
                    ["{\"assistant\": ", ", \"n\": 1.0, \"human\": ", "}"]
                } else {
                    ["{\"human\": ", ", \"assistant\": ", "}"]
                };
                let pairs = self.pairs(around);
                keys.push(("conversation".into(), pairs));
            }
            "prompt-completion" => keys = self.asked(&mut Keys::new()),
            "text" => keys.push(("text".into(), self.string())),
            "preference" => keys = self.preference(),
            _ => {
                let label = self.of(&["true", "false", "1", "\"no\"", "\"True\"", "0.0"]);
                let mut last: Keys = vec![("label".into(), label.into())];
                keys = match self.pick(4) {
                    0 | 1 => self.asked(&mut last),
                    2 => [self.instructed(), last].concat(),
                    _ => {
                        let talk = self.talk(WORDS[0]);
                        [vec![("conversations".into(), list(&talk))], last].concat()
                    }
                };
            }
        }
        self.beside(&mut keys, matches!(schema, "sharegpt" | "belle-chat"));
        let more = if matches!(schema, "kto" | "prompt-completion") { &more[3..] } else { more };
        self.finish(keys, more)
    }
}

/// JSON text in one form for equal values: no white space outside strings, strings escaped in one
/// way; keys in their order and numbers as they are written.
pub fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let mut end = 1;
            while rest.as_bytes()[end] != b'"' {
                end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
            }
            out += &json(&serde_json::from_str::<String>(&rest[..=end]).unwrap());
            rest = &rest[end + 1..];
            continue;
        }
        if !first.is_ascii_whitespace() {
            out.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    out
}
