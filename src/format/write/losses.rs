//! What a schema has no place for.

use std::collections::{BTreeMap, BTreeSet};

use super::extras::Extras;
use super::prompt::prompt_turns;
use crate::format::record::{Node, Value};
use crate::format::row::{Spoken, made_up_id};
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;
use crate::format::schema::calls::{have_ids, keys_beside, lack_ids, same_as_text, same_with_ids, wrapped};
use crate::format::schema::default::{Field, Want, are_strings, fields, needs_id, want};
use crate::format::schema::layout::Hole;
use crate::format::schema::{mark, several};

/// A set of things that a row lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    kinds: u32,
    /// The keys that have no place, and how they are named.
    keys: BTreeSet<String>,
}

impl Lost {
    const INPUT: u32 = 1;
    /// The order and the names of keys, the names of roles, the forms of values: nothing of what the row
    /// says, so that nobody need be told.
    const LAYOUT: u32 = 1 << 1;
    const NAMES: u32 = 1 << 2;
    const CALLS: u32 = 1 << 3;
    const WEIGHTS: u32 = 1 << 4;
    pub const LABEL: u32 = 1 << 5;
    pub const REJECTED: u32 = 1 << 6;
    pub const BREAKS: u32 = 1 << 7;
    const TURNS: u32 = 1 << 8;
    const IDS: u32 = 1 << 9;
    const ARGUMENTS: u32 = 1 << 10;
    pub const BESIDE: u32 = 1 << 11;
    pub const NULLS: u32 = 1 << 12;
    const KEYS: u32 = 1 << 13;
    /// Calls have ids that were made up.
    pub const MADE: u32 = 1 << 14;
    /// Bare tools are wrapped as functions.
    pub const WRAPPED: u32 = 1 << 15;
    const SIDES: u32 = 1 << 16;
    const PROMPT: u32 = 1 << 17;
    const SILENT: u32 = Self::LAYOUT | Self::MADE | Self::WRAPPED;
    /// What is lost of single turns.
    pub const OF_TURNS: u32 = Self::NAMES
        | Self::CALLS
        | Self::WEIGHTS
        | Self::BREAKS
        | Self::IDS
        | Self::ARGUMENTS
        | Self::BESIDE
        | Self::NULLS
        | Self::KEYS
        | Self::MADE
        | Self::WRAPPED;

    const KINDS: [(u32, &str); 14] = [
        (Self::INPUT, "where the input begins"),
        (Self::NAMES, "names of turns"),
        (Self::CALLS, "calls of tools"),
        (Self::WEIGHTS, "weights of turns"),
        (Self::LABEL, "labels"),
        (Self::REJECTED, "rejected answers, and where the chosen one begins"),
        (Self::PROMPT, "whether the answers before the last are trained on"),
        (Self::BREAKS, "line breaks and white space around JSON in texts"),
        (Self::TURNS, "one turn for what reads as several"),
        (Self::IDS, "ids of calls, and which call a tool answers"),
        (Self::ARGUMENTS, "arguments as text: they become objects"),
        (Self::BESIDE, "texts beside calls of tools"),
        (Self::NULLS, "whether a text is empty or null"),
        (
            Self::SIDES,
            "that question and answer take turns: tools answer one after the other, and some readers of the format leave such rows out",
        ),
    ];

    pub fn is_empty(&self) -> bool {
        self.kinds == 0 && self.keys.is_empty()
    }

    /// Whether something is lost that people are told of.
    pub fn is_said(&self) -> bool {
        self.kinds & !Self::SILENT != 0 || !self.keys.is_empty()
    }

    pub fn has(&self, any: u32) -> bool {
        self.kinds & any != 0
    }

    fn add(&mut self, kind: u32, lost: bool) {
        self.kinds |= if lost { kind } else { 0 };
    }

    fn key(&mut self, name: String) {
        self.keys.insert(name);
    }
}

/// Counts the rows that lost something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LostRows {
    kinds: [u64; Lost::KINDS.len()],
    keys: BTreeMap<String, u64>,
    /// Rows that lost no more than their layout, or that as well.
    layouts: u64,
}

