//! What is looked at before the first step: a run that would learn the wrong thing says so in seconds, not
//! after hours.

use super::batches::Batches;
use super::config::RunConfig;
use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table, cut, thousands};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::text::{Example, Role, Tokenizer};
use std::path::PathBuf;

/// Rows whose prompt is looked at: rendering is slow, and a template is wrong in many rows or in none.
const PROMPTS: usize = 200;
/// Lines that are named when many rows have a fault.
const NAMED: usize = 5;
/// Characters of a row that are shown.
const WORDS: usize = 80;

/// What was found before the first step.
///
/// # Examples
/// ```
/// use lorascope::train::preflight::{Finding, Preflight, Severity};
///
/// let mut found = Preflight::default();
/// found.push(Finding::new("memory", Severity::Fine, "3.1 GB of 24.0 GB"));
/// assert!(found.fatal().is_none());
/// found.push(Finding::new("bos", Severity::Fatal, "two of them").help("change the chat template"));
/// assert_eq!(found.fatal().unwrap().to_string(), "bos: two of them; change the chat template");
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preflight {
    /// What each check found, in their order.
    pub findings: Vec<Finding>,
}

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
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Fatal => "fatal",
        }
    }
}

impl Finding {
    /// What a check found, in no row in particular.
    pub fn new(check: &'static str, severity: Severity, what: impl Into<String>) -> Self {
        let (help, words) = (String::new(), String::new());
        Self { check, severity, what: what.into(), help, row: None, file: None, line: None, words }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// The same in a row of a dataset.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn at(self, data: &Dataset, row: usize) -> Result<Self> {
        let (file, line) = data.place(row)?;
        let messages = data.conversation(row)?;
        let first = messages.iter().find(|message| message.role == Role::User).or(messages.first());
        let words = cut(first.map_or("", |message| message.text().trim()), WORDS);
        Ok(Self { row: Some(row), file: Some(file), line: Some(line), words, ..self })
    }

