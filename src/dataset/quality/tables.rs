//! The tables of a report.

use super::column_summary::Numbers;
use super::duplicates::Duplicates;
use super::lengths::{LengthSpread, LengthSummary, Unit, share};
use super::places::Places;
use super::report::Report;
use super::row_briefs::RowBrief;
use crate::display::{Align, Bundle, Show, Table, Text, cut, thousands};

use Align::{Left, Right};

/// Lines of a problem that are shown.
const LINES: usize = 5;
/// Columns of a file that are shown; the report as JSON has them all.
const COLUMNS: usize = 40;

impl Report {
    pub(super) fn lengths(&self) -> Table {
        let mut table = table(&["", "count", "mean", "least", "p10", "p50", "p90", "p99", "most", "in all"]);
        let mut add = |name: String, count: u64, l: &LengthSummary| {
            let whole = [l.min, l.p10, l.p50, l.p90, l.p99, l.max, l.total].map(thousands);
            table.row([name, thousands(count), format!("{:.1}", l.mean)].into_iter().chain(whole));
        };
        add("turns of a row".into(), self.rows, &self.turns);
        if self.unit == Unit::Tokens {
            add("characters of a row".into(), self.rows, &self.characters);
        }
        for spread in &self.spreads {
            add(format!("{} of {}", spread.unit.name(), described(spread)), spread.count, &spread.lengths);
        }
        table
    }

    pub(super) fn kinds(&self) -> Table {
        let mut table = table(&["", "count", "share"]);
        let turns: u64 = self.roles.values().sum();
        let mut add = |name: String, count: u64, of: u64| {
            table.row([name, thousands(count), percent(share(count, of))]);
        };
        for (role, count) in &self.roles {
            let name = match role.as_str() {
                "system" => "system texts".to_string(),
                "text" => "plain texts".to_string(),
                "rejected" => "turns of rejected answers".to_string(),
                role => format!("turns of {role}"),
            };
            add(name, *count, turns);
        }
        for (source, count) in &self.sources {
            add(format!("rows of {source}"), *count, self.rows);
        }
        for (code, count) in &self.languages {
            let name = if code == "und" {
                "rows whose language is unknown".into()
            } else {
                format!("rows in {code}")
            };
            add(name, *count, self.rows);
        }
        if let Some(labels) = self.labels {
            add("rows labelled good".into(), labels.good, labels.good + labels.bad);
            add("rows labelled bad".into(), labels.bad, labels.good + labels.bad);
        }
        table
    }

    pub(super) fn contexts(&self) -> Option<Table> {
        let unit = self.unit.name();
        let left_out = format!("{unit} left out");
        let mut table = table(&["context", "rows left out", "share", &left_out, "share of all"])
            .caption(format!("in {unit}; a row that is longer than the context is left out whole, not cut"));
        for cut in &self.contexts {
            table.row([
                thousands(cut.context),
                thousands(cut.rows),
                percent(cut.rows_share),
                thousands(cut.left_out),
                percent(cut.left_out_share),
            ]);
        }
        (!table.is_empty()).then_some(table)
    }

    pub(super) fn packed(&self) -> Option<Table> {
        let packing = &self.packing;
        let mut table = table(&["", "computed", "of it padding", "times packed"]).caption(format!(
            "{} rows of at most {} {}, batches in the order of the file",
            thousands(packing.rows),
            thousands(packing.context),
            self.unit.name()
        ));
        for padding in &packing.paddings {
            table.row([
                format!("padded, batch {}", padding.batch),
                thousands(padding.computed),
                percent(padding.waste),
                format!("{:.2}", padding.gain),
            ]);
        }
        let name = format!("packed into {} sequences", thousands(packing.sequences));
        table.row([name, thousands(packing.computed), percent(packing.waste), "1.00".to_string()]);
        (packing.rows > 0).then_some(table)
    }

    pub(super) fn beginnings(&self) -> Option<Table> {
        let mut table = Table::new([("an answer begins", Left), ("count", Right), ("share", Right)]);
        for opening in &self.openings {
            table.row([opening.text.clone(), thousands(opening.count), percent(opening.share)]);
        }
        (!table.is_empty()).then_some(table)
    }

