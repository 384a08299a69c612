//! Where the turns are in a file of no known schema.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::problems::ProblemKind;
use super::record::{Keys, Node, Value, one_line};
use super::schema::{Fault, Row, Turn, calls_of_text, calls_tools, hides, label, role_by_name, with_keys};
use super::write::json::string;
use crate::display::cut;
use crate::error::{Error, Result};
use crate::text::Role;

/// Tells which keys hold what, in a file of no known schema.
///
/// A path names a key, after dots the keys and positions inside it: `q.text`, `choices.0.said`. A dot
/// that belongs to a key is written `\.`. Either `user` and `assistant` are given, or `messages` (a
/// list of turns, or of texts of user and assistant in turn), or `text`.
///
/// # Examples
/// ```
/// use lorascope::dataset::{Dataset, Map, ReadOptions};
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
    /// The path of a text that is no conversation.
    pub text: Option<String>,
    /// The path of what says whether the answer is a good one: true or false, 1 or 0, as text too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the file calls the roles system, user, assistant and tool.
    pub roles: BTreeMap<String, String>,
}

impl Map {
    /// A map that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the user asks is at `path`.
    #[must_use]
    pub fn user(mut self, path: impl Into<String>) -> Self {
        self.user = Some(path.into());
        self
    }

    /// What the assistant answers is at `path`.
    #[must_use]
    pub fn assistant(mut self, path: impl Into<String>) -> Self {
        self.assistant = Some(path.into());
        self
    }

    /// What stands below what the user asks is at `path`.
    #[must_use]
    pub fn input(mut self, path: impl Into<String>) -> Self {
        self.input = Some(path.into());
        self
    }

    /// The system text is at `path`.
    #[must_use]
    pub fn system(mut self, path: impl Into<String>) -> Self {
        self.system = Some(path.into());
        self
    }

    /// The id is at `path`.
    #[must_use]
    pub fn id(mut self, path: impl Into<String>) -> Self {
        self.id = Some(path.into());
        self
    }

    /// The list of turns is at `path`.
    #[must_use]
    pub fn messages(mut self, path: impl Into<String>) -> Self {
        self.messages = Some(path.into());
        self
    }

    /// A turn says under `key` who speaks.
    #[must_use]
    pub fn role_key(mut self, key: impl Into<String>) -> Self {
        self.role_key = Some(key.into());
        self
    }

    /// A turn has its text under `key`.
    #[must_use]
    pub fn content_key(mut self, key: impl Into<String>) -> Self {
        self.content_key = Some(key.into());
        self
    }

    /// A text that is no conversation is at `path`.
    #[must_use]
    pub fn text(mut self, path: impl Into<String>) -> Self {
        self.text = Some(path.into());
        self
    }

    /// Whether the answer is a good one is at `path`: true or false, 1 or 0, as text too. Rows with a bad
    /// one are not trained on.
    #[must_use]
    pub fn label(mut self, path: impl Into<String>) -> Self {
        self.label = Some(path.into());
        self
    }

    /// The file calls `name` what is `role` here: system, user, assistant or tool.
    #[must_use]
    pub fn role(mut self, name: impl Into<String>, role: impl Into<String>) -> Self {
        self.roles.insert(name.into(), role.into());
        self
    }

    /// Checks that it says enough, and nothing twice.
    pub(super) fn check(&self) -> Result<()> {
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

    /// A record as a row; what the map does not name is in its `extra`.
    pub(super) fn row<'a>(&self, keys: Keys<'a>, between: &str) -> Result<Row<'a>, Fault> {
        let mut record = Record { node: Node { raw: "", value: Value::Object(keys) }, touched: Vec::new() };
        let mut row = Row::default();
        if let Some(path) = &self.id {
            row.id = match record.take(path) {
                None => None,
                Some(Node { raw, value: Value::Number }) => Some(Cow::Borrowed(raw)),
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
            row.turns.push(Turn::new(Role::Assistant, record.text(assistant)?));
        }
        if let Some(path) = &self.messages {
            self.turns(&mut record, path, &mut row)?;
        }
        if record.hides() {
            let answers = row.turns.iter_mut().filter(|turn| turn.role == Role::Assistant);
            answers.for_each(|turn| turn.weight = Some(0.0));
        }
        row.extra = record.rest().map(Cow::Owned);
        Ok(row)
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
                    Some(role) => super::schema::role_of(role),
                    None => role_by_name(&name).ok_or_else(|| {
                        (ProblemKind::UnknownRole, format!("{at:?} is spoken by {name:?}").into())
                    })?,
                };
                let content = within(turn, self.content_key.as_deref(), ["content", "value"]);
                let mut new = Turn::new(role, Cow::Borrowed(""));
                match content {
                    Some(mut content) => new.content = text(&mut content, &at)?,
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
                    (new.content, new.null_content) = (Cow::Borrowed(""), true);
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

fn wrong<T>(what: String) -> Result<T, Fault> {
    Err((ProblemKind::WrongType, what.into()))
}

fn text<'a>(node: &mut Node<'a>, path: &str) -> Result<Cow<'a, str>, Fault> {
    match node.take() {
        Some(text) => Ok(text),
        None => wrong(format!("{path:?} is {}, not a string", node.kind())),
    }
}

