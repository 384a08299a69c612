//! In which form a chat template needs what a conversation says: found out by rendering a small one.

use serde_json::{Value as Json, json};

use super::conversation::Conversation;
use super::template::{GenerationPrompt, Template};

/// In which form a chat template needs calls and reasoning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wants {
    /// The form of a call's arguments.
    pub arguments: Arguments,
    /// It refuses calls without ids.
    pub ids: bool,
    /// What content that is null is to it.
    pub null: NullContent,
    /// The keys under which it reads the reasoning of a message.
    pub reasoning: Vec<&'static str>,
}

/// The form of a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Arguments {
    /// Either, or it cannot be told: as the file has them.
    #[default]
    Either,
    /// An object: text would be quoted once more, or cannot be used.
    Object,
    /// Text: it is joined to other text.
    Text,
}

/// What content that is null is to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NullContent {
    /// Nothing: it would write "None", or cannot go on. transformers 5 leaves out every null.
    #[default]
    Absent,
    /// Null: it asks for it, as DeepSeek R1's does, or does not mind.
    Null,
}

/// An argument that no template writes by itself.
const KEY: &str = "probe_key";
const VALUE: &str = "probe value";
/// An id of nine letters and digits, as some templates demand.
const ID: &str = "call00001";

impl Wants {
    /// The names of reasoning beside the content, in files and templates.
    pub const REASONING: [&'static str; 3] = crate::format::row::REASONING;

    pub fn of(template: &Template, source: &str) -> Self {
        let reasoning = Self::REASONING.into_iter().filter(|key| reads(source, key)).collect();
        let object = json!({KEY: VALUE});
        let text = Json::from(super::written::dumps(&object));
        for (content, tools) in beside() {
            let good = |arguments: &Json| {
                let conversation = probe(&content, tools, arguments, true);
                let (messages, tools) = conversation.values();
                let text = template.render(&messages, &tools, GenerationPrompt::Omit).ok()?;
                let quoted = text.contains(&format!("\\\"{KEY}")) || text.contains(&format!("'{KEY}'"));
                Some(text.contains(VALUE) && !quoted)
            };
            let (of_object, of_text) = (good(&object), good(&text));
            let arguments = match (of_object.unwrap_or(false), of_text.unwrap_or(false)) {
                (true, false) => Arguments::Object,
                (false, true) => Arguments::Text,
                (true, true) => Arguments::Either,
                (false, false) => continue,
            };
            let chosen = if arguments == Arguments::Text { &text } else { &object };
            let null = NullContent::of(template, chosen, tools);
            return Self { arguments, ids: needs_ids(template, chosen), null, reasoning };
        }
        // It writes no arguments, and may ask for ids all the same.
        let ids = needs_ids(template, &object) || needs_ids(template, &text);
        Self { ids, null: NullContent::of(template, &object, true), reasoning, ..Self::default() }
    }
}

impl NullContent {
    fn of(template: &Template, arguments: &Json, tools: bool) -> Self {
        // How often it says a word for null; `None` where it refuses.
        let says = |content: Json| {
            let (messages, tools) = probe(&content, tools, arguments, true).values();
            let text = template.render(&messages, &tools, GenerationPrompt::Omit).ok()?;
            Some(["None", "null"].map(|word| text.matches(word).count()))
        };
        match (says(Json::Null), says("".into()).unwrap_or_default()) {
            (Some(with), without) if with == without => Self::Null,
            _ => Self::Absent,
        }
    }
}

/// What may stand beside calls, as content and whether tools are given: templates differ in what they take.
fn beside() -> [(Json, bool); 4] {
    [(Json::Null, true), ("".into(), true), (Json::Null, false), ("".into(), false)]
}

/// Whether a template takes calls with ids, and refuses the same without.
fn needs_ids(template: &Template, arguments: &Json) -> bool {
    let text = |content: &Json, tools, ids| {
        let (messages, tools) = probe(content, tools, arguments, ids).values();
        template.render(&messages, &tools, GenerationPrompt::Omit).ok()
    };
    let needs = |(content, tools): &(Json, bool)| {
        text(content, *tools, true).is_some() && text(content, *tools, false).is_none()
    };
    beside().iter().any(needs)
}

/// A question, a call, its result and an answer.
fn probe(content: &Json, tools: bool, arguments: &Json, ids: bool) -> Conversation {
    let mut call = json!({"type": "function", "function": {"name": "probe", "arguments": arguments}});
    let mut answer = json!({"role": "tool", "name": "probe", "content": "r"});
    if ids {
        call["id"] = ID.into();
        answer["tool_call_id"] = ID.into();
    }
    let messages = vec![
        json!({"role": "user", "content": "q"}),
        json!({"role": "assistant", "content": content, "tool_calls": [call]}),
        answer,
        json!({"role": "assistant", "content": "a"}),
    ];
    let parameters =
        json!({"type": "object", "properties": {KEY: {"type": "string", "description": ""}}, "required": []});
    let tool = json!({"type": "function", "function": {"name": "probe", "description": "", "parameters": parameters}});
    Conversation::of_json(messages, if tools { json!([tool]) } else { Json::Null })
}

/// Whether a template reads a key of a message: `message.key`, `message['key']`, `message.get("key")`.
fn reads(source: &str, key: &str) -> bool {
    source.match_indices(key).any(|(at, _)| {
        let before = source[..at].chars().next_back();
        let after = source[at + key.len()..].chars().next();
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        matches!(before, Some('.' | '\'' | '"')) && !after.is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::template::Given;

    fn of(source: &str) -> Wants {
        Template::new(source, Given::default()).unwrap().wants().clone()
    }

    #[test]
    fn arguments_are_objects_or_text() {
        let each = |call: &str| {
            format!(
                "{{% for m in messages %}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}{{% endfor %}}"
            )
        };
        for (call, expected) in [
            ("{{ c.function.arguments | tojson }}", Arguments::Object),
            ("{{ c.function | tojson }}", Arguments::Object),
            ("{% for k, v in c.function.arguments | items %}<{{ k }}>{{ v }}{% endfor %}", Arguments::Object),
            ("{{ 'call ' + c.function.arguments }}", Arguments::Text),
            ("{{ c.function.arguments }}", Arguments::Text),
            (
                "{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}",
                Arguments::Either,
            ),
            ("{{ c.function.name }}", Arguments::Either),
        ] {
            assert_eq!(of(&each(call)).arguments, expected, "{call}");
        }
        let strict = "{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('ids') }}{% endif %}{{ c.function.arguments | tojson }}";
        assert!(of(&each(strict)).ids && !of(&each("{{ c.function.arguments | tojson }}")).ids);
        // Ids may be asked for where no arguments are written, of calls or of their answers.
        for asks in
            ["{{ c.function.name + c.id }}", "{% if not c.id %}{{ raise_exception('ids') }}{% endif %}"]
        {
            assert!(of(&each(asks)).ids, "{asks}");
        }
        let of_answers = "{% for m in messages %}{% if m.role == 'tool' %}{{ '#' + m.tool_call_id }}{% endif %}{% endfor %}";
        assert!(of(of_answers).ids && !of(&each("{{ c.id }}")).ids);
        // Where the content must be text, and where calls are refused.
        let text = "{{ m.content + '' }}{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}";
        assert_eq!(
            of(&format!("{{% for m in messages %}}{text}{{% endfor %}}")).arguments,
            Arguments::Object
        );
        assert_eq!(of("{{ raise_exception('no') }}"), Wants::default());
    }

    #[test]
    fn null_content_is_null_where_that_can_be_rendered() {
        let each = |content: &str| {
            format!(
                "{{% for m in messages %}}{content}{{% for c in m.tool_calls or [] %}}{{{{ c.function.arguments | tojson }}}}{{% endfor %}}{{% endfor %}}"
            )
        };
        for (content, expected) in [
            ("{% if m.content is none %}<call>{% else %}{{ '>' + m.content }}{% endif %}", NullContent::Null),
            ("{% if m.content %}{{ m.content }}{% endif %}", NullContent::Null),
            ("{{ m.content }}", NullContent::Absent),
            ("{{ m.content | tojson }}", NullContent::Absent),
            ("{{ '>' + m.content }}", NullContent::Absent),
        ] {
            assert_eq!(of(&each(content)).null, expected, "{content}");
        }
    }

    #[test]
    fn keys_of_reasoning() {
        assert_eq!(of("{{ messages[0].reasoning_content }}").reasoning, ["reasoning_content"]);
        assert_eq!(of("{{ messages[0].get('thinking') }}{{ enable_thinking }}").reasoning, ["thinking"]);
        assert!(of("{{ enable_thinking }} reasoning").reasoning.is_empty());
    }
}