    pub(super) fn faults(&self) -> Bundle {
        if self.problems.is_empty() {
            return Text::new("no problems").show();
        }
        let mut table = Table::new([
            ("problem", Left),
            ("rows", Right),
            ("", Left),
            ("first lines", Left),
            ("the first of them", Left),
            ("what to do", Left),
        ]);
        for problem in &self.problems {
            // A folder that is not read is none of the files.
            let others = problem.places.iter().any(|places| !self.files.contains(&places.file));
            table.row([
                problem.kind.name().to_string(),
                thousands(problem.count),
                problem.outcome.name().to_string(),
                Places::first(&problem.places, LINES, others || self.files.len() > 1),
                cut(&problem.example, 160),
                problem.kind.fix().to_string(),
            ]);
        }
        table.show()
    }

    /// The columns of the file.
    pub(super) fn column_table(&self) -> Option<Table> {
        let mut table = Table::new([
            ("column", Left),
            ("type", Left),
            ("rows", Right),
            ("null", Right),
            ("absent", Right),
            ("distinct", Right),
            ("numbers", Left),
            ("commonest values", Left),
        ]);
        for column in self.columns.iter().take(COLUMNS) {
            let types: Vec<String> = match column.types.len() {
                1 => column.types.keys().cloned().collect(),
                _ => {
                    column.types.iter().map(|(name, count)| format!("{name} {}", thousands(*count))).collect()
                }
            };
            let top: Vec<String> =
                column.top.iter().map(|(value, count)| format!("{value} ({})", thousands(*count))).collect();
            table.row([
                column.name.clone(),
                types.join(", "),
                thousands(column.rows),
                thousands(column.nulls),
                thousands(column.absent),
                thousands(column.distinct),
                column.numbers.as_ref().map_or_else(String::new, spread),
                top.join(", "),
            ]);
        }
        let more = self.columns.len().saturating_sub(COLUMNS);
        let table = if more > 0 { table.caption(format!("and {more} more columns")) } else { table };
        (!table.is_empty()).then_some(table)
    }

    /// The answers that many prompts share.
    pub(super) fn shared(&self) -> Option<Table> {
        let mut table =
            Table::new([("prompts", Right), ("rows", Right), ("share", Right), ("the answer", Left)]);
        for canned in &self.canned {
            table.row([
                thousands(canned.prompts),
                thousands(canned.rows),
                percent(canned.share),
                canned.text.clone(),
            ]);
        }
        (!table.is_empty()).then_some(table)
    }

    /// How often tools are offered and called.
    pub(super) fn tool_tables(&self) -> Vec<Bundle> {
        let Some(tools) = &self.tools else { return Vec::new() };
        let mut counts = table(&["", "count", "share"]);
        for (name, count) in
            [("rows that offer tools", tools.offering), ("rows that call one", tools.calling)]
        {
            counts.row([name.to_string(), thousands(count), percent(share(count, self.rows))]);
        }
        for (name, count) in [("calls", tools.calls), ("answers of tools", tools.answers)] {
            counts.row([name.to_string(), thousands(count)]);
        }
        let mut names = Table::new([("tool", Left), ("calls", Right), ("rows that offer it", Right)]);
        let offered = |name: &str| tools.offered.iter().find(|(offered, _)| offered == name);
        for (name, calls) in &tools.called {
            let offered = offered(name).map_or_else(String::new, |(_, rows)| thousands(*rows));
            names.row([name.clone(), thousands(*calls), offered]);
        }
        let names = (!names.is_empty()).then(|| names.show());
        [counts.show()].into_iter().chain(names).collect()
    }

    /// The lengths and scores of chosen and rejected answers.
    pub(super) fn pairs(&self) -> Option<Bundle> {
        let pairs = self.preferences.as_ref()?;
        let mut table = table(&["", "mean", "least", "p10", "p50", "p90", "most"]).caption(format!(
            "{} preferences; the chosen answer is the longer one in {}",
            thousands(pairs.rows),
            percent(share(pairs.longer, pairs.rows))
        ));
        let mut add = |name: &str, l: &LengthSummary| {
            let whole = [l.min, l.p10, l.p50, l.p90, l.max].map(thousands);
            table.row([name.to_string(), format!("{:.1}", l.mean)].into_iter().chain(whole));
        };
        add("characters of the chosen answer", &pairs.chosen);
        add("characters of the rejected answer", &pairs.rejected);
        for margin in &pairs.margins {
            let n = &margin.numbers;
            let name = format!(
                "{} less {} ({} at most 0)",
                margin.chosen,
                margin.rejected,
                percent(share(margin.wrong, n.count))
            );
            let numbers = [n.mean, n.min, n.p10, n.p50, n.p90, n.max].map(short);
            table.row([name].into_iter().chain(numbers));
        }
        Some(table.show())
    }

