//! Lists of turns that name their speaker.

use std::borrow::Cow;

use super::layout::{Hole, List, Shape, Slice, Style, Who};
use super::{Fault, Turn};
use crate::dataset::problems::ProblemKind;
use crate::dataset::record::{Keys, Node, Value, doubled, one_line};
use crate::text::Role;

/// A turn as it stands in the file, and what it is in canonical form.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub turn: Turn<'a>,
    /// Its keys, whose texts were taken.
    keys: Keys<'a>,
    /// The styles in which it stands like this, one bit for each.
    styles: u8,
    /// The text is a call of tools: just one, or the list of them.
    call: Option<Called>,
    /// Where the texts of its content parts stand in the whole.
    parts: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Called {
    One,
    All,
}

enum Speaker {
    Role(Role),
    /// The assistant, calling a tool: the turn's text is the call.
    Call,
}

impl Speaker {
    fn of(name: &str) -> Option<Self> {
        Some(Self::Role(match name {
            "human" | "user" | "prompter" => Role::User,
            "gpt" | "assistant" | "bot" | "model" | "chatgpt" | "bing" | "bard" | "claude" | "ai" => {
                Role::Assistant
            }
            "system" | "developer" => Role::System,
            "tool" | "observation" | "function" | "function_response" | "ipython" => Role::Tool,
            "function_call" | "tool_call" => return Some(Self::Call),
            _ if name.bytes().any(|b| b.is_ascii_uppercase()) => {
                return Self::of(&name.to_ascii_lowercase());
            }
            _ => return None,
        }))
    }
}

/// The role that a file means by a name.
pub(in crate::dataset) fn role_by_name(name: &str) -> Option<Role> {
    Some(match Speaker::of(name)? {
        Speaker::Role(role) => role,
        Speaker::Call => Role::Assistant,
    })
}

/// What stands around the text of a `function_call` turn to make it the list that OpenAI's rows and
/// chat templates have; the text inside is kept to the byte, so that it can be written again.
const CALL: (&str, &str) = ("[{\"type\": \"function\", \"function\": ", "}]");

/// A `function_call` turn's text as a list of calls; `None` where it is neither call nor list.
fn call_to_json(text: &str) -> Option<String> {
    match Node::parse(text).ok()?.value {
        Value::Object(_) => Some(format!("{}{text}{}", CALL.0, CALL.1)),
        Value::Array(_) => Some(text.to_string()),
        _ => None,
    }
}

/// The text of the `function_call` turn that makes these calls.
pub(in crate::dataset) fn call_to_text(calls: &str) -> &str {
    let inside = calls.strip_prefix(CALL.0).and_then(|rest| rest.strip_suffix(CALL.1));
    let one = |text: &&str| Node::parse_own(text).is_ok_and(|node| node.object().is_some());
    inside.filter(one).unwrap_or(calls)
}

