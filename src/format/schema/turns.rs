//! Lists of turns that name their speaker.

use std::borrow::Cow;

use super::calls::{calls_as_text, calls_of_one, calls_of_text};
use super::flags::{self, weight_of};
use super::layout::{Hole, List, Shape, Slice, Style, Who};
use super::speaker::{Speaker, lower};
use crate::format::Role;
use crate::format::problems::ProblemKind;
use crate::format::record::{Keys, Node, Value, doubled, one_line};
use crate::format::row::{Fault, Turn};
use crate::format::write::json::string;

/// A turn as it stands in the file, and what it is in canonical form.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub turn: Turn<'a>,
    /// Its keys, whose texts were taken.
    keys: Keys<'a>,
    /// The styles in which it stands like this, one bit for each.
    styles: u8,
    /// The text is calls of tools, as they are written by default.
    is_call: bool,
    /// Where the texts of its content parts stand in the whole; `None` for one that is no text.
    parts: Vec<Option<(u32, u32)>>,
    /// The weights that its content parts have, where one has a weight.
    weights: Vec<f32>,
}

fn wrong(what: String) -> Fault {
    (ProblemKind::WrongType, what.into())
}

fn bit(style: Style) -> u8 {
    1 << (style as u8)
}

fn not(place: &str, node: &Node<'_>, what: &str) -> Fault {
    wrong(format!("{place} is {}, not {what}", node.kind()))
}

/// The place of a key among those of a turn that is written by default: none may stand before one of a
/// lower place.
fn rank(key: &str) -> u8 {
    match key {
        "from" | "role" => 1,
        "value" | "content" => 2,
        "name" => 3,
        "tool_calls" => 4,
        "tool_call_id" => 5,
        "weight" => 6,
        _ => OTHERS,
    }
}

const OTHERS: u8 = 7;

/// The key of a turn under which its reasoning stands.
const THOUGHT: &str = "reasoning_content";

