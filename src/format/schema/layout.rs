//! How a row was laid out in its file: what the canonical columns do not hold, so that the row can be
//! written again as it was.
//!
//! A layout is the row with holes: it names for each place the part of the canonical row that stands
//! there, and keeps as it is what no column holds. A row that is laid out as its schema lays out
//! rows by default needs none.
//!
//! In the column `extra` the layout stands under the key `lorascope`, after the keys that no schema
//! knows: `{"source":"book","lorascope":{"turns":[2,0,0],"keys":["source",["input",{"=":null}],…]}}`.
//! In `keys`, a name alone is a key laid out by default or one that no schema knows; a pair is a key
//! and its value with holes: a string names a hole, `{"=": value}` is a value as it was, `{"+": […]}`
//! a string in pieces, of which those that begin with `=` are text. `turns` counts messages, chosen
//! and rejected turns; a row that has other numbers of them since is laid out by default.
//! Where `bare` is true the row is the value of its one key alone, without an object around it.
//! `input` tells where an Alpaca row's input begins: the length of the instruction, where the input
//! begins, and the length of both with what joins them, in bytes.

use std::borrow::Cow;
use std::fmt;

use crate::format::record::CARRY;
use crate::format::write::json::{key, list, string};

/// One of the lists of turns of a canonical row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// The messages, then the chosen answer where there is one.
    Messages,
    Chosen,
    Rejected,
}

/// A turn of a canonical row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    System,
    At(List, u32),
}

/// A part of a text: where it begins and ends, and how long the whole is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub start: u32,
    pub end: u32,
    pub whole: u32,
}

/// Where the input begins in a text that was joined from instruction and input, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Input {
    /// The length of the instruction.
    pub instruction: u32,
    /// Where the input begins.
    pub start: u32,
    /// The length of the whole.
    pub whole: u32,
}

impl Input {
    /// The instruction.
    pub fn before(self) -> Slice {
        Slice { start: 0, end: self.instruction, whole: self.whole }
    }

    /// The input.
    pub fn after(self) -> Slice {
        Slice { start: self.start, end: self.whole, whole: self.whole }
    }
}

/// How turns name their speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// from and value of human and gpt.
    ShareGpt,
    /// from and value of human and assistant.
    BelleChat,
    /// from and value of user and assistant.
    UserChat,
    /// role and content of user and assistant.
    OpenAi,
}

impl Style {
    pub const ALL: [Self; 4] = [Self::ShareGpt, Self::BelleChat, Self::UserChat, Self::OpenAi];

    fn name(self) -> &'static str {
        match self {
            Self::ShareGpt => "sharegpt",
            Self::BelleChat => "belle-chat",
            Self::UserChat => "user-chat",
            Self::OpenAi => "openai",
        }
    }

    /// What a canonical role is called.
    pub fn word(self, role: &str) -> &'static str {
        match (role, self) {
            ("user", Self::ShareGpt | Self::BelleChat) => "human",
            ("user", _) => "user",
            ("system", _) => "system",
            ("tool", Self::OpenAi) => "tool",
            ("tool", _) => "observation",
            (_, Self::ShareGpt) => "gpt",
            _ => "assistant",
        }
    }
}

