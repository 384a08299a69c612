//! The shapes that rows come in, and the one that they are brought into.

mod aside;
pub(super) mod calls;
mod carry;
pub(super) mod default;
mod flags;
mod judged;
mod kept;
pub(super) mod layout;
mod pairs;
mod prefer;
mod reader;
mod seal;
mod speaker;
mod transcript;
mod turns;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::fix::{self, Fixes, Noted};
use super::options::ReadOptions;
use super::problems::ProblemKind;
use super::record::{Broken, Node, Value, doubled, one_line};
use super::write::json::string;
use crate::error::Error;
use crate::text::Role;
pub(super) use calls::calls_of_text;
pub(super) use flags::{LABELS, label, lesser, mark, means_more, weight as flag_weight};
pub(super) use seal::Seals;
pub(super) use speaker::{calls_tools, role_by_name};
pub(super) use transcript::several;
pub(super) use turns::with_keys;

/// The shape of a row in a file.
///
/// | schema | a row |
/// |---|---|
/// | `alpaca` | `{"instruction": …, "input": …, "output": …}`, also `system` and `history` |
/// | `sharegpt` | `{"id": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", …}]}` |
/// | `belle-chat` | the same with `"from": "assistant"` |
/// | `openai` | `{"messages": [{"role": "user", "content": …}, {"role": "assistant", …}]}` |
/// | `firefly` | `{"conversation": [{"human": …, "assistant": …}]}` |
/// | `prompt-completion` | `{"prompt": …, "completion": …}`, as strings or as lists of turns |
/// | `text` | `{"text": …}` |
/// | `preference` | `{"prompt": …, "chosen": …, "rejected": …}` |
/// | `kto` | `{"prompt": …, "completion": …, "label": true}` |
///
/// Reading knows more shapes of the same: several turns as `Human:…\nAssistant:…` in an instruction, in
/// a prompt or in both answers of a preference; question and answer, prompt and response, with a
/// `history` before them; lists of texts in turn, and lists of turns without an object around them;
/// `instances`; `system_prompt`, keys in capitals, other names of roles, parts of content. Labels and
/// weights are read in every spelling of yes and no. A row that is written in the schema that it was
/// read from gets the usual keys; with [`Layout::Keep`](super::Layout::Keep) it is written as it was.
///
/// # Examples
/// ```
/// use lorascope::dataset::RowSchema;
///
/// assert_eq!("belle-chat".parse::<RowSchema>()?, RowSchema::BelleChat);
/// let error = "csv".parse::<RowSchema>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "no schema is called csv; known are alpaca, sharegpt, belle-chat, openai, firefly, \
///      prompt-completion, text, preference, kto"
/// );
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowSchema {
    /// instruction, input, output.
    Alpaca,
    /// conversations of human and gpt.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// conversations of human and assistant.
    BelleChat,
    /// messages of user and assistant.
    #[serde(rename = "openai")]
    OpenAi,
    /// a conversation of pairs of human and assistant.
    Firefly,
    /// a prompt and its completion.
    PromptCompletion,
    /// a text that is no conversation.
    Text,
    /// a prompt, the answer that was chosen, and the one that was rejected.
    Preference,
    /// a prompt, its completion, and whether it is a good one.
    Kto,
}

impl RowSchema {
    /// All schemas.
    pub const ALL: [Self; 9] = [
        Self::Alpaca,
        Self::ShareGpt,
        Self::BelleChat,
        Self::OpenAi,
        Self::Firefly,
        Self::PromptCompletion,
        Self::Text,
        Self::Preference,
        Self::Kto,
    ];

    /// The name on the command line and in the column `source`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::BelleChat => "belle-chat",
            Self::OpenAi => "openai",
            Self::Firefly => "firefly",
            Self::PromptCompletion => "prompt-completion",
            Self::Text => "text",
            Self::Preference => "preference",
            Self::Kto => "kto",
        }
    }
}

