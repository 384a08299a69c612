//! Tables.

use super::audience::shows_all;
use super::escaping::{attribute, cut, escape, fitted, in_line, neutral, width};
use super::{Bundle, Show};
use std::fmt::Write as _;

/// How the cells of a [`Table`]'s column are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table: a caption, columns, rows of text that is escaped and cut when it is shown.
///
/// # Examples
/// ```
/// use lorascope::display::{Align, Show, Table};
///
/// let mut table = Table::new([("kind", Align::Left), ("rows", Align::Right)]).caption("faults");
/// table.row(["<broken>", "3"]);
/// let shown = table.show();
/// assert!(shown.html.contains("&lt;broken&gt;"));
/// assert!(shown.text.contains("<broken>"));
/// assert_eq!(table.len(), 1);
/// ```
#[derive(Clone)]
pub struct Table {
    caption: String,
    columns: Vec<Heading>,
    rows: Vec<Vec<String>>,
    cells: Cells,
}

/// What stands above a column.
#[derive(Clone)]
struct Heading {
    name: String,
    /// The type of its values, in small letters; nothing of most tables.
    kind: String,
    align: Align,
}

const RULE: &str = "padding:0.25em 0.7em;vertical-align:top;border-bottom:1px solid rgba(128,128,128,0.35)";
const KIND: &str = "font-weight:normal;font-size:80%;opacity:0.7";

/// How much of a cell is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Cells {
    /// Its beginning, where it is long.
    #[default]
    Cut,
    /// All of it.
    Whole,
    /// One line, of which nothing is broken.
    Line,
}

/// Characters of one cell that a table shows; the rest is an ellipsis.
const CELL: usize = 240;
/// Characters of a cell that is never broken into lines.
const WORD: usize = 20;
/// Columns of a fixed-width font that the one line of a cell takes.
const LINE: usize = 72;
/// Characters of a text that was cut which appear where a pointer rests on it.
const HOVER: usize = 4000;
/// Characters of one cell in the plain twin, but for the last column.
const PLAIN_CELL: usize = 40;

impl Table {
    /// An empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        Self {
            caption: String::new(),
            columns: columns
                .into_iter()
                .map(|(name, align)| Heading { name: name.to_string(), kind: String::new(), align })
                .collect(),
            rows: Vec::new(),
            cells: Cells::Cut,
        }
    }

    /// Sets the line above the table.
    #[must_use]
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = caption.into();
        self
    }

    /// Shows all of each cell, however long it is.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.cells = Cells::Whole;
        self
    }

    /// Shows one line of each cell, and under the name of each column the type of its values.
    pub(super) fn typed(mut self, kinds: impl IntoIterator<Item = String>) -> Self {
        self.cells = Cells::Line;
        self.columns.iter_mut().zip(kinds).for_each(|(column, kind)| column.kind = kind);
        self
    }

    /// The part of a cell that is shown.
    fn cell(&self, cell: &str, most: usize) -> String {
        match self.cells {
            Cells::Whole => cell.to_string(),
            Cells::Cut => cut(cell, most),
            Cells::Line => fitted(&in_line(cell, "⏎"), most),
        }
    }

    /// A cell with its style; of one that was cut the whole text appears where a pointer rests on it.
    fn data(&self, text: &str, align: Align) -> String {
        let shown = self.cell(text, if self.cells == Cells::Line { LINE } else { CELL });
        // Where a notebook is not trusted, `start` is taken away, and what stands before it holds.
        let style = match align {
            Align::Right => "text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums",
            Align::Left if self.cells == Cells::Line => "text-align:left;text-align:start;white-space:pre",
            // A short word stays in one piece; a long text is broken to fit the page, but not into a column of
            // single letters.
            Align::Left if text.chars().count() <= WORD => "text-align:left;text-align:start;white-space:pre",
            Align::Left => {
                "text-align:left;text-align:start;white-space:pre-wrap;overflow-wrap:anywhere;min-width:14em"
            }
        };
        let hover = match shown == in_line(text, "⏎") || shown == text {
            true => String::new(),
            false => format!(" title=\"{}\"", attribute(&cut(text, HOVER))),
        };
        format!("<td dir=\"auto\" style=\"{RULE};{style}\"{hover}>{}</td>", escape(&shown))
    }

    /// Appends one row; missing cells stay empty, cells beyond the columns are dropped.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn html(&self) -> String {
        let mut out = String::from(
            "<div style=\"overflow-x:auto\"><table style=\"border-collapse:collapse;font-size:90%\">",
        );
        if !self.caption.is_empty() {
            let _ = write!(
                out,
                "<caption style=\"caption-side:top;text-align:left;padding:0.3em 0;opacity:0.8\">{}</caption>",
                escape(&self.caption)
            );
        }
        out.push_str("<thead><tr>");
        for Heading { name, kind, align } in &self.columns {
            let side = if *align == Align::Left { "left;text-align:start" } else { "right" };
            let kind = match kind.as_str() {
                "" => String::new(),
                kind => format!("<div style=\"{KIND}\">{}</div>", escape(kind)),
            };
            let _ = write!(
                out,
                "<th dir=\"auto\" style=\"{RULE};text-align:{side};white-space:pre\">{}{kind}</th>",
                escape(&fitted(&in_line(name, " "), LINE))
            );
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for (cell, Heading { align, .. }) in row.iter().zip(&self.columns) {
                out.push_str(&self.data(cell, *align));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>");
        out
    }

    fn text(&self) -> String {
        let all = shows_all();
        // Nothing stands to the right of the last column: it may be as long as in HTML.
        let plain = |cell: &str, last: bool| {
            let cell = in_line(cell, "⏎");
            let most = if last { CELL } else { PLAIN_CELL };
            neutral(&if all { cell } else { self.cell(&cell, most) })
        };
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|h| neutral(in_line(&format!("{} {}", h.name, h.kind), " ").trim()))
            .collect();
        let mut widths: Vec<usize> = names.iter().map(|name| width(name)).collect();
        let last = self.columns.len().saturating_sub(1);
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().enumerate().map(|(i, cell)| plain(cell, i == last)).collect())
            .collect();
        for row in &rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(width(cell).min(PLAIN_CELL));
            }
        }
        let line = |cells: Vec<&str>| {
            let mut out = String::new();
            for ((cell, w), Heading { align, .. }) in cells.iter().zip(&widths).zip(&self.columns) {
                let pad = " ".repeat(w.saturating_sub(width(cell)));
                match align {
                    Align::Left => out += &format!("{cell}{pad}  "),
                    Align::Right => out += &format!("{pad}{cell}  "),
                }
            }
            out.trim_end().to_string() + "\n"
        };
        let mut out = String::new();
        if !self.caption.is_empty() {
            out += &neutral(&self.caption);
            out.push('\n');
        }
        out += &line(names.iter().map(String::as_str).collect());
        for row in &rows {
            out += &line(row.iter().map(String::as_str).collect());
        }
        out
    }
}

impl Show for Table {
    fn show(&self) -> Bundle {
        Bundle { html: self.html(), text: self.text() }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (columns, rows) = (self.columns.len(), self.rows.len());
        write!(f, "Table({}, {columns} columns, {rows} rows)", cut(&self.caption, 160))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}
