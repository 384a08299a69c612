//! Columns to inspect and to filter by, and the tables that polars works on.

use std::sync::Arc;

use polars::prelude::*;

use super::Dataset;
use super::counted::Tokens;
use super::quality::language;
use super::source::Source;
use super::table::Rows;
use crate::error::{Error, Result};

/// The columns of the canonical table that are for users.
const CANONICAL: [&str; 12] = [
    "id",
    "line",
    "system",
    "system_extra",
    "messages",
    "tools",
    "text",
    "chosen",
    "rejected",
    "label",
    "source",
    "extra",
];
/// A column that is computed from a row alone.
struct Flat {
    name: &'static str,
    of: fn(Rows<'_>) -> Column,
}

/// The flat columns, in the order of [`Dataset::columns`].
const FLAT: [Flat; 6] = [
    Flat { name: "id", of: |rows| texts("id", rows, |rows, i| rows.id(i)) },
    Flat { name: "line", of: |rows| numbers("line", rows, |rows, i| rows.line(i)) },
    Flat { name: "source", of: |rows| texts("source", rows, |rows, i| rows.source(i)) },
    Flat { name: "turns", of: |rows| numbers("turns", rows, |rows, i| rows.turns(i).len() as u32) },
    Flat { name: "chars", of: |rows| numbers("chars", rows, |rows, i| characters(rows, i) as u32) },
    Flat { name: "lang", of: |rows| texts("lang", rows, |rows, i| lang(rows, i)) },
];
const TEXTS: [Flat; 2] = [
    Flat { name: "first_user", of: |rows| texts("first_user", rows, first_user) },
    Flat { name: "last_answer", of: |rows| texts("last_answer", rows, last_answer) },
];
const TOKENS: [&str; 2] = ["tokens", "answer_tokens"];
/// The number of a row, from 0, as it is called in all tables.
const NUMBER: &str = "row";
/// The same in a query, which may change what it is called.
const ROW: &str = "__row";

fn texts<'a>(name: &str, rows: Rows<'a>, of: impl Fn(Rows<'a>, usize) -> &'a str) -> Column {
    Column::new(name.into(), (0..rows.len()).map(|i| of(rows, i)).collect::<Vec<_>>())
}

fn numbers(name: &str, rows: Rows<'_>, of: impl Fn(Rows<'_>, usize) -> u32) -> Column {
    Column::new(name.into(), (0..rows.len()).map(|i| of(rows, i)).collect::<Vec<_>>())
}