/// Reads one turn; `place` is where it stands, for messages.
pub(super) fn hear<'a>(node: Node<'a>, place: &dyn Fn() -> String) -> Result<Heard<'a>, Fault> {
    let kind = node.kind();
    let Value::Object(mut keys) = node.value else {
        return Err(wrong(format!(
            "{} is {kind}, not a turn with from and value, or role and content",
            place()
        )));
    };
    if let Some(key) = doubled(&keys) {
        return Err(wrong(format!("{} has the key {key:?} twice", place())));
    }
    let mut heard = Heard { styles: 0b1111, ..Heard::of(Turn::new(Role::Assistant, Cow::Borrowed(""))) };
    let openai = bit(Style::OpenAi);
    let (mut word, mut content, mut last) = (None, None, 0);
    for (key, node) in &mut keys {
        let here = || format!("`{key}` of {}", place());
        let name = lower(key);
        if *name != **key {
            heard.styles = 0;
        }
        match &*name {
            "from" | "role" | "value" | "content" => {
                heard.styles &= if matches!(&*name, "role" | "content") { openai } else { !openai };
                let speaks = matches!(&*name, "from" | "role");
                let twice = if speaks { word.is_some() } else { content.is_some() };
                if twice {
                    let what = if speaks { "who speaks" } else { "what" };
                    return Err(wrong(format!("{} says twice {what}", place())));
                }
                if speaks {
                    let text = node.take().ok_or_else(|| not(&here(), node, "a string"))?;
                    word = Some(text);
                } else {
                    content = Some(match &mut node.value {
                        Value::String(_) => node.take_content(),
                        Value::Null => None,
                        Value::Array(parts) => {
                            heard.styles = 0;
                            heard.joined(parts, &here)?.map(Into::into)
                        }
                        _ => return Err(not(&here(), node, "a string")),
                    });
                }
            }
            _ => heard.beside(key, node, &here)?,
        }
        let next = rank(key);
        if next < last || next == last && next != OTHERS {
            heard.styles = 0;
        }
        last = next;
    }
    let Some(word) = word else { return Err(wrong(format!("{} does not say who speaks", place()))) };
    let Some(speaker) = Speaker::of(&word) else {
        return Err((ProblemKind::UnknownRole, format!("{} is spoken by {word:?}", place()).into()));
    };
    if content.is_none()
        && keys.iter().any(|(key, _)| key == "observation")
        && matches!(speaker, Speaker::Role(Role::Tool))
    {
        let what = "what a tool was asked (`parameters`) and its answer (`observation`) stand in one turn: write the \
                    call as a turn of the assistant before it";
        return Err(wrong(format!("of {} {what}", place())));
    }
    let (said, text) = (content.is_some(), content.flatten());
    let turn = &mut heard.turn;
    turn.null_content = text.is_none();
    turn.content = text.unwrap_or_default();
    match speaker {
        Speaker::Role(role) => turn.role = role,
        Speaker::Call => {
            let call = std::mem::take(&mut turn.content).into_text();
            turn.null_content = true;
            let calls = calls_of_text(&call).filter(|_| turn.tool_calls.is_none());
            let calls = calls.ok_or_else(|| wrong(format!("{} calls a tool, but not as JSON", place())))?;
            heard.is_call = calls_as_text(&calls) == call;
            // A list of no calls is none.
            turn.tool_calls = (calls.trim() != "[]").then(|| calls.into());
            heard.styles &= if heard.is_call { 0b1111 } else { 0 };
        }
    }
    if turn.role == Role::Assistant
        && let Some(&weight) = heard.weights.first()
    {
        if heard.weights.iter().any(|other| *other != weight) {
            let what = "some parts are trained on and others are not: only whole turns can be";
            return Err(wrong(format!("of {} {what}", place())));
        }
        turn.weight = flags::lesser(turn.weight, Some(weight));
    }
    // In which styles is this what is written by default?
    let calls = turn.role == Role::Assistant && turn.tool_calls.is_some();
    let fits = |style: Style| {
        let spoken = word == style.word(turn.role.as_str()) && !heard.is_call;
        match style {
            Style::OpenAi => spoken,
            _ if calls => heard.is_call && word == "function_call",
            _ => spoken && !turn.null_content,
        }
    };
    for style in Style::ALL {
        if heard.styles & bit(style) != 0 && !(said && fits(style)) {
            heard.styles &= !bit(style);
        }
    }
    heard.keys = keys;
    Ok(heard)
}

/// Reads into a turn what stands beside its speaker and its text: calls, weights, all other keys.
pub(crate) fn with_keys<'a>(
    turn: Turn<'a>,
    mut keys: Keys<'a>,
    place: &dyn Fn() -> String,
) -> Result<Turn<'a>, Fault> {
    let mut heard = Heard::of(turn);
    for (key, node) in &mut keys {
        heard.beside(key, node, &|| format!("`{key}` of {}", place()))?;
    }
    Ok(heard.turn)
}

impl<'a> Heard<'a> {
    /// A turn of which nothing was read.
    fn of(turn: Turn<'a>) -> Self {
        Self { turn, keys: Keys::new(), styles: 0, is_call: false, parts: Vec::new(), weights: Vec::new() }
    }

