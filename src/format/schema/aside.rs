//! What stands beside a question and its answer, and belongs to them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::layout::{Hole, Input, List, Who};
use super::reader::Reader;
use crate::format::Role;
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::record::{Node, Value};
use crate::format::row::{Fault, REASONING, Turn};
use crate::format::row_schema::RowSchema;
use crate::format::write::json::string;

/// The keys of what a question is about.
const CONTEXTS: [&str; 8] =
    ["input", "context", "query", "passage", "article", "paragraph", "background", "document"];
/// The keys of what a question leaves to choose from, and of contexts in other forms.
const BESIDE: [&str; 10] = [
    "options",
    "choices",
    "candidates",
    "contexts",
    "passages",
    "documents",
    "evidence",
    "evidences",
    "knowledge",
    "facts",
];
/// The keys of a question.
const QUESTIONS: [&str; 4] = ["prompt", "question", "query", "instruction"];
/// The keys of an answer's reasoning, beside those of a turn.
const THOUGHTS: [&str; 3] = ["complex_cot", "chain_of_thought", "cot"];

impl Reader<'_> {
    /// The tools under the name that they had before.
    pub fn functions(&self) -> Option<usize> {
        let named = |node: &Node<'_>| node.get("name").is_some_and(|name| name.str().is_some());
        self.find("functions").filter(|i| {
            self.keys[*i]
                .1
                .array()
                .is_some_and(|functions| !functions.is_empty() && functions.iter().all(named))
        })
    }

    /// Instruction and input as one turn of the user.
    pub fn question(&mut self, instruction: usize, input: Option<usize>) -> Result<(), Fault> {
        let mut question = self.text(instruction)?;
        let who = Who::At(List::Messages, self.row.turns.len() as u32);
        self.fill(instruction, Hole::Content(who, None));
        if let Some(i) = input {
            let input = self.text(i)?;
            if input.trim().is_empty() {
                self.keep(i);
            } else {
                let (joined, sizes) = self.joined(&question, &input);
                match sizes.instruction {
                    0 if !question.is_empty() => self.keep(instruction),
                    _ => self.fill(instruction, Hole::Content(who, Some(sizes.before()))),
                }
                self.fill(i, Hole::Content(who, Some(sizes.after())));
                question = Cow::Owned(joined);
            }
        }
        self.row.turns.push(Turn::new(Role::User, question));
        Ok(())
    }

    /// Instruction and input in one text; an input alone stands alone, also after a blank instruction.
    pub fn joined(&mut self, instruction: &str, input: &str) -> (String, Input) {
        let instruction = if instruction.trim().is_empty() { "" } else { instruction };
        let between = if instruction.is_empty() { "" } else { self.join.between() };
        let joined = format!("{instruction}{between}{input}");
        let sizes = Input {
            instruction: instruction.len() as u32,
            start: (joined.len() - input.len()) as u32,
            whole: joined.len() as u32,
        };
        self.input = Some(sizes);
        (joined, sizes)
    }

    /// The text that a question is about, which is asked with it: the first that says something that is not
    /// in the question.
    pub fn about(&self, question: usize) -> Option<usize> {
        let asked = self.keys[question].1.str().unwrap_or_default();
        let texts: Vec<usize> = CONTEXTS
            .into_iter()
            .filter_map(|name| self.find(name))
            .filter(|i| *i != question && self.shapes[*i].is_none())
            .filter(|i| {
                self.keys[*i]
                    .1
                    .str()
                    .is_some_and(|text| text.trim().is_empty() || !asked.contains(text.trim()))
            })
            .collect();
        let says = |i: &&usize| self.keys[**i].1.str().is_some_and(|text| !text.trim().is_empty());
        texts.iter().find(says).or(texts.first()).copied()
    }

    /// Gives the answer, the last turn, the reasoning that stands beside it.
    pub fn think(&mut self) {
        let keys = REASONING.into_iter().chain(THOUGHTS);
        let says = |i: &usize| self.keys[*i].1.str().is_some_and(|text| !text.trim().is_empty());
        let Some(i) = keys.filter_map(|name| self.find(name)).find(|i| self.shapes[*i].is_none() && says(i))
        else {
            return;
        };
        let Some(answer) = self.row.turns.last_mut().filter(|answer| answer.extra.is_none()) else { return };
        let mut json = b"{\"reasoning_content\":".to_vec();
        string(&mut json, self.keys[i].1.str().unwrap_or_default());
        json.push(b'}');
        answer.extra = String::from_utf8(json).ok().map(Into::into);
        self.keep(i);
    }

    /// Notes what stands beside a question or a text and is no part of it.
    pub fn aside(&mut self, schema: RowSchema) {
        let (what, keys): (&str, &[&str]) = match schema {
            RowSchema::Text => ("the text", &QUESTIONS),
            RowSchema::Alpaca | RowSchema::PromptCompletion | RowSchema::Preference | RowSchema::Kto => {
                ("the question", &BESIDE)
            }
            _ => return,
        };
        // A context beside the one that is asked with the question, unless the question has it.
        let more: &[&str] = if schema == RowSchema::Text { &[] } else { &CONTEXTS };
        let asked = self.row.turns.first().map_or("", |turn| &turn.content);
        let has = |i: &usize| self.keys[*i].1.str().is_some_and(|text| asked.contains(text.trim()));
        let keys = keys.iter().chain(more).filter_map(|name| self.find(name));
        let left: BTreeSet<usize> = keys.filter(|i| !has(i)).collect();
        for i in left.into_iter().filter(|i| self.shapes[*i].is_none()) {
            let (key, node) = &self.keys[i];
            let says = match &node.value {
                Value::String(text) => !text.trim().is_empty(),
                Value::Array(values) => !values.is_empty(),
                Value::Object(keys) => !keys.is_empty(),
                _ => false,
            };
            if says {
                let what = format!("`{key}` stands beside {what} and is no part of it");
                self.row.noted.push((ProblemKind::Aside, what.into(), Outcome::Kept));
            }
        }
    }
}
