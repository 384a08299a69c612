//! What is wrong with a file's rows, where, and what to do about it.

use std::borrow::Cow;
use std::path::Path;

use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::display::advice;
use crate::error::{Error, Result};

/// The kinds of fault that a row can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The record is not JSON. Rejected.
    BrokenJson,
    /// The record is not UTF-8. Rejected.
    InvalidUtf8,
    /// Half of a surrogate pair stands alone, as in a text that was cut between two UTF-16 units. Rejected.
    HalfSurrogate,
    /// The archive that holds the file is cut off or damaged. What follows is lost.
    BrokenFile,
    /// A row of CSV has another number of cells than its header, or a stray quote. Rejected.
    WrongCells,
    /// The record is larger than a record can be. Rejected.
    TooLarge,
    /// A known key holds a value of the wrong type, or a needed one is missing. Rejected.
    WrongType,
    /// Nothing is at a path that a map names. Rejected.
    NothingThere,
    /// The record has the keys of no known schema. Rejected.
    UnknownSchema,
    /// A turn's role is none of the known ones. Rejected.
    UnknownRole,
    /// A label says neither that the answer is good nor that it is bad. Rejected.
    UnreadLabel,
    /// The key of a label is null or empty. Kept as a row without a label.
    NoLabel,
    /// The conversation has no turns, or one of them says nothing. Rejected.
    EmptyTurn,
    /// The first turn after the system's is not the user's. Rejected.
    StartsWrong,
    /// The last turn is not the assistant's. Rejected.
    EndsWrong,
    /// Something stands beside the question or the text and is no part of it, such as the options of a
    /// choice. Kept.
    Aside,
    /// Another row has the same id. Kept.
    DuplicateId,
    /// Another row has the same turns. Kept.
    DuplicateRow,
    /// A turn begins with line breaks. Kept as it is.
    LeadingBreaks,
    /// Two turns of the same speaker follow each other. Kept.
    SameRole,
    /// A turn holds control characters other than tab and line breaks. Kept.
    ControlCharacters,
    /// A turn begins or ends with white space other than leading line breaks. Repaired; not looked for
    /// otherwise.
    OuterSpace,
    /// NaN or an infinity, which JSON has not. Read as null where no turn needs it; rejected otherwise.
    NotANumber,
    /// A file or a folder beside those that were read. Left out.
    NotRead,
    /// The file has a column that cannot be part of a row. The rows are kept without it.
    LeftOut,
    /// The file has a second list of rows. The first is read.
    SecondList,
    /// The model's chat template refuses the turns. Kept; found by a report with a tokenizer.
    TemplateRefuses,
    /// The model's chat template does not write the row's tools or calls, or which call is answered where
    /// the answers stand in another order. Kept; found by a report with a tokenizer.
    NotWritten,
    /// A text holds U+FFFD, what is left of a character that was read with the wrong encoding. Kept; found
    /// by a report.
    ReplacementCharacter,
    /// A text holds a character that turns the direction of what follows (U+202E and its like): what is read
    /// is not what is trained on. Kept; found by a report.
    TurnedDirection,
    /// A tool answers though the assistant did not call one, or not the one of that id. Kept; found by a
    /// report.
    AnswerWithoutCall,
    /// A system turn stands after another turn. Kept; found by a report.
    SystemInside,
    /// The chosen answer and the rejected one are the same. Kept; found by a report.
    SameChoice,
    /// A text holds a placeholder that nobody filled: `{{name}}`, `[Your Name]`. Kept; found by a report.
    Placeholder,
    /// An earlier row answers the same prompt in another way. Kept; found by a report.
    OtherAnswer,
    /// An earlier row judges the same answer, or the same two, the other way. Kept; found by a report.
    OtherVerdict,
    /// The arguments of a call are a text that is no JSON object. Kept; found by a report.
    BrokenArguments,
    /// Many different prompts have this one answer. Kept; found by a report.
    CannedAnswer,
    /// The assistant refuses: "I'm sorry, but I can't assist with that". Kept; found by a report.
    Refusal,
    /// An answer ends in white space. Kept; found by a report.
    TrailingSpace,
    /// A row was edited since its key `lorascope` was written: what that carries of the edited turns is left
    /// out. Kept.
    Edited,
}

