//! Finds out the needs of a chat template by rendering a small conversation.

use serde_json::{Value as Json, json};

use super::conversation::{ArgumentForm, Conversation, NullContent, TemplateNeeds};
use super::python_repr::dumps;
use super::template::{CompiledTemplate, GenerationPrompt};

/// An argument that no template writes by itself.
const KEY: &str = "probe_key";
const VALUE: &str = "probe value";
/// An id of nine letters and digits, as some templates demand.
const ID: &str = "call00001";

/// Determines the needs of a template with this source.
pub(super) fn probe(template: &CompiledTemplate, source: &str) -> TemplateNeeds {
    let reasoning = TemplateNeeds::REASONING.into_iter().filter(|key| reads(source, key)).collect();
    let object = json!({KEY: VALUE});
    let text = Json::from(dumps(&object));
    for (content, tools) in beside() {
        let good = |arguments: &Json| {
            let conversation = conversation(&content, tools, arguments, true);
            let (messages, tools) = conversation.values();
            let text = template.render(&messages, &tools, GenerationPrompt::Omit).ok()?;
            let quoted = text.contains(&format!("\\\"{KEY}")) || text.contains(&format!("'{KEY}'"));
            Some(text.contains(VALUE) && !quoted)
        };
        let (of_object, of_text) = (good(&object), good(&text));
        let arguments = match (of_object.unwrap_or(false), of_text.unwrap_or(false)) {
            (true, false) => ArgumentForm::Object,
            (false, true) => ArgumentForm::Text,
            (true, true) => ArgumentForm::Either,
            (false, false) => continue,
        };
        let chosen = if arguments == ArgumentForm::Text { &text } else { &object };
        let null = null_content(template, chosen, tools);
        return TemplateNeeds { arguments, ids: needs_ids(template, chosen), null, reasoning };
    }
    // It writes no arguments, and may ask for ids all the same.
    let ids = needs_ids(template, &object) || needs_ids(template, &text);
    TemplateNeeds { ids, null: null_content(template, &object, true), reasoning, ..TemplateNeeds::default() }
}

/// Determines how a template treats null content.
fn null_content(template: &CompiledTemplate, arguments: &Json, tools: bool) -> NullContent {
    // How often it says a word for null; `None` where it refuses.
    let says = |content: Json| {
        let (messages, tools) = conversation(&content, tools, arguments, true).values();
        let text = template.render(&messages, &tools, GenerationPrompt::Omit).ok()?;
        Some(["None", "null"].map(|word| text.matches(word).count()))
    };
    match (says(Json::Null), says("".into()).unwrap_or_default()) {
        (Some(with), without) if with == without => NullContent::Null,
        _ => NullContent::Absent,
    }
}

/// Variants of content and tools for a message with calls: templates differ in what they accept.
fn beside() -> [(Json, bool); 4] {
    [(Json::Null, true), ("".into(), true), (Json::Null, false), ("".into(), false)]
}

/// Whether a template takes calls with ids, and refuses the same without.
fn needs_ids(template: &CompiledTemplate, arguments: &Json) -> bool {
    let text = |content: &Json, tools, ids| {
        let (messages, tools) = conversation(content, tools, arguments, ids).values();
        template.render(&messages, &tools, GenerationPrompt::Omit).ok()
    };
    let needs = |(content, tools): &(Json, bool)| {
        text(content, *tools, true).is_some() && text(content, *tools, false).is_none()
    };
    beside().iter().any(needs)
}

/// A question, a call, its result and an answer.
fn conversation(content: &Json, tools: bool, arguments: &Json, ids: bool) -> Conversation {
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
    use crate::text::template::TemplateContext;
    use crate::text::templates::ChatTemplate;

    fn of(source: &str) -> TemplateNeeds {
        ChatTemplate::new(source, TemplateContext::default()).unwrap().needs().clone()
    }

    #[test]
    fn arguments_are_objects_or_text() {
        let each = |call: &str| {
            format!(
                "{{% for m in messages %}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}{{% endfor %}}"
            )
        };
        for (call, expected) in [
            ("{{ c.function.arguments | tojson }}", ArgumentForm::Object),
            ("{{ c.function | tojson }}", ArgumentForm::Object),
            (
                "{% for k, v in c.function.arguments | items %}<{{ k }}>{{ v }}{% endfor %}",
                ArgumentForm::Object,
            ),
            ("{{ 'call ' + c.function.arguments }}", ArgumentForm::Text),
            ("{{ c.function.arguments }}", ArgumentForm::Text),
            (
                "{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}",
                ArgumentForm::Either,
            ),
            ("{{ c.function.name }}", ArgumentForm::Either),
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
            ArgumentForm::Object
        );
        assert_eq!(of("{{ raise_exception('no') }}"), TemplateNeeds::default());
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
