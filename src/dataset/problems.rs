//! What is wrong with a file's rows, where, and what to do about it.

use std::borrow::Cow;

use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// The kinds of fault that a row can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The record is not JSON. Rejected.
    BrokenJson,
    /// The record is not UTF-8. Rejected.
    InvalidUtf8,
    /// The archive that holds the file is cut off or damaged. What follows is lost.
    BrokenFile,
    /// A row of CSV has another number of cells than its header, or a stray quote. Rejected.
    WrongCells,
    /// The record is larger than a record can be. Rejected.
    TooLarge,
    /// A known key holds a value of the wrong type, or a needed one is missing. Rejected.
    WrongType,
    /// The record has the keys of no known schema. Rejected.
    UnknownSchema,
    /// A turn's role is none of the known ones. Rejected.
    UnknownRole,
    /// The conversation has no turns, or one of them says nothing. Rejected.
    EmptyTurn,
    /// The first turn after the system's is not the user's. Rejected.
    StartsWrong,
    /// The last turn is not the assistant's. Rejected.
    EndsWrong,
    /// Another row has the same id. Kept.
    DuplicateId,
    /// Another row has the same turns. Kept.
    DuplicateRow,
    /// A turn begins with line breaks. Kept as it is.
    LeadingBreaks,
    /// The file has a column that cannot be part of a row. The rows are kept without it.
    LeftOut,
    /// The file has a second list of rows. The first is read.
    SecondList,
    /// The model's chat template refuses the turns. Kept; found by a report with a tokenizer.
    TemplateRefuses,
}

impl ProblemKind {
    /// Its name in tables: `broken JSON`, `duplicate row`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrokenJson => "broken JSON",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::BrokenFile => "broken file",
            Self::WrongCells => "wrong cells",
            Self::TooLarge => "too large",
            Self::WrongType => "wrong type",
            Self::UnknownSchema => "unknown schema",
            Self::UnknownRole => "unknown role",
            Self::EmptyTurn => "empty turn",
            Self::StartsWrong => "does not start with the user",
            Self::EndsWrong => "does not end with the assistant",
            Self::DuplicateId => "duplicate id",
            Self::DuplicateRow => "duplicate row",
            Self::LeadingBreaks => "leading line breaks",
            Self::LeftOut => "column left out",
            Self::SecondList => "second list",
            Self::TemplateRefuses => "refused by the chat template",
        }
    }

    /// Whether rows of this kind are left out of the dataset.
    pub fn rejects(self) -> bool {
        !matches!(
            self,
            Self::DuplicateId
                | Self::DuplicateRow
                | Self::LeadingBreaks
                | Self::LeftOut
                | Self::SecondList
                | Self::TemplateRefuses
        )
    }

    /// What to do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::BrokenJson => "repair the line in the file",
            Self::InvalidUtf8 => "convert the file to UTF-8",
            Self::BrokenFile => "fetch or write the file again",
            Self::WrongCells => "give the row as many cells as the header has, and double the quotes in them",
            Self::TooLarge => "cut the record into several",
            Self::WrongType => "write the value as the schema wants it",
            Self::UnknownSchema => "rename the keys to those of a known schema",
            Self::UnknownRole => "rename it to system, user, assistant or tool",
            Self::EmptyTurn => "fill the turn or delete the row",
            Self::StartsWrong => "delete the turns before the user's first",
            Self::EndsWrong => "delete the turns after the assistant's last",
            Self::DuplicateId => "give each row its own id",
            Self::DuplicateRow => "delete the later row",
            Self::LeadingBreaks => "trim the turn",
            Self::LeftOut => "write the column as text",
            Self::SecondList => "write each list to a file of its own",
            Self::TemplateRefuses => "filter the row out, or give the tokenizer another template",
        }
    }
}

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub line: u32,
    pub id: Option<String>,
    pub kind: ProblemKind,
    pub what: Cow<'static, str>,
}

/// The faults as a table: file, line, id, kind, row (rejected or kept), what, fix.
pub(super) fn frame(file: &str, problems: &[Problem]) -> Result<DataFrame> {
    let text = |name: &str, of: &dyn Fn(&Problem) -> String| {
        let values: Vec<String> = problems.iter().map(of).collect();
        Column::new(name.into(), values)
    };
    let ids: Vec<Option<&str>> = problems.iter().map(|p| p.id.as_deref()).collect();
    let lines: Vec<u32> = problems.iter().map(|p| p.line).collect();
    Ok(DataFrame::new(
        problems.len(),
        vec![
            text("file", &|_| file.to_string()),
            Column::new("line".into(), lines),
            Column::new("id".into(), ids),
            text("kind", &|p| p.kind.name().to_string()),
            text("row", &|p| if p.kind.rejects() { "rejected" } else { "kept" }.to_string()),
            text("what", &|p| p.what.to_string()),
            text("fix", &|p| p.kind.fix().to_string()),
        ],
    )?)
}
