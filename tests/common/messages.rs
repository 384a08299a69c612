//! Conversations of the golden files.

use lorascope::format::Role;
use lorascope::text::Message;
use serde_json::Value as Json;

/// Keys that a [`Message`] has a field for.
const FIELDS: [&str; 6] = ["role", "content", "name", "tool_calls", "tool_call_id", "weight"];

/// Messages whose tool calls are JSON rather than a string of JSON.
pub fn messages(json: &Json) -> Vec<Message> {
    let text = |json: &Json| json.as_str().map(String::from);
    let message = |m: &Json| {
        let other = m.as_object().unwrap().iter().filter(|(key, _)| !FIELDS.contains(&key.as_str()));
        let other: serde_json::Map<_, _> = other.map(|(key, json)| (key.clone(), json.clone())).collect();
        Message {
            content: text(&m["content"]),
            name: text(&m["name"]),
            tool_calls: m.get("tool_calls").map(Json::to_string),
            tool_call_id: text(&m["tool_call_id"]),
            extra: (!other.is_empty()).then(|| Json::from(other).to_string()),
            ..Message::new(serde_json::from_value::<Role>(m["role"].clone()).unwrap(), "")
        }
    };
    json.as_array().unwrap().iter().map(message).collect()
}