impl LostRows {
    pub fn add(&mut self, lost: &Lost) {
        if lost.is_empty() {
            return;
        }
        for (count, (kind, _)) in self.kinds.iter_mut().zip(Lost::KINDS) {
            *count += u64::from(lost.has(kind));
        }
        self.layouts += u64::from(lost.has(Lost::SILENT));
        for key in &lost.keys {
            *self.keys.entry(key.clone()).or_default() += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.kinds.iter_mut().zip(other.kinds).for_each(|(count, more)| *count += more);
        self.layouts += other.layouts;
        for (key, rows) in &other.keys {
            *self.keys.entry(key.clone()).or_default() += rows;
        }
    }

    /// What was lost, and in how many rows: keys by their names, in backticks.
    pub fn named(&self) -> impl Iterator<Item = (&str, u64)> {
        let kinds = self.kinds.iter().zip(Lost::KINDS).filter(|(n, _)| **n > 0);
        let keys = self.keys.iter().map(|(key, rows)| (key.as_str(), *rows));
        kinds.map(|(n, (_, name))| (name, *n)).chain(keys)
    }

    pub fn layouts(&self) -> u64 {
        self.layouts
    }
}

/// A key's name as losses have it.
fn named(key: &str) -> String {
    format!("`{}`", crate::display::cut(&key.escape_debug().to_string(), 40))
}

/// What `schema` has no place for in a row, at its place in the output; of the schema's `own` rows the
/// keys that no schema knows are kept.
pub(super) fn lost(
    schema: RowSchema,
    row: &RowView<'_>,
    extras: &Extras<'_>,
    position: u32,
    own: bool,
) -> Lost {
    let mut lost = Lost::default();
    if !own {
        extras.unknown.iter().for_each(|(key, _)| lost.key(named(key)));
    }
    lost.add(Lost::INPUT, extras.input.is_some() && schema != RowSchema::Alpaca);
    if let Some(keys) = &extras.keys {
        // Where rows always have an id, one that names the row's own place reads as made up.
        let made_up = || needs_id(schema) && row.id() == Some(&made_up_id(position));
        lost.add(Lost::LAYOUT, !only_id(row, extras, keys) || made_up());
        keys.iter().for_each(|key| look(key, &mut lost));
    }
    lost.add(Lost::LABEL, !own && row.label().is_some() && schema != RowSchema::Kto);
    lost.add(Lost::REJECTED, row.is_preference() && schema != RowSchema::Preference);
    lost.add(Lost::PROMPT, !row.is_preference() && changes_what_is_trained(row, schema));
    let in_pairs = matches!(schema, RowSchema::Alpaca | RowSchema::Firefly);
    let spoken_from = matches!(schema, RowSchema::ShareGpt | RowSchema::BelleChat);
    // Most rows have texts only, and no more is looked for in them.
    let odd: Vec<Spoken<'_>> = row.talk().filter(|turn| !turn.is_plain() || turn.role == "tool").collect();
    let ordinary = odd.is_empty();
    for turn in odd.iter().filter(|turn| !turn.is_plain()) {
        let calls = turn.tool_calls.filter(|_| spoken_from && turn.role == "assistant");
        lost.add(Lost::NAMES, in_pairs && turn.name.is_some());
        lost.add(Lost::CALLS, in_pairs && turn.tool_calls.is_some());
        lost.add(Lost::WEIGHTS, in_pairs && turn.weight.is_some());
        lost.add(Lost::IDS, (in_pairs || spoken_from) && turn.tool_call_id.is_some());
        if let (true, Some(Ok(extra))) = (in_pairs, turn.extra.map(Node::parse_own)) {
            lost.add(Lost::KEYS, true);
            extra.object().into_iter().flatten().for_each(|(key, _)| lost.key(named(key) + " of turns"));
        }
        match calls {
            Some(calls) => {
                let ids = have_ids(calls);
                lost.add(Lost::IDS, ids);
                for key in keys_beside(calls) {
                    lost.add(Lost::KEYS, true);
                    lost.key(named(&key) + " of calls");
                }
                lost.add(if own { Lost::LAYOUT } else { Lost::ARGUMENTS }, !ids && !same_as_text(calls));
                lost.add(Lost::BESIDE, !turn.content.is_empty());
                lost.add(Lost::NULLS, !turn.null_content && turn.content.is_empty());
            }
            None => {
                lost.add(
                    Lost::WRAPPED,
                    !in_pairs && turn.tool_calls.is_some_and(|calls| wrapped(calls).is_some()),
                );
                let same = |calls: &str| stands(calls) && (own || same_with_ids(calls));
                lost.add(Lost::MADE, !own && !in_pairs && turn.tool_calls.is_some_and(lack_ids));
                lost.add(Lost::BREAKS, !in_pairs && turn.tool_calls.is_some_and(|calls| !same(calls)));
                lost.add(Lost::NULLS, spoken_from && turn.null_content);
            }
        }
    }
    // Where the system is a key of the row, its text has a place and nothing else.
    if let (true, Some(Ok(extra))) =
        (in_pairs || schema == RowSchema::Text, row.system_extra().map(Node::parse_own))
    {
        let keys = extra.object().into_iter().flatten();
        keys.for_each(|(key, _)| lost.key(named(key) + " of the system's turn"));
    }
    let tools = |turn: &Spoken<'_>| turn.role == "tool";
    let unnamed = |turn: Spoken<'_>| turn.role == "tool" && turn.tool_call_id.is_none();
    let writes_ids = !own && !in_pairs && !spoken_from;
    lost.add(
        Lost::MADE,
        !ordinary && writes_ids && row.talk().any(|t| t.tool_calls.is_some()) && row.talk().any(unnamed),
    );
    let in_a_row = || row.talk().zip(row.talk().skip(1)).any(|(one, next)| tools(&one) && tools(&next));
    lost.add(Lost::SIDES, !ordinary && spoken_from && !own && in_a_row());
    let as_json = |(_, field): &(&str, Field)| {
        *field == Field::Tools && want(*field, schema, row, None, None) == Want::Hole(Hole::ToolsJson)
    };
    lost.add(
        Lost::BREAKS,
        row.tools().is_some_and(|tools| !stands(tools)) && fields(schema).iter().any(as_json),
    );
    // A schema that has them as a text writes them as they are; read from there they are wrapped all the same.
    let rewrites = || !own && schema != RowSchema::Text || fields(schema).iter().any(as_json);
    lost.add(Lost::WRAPPED, row.tools().is_some_and(|tools| wrapped(tools).is_some()) && rewrites());
    if schema == RowSchema::Text {
        row.system().into_iter().for_each(|_| lost.key(named("system")));
        row.tools().into_iter().for_each(|_| lost.key(named("tools")));
    }
    if !lost.has(Lost::TURNS) && reads_prompts(schema) && prompt_is_text(schema, row) {
        lost.add(Lost::TURNS, row.talk().next().is_some_and(|turn| several(turn.content).is_some()));
    }
    lost
}

/// Whether earlier answers of a row, which are trained on or are the context of the last, become the other
/// in a schema.
fn changes_what_is_trained(row: &RowView<'_>, schema: RowSchema) -> bool {
    if row.talk_len() <= 2 || schema == RowSchema::Text {
        return false;
    }
    let trained = |turn: &Spoken<'_>| turn.role == "assistant" && turn.weight != Some(0.0);
    let has_prompt = matches!(schema, RowSchema::Kto | RowSchema::PromptCompletion);
    let end = if has_prompt { row.talk_len().saturating_sub(1) } else { 0 };
    let context = prompt_turns(row);
    let other = |(n, turn): (usize, Spoken<'_>)| trained(&turn) && (n < context) != (n < end);
    row.talk().enumerate().any(other)
}

/// Whether a prompt that is a text may be read as several turns.
fn reads_prompts(schema: RowSchema) -> bool {
    use RowSchema::{Alpaca, Kto, Preference, PromptCompletion};
    matches!(schema, Alpaca | PromptCompletion | Preference | Kto)
}

fn prompt_is_text(schema: RowSchema, row: &RowView<'_>) -> bool {
    if schema == RowSchema::Alpaca { row.talk_len() == 2 } else { are_strings(schema, row) }
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
    const KNOWN: [&str; 53] = [
        "id",
        "system",
        "system_prompt",
        "tools",
        "functions",
        "reasoning_content",
        "reasoning",
        "thinking",
        "complex_cot",
        "chain_of_thought",
        "cot",
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
        "chosen_messages",
        "rejected_messages",
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
        "instances",
        "data",
        "dialog",
        "dialogue",
        "turns",
        "chat",
        "moss",
        "meta_instruction",
    ];
    let unknown = |key: &str, value: &Node<'_>, lost: &mut Lost| {
        let name = key.to_ascii_lowercase();
        let known = KNOWN.contains(&&*name) || mark(key).is_some();
        if value.get("=").is_some() && name != "assistant" && !known {
            lost.key(named(key));
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
            // What a turn has beside is in its own fields.
            let speaks = |key: &str| matches!(&*key.to_ascii_lowercase(), "from" | "role");
            let speaker = keys.iter().find(|(key, _)| speaks(key)).and_then(|(_, node)| node.get("=")?.str());
            for (key, value) in keys.iter().filter(|(key, _)| key != "=") {
                if speaker.is_none() {
                    unknown(key, value, lost);
                }
                look(value, lost);
            }
        }
        _ => {}
    }
}
