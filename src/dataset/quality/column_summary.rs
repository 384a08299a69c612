//! The columns of a file: their types, nulls, distinct and commonest values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use polars::prelude::PlHashMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::dataset::Dataset;
use crate::dataset::table::Rows;
use crate::display::cut;
use crate::error::Result;
use crate::format::record::{CARRY, Node, Value};
use crate::format::schema::mark;

/// A column: `id`, `system`, `tools` or `label` of the canonical table, or a key of the file that no
/// schema knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Rows that have a value.
    pub rows: u64,
    /// Rows in which it is null.
    pub nulls: u64,
    /// Rows that do not have it.
    pub absent: u64,
    /// Values by type: text, number, true or false, list, object.
    pub types: BTreeMap<String, u64>,
    /// Different values.
    pub distinct: u64,
    /// The commonest values, at most five, and how often they occur; none where all are different.
    pub top: Vec<(String, u64)>,
    /// What the numbers are, where there are some.
    pub numbers: Option<Numbers>,
}

/// A distribution of numbers; the median by the nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// How many there are.
    pub count: u64,
    /// The least.
    pub min: f64,
    /// One of ten is at most this.
    pub p10: f64,
    /// The median.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Numbers {
    /// `None` without finite numbers.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { count: values.len() as u64, min, p10: rank(10), p50: rank(50), p90: rank(90), max, mean })
    }
}

/// Commonest values that a column shows.
const TOP: usize = 5;
/// Characters of a value that are shown.
const SHOWN: usize = 60;
/// Keys that are looked at: a file with a key of its own in each row has too many to show.
const COLUMNS: usize = 200;
const TYPES: [&str; 5] = ["text", "number", "true or false", "list", "object"];

/// What some rows have in one column.
#[derive(Default)]
struct Column {
    nulls: u64,
    types: [u64; TYPES.len()],
    /// By the hash of a value: how often it occurs, and the first row that has it.
    values: PlHashMap<u64, (u32, u32)>,
    numbers: Vec<f64>,
}

/// The columns of some rows.
#[derive(Default)]
pub(super) struct Columns {
    columns: BTreeMap<String, Column>,
    /// By the keys of two scores: how much the chosen answer's is above the rejected one's.
    pub margins: BTreeMap<(String, String), Vec<f64>>,
}

impl Columns {
    /// Looks at row `i` of a table, which is `row` in the dataset.
    pub fn look(&mut self, rows: Rows<'_>, i: usize, row: u32) {
        let label = rows.label(i).map(|label| if label { "true" } else { "false" });
        let canonical = [
            ("id", 0, rows.given(i).then(|| rows.id(i))),
            ("system", 0, rows.system(i)),
            ("tools", 0, rows.tools(i)),
            ("label", 2, label),
        ];
        for (name, kind, value) in canonical {
            if let (Some(value), Some(column)) = (value, value.and_then(|_| self.column(name))) {
                column.add(kind, value, row);
            }
        }
        let Some(extra) = rows.extra(i) else { return };
        let Ok(node) = Node::parse_own(extra) else { return };
        let Some(keys) = node.object() else { return };
        // A canonical value was counted above.
        let counted = |key: &str| canonical.iter().any(|(name, _, value)| *name == key && value.is_some());
        for (key, value) in kept(&node).filter(|(key, _)| !counted(key)) {
            if let Some(column) = self.column(key) {
                column.value(value, row);
            }
        }
        for (key, value) in keys.iter().filter(|(key, _)| key != CARRY && !counted(key)) {
            let Some(column) = self.column(key) else { continue };
            column.value(value, row);
            if let Some(chosen) = number(value)
                && let Some(other) = counterpart(key)
                && let Some(rejected) = node.get(&other).and_then(number)
            {
                self.margins.entry((key.to_string(), other)).or_default().push(chosen - rejected);
            }
        }
    }

