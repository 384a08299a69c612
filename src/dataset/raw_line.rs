//! A line of a file exactly as stored, and where its fault is.

use std::path::{Path, PathBuf};

use super::Dataset;
use crate::display::{Bundle, Show, escape, neutral, width};
use crate::error::{Error, Result};
use crate::format::container;
use crate::format::problems::Problem;

/// Characters that are shown on either side of a fault.
const AROUND: usize = 200;

/// A record exactly as stored in its file; returned by [`Dataset::line`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLine {
    /// The file.
    pub path: PathBuf,
    /// The line on which the record begins, from 1.
    pub line: u64,
    /// The record; invalid UTF-8 is replaced by U+FFFD.
    pub text: String,
    /// What is wrong with it, and at which byte of the text where that is known.
    pub faults: Vec<(String, Option<usize>)>,
}

impl Dataset {
    /// Returns the record on line `line` of the file, from 1, exactly as stored, with a caret at its fault:
    /// `data.line(10234)`. For Parquet, the row as JSON.
    ///
    /// # Errors
    /// If no record is on that line; if the dataset is of several files ([`line_of`](Self::line_of)
    /// names one).
    pub fn line(&self, line: u64) -> Result<RawLine> {
        match self.0.sources.as_slice() {
            [one] => self.line_of(&one.path, line),
            several => Err(Error::input(format_args!("these are {} files", several.len()))
                .help("name one of them: data.line_of(path, line)")),
        }
    }

    /// Like [`line`](Self::line), for one file of several.
    ///
    /// # Errors
    /// If the dataset is not of that file, or if no record is on that line.
    pub fn line_of(&self, path: impl AsRef<Path>, line: u64) -> Result<RawLine> {
        let path = path.as_ref();
        let whole = container::absolute(path)?;
        let source = self.0.sources.iter().find(|source| source.path == whole);
        let source = source.ok_or_else(|| Error::input("the dataset is not of this file").path(path))?;
        let none = || Error::input(format_args!("there is no record on line {line}")).path(path);
        let number = u32::try_from(line).map_err(|_| none())?;
        let (bytes, first) =
            container::raw_line(&source.path, source.options.list.as_deref(), number)?.ok_or_else(none)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let last = first + memchr::memchr_iter(b'\n', &bytes).count() as u32;
        let problems = source.full()?.problems()?;
        let here = problems.iter().filter(|p| (first..=last).contains(&p.line));
        let faults = here.map(|p| (format!("{}: {}", p.kind, p.what), place(p, &text, p.line - first)));
        Ok(RawLine { path: source.path.clone(), line: first.into(), faults: faults.collect(), text })
    }
}

/// The byte of the text at which a fault is, as its description says.
fn place(problem: &Problem, text: &str, line: u32) -> Option<usize> {
    let what = problem.what.as_ref();
    let number = |text: &str| -> Option<usize> {
        text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().ok()
    };
    let at = if let Some((_, column)) = what.split_once("at column ") {
        let start: usize = text.split_inclusive('\n').take(line as usize).map(str::len).sum();
        start + number(column)?.checked_sub(1)?
    } else if what.contains("is not UTF-8") {
        text.find(char::REPLACEMENT_CHARACTER)?
    } else {
        // The key that it names: `output`, or conversations[1].
        let key = match what.split('`').nth(1) {
            Some(key) => key,
            None => what.split(['[', ' ', '.']).next()?,
        };
        text.find(&format!("{key:?}"))?
    };
    // A file that ends too early goes wrong after its last character.
    let at = at.min(text.len());
    Some((0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0))
}

impl RawLine {
    /// The text around a fault on one line, and the columns before it; or where the text begins.
    fn around(&self, at: Option<usize>) -> (String, usize) {
        let at = at.unwrap_or(0);
        let (before, after) = self.text.split_at(at);
        let start = before.char_indices().rev().nth(AROUND - 1).map_or(0, |(start, _)| start);
        let end = after.char_indices().nth(AROUND).map_or(after.len(), |(end, _)| end);
        let flat = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let before = format!("{}{}", if start > 0 { "…" } else { "" }, flat(&before[start..]));
        let more = if end < after.len() { "…" } else { "" };
        (format!("{before}{}{more}", flat(&after[..end])), width(&before))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}, line {}", self.path.display(), self.line)];
        if self.faults.is_empty() {
            lines.push(self.around(None).0);
            lines.push("nothing is wrong with it".into());
        }
        let mut shown = None;
        for (what, at) in &self.faults {
            if shown != Some(*at) {
                lines.push(self.around(*at).0);
                shown = Some(*at);
            }
            let caret = at.map_or_else(String::new, |_| format!("{}^ ", " ".repeat(self.around(*at).1)));
            lines.push(format!("{caret}{what}").replace(['\n', '\r'], " "));
        }
        lines
    }
}

impl Show for RawLine {
    fn show(&self) -> Bundle {
        let html = format!(
            "<pre style=\"text-align:left;overflow-x:auto\">{}</pre>",
            escape(&self.lines().join("\n"))
        );
        Bundle { html, text: self.to_string() }
    }
}

impl std::fmt::Display for RawLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&neutral(&self.lines().join("\n")))
    }
}