    /// Reads what stands beside who speaks and what is said.
    fn beside(&mut self, key: &str, node: &mut Node<'a>, here: &dyn Fn() -> String) -> Result<(), Fault> {
        let name = lower(key);
        match &*name {
            "name" => {
                self.turn.name = node.take();
                if self.turn.name.is_none() {
                    self.styles = 0;
                    if !node.is_null() {
                        return Err(not(&here(), node, "a string"));
                    }
                }
            }
            "tool_calls" => self.calls(node, here)?,
            "tool_call_id" => match node {
                Node { value: Value::String(id), .. } => {
                    self.styles &= bit(Style::OpenAi);
                    self.turn.tool_call_id = Some(std::mem::take(id));
                }
                Node { raw, value: Value::Number, .. } => {
                    self.styles = 0;
                    self.turn.tool_call_id = Some(Cow::Borrowed(raw));
                }
                node if node.is_null() => self.styles = 0,
                node => return Err(not(&here(), node, "a string")),
            },
            "function_call" => {
                self.styles = 0;
                match node.value {
                    Value::Object(_) => {
                        if self.turn.tool_calls.is_some() {
                            return Err(wrong(format!("{} has calls of tools as well", here())));
                        }
                        self.turn.tool_calls = Some(calls_of_one(&one_line(node.raw)).into());
                    }
                    Value::Null => {}
                    _ => return Err(not(&here(), node, "an object")),
                }
            }
            _ => {
                let Some(mark) = flags::mark(key) else { return self.other(key, node.raw) };
                let weight = flags::weight(mark, node).map_err(|what| {
                    wrong(format!("{} is {what}, which does not say whether the turn is trained on", here()))
                })?;
                self.turn.weight = flags::lesser(self.turn.weight, weight);
                let text = weight.map(|weight| weight.to_string());
                if key != "weight" || text.as_deref() != Some(node.raw) {
                    self.styles = 0;
                }
            }
        }
        Ok(())
    }

    fn calls(&mut self, node: &mut Node<'a>, here: &dyn Fn() -> String) -> Result<(), Fault> {
        let none = |calls: &[Node<'_>]| calls.is_empty();
        if self.turn.tool_calls.is_some() && !node.is_null() {
            return Err(wrong(format!("{} stands beside other calls of tools", here())));
        }
        match &mut node.value {
            // No calls are none: there is nothing to say then but a text.
            Value::Array(calls) if none(calls) => self.styles = 0,
            Value::Array(_) => self.turn.tool_calls = Some(one_line(node.raw)),
            Value::String(text) => {
                self.styles = 0;
                match Node::parse(text).ok().as_ref().map(|node| node.array().map(none)) {
                    Some(Some(true)) => {}
                    Some(Some(false)) => self.turn.tool_calls = Some(std::mem::take(text)),
                    _ if text.trim().is_empty() || text.trim() == "null" => {}
                    _ => return Err(wrong(format!("{} is a string, but not of a JSON list", here()))),
                }
            }
            Value::Null => self.styles = 0,
            _ => return Err(not(&here(), node, "a list")),
        }
        Ok(())
    }

    /// Keeps a key of which nothing is known.
    fn other(&mut self, key: &str, raw: &str) -> Result<(), Fault> {
        let has = |extra: &str| Node::parse_own(extra).is_ok_and(|node| node.get(key).is_some());
        let mut out = match self.turn.extra.take() {
            Some(extra) if key == THOUGHT && has(&extra) => {
                return Err(wrong(format!("a turn has `{key}` and parts of reasoning as well")));
            }
            Some(extra) => extra.into_owned(),
            None => String::from("{}"),
        };
        out.pop();
        if out.len() > 1 {
            out.push(',');
        }
        let mut name = Vec::new();
        string(&mut name, key);
        out.push_str(&String::from_utf8_lossy(&name));
        out.push(':');
        out.push_str(&one_line(raw));
        out.push('}');
        self.turn.extra = Some(Cow::Owned(out));
        Ok(())
    }

    /// The texts of content parts one after the other, as chat templates join them; notes where each is.
    /// Parts that are reasoning or a call become those of the turn. `None` where no part is a text.
    fn joined(
        &mut self,
        parts: &mut [Node<'a>],
        here: &dyn Fn() -> String,
    ) -> Result<Option<Cow<'a, str>>, Fault> {
        let (mut whole, mut said) = (String::new(), parts.is_empty());
        let (mut calls, mut thoughts): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut weights: Vec<Option<f32>> = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            let wrong = |what: &str| wrong(format!("part {} of {} {what}", n + 1, here()));
            let kind = part.get("type").and_then(Node::str);
            let value = || part.get("text").or_else(|| part.get("value"));
            let text = match &part.value {
                Value::String(text) => Some(&**text),
                _ if part.object().and_then(doubled).is_some() => return Err(wrong("has a key twice")),
                _ => match kind {
                    None | Some("text" | "input_text" | "output_text") => value().and_then(Node::str),
                    Some("reasoning" | "thinking") => {
                        let thought = value().or_else(|| part.get("thinking")).and_then(Node::str);
                        thoughts.push(thought.ok_or_else(|| wrong("is reasoning without a text"))?);
                        weights.push(weight_of(part).map_err(|what| wrong(&what))?);
                        self.parts.push(None);
                        continue;
                    }
                    Some("tool_call") => {
                        let call = value().or_else(|| part.get("tool_call"));
                        let call = match call {
                            Some(node) if node.object().is_some() => Some(one_line(node.raw).into_owned()),
                            Some(node) => node.str().map(str::to_string),
                            None => None,
                        };
                        let call = call.and_then(|text| calls_of_text(&text));
                        let call = call.ok_or_else(|| wrong("calls a tool, but not as JSON"))?;
                        calls.push(call[1..call.len() - 1].to_string());
                        weights.push(weight_of(part).map_err(|what| wrong(&what))?);
                        self.parts.push(None);
                        continue;
                    }
                    Some(_) => None,
                },
            };
            let Some(text) = text else { return Err(wrong("is no text")) };
            said = true;
            if !text.trim().is_empty() {
                weights.push(weight_of(part).map_err(|what| wrong(&what))?);
            }
            self.parts.push(Some((whole.len() as u32, (whole.len() + text.len()) as u32)));
            whole.push_str(text);
        }
        if weights.iter().any(Option::is_some) {
            self.weights = weights.into_iter().map(|weight| weight.unwrap_or(1.0)).collect();
        }
        if !thoughts.is_empty() {
            let mut json = Vec::new();
            string(&mut json, &thoughts.join("\n"));
            self.other(THOUGHT, &String::from_utf8_lossy(&json))?;
        }
        if !calls.is_empty() {
            if self.turn.tool_calls.is_some() {
                return Err(wrong(format!("{} has calls of tools twice", here())));
            }
            self.turn.tool_calls = Some(format!("[{}]", calls.join(", ")).into());
        }
        Ok(said.then_some(Cow::Owned(whole)))
    }
}

