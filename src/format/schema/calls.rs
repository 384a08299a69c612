//! Calls of tools: the list that OpenAI's rows and chat templates have, and the text of a
//! `function_call` turn.

use std::borrow::Cow;

use crate::format::record::{Keys, Node, Value, one_line};
use crate::format::write::json::string;

/// What stands around each call of a `function_call` turn to make it one of the list; the text inside
/// is kept to the byte, so that it can be written again.
const CALL: (&str, &str) = ("{\"type\": \"function\", \"function\": ", "}");

/// The text of a `function_call` turn as a list of calls: one call, or a list of them. `None` where it
/// is neither.
pub(crate) fn calls_of_text(text: &str) -> Option<String> {
    match Node::parse(text).ok()?.value {
        Value::Object(_) => Some(format!("[{}{text}{}]", CALL.0, CALL.1)),
        Value::Array(calls) => {
            let wrapped = |call: &Node<'_>| call.get("function").is_some();
            if calls.is_empty() || calls.iter().all(wrapped) {
                return Some(text.to_string());
            }
            if !calls.iter().all(|call| call.object().is_some()) {
                return None;
            }
            // Objects that are no calls of anything are left as they are.
            if !calls.iter().all(|call| call.get("name").is_some()) {
                return Some(text.to_string());
            }
            let calls: Vec<String> =
                calls.iter().map(|call| format!("{}{}{}", CALL.0, call.raw, CALL.1)).collect();
            Some(format!("[{}]", calls.join(", ")))
        }
        _ => None,
    }
}

/// A single call as the list of it.
pub(super) fn calls_of_one(call: &str) -> String {
    format!("[{}{call}{}]", CALL.0, CALL.1)
}

/// The text of the `function_call` turn that makes these calls: `{"name": …, "arguments": …}`, or a
/// list of several. Ids have no place there, and arguments are objects: readers quote a text once more.
pub(crate) fn calls_to_text(calls: &str) -> Cow<'_, str> {
    text_of(calls, Arguments::Objects)
}

/// The same with arguments as they are: the text that [`calls_of_text`] was given.
pub(crate) fn calls_as_text(calls: &str) -> Cow<'_, str> {
    text_of(calls, Arguments::AsTheyAre)
}

/// What becomes of arguments that are a text, in a text of calls that is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arguments {
    AsTheyAre,
    Objects,
}

fn text_of(calls: &str, arguments: Arguments) -> Cow<'_, str> {
    let parsed = Node::parse_own(calls);
    let Some(list) = parsed.as_ref().ok().and_then(Node::array) else { return Cow::Borrowed(calls) };
    let is_call = |call: &Node<'_>| call.get("function").or_else(|| call.get("name")).is_some();
    if !list.iter().all(is_call) {
        return one_line(calls);
    }
    // The text that stands between what was put around it.
    if let ([call], Some(text)) = (list, inside(calls))
        && (arguments == Arguments::AsTheyAre || !call.get("function").is_some_and(has_text))
    {
        return Cow::Borrowed(text);
    }
    let texts: Vec<Cow<'_, str>> = list.iter().map(|call| one(call, arguments)).collect();
    match texts.as_slice() {
        [] => Cow::Borrowed(calls),
        [text] => Cow::Owned(text.to_string()),
        several => Cow::Owned(format!("[{}]", several.join(", "))),
    }
}

fn inside(calls: &str) -> Option<&str> {
    let text = calls.strip_prefix('[')?.strip_prefix(CALL.0)?.strip_suffix(']')?.strip_suffix(CALL.1)?;
    Node::parse_own(text).ok()?.object().map(|_| text)
}

/// Whether the arguments of a function are a text that holds an object.
fn has_text(function: &Node<'_>) -> bool {
    function.get("arguments").and_then(Node::str).and_then(self::arguments).is_some()
}

/// One call as `{"name": …, "arguments": …}`.
fn one<'a>(call: &Node<'a>, form: Arguments) -> Cow<'a, str> {
    let text = call.raw.strip_prefix(CALL.0).and_then(|rest| rest.strip_suffix(CALL.1));
    let text = text.filter(|text| Node::parse_own(text).is_ok_and(|node| node.object().is_some()));
    // Bare ones have no function around them.
    let function = call.get("function").unwrap_or(call);
    let Some(keys) = function.object() else { return one_line(call.raw) };
    match (text, has_text(function)) {
        (Some(text), has_text) if form == Arguments::AsTheyAre || !has_text => return Cow::Borrowed(text),
        (_, false) => return one_line(function.raw),
        _ => {}
    }
    let mut out = Vec::new();
    for (key, node) in keys {
        out.extend_from_slice(if out.is_empty() { b"{" } else { b", " });
        string(&mut out, key);
        out.extend_from_slice(b": ");
        match node.str().filter(|_| key == "arguments").and_then(arguments) {
            Some(object) => out.extend_from_slice(one_line(object).as_bytes()),
            None => out.extend_from_slice(one_line(node.raw).as_bytes()),
        }
    }
    out.extend_from_slice(if out.is_empty() { b"{}" } else { b"}" });
    String::from_utf8(out).map_or_else(|_| one_line(call.raw), Cow::Owned)
}

