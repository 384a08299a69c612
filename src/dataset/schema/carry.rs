//! The key that carries what a row's schema has no place for.
//!
//! `"lorascope": {"source": "alpaca", "extra": {…}, "label": …, "chosen": …, "rejected": […], "system":
//! …, "tools": …, "turns": {"1": {"name": …, "tool_calls": …, "weight": …}}}`: the schema that the row was read
//! from, its column `extra`, and of the other columns what was left out. `chosen` is the number of
//! turns at the end that are the chosen answer.

use std::borrow::Cow;

use super::turns::hear_all;
use super::{MAPPED, Row, RowSchema, Turn};
use crate::dataset::record::{Node, Value, one_line};
use crate::dataset::write::json::string;

/// What was carried.
#[derive(Debug)]
pub(super) struct Carry<'a> {
    source: Option<RowSchema>,
    extra: Option<Cow<'a, str>>,
    label: Option<bool>,
    chosen: Option<usize>,
    rejected: Option<Vec<Turn<'a>>>,
    system: Option<Cow<'a, str>>,
    system_extra: Option<Cow<'a, str>>,
    tools: Option<Cow<'a, str>>,
    turns: Vec<Patch<'a>>,
}

/// What was left out of one turn.
#[derive(Debug)]
struct Patch<'a> {
    turn: usize,
    /// `Some(None)` where it is null.
    content: Option<Option<Cow<'a, str>>>,
    name: Option<Cow<'a, str>>,
    tool_calls: Option<Cow<'a, str>>,
    /// `Some(None)` where it had none.
    tool_call_id: Option<Option<Cow<'a, str>>>,
    weight: Option<f32>,
    extra: Option<Cow<'a, str>>,
}

impl<'a> Carry<'a> {
    /// Reads what the key holds; `None` where it is somebody else's.
    pub fn of(node: &Node<'a>) -> Option<Self> {
        let source = match node.get("source")?.str()? {
            MAPPED => None,
            name => Some(name.parse().ok()?),
        };
        let mut carry = Self {
            source,
            extra: None,
            label: None,
            chosen: None,
            rejected: None,
            system: None,
            system_extra: None,
            tools: None,
            turns: Vec::new(),
        };
        for (key, node) in node.object()? {
            match (&**key, &node.value) {
                ("source", _) => {}
                ("extra", Value::Object(_)) => carry.extra = Some(one_line(node.raw)),
                ("label", Value::Bool(label)) => carry.label = Some(*label),
                ("chosen", Value::Number) => carry.chosen = Some(node.raw.parse().ok()?),
                ("rejected", Value::Array(_)) => {
                    let heard = hear_all(node.clone(), "rejected").ok()?;
                    carry.rejected = Some(heard.into_iter().map(|heard| heard.turn).collect());
                }
                ("system", Value::String(system)) => carry.system = Some(system.clone()),
                ("system_extra", Value::Object(_)) => carry.system_extra = Some(one_line(node.raw)),
                ("tools", Value::String(tools)) => carry.tools = Some(tools.clone()),
                ("turns", Value::Object(turns)) => {
                    carry.turns = turns.iter().map(|(n, node)| Patch::of(n, node)).collect::<Option<_>>()?;
                }
                _ => return None,
            }
        }
        Some(carry)
    }

    /// Gives the row back what it was; `unknown` are keys that were added to it since.
    pub fn restore(self, row: &mut Row<'a>, unknown: &[(&str, &str)]) {
        row.source = self.source;
        row.extra = self.extra;
        row.label = self.label.or(row.label);
        row.system = self.system.or(row.system.take());
        let extra = self.system_extra.filter(|_| row.system.is_some());
        row.system_extra = extra.or(row.system_extra.take());
        row.tools = self.tools.or(row.tools.take());
        for patch in self.turns {
            if let Some(turn) = row.turns.get_mut(patch.turn) {
                if let Some(content) = patch.content {
                    turn.null_content = content.is_none();
                    turn.content = content.unwrap_or_default();
                }
                turn.name = patch.name.or(turn.name.take());
                turn.tool_calls = patch.tool_calls.or(turn.tool_calls.take());
                turn.tool_call_id = patch.tool_call_id.unwrap_or(turn.tool_call_id.take());
                turn.weight = patch.weight.or(turn.weight);
                turn.extra = patch.extra.or(turn.extra.take());
            }
        }
        if let (Some(chosen), Some(rejected)) = (self.chosen, self.rejected)
            && chosen <= row.turns.len()
        {
            row.chosen = Some(row.turns.split_off(row.turns.len() - chosen));
            row.rejected = Some(rejected);
        }
        let known = row.extra.as_deref().and_then(|extra| Node::parse_own(extra).ok());
        let known = |key: &str| known.as_ref().is_some_and(|extra| extra.get(key).is_some());
        let mut added = Vec::new();
        for (key, json) in unknown.iter().filter(|(key, _)| !known(key)) {
            added.push(b',');
            string(&mut added, key);
            added.push(b':');
            added.extend_from_slice(one_line(json).as_bytes());
        }
        let Ok(added) = String::from_utf8(added) else { return };
        if added.is_empty() {
            return;
        }
        let extra = row.extra.take().unwrap_or(Cow::Borrowed("{}"));
        let inside = extra.trim_ascii_end().strip_suffix('}').unwrap_or("{").trim_ascii_end();
        let added = if inside.ends_with('{') { &added[1..] } else { &added };
        row.extra = Some(Cow::Owned(format!("{inside}{added}}}")));
    }
}

impl<'a> Patch<'a> {
    fn of(turn: &str, node: &Node<'a>) -> Option<Self> {
        let mut patch = Self {
            turn: turn.parse().ok()?,
            content: None,
            name: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
            extra: None,
        };
        for (key, node) in node.object()? {
            match (&**key, &node.value) {
                ("content", Value::String(content)) => patch.content = Some(Some(content.clone())),
                ("content", Value::Null) => patch.content = Some(None),
                ("name", Value::String(name)) => patch.name = Some(name.clone()),
                ("tool_call_id", Value::String(id)) => patch.tool_call_id = Some(Some(id.clone())),
                ("tool_call_id", Value::Null) => patch.tool_call_id = Some(None),
                ("extra", Value::Object(keys)) if keys.is_empty() => {}
                ("extra", Value::Object(_)) => patch.extra = Some(one_line(node.raw)),
                ("tool_calls", Value::String(calls)) => patch.tool_calls = Some(calls.clone()),
                ("weight", Value::Number) => {
                    patch.weight = node.raw.parse().ok().filter(|weight: &f32| weight.is_finite());
                }
                _ => return None,
            }
        }
        Some(patch)
    }
}