impl<'a> Heard<'a> {
    /// The turn is no longer written as one of the row, which has other things noted beside it.
    pub fn differs(&mut self) {
        self.styles = 0;
    }

    /// Whether it is what the system says.
    pub fn is_system(&self) -> bool {
        self.turn.role == Role::System
    }

    /// Whether its speaker is called so.
    pub fn is_called(&self, word: &str) -> bool {
        let speaks = |key: &str| matches!(&*lower(key), "from" | "role");
        let speaker = self.keys.iter().find(|(key, _)| speaks(key));
        speaker.is_some_and(|(_, node)| node.raw.trim_matches('"') == word)
    }

    /// The turn with holes, as `who` of the canonical row.
    fn shape(&self, who: Who) -> Shape<'a> {
        let turn = &self.turn;
        let shape = |(key, node): &(Cow<'a, str>, Node<'a>)| {
            let literal = || Shape::Literal(one_line(node.raw));
            let shape = match (&*lower(key), &node.value) {
                ("value" | "content", Value::String(_)) if self.is_call => Shape::Hole(Hole::Call(who)),
                // A call that is written in another way than ours.
                ("value" | "content", Value::String(_)) if turn.null_content => literal(),
                ("value" | "content", Value::String(_)) => Shape::Hole(Hole::Content(who, None)),
                ("value" | "content", Value::Array(parts)) => self.parts(parts, who),
                // The system's column holds its text only.
                _ if who == Who::System => literal(),
                ("name", Value::String(_)) => Shape::Hole(Hole::Name(who)),
                ("tool_calls", _) if turn.tool_calls.is_none() => literal(),
                ("tool_calls", Value::String(_)) => Shape::Hole(Hole::Calls(who)),
                ("tool_calls", Value::Array(_)) => Shape::Hole(Hole::CallsJson(who)),
                ("tool_call_id", Value::String(_)) => Shape::Hole(Hole::CallId(who)),
                ("function_call", Value::Object(_)) => Shape::Hole(Hole::CallJson(who)),
                ("weight", Value::Number)
                    if turn.weight.is_some_and(|weight| weight.to_string() == node.raw) =>
                {
                    Shape::Hole(Hole::Weight(who))
                }
                _ => literal(),
            };
            (key.clone(), shape)
        };
        Shape::Object(self.keys.iter().map(shape).collect())
    }

    fn parts(&self, parts: &[Node<'a>], who: Who) -> Shape<'a> {
        let whole = self.turn.content.len() as u32;
        let shape = |(part, place): (&Node<'a>, &Option<(u32, u32)>)| {
            let Some(place) = place else { return Shape::Literal(one_line(part.raw)) };
            let slice = Slice { start: place.0, end: place.1, whole };
            let text = Shape::Hole(Hole::Content(who, Some(slice).filter(|_| parts.len() > 1)));
            match &part.value {
                Value::Object(keys) => {
                    let shape = |(key, node): &(Cow<'a, str>, Node<'a>)| match &**key {
                        "text" | "value" if node.str().is_some() => (key.clone(), text.clone()),
                        _ => (key.clone(), Shape::Literal(one_line(node.raw))),
                    };
                    Shape::Object(keys.iter().map(shape).collect())
                }
                _ => text,
            }
        };
        Shape::Array(parts.iter().zip(&self.parts).map(shape).collect())
    }
}

/// Reads a list of turns.
pub(super) fn hear_all<'a>(node: Node<'a>, key: &str) -> Result<Vec<Heard<'a>>, Fault> {
    let kind = node.kind();
    let Value::Array(turns) = node.value else {
        return Err(wrong(format!("`{key}` is {kind}, not a list of turns")));
    };
    let turns = turns.into_iter().enumerate();
    turns.map(|(i, turn)| hear(turn, &|| format!("{key}[{i}]"))).collect()
}