/// A place in a row that takes its value from the canonical row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hole {
    Id,
    /// The id as a number.
    IdNumber,
    /// The tools as a string.
    Tools,
    /// The tools as JSON.
    ToolsJson,
    Text,
    Label,
    Content(Who, Option<Slice>),
    Name(Who),
    Weight(Who),
    /// The calls of tools as a string.
    Calls(Who),
    CallsJson(Who),
    /// The call that a tool answers.
    CallId(Who),
    /// The calls as the text of a `function_call` turn.
    Call(Who),
    CallJson(Who),
    /// A whole turn.
    Turn(Who, Style),
    /// Turns of a list, after the system's where `system` says so.
    Turns {
        system: bool,
        list: List,
        start: u32,
        end: u32,
        style: Style,
    },
    /// Pairs of all messages but the last two.
    History,
    /// All messages as `{"human": …, "assistant": …}`.
    Pairs,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("s"),
            Self::At(list, i) => write!(f, "{list}{i}"),
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "m",
            Self::Chosen => "c",
            Self::Rejected => "r",
        })
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Id => f.write_str("id"),
            Self::IdNumber => f.write_str("id#"),
            Self::Tools => f.write_str("tools"),
            Self::ToolsJson => f.write_str("tools{}"),
            Self::Text => f.write_str("text"),
            Self::Label => f.write_str("label"),
            Self::History => f.write_str("history"),
            Self::Pairs => f.write_str("pairs"),
            Self::Content(who, None) => write!(f, "{who}"),
            Self::Content(who, Some(part)) => {
                write!(f, "{who}:{},{},{}", part.start, part.end, part.whole)
            }
            Self::Name(who) => write!(f, "{who}.name"),
            Self::Weight(who) => write!(f, "{who}.weight"),
            Self::Calls(who) => write!(f, "{who}.calls"),
            Self::CallsJson(who) => write!(f, "{who}.calls{{}}"),
            Self::CallId(who) => write!(f, "{who}.id"),
            Self::Call(who) => write!(f, "{who}.call"),
            Self::CallJson(who) => write!(f, "{who}.call{{}}"),
            Self::Turn(who, style) => write!(f, "{who}@{}", style.name()),
            Self::Turns { system, list, start, end, style } => {
                let system = if system { "s+" } else { "" };
                write!(f, "{system}{list}{start}-{end}@{}", style.name())
            }
        }
    }
}

impl Hole {
    /// Reads what Display writes.
    pub fn parse(text: &str) -> Option<Self> {
        let simple = match text {
            "id" => Some(Self::Id),
            "id#" => Some(Self::IdNumber),
            "tools" => Some(Self::Tools),
            "tools{}" => Some(Self::ToolsJson),
            "text" => Some(Self::Text),
            "label" => Some(Self::Label),
            "history" => Some(Self::History),
            "pairs" => Some(Self::Pairs),
            _ => None,
        };
        if simple.is_some() {
            return simple;
        }
        if let Some((turns, style)) = text.split_once('@') {
            let style = Style::ALL.into_iter().find(|known| known.name() == style)?;
            let (system, turns) = turns.strip_prefix("s+").map_or((false, turns), |turns| (true, turns));
            return Some(match turns.split_once('-') {
                None if system => return None,
                None => Self::Turn(who(turns)?, style),
                Some((first, end)) => {
                    let Who::At(list, start) = who(first)? else { return None };
                    Self::Turns { system, list, start, end: end.parse().ok()?, style }
                }
            });
        }
        if let Some((turn, part)) = text.split_once(':') {
            let mut numbers = part.split(',').map(|number| number.parse::<u32>().ok());
            let mut next = || numbers.next().flatten();
            let part = Slice { start: next()?, end: next()?, whole: next()? };
            return Some(Self::Content(who(turn)?, Some(part)));
        }
        let Some((turn, field)) = text.split_once('.') else { return Some(Self::Content(who(text)?, None)) };
        let who = who(turn)?;
        Some(match field {
            "name" => Self::Name(who),
            "weight" => Self::Weight(who),
            "calls" => Self::Calls(who),
            "calls{}" => Self::CallsJson(who),
            "id" => Self::CallId(who),
            "call" => Self::Call(who),
            "call{}" => Self::CallJson(who),
            _ => return None,
        })
    }
}

fn who(text: &str) -> Option<Who> {
    let list = match text.as_bytes().first()? {
        b's' if text.len() == 1 => return Some(Who::System),
        b'm' => List::Messages,
        b'c' => List::Chosen,
        b'r' => List::Rejected,
        _ => return None,
    };
    Some(Who::At(list, text[1..].parse().ok()?))
}

/// A value of a row with its holes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape<'a> {
    Hole(Hole),
    /// JSON as it was.
    Literal(Cow<'a, str>),
    /// A string in pieces.
    Pieces(Vec<TextPiece>),
    Array(Vec<Shape<'a>>),
    Object(Vec<(Cow<'a, str>, Shape<'a>)>),
}

/// A piece of a string.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TextPiece {
    Text(String),
    Hole(Hole),
}

