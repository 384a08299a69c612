//! The ground types of canonical rows: roles, rows, turns.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::problems::{Noted, ProblemKind};
use super::record::{Content, Node, one_line};
use super::row_schema::RowSchema;
use super::write::json::{key, string};

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that apply to the whole conversation.
    System,
    /// The person.
    User,
    /// The model; only its turns are trained on.
    Assistant,
    /// The result of a tool that the assistant called.
    Tool,
}

impl Role {
    /// The role's name in files and in chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The keys of a turn that may hold its reasoning.
pub(crate) const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// The role of a name in the canonical table.
pub(crate) fn role_of(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "user" => Role::User,
        "tool" => Role::Tool,
        _ => Role::Assistant,
    }
}

/// The value of the column `source` for rows that were read with a [`Map`](crate::format::Map).
pub(crate) const MAPPED: &str = "map";

/// A row in canonical form.
#[derive(Debug, Default)]
pub(crate) struct Row<'a> {
    pub id: Option<Cow<'a, str>>,
    pub system: Option<Cow<'a, str>>,
    /// What the system's turn has beside its text, as a JSON object.
    pub system_extra: Option<Cow<'a, str>>,
    /// The messages; for a preference, its prompt.
    pub turns: Vec<Turn<'a>>,
    pub tools: Option<Cow<'a, str>>,
    /// The text of a row that is not a conversation.
    pub text: Option<Cow<'a, str>>,
    pub chosen: Option<Vec<Turn<'a>>>,
    pub rejected: Option<Vec<Turn<'a>>>,
    pub label: Option<bool>,
    /// `None` where a map said what is what.
    pub source: Option<RowSchema>,
    /// What has no other place, as a JSON object: see [`layout`](super::schema::layout).
    pub extra: Option<Cow<'a, str>>,
    /// Faults that were seen when it was read.
    pub noted: Vec<Noted>,
}

/// One turn of a [`Row`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn<'a> {
    pub role: Role,
    pub content: Content<'a>,
    /// The file has null or nothing where the text should be; `content` is empty then.
    pub null_content: bool,
    pub name: Option<Cow<'a, str>>,
    pub tool_calls: Option<Cow<'a, str>>,
    pub tool_call_id: Option<Cow<'a, str>>,
    pub weight: Option<f32>,
    /// Its other keys, as a JSON object.
    pub extra: Option<Cow<'a, str>>,
}

impl<'a> Turn<'a> {
    pub fn new(role: Role, content: impl Into<Content<'a>>) -> Self {
        Self {
            role,
            content: content.into(),
            null_content: false,
            name: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
            extra: None,
        }
    }

    /// Converts a system turn to the row's system text and the turn's other values.
    pub fn into_system(self) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        // A blank text beside keys that say nothing is no system text.
        let says = |extra: &str| {
            let keys = Node::parse_own(extra).ok();
            keys.is_some_and(|node| node.object().into_iter().flatten().any(|(_, node)| !node.is_null()))
        };
        let other = self.name.is_some() || self.tool_calls.is_some() || self.tool_call_id.is_some();
        if self.content.trim().is_empty() && !other && !self.extra.as_deref().is_some_and(says) {
            return (self.content.into_text(), None);
        }
        let mut out = b"{".to_vec();
        for (name, text) in [("name", &self.name), ("tool_call_id", &self.tool_call_id)] {
            if let Some(text) = text {
                key(&mut out, name);
                string(&mut out, text);
            }
        }
        if let Some(calls) = &self.tool_calls {
            key(&mut out, "tool_calls");
            out.extend_from_slice(one_line(calls).as_bytes());
        }
        if let Some(weight) = self.weight {
            key(&mut out, "weight");
            out.extend_from_slice(weight.to_string().as_bytes());
        }
        if out == b"{" {
            return (self.content.into_text(), self.extra);
        }
        let others = self.extra.as_deref().and_then(|extra| extra.strip_prefix('{')).unwrap_or("}");
        out.extend_from_slice(if others == "}" { b"" } else { b"," });
        out.extend_from_slice(others.as_bytes());
        (self.content.into_text(), Some(String::from_utf8_lossy(&out).into_owned().into()))
    }

    /// Whether another turn says the same, whatever else is noted beside.
    pub fn says_the_same_as(&self, other: &Turn<'_>) -> bool {
        self.role == other.role
            && self.content == other.content
            && self.tool_calls == other.tool_calls
            && self.tool_call_id == other.tool_call_id
    }

    /// Whether it has only a text.
    pub fn has_text_only(&self) -> bool {
        Spoken::of(self).is_plain()
    }
}

