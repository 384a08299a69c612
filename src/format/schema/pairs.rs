//! Turns that do not name their speaker: pairs, texts in turn, several turns in one text.

use std::borrow::Cow;

use super::layout::{Hole, List, Shape, Style, TextPiece, Who};
use super::reader::{Reader, are_turns, wrong};
use super::transcript::several;
use super::turns::hear_all;
use super::{flags, recognise};
use crate::format::Role;
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::record::{Node, Value, doubled, one_line};
use crate::format::row::{Fault, Turn};
use crate::format::row_schema::RowSchema;

impl<'a> Reader<'a> {
    /// Pairs of question and answer that come before the instruction.
    pub fn history(&mut self) -> Result<(), Fault> {
        let Some(i) = self.find("history") else { return Ok(()) };
        if self.keys[i].1.str().is_some_and(|text| text.trim().is_empty()) {
            self.keep(i);
            return Ok(());
        }
        let mut node = self.node(i);
        if node.array().is_some_and(are_turns) {
            let heard = hear_all(node, "history")?;
            self.take(i, heard, Style::OpenAi);
            self.history = self.row.turns.len() as u32;
            return Ok(());
        }
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
        self.history = self.row.turns.len() as u32;
        if self.history == 0 {
            self.keep(i);
        } else {
            self.fill(i, Hole::History);
        }
        Ok(())
    }

    /// Reads a `history` of pairs or of turns that stands beside a list of turns. Anything else under that key
    /// is none, and stays a key like any other.
    pub fn history_beside(&mut self) -> Result<(), Fault> {
        let pair =
            |node: &Node<'a>| node.array().is_some_and(|texts| texts.len() == 2 && recognise::texts(texts));
        let says = |i: &usize| {
            let values = self.keys[*i].1.array().unwrap_or_default();
            !values.is_empty() && (values.iter().all(pair) || are_turns(values))
        };
        let Some(i) = self.find("history") else { return Ok(()) };
        if !says(&i) {
            let node = &self.keys[i].1;
            let empty = node.array().is_some_and(<[_]>::is_empty)
                || node.str().is_some_and(|text| text.trim().is_empty());
            if !empty {
                let what = format!(
                    "`history` is {} that is neither one of pairs of texts nor one of turns: it is not read",
                    node.kind()
                );
                self.row.noted.push((ProblemKind::Aside, what.into(), Outcome::Kept));
            }
            return Ok(());
        }
        self.history()?;
        self.name_history();
        self.after_history = true;
        Ok(())
    }

    /// Names the turns of a history of pairs, where they are not all but the last two: beside a list of turns,
    /// or before more than one question and its answer.
    pub fn name_history(&mut self) {
        let is_history = |shape: &Option<Shape<'_>>| matches!(shape, Some(Shape::Hole(Hole::History)));
        let Some(i) = self.shapes.iter().position(is_history) else { return };
        let text = |n| Shape::Hole(Hole::Content(Who::At(List::Messages, n), None));
        let pairs = self.history / 2;
        let pairs = (0..pairs).map(|n| Shape::Array(vec![text(2 * n), text(2 * n + 1)]));
        self.shapes[i] = Some(Shape::Array(pairs.collect()));
    }

