//! What a schema has no place for.

use std::collections::BTreeMap;

use super::encode::Extras;
use super::{Losses, Misfit};
use crate::dataset::record::{Node, Value};
use crate::dataset::schema::default::{Field, Want, fields, needs_id, want};
use crate::dataset::schema::layout::Hole;
use crate::dataset::schema::{RowSchema, several};
use crate::dataset::table::made_up_id;
use crate::dataset::view::RowView;
use crate::display::{Align, Bundle, Show, Table, thousands};

/// A set of things that a row lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::dataset) struct Lost(u16);

impl Lost {
    const KEYS: u16 = 1;
    const INPUT: u16 = 1 << 1;
    const LAYOUT: u16 = 1 << 2;
    pub const NAMES: u16 = 1 << 3;
    pub const CALLS: u16 = 1 << 4;
    pub const WEIGHTS: u16 = 1 << 5;
    pub const LABEL: u16 = 1 << 6;
    pub const REJECTED: u16 = 1 << 7;
    pub const BREAKS: u16 = 1 << 8;
    const TURNS: u16 = 1 << 9;
    const ANSWERED: u16 = 1 << 10;

    const KINDS: [(u16, &str); 11] = [
        (Self::KEYS, "keys that no schema knows"),
        (Self::INPUT, "where the input begins"),
        (Self::LAYOUT, "how the row was laid out: order and names of keys, names of roles, forms of values"),
        (Self::NAMES, "names of turns"),
        (Self::CALLS, "calls of tools"),
        (Self::WEIGHTS, "weights of turns"),
        (Self::LABEL, "labels"),
        (Self::REJECTED, "rejected answers, and where the chosen one begins"),
        (Self::BREAKS, "line breaks and white space around JSON in texts"),
        (Self::TURNS, "one turn for what reads as several"),
        (Self::ANSWERED, "which call a tool answers"),
    ];

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn has(self, any: u16) -> bool {
        self.0 & any != 0
    }

    fn add(&mut self, kind: u16, lost: bool) {
        self.0 |= if lost { kind } else { 0 };
    }
}

/// Counts the rows that lost something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::dataset) struct LostRows([u64; Lost::KINDS.len()]);