/// The arguments that a text holds, if that is an object.
fn arguments(text: &str) -> Option<&str> {
    Node::parse_own(text).ok()?.object().map(|_| text)
}

/// The first call whose arguments are a text that is no JSON object: its name, and the text. A blank text
/// is no arguments.
pub(crate) fn broken_arguments(calls: &str) -> Option<(String, String)> {
    let node = Node::parse_own(calls).ok()?;
    node.array()?.iter().find_map(|call| {
        let function = call.get("function").unwrap_or(call);
        let text = function.get("arguments")?.str()?;
        let name = function.get("name").and_then(Node::str).unwrap_or_default();
        (!text.trim().is_empty() && arguments(text).is_none()).then(|| (name.to_string(), text.to_string()))
    })
}

/// Whether calls are the same when they were the text of a `function_call` turn.
pub(crate) fn same_as_text(calls: &str) -> bool {
    calls_of_text(&calls_to_text(calls)).as_deref() == Some(calls)
}

/// The keys of calls that stand beside the function, which the text of a `function_call` turn has no place
/// for; not the ids.
pub(crate) fn keys_beside(calls: &str) -> Vec<String> {
    let Ok(node) = Node::parse_own(calls) else { return Vec::new() };
    let list = node.array().unwrap_or_default();
    let is_call = |call: &Node<'_>| call.get("function").or_else(|| call.get("name")).is_some();
    // Others are written as they are.
    if !list.iter().all(is_call) {
        return Vec::new();
    }
    let keys = list.iter().filter(|call| call.get("function").is_some()).filter_map(Node::object).flatten();
    let beside = keys.filter(|(key, node)| match &**key {
        "id" | "function" => false,
        "type" => !node.is_null() && node.str() != Some("function"),
        _ => true,
    });
    beside.map(|(key, _)| key.to_string()).collect()
}

/// Whether a call of the list has an id.
pub(crate) fn have_ids(calls: &str) -> bool {
    Node::parse_own(calls)
        .is_ok_and(|node| node.array().is_some_and(|calls| calls.iter().any(|call| call.get("id").is_some())))
}

/// The ids and names of calls; of those that have an id.
pub(crate) fn ids_of(calls: &str) -> Vec<(String, String)> {
    let Ok(node) = Node::parse_own(calls) else { return Vec::new() };
    let call = |call: &Node<'_>| {
        let name = call.get("function").and_then(|function| function.get("name"));
        Some((call.get("id")?.str()?.to_string(), name.and_then(Node::str).unwrap_or_default().to_string()))
    };
    node.array().into_iter().flatten().filter_map(call).collect()
}

/// Tools or calls as a list of `{"type": "function", "function": …}` each, where one of them is a bare
/// `{"name": …}`, or stands without a list.
pub(crate) fn wrapped(tools: &str) -> Option<String> {
    let node = Node::parse_own(tools).ok()?;
    let is_function = |kind: &Node<'_>| kind.str() == Some("function");
    let bare = |tool: &Node<'_>| {
        tool.get("name").is_some()
            && tool.get("function").is_none()
            && tool.get("type").is_none_or(is_function)
    };
    let alone = node.object().map(|_| std::slice::from_ref(&node));
    let list = alone.or_else(|| node.array().filter(|list| list.iter().any(bare)))?;
    if alone.is_some_and(|tool| !bare(&tool[0]) && tool[0].get("function").is_none()) {
        return None;
    }
    let tools = list.iter().map(|tool| {
        let Some(keys) = tool.object().filter(|_| bare(tool)) else { return one_line(tool.raw).into_owned() };
        // The id of a call stands beside its function.
        let id = tool.get("id").filter(|id| id.str().is_some() && tool.get("arguments").is_some());
        let beside = |key: &str| key == "type" || key == "id" && id.is_some();
        if !keys.iter().any(|(key, _)| beside(key)) {
            return format!("{}{}{}", CALL.0, one_line(tool.raw), CALL.1);
        }
        let mut inside = Vec::new();
        for (key, node) in keys.iter().filter(|(key, _)| !beside(key)) {
            inside.extend_from_slice(if inside.is_empty() { b"{" } else { b", " });
            string(&mut inside, key);
            inside.extend_from_slice(b": ");
            inside.extend_from_slice(one_line(node.raw).as_bytes());
        }
        let call = format!("{}{}}}{}", CALL.0, String::from_utf8_lossy(&inside), CALL.1);
        match id {
            Some(id) => format!("{{\"id\": {}, {}", id.raw, &call[1..]),
            None => call,
        }
    });
    Some(format!("[{}]", tools.collect::<Vec<_>>().join(", ")))
}