impl ProblemKind {
    /// Its name in tables: `broken JSON`, `duplicate row`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrokenJson => "broken JSON",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::HalfSurrogate => "half a surrogate pair",
            Self::BrokenFile => "broken file",
            Self::WrongCells => "wrong cells",
            Self::TooLarge => "too large",
            Self::WrongType => "wrong type",
            Self::NothingThere => "nothing at the path",
            Self::UnknownSchema => "unknown schema",
            Self::UnknownRole => "unknown role",
            Self::UnreadLabel => "label not read",
            Self::NoLabel => "no label",
            Self::EmptyTurn => "empty turn",
            Self::StartsWrong => "does not start with the user",
            Self::EndsWrong => "does not end with the assistant",
            Self::Aside => "beside the question",
            Self::DuplicateId => "duplicate id",
            Self::DuplicateRow => "duplicate row",
            Self::LeadingBreaks => "leading line breaks",
            Self::SameRole => "same role twice",
            Self::ControlCharacters => "control characters",
            Self::OuterSpace => "white space at the ends",
            Self::NotANumber => "not a number",
            Self::NotRead => "not read",
            Self::LeftOut => "column left out",
            Self::SecondList => "second list",
            Self::TemplateRefuses => "refused by the chat template",
            Self::NotWritten => "not written by the chat template",
            Self::ReplacementCharacter => "replacement character",
            Self::TurnedDirection => "turned direction",
            Self::AnswerWithoutCall => "tool answer without a call",
            Self::SystemInside => "system turn in the middle",
            Self::SameChoice => "chosen equals rejected",
            Self::Placeholder => "unfilled placeholder",
            Self::OtherAnswer => "same prompt, other answer",
            Self::OtherVerdict => "same answer, other verdict",
            Self::BrokenArguments => "arguments that are no JSON",
            Self::CannedAnswer => "canned answer",
            Self::Refusal => "refusal",
            Self::TrailingSpace => "trailing white space",
            Self::Edited => "edited since",
        }
    }

    /// Whether rows of this kind are left out of the dataset.
    pub fn rejects(self) -> bool {
        !matches!(
            self,
            Self::NoLabel
                | Self::Aside
                | Self::DuplicateId
                | Self::DuplicateRow
                | Self::LeadingBreaks
                | Self::SameRole
                | Self::ControlCharacters
                | Self::OuterSpace
                | Self::NotANumber
                | Self::NotRead
                | Self::LeftOut
                | Self::SecondList
                | Self::TemplateRefuses
                | Self::NotWritten
                | Self::ReplacementCharacter
                | Self::TurnedDirection
                | Self::AnswerWithoutCall
                | Self::SystemInside
                | Self::SameChoice
                | Self::Placeholder
                | Self::OtherAnswer
                | Self::OtherVerdict
                | Self::BrokenArguments
                | Self::CannedAnswer
                | Self::Refusal
                | Self::TrailingSpace
                | Self::Edited
        )
    }

    /// What to do about it, as the audience can do it ([`speak_to`](crate::display::speak_to)).
    pub fn fix(self) -> &'static str {
        match self {
            Self::BrokenJson => "repair the line in the file",
            Self::InvalidUtf8 => advice(
                "convert the file to UTF-8, or Fix::ReplaceInvalidUtf8",
                "convert the file to UTF-8, or --fix replace-invalid-utf8",
            ),
            Self::HalfSurrogate => advice(
                "Fix::ReplaceInvalidUtf8 replaces it by U+FFFD",
                "--fix replace-invalid-utf8 replaces it by U+FFFD",
            ),
            Self::BrokenFile => "fetch or write the file again",
            Self::WrongCells => "give the row as many cells as the header has, and double the quotes in them",
            Self::TooLarge => "cut the record into several",
            Self::WrongType => "write the value as the schema wants it",
            Self::NothingThere => advice("name another path in the map", "name another path in --map"),
            Self::UnknownSchema => "rename the keys to those of a known schema",
            Self::UnknownRole => "rename it to system, user, assistant or tool",
            Self::UnreadLabel => advice(
                "write true or false; if the key does not judge an answer, name the row's own format, as in \
                 ReadOptions { schema: Some(RowSchema::PromptCompletion), ..Default::default() }",
                "write true or false; if the key does not judge an answer, name the row's own format, as in \
                 --from prompt-completion",
            ),
            Self::NoLabel => {
                "write true or false, or remove the key: rows without it are trained as ordinary ones"
            }
            Self::EmptyTurn => advice(
                "fill it in; Fix::DropEmptyTurns drops empty turns of a conversation",
                "fill it in; --fix drop-empty-turns drops empty turns of a conversation",
            ),
            Self::StartsWrong => advice(
                "Fix::DropLeadingAssistant drops the turns before the user's first",
                "--fix drop-leading-assistant drops the turns before the user's first",
            ),
            Self::EndsWrong => advice(
                "Fix::DropTrailingUser drops the turns after the assistant's last",
                "--fix drop-trailing-user drops the turns after the assistant's last",
            ),
            Self::Aside => "write it into the question or the text, if the answer needs it",
            Self::DuplicateId => "give each row its own id",
            Self::DuplicateRow => {
                advice("dedup() drops the later rows", "lorascope data clean --dedup drops the later rows")
            }
            Self::LeadingBreaks | Self::OuterSpace | Self::TrailingSpace => {
                advice("Fix::Trim, or trim()", "--fix trim")
            }
            Self::SameRole => advice(
                "Fix::MergeSameRole merges them into one turn",
                "--fix merge-same-role merges them into one turn",
            ),
            Self::ControlCharacters => advice("Fix::StripControl", "--fix strip-control"),
            Self::NotANumber => advice(
                "write null, in CSV nothing; in JSON, Fix::ReplaceInvalidUtf8 does so",
                "write null, in CSV nothing; in JSON, --fix replace-invalid-utf8 does so",
            ),
            Self::NotRead => "name it alone, or move it elsewhere",
            Self::LeftOut => "write the column as text",
            Self::SecondList => advice(
                "read it with ReadOptions { list, .. }, or write each list to a file",
                "read it with --list, or write each list to a file",
            ),
            Self::TemplateRefuses => "filter the row out, or give the tokenizer another template",
            Self::NotWritten => {
                "take a model whose template writes them, or write it into the texts; put answers of tools in the \
                 order of the calls"
            }
            Self::ReplacementCharacter => advice(
                "take the text from its source again, or not_matching(\"\\u{FFFD}\")",
                "take the text from its source again, or leave the rows out: data clean --without '\\x{FFFD}'",
            ),
            Self::TurnedDirection => advice(
                "not_matching(\"[\\u{202A}-\\u{202E}\\u{2066}-\\u{2069}]\"), unless the characters are meant",
                "leave the rows out unless the characters are meant: data clean --without \
                 '[\\x{202A}-\\x{202E}\\x{2066}-\\x{2069}]'",
            ),
            Self::AnswerWithoutCall => "put the call before it, or leave the row out",
            Self::SystemInside => "put it first, or let the user say it",
            Self::SameChoice => "leave the row out: there is nothing to prefer",
            Self::Placeholder => advice(
                "fill it in, or leave the rows out with not_matching()",
                "fill it in, or leave the rows out: data clean --without",
            ),
            Self::OtherAnswer => "keep one answer of each prompt, unless several are meant",
            Self::OtherVerdict => "keep one of the two: together they teach nothing",
            Self::BrokenArguments => "write them as a JSON object: most chat templates and readers need one",
            Self::CannedAnswer => "keep a few of these rows: the model learns to say it to everything",
            Self::Edited => "edit the row in its original format, or remove its key `lorascope`",
            Self::Refusal => advice(
                "leave these rows out with not_matching(), unless refusing is to be learned",
                "leave these rows out with data clean --without, unless refusing is to be learned",
            ),
        }
    }
}

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of the row that has a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The record is no row of the dataset.
    Rejected,
    /// The row is as it was in the file.
    Kept,
    /// The row was repaired, and the repair took the fault away.
    Repaired,
}

