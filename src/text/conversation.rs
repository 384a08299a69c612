//! Messages and tools in the form that chat templates expect.

use std::collections::{HashSet, VecDeque};

use minijinja::value::{Serde, Value};
use serde_json::{Map, Value as Json};

use super::Message;
use super::python_repr::dumps;
use crate::error::{Error, Result};
use crate::format::Role;

/// The forms of calls and reasoning that a chat template needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TemplateNeeds {
    /// The form of the arguments of a call.
    pub arguments: ArgumentForm,
    /// Whether it refuses calls without ids.
    pub ids: bool,
    /// How it treats null content.
    pub null: NullContent,
    /// The keys under which it reads the reasoning of a message.
    pub reasoning: Vec<&'static str>,
}

/// The form of the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ArgumentForm {
    /// Either form works, or it is unknown: keeps the form of the file.
    #[default]
    Either,
    /// An object: text would be quoted twice, or fails.
    Object,
    /// Text: it is concatenated with other text.
    Text,
}

/// How a template treats null content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NullContent {
    /// The content is left out: the template would write "None" or fail. transformers 5 leaves out every null.
    #[default]
    Absent,
    /// The content stays null: the template tests for it, as the one of DeepSeek R1 does, or ignores it.
    Null,
}

impl TemplateNeeds {
    /// The keys of reasoning in files and templates.
    pub const REASONING: [&'static str; 3] = crate::format::row::REASONING;
}

/// Messages and tools as JSON, in the form that templates expect: each message with all the keys that
/// its file gives it.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    pub messages: Vec<Json>,
    pub tools: Json,
    /// For the first 0, 1, 2, … source messages, the number of messages here.
    kept: Vec<usize>,
}

impl Conversation {
    /// Drops a blank system message and an empty list of tools.
    pub fn new(messages: &[Message], tools: Option<&str>) -> Result<Self> {
        let blank = |m: &Message| m.role == Role::System && m.text().trim().is_empty() && m.extra.is_none();
        let (mut new, mut kept) = (Vec::with_capacity(messages.len()), vec![0]);
        for (n, message) in messages.iter().enumerate() {
            if !blank(message) {
                new.push(json(n, message)?);
            }
            kept.push(new.len());
        }
        name_answered_calls(&mut new);
        Ok(Self { messages: new, tools: listed(tools)?, kept })
    }

    /// Takes messages and tools that already have the form of templates.
    pub fn of_json(messages: Vec<Json>, tools: Json) -> Self {
        let kept = (0..=messages.len()).collect();
        Self { messages, tools, kept }
    }

    /// The number of messages here that the first `n` source messages became.
    pub fn first(&self, n: usize) -> usize {
        self.kept.get(n).copied().unwrap_or(self.messages.len())
    }

    /// Converts calls and reasoning to the form that a template needs.
    pub fn suit(&mut self, needs: &TemplateNeeds) {
        if needs.ids {
            self.messages.iter_mut().for_each(drop_empty_ids);
        }
        let mut number = 0;
        let ids = |message: &Json| -> Vec<String> {
            let calls = message.get("tool_calls").and_then(Json::as_array).into_iter().flatten();
            calls.filter_map(|call| call.get("id")?.as_str().map(str::to_string)).collect()
        };
        let taken: HashSet<String> = match needs.ids {
            true => self.messages.iter().flat_map(ids).collect(),
            false => HashSet::new(),
        };
        for message in &mut self.messages {
            if let Some(calls) = message.get_mut("tool_calls").and_then(Json::as_array_mut) {
                for call in calls {
                    number += 1;
                    while taken.contains(&format!("call{number:05}")) {
                        number += 1;
                    }
                    if needs.ids
                        && call.get("id").is_none()
                        && let Some(call) = call.as_object_mut()
                    {
                        call.insert("id".into(), format!("call{number:05}").into());
                    }
                    if let Some(arguments) = call.get_mut("function").and_then(|f| f.get_mut("arguments")) {
                        suit(arguments, needs.arguments);
                    }
                }
            }
            if let Some(message) = message.as_object_mut() {
                if needs.null == NullContent::Absent && message.get("content").is_some_and(Json::is_null) {
                    message.shift_remove("content");
                }
                reason(message, &needs.reasoning);
            }
        }
        if needs.ids {
            name_answered_calls(&mut self.messages);
        }
    }