impl Dataset {
    /// Returns the canonical table as a lazy frame: id, line (of the file, from 1), system, system_extra (a JSON object of
    /// what the system's turn has beside its text), messages (a list of role, content, name, tool_calls, weight;
    /// for a preference, its prompt), tools, text (plain text that is not a conversation), chosen and rejected
    /// (lists like messages), label, source (the schema that the row was read from) and extra (a JSON object of
    /// everything else: the keys that no schema knows, and under `lorascope` the row's layout where it differs
    /// from the schema's own).
    ///
    /// A large file is scanned from its Parquet cache, so that only what a query needs is read.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn frame(&self) -> Result<LazyFrame> {
        let of = |source: &Arc<Source>| -> Result<LazyFrame> {
            let full = source.full()?;
            if let Some(path) = full.cached() {
                let path = PlRefPath::try_from_path(path)?;
                return Ok(LazyFrame::scan_parquet(path, ScanArgsParquet::default())?);
            }
            let mut groups = full.groups.iter();
            let Some(first) = groups.next() else { return Ok(LazyFrame::default()) };
            let mut all = first.frame()?.as_ref().clone();
            for group in groups {
                all.vstack_mut(group.frame()?.as_ref())?;
            }
            Ok(all.lazy())
        };
        let frames = self.0.sources.iter().map(of).collect::<Result<Vec<_>>>()?;
        let all = match <[LazyFrame; 1]>::try_from(frames) {
            Ok([one]) => one,
            Err(frames) => concat(frames, UnionArgs::default())?,
        };
        let columns = CANONICAL.map(|name| match &self.0.rows {
            None => col(name),
            Some(rows) => {
                let rows = IdxCa::from_vec("rows".into(), rows.to_vec()).into_series();
                col(name).gather(lit(rows), false)
            }
        });
        Ok(all.select(columns))
    }

    /// Returns one flat row for each conversation: row (its number, from 0), id, line, source, turns, chars, lang,
    /// first_user, last_answer, and with a tokenizer tokens and answer_tokens (those that are trained on).
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end; those of counting tokens.
    pub fn columns(&self) -> Result<DataFrame> {
        let mut columns = self.flat(|_| true)?;
        if self.tokenizer().is_some() {
            columns.splice(5..5, self.token_columns()?);
        }
        columns.insert(0, self.numbered(NUMBER));
        Ok(DataFrame::new(self.len(), columns)?)
    }

    /// Returns one row for each turn: row (the conversation's number), id, turn (from 0; a system text is not
    /// counted), role, content, chars.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn turns(&self) -> Result<DataFrame> {
        let parts = self.pieces(|rows, first| {
            let (mut row, mut turn, mut chars) = (Vec::new(), Vec::new(), Vec::new());
            let (mut id, mut role, mut content) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..rows.len() {
                for (n, said) in rows.turns(i).enumerate() {
                    row.push((first + i) as u32);
                    id.push(rows.id(i));
                    turn.push(n as u32);
                    role.push(said.role);
                    content.push(said.content);
                    chars.push(said.content.chars().count() as u32);
                }
            }
            let columns = vec![
                Column::new("row".into(), &row),
                Column::new("id".into(), id),
                Column::new("turn".into(), turn),
                Column::new("role".into(), role),
                Column::new("content".into(), content),
                Column::new("chars".into(), chars),
            ];
            Ok(DataFrame::new(row.len(), columns)?)
        })?;
        let mut parts = parts.into_iter();
        let Some(mut all) = parts.next() else {
            // The columns of no rows.
            return self.head_of_turns();
        };
        for part in parts {
            all.vstack_mut_owned(part)?;
        }
        all.rechunk_mut_par();
        Ok(all)
    }

    /// Returns the numbers that these rows have among all rows of the files, from 0.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    ///
    /// # Examples
    /// ```
    /// use lorascope::dataset::Dataset;
    ///
    /// let data = Dataset::open("datasets/school_math.jsonl")?;
    /// assert_eq!(data.slice(3, 2)?.row_numbers()?, [3, 4]);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn row_numbers(&self) -> Result<Vec<usize>> {
        let all = self.store()?.len();
        Ok(match &self.0.rows {
            Some(rows) => rows.iter().map(|row| *row as usize).collect(),
            None => (0..all).collect(),
        })
    }

    fn head_of_turns(&self) -> Result<DataFrame> {
        let text = DataType::String;
        let number = DataType::UInt32;
        let columns = [
            ("row", &number),
            ("id", &text),
            ("turn", &number),
            ("role", &text),
            ("content", &text),
            ("chars", &number),
        ];
        let columns = columns.map(|(name, of)| Column::new_empty(name.into(), of));
        Ok(DataFrame::new(0, columns.to_vec())?)
    }

    /// The numbers of the rows under a name.
    fn numbered(&self, name: &str) -> Column {
        Column::new(name.into(), (0..self.len() as u32).collect::<Vec<_>>())
    }

    /// Those flat columns whose names are wanted.
    fn flat(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Column>> {
        let wanted: Vec<&Flat> = FLAT.iter().chain(&TEXTS).filter(|flat| wanted(flat.name)).collect();
        let parts =
            self.pieces(|rows, _| Ok(wanted.iter().map(|flat| (flat.of)(rows)).collect::<Vec<_>>()))?;
        let mut parts = parts.into_iter();
        let mut all = match parts.next() {
            Some(first) => first,
            None => {
                let of = |flat: &&Flat| match flat.name {
                    "line" | "turns" | "chars" => Column::new_empty(flat.name.into(), &DataType::UInt32),
                    name => Column::new_empty(name.into(), &DataType::String),
                };
                wanted.iter().map(of).collect()
            }
        };
        for part in parts {
            for (all, part) in all.iter_mut().zip(part) {
                all.append_owned(part)?;
            }
        }
        Ok(all.into_iter().map(|column| column.rechunk()).collect())
    }

    fn token_columns(&self) -> Result<[Column; 2]> {
        let tokens = self.tokens()?;
        let column = |name: &str, of: fn(&Tokens) -> u32| {
            Column::new(
                name.into(),
                tokens.iter().map(|counted| counted.as_ref().ok().map(of)).collect::<Vec<_>>(),
            )
        };
        Ok([column(TOKENS[0], |count| count.all), column(TOKENS[1], |count| count.trained)])
    }

    /// The numbers of the rows that a query leaves, in its order. The query is given a table of the
    /// columns that `expr` names.
    pub(super) fn evaluate(
        &self,
        expr: Expr,
        query: impl FnOnce(LazyFrame) -> LazyFrame,
    ) -> Result<Vec<u32>> {
        let mut names: Vec<String> = Vec::new();
        let mut any = false;
        for part in &expr {
            match part {
                Expr::Column(name) => names.push(name.to_string()),
                // Columns by type or by pattern.
                Expr::Selector(_) => any = true,
                _ => {}
            }
        }
        let named = |name: &str| any || names.iter().any(|wanted| wanted == name);
        let flats = || FLAT.iter().chain(&TEXTS).map(|flat| flat.name);
        let canonical = || CANONICAL.into_iter().skip(2).filter(|name| *name != "source");
        let all = || [NUMBER].into_iter().chain(flats()).chain(TOKENS).chain(canonical());
        if let Some(name) = names.iter().find(|name| !all().any(|known| known == *name)) {
            return Err(Error::input(format_args!("no column is called {name:?}"))
                .help(format_args!("the columns are {}", all().collect::<Vec<_>>().join(", "))));
        }
        let mut columns = self.flat(named)?;
        if TOKENS.iter().any(|name| named(name)) && (self.tokenizer().is_some() || !any) {
            columns.extend(self.token_columns()?);
        }
        let known = |name: &str| FLAT.iter().any(|flat| flat.name == name);
        let canonical: Vec<Expr> =
            CANONICAL.iter().filter(|name| named(name) && !known(name)).map(|name| col(*name)).collect();
        if !canonical.is_empty() {
            columns.extend(self.frame()?.select(canonical).collect()?.into_columns());
        }
        if named(NUMBER) {
            columns.push(self.numbered(NUMBER));
        }
        columns.push(self.numbered(ROW));
        let frame = DataFrame::new(self.len(), columns)?.lazy();
        let rows = query(frame).select([col(ROW)]).collect().map_err(|e| {
            Error::input(format_args!("the expression cannot be used: {e}"))
                .help("see columns() and frame() for the columns and their types")
        })?;
        Ok(rows.column(ROW)?.u32()?.into_no_null_iter().collect())
    }
}

/// The language of the first user text and the last answer.
pub(super) fn lang(rows: Rows<'_>, i: usize) -> &'static str {
    let texts = [first_user(rows, i), last_answer(rows, i), rows.text(i).unwrap_or_default()];
    // A text of too few letters to tell leaves it to the next.
    texts.into_iter().map(language::of).find(|code| *code != "und").unwrap_or("und")
}

/// Characters of a row: its system text and all turns, or its plain text.
pub(super) fn characters(rows: Rows<'_>, i: usize) -> usize {
    let alone = [rows.system(i), rows.text(i)].into_iter().flatten();
    alone.map(|text| text.chars().count()).sum::<usize>()
        + rows.turns(i).map(|turn| turn.content.chars().count()).sum::<usize>()
}

pub(super) fn first_user(rows: Rows<'_>, i: usize) -> &str {
    rows.turns(i).find(|turn| turn.role == "user").map_or("", |turn| turn.content)
}

pub(super) fn last_answer(rows: Rows<'_>, i: usize) -> &str {
    rows.turns(i).rfind(|turn| turn.role == "assistant").map_or("", |turn| turn.content)
}
