//! Writing rows in any schema, as JSON lines or as a JSON array.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Dataset;
use super::output::Output;
use super::schema::{RowSchema, call_to_text};
use super::table::{Rows, Spoken, made_up_id};
use crate::display::{Bundle, Show, Text, bytes, neutral, thousands};
use crate::error::{Error, Result};
use crate::files::Existing;

/// What [`Dataset::write`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// What the schema has no place for, and in how many rows it was left out.
    pub lost: BTreeMap<String, u64>,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rows, {}, written to {}",
            thousands(self.rows),
            bytes(self.bytes),
            neutral(&self.path.display().to_string())
        )?;
        for (what, rows) in &self.lost {
            write!(f, "\nleft out: {what}, in {} rows", thousands(*rows))?;
        }
        Ok(())
    }
}

impl Show for Written {
    fn show(&self) -> Bundle {
        Text::new(self.to_string()).show()
    }
}

impl Dataset {
    /// Writes all rows in `schema`, to JSON lines (`.jsonl`, `.ndjson`) or to an array (`.json`).
    ///
    /// The file appears whole or not at all, in folders that are made where they are missing. What
    /// the schema has no place for is counted in [`Written::lost`].
    ///
    /// # Errors
    /// If the file exists ([`overwrite`](Self::overwrite) replaces it), if its name says no
    /// container, if a row's turns do not fit the schema, or if the disk refuses.
    pub fn write(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Written> {
        self.write_as(path.as_ref(), schema, Existing::Refuse)
    }

    /// Like [`write`](Self::write), but replaces an existing file.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn overwrite(&self, path: impl AsRef<Path>, schema: RowSchema) -> Result<Written> {
        self.write_as(path.as_ref(), schema, Existing::Replace)
    }

    fn write_as(&self, path: &Path, schema: RowSchema, existing: Existing) -> Result<Written> {
        let mut output = Output::create(path, existing)?;
        let between = output.between();
        let work = |rows: Rows<'_>, _| Piece::of(rows, 0..rows.len(), schema, between);
        self.in_order(work, |piece| {
            output.rows(&piece.text, piece.rows)?;
            piece.lost.into_iter().for_each(|(what, count)| output.lost(what, count));
            Ok(())
        })
        .map_err(|e| e.path(self.path()))?;
        output.finish()
    }
}

/// The text of some rows.
struct Piece {
    rows: u64,
    text: Vec<u8>,
    lost: BTreeMap<&'static str, u64>,
}

impl Piece {
    fn of(rows: Rows<'_>, range: std::ops::Range<usize>, schema: RowSchema, between: &[u8]) -> Result<Self> {
        let mut piece = Self { rows: range.len() as u64, text: Vec::new(), lost: BTreeMap::new() };
        for (n, i) in range.enumerate() {
            if n > 0 {
                piece.text.extend_from_slice(between);
            }
            match schema {
                RowSchema::Alpaca => piece.alpaca(rows, i)?,
                RowSchema::OpenAi => piece.messages(rows, i),
                RowSchema::ShareGpt => piece.conversations(rows, i, "gpt"),
                RowSchema::BelleChat => piece.conversations(rows, i, "assistant"),
            }
        }
        Ok(piece)
    }

    fn lose(&mut self, what: &'static str) {
        *self.lost.entry(what).or_default() += 1;
    }

    fn raw(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        // Writing to a Vec cannot fail, and any str is a JSON string.
        let _ = serde_json::to_writer(&mut self.text, text);
    }

    /// What stands before a string, and the string.
    fn field(&mut self, before: &str, text: &str) {
        self.raw(before);
        self.string(text);
    }