    fn column(&mut self, name: &str) -> Option<&mut Column> {
        if !self.columns.contains_key(name) {
            if self.columns.len() >= COLUMNS {
                return None;
            }
            self.columns.insert(name.to_string(), Column::default());
        }
        self.columns.get_mut(name)
    }

    /// Adds what later rows have.
    pub fn add(&mut self, later: Self) {
        for (name, later) in later.columns {
            let Some(column) = self.column(&name) else { continue };
            column.nulls += later.nulls;
            column.types.iter_mut().zip(later.types).for_each(|(all, more)| *all += more);
            column.numbers.extend(later.numbers);
            for (hash, (count, first)) in later.values {
                column.values.entry(hash).or_insert((0, first)).0 += count;
            }
        }
        for (keys, margins) in later.margins {
            self.margins.entry(keys).or_default().extend(margins);
        }
    }

    /// The columns in the order of their names, the canonical ones first.
    pub fn told(self, data: &Dataset) -> Result<Vec<ColumnSummary>> {
        let all = data.len() as u64;
        let mut told = Vec::with_capacity(self.columns.len());
        for (name, column) in self.columns {
            let rows: u64 = column.types.iter().sum();
            let mut top: Vec<(u64, u32, u32)> =
                column.values.iter().map(|(&hash, &(count, first))| (hash, count, first)).collect();
            let distinct = top.len() as u64;
            top.retain(|(_, count, _)| *count > 1);
            top.sort_unstable_by_key(|&(hash, count, first)| (std::cmp::Reverse(count), first, hash));
            top.truncate(TOP);
            let types = TYPES.iter().zip(column.types).filter(|(_, count)| *count > 0);
            told.push(ColumnSummary {
                top: values(data, &name, &top)?,
                rows,
                nulls: column.nulls,
                absent: all.saturating_sub(rows + column.nulls),
                types: types.map(|(name, count)| (name.to_string(), count)).collect(),
                distinct,
                numbers: Numbers::of(column.numbers),
                name,
            });
        }
        told.sort_by_key(|column| !CANONICAL.contains(&column.name.as_str()));
        Ok(told)
    }
}

const CANONICAL: [&str; 4] = ["id", "system", "tools", "label"];

impl Column {
    fn value(&mut self, value: &Node<'_>, row: u32) {
        match &value.value {
            Value::Null => self.nulls += 1,
            Value::String(text) => self.add(0, text, row),
            Value::Number => {
                self.numbers.extend(number(value));
                self.add(1, value.raw, row);
            }
            Value::Bool(_) => self.add(2, value.raw, row),
            Value::Array(_) => self.add(3, value.raw, row),
            Value::Object(_) => self.add(4, value.raw, row),
        }
    }

    fn add(&mut self, kind: usize, value: &str, row: u32) {
        self.types[kind] += 1;
        self.values.entry(xxh3_64(value.as_bytes())).or_insert((0, row)).0 += 1;
    }
}

/// What a row's layout keeps of its columns: a weight that was read as one, a canonical value that says
/// nothing.
fn kept<'n, 'a>(extra: &'n Node<'a>) -> impl Iterator<Item = (&'n str, &'n Node<'a>)> {
    let keys = extra.get(CARRY).and_then(|carry| carry.get("keys")).and_then(Node::array);
    keys.into_iter().flatten().filter_map(|key| {
        let [key, shape] = key.array()? else { return None };
        let key = key.str().filter(|key| CANONICAL.contains(key) || mark(key).is_some())?;
        Some((key, shape.get("=")?))
    })
}