impl Shape<'_> {
    /// Whether it takes anything from lists of turns, so that their lengths matter.
    fn counts(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Hole(hole) => !matches!(
                hole,
                Hole::Id | Hole::IdNumber | Hole::Tools | Hole::ToolsJson | Hole::Text | Hole::Label
            ),
            _ => true,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hole(hole) => string(out, &hole.to_string()),
            Self::Literal(json) => {
                out.extend_from_slice(b"{\"=\":");
                out.extend_from_slice(json.as_bytes());
                out.push(b'}');
            }
            Self::Pieces(pieces) => {
                out.extend_from_slice(b"{\"+\":");
                list(out, pieces, |out, piece| match piece {
                    TextPiece::Text(text) => string(out, &format!("={text}")),
                    TextPiece::Hole(hole) => string(out, &hole.to_string()),
                });
                out.push(b'}');
            }
            Self::Array(values) => list(out, values, |out, value| value.write(out)),
            Self::Object(keys) => {
                out.push(b'{');
                for (name, value) in keys {
                    key(out, name);
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// A key of a row: one that no schema knows and its value as JSON, or one that was used.
#[derive(Debug)]
pub(super) enum Key<'a> {
    Unknown(Cow<'a, str>),
    /// The shape is `None` where it is the schema's own.
    Known(Option<Shape<'a>>),
}

/// The column `extra`: the keys that no schema knows, and the layout where it is not the default.
pub(super) fn extra(
    keys: &[(Cow<'_, str>, Key<'_>)],
    bare: bool,
    default: bool,
    input: Option<Input>,
    turns: [usize; 3],
) -> Option<String> {
    let mut out = b"{".to_vec();
    for (name, value) in keys {
        if let Key::Unknown(json) = value {
            key(&mut out, name);
            out.extend_from_slice(json.as_bytes());
        }
    }
    if !default || input.is_some() {
        key(&mut out, CARRY);
        out.push(b'{');
        if let Some(Input { instruction, start, whole }) = input {
            key(&mut out, "input");
            out.extend_from_slice(format!("[{instruction},{start},{whole}]").as_bytes());
        }
        if !default {
            let counts = |(_, key): &(_, Key<'_>)| matches!(key, Key::Known(Some(shape)) if shape.counts());
            if keys.iter().any(counts) {
                let [m, c, r] = turns;
                key(&mut out, "turns");
                out.extend_from_slice(format!("[{m},{c},{r}]").as_bytes());
            }
            if bare {
                key(&mut out, "bare");
                out.extend_from_slice(b"true");
            }
            key(&mut out, "keys");
            list(&mut out, keys, |out, (name, value)| match value {
                Key::Unknown(_) | Key::Known(None) => string(out, name),
                Key::Known(Some(shape)) => {
                    out.push(b'[');
                    string(out, name);
                    out.push(b',');
                    shape.write(out);
                    out.push(b']');
                }
            });
        }
        out.push(b'}');
    }
    out.push(b'}');
    String::from_utf8(out).ok().filter(|out| out != "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_read_as_they_are_written() {
        let m = |i| Who::At(List::Messages, i);
        let turns = |system, list, style| Hole::Turns { system, list, start: 2, end: 12, style };
        let holes = [
            Hole::Id,
            Hole::IdNumber,
            Hole::Tools,
            Hole::ToolsJson,
            Hole::Text,
            Hole::Label,
            Hole::History,
            Hole::Pairs,
            Hole::Content(Who::System, None),
            Hole::Content(m(13), Some(Slice { start: 0, end: 5, whole: 17 })),
            Hole::Name(Who::At(List::Chosen, 0)),
            Hole::Weight(Who::At(List::Rejected, 1)),
            Hole::Calls(m(1)),
            Hole::CallsJson(m(1)),
            Hole::CallId(m(2)),
            Hole::Call(m(1)),
            Hole::CallJson(m(1)),
            Hole::Turn(Who::System, Style::OpenAi),
            turns(true, List::Messages, Style::ShareGpt),
            turns(false, List::Chosen, Style::UserChat),
            turns(false, List::Rejected, Style::BelleChat),
        ];
        for hole in holes {
            assert_eq!(Hole::parse(&hole.to_string()), Some(hole));
        }
        for text in ["", "x", "m", "m-1", "s1", "m1.x", "m1@x", "s+m1@openai", "s-1@openai", "m1:2,3", "数"]
        {
            assert_eq!(Hole::parse(text), None, "{text}");
        }
    }
}
