//! The shapes that rows come in, and the one that they are brought into.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::{Join, ReadOptions};
use super::problems::ProblemKind;
use super::record::{RawTurn, Record};
use crate::error::Error;
use crate::text::Role;

/// The shape of a row in a file.
///
/// | schema | a row |
/// |---|---|
/// | `alpaca` | `{"instruction": …, "input": …, "output": …}`, also `system` and `history` |
/// | `sharegpt` | `{"id": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", …}]}` |
/// | `belle-chat` | the same with `"from": "assistant"` |
/// | `openai` | `{"messages": [{"role": "user", "content": …}, {"role": "assistant", …}]}` |
///
/// # Examples
/// ```
/// use lorascope::dataset::RowSchema;
///
/// assert_eq!("belle-chat".parse::<RowSchema>()?, RowSchema::BelleChat);
/// let error = "csv".parse::<RowSchema>().unwrap_err();
/// assert_eq!(error.to_string(), "no schema is called csv; known are alpaca, sharegpt, belle-chat, openai");
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
}

impl RowSchema {
    /// All schemas.
    pub const ALL: [Self; 4] = [Self::Alpaca, Self::ShareGpt, Self::BelleChat, Self::OpenAi];

    /// The name on the command line and in the column `source`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::BelleChat => "belle-chat",
            Self::OpenAi => "openai",
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
pub(super) const KNOWN: &str = "instruction and output (alpaca), conversations of from and value (sharegpt, belle-chat), messages of role and content (openai)";

/// A row in canonical form.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub id: Option<Cow<'a, str>>,
    pub system: Option<Cow<'a, str>>,
    pub turns: Vec<Turn<'a>>,
    pub tools: Option<String>,
    pub source: RowSchema,
    /// What has no other place, as a JSON object.
    pub extra: Option<String>,
}

/// One turn of a [`Row`].
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub role: Role,
    pub content: Cow<'a, str>,
    pub name: Option<Cow<'a, str>>,
    pub tool_calls: Option<String>,
    pub weight: Option<f32>,
}

impl<'a> Turn<'a> {
    fn new(role: Role, content: Cow<'a, str>) -> Self {
        Self { role, content, name: None, tool_calls: None, weight: None }
    }
}

/// Why a record is no row.
pub(super) type Fault = (ProblemKind, Cow<'static, str>);

/// Brings a record into canonical form, whatever its schema.
///
/// Whether the turns make a conversation is not looked at here: see `fix::check`.
pub(super) fn canonical<'a>(mut record: Record<'a>, options: &ReadOptions) -> Result<Row<'a>, Fault> {
    let mut row = Row {
        id: record.id.take(),
        system: record.system.take(),
        turns: Vec::new(),
        tools: record.tools.take(),
        source: RowSchema::Alpaca,
        extra: None,
    };
    if record.conversations.is_some() && record.messages.is_some() {
        let what = "the row has both `conversations` and `messages`: keep the one that is meant";
        return Err((ProblemKind::WrongType, what.into()));
    }
    if let Some(turns) = record.conversations.take() {
        row.source = RowSchema::ShareGpt;
        if turns.iter().any(|turn| turn.role.as_deref() == Some("assistant")) {
            row.source = RowSchema::BelleChat;
        }
        spoken(&mut row, &mut record, "conversations", turns)?;
    } else if let Some(turns) = record.messages.take() {
        row.source = RowSchema::OpenAi;
        spoken(&mut row, &mut record, "messages", turns)?;
    } else if record.instruction.is_some() {
        instructed(&mut row, &mut record, options.join)?;
    } else {
        return Err((ProblemKind::UnknownSchema, keys(&record).into()));
    }
    keep(&mut record);
    if !record.extra.is_empty() {
        row.extra = Some(Value::Object(record.extra).to_string());
    }
    Ok(row)
}

/// Moves what the row's schema has no use for to the extra keys, so that it is not lost.
fn keep(record: &mut Record<'_>) {
    let left = [
        ("instruction", record.instruction.take()),
        ("input", record.input.take()),
        ("output", record.output.take()),
    ];
    for (key, text) in left {
        if let Some(text) = text {
            record.extra.insert(key.into(), Value::String(text.into_owned()));
        }
    }
    if let Some(pairs) = record.history.take() {
        let pairs = pairs.into_iter().map(|(q, a)| Value::from(vec![q.into_owned(), a.into_owned()]));
        record.extra.insert("history".into(), Value::Array(pairs.collect()));
    }
}