/// The values of a column in the rows that have them first, with how often they occur.
fn values(data: &Dataset, name: &str, top: &[(u64, u32, u32)]) -> Result<Vec<(String, u64)>> {
    let mut wanted: Vec<u32> = top.iter().map(|(_, _, first)| *first).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let shown = data.holding(&wanted, |rows, first, wanted| {
        Ok(wanted.iter().map(|&row| (row, shown(rows, row as usize - first, name))).collect::<Vec<_>>())
    })?;
    let shown: BTreeMap<u32, String> = shown.into_iter().flatten().collect();
    let value =
        |&(_, count, first): &(u64, u32, u32)| (shown.get(&first).cloned().unwrap_or_default(), count.into());
    Ok(top.iter().map(value).collect())
}

/// What row `i` has in a column.
fn shown(rows: Rows<'_>, i: usize, name: &str) -> String {
    let known = match name {
        "id" if rows.given(i) => Some(rows.id(i)),
        "system" => rows.system(i),
        "tools" => rows.tools(i),
        "label" => rows.label(i).map(|label| if label { "true" } else { "false" }),
        _ => None,
    };
    let line = |text: &str| cut(&text.replace(['\n', '\r', '\t'], " "), SHOWN);
    if let Some(known) = known {
        return line(known);
    }
    let node = rows.extra(i).and_then(|extra| Node::parse_own(extra).ok());
    let of = |node| {
        Node::get(node, name).or_else(|| kept(node).find(|(key, _)| *key == name).map(|(_, value)| value))
    };
    let value = node.as_ref().and_then(of);
    value.map_or_else(String::new, |value| line(value.str().unwrap_or(value.raw)))
}

/// A number, also one that is written as a text.
fn number(node: &Node<'_>) -> Option<f64> {
    match &node.value {
        Value::Number => node.raw.parse().ok(),
        Value::String(text) if text.len() < 25 => {
            text.trim().parse().ok().filter(|value: &f64| value.is_finite())
        }
        _ => None,
    }
}

/// The key of the rejected answer's score, where this is the chosen one's: `score_chosen`,
/// `chosen-rating`.
fn counterpart(key: &str) -> Option<String> {
    for (chosen, rejected) in [("chosen", "rejected"), ("Chosen", "Rejected"), ("CHOSEN", "REJECTED")] {
        if key.contains(chosen) {
            return Some(key.replace(chosen, rejected));
        }
    }
    None
}

/// The names of tools in JSON: of a list of tools, or of calls.
pub(super) fn tool_names(json: &str) -> Vec<Cow<'_, str>> {
    let Ok(node) = Node::parse(json) else { return Vec::new() };
    let inner = node.str().map(str::to_string);
    match inner {
        // A list that was written as a text.
        Some(text) => tool_names(&text).into_iter().map(|name| Cow::Owned(name.into_owned())).collect(),
        None => {
            let one = std::slice::from_ref(&node);
            let nodes = node.array().unwrap_or(one);
            let name = |node: &Node<'_>| {
                let place = node.get("function").filter(|inner| inner.object().is_some()).unwrap_or(node);
                place.get("name").and_then(Node::str).map(|name| Cow::Owned(name.to_string()))
            };
            nodes.iter().filter_map(name).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tools_in_all_shapes() {
        let names = |json| tool_names(json).into_iter().map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(names(r#"[{"type": "function", "function": {"name": "a"}}, {"name": "b"}]"#), ["a", "b"]);
        assert_eq!(names(r#"{"name": "c", "arguments": "{}"}"#), ["c"]);
        assert_eq!(names(r#""[{\"name\": \"d\"}]""#), ["d"]);
        assert!(names("not JSON").is_empty() && names("[]").is_empty());
    }

    #[test]
    fn scores_have_their_other_side() {
        assert_eq!(counterpart("score_chosen").as_deref(), Some("score_rejected"));
        assert_eq!(counterpart("chosen-rating").as_deref(), Some("rejected-rating"));
        assert_eq!(counterpart("score"), None);
        let numbers = Numbers::of(vec![4.0, 1.0, f64::NAN, 3.0, 2.0]).unwrap();
        assert_eq!((numbers.count, numbers.p50, numbers.mean), (4, 2.0, 2.5));
    }
}
