//! What was written, what a schema had no place for, and how both are shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::display::{Align, Bundle, Show, Table, Text, brief, bytes, neutral, thousands};
use crate::format::row_schema::RowSchema;

/// A row that a schema cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misfit {
    /// The file that it was read from, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The line of the file that it was read from.
    pub line: u32,
    /// Its id.
    pub id: String,
    /// Why it does not fit.
    pub what: String,
}

/// What [`Dataset::write`](crate::dataset::Dataset::write) wrote.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// What the schema has no place for, and in how many rows it was left out; a key that has none is
    /// named in backticks.
    pub lost: BTreeMap<String, u64>,
    /// Rows that the schema cannot hold.
    pub left_out: u64,
    /// The first hundred of them.
    pub misfits: Vec<Misfit>,
    /// Rows that were left out because their answers are marked as not to be learned (labelled as bad ones,
    /// or of weight 0), which the schema cannot
    /// say: they would be learned as good ones.
    pub labelled_bad: u64,
    /// The lines of the first hundred of them.
    pub bad_lines: Vec<u32>,
    /// The schema that the rows are in.
    pub schema: Option<RowSchema>,
}

/// What a schema has no place for: [`Dataset::losses`](crate::dataset::Dataset::losses).
#[derive(Clone, PartialEq, Eq)]
pub struct Losses {
    /// The schema.
    pub schema: RowSchema,
    /// Rows that were looked at.
    pub rows: u64,
    /// What it has no place for, and in how many rows.
    pub lost: BTreeMap<String, u64>,
    /// Rows that it cannot hold at all.
    pub left_out: u64,
    /// The first hundred of them.
    pub misfits: Vec<Misfit>,
    /// Rows whose answers are marked as not to be learned: they are left out where the schema cannot say so.
    pub labelled_bad: u64,
    /// The lines of the first hundred of them.
    pub bad_lines: Vec<u32>,
    /// Rows that are laid out in another way than they were: order and names of keys, names of roles,
    /// forms of values. Nothing that they say is lost by that.
    pub laid_out: u64,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!(
            "{} rows, {}, written to {}{}",
            thousands(self.rows),
            bytes(self.bytes),
            self.path.display(),
            lines(self)
        );
        f.write_str(&neutral(&text))
    }
}

brief!(Written);

impl Show for Written {
    fn show(&self) -> Bundle {
        Text::new(self.to_string()).show()
    }
}

impl Losses {
    /// Whether the schema has a place for everything.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.left_out == 0 && self.labelled_bad == 0
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

/// What was lost, in words: what, and in how many rows. Keys that are missing in equally many rows stand
/// together.
fn told(lost: &BTreeMap<String, u64>, schema: Option<RowSchema>) -> Vec<(String, u64)> {
    const SHOWN: usize = 12;
    let schema = schema.map_or("the format", RowSchema::name);
    let mut keys: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let mut told = Vec::new();
    for (what, rows) in lost {
        if what.starts_with('`') && !what.contains(" under ") {
            keys.entry(*rows).or_default().push(what);
        } else {
            told.push((what.clone(), *rows));
        }
    }
    for (rows, names) in keys.into_iter().rev() {
        let has = if names.len() == 1 { "has" } else { "have" };
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = names[..names.len().min(SHOWN)].join(", ");
        told.push((format!("{names}{more} {has} no place in {schema}"), rows));
    }
    told
}

/// The lines of rows, in words.
fn on_lines(lines: &[u32], all: u64) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = lines.iter().take(SHOWN).map(u32::to_string).collect();
    let more = if all > shown.len() as u64 { ", …" } else { "" };
    let s = if all == 1 { "" } else { "s" };
    format!("line{s} {}{more}", shown.join(", "))
}

/// What was lost, line by line.
fn lines(written: &Written) -> String {
    let rows = |rows: u64| format!("{} row{}", thousands(rows), if rows == 1 { "" } else { "s" });
    let mut text = String::new();
    for (what, count) in told(&written.lost, written.schema) {
        text += &format!("\nleft out: {what}, in {}", rows(count));
    }
    if written.labelled_bad > 0 {
        text += &format!(
            "\nleft out: {} whose answer is marked as not to be learned ({})",
            rows(written.labelled_bad),
            on_lines(&written.bad_lines, written.labelled_bad)
        );
    }
    if written.left_out > 0 {
        text += &format!("\nleft out: {} that the schema cannot hold", rows(written.left_out));
    }
    for misfit in written.misfits.iter().take(5) {
        text += &format!("\n  {}: {}", misfit.place(), misfit.what);
    }
    text
}

brief!(Losses);

impl Show for Losses {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("lost", Align::Left), ("rows", Align::Right)]).caption(format!(
            "{} · {} rows · {}",
            self.schema,
            thousands(self.rows),
            if self.is_empty() { "nothing is lost" } else { "what has no place" }
        ));
        for (what, rows) in told(&self.lost, Some(self.schema)) {
            table.row([what, thousands(rows)]);
        }
        if self.labelled_bad > 0 {
            let lines = on_lines(&self.bad_lines, self.labelled_bad);
            table.row([
                format!("rows whose answer is marked as not to be learned ({lines})"),
                thousands(self.labelled_bad),
            ]);
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