fn keys(record: &Record<'_>) -> String {
    let known = [
        ("id", record.id.is_some()),
        ("system", record.system.is_some()),
        ("input", record.input.is_some()),
        ("output", record.output.is_some()),
        ("history", record.history.is_some()),
        ("tools", record.tools.is_some()),
    ];
    let known = known.iter().filter(|(_, there)| *there).map(|(key, _)| *key);
    let all: Vec<&str> = known.chain(record.extra.keys().map(String::as_str)).collect();
    match all.as_slice() {
        [] => "the record has no keys".into(),
        all => format!("the record has the keys {}", all.join(", ")),
    }
}

/// instruction, input and output, after the pairs of history.
fn instructed<'a>(row: &mut Row<'a>, record: &mut Record<'a>, join: Join) -> Result<(), Fault> {
    let (Some(instruction), Some(output)) = (record.instruction.take(), record.output.take()) else {
        return Err((ProblemKind::WrongType, "`output` is missing or null".into()));
    };
    for (question, answer) in record.history.take().into_iter().flatten() {
        row.turns.push(Turn::new(Role::User, question));
        row.turns.push(Turn::new(Role::Assistant, answer));
    }
    let question = match record.input.take() {
        Some(input) if !input.is_empty() => {
            let joined = format!("{instruction}{}{input}", join.between());
            // Where the input began: an alpaca row can be written again as it was.
            record.extra.insert("input".into(), Value::String(input.into_owned()));
            Cow::Owned(joined)
        }
        _ => instruction,
    };
    row.turns.push(Turn::new(Role::User, question));
    row.turns.push(Turn::new(Role::Assistant, output));
    Ok(())
}

/// Turns that name their speaker; a leading system turn becomes the row's system text.
fn spoken<'a>(
    row: &mut Row<'a>,
    record: &mut Record<'a>,
    list: &str,
    turns: Vec<RawTurn<'a>>,
) -> Result<(), Fault> {
    row.turns.reserve(turns.len());
    for (i, raw) in turns.into_iter().enumerate() {
        for (key, value) in raw.extra {
            record.extra.insert(format!("{list}[{i}].{key}"), value);
        }
        let Some(name) = raw.role else {
            return Err((ProblemKind::WrongType, format!("{list}[{i}] does not say who speaks").into()));
        };
        let Some(speaker) = Speaker::of(&name) else {
            return Err((ProblemKind::UnknownRole, format!("{list}[{i}] is spoken by {name:?}").into()));
        };
        let content = raw.content.unwrap_or_default();
        let mut turn = Turn::new(Role::Assistant, content);
        (turn.name, turn.tool_calls, turn.weight) = (raw.name, raw.tool_calls, raw.weight);
        match speaker {
            Speaker::Role(Role::System) if row.turns.is_empty() && row.system.is_none() => {
                row.system = Some(turn.content);
                continue;
            }
            Speaker::Role(role) => turn.role = role,
            Speaker::Call => {
                let call = std::mem::take(&mut turn.content);
                turn.tool_calls = Some(call_to_json(&call).ok_or_else(|| {
                    (ProblemKind::WrongType, format!("{list}[{i}] calls a tool, but not as JSON").into())
                })?);
            }
        }
        row.turns.push(turn);
    }
    Ok(())
}

/// What stands around the text of a `function_call` turn to make it the list that OpenAI's rows and
/// chat templates have; the text inside is kept to the byte, so that it can be written again.
const CALL: (&str, &str) = ("[{\"type\": \"function\", \"function\": ", "}]");

/// A `function_call` turn's text as a list of calls; `None` where it is neither call nor list.
fn call_to_json(text: &str) -> Option<String> {
    match serde_json::from_str(text).ok()? {
        Value::Object(_) => Some(format!("{}{text}{}", CALL.0, CALL.1)),
        Value::Array(_) => Some(text.to_string()),
        _ => None,
    }
}

/// The text of the `function_call` turn that makes these calls.
pub(super) fn call_to_text(calls: &str) -> &str {
    calls.strip_prefix(CALL.0).and_then(|rest| rest.strip_suffix(CALL.1)).unwrap_or(calls)
}

enum Speaker {
    Role(Role),
    /// The assistant, calling a tool: the turn's text is the call.
    Call,
}

impl Speaker {
    fn of(name: &str) -> Option<Self> {
        Some(Self::Role(match name {
            "human" | "user" => Role::User,
            "gpt" | "assistant" | "bot" | "model" | "chatgpt" | "bing" | "bard" => Role::Assistant,
            "system" | "developer" => Role::System,
            "tool" | "observation" | "function" => Role::Tool,
            "function_call" => return Some(Self::Call),
            _ => return None,
        }))
    }
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
