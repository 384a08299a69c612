//! From a row to its tokens: the one way that the report, a run and its evaluation go.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::Dataset;
use super::conversation::conversation;
use super::counted::{Bound, Counted, Tokens};
use super::table::Rows;
use crate::display::{Progress, thousands};
use crate::error::{Error, Result};
use crate::format::Role;
use crate::format::fix::thinks;
use crate::format::options::OnFault;
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::row::Spoken;
use crate::format::row_view::RowView;
use crate::format::schema::calls::ids_of;
use crate::format::write::prompt_turns;
use crate::text::{
    Answered, Example, Forgets, Ignored, Message, PromptAnswers, TokenCounts, Tokenizer, Trained, Training,
};

/// What a row gives a run to train on.
#[derive(Debug)]
pub(crate) enum Lesson {
    /// Its tokens.
    Example(Example),
    /// It is labelled bad.
    Bad,
    /// The chat template refuses it.
    Refused(Error),
}

/// A record that became no row.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub file: PathBuf,
    pub line: u64,
    pub what: String,
}

/// What a row says.
enum Said<'a> {
    Text(&'a str),
    Talk { messages: Vec<Message>, tools: Option<&'a str> },
}

impl<'a> Said<'a> {
    /// That of a row; the answers in its prompt have the weight 0 where they are context.
    fn of(rows: Rows<'a>, i: usize, training: &Training) -> Self {
        if let Some(text) = rows.text(i) {
            return Self::Text(text);
        }
        let mut messages = conversation(rows, i);
        let context = training.prompt_answers == PromptAnswers::Context && training.trained != Trained::All;
        if context {
            let prompt = prompt_turns(&RowView::Table(&rows, i));
            // A system's turn comes before those of the row.
            let prompt = prompt + messages.len().saturating_sub(rows.turns(i).len());
            let answers = messages[..prompt].iter_mut().filter(|message| message.role == Role::Assistant);
            answers.for_each(|message| message.weight = Some(0.0));
        }
        Self::Talk { messages, tools: rows.tools(i) }
    }
}

/// The tokens of a row; none is trained on where it is labelled bad.
pub(super) fn example(
    rows: Rows<'_>,
    i: usize,
    tokenizer: &Tokenizer,
    training: &Training,
) -> Result<Example> {
    let mut example = match Said::of(rows, i, training) {
        Said::Text(text) => tokenizer.document_with(text, training.special_tokens)?,
        Said::Talk { messages, tools } => tokenizer.example_with(&messages, tools, training.trained)?,
    };
    if rows.label(i) == Some(false) {
        example.trained.fill(false);
    }
    Ok(example)
}

/// The numbers of [`example`], without the tokens where they can be told so.
fn lengths(rows: Rows<'_>, i: usize, tokenizer: &Tokenizer, training: &Training) -> Result<TokenCounts> {
    let mut lengths = match Said::of(rows, i, training) {
        Said::Text(text) => {
            let example = tokenizer.document_with(text, training.special_tokens)?;
            TokenCounts { tokens: example.len(), trained: example.trained_tokens() }
        }
        Said::Talk { messages, tools } => tokenizer.lengths(&messages, tools, training.trained)?,
    };
    if rows.label(i) == Some(false) {
        lengths.trained = 0;
    }
    Ok(lengths)
}

impl Dataset {
    /// The same rows, with the tokenizer and chat template of a model: from now on tokens are known
    /// to the report, to the columns `tokens` and `answer_tokens`, and to [`row`](Self::row).
    pub fn for_tokenizer(&self, tokenizer: &Tokenizer) -> Self {
        self.for_training(tokenizer, &Training::default())
    }

    /// As [`for_tokenizer`](Self::for_tokenizer), with another choice of the tokens that are trained on.
    pub fn for_training(&self, tokenizer: &Tokenizer, training: &Training) -> Self {
        let inner = &self.0;
        let new = Self::of(
            inner.origin.clone(),
            inner.sources.clone(),
            inner.rows.clone(),
            inner.steps.clone(),
            Some(Bound { tokenizer: tokenizer.clone(), training: *training }),
        );
        if let Some(store) = inner.store.get() {
            let _ = new.0.store.set(store.clone());
        }
        new
    }

    /// The tokenizer that [`for_tokenizer`](Self::for_tokenizer) bound.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.0.tokenizer.as_ref().map(|bound| &bound.tokenizer)
    }

    /// What of the rows is trained on, as [`for_training`](Self::for_training) was told.
    pub fn training(&self) -> Training {
        self.0.tokenizer.as_ref().map_or_else(Training::default, |bound| bound.training)
    }

    /// The tokens of row `i`, and which of them a run trains on: of a conversation, of a preference its
    /// prompt and its chosen answer, of a plain text all; of a row that is labelled bad none.
    ///
    /// # Errors
    /// If there is no row `i`; if the chat template refuses it, with the row's place.
    pub fn example(&self, i: usize, tokenizer: &Tokenizer, training: &Training) -> Result<Example> {
        self.at(i, |rows, i| example(rows, i, tokenizer, training))?.map_err(|error| self.placed(i, error))
    }

    /// How many rows are plain texts in which the names of special tokens stand for these tokens
    /// ([`SpecialTokens`](crate::text::SpecialTokens)).
    ///
    /// # Errors
    /// Without a tokenizer.
    pub fn rendered(&self) -> Result<usize> {
        let Bound { tokenizer, training } = self.bound()?;
        Ok(self.texts(tokenizer, training, |_| true)?.1)
    }

    /// How many of the rows that `counts` are plain texts, and in how many of them special tokens' names
    /// are these tokens.
    pub(crate) fn texts(
        &self,
        tokenizer: &Tokenizer,
        training: &Training,
        counts: impl Fn(usize) -> bool + Sync,
    ) -> Result<(usize, usize)> {
        let special = training.special_tokens;
        let pieces = self.pieces(|rows, first| {
            let texts = || (0..rows.len()).filter(|i| counts(first + i)).filter_map(|i| rows.text(i));
            Ok((texts().count(), texts().filter(|text| tokenizer.reads_tokens(text, special)).count()))
        })?;
        Ok(pieces.into_iter().fold((0, 0), |sum, piece| (sum.0 + piece.0, sum.1 + piece.1)))
    }

    /// The rows that the chat template refuses, by their numbers, and why it does.
    ///
    /// # Errors
    /// Without [`for_tokenizer`](Self::for_tokenizer); if the tokenizer has no chat template.
    pub fn refused(&self) -> Result<Vec<(usize, String)>> {
        let counted = self.tokens()?;
        let refused =
            counted.iter().enumerate().filter_map(|(row, counted)| Some((row, counted.as_ref().err()?)));
        Ok(refused.map(|(row, why)| (row, why.clone())).collect())
    }

    /// The rows with tools or calls that a chat template does not write, and what it does not.
    pub(crate) fn unwritten(&self, tokenizer: &Tokenizer) -> Result<Vec<(usize, &'static str)>> {
        let ignored = tokenizer.ignored();
        if ignored == Ignored::default() {
            return Ok(Vec::new());
        }
        let pieces = self.pieces(|rows, first| {
            let what = |i: usize| {
                let calls = ignored.calls && rows.turns(i).any(|turn| turn.tool_calls.is_some());
                match (calls, ignored.tools && rows.tools(i).is_some()) {
                    (false, false) if out_of_order(rows.turns(i), ignored.answered) => Some(
                        "the chat template does not write which call a tool answers, and the answers stand in another order than the calls",
                    ),
                    (false, false) => unwritten_thoughts(rows, i, &ignored),
                    (true, true) => Some("the chat template writes neither the tools nor the calls of them"),
                    (true, false) => Some("the chat template does not write the calls of tools"),
                    (false, true) => Some("the chat template does not write the tools"),
                }
            };
            Ok((0..rows.len()).filter_map(|i| Some((first + i, what(i)?))).collect::<Vec<_>>())
        })?;
        Ok(pieces.concat())
    }

    /// The rows of at most `n` tokens; those that the chat template refuses are not among them:
    /// [`refused`](Self::refused) lists them, and the step's name counts them.
    ///
    /// # Errors
    /// Without [`for_tokenizer`](Self::for_tokenizer); if the chat template refuses every row.
    pub fn max_tokens(&self, n: usize) -> Result<Self> {
        let counted = self.tokens()?;
        if let (true, Some(Err(why))) = (counted.iter().all(Result::is_err), counted.first()) {
            let why = Error::format(format_args!("the chat template refuses every row: {why}"));
            return Err(self.placed(0, why));
        }
        let fits = |counted: &Counted| counted.as_ref().is_ok_and(|tokens| tokens.all as usize <= n);
        let rows = (0..).zip(counted.iter()).filter(|(_, counted)| fits(counted)).map(|(row, _)| row);
        let refused = counted.iter().filter(|counted| counted.is_err()).count() as u64;
        let refused = match refused {
            0 => String::new(),
            _ => format!(", {} refused", thousands(refused)),
        };
        self.keep(rows.collect(), format!("at most {n} tokens{refused}"))
    }

    fn bound(&self) -> Result<&Bound> {
        self.0.tokenizer.as_ref().ok_or_else(|| {
            Error::state("tokens are not known without a tokenizer")
                .help("say data.for_model(&model) or data.for_tokenizer(&tokenizer) first")
        })
    }

    /// The lengths of all rows in their order, counted the first time.
    ///
    /// # Errors
    /// Without a tokenizer; if it has no chat template and every row needs one.
    pub(super) fn tokens(&self) -> Result<Arc<Vec<Counted>>> {
        if let Some(tokens) = self.0.tokens.get() {
            return Ok(tokens.clone());
        }
        let Bound { tokenizer, training } = self.bound()?;
        let progress = Mutex::new(Progress::new("counting tokens", self.len() as u64));
        let first_error = Mutex::new(None);
        let pieces = self.pieces(|rows, first| {
            let count = |i| match lengths(rows, i, tokenizer, training) {
                Ok(row) => Ok(Tokens { all: row.tokens as u32, trained: row.trained as u32 }),
                Err(error) => {
                    let text = error.to_string();
                    first_error
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert((first + i, error));
                    Err(text)
                }
            };
            let counted: Vec<Counted> = (0..rows.len()).map(count).collect();
            progress.lock().unwrap_or_else(PoisonError::into_inner).advance(rows.len() as u64, "");
            Ok(counted)
        })?;
        let counted: Vec<Counted> = pieces.into_iter().flatten().collect();
        match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) if error.is_state() && counted.iter().all(Result::is_err) => Err(error),
            _ => Ok(self.0.tokens.get_or_init(|| Arc::new(counted)).clone()),
        }
    }

    /// What each row gives a run to train on, in their order.
    pub(crate) fn lessons(&self, tokenizer: &Tokenizer, training: &Training) -> Result<Vec<Lesson>> {
        let pieces = self.pieces(|rows, _| {
            let lesson = |i| match rows.label(i) {
                Some(false) => Lesson::Bad,
                _ => example(rows, i, tokenizer, training).map_or_else(Lesson::Refused, Lesson::Example),
            };
            Ok((0..rows.len()).into_par_iter().map(lesson).collect::<Vec<_>>())
        })?;
        Ok(pieces.into_iter().flatten().collect())
    }

    /// The rows up to the `n`-th that is not labelled bad.
    pub(crate) fn first_good(&self, n: usize) -> Result<Self> {
        let pieces = self.pieces(|rows, _| {
            Ok((0..rows.len()).map(|i| rows.label(i) != Some(false)).collect::<Vec<_>>())
        })?;
        let mut good = pieces.into_iter().flatten().enumerate().filter(|(_, good)| *good);
        match good.nth(n.saturating_sub(1)) {
            Some((last, _)) => self.head(last + 1),
            None => Ok(self.clone()),
        }
    }

    /// An error in row `i`, with the row's file and line.
    pub(crate) fn placed(&self, i: usize, error: Error) -> Error {
        match self.place(i) {
            Ok((file, line)) => error.path(file).line(line),
            Err(_) => error.path(self.path()),
        }
    }

    /// What was to be done at a fault when the files were opened.
    pub(crate) fn on_fault(&self) -> OnFault {
        self.0.origin.options.faults
    }

    /// Whether these rows are a part of what was opened, or in another order.
    pub(crate) fn is_part(&self) -> bool {
        self.0.rows.is_some()
    }

    /// How many records of the files became no row; also where these rows are a part of theirs. Files that
    /// `other` reads in the same way are left to it.
    pub(crate) fn rejected_of_files(&self, other: Option<&Self>) -> Result<usize> {
        let own = self.0.sources.iter().filter(|source| {
            let mut theirs = other.iter().flat_map(|data| &data.0.sources);
            !theirs.any(|read| read.path == source.path && read.options == source.options)
        });
        own.map(|source| Ok(source.full()?.rejected)).sum()
    }

    /// The lists of rows in the files that are not read, beside the one that is: the file, and which, in words.
    /// Lists that `other` reads of the same file are none.
    pub(crate) fn lists_not_read(&self, other: Option<&Self>) -> Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for source in &self.0.sources {
            let reads = |data: &Self| data.0.sources.iter().any(|read| read.path == source.path);
            let list = other.filter(|data| reads(data)).and_then(|data| data.0.origin.options.list.as_ref());
            let read = list.map(|list| format!("`{list}` ("));
            let lists = source.full()?.problems()?;
            let lists = lists.iter().filter(|problem| problem.kind == ProblemKind::SecondList);
            let lists = lists.filter(|list| read.as_ref().is_none_or(|read| !list.what.contains(read)));
            found.extend(lists.map(|list| (source.path.clone(), list.what.to_string())));
        }
        Ok(found)
    }

    /// The records of the files that became no row; also where these rows are a part of theirs.
    pub(crate) fn rejections(&self) -> Result<Vec<Rejection>> {
        let mut found = Vec::new();
        for source in &self.0.sources {
            let problems = source.full()?.problems()?;
            let rejected = problems.iter().filter(|problem| problem.outcome == Outcome::Rejected);
            found.extend(rejected.map(|problem| Rejection {
                file: source.path.clone(),
                line: problem.line.into(),
                what: format!("{}: {}", problem.kind, problem.what),
            }));
        }
        Ok(found)
    }
}

