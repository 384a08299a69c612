//! What is looked at before the first step: a run that would learn the wrong thing says so in seconds, not
//! after hours.

use super::batches::{Batches, Preparing};
use super::config::RunConfig;
use super::left_out::{RowsLeftOut, Why};
use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table, cut, thousands};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::text::{Example, Message, Role, Tokenizer};
use std::path::PathBuf;

/// Rows whose prompt is looked at: rendering is slow, and a template is wrong in many rows or in none.
const PROMPTS: usize = 200;
/// Lines that are named when many rows have a fault.
const NAMED: usize = 5;
/// Characters of a row that are shown.
const WORDS: usize = 80;
/// So many times the 99th percentile of the lengths is far.
const FAR: usize = 4;

/// The checks whose finding is a line about all rows.
const RECORDS: &str = "records";
const EVAL_RECORDS: &str = "evaluation records";

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
    /// The rows that a run would leave out, with file, line and why.
    pub left_out: RowsLeftOut,
}

/// The rows that are looked at.
#[derive(Clone, Copy)]
pub(super) struct Checked<'a> {
    pub rows: &'a Batches,
    pub data: &'a Dataset,
    /// Those to evaluate on, and all that they were taken from.
    pub eval: Option<(&'a Batches, &'a Dataset)>,
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
        let text = data.text(row)?;
        let words = text.as_deref().or(first.map(said)).unwrap_or_default();
        let words = cut(words.trim(), WORDS);
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
    /// When no row can be trained on, or one does not fit the chat template and faults are to fail.
    pub fn of(data: &Dataset, model: &Model, config: &RunConfig) -> Result<Self> {
        let how = Preparing::of(config);
        let rows = Batches::new(data, model, how)?;
        let how = Preparing { context: Some(rows.context()), ..how };
        let eval = config.eval.as_ref().map(|eval| Batches::for_evaluation(eval, model, how)).transpose()?;
        let checked = Checked { rows: &rows, data, eval: eval.as_ref().zip(config.eval.as_ref()) };
        let mut found = Self::of_rows(checked, config, model.tokenizer())?;
        rows.add_left_out(data, &mut found.left_out)?;
        if let Some((rows, data)) = checked.eval {
            rows.add_left_out(data, &mut found.left_out)?;
        }
        Ok(found)
    }

    /// The same for rows that were tokenised before; they are not listed.
    pub(super) fn of_rows(checked: Checked, config: &RunConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let Checked { rows: train, data, eval } = checked;
        let mut findings = vec![records(RECORDS, train)];
        findings.extend(eval.map(|(rows, _)| records(EVAL_RECORDS, rows)));
        findings.extend([
            tokens(train, data, config, tokenizer)?,
            turns_end(train, data, tokenizer)?,
            begin_once(train, data, tokenizer)?,
            answers(train, data)?,
            prompts(train, data, tokenizer)?,
            context(train, data)?,
        ]);
        findings.extend(far_longer(train, data, config.micro_batch)?);
        findings.extend(labelled_bad(train, data)?);
        findings.extend(refused("chat template", train, data)?);
        if let Some((rows, data)) = eval {
            findings.extend(refused("chat template, evaluation", rows, data)?);
        }
        if let Some(eval) = &config.eval {
            findings.push(held_out(data, eval)?);
        }
        Ok(Self { findings, left_out: RowsLeftOut::default() })
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

    /// What a run notes: the warnings, of all rows in one line first.
    pub(super) fn notes(&self) -> Vec<String> {
        let warnings = self.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        let note = |finding: &Finding| match finding.check {
            RECORDS | EVAL_RECORDS => finding.what.clone(),
            _ => finding.error().to_string(),
        };
        warnings.map(note).collect()
    }

    /// The first finding with which no run should begin, as an error that shows its row.
    pub fn fatal(&self) -> Option<Error> {
        self.findings.iter().find(|finding| finding.severity == Severity::Fatal).map(Finding::error)
    }
}

/// What a message says.
fn said(message: &Message) -> &str {
    &message.content
}

/// How many rows are used, and how many are left out for what.
fn records(check: &'static str, rows: &Batches) -> Finding {
    match rows.counts().note() {
        None => Finding::new(check, Severity::Fine, rows.counts().to_string()),
        Some(note) => Finding::new(check, Severity::Warning, note),
    }
}