    fn error(&self) -> Error {
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

impl Preflight {
    /// Looks at the rows as a run with this config would see them.
    ///
    /// # Errors
    /// When no row can be trained on, or a row does not fit the chat template.
    pub fn of(data: &Dataset, model: &Model, config: &RunConfig) -> Result<Self> {
        let rows = Batches::new(data, model, config.context)?;
        Self::of_rows(&rows, data, config.eval.as_ref(), model.tokenizer())
    }

    /// The same for rows that were tokenised before.
    pub(super) fn of_rows(
        train: &Batches,
        data: &Dataset,
        eval: Option<&Dataset>,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let mut findings = vec![
            turns_end(train, data, tokenizer)?,
            begin_once(train, data, tokenizer)?,
            answers(train, data)?,
            prompts(train, data, tokenizer)?,
            context(train, data)?,
        ];
        if let Some(eval) = eval {
            findings.push(held_out(data, eval)?);
        }
        Ok(Self { findings })
    }

    /// Adds what another check found.
    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The warnings, each in a line.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        warnings.map(|finding| finding.error().to_string()).collect()
    }

    /// The first finding with which no run should begin, as an error that shows its row.
    pub fn fatal(&self) -> Option<Error> {
        self.findings.iter().find(|finding| finding.severity == Severity::Fatal).map(Finding::error)
    }
}

/// Whether each answer ends with a token at which generation stops: a model that never learns to say one
/// talks on.
fn turns_end(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "end of turn";
    let stops = tokenizer.stop_ids();
    let lacks = |example: &Example| last_of_turns(example).any(|id| !stops.contains(&id));
    let has = |example: &Example| last_of_turns(example).any(|id| stops.contains(&id));
    let (rows, names) = (thousands(train.rows() as u64), tokenizer.decode(stops)?);
    let lacking: Vec<usize> = train.examples().filter(|(_, e)| lacks(e)).map(|(row, _)| row).collect();
    let Some(first) = lacking.first() else {
        return Ok(Finding::new(CHECK, Severity::Fine, format!("all {rows} rows learn to stop ({names})")));
    };
    let finding = match train.examples().any(|(_, example)| has(example)) {
        false => Finding::new(
            CHECK,
            Severity::Fatal,
            format!("none of {rows} rows learns a token at which generation stops ({names})"),
        )
        .help("take the model's own chat template, or one that ends the assistant's turn: Tokenizer::with_named_template"),
        true => Finding::new(
            CHECK,
            Severity::Warning,
            format!("{} of {rows} rows have an answer without a token at which generation stops", lacking.len()),
        )
        .help("look at the answer's end with data.row()"),
    };
    finding.at(data, *first)
}

/// The last token of each stretch that is trained on.
fn last_of_turns(example: &Example) -> impl Iterator<Item = u32> {
    let next = example.trained.iter().skip(1).chain([&false]);
    let ends = example.trained.iter().zip(next).map(|(trained, next)| *trained && !next);
    example.ids.iter().zip(ends).filter(|(_, ends)| *ends).map(|(id, _)| *id)
}

/// Whether a row begins with one token that begins a text, not with two: the template writes one, and the
/// tokenizer puts another in front.
fn begin_once(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "begin of text";
    let Some(bos) = tokenizer.bos() else {
        return Ok(Finding::new(CHECK, Severity::Fine, "the tokenizer has no token that begins a text"));
    };
    let name = tokenizer.decode(&[bos])?;
    let mut twice = train.examples().filter(|(_, example)| example.ids.starts_with(&[bos, bos]));
    match twice.next() {
        None => Ok(Finding::new(CHECK, Severity::Fine, format!("no row begins with {name} twice"))),
        Some((row, _)) => {
            let count = thousands(1 + twice.count() as u64);
            Finding::new(CHECK, Severity::Fatal, format!("{count} rows begin with {name} twice"))
                .help("take it out of the chat template: Tokenizer::with_template")
                .at(data, row)
        }
    }
}

/// Whether each row has a token to train on.
fn answers(train: &Batches, data: &Dataset) -> Result<Finding> {
    const CHECK: &str = "answers";
    let rows = train.untrained();
    let Some(first) = rows.first() else {
        return Ok(Finding::new(CHECK, Severity::Fine, "every row has an answer to train on"));
    };
    let lines = rows.iter().take(NAMED).map(|row| Ok(data.place(*row)?.1.to_string()));
    let lines = lines.collect::<Result<Vec<_>>>()?.join(", ");
    let more = if rows.len() > NAMED { ", …" } else { "" };
    let what = format!(
        "{} rows have no token to train on and are left out, on the lines {lines}{more}",
        thousands(rows.len() as u64)
    );
    Finding::new(CHECK, Severity::Warning, what)
        .help("give them an answer of the assistant, or take them out")
        .at(data, *first)
}

/// Whether what the model is asked with when it is used is what it is trained with: the prompt up to the last
/// answer, with the generation marker, begins the row's tokens.
fn prompts(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "prompt";
    let looked = train.rows().min(PROMPTS);
    let mut other = Vec::new();
    // Evenly spaced: number i·n/k of n.
    let mut places = (0..looked).map(|i| i * train.rows() / looked).peekable();
    for (place, (row, example)) in train.examples().enumerate() {
        if places.next_if_eq(&place).is_none() {
            continue;
        }
        let messages = data.conversation(row)?;
        let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else {
            continue;
        };
        let prompt = tokenizer.prompt(&messages[..last], data.tools(row)?.as_deref())?;
        if !example.ids.starts_with(&prompt) {
            other.push(row);
        }
    }
    let Some(first) = other.first() else {
        let what = format!("{looked} rows begin as the model will be asked");
        return Ok(Finding::new(CHECK, Severity::Fine, what));
    };
    let what = format!("{} of {looked} rows do not begin as the model will be asked", other.len());
    Finding::new(CHECK, Severity::Warning, what)
        .help(
            "the chat template writes an answer in another way than its prompt: take one in which both agree",
        )
        .at(data, *first)
}

/// Rows that are longer than the context.
fn context(train: &Batches, data: &Dataset) -> Result<Finding> {
    const CHECK: &str = "context";
    let limit = thousands(train.context() as u64);
    let Some((row, tokens)) = train.longest_left_out() else {
        return Ok(Finding::new(CHECK, Severity::Fine, format!("no row is longer than {limit} tokens")));
    };
    let what = format!(
        "{} rows are longer than {limit} tokens and left out, the longest has {}",
        thousands(train.left_out().too_long as u64),
        thousands(tokens as u64)
    );
    Finding::new(CHECK, Severity::Warning, what)
        .help("RunConfig::default().context(n) takes longer ones")
        .at(data, row)
}

/// Rows of the evaluation that are trained on.
fn held_out(data: &Dataset, eval: &Dataset) -> Result<Finding> {
    const CHECK: &str = "evaluation";
    let shared = data.equal_rows(eval)?;
    let all = thousands(eval.len() as u64);
    let Some((_, row)) = shared.first() else {
        return Ok(Finding::new(CHECK, Severity::Fine, format!("none of {all} rows is trained on")));
    };
    let what = format!("{} of {all} rows are trained on as well", thousands(shared.len() as u64));
    Finding::new(CHECK, Severity::Warning, what)
        .help("data.split() keeps equal rows on one side")
        .at(data, *row)
}

impl Show for Preflight {
    fn show(&self) -> Bundle {
        let columns = [
            ("", Align::Left),
            ("check", Align::Left),
            ("file", Align::Left),
            ("line", Align::Right),
            ("row", Align::Right),
            ("it begins", Align::Left),
            ("found", Align::Left),
        ];
        let mut table = Table::new(columns).caption("before the first step");
        for finding in &self.findings {
            let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
            let help = if finding.help.is_empty() { String::new() } else { format!("; {}", finding.help) };
            table.row([
                finding.severity.name().to_string(),
                finding.check.to_string(),
                finding.file.as_ref().and_then(name).unwrap_or_default(),
                finding.line.map(thousands).unwrap_or_default(),
                finding.row.map(|row| thousands(row as u64)).unwrap_or_default(),
                finding.words.clone(),
                format!("{}{help}", finding.what),
            ]);
        }
        table.show()
    }
}
