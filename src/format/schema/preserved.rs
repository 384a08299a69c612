//! The key that carries what a row's schema has no place for.
//!
//! `"lorascope": {"source": "alpaca", "extra": {…}, "label": …, "chosen": …, "rejected": […], "system":
//! …, "tools": …, "turns": {"1": {"name": …, "tool_calls": …, "weight": …}}}`: the schema that the row was read
//! from, its column `extra`, and of the other columns what was left out. `chosen` is the number of
//! turns at the end that are the chosen answer. `count` is the number of turns that the row had then, and the
//! `seal` of a turn tells whether it says what it said: what was carried of another one is left out, and noted.

use std::borrow::Cow;
use std::collections::HashSet;

use super::calls::wrapped;
use super::seal;
use super::turns::hear_all;
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::record::{CARRY, Node, Value, one_line};
use crate::format::row::{MAPPED, Row, Turn, is_blank, is_no_tools};
use crate::format::row_schema::RowSchema;
use crate::format::write::json::key;

/// What was carried.
#[derive(Debug, Default)]
pub(super) struct Carry<'a> {
    source: Option<RowSchema>,
    extra: Option<Cow<'a, str>>,
    label: Option<bool>,
    chosen: Option<usize>,
    rejected: Option<Vec<Turn<'a>>>,
    system: Option<Cow<'a, str>>,
    system_extra: Option<Cow<'a, str>>,
    system_seal: Option<Cow<'a, str>>,
    tools: Option<Cow<'a, str>>,
    count: Option<usize>,
    turns: Vec<Patch<'a>>,
}

/// What was left out of one turn.
#[derive(Debug, Default)]
struct Patch<'a> {
    turn: usize,
    seal: Option<Cow<'a, str>>,
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
        let mut carry = Self { source, ..Self::default() };
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
                ("system_seal", Value::String(seal)) => carry.system_seal = Some(seal.clone()),
                ("tools", Value::String(tools)) => carry.tools = Some(tools.clone()),
                ("count", Value::Number) => carry.count = Some(node.raw.parse().ok()?),
                ("turns", Value::Object(turns)) => {
                    carry.turns = turns.iter().map(|(n, node)| Patch::of(n, node)).collect::<Option<_>>()?;
                }
                _ => return None,
            }
        }
        Some(carry)
    }

    /// Gives the row back what it was; `unknown` are keys that were added to it since. What was edited since
    /// stays what it is, and is noted.
    pub fn restore(self, row: &mut Row<'a>, unknown: &[(&str, &str)]) {
        let mut edited = Vec::new();
        row.source = self.source;
        row.extra = self.extra;
        row.label = row.label.or(self.label);
        let same_system = self.system_seal.is_none_or(|seal| seal == seal::of_system(row));
        if row.system.as_deref().is_none_or(is_blank) {
            row.system = self.system.or(row.system.take());
        }
        if let Some(extra) = self.system_extra.filter(|_| row.system.is_some()) {
            match same_system {
                true => row.system_extra = Some(extra),
                false => edited.push("the system's turn".to_string()),
            }
        }
        if let Some(tools) = self.tools {
            match same_tools(&tools, row.tools.as_deref()) {
                true => row.tools = Some(tools),
                false => edited.push("the list of tools".to_string()),
            }
        }
        let turns = row.turns.len();
        let whole = self.count.is_none_or(|count| count == turns);
        let of_turns = !self.turns.is_empty() || self.rejected.is_some();
        for patch in self.turns {
            let place = patch.turn.saturating_add(1);
            match row.turns.get_mut(patch.turn).filter(|turn| whole && patch.fits(turn)) {
                Some(turn) => patch.apply(turn),
                None if whole => edited.push(format!("turn {place}")),
                None => {}
            }
        }
        if let (Some(chosen), Some(rejected)) = (self.chosen, self.rejected)
            && whole
            && chosen <= turns
        {
            row.chosen = Some(row.turns.split_off(turns - chosen));
            row.rejected = Some(rejected);
        }
        let what = match (self.count.filter(|_| of_turns && !whole), edited.is_empty()) {
            (Some(count), _) => format!(
                "the row has {turns} turns, and {count} when its key `lorascope` was written: what that key carries for turns and answers is ignored"
            ),
            (None, false) => format!(
                "{} changed since the row's key `lorascope` was written: what that key carries for it is ignored",
                edited.join(", ")
            ),
            (None, true) => String::new(),
        };
        if !what.is_empty() {
            row.noted.push((ProblemKind::Edited, what.into(), Outcome::Kept));
            // Its layout is that of what was there.
            row.extra = row.extra.take().and_then(|extra| without_layout(&extra)).map(Cow::Owned);
        }
        let known = row.extra.as_deref().and_then(|extra| Node::parse_own(extra).ok());
        let known = known.as_ref().and_then(Node::object).into_iter().flatten();
        let known: HashSet<&str> = known.map(|(key, _)| &**key).collect();
        let added: Vec<_> = unknown.iter().filter(|(name, _)| !known.contains(name)).collect();
        if added.is_empty() {
            return;
        }
        let extra = row.extra.take().unwrap_or(Cow::Borrowed("{}"));
        let inside = extra.trim_ascii_end().strip_suffix('}').unwrap_or("{").trim_ascii_end();
        let mut out = inside.as_bytes().to_vec();
        for (name, json) in added {
            key(&mut out, name);
            out.extend_from_slice(one_line(json).as_bytes());
        }
        out.push(b'}');
        row.extra = String::from_utf8(out).ok().map(Cow::Owned);
    }
}

/// The keys of a column `extra` that no schema knows.
fn without_layout(extra: &str) -> Option<String> {
    let node = Node::parse_own(extra).ok()?;
    let mut out = b"{".to_vec();
    for (name, node) in node.object()?.iter().filter(|(name, _)| name != CARRY) {
        key(&mut out, name);
        out.extend_from_slice(one_line(node.raw).as_bytes());
    }
    out.push(b'}');
    String::from_utf8(out).ok().filter(|out| out != "{}")
}

/// Whether tools that were carried are those that the row has now, which may stand in their usual form there.
fn same_tools(carried: &str, now: Option<&str>) -> bool {
    let Some(now) = now.filter(|tools| !is_no_tools(tools)) else { return is_no_tools(carried) };
    let usual = wrapped(carried);
    [Some(carried), usual.as_deref()]
        .into_iter()
        .flatten()
        .any(|tools| seal::plain(tools) == seal::plain(now))
}

impl<'a> Patch<'a> {
    /// Whether the turn says what it said when this was left out of it.
    fn fits(&self, turn: &Turn<'_>) -> bool {
        self.seal.as_ref().is_none_or(|seal| *seal == seal::of_turn(turn))
    }

    /// Gives the turn back what was left out.
    fn apply(self, turn: &mut Turn<'a>) {
        if let Some(content) = self.content {
            turn.null_content = content.is_none();
            turn.content = content.unwrap_or_default().into();
        }
        turn.name = self.name.or(turn.name.take());
        turn.tool_calls = self.tool_calls.or(turn.tool_calls.take());
        turn.tool_call_id = self.tool_call_id.unwrap_or(turn.tool_call_id.take());
        turn.weight = self.weight.or(turn.weight);
        turn.extra = self.extra.or(turn.extra.take());
    }

    fn of(turn: &str, node: &Node<'a>) -> Option<Self> {
        let mut patch = Self { turn: turn.parse().ok()?, ..Self::default() };
        for (key, node) in node.object()? {
            match (&**key, &node.value) {
                ("seal", Value::String(seal)) => patch.seal = Some(seal.clone()),
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