    /// The same as values of the template engine, which are cheap to clone.
    pub fn values(&self) -> (Vec<Value>, Value) {
        let messages = self.messages.iter().map(|message| Value::from(Serde(message))).collect();
        (messages, Value::from(Serde(&self.tools)))
    }

    /// Whether any string passes the test, keys of objects included.
    pub fn any_string(&self, test: &dyn Fn(&str) -> bool) -> bool {
        self.messages.iter().chain([&self.tools]).any(|json| any_string(json, test))
    }

    /// Replaces every string, keys of objects included.
    pub fn change_strings(&mut self, change: &dyn Fn(&str) -> String) {
        self.messages.iter_mut().chain([&mut self.tools]).for_each(|json| change_strings(json, change));
    }
}

/// The tools as a list of `{"type": "function", "function": …}`; null where there are none.
fn listed(tools: Option<&str>) -> Result<Json> {
    let text = tools.unwrap_or_default().trim();
    if text.is_empty() || text == "None" {
        return Ok(Json::Null);
    }
    let mut tools = match serde_json::from_str(text) {
        Ok(Json::Array(tools)) => tools,
        Ok(Json::Null) => return Ok(Json::Null),
        Ok(Json::Object(tool)) if tool.is_empty() => return Ok(Json::Null),
        Ok(tool @ Json::Object(_)) => vec![tool],
        Ok(_) => return Err(Error::format("tools is JSON, but not an array of tools")),
        Err(error) => return Err(Error::format(format!("tools is not JSON: {error}"))),
    };
    for tool in &mut tools {
        // A tool as text, as some files have each of them.
        if let Some(inside) = tool.as_str().and_then(|text| serde_json::from_str::<Json>(text).ok())
            && inside.is_object()
        {
            *tool = inside;
        }
        wrap(tool);
    }
    Ok(if tools.is_empty() { Json::Null } else { tools.into() })
}

/// Makes `{"type": "function", "function": …}` of a bare `{"name": …}`.
fn wrap(tool: &mut Json) {
    if tool.get("name").is_some()
        && tool.get("function").is_none()
        && tool.get("type").is_none_or(|t| t == "function")
    {
        let mut inside = tool.take();
        if let Some(inside) = inside.as_object_mut() {
            inside.shift_remove("type");
        }
        *tool = serde_json::json!({"type": "function", "function": inside});
    }
}

/// Moves an id inside the function of a call to the call itself, where templates look for it.
fn lift_id(call: &mut Json) {
    if call.get("id").is_none()
        && let Some(function) = call.get_mut("function").and_then(Json::as_object_mut)
        && function.get("id").is_some_and(Json::is_string)
        && let Some(id) = function.shift_remove("id")
        && let Some(call) = call.as_object_mut()
    {
        call.insert("id".into(), id);
    }
}

/// Removes null and empty ids of calls and of their answers.
fn drop_empty_ids(message: &mut Json) {
    let empty = |id: Option<&Json>| id.is_some_and(|id| id.is_null() || id.as_str() == Some(""));
    let calls = message.get_mut("tool_calls").and_then(Json::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Json::as_object_mut) {
        if empty(call.get("id")) {
            call.shift_remove("id");
        }
    }
    if let Some(message) = message.as_object_mut().filter(|m| empty(m.get("tool_call_id"))) {
        message.shift_remove("tool_call_id");
    }
}

