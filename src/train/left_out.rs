//! Rows that are not trained on, and why.

use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table, advice, brief, thousands};
use crate::error::Result;
use polars::prelude::{DataFrame, df};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Rows that are shown; the frame has all.
const SHOWN: usize = 30;

/// What rows are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowsFor {
    /// A run learns them.
    #[default]
    Training,
    /// A run is evaluated on them.
    Evaluation,
}

impl RowsFor {
    fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Evaluation => "evaluation",
        }
    }

    /// What is done with them.
    fn done(self) -> &'static str {
        match self {
            Self::Training => "trained on",
            Self::Evaluation => "evaluated on",
        }
    }
}

/// How many rows are used, and how many are left out for which reason. `Display` says it in a line.
///
/// # Examples
/// ```
/// use lorascope::train::LeftOut;
///
/// let left_out = LeftOut { used: 1990, records: 2001, rejected: 1, too_long: 3, refused: 2, labelled_bad: 5, context: 2048, ..LeftOut::default() };
/// assert_eq!(
///     left_out.to_string(),
///     "trained on 1,990 of 2,001 records: 1 rejected by the reader, 3 longer than 2,048 tokens, \
///      2 refused by the chat template, 5 labelled bad"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// What the rows are for.
    pub rows_for: RowsFor,
    /// Rows that are used.
    pub used: usize,
    /// Records that there are: the rows, and those that the reader rejected.
    pub records: usize,
    /// The most tokens of a row.
    pub context: usize,
    /// Rejected by the reader: no rows; [`Dataset::problems`](crate::dataset::Dataset::problems) lists them.
    pub rejected: usize,
    /// Longer than the context.
    pub too_long: usize,
    /// Refused by the chat template.
    pub refused: usize,
    /// Without a token to train on.
    pub untrained: usize,
    /// Labelled bad.
    pub labelled_bad: usize,
    /// Records of the files that the reader rejected, where the rows are a part of the files' rows (a
    /// split, a filter): they belong to no part, and are not among `records`.
    pub rejected_of_files: usize,
}

impl LeftOut {
    /// The number of records that are left out.
    pub fn count(&self) -> usize {
        self.records.saturating_sub(self.used)
    }

    /// Whether all records of the files are used.
    pub fn is_none(&self) -> bool {
        self.count() == 0 && self.rejected_of_files == 0
    }

    /// How many for which reason: `3`, `longer than 2,048 tokens`.
    fn reasons(&self) -> impl Iterator<Item = (String, String)> {
        let longer = format!("longer than {} tokens", thousands(self.context as u64));
        let all = [
            (self.rejected, "rejected by the reader".to_string()),
            (self.too_long, longer),
            (self.refused, "refused by the chat template".to_string()),
            (self.untrained, "without an answer to train on".to_string()),
            (self.labelled_bad, "labelled bad".to_string()),
        ];
        all.into_iter().filter(|(n, _)| *n > 0).map(|(n, why)| (thousands(n as u64), why))
    }

    /// The note on a run's rows, which begins with what to do about it; none where all rows are used.
    pub(crate) fn note(&self) -> Option<String> {
        let longer = (self.too_long > 0).then(|| {
            advice("RunConfig::default().context(n) takes longer rows", "--context N takes longer rows")
        });
        let lists =
            Some(advice("run.left_out() lists what is left out", "")).filter(|lists| !lists.is_empty());
        let said = lists.into_iter().chain(longer).map(str::to_string).chain([self.to_string()]);
        (!self.is_none()).then(|| said.collect::<Vec<_>>().join("; "))
    }

    /// Why no row is left, in words.
    pub(crate) fn nothing(&self) -> String {
        let reasons: Vec<String> = self
            .reasons()
            .map(|(n, why)| format!("{n} {} {why}", if n == "1" { "is" } else { "are" }))
            .collect();
        let records = thousands(self.records as u64);
        format!("no row can be {}: of {records}, {}", self.rows_for.done(), reasons.join(", "))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, records] = [self.used, self.records].map(|n| thousands(n as u64));
        let what = if self.rejected > 0 || self.rejected_of_files == 0 { "records" } else { "rows" };
        match self.count() {
            0 if self.records == 1 => write!(f, "{} the only row", self.rows_for.done())?,
            0 => write!(f, "{} all {records} {what}", self.rows_for.done())?,
            _ => {
                let reasons: Vec<String> = self.reasons().map(|(n, why)| format!("{n} {why}")).collect();
                write!(f, "{} {used} of {records} {what}: {}", self.rows_for.done(), reasons.join(", "))?;
            }
        }
        if self.rejected_of_files > 0 {
            let some = if self.rejected_of_files == 1 { "record" } else { "records" };
            let count = thousands(self.rejected_of_files as u64);
            write!(f, "; the reader rejected {count} {some} of the file")?;
        }
        Ok(())
    }
}

/// Why a row is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The reader rejected the record, for this reason.
    Rejected(String),
    /// It has this many tokens, more than the context.
    TooLong(usize),
    /// The chat template refuses it, in these words.
    Refused(String),
    /// It has no token to train on.
    Untrained,
    /// It is labelled bad.
    LabelledBad,
}

