//! Finds out which parts of a conversation a chat template omits.

use super::{GenerationPrompt, Message, Tokenizer};

/// The parts of a conversation that a chat template silently omits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ignored {
    /// The list of tools.
    pub tools: bool,
    /// The tool calls of the assistant.
    pub calls: bool,
    /// How answers of tools are linked to their calls.
    pub answered: Answered,
    /// The reasoning of the assistant in a key of its own.
    pub reasoning: Forgets,
    /// The reasoning inside the answer, before `</think>`.
    pub thoughts: Forgets,
}

/// The answers whose reasoning a chat template omits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Forgets {
    #[default]
    None,
    /// Those before the last turn of the user.
    Earlier,
    All,
}

/// How a chat template links the answer of a tool to its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Answered {
    /// By the id of the call, or unknown.
    #[default]
    Id,
    /// By the name of the tool.
    Name,
    /// By its place alone.
    Place,
}

impl Tokenizer {
    /// Tests whether the chat template writes tools and calls, by rendering a small conversation with and without
    /// them. What it refuses is not omitted.
    pub(crate) fn ignored(&self) -> Ignored {
        const NAME: &str = "probe_name";
        const TOOLS: &str = r#"[{"type": "function", "function": {"name": "probe_name", "description": "", "parameters": {"type": "object", "properties": {}}}}]"#;
        const CALLS: &str = r#"[{"id": "call00001", "type": "function", "function": {"name": "probe_name", "arguments": {}}}]"#;
        let writes = |call: Option<Option<&str>>, tools: Option<&str>| {
            let content = call.flatten().map(str::to_string);
            let said = Message { content, tool_calls: Some(CALLS.into()), ..Message::assistant("") };
            let result = Message { tool_call_id: Some("call00001".into()), ..Message::tool("r") };
            let mut messages = vec![Message::user("q")];
            messages.extend(if call.is_some() { vec![said, result] } else { Vec::new() });
            messages.push(Message::assistant("a"));
            self.render(&messages, tools, GenerationPrompt::Omit).ok().map(|text| text.contains(NAME))
        };
        // Templates differ in what they take beside calls, and may be others where there are tools.
        let other = TOOLS.replace(NAME, "other_tool");
        let beside = [(None, None), (Some(""), None), (None, Some(&*other)), (Some(""), Some(&*other))];
        let called: Vec<bool> =
            beside.into_iter().filter_map(|(content, tools)| writes(Some(content), tools)).collect();
        // Two answers to two calls of one tool or of two, and the same the other way round.
        let answered = |content: Option<&str>, tools, names: [&str; 2], turned: bool| {
            let content = content.map(str::to_string);
            let call = |n: usize| {
                let call = CALLS[1..CALLS.len() - 1].replace("call00001", ["call00001", "call00002"][n]);
                call.replace(NAME, names[n])
            };
            let said = Message {
                content,
                tool_calls: Some(format!("[{}, {}]", call(0), call(1))),
                ..Message::assistant("")
            };
            let result = |n: usize, text| Message {
                tool_call_id: Some(["call00001", "call00002"][n].into()),
                name: Some(names[n].into()),
                ..Message::tool(text)
            };
            let (one, other) = if turned { (1, 0) } else { (0, 1) };
            let results = [result(one, "one_result"), result(other, "other_result")];
            let messages = [&[Message::user("q"), said][..], &results, &[Message::assistant("a")]].concat();
            self.render(&messages, tools, GenerationPrompt::Omit).ok()
        };
        // Whether every conversation that it takes says the same the other way round.
        let by_place = |names: [&str; 2]| {
            let same = |(content, tools)| {
                let text = answered(content, tools, names, false)?;
                (text.contains("one_result") && text.contains("other_result"))
                    .then(|| answered(content, tools, names, true) == Some(text))
            };
            let same: Vec<bool> = beside.into_iter().filter_map(same).collect();
            !same.is_empty() && same.iter().all(|same| *same)
        };
        Ignored {
            tools: writes(None, Some(TOOLS)) == Some(false),
            calls: !called.is_empty() && called.iter().all(|writes| !writes),
            answered: match (by_place([NAME; 2]), by_place([NAME, "second_name"])) {
                (true, true) => Answered::Place,
                (true, false) => Answered::Name,
                _ => Answered::Id,
            },
            reasoning: self.forgets(&|thought, answer| Message {
                extra: Some(format!(r#"{{"reasoning_content": "{thought}"}}"#)),
                ..Message::assistant(answer)
            }),
            thoughts: self.forgets(&|thought, answer| {
                Message::assistant(format!("<think>\n{thought}\n</think>\n\n{answer}"))
            }),
        }
    }

    /// The answers whose reasoning it omits although it writes their content.
    fn forgets(&self, thinking: &dyn Fn(&str, &str) -> Message) -> Forgets {
        let (thoughts, answers) = (["first_thought", "last_thought"], ["first_answer", "last_answer"]);
        let answer = |n: usize| thinking(thoughts[n], answers[n]);
        let forgotten = |messages: &[Message], n: usize| {
            let text = self.render(messages, None, GenerationPrompt::Omit);
            text.is_ok_and(|text| text.contains(answers[n]) && !text.contains(thoughts[n]))
        };
        let (one, other) = (Message::user("q"), Message::user("r"));
        if forgotten(&[one.clone(), answer(1)], 1) {
            return Forgets::All;
        }
        match forgotten(&[one, answer(0), other, answer(1)], 0) {
            true => Forgets::Earlier,
            false => Forgets::None,
        }
    }
}