/// The shape of a list whose turns became those that `who` says, or of one turn that stood alone.
pub(super) fn shape_of<'a>(
    heard: &[Heard<'a>],
    who: &dyn Fn(usize) -> Who,
    prefer: Style,
    alone: bool,
) -> Shape<'a> {
    let styles = heard.iter().enumerate().fold(0b1111, |styles, (i, turn)| {
        // Of a system's turn only the text is in its column.
        if who(i) == Who::System && !turn.turn.has_text_only() { 0 } else { styles & turn.styles }
    });
    let style = std::iter::once(prefer).chain(Style::ALL).find(|style| styles & bit(*style) != 0);
    if let (true, [one]) = (alone, heard) {
        return match style {
            Some(style) => Shape::Hole(Hole::Turn(who(0), style)),
            None => one.shape(who(0)),
        };
    }
    let system = !heard.is_empty() && who(0) == Who::System;
    let first = usize::from(system);
    let (list, start) = match (heard.len() > first).then(|| who(first)) {
        Some(Who::At(list, start)) => (list, start),
        _ => (List::Messages, 0),
    };
    let in_row = |i: usize| who(first + i) == Who::At(list, start + i as u32);
    if let Some(style) = style
        && (0..heard.len() - first).all(in_row)
    {
        let end = start + (heard.len() - first) as u32;
        return Shape::Hole(Hole::Turns { system, list, start, end, style });
    }
    let turn = |(i, turn): (usize, &Heard<'a>)| {
        let text_only = who(i) != Who::System || turn.turn.has_text_only();
        let style = std::iter::once(prefer).chain(Style::ALL).find(|s| turn.styles & bit(*s) != 0);
        match style.filter(|_| text_only) {
            Some(style) => Shape::Hole(Hole::Turn(who(i), style)),
            None => turn.shape(who(i)),
        }
    };
    Shape::Array(heard.iter().enumerate().map(turn).collect())
}