impl Row<'_> {
    /// The name in the column `source`.
    pub fn source_name(&self) -> &'static str {
        self.source.map_or(MAPPED, RowSchema::name)
    }
}

/// Where a record stands in its file, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    pub line: u32,
    pub number: u32,
}

/// Why a record cannot be a row.
pub(crate) type Fault = (ProblemKind, Cow<'static, str>);

/// One turn, borrowed from a row or from the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoken<'a> {
    pub role: &'a str,
    pub content: &'a str,
    /// The content as JSON, where its file has what this crate writes for it.
    pub json: Option<&'a str>,
    /// The file has null or nothing where the text should be.
    pub null_content: bool,
    pub name: Option<&'a str>,
    pub tool_calls: Option<&'a str>,
    pub tool_call_id: Option<&'a str>,
    pub weight: Option<f32>,
    /// The turn's other keys, as a JSON object.
    pub extra: Option<&'a str>,
}

impl<'a> Spoken<'a> {
    /// A turn that has a role and a text, and nothing else.
    pub fn plain(role: &'a str, content: &'a str) -> Self {
        Self {
            role,
            content,
            json: None,
            null_content: false,
            name: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
            extra: None,
        }
    }

    pub fn of(turn: &'a Turn<'a>) -> Self {
        Self {
            role: turn.role.as_str(),
            content: &turn.content,
            json: turn.content.json(),
            null_content: turn.null_content,
            name: turn.name.as_deref(),
            tool_calls: turn.tool_calls.as_deref(),
            tool_call_id: turn.tool_call_id.as_deref(),
            weight: turn.weight,
            extra: turn.extra.as_deref(),
        }
    }

    /// Whether it has a text and nothing else.
    pub fn is_plain(&self) -> bool {
        !self.null_content
            && self.name.is_none()
            && self.tool_calls.is_none()
            && self.tool_call_id.is_none()
            && self.weight.is_none()
            && self.extra.is_none()
    }
}

/// Whether a system text says nothing.
pub(crate) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Whether a list of tools, as text, holds none.
pub(crate) fn is_no_tools(tools: &str) -> bool {
    const LONGEST: usize = 16;
    if tools.len() > LONGEST && !is_blank(tools) {
        return false;
    }
    let plain: String = tools.chars().filter(|c| !c.is_whitespace()).collect();
    matches!(plain.as_str(), "" | "[]" | "{}" | "null" | "None")
}

/// The generated id of a row without one: its number in the file, from 1.
pub(crate) struct MadeUp(pub u32);

impl fmt::Display for MadeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row-{}", self.0)
    }
}

impl MadeUp {
    /// Appends it as a JSON string.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (mut digits, mut at, mut rest) = ([b'0'; 10], 9, self.0);
        while rest >= 10 {
            digits[at] += (rest % 10) as u8;
            (at, rest) = (at - 1, rest / 10);
        }
        digits[at] += rest as u8;
        out.extend_from_slice(b"\"row-");
        out.extend_from_slice(&digits[at..]);
        out.push(b'"');
    }
}

pub(crate) fn made_up_id(number: u32) -> String {
    MadeUp(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_made_up_are_written_as_they_are_said() {
        for n in [0, 1, 9, 10, 99, 100, 4_294_967_295] {
            let mut out = Vec::new();
            MadeUp(n).write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{}\"", made_up_id(n)));
        }
    }
}
