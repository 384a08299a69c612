//! What a chat template does not write, though it is given it.

use super::{GenerationPrompt, Message, Tokenizer};

/// What of a conversation a chat template leaves out without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ignored {
    /// The list of tools.
    pub tools: bool,
    /// The assistant's calls of them.
    pub calls: bool,
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
        Ignored {
            tools: writes(None, Some(TOOLS)) == Some(false),
            calls: !called.is_empty() && called.iter().all(|writes| !writes),
        }
    }
}