impl LostRows {
    pub fn add(&mut self, lost: Lost) {
        for (count, (kind, _)) in self.0.iter_mut().zip(Lost::KINDS) {
            *count += u64::from(lost.has(kind));
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// What was lost, and in how many rows.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.into_iter().zip(Lost::KINDS).filter(|(n, _)| *n > 0).map(|(n, (_, name))| (name, n))
    }
}

/// What `schema` has no place for in a row that is not its own, at its place in the output.
pub(super) fn lost(schema: RowSchema, row: &RowView<'_>, extras: &Extras<'_>, position: u32) -> Lost {
    let mut lost = Lost::default();
    lost.add(Lost::KEYS, !extras.unknown.is_empty());
    lost.add(Lost::INPUT, extras.input.is_some() && schema != RowSchema::Alpaca);
    if let Some(keys) = &extras.keys {
        // Where rows always have an id, one that names the row's own place reads as made up.
        let made_up = || needs_id(schema) && row.id() == Some(&made_up_id(position));
        lost.add(Lost::LAYOUT, !only_id(row, extras, keys) || made_up());
        keys.iter().for_each(|key| look(key, &mut lost));
    }
    lost.add(Lost::LABEL, row.label().is_some() && schema != RowSchema::Kto);
    lost.add(Lost::REJECTED, row.is_preference() && schema != RowSchema::Preference);
    let in_pairs = matches!(schema, RowSchema::Alpaca | RowSchema::Firefly);
    let spoken_from = matches!(schema, RowSchema::ShareGpt | RowSchema::BelleChat);
    for turn in row.talk().filter(|turn| !turn.is_plain()) {
        lost.add(Lost::NAMES, in_pairs && turn.name.is_some());
        lost.add(Lost::CALLS, in_pairs && turn.tool_calls.is_some());
        lost.add(Lost::WEIGHTS, in_pairs && turn.weight.is_some());
        let as_text = in_pairs || spoken_from && turn.content.is_empty() && turn.role == "assistant";
        lost.add(Lost::BREAKS, !as_text && turn.tool_calls.is_some_and(|calls| !stands(calls)));
    }
    let as_json = |(_, field): &(&str, Field)| {
        *field == Field::Tools && want(*field, schema, row, None, None) == Want::Hole(Hole::ToolsJson)
    };
    lost.add(
        Lost::BREAKS,
        row.tools().is_some_and(|tools| !stands(tools)) && fields(schema).iter().any(as_json),
    );
    if schema == RowSchema::Alpaca && row.talk_len() == 2 {
        lost.add(Lost::TURNS, row.talk().next().is_some_and(|turn| several(turn.content).is_some()));
    }
    lost
}

/// Whether a row is laid out as its schema has it, but for an id that could have been made up and was
/// not.
fn only_id(row: &RowView<'_>, extras: &Extras<'_>, keys: &[Node<'_>]) -> bool {
    let Ok(source) = row.source().parse::<RowSchema>() else { return false };
    let mut names = Vec::with_capacity(keys.len());
    for key in keys {
        match (key.str(), key.array()) {
            (Some(name), _) => names.push(name),
            (_, Some([key, shape])) if key.str() == Some("id") && shape.str() == Some("id") => {
                names.push("id")
            }
            _ => return false,
        }
    }
    let there = |(key, field): &&(&str, Field)| {
        *key == "id" || want(*field, source, row, extras.input, None) != Want::Nothing
    };
    let expected = fields(source).iter().filter(there).map(|(key, _)| *key);
    names.into_iter().eq(expected.chain(extras.unknown.iter().map(|(key, _)| &**key)))
}

/// Whether JSON in a text is the same when it stands in the row itself.
fn stands(json: &str) -> bool {
    json.trim_ascii() == json && !json.contains(['\n', '\r'])
}

/// Looks into a layout for what has a name of its own.
fn look(shape: &Node<'_>, lost: &mut Lost) {
    const KNOWN: [&str; 36] = [
        "id",
        "system",
        "system_prompt",
        "tools",
        "instruction",
        "input",
        "context",
        "output",
        "response",
        "history",
        "conversations",
        "messages",
        "conversation",
        "prompt",
        "question",
        "query",
        "completion",
        "answer",
        "target",
        "text",
        "chosen",
        "rejected",
        "response_chosen",
        "response_rejected",
        "label",
        "kto_tag",
        "from",
        "role",
        "value",
        "content",
        "name",
        "tool_calls",
        "weight",
        "function_call",
        "human",
        "type",
    ];
    let unknown = |key: &str, value: &Node<'_>, lost: &mut Lost| {
        if value.get("=").is_some() {
            let known = KNOWN.contains(&key) || key == "assistant";
            lost.add(Lost::ANSWERED, key == "tool_call_id");
            lost.add(Lost::KEYS, !known && key != "tool_call_id");
        }
    };
    match &shape.value {
        Value::Array(values) => {
            if let [key, value] = values.as_slice()
                && let Some(key) = key.str()
            {
                unknown(key, value, lost);
            }
            values.iter().for_each(|value| look(value, lost));
        }
        Value::Object(keys) => {
            for (key, value) in keys.iter().filter(|(key, _)| key != "=") {
                unknown(key, value, lost);
                look(value, lost);
            }
        }
        _ => {}
    }
}

impl Losses {
    /// Whether the schema has a place for everything.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.left_out == 0
    }
}

impl Misfit {
    /// Where it stands: its line, and the file where there are several.
    fn place(&self) -> String {
        match &self.file {
            Some(file) => format!("{}, line {}", file.display(), self.line),
            None => format!("line {}", self.line),
        }
    }
}

/// What was lost, line by line.
pub(super) fn lines(lost: &BTreeMap<String, u64>, left_out: u64, misfits: &[Misfit]) -> String {
    let mut text = String::new();
    for (what, rows) in lost {
        text += &format!("\nleft out: {what}, in {} rows", thousands(*rows));
    }
    if left_out > 0 {
        text += &format!("\nleft out: {} rows that the schema cannot hold", thousands(left_out));
    }
    for misfit in misfits.iter().take(5) {
        text += &format!("\n  {}: {}", misfit.place(), misfit.what);
    }
    text
}

impl Show for Losses {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("lost", Align::Left), ("rows", Align::Right)]).caption(format!(
            "{} · {} rows · {}",
            self.schema,
            thousands(self.rows),
            if self.is_empty() { "nothing is lost" } else { "what has no place" }
        ));
        for (what, rows) in &self.lost {
            table.row([what.clone(), thousands(*rows)]);
        }
        if self.left_out > 0 {
            table.row(["rows that it cannot hold".to_string(), thousands(self.left_out)]);
        }
        for misfit in self.misfits.iter().take(5) {
            table.row([format!("{}: {}", misfit.place(), misfit.what), String::new()]);
        }
        table.show()
    }
}

impl std::fmt::Display for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