/// Which reasoning of a row a chat template does not write.
fn unwritten_thoughts(rows: Rows<'_>, i: usize, ignored: &Ignored) -> Option<&'static str> {
    if (ignored.reasoning, ignored.thoughts) == (Forgets::None, Forgets::None) {
        return None;
    }
    let last_user = rows.turns(i).rposition(|turn| turn.role == "user").unwrap_or(0);
    let lost = |forgets: Forgets, thinks: &dyn Fn(&Spoken<'_>) -> bool| {
        let end = match forgets {
            Forgets::None => 0,
            Forgets::Earlier => last_user,
            Forgets::All => usize::MAX,
        };
        rows.turns(i).take(end).any(|turn| turn.role == "assistant" && thinks(&turn))
    };
    let beside = lost(ignored.reasoning, &|turn| turn.extra.is_some_and(thinks));
    let inside = lost(ignored.thoughts, &|turn| {
        let thought = turn.content.split_once("</think>").map(|(before, _)| before.replace("<think>", ""));
        thought.is_some_and(|thought| !thought.trim().is_empty())
    });
    match (beside, inside) {
        (true, _) if ignored.reasoning == Forgets::All => {
            Some("the chat template does not write the reasoning beside the answers")
        }
        (true, _) => {
            Some("the chat template does not write the reasoning beside answers before the user's last turn")
        }
        (_, true) if ignored.thoughts == Forgets::All => {
            Some("the chat template does not write the reasoning in the answers, before </think>")
        }
        (_, true) => Some(
            "the chat template does not write the reasoning in answers before the user's last turn, before </think>",
        ),
        (false, false) => None,
    }
}

/// Whether tools answer in another order than they were called in, as their ids say, and a template that
/// tells them so cannot tell: of calls of several tools, where names are written.
fn out_of_order<'a>(turns: impl Iterator<Item = Spoken<'a>>, told: Answered) -> bool {
    if told == Answered::Id {
        return false;
    }
    let mut called: Vec<(String, String)> = Vec::new();
    // The places of the calls that are answered since.
    let mut answered: Vec<usize> = Vec::new();
    for turn in turns {
        if let Some(calls) = turn.tool_calls {
            if !answered.is_empty() {
                (called, answered) = (Vec::new(), Vec::new());
            }
            called.extend(ids_of(calls));
        }
        let id = turn.tool_call_id.filter(|_| turn.role == "tool");
        if let Some(at) = id.and_then(|id| called.iter().position(|(call, _)| call == id)) {
            let confused = |before: &usize| {
                *before > at && (told == Answered::Place || called[*before].1 == called[at].1)
            };
            if answered.iter().any(confused) {
                return true;
            }
            answered.push(at);
        }
    }
    false
}
