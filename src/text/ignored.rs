//! What a chat template does not write, though it is given it.

use super::{GenerationPrompt, Message, Tokenizer};

/// What of a conversation a chat template leaves out without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ignored {
    /// The list of tools.
    pub tools: bool,
    /// The assistant's calls of them.
    pub calls: bool,
    /// Which call each answer of a tool belongs to: it is told by its place alone.
    pub answered: bool,
}

impl Tokenizer {
    /// Looks whether the chat template writes tools and calls, by rendering a small conversation with and
    /// without them. What it refuses is not ignored.
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
        // Two answers to two calls, and the same the other way round.
        let answered = |content: Option<&str>, tools, ids: [&str; 2]| {
            let content = content.map(str::to_string);
            let calls =
                ["call00001", "call00002"].map(|id| CALLS[1..CALLS.len() - 1].replace("call00001", id));
            let said = Message {
                content,
                tool_calls: Some(format!("[{}]", calls.join(", "))),
                ..Message::assistant("")
            };
            let result = |id: &str, text| Message { tool_call_id: Some(id.into()), ..Message::tool(text) };
            let results = [result(ids[0], "one_result"), result(ids[1], "other_result")];
            let messages = [&[Message::user("q"), said][..], &results, &[Message::assistant("a")]].concat();
            self.render(&messages, tools, GenerationPrompt::Omit).ok()
        };
        let by_place = |(content, tools)| {
            let text = answered(content, tools, ["call00001", "call00002"])?;
            (text.contains("one_result") && text.contains("other_result"))
                .then(|| answered(content, tools, ["call00002", "call00001"]) == Some(text))
        };
        let by_place: Vec<bool> = beside.into_iter().filter_map(by_place).collect();
        Ignored {
            tools: writes(None, Some(TOOLS)) == Some(false),
            calls: !called.is_empty() && called.iter().all(|writes| !writes),
            answered: !by_place.is_empty() && by_place.iter().all(|by_place| *by_place),
        }
    }
}
