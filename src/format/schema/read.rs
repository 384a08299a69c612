//! From a record's text to a row that is checked.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::reader;
use super::seal::Seals;
use crate::format::fix::{self, Fixes};
use crate::format::options::ReadOptions;
use crate::format::problems::{Noted, ProblemKind};
use crate::format::record::{Broken, Node, Value, doubled};
use crate::format::row::{Fault, Row};

/// A record that is no row: why, and where.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub kind: ProblemKind,
    pub what: Cow<'static, str>,
    pub id: Option<String>,
    /// Lines between the record's first and the fault's.
    pub line: u32,
}

impl Row<'_> {
    /// Repairs what `fixes` says, and checks that what is left can be trained on: a conversation, or
    /// after a prompt the chosen answer and the rejected one, or a text that says something.
    fn examine(&mut self, fixes: Fixes) -> Result<Vec<Noted>, Fault> {
        let noted = self.system.as_mut().map(|text| fix::tidy_system(text, fixes)).unwrap_or_default();
        let more = self.examine_turns(fixes)?;
        if noted.is_empty() {
            return Ok(more);
        }
        // Of a fault in several places the first is told.
        let kinds: Vec<ProblemKind> = noted.iter().map(|(kind, _, _)| *kind).collect();
        Ok(noted.into_iter().chain(more.into_iter().filter(|(kind, _, _)| !kinds.contains(kind))).collect())
    }

    fn examine_turns(&mut self, fixes: Fixes) -> Result<Vec<Noted>, Fault> {
        if let Some(text) = &mut self.text {
            return fix::examine_text(text, fixes);
        }
        let (Some(chosen), Some(rejected)) = (&mut self.chosen, &mut self.rejected) else {
            return fix::examine(&mut self.turns, fixes);
        };
        fix::examine_choice(&mut self.turns, chosen, rejected, fixes)
    }
}

/// Reads a record into canonical form, whatever its schema, and checks it.
///
/// # Errors
/// If it is not JSON, if its keys are those of no schema, or twice the same, if a value has the
/// wrong type, or if its turns make no conversation.
pub(crate) fn read<'a>(text: &'a str, options: &ReadOptions) -> Result<(Row<'a>, Vec<Noted>), Rejected> {
    let node = Node::parse(text).map_err(|broken| unreadable(text, broken))?;
    let mut id = None;
    canonical(node, options, &mut id)
        .and_then(|mut row| {
            let mut noted = std::mem::take(&mut row.noted);
            noted.extend(row.examine(options.fixes)?);
            Ok((row, noted))
        })
        .map_err(|(kind, what)| Rejected { kind, what, id, line: 0 })
}

/// What a reader sees of a row that carries something, before it gets that back.
pub(crate) fn seals(json: &str) -> Option<Seals> {
    let Value::Object(keys) = Node::parse_own(json).ok()?.value else { return None };
    let row = reader::row(keys, &ReadOptions::default()).ok()?;
    Some(Seals::of(&row))
}

fn canonical<'a>(node: Node<'a>, options: &ReadOptions, id: &mut Option<String>) -> Result<Row<'a>, Fault> {
    let kind = node.kind();
    let mut keys = match node.value {
        Value::Object(keys) => keys,
        // Turns alone, without an object around them.
        Value::Array(turns) if options.map.is_none() && reader::are_turns(&turns) => {
            return reader::bare(Node::new(node.raw, Value::Array(turns)), options);
        }
        _ => return Err((ProblemKind::WrongType, format!("the record is {kind}, not an object").into())),
    };
    if let Some(row) = reader::plain_alpaca(&mut keys, options) {
        return Ok(row);
    }
    *id = keys.iter().find(|(key, _)| key == "id").and_then(|(_, node)| match &node.value {
        Value::String(id) => Some(id.to_string()),
        Value::Number => Some(node.raw.to_string()),
        _ => None,
    });
    if let Some(key) = doubled(&keys) {
        return Err((ProblemKind::WrongType, format!("the record has the key {key:?} twice").into()));
    }
    match &options.map {
        Some(map) => map.row(keys, options.join.between()),
        None => reader::row(keys, options),
    }
}

/// Says why a text is not JSON, as serde_json says it where it agrees.
fn unreadable(text: &str, broken: Broken) -> Rejected {
    let before = &text.as_bytes()[..broken.at.min(text.len())];
    let breaks = memchr::memchr_iter(b'\n', before).count();
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1;
    let (mut what, mut line) = (format!("{}, at column {column}", broken.what), breaks as u32);
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let full = error.to_string();
        let message = full.split(" at line ").next().unwrap_or_default();
        what = format!("{message}, at column {}", error.column());
        line = (error.line() as u32).saturating_sub(1);
    }
    Rejected { kind: ProblemKind::BrokenJson, what: what.into(), id: None, line }
}