/// Takes what a turn has under a path, or under one of the usual keys.
fn within<'a>(turn: &mut Node<'a>, path: Option<&str>, usual: [&str; 2]) -> Option<Node<'a>> {
    match path {
        Some(path) => take(turn, &parts(path)),
        None => usual.iter().find_map(|key| take(turn, &[Cow::Borrowed(*key)])),
    }
}

/// The keys of a path.
fn parts(path: &str) -> Vec<Cow<'_, str>> {
    if !path.contains('\\') {
        return path.split('.').map(Cow::Borrowed).collect();
    }
    let (mut parts, mut part, mut chars) = (Vec::new(), String::new(), path.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => part.extend(chars.next()),
            '.' => parts.push(Cow::Owned(std::mem::take(&mut part))),
            c => part.push(c),
        }
    }
    parts.push(Cow::Owned(part));
    parts
}

fn find<'n, 'a>(node: &'n mut Node<'a>, path: &[Cow<'_, str>]) -> Option<&'n mut Node<'a>> {
    let Some((first, rest)) = path.split_first() else { return Some(node) };
    let inside = match &mut node.value {
        Value::Object(keys) => keys.iter_mut().find(|(key, _)| key == first).map(|(_, node)| node),
        Value::Array(values) => values.get_mut(first.parse::<usize>().ok()?),
        _ => None,
    };
    find(inside?, rest)
}

/// Takes what is at a path out of a value; null is nothing.
fn take<'a>(node: &mut Node<'a>, path: &[Cow<'_, str>]) -> Option<Node<'a>> {
    let (last, parents) = path.split_last()?;
    match &mut find(node, parents)?.value {
        Value::Object(keys) => {
            let i = keys.iter().position(|(key, node)| key == last && !node.is_null())?;
            Some(keys.remove(i).1)
        }
        Value::Array(values) => {
            let place = values.get_mut(last.parse::<usize>().ok()?).filter(|node| !node.is_null())?;
            Some(std::mem::replace(place, Node { raw: "null", value: Value::Null }))
        }
        _ => None,
    }
}

/// A record of which parts are taken.
struct Record<'a> {
    node: Node<'a>,
    /// The top keys out of which something was taken.
    touched: Vec<String>,
}

impl<'a> Record<'a> {
    fn find(&mut self, path: &str) -> Option<&mut Node<'a>> {
        let parts = parts(path);
        self.touched.extend(parts.first().map(|key| key.to_string()));
        find(&mut self.node, &parts)
    }

    fn take(&mut self, path: &str) -> Option<Node<'a>> {
        let parts = parts(path);
        self.touched.extend(parts.first().map(|key| key.to_string()));
        take(&mut self.node, &parts)
    }

    fn text(&mut self, path: &str) -> Result<Cow<'a, str>, Fault> {
        let mut node = self.take(path).ok_or_else(|| self.missing(path))?;
        text(&mut node, path)
    }

    /// Nothing is at a path: what else the record has.
    fn missing(&self, path: &str) -> Fault {
        const SHOWN: usize = 12;
        let keys = self.node.object().into_iter().flatten();
        let left: Vec<String> = keys
            .filter(|(_, node)| !node.is_null())
            .take(SHOWN)
            .map(|(key, _)| format!("{:?}", cut(key, 40)))
            .collect();
        let others = match left.is_empty() {
            true => String::new(),
            false => format!("; the record's other keys are {}", left.join(", ")),
        };
        (ProblemKind::NothingThere, format!("there is nothing at {path:?}{others}").into())
    }

    /// Whether a key that was not taken says that nothing of the record is trained on.
    fn hides(&self) -> bool {
        let mut keys = self.node.object().into_iter().flatten();
        keys.any(|(key, node)| !self.touched.iter().any(|touched| touched == key) && hides(key, node))
    }

    /// What was not taken.
    fn rest(&self) -> Option<String> {
        let mut out = Vec::new();
        for (key, node) in self.node.object()? {
            let touched = self.touched.iter().any(|touched| touched == key);
            if touched && is_empty(node) {
                continue;
            }
            out.push(if out.is_empty() { b'{' } else { b',' });
            string(&mut out, key);
            out.push(b':');
            if touched {
                write(node, &mut out);
            } else {
                out.extend_from_slice(one_line(node.raw).as_bytes());
            }
        }
        if out.is_empty() {
            return None;
        }
        out.push(b'}');
        String::from_utf8(out).ok()
    }
}

/// Whether nothing is left in a value.
fn is_empty(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Array(values) => values.iter().all(is_empty),
        Value::Object(keys) => keys.iter().all(|(_, node)| is_empty(node)),
        _ => false,
    }
}

fn write(node: &Node<'_>, out: &mut Vec<u8>) {
    match &node.value {
        Value::Array(values) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(value, out);
            }
            out.push(b']');
        }
        Value::Object(keys) => {
            out.push(b'{');
            for (n, (key, value)) in keys.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                string(out, key);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        _ => out.extend_from_slice(one_line(node.raw).as_bytes()),
    }
}

/// A key as a part of a path.
pub(super) fn escaped(key: &str) -> String {
    key.replace('\\', "\\\\").replace('.', "\\.")
}

#[cfg(test)]
mod tests {
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