    /// JSON as it is, on one line; a text that is not JSON becomes a string.
    fn json(&mut self, text: &str) {
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            // In JSON a raw line break stands outside strings only, where a space does as well.
            Ok(_) => self.raw(&text.replace(['\n', '\r'], " ")),
            Err(_) => self.string(text),
        }
    }

    fn conversations(&mut self, rows: Rows<'_>, i: usize, assistant: &str) {
        self.field("{\"id\":", rows.id(i));
        self.raw(",\"conversations\":[");
        if let Some(system) = rows.system(i) {
            self.field("{\"from\":\"system\",\"value\":", system);
            self.raw("},");
        }
        for (n, turn) in rows.turns(i).enumerate() {
            if n > 0 {
                self.raw(",");
            }
            let (from, value, calls) = match (turn.role, turn.tool_calls) {
                ("assistant", Some(calls)) if turn.content.is_empty() => {
                    ("function_call", call_to_text(calls), None)
                }
                ("assistant", calls) => (assistant, turn.content, calls),
                ("user", calls) => ("human", turn.content, calls),
                ("tool", calls) => ("observation", turn.content, calls),
                (role, calls) => (role, turn.content, calls),
            };
            self.raw("{\"from\":\"");
            self.raw(from);
            self.field("\",\"value\":", value);
            self.rest(&Spoken { tool_calls: calls, ..turn });
        }
        self.raw("]");
        if let Some(tools) = rows.tools(i) {
            self.field(",\"tools\":", tools);
        }
        self.end(rows, i);
    }

    fn messages(&mut self, rows: Rows<'_>, i: usize) {
        self.raw("{");
        if rows.id(i) != made_up_id(rows.line(i)) {
            self.field("\"id\":", rows.id(i));
            self.raw(",");
        }
        self.raw("\"messages\":[");
        if let Some(system) = rows.system(i) {
            self.field("{\"role\":\"system\",\"content\":", system);
            self.raw("},");
        }
        for (n, turn) in rows.turns(i).enumerate() {
            if n > 0 {
                self.raw(",");
            }
            self.raw("{\"role\":\"");
            self.raw(turn.role);
            self.field("\",\"content\":", turn.content);
            self.rest(&turn);
        }
        self.raw("]");
        if let Some(tools) = rows.tools(i) {
            self.raw(",\"tools\":");
            self.json(tools);
        }
        self.end(rows, i);
    }

    /// What a turn has beside speaker and text, and its closing brace.
    fn rest(&mut self, turn: &Spoken<'_>) {
        if let Some(name) = turn.name {
            self.field(",\"name\":", name);
        }
        if let Some(calls) = turn.tool_calls {
            self.raw(",\"tool_calls\":");
            self.json(calls);
        }
        if let Some(weight) = turn.weight {
            self.raw(&format!(",\"weight\":{weight}"));
        }
        self.raw("}");
    }

    /// Counts what is left over, and closes the row.
    fn end(&mut self, rows: Rows<'_>, i: usize) {
        if rows.extra(i).is_some_and(|extra| extras(extra).keys().any(|key| key != "input")) {
            self.lose("keys that no schema knows");
        }
        self.raw("}");
    }

    /// The last pair of turns as instruction and output, those before it as history.
    fn alpaca(&mut self, rows: Rows<'_>, i: usize) -> Result<()> {
        let turns: Vec<Spoken<'_>> = rows.turns(i).collect();
        let in_pairs = turns.len().is_multiple_of(2)
            && turns.chunks(2).all(|pair| pair[0].role == "user" && pair[1].role == "assistant");
        let (Some((question, answer)), true) =
            (turns.len().checked_sub(2).map(|n| (turns[n], turns[n + 1])), in_pairs)
        else {
            let roles: Vec<&str> = turns.iter().map(|turn| turn.role).collect();
            return Err(Error::format(format_args!(
                "alpaca holds pairs of user and assistant, and row {} has the turns {}",
                rows.id(i),
                roles.join(", ")
            ))
            .line(rows.line(i).into())
            .help("write sharegpt or openai, or filter such rows out"));
        };
        self.raw("{");
        if rows.id(i) != made_up_id(rows.line(i)) {
            self.field("\"id\":", rows.id(i));
            self.raw(",");
        }
        if let Some(system) = rows.system(i) {
            self.field("\"system\":", system);
            self.raw(",");
        }
        let extra = rows.extra(i).map(extras).unwrap_or_default();
        let input = extra.get("input").and_then(|input| input.as_str());
        let (instruction, input) = input
            .and_then(|input| Some((question.content.strip_suffix(input)?.strip_suffix('\n')?, input)))
            .unwrap_or((question.content, ""));
        self.field("\"instruction\":", instruction);
        self.field(",\"input\":", input);
        self.field(",\"output\":", answer.content);
        if turns.len() > 2 {
            self.raw(",\"history\":[");
            for (n, pair) in turns[..turns.len() - 2].chunks(2).enumerate() {
                self.raw(if n > 0 { ",[" } else { "[" });
                self.string(pair[0].content);
                self.field(",", pair[1].content);
                self.raw("]");
            }
            self.raw("]");
        }
        if let Some(tools) = rows.tools(i) {
            self.field(",\"tools\":", tools);
        }
        if turns.iter().any(|turn| turn.name.is_some()) {
            self.lose("names of turns");
        }
        if turns.iter().any(|turn| turn.tool_calls.is_some()) {
            self.lose("calls of tools");
        }
        if turns.iter().any(|turn| turn.weight.is_some()) {
            self.lose("weights of turns");
        }
        self.end(rows, i);
        Ok(())
    }
}

fn extras(json: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(json).unwrap_or_default()
}