impl fmt::Display for RowSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RowSchema {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|schema| schema.name() == name).ok_or_else(|| {
            Error::input(format_args!("no schema is called {name}"))
                .help(format_args!("known are {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

/// The keys by which each schema is known, for messages.
pub(super) const KNOWN: &str = "instruction and output (alpaca), conversations of from and value (sharegpt, belle-chat), messages of role and content (openai), conversation of human and assistant (firefly), prompt and completion or question and answer (prompt-completion), prompt, chosen and rejected (preference), these with a label of true or false (kto), text";

/// What stands in the column `source` where a [`Map`](super::Map) said what is what.
const MAPPED: &str = "map";

/// A row in canonical form.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    pub id: Option<Cow<'a, str>>,
    pub system: Option<Cow<'a, str>>,
    /// What the system's turn has beside its text, as a JSON object.
    pub system_extra: Option<Cow<'a, str>>,
    /// The messages; of a preference, its prompt.
    pub turns: Vec<Turn<'a>>,
    pub tools: Option<Cow<'a, str>>,
    /// The text of a row that is no conversation.
    pub text: Option<Cow<'a, str>>,
    pub chosen: Option<Vec<Turn<'a>>>,
    pub rejected: Option<Vec<Turn<'a>>>,
    pub label: Option<bool>,
    /// `None` where a map said what is what.
    pub source: Option<RowSchema>,
    /// What has no other place, as a JSON object: see [`layout`].
    pub extra: Option<Cow<'a, str>>,
    /// Faults that were seen when it was read.
    pub noted: Vec<Noted>,
}

/// One turn of a [`Row`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn<'a> {
    pub role: Role,
    pub content: Cow<'a, str>,
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
    pub fn new(role: Role, content: Cow<'a, str>) -> Self {
        Self {
            role,
            content,
            null_content: false,
            name: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
            extra: None,
        }
    }

    /// A system's turn as the row's system text, and what it has beside the text.
    pub fn into_system(self) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        // A blank text beside keys that say nothing is no system text.
        let says = |extra: &str| {
            let keys = Node::parse_own(extra).ok();
            keys.is_some_and(|node| node.object().into_iter().flatten().any(|(_, node)| !node.is_null()))
        };
        let other = self.name.is_some() || self.tool_calls.is_some() || self.tool_call_id.is_some();
        if self.content.trim().is_empty() && !other && !self.extra.as_deref().is_some_and(says) {
            return (self.content, None);
        }
        let mut out = Vec::new();
        let mut add = |key: &str, json: &mut dyn FnMut(&mut Vec<u8>)| {
            out.push(if out.is_empty() { b'{' } else { b',' });
            string(&mut out, key);
            out.push(b':');
            json(&mut out);
        };
        for (key, text) in [("name", &self.name), ("tool_call_id", &self.tool_call_id)] {
            if let Some(text) = text {
                add(key, &mut |out| string(out, text));
            }
        }
        if let Some(calls) = &self.tool_calls {
            add("tool_calls", &mut |out| out.extend_from_slice(one_line(calls).as_bytes()));
        }
        if let Some(weight) = self.weight {
            add("weight", &mut |out| out.extend_from_slice(weight.to_string().as_bytes()));
        }
        if out.is_empty() {
            return (self.content, self.extra);
        }
        let others = self.extra.as_deref().and_then(|extra| extra.strip_prefix('{')).unwrap_or("}");
        out.extend_from_slice(if others == "}" { b"" } else { b"," });
        out.extend_from_slice(others.as_bytes());
        (self.content, Some(String::from_utf8_lossy(&out).into_owned().into()))
    }

    /// Whether it has nothing beside its text.
    fn has_text_only(&self) -> bool {
        !self.null_content
            && self.name.is_none()
            && self.tool_calls.is_none()
            && self.tool_call_id.is_none()
            && self.weight.is_none()
            && self.extra.is_none()
    }
}

/// Why a record is no row.
pub(super) type Fault = (ProblemKind, Cow<'static, str>);

/// A record that is no row: why, and where.
#[derive(Debug)]
pub(super) struct Rejected {
    pub kind: ProblemKind,
    pub what: Cow<'static, str>,
    pub id: Option<String>,
    /// Lines between the record's first and the fault's.
    pub line: u32,
}

impl Row<'_> {
    /// The name in the column `source`.
    pub fn source_name(&self) -> &'static str {
        self.source.map_or(MAPPED, RowSchema::name)
    }

    /// Repairs what `fixes` says, and checks that what is left can be trained on: a conversation, or
    /// after a prompt the chosen answer and the rejected one, or a text that says something.
    fn examine(&mut self, fixes: Fixes) -> Result<Vec<Noted>, Fault> {
        let noted = self.system.as_mut().map(|text| fix::tidy_system(text, fixes)).unwrap_or_default();
        let more = self.examine_turns(fixes)?;
        if noted.is_empty() {
            return Ok(more);
        }
        // Of a fault in several places the first is told.
        let kinds: Vec<ProblemKind> = noted.iter().map(|(kind, _, _)| *kind).collect();
        Ok(noted.into_iter().chain(more.into_iter().filter(|(kind, _, _)| !kinds.contains(kind))).collect())
    }

    fn examine_turns(&mut self, fixes: Fixes) -> Result<Vec<Noted>, Fault> {
        if let Some(text) = &mut self.text {
            return fix::examine_text(text, fixes);
        }
        let (Some(chosen), Some(rejected)) = (&mut self.chosen, &mut self.rejected) else {
            return fix::examine(&mut self.turns, fixes);
        };
        fix::examine_choice(&mut self.turns, chosen, rejected, fixes)
    }
}