impl Outcome {
    pub(crate) fn kept(repaired: bool) -> Self {
        if repaired { Self::Repaired } else { Self::Kept }
    }

    /// Its name in tables: `rejected`, `kept`, `repaired`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Kept => "kept",
            Self::Repaired => "repaired",
        }
    }
}

/// A fault of a row that stays in the dataset.
pub(crate) type Noted = (ProblemKind, Cow<'static, str>, Outcome);

/// One fault of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub line: u32,
    /// The number of the record in its file, from 1, where it is known.
    pub number: Option<u32>,
    /// The row's number among those of its file that were kept, from 0.
    pub row: Option<u32>,
    pub id: Option<String>,
    pub kind: ProblemKind,
    pub outcome: Outcome,
    pub what: Cow<'static, str>,
}

impl Problem {
    /// The fault as an error, where the first one is to be one.
    pub fn error(&self) -> Error {
        Error::format(format_args!("{}: {}", self.kind, self.what))
            .line(self.line.into())
            .help(self.kind.fix())
    }

    /// A fault of the file itself.
    pub fn new(line: u32, kind: ProblemKind, what: impl Into<Cow<'static, str>>) -> Self {
        let outcome = if kind.rejects() { Outcome::Rejected } else { Outcome::Kept };
        Self { outcome, ..Self::rejected(line, kind, what) }
    }

    /// The fault of a record that is no row.
    pub fn rejected(line: u32, kind: ProblemKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { line, number: None, row: None, id: None, kind, outcome: Outcome::Rejected, what: what.into() }
    }
}

/// The faults as a table: file, line, row, id, kind, outcome, what, fix. Beside each fault stand its file and
/// the number of its row.
pub(crate) fn frame(problems: &[(&Path, &Problem, Option<u32>)]) -> Result<DataFrame> {
    let rows: Vec<Option<u32>> = problems.iter().map(|(.., row)| *row).collect();
    let text = |name: &str, of: &dyn Fn(&Problem) -> String| {
        let values: Vec<String> = problems.iter().map(|(_, problem, _)| of(problem)).collect();
        Column::new(name.into(), values)
    };
    let files: Vec<String> = problems.iter().map(|(file, ..)| file.display().to_string()).collect();
    let ids: Vec<Option<&str>> = problems.iter().map(|(_, p, _)| p.id.as_deref()).collect();
    let lines: Vec<u32> = problems.iter().map(|(_, p, _)| p.line).collect();
    Ok(DataFrame::new(
        problems.len(),
        vec![
            Column::new("file".into(), files),
            Column::new("line".into(), lines),
            Column::new("row".into(), rows),
            Column::new("id".into(), ids),
            text("kind", &|p| p.kind.name().to_string()),
            text("outcome", &|p| p.outcome.name().to_string()),
            text("what", &|p| p.what.to_string()),
            text("fix", &|p| p.kind.fix().to_string()),
        ],
    )?)
}