/// How many tokens are trained on, and how plain texts are read.
fn tokens(train: &Batches, data: &Dataset, config: &RunConfig, tokenizer: &Tokenizer) -> Result<Finding> {
    let training = config.training();
    let count =
        |of: fn(&Example) -> usize| thousands(train.examples().map(|(_, e)| of(e)).sum::<usize>() as u64);
    let mut what = format!(
        "{} of {} tokens are trained on (trained: {})",
        count(Example::trained_tokens),
        count(Example::len),
        training.trained
    );
    let (texts, rendered) = data.texts(tokenizer, &training)?;
    if texts > 0 {
        what += &format!(
            "; {} rows are plain texts and trained on whole, {} of them as rendered chats in which the names of \
             special tokens are these tokens (special_tokens: {})",
            thousands(texts as u64),
            thousands(rendered as u64),
            training.special_tokens
        );
    }
    Ok(Finding::new("tokens", Severity::Fine, what))
}

/// Whether each answer ends with a token at which generation stops: a model that never learns to say one
/// talks on.
fn turns_end(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "end of turn";
    let stops = tokenizer.stop_ids();
    let lacks = |example: &Example| ends(example, tokenizer).any(|id| !stops.contains(&id));
    let has = |example: &Example| ends(example, tokenizer).any(|id| stops.contains(&id));
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
        .help(match data.text(*first)? {
            Some(_) => "give the tokenizer a token that ends a text: eos_token in tokenizer_config.json",
            None => "take the model's own chat template, or one that ends the assistant's turn: Tokenizer::with_named_template",
        }),
        true => Finding::new(
            CHECK,
            Severity::Warning,
            format!("{} of {rows} rows have an answer without a token at which generation stops", lacking.len()),
        )
        .help("look at the answer's end with data.row()"),
    };
    finding.at(data, *first)
}