/// Sets the `tool_call_id` of tool messages if the calls before them have ids and the file does not name one: the
/// id of the call of the same name, or else of the first call without an answer. Some templates require it. Calls
/// of consecutive messages stay open together until a tool answers or the user speaks.
fn name_answered_calls(messages: &mut [Json]) {
    let calls = |message: &Json| message.get("tool_calls").and_then(Json::as_array).cloned();
    let mut open: VecDeque<(Json, Json)> = VecDeque::new();
    let mut closed = false;
    for at in 0..messages.len() {
        if let Some(calls) = calls(&messages[at]) {
            if std::mem::take(&mut closed) {
                open.clear();
            }
            let named = |call: &Json| Some((call.get("id")?.clone(), call["function"]["name"].clone()));
            open.extend(calls.iter().filter_map(named));
            let after = messages[at + 1..].iter().take_while(|m| m.get("tool_calls").is_none());
            let said: HashSet<String> =
                after.filter_map(|m| Some(m.get("tool_call_id")?.to_string())).collect();
            if !said.is_empty() {
                open.retain(|(id, _)| !said.contains(&id.to_string()));
            }
        }
        let message = &mut messages[at];
        closed |= message["role"] == "tool" || message["role"] == "user";
        if message["role"] == "tool" && message.get("tool_call_id").is_none() {
            let named = message.get("name").and_then(|name| open.iter().position(|(_, n)| n == name));
            if let (Some((id, _)), Some(message)) = (open.remove(named.unwrap_or(0)), message.as_object_mut())
            {
                message.insert("tool_call_id".into(), id);
            }
        }
    }
}

/// Converts arguments to an object or to text, as a template needs them.
fn suit(arguments: &mut Json, wanted: ArgumentForm) {
    match (wanted, &*arguments) {
        (ArgumentForm::Object, Json::String(text)) => {
            if let Ok(object @ Json::Object(_)) = serde_json::from_str(text) {
                *arguments = object;
            }
        }
        (ArgumentForm::Text, Json::Object(_)) => *arguments = dumps(arguments).into(),
        _ => {}
    }
}