fn wrong(what: String) -> Fault {
    (ProblemKind::WrongType, what.into())
}

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
    let mut heard = Heard {
        turn: Turn::new(Role::Assistant, Cow::Borrowed("")),
        keys: Keys::new(),
        styles: 0b1111,
        call: None,
        parts: Vec::new(),
    };
    let openai = bit(Style::OpenAi);
    let (mut word, mut content, mut rank) = (None, None, 0);
    for (key, node) in &mut keys {
        let here = || format!("`{key}` of {}", place());
        let next = match &**key {
            "from" | "role" | "value" | "content" => {
                heard.styles &= if matches!(&**key, "role" | "content") { openai } else { !openai };
                let speaks = matches!(&**key, "from" | "role");
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
                        Value::String(text) => Some(std::mem::take(text)),
                        Value::Null => None,
                        Value::Array(parts) => {
                            heard.styles = 0;
                            let (text, places) = joined(parts, &here)?;
                            heard.parts = places;
                            Some(Cow::Owned(text))
                        }
                        _ => return Err(not(&here(), node, "a string")),
                    });
                }
                if speaks { 1 } else { 2 }
            }
            "name" => {
                heard.turn.name = node.take();
                if heard.turn.name.is_none() {
                    heard.styles = 0;
                    if !node.is_null() {
                        return Err(not(&here(), node, "a string"));
                    }
                }
                3
            }
            "tool_calls" => {
                match &mut node.value {
                    Value::Array(_) => heard.turn.tool_calls = Some(one_line(node.raw)),
                    Value::String(text) => {
                        heard.styles = 0;
                        if !Node::parse(text).is_ok_and(|node| node.array().is_some()) {
                            return Err(wrong(format!("{} is a string, but not of a JSON list", here())));
                        }
                        heard.turn.tool_calls = Some(std::mem::take(text));
                    }
                    Value::Null => heard.styles = 0,
                    _ => return Err(not(&here(), node, "a list")),
                }
                4
            }
            "weight" => {
                heard.turn.weight = weight(node, &here)?;
                let text = heard.turn.weight.map(|weight| weight.to_string());
                if text.as_deref() != Some(node.raw) {
                    heard.styles = 0;
                }
                5
            }
            "function_call" => {
                heard.styles = 0;
                match node.value {
                    Value::Object(_) => {
                        if heard.turn.tool_calls.is_some() {
                            return Err(wrong(format!("{} has calls of tools as well", here())));
                        }
                        let call = one_line(node.raw);
                        heard.turn.tool_calls = Some(format!("{}{call}{}", CALL.0, CALL.1).into());
                    }
                    Value::Null => {}
                    _ => return Err(not(&here(), node, "an object")),
                }
                6
            }
            _ => {
                heard.styles = 0;
                7
            }
        };
        if next <= rank {
            heard.styles = 0;
        }
        rank = next;
    }
    let Some(word) = word else { return Err(wrong(format!("{} does not say who speaks", place()))) };
    let Some(speaker) = Speaker::of(&word) else {
        return Err((ProblemKind::UnknownRole, format!("{} is spoken by {word:?}", place()).into()));
    };
    let (said, text) = (content.is_some(), content.flatten());
    let null = said && text.is_none();
    let turn = &mut heard.turn;
    turn.content = text.unwrap_or_default();
    match speaker {
        Speaker::Role(role) => turn.role = role,
        Speaker::Call => {
            let call = std::mem::take(&mut turn.content);
            let calls = call_to_json(&call).filter(|_| turn.tool_calls.is_none());
            let calls = calls.ok_or_else(|| wrong(format!("{} calls a tool, but not as JSON", place())))?;
            let one = call_to_text(&calls) == call;
            heard.call = Some(if one { Called::One } else { Called::All });
            turn.tool_calls = Some(calls.into());
        }
    }
    // In which styles is this what is written by default?
    let calls_only = turn.role == Role::Assistant && turn.tool_calls.is_some() && turn.content.is_empty();
    let fits = |style: Style| {
        let (word, call) = (&*word, heard.call);
        match style {
            Style::OpenAi => call.is_none() && null == calls_only && word == style.word(turn.role.as_str()),
            _ if calls_only => call == Some(Called::One) && word == "function_call",
            _ => call.is_none() && !null && word == style.word(turn.role.as_str()),
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

fn bit(style: Style) -> u8 {
    1 << (style as u8)
}

fn not(place: &str, node: &Node<'_>, what: &str) -> Fault {
    wrong(format!("{place} is {}, not {what}", node.kind()))
}

fn weight(node: &Node<'_>, here: &dyn Fn() -> String) -> Result<Option<f32>, Fault> {
    match node.value {
        Value::Null => Ok(None),
        Value::Number => match node.raw.parse::<f32>() {
            Ok(weight) if weight.is_finite() => Ok(Some(weight)),
            _ => Err(wrong(format!("{}: {} is out of range", here(), node.kind()))),
        },
        _ => Err(not(&here(), node, "a number")),
    }
}

/// The texts of content parts one after the other, as chat templates join them, and where each is.
fn joined(parts: &mut [Node<'_>], here: &dyn Fn() -> String) -> Result<(String, Vec<(u32, u32)>), Fault> {
    let (mut whole, mut places) = (String::new(), Vec::new());
    for (n, part) in parts.iter().enumerate() {
        let text = match &part.value {
            Value::String(text) => Some(&**text),
            _ if part.object().and_then(doubled).is_some() => None,
            _ if part.get("type").is_none_or(|kind| kind.str() == Some("text")) => {
                part.get("text").and_then(Node::str)
            }
            _ => None,
        };
        let Some(text) = text else {
            return Err(wrong(format!("part {} of {} is no text", n + 1, here())));
        };
        places.push((whole.len() as u32, (whole.len() + text.len()) as u32));
        whole.push_str(text);
    }
    Ok((whole, places))
}

impl<'a> Heard<'a> {
    /// Whether it is what the system says.
    pub fn is_system(&self) -> bool {
        self.turn.role == Role::System
    }

    /// Whether its speaker is called so.
    pub fn is_called(&self, word: &str) -> bool {
        let speaker = self.keys.iter().find(|(key, _)| key == "from" || key == "role");
        speaker.is_some_and(|(_, node)| node.raw.trim_matches('"') == word)
    }

    /// The turn with holes, as `who` of the canonical row.
    fn shape(&self, who: Who) -> Shape<'a> {
        let turn = &self.turn;
        let shape = |(key, node): &(Cow<'a, str>, Node<'a>)| {
            let literal = || Shape::Literal(one_line(node.raw));
            let shape = match (&**key, &node.value) {
                ("value" | "content", Value::String(_)) => Shape::Hole(match self.call {
                    Some(Called::One) => Hole::Call(who),
                    Some(Called::All) => Hole::Calls(who),
                    None => Hole::Content(who, None),
                }),
                ("value" | "content", Value::Array(parts)) => self.parts(parts, who),
                // The system's column holds its text only.
                _ if who == Who::System => literal(),
                ("name", Value::String(_)) => Shape::Hole(Hole::Name(who)),
                ("tool_calls", Value::String(_)) => Shape::Hole(Hole::Calls(who)),
                ("tool_calls", Value::Array(_)) => Shape::Hole(Hole::CallsJson(who)),
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
        let shape = |(part, place): (&Node<'a>, &(u32, u32))| {
            let slice = Slice { start: place.0, end: place.1, whole };
            let text = Shape::Hole(Hole::Content(who, Some(slice).filter(|_| parts.len() > 1)));
            match &part.value {
                Value::Object(keys) => {
                    let shape = |(key, node): &(Cow<'a, str>, Node<'a>)| match &**key {
                        "text" => (key.clone(), text.clone()),
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
