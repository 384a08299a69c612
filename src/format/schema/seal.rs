//! Whether a turn is still what it was when something else of it was carried along.

use serde_json::Value as Json;
use xxhash_rust::xxh3::Xxh3;

use crate::format::row::{Row, Turn};

/// The seals of what a reader sees of a row: of each turn, and of the system's.
#[derive(Debug)]
pub(crate) struct Seals {
    pub turns: Vec<String>,
    pub system: String,
}

impl Seals {
    pub fn of(row: &Row<'_>) -> Self {
        Self { turns: row.turns.iter().map(of_turn).collect(), system: of_system(row) }
    }
}

/// The seal of a turn: another one where the turn says something else. It stays what it is where the JSON is
/// written in another way, by another program or in another container.
pub(super) fn of_turn(turn: &Turn<'_>) -> String {
    let weight = turn.weight.map(|weight| weight.to_string());
    let json = |text: &Option<_>| Option::as_deref(text).map(plain);
    of_parts([
        Some(turn.role.as_str().to_string()),
        Some(turn.content.to_string()),
        turn.name.as_deref().map(str::to_string),
        json(&turn.tool_calls),
        turn.tool_call_id.as_deref().map(str::to_string),
        weight,
        json(&turn.extra),
    ])
}

/// The seal of the system's turn.
pub(super) fn of_system(row: &Row<'_>) -> String {
    let text = row.system.as_deref().unwrap_or_default();
    of_parts([Some(text.to_string()), row.system_extra.as_deref().map(plain)])
}

fn of_parts<const N: usize>(parts: [Option<String>; N]) -> String {
    let mut hash = Xxh3::new();
    for part in parts.iter().map(|part| part.as_deref().unwrap_or_default()) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    format!("{:016x}", hash.digest())
}

/// JSON without what other programs change: white space, the order of keys, how numbers are written, keys
/// that are null. No keys are no text.
pub(super) fn plain(text: &str) -> String {
    let Ok(json) = serde_json::from_str::<Json>(text) else { return text.to_string() };
    let mut out = String::new();
    write(&json, &mut out);
    if out == "{}" { String::new() } else { out }
}

fn write(json: &Json, out: &mut String) {
    match json {
        Json::Array(values) => {
            out.push('[');
            for value in values {
                write(value, out);
                out.push(',');
            }
            out.push(']');
        }
        Json::Object(keys) => {
            let mut keys: Vec<_> = keys.iter().filter(|(_, value)| !value.is_null()).collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in keys {
                out.push_str(&Json::from(key.as_str()).to_string());
                out.push(':');
                write(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Json::Number(number) => match number.as_f64() {
            Some(number) => out.push_str(&number.to_string()),
            None => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Role;

    #[test]
    fn only_what_is_said_breaks_a_seal() {
        let turn =
            |calls: &'static str| Turn { tool_calls: Some(calls.into()), ..Turn::new(Role::Assistant, "a") };
        let seal = of_turn(&turn(r#"[{"function":{"name":"f","arguments":{"x":1.50,"y":2}}}]"#));
        for same in [
            r#"[{"function": {"arguments": {"y": 2.0, "x": 1.5}, "name": "f"}}]"#,
            r#"[{"id": null, "function": {"name": "f", "arguments": {"x": 15e-1, "y": 2, "z": null}}}]"#,
        ] {
            assert_eq!(of_turn(&turn(same)), seal, "{same}");
        }
        let other = turn(r#"[{"function":{"name":"g","arguments":{"x":1.50,"y":2}}}]"#);
        assert_ne!(of_turn(&other), seal);
        let weighted = Turn { weight: Some(0.0), ..turn("[]") };
        assert_ne!(of_turn(&weighted), of_turn(&turn("[]")));
        let empty = Turn { extra: Some(r#"{"mood":null}"#.into()), ..turn("[]") };
        assert_eq!(of_turn(&empty), of_turn(&turn("[]")));
    }
}
