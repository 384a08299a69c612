//! Conversations of the golden files.

use lorascope::text::{Message, Role};
use serde_json::Value as Json;

/// Messages whose tool calls are JSON rather than a string of JSON.
pub fn messages(json: &Json) -> Vec<Message> {
    let message = |m: &Json| Message {
        name: m["name"].as_str().map(String::from),
        content: m["content"].as_str().map(String::from),
        tool_calls: m.get("tool_calls").map(Json::to_string),
        tool_call_id: m["tool_call_id"].as_str().map(String::from),
        ..Message::new(serde_json::from_value::<Role>(m["role"].clone()).unwrap(), "")
    };
    json.as_array().unwrap().iter().map(message).collect()
}
