//! Maps a file that has none of the known schemas: which keys hold the turns.

mod proposal;
mod record;
mod spelling;
mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Role;
use super::problems::{Outcome, ProblemKind};
use super::record::{Keys, Node, Value, one_line};
use super::row::{Fault, Row, Turn, is_no_tools, role_of};
use super::schema::default::is_json;
use super::schema::{calls_of_text, calls_tools, label, role_by_name, with_keys};
use crate::error::{Error, Result};
pub(crate) use proposal::proposal;
use record::{Record, text, within, wrong};

/// Says which keys hold what, for a file that has none of the known schemas.
///
/// A path names a key, after dots the keys and positions inside it: `q.text`, `choices.0.said`. A dot
/// that belongs to a key is written `\.`. Either `user` and `assistant` are given, or `messages` (a
/// list of turns, or of texts of user and assistant in turn), or `text`. An id, a system text and tools that
/// stand under their usual keys are read where the map does not name others, and so are weights beside what
/// it names.
///
/// # Examples
/// ```
/// use lorascope::dataset::Dataset;
/// use lorascope::format::{Map, ReadOptions};
///
/// let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
/// let path = folder.path().join("rows.jsonl");
/// std::fs::write(&path, r#"{"q": {"text": "1 + 1 = ?"}, "ans": "2"}"#).unwrap();
///
/// let map = Map::new().user("q.text").assistant("ans");
/// let data = Dataset::open_with(&path, &ReadOptions { map: Some(map), ..Default::default() })?;
/// assert_eq!(data.conversation(0)?[1].text(), "2");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Map {
    /// The path of what the user asks.
    pub user: Option<String>,
    /// The path of what the assistant answers.
    pub assistant: Option<String>,
    /// The path of what stands below what the user asks, such as a text that is asked about. Where a
    /// record has none, or a blank one, the question stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The path of the system text.
    pub system: Option<String>,
    /// The path of the id.
    pub id: Option<String>,
    /// The path of a list of turns.
    pub messages: Option<String>,
    /// Inside a turn, the path of who speaks; `role` or `from` where none is given.
    pub role_key: Option<String>,
    /// Inside a turn, the path of what is said; `content` or `value` where none is given.
    pub content_key: Option<String>,
    /// The path of a text that is not a conversation.
    pub text: Option<String>,
    /// The path of the label of the answer, good or bad: true or false, 1 or 0, also as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the file calls the roles system, user, assistant and tool.
    pub roles: BTreeMap<String, String>,
}

impl Map {
    /// Creates an empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what the user asks from `path`.
    #[must_use]
    pub fn user(mut self, path: impl Into<String>) -> Self {
        self.user = Some(path.into());
        self
    }

    /// Reads what the assistant answers from `path`.
    #[must_use]
    pub fn assistant(mut self, path: impl Into<String>) -> Self {
        self.assistant = Some(path.into());
        self
    }

    /// Reads the text below the user's question from `path`.
    #[must_use]
    pub fn input(mut self, path: impl Into<String>) -> Self {
        self.input = Some(path.into());
        self
    }

    /// Reads the system text from `path`.
    #[must_use]
    pub fn system(mut self, path: impl Into<String>) -> Self {
        self.system = Some(path.into());
        self
    }

    /// Reads the id from `path`.
    #[must_use]
    pub fn id(mut self, path: impl Into<String>) -> Self {
        self.id = Some(path.into());
        self
    }

    /// Reads the list of turns from `path`.
    #[must_use]
    pub fn messages(mut self, path: impl Into<String>) -> Self {
        self.messages = Some(path.into());
        self
    }

    /// Reads the speaker of a turn from `key`.
    #[must_use]
    pub fn role_key(mut self, key: impl Into<String>) -> Self {
        self.role_key = Some(key.into());
        self
    }

    /// Reads the text of a turn from `key`.
    #[must_use]
    pub fn content_key(mut self, key: impl Into<String>) -> Self {
        self.content_key = Some(key.into());
        self
    }

    /// Reads a text that is not a conversation from `path`.
    #[must_use]
    pub fn text(mut self, path: impl Into<String>) -> Self {
        self.text = Some(path.into());
        self
    }

    /// Reads whether the answer is good from `path`: true or false, 1 or 0, also as text. Rows with a bad answer are
    /// not trained on.
    #[must_use]
    pub fn label(mut self, path: impl Into<String>) -> Self {
        self.label = Some(path.into());
        self
    }