impl Why {
    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected by the reader",
            Self::TooLong(_) => "too long",
            Self::Refused(_) => "refused by the chat template",
            Self::Untrained => "without an answer to train on",
            Self::LabelledBad => "labelled bad",
        }
    }

    /// The details: what is wrong with the record, the template's words, or the number of tokens.
    pub fn details(&self) -> String {
        match self {
            Self::Rejected(what) | Self::Refused(what) => what.clone(),
            Self::TooLong(tokens) => format!("{} tokens", thousands(*tokens as u64)),
            Self::Untrained | Self::LabelledBad => String::new(),
        }
    }
}

/// A row that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLeftOut {
    /// What it was for.
    pub rows_for: RowsFor,
    /// The file that it comes from.
    pub file: PathBuf,
    /// The line there.
    pub line: u64,
    /// Its number in the dataset, from 0; a rejected record has none.
    pub row: Option<usize>,
    /// Why.
    pub why: Why,
}

/// The rows that are left out; shows as a table.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RowsLeftOut {
    /// The counts of the rows to train on and of those to evaluate on.
    pub counts: Vec<LeftOut>,
    /// Each of them.
    pub rows: Vec<RowLeftOut>,
    /// The lists of rows that are not read, in files that hold several: the file, and which, in words.
    pub lists: Vec<(PathBuf, String)>,
    /// The folders and files beside those that are read, and what they are.
    pub not_read: Vec<(PathBuf, String)>,
}

/// The lists of rows that are read neither to train on nor to evaluate on, of the files that these rows are from.
pub(crate) fn lists_not_read(data: &Dataset, eval: Option<&Dataset>) -> Result<Vec<(PathBuf, String)>> {
    let mut lists = data.lists_not_read(eval)?;
    if let Some(eval) = eval {
        let more = eval.lists_not_read(Some(data))?;
        lists.extend(more.into_iter().filter(|list| !lists.contains(list)).collect::<Vec<_>>());
    }
    Ok(lists)
}

impl RowsLeftOut {
    /// Adds those of a dataset, by their numbers; the reader's come first.
    pub(crate) fn add(&mut self, data: &Dataset, counts: LeftOut, left: &[(u32, Why)]) -> Result<()> {
        let rows_for = counts.rows_for;
        for beside in data.not_read()? {
            if !self.not_read.contains(&beside) {
                self.not_read.push(beside);
            }
        }
        if counts.rejected + counts.rejected_of_files > 0 {
            let mut known = BTreeSet::new();
            for row in self.rows.iter().filter(|_| data.is_part()) {
                if let Why::Rejected(what) = &row.why {
                    known.insert((row.file.clone(), row.line, what.clone()));
                }
            }
            let others = data.rejections()?.into_iter();
            let others =
                others.filter(|found| !known.contains(&(found.file.clone(), found.line, found.what.clone())));
            self.rows.extend(others.map(|rejection| RowLeftOut {
                rows_for,
                file: rejection.file,
                line: rejection.line,
                row: None,
                why: Why::Rejected(rejection.what),
            }));
        }
        for (row, why) in left {
            let (file, line) = data.place(*row as usize)?;
            self.rows.push(RowLeftOut { rows_for, file, line, row: Some(*row as usize), why: why.clone() });
        }
        self.counts.push(counts);
        Ok(())
    }

    /// One row for each: rows (training or evaluation), file, line, row, why, details.
    ///
    /// # Errors
    /// When polars fails.
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = &self.rows;
        Ok(df!(
            "rows" => rows.iter().map(|row| row.rows_for.name()).collect::<Vec<_>>(),
            "file" => rows.iter().map(|row| row.file.display().to_string()).collect::<Vec<_>>(),
            "line" => rows.iter().map(|row| row.line).collect::<Vec<_>>(),
            "row" => rows.iter().map(|row| row.row.map(|row| row as u32)).collect::<Vec<_>>(),
            "why" => rows.iter().map(|row| row.why.name()).collect::<Vec<_>>(),
            "details" => rows.iter().map(|row| row.why.details()).collect::<Vec<_>>(),
        )?)
    }
}

brief!(RowsLeftOut);

impl Show for RowsLeftOut {
    fn show(&self) -> Bundle {
        let columns = [
            ("rows", Align::Left),
            ("file", Align::Left),
            ("line", Align::Right),
            ("row", Align::Right),
            ("left out", Align::Left),
            ("", Align::Left),
        ];
        let counts: Vec<String> = self.counts.iter().map(LeftOut::to_string).collect();
        let mut table = Table::new(columns).caption(counts.join("; ")).whole();
        let name = |file: &Path| file.file_name().map(|name| name.to_string_lossy().into_owned());
        for (file, what) in self.lists.iter().chain(&self.not_read) {
            let file = name(file).unwrap_or_default();
            table.row(["", file.as_str(), "", "", "not read", what.as_str()]);
        }
        for row in self.rows.iter().take(SHOWN) {
            table.row([
                row.rows_for.name().to_string(),
                name(&row.file).unwrap_or_default(),
                thousands(row.line),
                row.row.map(|row| thousands(row as u64)).unwrap_or_default(),
                row.why.name().to_string(),
                row.why.details(),
            ]);
        }
        if self.rows.len() > SHOWN {
            table.row(["…", "", "", "", "", "frame() has all"]);
        }
        table.show()
    }
}