    /// Groups of rows that are alike.
    pub(super) fn clusters(&self, found: &Duplicates) -> Option<Bundle> {
        if found.largest.is_empty() {
            return None;
        }
        let columns = [("rows", Right), ("lines", Left), ("ids", Left), ("the first begins", Left)];
        let shown = match found.largest.len() as u64 {
            shown if shown < found.groups => {
                format!("; these are {shown} of the {} groups", thousands(found.groups))
            }
            _ => String::new(),
        };
        let mut table = Table::new(columns).caption(format!(
            "{} groups of {} rows; keeping the first of each leaves out {}{shown}{}",
            thousands(found.groups),
            thousands(found.rows),
            thousands(found.rows - found.groups),
            if found.similarity < 1.0 { "; shown are those whose rows are not all equal" } else { "" }
        ));
        for cluster in &found.largest {
            let list = |of: &dyn Fn(&RowBrief) -> String| {
                let more = if cluster.size > cluster.rows.len() as u64 { ", …" } else { "" };
                cluster.rows.iter().map(of).collect::<Vec<_>>().join(", ") + more
            };
            table.row([
                thousands(cluster.size),
                list(&|row| match self.files.len() > 1 {
                    true => format!("{}:{}", row.file, row.line),
                    false => row.line.to_string(),
                }),
                list(&|row| cut(&row.id, 40)),
                cluster.rows.first().map_or_else(String::new, |row| row.text.clone()),
            ]);
        }
        Some(table.show())
    }

    /// The shortest or longest rows.
    pub(super) fn extremes(&self, caption: &str, rows: &[RowBrief]) -> Option<Bundle> {
        let several = self.files.len() > 1;
        let file = several.then_some(("file", Left));
        let rest = [("line", Right), ("record", Right), ("row", Right), ("id", Left), ("begins", Left)];
        let columns = [(self.unit.name(), Right)].into_iter().chain(file).chain(rest);
        let mut table = Table::new(columns).caption(caption);
        for row in rows {
            let file = several.then(|| row.file.clone());
            let rest = [
                row.line.to_string(),
                row.record.to_string(),
                row.row.to_string(),
                cut(&row.id, 40),
                row.text.clone(),
            ];
            table.row([thousands(row.length)].into_iter().chain(file).chain(rest));
        }
        (!table.is_empty()).then(|| table.show())
    }
}

/// What a spread is of, in words.
pub(super) fn described(spread: &LengthSpread) -> String {
    match spread.of.as_str() {
        "row" => "a row".to_string(),
        "trained" => "a row, trained on".to_string(),
        "system" => "a system text".to_string(),
        "text" => "a plain text".to_string(),
        "rejected" => "a turn of a rejected answer".to_string(),
        role => format!("a turn of {role}"),
    }
}

/// A table of names and numbers.
fn table(columns: &[&str]) -> Table {
    Table::new(columns.iter().enumerate().map(|(i, name)| (*name, if i == 0 { Left } else { Right })))
}

/// Numbers in words: the least, the median and the greatest.
fn spread(numbers: &Numbers) -> String {
    let [min, median, max] = [numbers.min, numbers.p50, numbers.max].map(short);
    format!("{min} to {max}, median {median}")
}

/// A number with four digits that count.
fn short(number: f64) -> String {
    match number.abs() {
        whole if number.fract() == 0.0 && whole < 1e15 => format!("{number:.0}"),
        small if small < 1e-3 => format!("{number:.1e}"),
        small if small < 10.0 => format!("{number:.3}"),
        _ => format!("{number:.1}"),
    }
}

/// A share as a percentage: one decimal, more below a tenth.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_string(),
        small if small < 0.1 => format!("{small:.3} %"),
        percent => format!("{percent:.1} %"),
    }
}