    /// Several turns in one instruction, as Belle has them: `Human:…\nAssistant:…\nHuman:…\nAssistant:`.
    pub fn several(&mut self, instruction: usize, input: Option<usize>) -> Result<bool, Fault> {
        let empty = |i: usize| self.keys[i].1.str().is_some_and(|text| text.trim().is_empty());
        if self.carried || !self.row.turns.is_empty() || !input.is_none_or(empty) {
            return Ok(false);
        }
        let Some(texts) = self.keys[instruction].1.str().and_then(several) else { return Ok(false) };
        let (mut pieces, mut turns) = (Vec::new(), Vec::new());
        for (n, (before, text)) in texts.into_iter().enumerate() {
            pieces.push(TextPiece::Text(before.to_string()));
            if let Some(text) = text {
                pieces.push(TextPiece::Hole(Hole::Content(Who::At(List::Messages, n as u32), None)));
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
            let (mut human, mut assistant, mut weight) = (None, None, None);
            let first = self.row.turns.len() as u32;
            for (name, node) in &mut keys {
                let (text, who) = match &*name.to_ascii_lowercase() {
                    "human" | "input" | "user" | "question" if human.is_none() => (&mut human, first),
                    "assistant" | "output" | "answer" if assistant.is_none() => (&mut assistant, first + 1),
                    // The first pair may have the system's text.
                    "system" if n == 0 && self.row.system.is_none() && node.str().is_some() => {
                        self.row.system = node.take();
                        shape.push((name.clone(), Shape::Hole(Hole::Content(Who::System, None))));
                        continue;
                    }
                    _ => {
                        weigh(&mut weight, node, name, &|| format!("{key}[{n}]"))?;
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
            self.row.turns.push(Turn { weight, ..Turn::new(Role::Assistant, assistant) });
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

    /// MOSS's turns: an object of objects, whose texts stand between marks, as in `<|Human|>: …<eoh>`.
    pub fn moss(&mut self, i: usize) -> Result<RowSchema, Fault> {
        let node = self.node(i);
        let Value::Object(turns) = node.value else { return wrong("`chat` holds no turns".to_string()) };
        if let Some(name) = doubled(&turns) {
            return wrong(format!("`chat` has the key {name:?} twice"));
        }
        let mut shapes = Vec::with_capacity(turns.len());
        for (name, turn) in turns {
            let Value::Object(mut keys) = turn.value else {
                return wrong(format!("`{name}` of `chat` is no pair of Human and MOSS"));
            };
            let mut shape = Vec::with_capacity(keys.len());
            if let Some(key) = doubled(&keys) {
                return wrong(format!("`{name}` of `chat` has the key {key:?} twice"));
            }
            let (mut human, mut moss, mut weight) = (None, None, None);
            let first = self.row.turns.len() as u32;
            for (key, node) in &mut keys {
                let (text, who) = match &**key {
                    "Human" => (&mut human, first),
                    "MOSS" => (&mut moss, first + 1),
                    "Commands" | "Tool Responses" if node.str().is_some_and(calls_a_tool) => {
                        return wrong(format!(
                            "`{key}` of `{name}` calls a tool in MOSS's own language, which is not read: write it as \
                             messages with tool_calls"
                        ));
                    }
                    _ => {
                        weigh(&mut weight, node, key, &|| format!("`{name}`"))?;
                        shape.push((key.clone(), Shape::Literal(one_line(node.raw))));
                        continue;
                    }
                };
                let Some(said) = node.take() else {
                    return wrong(format!("`{key}` of `{name}` is {}, not a string", node.kind()));
                };
                let inside = unmarked(&said, key);
                let hole = TextPiece::Hole(Hole::Content(Who::At(List::Messages, who), None));
                let before = TextPiece::Text(said[..inside.start].to_string());
                let after = TextPiece::Text(said[inside.end..].to_string());
                shape.push((key.clone(), Shape::Pieces(vec![before, hole, after])));
                *text = Some(match said {
                    Cow::Borrowed(said) => Cow::Borrowed(&said[inside]),
                    Cow::Owned(said) => Cow::Owned(said[inside].to_string()),
                });
            }
            let Some((human, moss)) = human.zip(moss) else {
                return wrong(format!("`{name}` of `chat` is no pair of Human and MOSS"));
            };
            self.row.turns.push(Turn::new(Role::User, human));
            self.row.turns.push(Turn { weight, ..Turn::new(Role::Assistant, moss) });
            shapes.push((name, Shape::Object(shape)));
        }
        self.shapes[i] = Some(Shape::Object(shapes));
        Ok(RowSchema::Firefly)
    }

    /// Texts of user and assistant in turn.
    pub fn in_turn(&mut self, i: usize, node: Node<'a>) -> Result<RowSchema, Fault> {
        let Value::Array(texts) = node.value else { return wrong("the turns are no list".to_string()) };
        let mut shapes = Vec::with_capacity(texts.len());
        for mut text in texts {
            let n = self.row.turns.len();
            let role = if n.is_multiple_of(2) { Role::User } else { Role::Assistant };
            shapes.push(Shape::Hole(Hole::Content(Who::At(List::Messages, n as u32), None)));
            self.row.turns.push(Turn::new(role, text.take().unwrap_or_default()));
        }
        self.shapes[i] = Some(Shape::Array(shapes));
        Ok(RowSchema::OpenAi)
    }

    /// The one input and output of an instruction.
    pub fn only_instance(&mut self, instruction: usize, i: usize) -> Result<RowSchema, Fault> {
        let question = self.text(instruction)?;
        let mut node = self.node(i);
        let instances = match &mut node.value {
            Value::Array(instances) => instances.as_mut_slice(),
            _ => &mut [],
        };
        let [Node { value: Value::Object(keys), .. }] = instances else {
            return wrong(format!(
                "`instances` holds {}, and a row is one question and its answer: give each a record of its \
                 own, or take the first of each: Dataset::open_as(path, Map::new().user(\"instruction\")\
                 .input(\"instances.0.input\").assistant(\"instances.0.output\")), on the command line --map \
                 user=instruction,input=instances.0.input,assistant=instances.0.output",
                instances.len()
            ));
        };
        let mut take = |name: &str| -> Result<Option<Cow<'a, str>>, Fault> {
            match keys.iter_mut().find(|(key, node)| key == name && !node.is_null()) {
                None => Ok(None),
                Some((_, node)) => match node.take() {
                    Some(text) => Ok(Some(text)),
                    None => wrong(format!("`{name}` of instances[0] is {}, not a string", node.kind())),
                },
            }
        };
        let (input, output) = (take("input")?.unwrap_or_default(), take("output")?);
        let Some(output) = output else { return wrong("`output` of instances[0] is missing".to_string()) };
        let who = |n| Who::At(List::Messages, n);
        let blank = !question.is_empty() && question.trim().is_empty();
        let (question, asked, given) = match input.trim().is_empty() {
            true => (question, None, None),
            false => {
                let (joined, sizes) = self.joined(&question, &input);
                (Cow::Owned(joined), Some(sizes.before()), Some(sizes.after()))
            }
        };
        match blank && given.is_some() {
            true => self.keep(instruction),
            false => self.fill(instruction, Hole::Content(who(0), asked)),
        }
        let shape = |(key, node): &(Cow<'a, str>, Node<'a>)| {
            let shape = match (&**key, given) {
                ("input", Some(_)) if node.str().is_some() => Shape::Hole(Hole::Content(who(0), given)),
                ("output", _) => Shape::Hole(Hole::Content(who(1), None)),
                _ => Shape::Literal(one_line(node.raw)),
            };
            (key.clone(), shape)
        };
        self.shapes[i] = Some(Shape::Array(vec![Shape::Object(keys.iter().map(shape).collect())]));
        let mut weight = None;
        for (key, node) in keys.iter() {
            weigh(&mut weight, node, key, &|| "instances[0]".to_string())?;
        }
        let answer = Turn { weight, ..Turn::new(Role::Assistant, output) };
        self.row.turns = vec![Turn::new(Role::User, question), answer];
        Ok(RowSchema::Alpaca)
    }
}

/// Whether a command or a result of MOSS's is one, and not the word for none.
fn calls_a_tool(text: &str) -> bool {
    let inside = text.split_once("|>:").map_or(text, |(_, rest)| rest);
    let inside = inside.rsplit_once("<eo").map_or(inside, |(before, _)| before).trim();
    !(inside.is_empty() || inside.eq_ignore_ascii_case("none"))
}

/// Where a text stands between the marks of a key of MOSS's.
fn unmarked(text: &str, key: &str) -> std::ops::Range<usize> {
    let begins = text.trim_start();
    let mark = begins.strip_prefix("<|").and_then(|rest| rest.strip_prefix(key)?.strip_prefix("|>:"));
    let start = mark.map_or(0, |rest| text.len() - rest.trim_start_matches(' ').len());
    let ends = text[start..].trim_end();
    let marked = ends.strip_suffix('>').and_then(|rest| rest.rfind("<eo")).filter(|at| ends.len() - at <= 6);
    start..marked.map_or(text.len(), |at| start + at)
}

/// Adds what a key of a pair says of the answer's weight, if it is a key of one.
fn weigh(
    weight: &mut Option<f32>,
    node: &Node<'_>,
    key: &str,
    place: &dyn Fn() -> String,
) -> Result<(), Fault> {
    let Some(mark) = flags::mark(key) else { return Ok(()) };
    match flags::weight(mark, node) {
        Ok(said) => *weight = flags::lesser(*weight, said),
        Err(what) => {
            let place = place();
            return wrong(format!(
                "`{key}` of {place} is {what}, which does not say whether the answer is trained on"
            ));
        }
    }
    Ok(())
}