/// Whether a call of the list has no id.
pub(crate) fn lack_ids(calls: &str) -> bool {
    with_ids(calls, &mut String::new).is_some()
}

/// Whether calls without ids are the same when they were given some and became a text again.
pub(crate) fn same_with_ids(calls: &str) -> bool {
    let some = with_ids(calls, &mut || "id".to_string());
    some.is_none_or(|(some, _)| calls_to_text(&some) == calls_to_text(calls))
}

/// The calls with an id each, where they have none, and these ids; `None` where all have their own.
pub(crate) fn with_ids(calls: &str, next: &mut impl FnMut() -> String) -> Option<(String, Vec<String>)> {
    let node = Node::parse_own(calls).ok()?;
    let list = node.array()?;
    if list.iter().all(|call| call.get("id").is_some() || call.object().is_none()) {
        return None;
    }
    let mut ids = Vec::new();
    let mut write = |call: &Node<'_>| {
        let keys: &Keys<'_> = match call.object() {
            Some(keys) if call.get("id").is_none() => keys,
            _ => return one_line(call.raw).into_owned(),
        };
        // One inside the function is its own.
        let inside = call.get("function").and_then(|function| function.get("id")).and_then(Node::str);
        let id = inside.map_or_else(&mut *next, str::to_string);
        let rest = one_line(call.raw);
        let rest = rest.trim_start_matches('{').trim_ascii_start();
        let comma = if keys.is_empty() { "" } else { ", " };
        let mut json = Vec::new();
        string(&mut json, &id);
        let text = format!("{{\"id\": {}{comma}{rest}", String::from_utf8_lossy(&json));
        ids.push(id);
        text
    };
    let calls: Vec<String> = list.iter().map(&mut write).collect();
    Some((format!("[{}]", calls.join(", ")), ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_calls_come_back() {
        for text in [
            r#"{"name": "f", "arguments": {"a":  1}}"#,
            r#"[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]"#,
            "{\n \"name\": \"f\"}",
        ] {
            let calls = calls_of_text(text).unwrap();
            assert_eq!(calls_to_text(&calls), text);
            assert_eq!(calls_as_text(&calls), text);
            assert!(same_as_text(&calls));
            let parsed: serde_json::Value = serde_json::from_str(&calls).unwrap();
            assert!(
                parsed
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|call| call["type"] == "function" && call["function"]["name"].is_string()),
                "{calls}"
            );
        }
        // Of arguments that are a text, only where the text is to be kept.
        for (text, objects) in [
            (r#"{"name": "f", "arguments": "{\"a\":  1}"}"#, r#"{"name": "f", "arguments": {"a":  1}}"#),
            (
                r#"[{"name": "f", "arguments": "{}"}, {"name": "g", "arguments": {"b": 2}}]"#,
                r#"[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"b": 2}}]"#,
            ),
            (r#"{"name": "f", "arguments": "none"}"#, r#"{"name": "f", "arguments": "none"}"#),
        ] {
            let calls = calls_of_text(text).unwrap();
            assert_eq!(calls_as_text(&calls), text);
            assert_eq!(calls_to_text(&calls), objects);
        }
        assert_eq!(calls_of_text("3"), None);
        assert_eq!(calls_of_text("[1]"), None);
    }

    #[test]
    fn calls_of_openai_lose_their_ids_and_quotes() {
        let call = |n: u8| {
            format!(
                r#"{{"id": "c{n}", "type": "function", "function": {{"name": "f{n}", "arguments": "{{\"a\": {n}}}"}}}}"#
            )
        };
        assert_eq!(calls_to_text(&format!("[{}]", call(1))), r#"{"name": "f1", "arguments": {"a": 1}}"#);
        assert_eq!(
            calls_to_text(&format!("[{}, {}]", call(1), call(2))),
            r#"[{"name": "f1", "arguments": {"a": 1}}, {"name": "f2", "arguments": {"a": 2}}]"#
        );
        assert!(!same_as_text(&format!("[{}]", call(1))));
        assert!(have_ids(&format!("[{}]", call(1))));
    }

    #[test]
    fn missing_ids_are_made_up() {
        let mut n = 0;
        let mut next = || {
            n += 1;
            format!("c{n}")
        };
        let calls = calls_of_text(r#"[{"name": "f"}, {"name": "g"}]"#).unwrap();
        let (text, ids) = with_ids(&calls, &mut next).unwrap();
        assert_eq!(ids, ["c1", "c2"]);
        assert_eq!(
            text,
            r#"[{"id": "c1", "type": "function", "function": {"name": "f"}}, {"id": "c2", "type": "function", "function": {"name": "g"}}]"#
        );
        assert_eq!(with_ids(&text, &mut next), None);
        // The text of the turn is the same again without them.
        assert_eq!(calls_to_text(&text), r#"[{"name": "f"}, {"name": "g"}]"#);
    }
}
