//! The finding of one check: what, how bad, and in which row.

use crate::dataset::Dataset;
use crate::display::{cut, thousands};
use crate::error::{Error, Result};
use crate::format::Role;
use crate::text::Message;
use std::path::PathBuf;

/// Characters of a row that are shown.
const WORDS: usize = 80;

/// What one check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, with its numbers.
    pub what: String,
    /// What to do about it; empty where all is well.
    pub help: String,
    /// The first row that has the fault, counted from 0.
    pub row: Option<usize>,
    /// The file that it comes from.
    pub file: Option<PathBuf>,
    /// The line there.
    pub line: Option<u64>,
    /// How it begins.
    pub words: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// The run would learn, but perhaps not what was meant.
    Warning,
    /// The run would learn the wrong thing.
    Fatal,
}

impl Severity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Fatal => "fatal",
        }
    }
}

impl Finding {
    /// A finding that is about no row in particular.
    pub fn new(check: &'static str, severity: Severity, what: impl Into<String>) -> Self {
        let (help, words) = (String::new(), String::new());
        Self { check, severity, what: what.into(), help, row: None, file: None, line: None, words }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// Adds the row of a dataset in which it was found.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn at(self, data: &Dataset, row: usize) -> Result<Self> {
        let (file, line) = data.place(row)?;
        let messages = data.conversation(row)?;
        let first = messages.iter().find(|message| message.role == Role::User).or(messages.first());
        let text = data.text(row)?;
        let words = text.as_deref().or(first.map(said)).unwrap_or_default();
        let words = cut(words.trim(), WORDS);
        Ok(Self { row: Some(row), file: Some(file), line: Some(line), words, ..self })
    }

    /// The finding as a note, which begins with what to do and names one line of a file as an example.
    pub(crate) fn note(&self) -> String {
        let help = if self.help.is_empty() { String::new() } else { format!("{}: ", self.help) };
        let name = self.file.as_ref().and_then(|file| file.file_name()).map(|name| name.to_string_lossy());
        let example = match (name, self.line) {
            (Some(name), Some(line)) => format!(" (for example line {} of {name})", thousands(line)),
            (Some(name), None) => format!(" ({name})"),
            _ => String::new(),
        };
        format!("{help}{}{example}", self.what)
    }

    pub(crate) fn error(&self) -> Error {
        let begins =
            if self.words.is_empty() { String::new() } else { format!(" (it begins {:?})", self.words) };
        let mut error = Error::input(format!("{}: {}{begins}", self.check, self.what));
        if let Some(file) = &self.file {
            error = error.path(file);
        }
        if let Some(line) = self.line {
            error = error.line(line);
        }
        if self.help.is_empty() { error } else { error.help(&self.help) }
    }
}

/// The first finding with which no run should begin, as an error that shows its row.
pub(crate) fn fatal(findings: &[Finding]) -> Option<Error> {
    findings.iter().find(|finding| finding.severity == Severity::Fatal).map(Finding::error)
}

/// What a message says.
pub(crate) fn said(message: &Message) -> &str {
    message.text()
}
