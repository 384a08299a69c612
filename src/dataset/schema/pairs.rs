//! Turns that do not name their speaker: pairs, and several turns in one text.

use std::borrow::Cow;

use super::layout::{Hole, List, Piece, Shape, Who};
use super::reader::{Reader, wrong};
use super::{Fault, RowSchema, Turn};
use crate::dataset::record::{Value, doubled, one_line};
use crate::text::Role;

impl Reader<'_> {
    /// Pairs of question and answer that come before the instruction.
    pub fn history(&mut self) -> Result<(), Fault> {
        let Some(i) = self.find("history") else { return Ok(()) };
        let mut node = self.node(i);
        let Value::Array(pairs) = &mut node.value else {
            return wrong(format!("`history` is {}, not a list of pairs", node.kind()));
        };
        for (n, pair) in pairs.iter_mut().enumerate() {
            let texts = match &mut pair.value {
                Value::Array(texts) => match texts.as_mut_slice() {
                    [question, answer] => question.take().zip(answer.take()),
                    _ => None,
                },
                _ => None,
            };
            let Some((question, answer)) = texts else {
                return wrong(format!("`history[{n}]` is not a pair of strings"));
            };
            self.row.turns.push(Turn::new(Role::User, question));
            self.row.turns.push(Turn::new(Role::Assistant, answer));
        }
        if self.row.turns.is_empty() {
            self.keep(i);
        } else {
            self.fill(i, Hole::History);
        }
        Ok(())
    }

    /// Several turns in one instruction, as Belle has them: `Human:…\nAssistant:…\nHuman:…\nAssistant:`.
    pub fn several(&mut self, instruction: usize, input: Option<usize>) -> Result<bool, Fault> {
        let empty = |i: usize| self.keys[i].1.str() == Some("");
        if self.carried || !self.row.turns.is_empty() || !input.is_none_or(empty) {
            return Ok(false);
        }
        let Some(texts) = self.keys[instruction].1.str().and_then(several) else { return Ok(false) };
        let (mut pieces, mut turns) = (Vec::new(), Vec::new());
        for (n, (before, text)) in texts.into_iter().enumerate() {
            pieces.push(Piece::Text(before.to_string()));
            if let Some(text) = text {
                pieces.push(Piece::Hole(Hole::Content(Who::At(List::Messages, n as u32), None)));
                let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
                turns.push(Turn::new(role, Cow::Owned(text.to_string())));
            }
        }
        self.row.turns = turns;
        self.shapes[instruction] = Some(Shape::Pieces(pieces));
        if let Some(i) = input {
            self.keep(i);
        }
        Ok(true)
    }

    /// Firefly's pairs of human and assistant.
    pub fn pairs(&mut self, i: usize) -> Result<RowSchema, Fault> {
        let node = self.node(i);
        let kind = node.kind();
        let key = &self.keys[i].0;
        let Value::Array(pairs) = node.value else {
            return wrong(format!("`{key}` is {kind}, not a list of pairs"));
        };
        let mut shapes = Vec::new();
        for (n, pair) in pairs.into_iter().enumerate() {
            let Value::Object(mut keys) = pair.value else {
                return wrong(format!("{key}[{n}] is no pair of human and assistant"));
            };
            let mut shape = Vec::new();
            let (mut human, mut assistant) = (None, None);
            let first = self.row.turns.len() as u32;
            for (name, node) in &mut keys {
                let (text, who) = match &**name {
                    "human" if human.is_none() => (&mut human, first),
                    "assistant" if assistant.is_none() => (&mut assistant, first + 1),
                    _ => {
                        shape.push((name.clone(), Shape::Literal(one_line(node.raw))));
                        continue;
                    }
                };
                *text = node.take();
                if text.is_none() {
                    return wrong(format!("`{name}` of {key}[{n}] is {}, not a string", node.kind()));
                }
                let hole = Hole::Content(Who::At(List::Messages, who), None);
                shape.push((name.clone(), Shape::Hole(hole)));
            }
            if let Some(name) = doubled(&keys) {
                return wrong(format!("{key}[{n}] has the key {name:?} twice"));
            }
            let Some((human, assistant)) = human.zip(assistant) else {
                return wrong(format!("{key}[{n}] is no pair of human and assistant"));
            };
            self.row.turns.push(Turn::new(Role::User, human));
            self.row.turns.push(Turn::new(Role::Assistant, assistant));
            shapes.push(shape);
        }
        let default = shapes.iter().all(|shape| {
            matches!(shape.as_slice(), [(first, _), (second, _)] if first == "human" && second == "assistant")
        });
        self.shapes[i] = Some(match default {
            true => Shape::Hole(Hole::Pairs),
            false => Shape::Array(shapes.into_iter().map(Shape::Object).collect()),
        });
        Ok(RowSchema::Firefly)
    }
}

const HUMAN: &str = "Human:";
pub(super) const ASSISTANT: &str = "Assistant:";

/// The turns in a text of `Human:…\nAssistant:…` that ends where the assistant is to answer: what
/// stands before each text, and the text; at the end only what stands there.
pub(in crate::dataset) fn several(text: &str) -> Option<Vec<(&str, Option<&str>)>> {
    if !text.trim_ascii_end().ends_with(ASSISTANT) || !text.trim_ascii_start().starts_with(HUMAN) {
        return None;
    }
    // Where each speaker's name begins, at the start of a line.
    let mut names = Vec::new();
    let mut line = text.len() - text.trim_ascii_start().len();
    loop {
        let rest = &text[line..];
        if rest.starts_with(HUMAN) {
            names.push((line, HUMAN));
        } else if rest.starts_with(ASSISTANT) {
            names.push((line, ASSISTANT));
        }
        match rest.find('\n') {
            Some(end) => line += end + 1,
            None => break,
        }
    }
    let in_turn = |(n, (_, name)): (usize, &(usize, &str))| *name == [HUMAN, ASSISTANT][n % 2];
    if names.len() % 2 != 0 || !names.iter().enumerate().all(in_turn) {
        return None;
    }
    let mut turns = Vec::with_capacity(names.len());
    let mut done = 0;
    for (n, (at, name)) in names.iter().enumerate() {
        let said = at + name.len();
        let end = names.get(n + 1).map_or(text.len(), |(next, _)| *next);
        let content = text[said..end].trim_ascii();
        if n + 1 == names.len() {
            return content.is_empty().then(|| {
                turns.push((&text[done..], None));
                turns
            });
        }
        if content.trim().is_empty() {
            return None;
        }
        let start = said + text[said..end].find(content)?;
        turns.push((&text[done..start], Some(content)));
        done = start + content.len();
    }
    None
}
