//! Everything that a notebook sees: HTML tables, escaping, the mime bundle, progress.
//!
//! This is the only file of the library that prints. evcxr reads a cell's standard output line by
//! line and takes a line that holds `EVCXR_BEGIN_CONTENT` for the start of rich output, so text
//! that comes from data or from a model goes through [`neutral`] or [`escape`] first.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const BEGIN: &str = "EVCXR_BEGIN_CONTENT";
const END: &str = "EVCXR_END_CONTENT";

/// What a value looks like in a notebook: HTML, and the same as plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// A fragment of HTML in which everything that comes from outside is escaped.
    pub html: String,
    /// The plain twin, for terminals and for notebooks read as text.
    pub text: String,
}

impl Bundle {
    /// One block for each mime type, as evcxr's protocol wants it.
    fn print(&self) {
        let mut out = String::new();
        for (mime, body) in [("text/html", &self.html), ("text/plain", &self.text)] {
            let _ = write!(out, "{BEGIN} {mime}\n{}\n{END}\n", neutral(body));
        }
        let mut stdout = std::io::stdout().lock();
        // A notebook that went away is no reason to fail a computation.
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// Something that a notebook can show.
pub trait Show {
    /// HTML and text of this value.
    fn show(&self) -> Bundle;
}

/// Gives every [`Show`] the method that evcxr calls on the last expression of a cell.
///
/// In the prelude; not meant to be called by hand.
pub trait EvcxrDisplay {
    /// Prints the value as evcxr's mime bundle.
    fn evcxr_display(&self);
}

impl<T: Show + ?Sized> EvcxrDisplay for T {
    fn evcxr_display(&self) {
        self.show().print();
    }
}

/// An answer in words: a model's output, a status line. Shows as text, not as a quoted string.
///
/// # Examples
/// ```
/// use lorascope::display::{Show, Text};
///
/// let text = Text::new("3 < 5");
/// assert_eq!(text.as_str(), "3 < 5");
/// assert!(text.show().html.contains("3 &lt; 5"));
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Show for Text {
    fn show(&self) -> Bundle {
        Bundle {
            html: format!("<div style=\"white-space:pre-wrap;max-width:60em\">{}</div>", escape(&self.0)),
            text: neutral(&self.0),
        }
    }
}

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
#[derive(Debug, Clone)]
pub struct Table {
    caption: String,
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

/// Characters of one cell that a table shows; the rest is an ellipsis.
const CELL: usize = 240;
/// Characters of one cell in the plain twin.
const PLAIN_CELL: usize = 40;

impl Table {
    /// An empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        Self {
            caption: String::new(),
            columns: columns.into_iter().map(|(name, align)| (name.to_string(), align)).collect(),
            rows: Vec::new(),
        }
    }

    /// Sets the line above the table.
    #[must_use]
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = caption.into();
        self
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
        let style = |align: Align| match align {
            Align::Left => "text-align:left;white-space:pre-wrap;overflow-wrap:anywhere",
            Align::Right => "text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums",
        };
        const RULE: &str =
            "padding:0.25em 0.7em;vertical-align:top;border-bottom:1px solid rgba(128,128,128,0.35)";
        out.push_str("<thead><tr>");
        for (name, align) in &self.columns {
            let _ = write!(out, "<th style=\"{RULE};{}\">{}</th>", style(*align), escape(name));
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for (cell, (_, align)) in row.iter().zip(&self.columns) {
                let _ =
                    write!(out, "<td style=\"{RULE};{}\">{}</td>", style(*align), escape(&cut(cell, CELL)));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>");
        out
    }

    fn text(&self) -> String {
        let plain = |cell: &str| neutral(&cut(&cell.replace(['\n', '\r'], "⏎"), PLAIN_CELL));
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| width(name)).collect();
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
        for row in &rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(width(cell));
            }
        }
        let line = |cells: Vec<&str>| {
            let mut out = String::new();
            for ((cell, w), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                let pad = " ".repeat(w - width(cell));
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
        out += &line(self.columns.iter().map(|(name, _)| name.as_str()).collect());
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

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

/// Rows of a data frame that are shown from its head, and as many from its tail.
const HEAD: usize = 5;

impl Show for polars::frame::DataFrame {
    fn show(&self) -> Bundle {
        use polars::prelude::DataType;
        let columns = self.columns();
        let named: Vec<(String, Align)> = columns
            .iter()
            .map(|column| {
                let align = if column.dtype().is_primitive_numeric() { Align::Right } else { Align::Left };
                (format!("{}\n{}", column.name(), column.dtype()), align)
            })
            .collect();
        let height = self.height();
        let mut table = Table::new(named.iter().map(|(name, align)| (name.as_str(), *align)))
            .caption(format!("{} rows × {} columns", thousands(height as u64), columns.len()));
        let all = height <= 2 * HEAD;
        let head = if all { height } else { HEAD };
        let cell = |row: usize| {
            columns.iter().map(move |column| match column.get(row) {
                Ok(value) if matches!(column.dtype(), DataType::String) => {
                    value.get_str().map_or_else(|| "null".to_string(), str::to_string)
                }
                Ok(value) => value.to_string(),
                Err(_) => String::new(),
            })
        };
        for row in 0..head {
            table.row(cell(row));
        }
        if !all {
            table.row(columns.iter().map(|_| "…"));
            for row in height - HEAD..height {
                table.row(cell(row));
            }
        }
        table.show()
    }
}

impl Show for polars::prelude::LazyFrame {
    fn show(&self) -> Bundle {
        match self.clone().collect() {
            Ok(frame) => frame.show(),
            Err(error) => Text::new(crate::error::Error::from(error).to_string()).show(),
        }
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> Bundle {
        side_by_side(self.iter().map(Show::show))
    }
}

macro_rules! show_tuple {
    ($($name:ident)+) => {
        impl<$($name: Show),+> Show for ($($name,)+) {
            #[allow(non_snake_case)]
            fn show(&self) -> Bundle {
                let ($($name,)+) = self;
                side_by_side([$($name.show()),+])
            }
        }
    };
}
show_tuple!(A B);
show_tuple!(A B C);
show_tuple!(A B C D);

fn side_by_side(bundles: impl IntoIterator<Item = Bundle>) -> Bundle {
    let mut html =
        String::from("<div style=\"display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start\">");
    let mut texts = Vec::new();
    for bundle in bundles {
        let _ = write!(html, "<div>{}</div>", bundle.html);
        texts.push(bundle.text);
    }
    html.push_str("</div>");
    Bundle { html, text: texts.join("\n") }
}

/// Escapes a string for HTML text and for attribute values in double or single quotes.
///
/// ```
/// assert_eq!(lorascope::display::escape("<b a='1'>&\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
/// ```
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\r' => out.push('\n'),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    neutral(&out)
}

/// Breaks evcxr's output markers in a text with a zero-width joiner: it looks the same, and a
/// notebook no longer takes it for the begin or the end of rich output.
///
/// ```
/// let text = lorascope::display::neutral("EVCXR_END_CONTENT");
/// assert!(!text.contains("EVCXR_END_CONTENT"));
/// assert_eq!(text.replace('\u{2060}', ""), "EVCXR_END_CONTENT");
/// ```
pub fn neutral(text: &str) -> String {
    if text.contains("EVCXR_") { text.replace("EVCXR_", "EVCXR\u{2060}_") } else { text.to_string() }
}

/// The first `limit` characters, and an ellipsis when there are more.
///
/// ```
/// assert_eq!(lorascope::display::cut("一二三四", 3), "一二三…");
/// assert_eq!(lorascope::display::cut("一二三", 3), "一二三");
/// ```
pub fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// A whole number with a comma every three digits.
///
/// ```
/// assert_eq!(lorascope::display::thousands(1234567), "1,234,567");
/// ```
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the decimal unit that fits.
///
/// ```
/// assert_eq!(lorascope::display::bytes(98_362_432), "98.4 MB");
/// ```
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].iter();
    let mut unit = units.next();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or("B");
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

/// A time span as a person says it.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(lorascope::display::duration(Duration::from_millis(340)), "340 ms");
/// assert_eq!(lorascope::display::duration(Duration::from_secs(75)), "1 min 15 s");
/// ```
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Columns that a text takes in a fixed-width font: two for the wide scripts of East Asia.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0x2060 | 0x200b..=0x200d | 0x0300..=0x036f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Progress of long work: a bar in a terminal, a line every few seconds elsewhere (the stock
/// kernel passes whole lines only). Shows nothing for work that ends within a second.
///
/// # Examples
/// ```
/// let mut progress = lorascope::display::Progress::new("reading", 2);
/// progress.advance(1, "row 1");
/// progress.advance(1, "row 2");
/// assert_eq!(progress.done(), 2);
/// ```
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    done: u64,
    begun: Instant,
    last: Instant,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Begins work of `total` units.
    pub fn new(label: impl Into<String>, total: u64) -> Self {
        let now = Instant::now();
        Self {
            label: label.into(),
            total,
            done: 0,
            begun: now,
            last: now,
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Units done so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Reports `units` more as done, with a word on the latest.
    pub fn advance(&mut self, units: u64, note: &str) {
        self.done += units;
        let every = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(3) };
        if self.begun.elapsed() > Duration::from_secs(1) && self.last.elapsed() >= every {
            self.print(note);
        }
    }

    fn print(&mut self, note: &str) {
        self.last = Instant::now();
        self.shown = true;
        let spent = self.begun.elapsed();
        let left = match self.done {
            0 => String::new(),
            done => {
                let rest = spent.mul_f64(self.total.saturating_sub(done) as f64 / done as f64);
                format!(", {} left", duration(rest))
            }
        };
        let line = format!(
            "{} {}/{} {}{left}",
            self.label,
            thousands(self.done),
            thousands(self.total),
            neutral(&cut(&note.replace(['\n', '\r'], " "), 80)),
        );
        if self.terminal {
            const WIDTH: usize = 24;
            let filled =
                (WIDTH as u64 * self.done).checked_div(self.total).unwrap_or(0).min(WIDTH as u64) as usize;
            let bar = format!("{}{}", "█".repeat(filled), "░".repeat(WIDTH - filled));
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{bar} {line}");
        } else {
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}