/// The last token of each stretch that is trained on. White space after a token at which generation stops
/// does not count: where every token is trained on, the template's line break is, too.
fn ends<'a>(example: &'a Example, tokenizer: &'a Tokenizer) -> impl Iterator<Item = u32> + 'a {
    let next = example.trained.iter().skip(1).chain([&false]);
    let ends = example.trained.iter().zip(next).map(|(trained, next)| *trained && !next);
    let stops = tokenizer.stop_ids();
    let white = |id: u32| tokenizer.decode(&[id]).is_ok_and(|text| text.trim().is_empty());
    ends.enumerate().filter(|(_, ends)| *ends).map(move |(end, _)| {
        let mut before = example.ids[..=end].iter().rev().copied();
        let said = before.find(|id| stops.contains(id) || !white(*id));
        said.filter(|id| stops.contains(id)).unwrap_or(example.ids[end])
    })
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

/// Some lines of a dataset's rows, to be named.
fn lines(data: &Dataset, rows: &[usize]) -> Result<String> {
    let lines = rows.iter().take(NAMED).map(|row| Ok(data.place(*row)?.1.to_string()));
    let more = if rows.len() > NAMED { ", …" } else { "" };
    Ok(lines.collect::<Result<Vec<_>>>()?.join(", ") + more)
}

/// Whether each row has a token to train on.
fn answers(train: &Batches, data: &Dataset) -> Result<Finding> {
    const CHECK: &str = "answers";
    let rows: Vec<usize> = train.left_out(|why| *why == Why::Untrained).map(|(row, _)| row).collect();
    let Some(first) = rows.first() else {
        return Ok(Finding::new(CHECK, Severity::Fine, "every row has an answer to train on"));
    };
    let what = format!(
        "{} rows have no token to train on and are left out, on the lines {}",
        thousands(rows.len() as u64),
        lines(data, &rows)?
    );
    Finding::new(CHECK, Severity::Warning, what)
        .help("give them an answer of the assistant, or take them out")
        .at(data, *first)
}

/// Rows that are labelled bad.
fn labelled_bad(train: &Batches, data: &Dataset) -> Result<Option<Finding>> {
    let rows: Vec<usize> = train.left_out(|why| *why == Why::LabelledBad).map(|(row, _)| row).collect();
    let Some(first) = rows.first() else { return Ok(None) };
    let what = format!(
        "{} rows are labelled bad and left out, on the lines {}",
        thousands(rows.len() as u64),
        lines(data, &rows)?
    );
    Finding::new("labels", Severity::Warning, what)
        .help("a run learns answers that are labelled good alone")
        .at(data, *first)
        .map(Some)
}

/// Rows that the chat template refuses, with its words.
fn refused(check: &'static str, rows: &Batches, data: &Dataset) -> Result<Option<Finding>> {
    let refused: Vec<(usize, &Why)> = rows.left_out(|why| matches!(why, Why::Refused(_))).collect();
    let Some((first, Why::Refused(words))) = refused.first() else { return Ok(None) };
    let numbers: Vec<usize> = refused.iter().map(|(row, _)| *row).collect();
    let what = format!(
        "{} rows are refused by the chat template and left out, on the lines {}; the first: {words}",
        thousands(numbers.len() as u64),
        lines(data, &numbers)?
    );
    Finding::new(check, Severity::Warning, what)
        .help("data.row() shows them; RunConfig::default().strict() makes the first an error")
        .at(data, *first)
        .map(Some)
}

/// Whether what the model is asked with when it is used is what it is trained with: the prompt up to the last
/// answer, with the generation marker, begins the row's tokens.
fn prompts(train: &Batches, data: &Dataset, tokenizer: &Tokenizer) -> Result<Finding> {
    const CHECK: &str = "prompt";
    let chosen = train.rows().min(PROMPTS);
    let (mut looked, mut other) = (0, Vec::new());
    // Evenly spaced: number i·n/k of n.
    let mut places = (0..chosen).map(|i| i * train.rows() / chosen).peekable();
    for (place, (row, example)) in train.examples().enumerate() {
        if places.next_if_eq(&place).is_none() {
            continue;
        }
        let messages = data.conversation(row)?;
        let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else {
            continue; // a plain text
        };
        looked += 1;
        // As it is asked: without what is there and says nothing.
        let says = |message: &&Message| message.role != Role::System || !said(message).trim().is_empty();
        let asked: Vec<Message> = messages[..last].iter().filter(says).cloned().collect();
        let tools = data.tools(row)?.filter(|tools| !["", "null", "[]"].contains(&tools.trim()));
        let prompt = tokenizer.prompt(&asked, tools.as_deref());
        if !prompt.is_ok_and(|prompt| example.ids.starts_with(&prompt)) {
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
    let tokens = |why: &Why| if let Why::TooLong(tokens) = why { *tokens } else { 0 };
    let longer = train.left_out(|why| matches!(why, Why::TooLong(_))).map(|(row, why)| (tokens(why), row));
    let Some((tokens, row)) = longer.min_by_key(|(tokens, row)| (std::cmp::Reverse(*tokens), *row)) else {
        return Ok(Finding::new(CHECK, Severity::Fine, format!("no row is longer than {limit} tokens")));
    };
    let what = format!(
        "{} rows are longer than {limit} tokens and left out, the longest has {}",
        thousands(train.counts().too_long as u64),
        thousands(tokens as u64)
    );
    Finding::new(CHECK, Severity::Warning, what)
        .help("RunConfig::default().context(n) takes longer ones")
        .at(data, row)
}

/// A few rows that are far longer than the others, and what they cost.
fn far_longer(train: &Batches, data: &Dataset, micro_batch: usize) -> Result<Option<Finding>> {
    let mut lengths: Vec<usize> = train.examples().map(|(_, example)| example.len()).collect();
    lengths.sort_unstable();
    let usual = lengths[(lengths.len() * 99).div_ceil(100).max(1) - 1];
    let longest = train.examples().max_by_key(|(_, example)| example.len());
    let Some((row, longest)) = longest.filter(|(_, example)| example.len() > FAR * usual) else {
        return Ok(None);
    };
    let far = lengths.iter().filter(|length| **length > FAR * usual);
    let mut what = format!(
        "{} rows are far longer than the others: {} tokens together of {}; the longest has {}, 99 of 100 rows have at \
         most {}",
        thousands(far.clone().count() as u64),
        thousands(far.sum::<usize>() as u64),
        thousands(lengths.iter().sum::<usize>() as u64),
        thousands(longest.len() as u64),
        thousands(usual as u64)
    );
    if longest.len() > micro_batch {
        what += &format!(
            "; with it a step takes the memory of {} tokens at a time instead of {}",
            thousands(longest.len() as u64),
            thousands(micro_batch as u64)
        );
    }
    Finding::new("long rows", Severity::Warning, what)
        .help(format!("RunConfig::default().context({}) leaves them out", FAR * usual))
        .at(data, row)
        .map(Some)
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