/// Reads a record into canonical form, whatever its schema, and checks it.
///
/// # Errors
/// If it is not JSON, if its keys are those of no schema, or twice the same, if a value has the
/// wrong type, or if its turns make no conversation.
pub(super) fn read<'a>(text: &'a str, options: &ReadOptions) -> Result<(Row<'a>, Vec<Noted>), Rejected> {
    let node = Node::parse(text).map_err(|broken| unreadable(text, broken))?;
    let mut id = None;
    canonical(node, options, &mut id)
        .and_then(|mut row| {
            let mut noted = std::mem::take(&mut row.noted);
            noted.extend(row.examine(options.fixes)?);
            Ok((row, noted))
        })
        .map_err(|(kind, what)| Rejected { kind, what, id, line: 0 })
}

/// What a reader sees of a row that carries something, before it gets that back.
pub(super) fn seals(json: &str) -> Option<Seals> {
    let Value::Object(keys) = Node::parse_own(json).ok()?.value else { return None };
    let row = reader::row(keys, &ReadOptions::default()).ok()?;
    Some(Seals::of(&row))
}

fn canonical<'a>(node: Node<'a>, options: &ReadOptions, id: &mut Option<String>) -> Result<Row<'a>, Fault> {
    let kind = node.kind();
    let mut keys = match node.value {
        Value::Object(keys) => keys,
        // Turns alone, without an object around them.
        Value::Array(turns) if options.map.is_none() && reader::are_turns(&turns) => {
            return reader::bare(Node { raw: node.raw, value: Value::Array(turns) }, options);
        }
        _ => return Err((ProblemKind::WrongType, format!("the record is {kind}, not an object").into())),
    };
    if let Some(row) = reader::plain_alpaca(&mut keys, options) {
        return Ok(row);
    }
    *id = keys.iter().find(|(key, _)| key == "id").and_then(|(_, node)| match &node.value {
        Value::String(id) => Some(id.to_string()),
        Value::Number => Some(node.raw.to_string()),
        _ => None,
    });
    if let Some(key) = doubled(&keys) {
        return Err((ProblemKind::WrongType, format!("the record has the key {key:?} twice").into()));
    }
    match &options.map {
        Some(map) => map.row(keys, options.join.between()),
        None => reader::row(keys, options),
    }
}

/// Says why a text is not JSON, as serde_json says it where it agrees.
fn unreadable(text: &str, broken: Broken) -> Rejected {
    let before = &text.as_bytes()[..broken.at.min(text.len())];
    let breaks = memchr::memchr_iter(b'\n', before).count();
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1;
    let (mut what, mut line) = (format!("{}, at column {column}", broken.what), breaks as u32);
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let full = error.to_string();
        let message = full.split(" at line ").next().unwrap_or_default();
        what = format!("{message}, at column {}", error.column());
        line = (error.line() as u32).saturating_sub(1);
    }
    Rejected { kind: ProblemKind::BrokenJson, what: what.into(), id: None, line }
}

/// The role of a name in the canonical table.
pub(super) fn role_of(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "user" => Role::User,
        "tool" => Role::Tool,
        _ => Role::Assistant,
    }
}