    /// Reads the role `name` of the file as `role`: system, user, assistant or tool.
    #[must_use]
    pub fn role(mut self, name: impl Into<String>, role: impl Into<String>) -> Self {
        self.roles.insert(name.into(), role.into());
        self
    }

    /// Checks that it says enough, and nothing twice.
    pub(crate) fn check(&self) -> Result<()> {
        let ways =
            [self.user.is_some() || self.assistant.is_some(), self.messages.is_some(), self.text.is_some()];
        if self.user.is_some() != self.assistant.is_some() || ways.iter().filter(|way| **way).count() != 1 {
            return Err(Error::input("the map does not say where the turns are").help(
                "give it user and assistant, or messages, or text: Map::new().user(\"q\").assistant(\"a\")",
            ));
        }
        if self.input.is_some() && self.user.is_none() {
            return Err(Error::input(
                "the map has an input, which stands below what the user asks, but no user",
            )
            .help("give it user and assistant as well, or leave out the input"));
        }
        for (name, role) in &self.roles {
            if !["system", "user", "assistant", "tool"].contains(&role.as_str()) {
                return Err(Error::input(format_args!("the map makes {name:?} the role {role:?}"))
                    .help("the roles are system, user, assistant and tool"));
            }
        }
        Ok(())
    }

    /// A record as a row; what the map does not name is in its `extra`, but for an id, a system text and tools
    /// under their usual keys.
    pub(crate) fn row<'a>(&self, keys: Keys<'a>, between: &str) -> Result<Row<'a>, Fault> {
        let mut record = Record::of(keys);
        let mut row = Row::default();
        if let Some(path) = &self.id {
            row.id = match record.take(path) {
                None => None,
                Some(Node { raw, value: Value::Number, .. }) => Some(Cow::Borrowed(raw)),
                Some(mut node) => Some(text(&mut node, path)?),
            };
        }
        if let Some(path) = &self.system {
            row.system = record.take(path).map(|mut node| text(&mut node, path)).transpose()?;
        }
        if let Some(path) = &self.label
            && let Some(node) = record.take(path)
        {
            let what = || format!("{path:?} is {}, which says neither good nor bad", node.kind()).into();
            row.label = Some(label(&node).ok_or_else(|| (ProblemKind::UnreadLabel, what()))?);
        }
        if let Some(path) = &self.text {
            row.text = Some(record.text(path)?);
            // A text has no turns that could have the weight.
            if record.weight(path, false, &mut row.noted) == Some(0.0) {
                row.label = Some(false);
            }
        }
        if let Some((user, assistant)) = self.user.as_ref().zip(self.assistant.as_ref()) {
            let mut question = record.text(user)?;
            let input = self.input.as_ref().and_then(|path| Some((path, record.take(path)?)));
            let input = input.map(|(path, mut node)| text(&mut node, path)).transpose()?;
            if let Some(input) = input.filter(|input| !input.trim().is_empty()) {
                question = match question.trim().is_empty() {
                    true => input,
                    false => Cow::Owned(format!("{question}{between}{input}")),
                };
            }
            row.turns.push(Turn::new(Role::User, question));
            let answer = record.text(assistant)?;
            let weight = record.weight(assistant, true, &mut row.noted);
            row.turns.push(Turn { weight, ..Turn::new(Role::Assistant, answer) });
        }
        if let Some(path) = &self.messages {
            self.turns(&mut record, path, &mut row)?;
            if record.weight(path, false, &mut row.noted) == Some(0.0) {
                let answers = row.turns.iter_mut().filter(|turn| turn.role == Role::Assistant);
                answers.for_each(|turn| turn.weight = Some(0.0));
            }
        }
        self.beside(&mut record, &mut row);
        row.extra = record.rest().map(Cow::Owned);
        Ok(row)
    }

    /// Takes an id, a system text and tools that stand under their usual keys, where the map says nothing of
    /// them.
    fn beside<'a>(&self, record: &mut Record<'a>, row: &mut Row<'a>) {
        let is_text = |node: &Node<'_>| node.str().is_some();
        let is_list = |node: &Node<'_>| matches!(node.value, Value::Array(_) | Value::Object(_));
        if self.id.is_none() {
            let id = record.take_key("id", |node| is_text(node) || matches!(node.value, Value::Number));
            row.id = id.and_then(|mut id| match id.value {
                Value::Number => Some(Cow::Borrowed(id.raw)),
                _ => id.take(),
            });
        }
        if row.text.is_some() {
            return;
        }
        for key in ["system", "system_prompt"] {
            if self.system.is_none() && row.system.is_none() {
                let text = record.take_key(key, is_text).and_then(|mut node| node.take());
                row.system = text.filter(|text| !text.trim().is_empty());
            }
        }
        let tools = record.take_key("tools", |node| is_text(node) || is_list(node));
        row.tools = tools.and_then(|mut tools| match tools.value {
            Value::String(_) => tools.take(),
            _ => Some(one_line(tools.raw)),
        });
        if row.tools.as_deref().is_some_and(|tools| !is_no_tools(tools) && !is_json(tools)) {
            let what = "`tools` is a text that is no JSON: chat templates need a list of tools";
            row.noted.push((ProblemKind::WrongType, what.into(), Outcome::Kept));
        }
    }

    fn turns<'a>(&self, record: &mut Record<'a>, path: &str, row: &mut Row<'a>) -> Result<(), Fault> {
        if record.find(path).is_none() {
            return Err(record.missing(path));
        }
        let Some(node) = record.find(path) else { return wrong(format!("there is nothing at {path:?}")) };
        let kind = node.kind();
        let Value::Array(turns) = &mut node.value else {
            return wrong(format!("{path:?} is {kind}, not a list of turns"));
        };
        for (n, turn) in turns.iter_mut().enumerate() {
            let at = format!("{path}.{n}");
            let turn = if let Some(text) = turn.take() {
                turn.value = Value::Null;
                turn.raw = "null";
                Turn::new(if row.turns.len().is_multiple_of(2) { Role::User } else { Role::Assistant }, text)
            } else {
                let speaker = within(turn, self.role_key.as_deref(), ["role", "from"]);
                let Some(mut speaker) = speaker else {
                    return wrong(format!("{at:?} does not say who speaks"));
                };
                let name = text(&mut speaker, &at)?;
                let role = match self.roles.get(&*name) {
                    Some(role) => role_of(role),
                    None => role_by_name(&name).ok_or_else(|| {
                        (ProblemKind::UnknownRole, format!("{at:?} is spoken by {name:?}").into())
                    })?,
                };
                let content = within(turn, self.content_key.as_deref(), ["content", "value"]);
                let mut new = Turn::new(role, Cow::Borrowed(""));
                match content {
                    Some(mut content) => new.content = text(&mut content, &at)?.into(),
                    None => new.null_content = true,
                }
                if let Value::Object(keys) = &mut turn.value {
                    // Objects out of which all was taken.
                    keys.retain(|(_, node)| !node.object().is_some_and(|keys| keys.is_empty()));
                    new = with_keys(new, std::mem::take(keys), &|| format!("{at:?}"))?;
                }
                if !self.roles.contains_key(&*name) && calls_tools(&name) {
                    let calls = calls_of_text(&new.content).filter(|_| new.tool_calls.is_none());
                    let calls = calls.ok_or_else(|| {
                        (ProblemKind::WrongType, format!("{at:?} calls a tool, but not as JSON").into())
                    })?;
                    new.tool_calls = Some(Cow::Owned(calls));
                    (new.content, new.null_content) = (Cow::Borrowed("").into(), true);
                }
                if new.null_content && new.tool_calls.is_none() {
                    return wrong(format!("{at:?} has no text"));
                }
                new
            };
            match turn.role {
                Role::System if row.turns.is_empty() && row.system.is_none() => {
                    let (text, others) = turn.into_system();
                    (row.system, row.system_extra) = (Some(text), others);
                }
                _ => row.turns.push(turn),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::record::parts;
    use super::*;

    #[test]
    fn paths_have_dots_and_escaped_dots() {
        assert_eq!(parts("a.0.b"), ["a", "0", "b"]);
        assert_eq!(parts("a\\.b.c\\\\"), ["a.b", "c\\"]);
    }

    #[test]
    fn what_is_not_named_is_kept() {
        let record = r#"{"q": {"text": "u", "lang": "en"}, "n": 12345678901234567890123, "ans": ["a"], "t": [{"x": 1}]}"#;
        let Value::Object(keys) = Node::parse(record).unwrap().value else { panic!() };
        let row = Map::new().user("q.text").assistant("ans.0").row(keys, "\n").unwrap();
        assert_eq!((&*row.turns[0].content, &*row.turns[1].content), ("u", "a"));
        assert_eq!(
            row.extra.as_deref(),
            Some(r#"{"q":{"lang":"en"},"n":12345678901234567890123,"t":[{"x": 1}]}"#)
        );
    }
}