/// Copies reasoning to the keys that a template may read, as transformers does, if the file uses another of the
/// usual keys.
fn reason(message: &mut Map<String, Json>, read: &[&'static str]) {
    let said = |key: &&str| message.get(*key).filter(|said| !said.is_null()).cloned();
    let Some(said) = TemplateNeeds::REASONING.iter().find_map(said) else { return };
    for key in ["reasoning_content", "thinking"].iter().chain(read) {
        if message.get(*key).is_none_or(Json::is_null) {
            message.insert((*key).into(), said.clone());
        }
    }
}

fn any_string(json: &Json, test: &dyn Fn(&str) -> bool) -> bool {
    match json {
        Json::String(text) => test(text),
        Json::Array(values) => values.iter().any(|value| any_string(value, test)),
        Json::Object(map) => map.iter().any(|(key, value)| test(key) || any_string(value, test)),
        _ => false,
    }
}

fn change_strings(json: &mut Json, change: &dyn Fn(&str) -> String) {
    match json {
        Json::String(text) => *text = change(text),
        Json::Array(values) => values.iter_mut().for_each(|value| change_strings(value, change)),
        Json::Object(map) => {
            for (key, mut value) in std::mem::take(map) {
                change_strings(&mut value, change);
                map.insert(change(&key), value);
            }
        }
        _ => {}
    }
}

fn json(n: usize, message: &Message) -> Result<Json> {
    let mut map = Map::new();
    map.insert("role".into(), message.role.as_str().into());
    map.insert("content".into(), message.content.as_deref().map_or(Json::Null, Json::from));
    if let Some(name) = &message.name {
        map.insert("name".into(), name.as_str().into());
    }
    if let Some(calls) = &message.tool_calls {
        let mut calls: Json = serde_json::from_str(calls).map_err(|error| {
            Error::format(format!("message {}: tool_calls is not JSON: {error}", n + 1))
                .help("write the calls as a JSON array")
        })?;
        calls.as_array_mut().into_iter().flatten().for_each(|call| {
            wrap(call);
            lift_id(call);
        });
        map.insert("tool_calls".into(), calls);
    }
    if let Some(id) = &message.tool_call_id {
        map.insert("tool_call_id".into(), id.as_str().into());
    }
    if let Some(extra) = &message.extra {
        let extra: Map<String, Json> = serde_json::from_str(extra).map_err(|error| {
            Error::format(format!("message {}: extra is no JSON object: {error}", n + 1))
                .help("write the other keys of the message as a JSON object")
        })?;
        for (key, value) in extra {
            map.entry(key).or_insert(value);
        }
    }
    Ok(map.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(messages: &[Message]) -> Vec<Json> {
        let conversation = Conversation::new(messages, None).unwrap();
        conversation.messages.iter().skip(1).map(|message| message["tool_call_id"].clone()).collect()
    }

    #[test]
    fn answers_carry_the_ids_of_their_calls() {
        let calls = r#"[{"id": "x1", "function": {"name": "f"}}, {"id": "x2", "function": {"name": "g"}}]"#;
        let call = Message { tool_calls: Some(calls.into()), content: None, ..Message::assistant("") };
        let plain = [call.clone(), Message::tool("1"), Message::tool("2"), Message::tool("3")];
        assert_eq!(ids(&plain), [Json::from("x1"), "x2".into(), Json::Null]);
        // What the file says stands, and the others are made up round it.
        let said = |id: &str| Message { tool_call_id: Some(id.into()), ..Message::tool("1") };
        assert_eq!(ids(&[call.clone(), said("x2"), said("x1")]), ["x2", "x1"]);
        assert_eq!(ids(&[call.clone(), said("x2")]), ["x2"]);
        assert_eq!(ids(&[call.clone(), Message::tool("a"), said("x1")]), ["x2", "x1"]);
        let named = Message { name: Some("g".into()), ..Message::tool("1") };
        assert_eq!(ids(&[call, named]), ["x2"]);
        // Calls in messages of their own are answered in their order.
        let one = |id: &str| Message {
            tool_calls: Some(format!(r#"[{{"id": "{id}", "function": {{"name": "f"}}}}]"#)),
            ..Message::assistant("")
        };
        let (r, u) = (Message::tool("r"), Message::user("u"));
        let none = Json::Null;
        for (talk, expected) in [
            (vec![one("a"), one("b"), r.clone(), r.clone()], vec![none.clone(), "a".into(), "b".into()]),
            (vec![one("a"), one("b"), said("a"), r.clone()], vec![none.clone(), "a".into(), "b".into()]),
            // A call after an answer, or after the user, begins anew.
            (vec![one("a"), r.clone(), one("b"), r.clone()], vec!["a".into(), none.clone(), "b".into()]),
            (vec![one("a"), u, one("b"), r.clone()], vec![none.clone(), none.clone(), "b".into()]),
        ] {
            assert_eq!(ids(&talk), expected, "{talk:?}");
        }
    }

    #[test]
    fn no_tools_are_none() {
        for none in ["", " ", "null", "[]", " [ ] ", "{}", "None"] {
            assert_eq!(Conversation::new(&[], Some(none)).unwrap().tools, Json::Null, "{none:?}");
        }
        let wrapped = serde_json::json!([{"type": "function", "function": {"name": "f"}}]);
        for tools in [
            r#"[{"name": "f"}]"#,
            r#"{"name": "f"}"#,
            r#"["{\"name\": \"f\"}"]"#,
            r#"[{"type": "function", "name": "f"}]"#,
            r#"[{"type": "function", "function": {"name": "f"}}]"#,
        ] {
            assert_eq!(Conversation::new(&[], Some(tools)).unwrap().tools, wrapped, "{tools}");
        }
        for broken in ["[{\"name\": ", "no json", "3"] {
            assert!(Conversation::new(&[], Some(broken)).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_blank_system_message_is_none_and_keys_reach_the_template() {
        let thought = Message {
            extra: Some(r#"{"reasoning_content": "hm", "role": "user", "n": 1}"#.into()),
            ..Message::assistant("a")
        };
        let conversation = Conversation::new(&[Message::system("  "), Message::user("q"), thought], None);
        let messages = conversation.unwrap().messages;
        assert_eq!(messages.len(), 2);
        let expected =
            serde_json::json!({"role": "assistant", "content": "a", "reasoning_content": "hm", "n": 1});
        assert_eq!(messages[1], expected);
    }
}
