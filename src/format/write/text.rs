//! The text of one row.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::call_ids::CallIds;
use super::extras::Extras;
use super::json::{self, inside, string};
use crate::format::record::{Node, Value, one_line};
use crate::format::row::{MadeUp, Spoken};
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;
use crate::format::schema::calls::{calls_as_text, calls_to_text, with_ids, wrapped};
use crate::format::schema::default::{Field, Prompts, Want, fields, is_json, want_as};
use crate::format::schema::layout::{Hole, Input, List, Slice, Style, Who};

/// The text of one row.
pub(super) struct Text<'w, 'r> {
    pub(super) row: &'w RowView<'r>,
    schema: RowSchema,
    position: u32,
    input: Option<Input>,
    /// How the id is written, where it is not by default: the file gave one that reads as made up from
    /// the row's place, or a number.
    given: Option<Hole>,
    prompts: Prompts,
    /// Calls without an id get one, and so do their answers.
    calls: Option<CallIds>,
    /// Values keep the form that their file gave them.
    exact: bool,
    pub(super) out: &'w mut Vec<u8>,
}

/// The keys of a turn that its fields are written under.
const OWN: [&str; 8] = ["from", "role", "value", "content", "name", "tool_calls", "tool_call_id", "weight"];

impl<'w, 'r> Text<'w, 'r> {
    /// Begins a row; of one that is not the schema's `own`, missing ids of calls are made up.
    pub fn new(
        row: &'w RowView<'r>,
        schema: RowSchema,
        position: u32,
        input: Option<Input>,
        given: Option<Hole>,
        own: bool,
        out: &'w mut Vec<u8>,
    ) -> Self {
        let calls = (!own).then(CallIds::default);
        Self { row, schema, position, input, given, prompts: Prompts::Texts, calls, exact: false, out }
    }

    /// The same, with values in the form that their file gave them.
    pub fn exactly(self, exact: bool) -> Self {
        Self { exact, ..self }
    }

    /// The same, with prompts and answers in one form.
    pub fn with(self, prompts: Prompts) -> Self {
        Self { prompts, ..self }
    }

    /// What is written, of all rows.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written after `end`.
    pub fn cut(&mut self, end: usize) {
        self.out.truncate(end);
    }

    /// Takes back what was written between two places.
    pub fn cut_before(&mut self, start: usize, end: usize) {
        self.out.drain(start..end);
    }

    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        string(self.out, text);
    }

    /// What a turn says.
    fn content(&mut self, turn: &Spoken<'_>) {
        match turn.json {
            Some(json) => self.raw(json),
            None => self.string(turn.content),
        }
    }

    pub(super) fn key(&mut self, key: &str) {
        json::key(self.out, key);
    }

    /// The row as its schema lays it out, but for the closing brace; `None` where a turn is missing.
    pub fn fields(&mut self) -> Option<()> {
        self.raw("{");
        for (key, field) in fields(self.schema) {
            self.field(key, *field, Some(self.position))?;
        }
        Some(())
    }

    fn field(&mut self, key: &str, field: Field, position: Option<u32>) -> Option<()> {
        let wanted = match field {
            Field::Id if self.given.is_some() => self.given.map_or(Want::Nothing, Want::Hole),
            field => want_as(field, self.schema, self.row, self.input, position, self.prompts),
        };
        match wanted {
            Want::Nothing => {}
            Want::Empty => {
                self.key(key);
                self.raw("\"\"");
            }
            Want::Hole(hole) => {
                self.key(key);
                self.hole(hole)?;
            }
        }
        Some(())
    }

    /// The row as it was laid out; `None` where the layout no longer fits.
    pub fn laid_out(&mut self, keys: &[Node<'_>], extras: &Extras<'_>) -> Option<()> {
        if extras.bare {
            let [_, shape] = keys.first()?.array()? else { return None };
            return self.shape(shape);
        }
        self.raw("{");
        let mut named = HashSet::with_capacity(keys.len());
        let unknown: HashMap<&str, &str> =
            extras.unknown.iter().map(|(key, node)| (&**key, node.raw)).collect();
        for node in keys {
            match &node.value {
                Value::String(key) => {
                    named.insert(&**key);
                    if let Some(json) = unknown.get(&**key) {
                        self.key(key);
                        self.raw(json);
                    } else if let Some((_, field)) = fields(self.schema).iter().find(|(name, _)| name == key)
                    {
                        self.field(key, *field, None)?;
                    }
                }
                Value::Array(pair) => {
                    let [key, shape] = pair.as_slice() else { return None };
                    named.insert(key.str()?);
                    self.key(key.str()?);
                    self.shape(shape)?;
                }
                _ => return None,
            }
        }
        self.unknown(extras, &named);
        self.raw("}");
        Some(())
    }

    /// The keys that no schema knows, but for those that are named.
    pub fn unknown(&mut self, extras: &Extras<'_>, named: &HashSet<&str>) {
        for (key, node) in extras.unknown.iter().filter(|(key, _)| !named.contains(&**key)) {
            self.key(key);
            self.raw(node.raw);
        }
    }

    /// A value with its holes filled.
    fn shape(&mut self, shape: &Node<'_>) -> Option<()> {
        match &shape.value {
            Value::String(hole) => self.hole(Hole::parse(hole)?),
            Value::Array(values) => self.list(values, |text, value| text.shape(value)),
            Value::Object(keys) => {
                match keys.as_slice() {
                    [(key, node)] if key == "=" => {
                        self.raw(node.raw);
                        return Some(());
                    }
                    [(key, node)] if key == "+" => return self.pieces(node.array()?),
                    _ => {}
                }
                self.raw("{");
                for (key, value) in keys {
                    self.key(key);
                    self.shape(value)?;
                }
                self.raw("}");
                Some(())
            }
            _ => None,
        }
    }

    /// A string in pieces.
    fn pieces(&mut self, pieces: &[Node<'_>]) -> Option<()> {
        self.raw("\"");
        for piece in pieces {
            let piece = piece.str()?;
            let text = match piece.strip_prefix('=') {
                Some(text) => text,
                None => match Hole::parse(piece)? {
                    Hole::Content(who, part) => content(self.row, who, part)?,
                    _ => return None,
                },
            };
            inside(self.out, text);
        }
        self.raw("\"");
        Some(())
    }

    pub(super) fn list<T>(
        &mut self,
        values: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Option<()>,
    ) -> Option<()> {
        self.raw("[");
        for (n, value) in values.into_iter().enumerate() {
            if n > 0 {
                self.raw(",");
            }
            write(self, value)?;
        }
        self.raw("]");
        Some(())
    }

    fn hole(&mut self, hole: Hole) -> Option<()> {
        let row = self.row;
        match hole {
            Hole::Id | Hole::IdNumber => match row.id() {
                Some(id) if hole == Hole::IdNumber && is_number(id) => self.raw(id),
                Some(id) => self.string(id),
                None => MadeUp(self.position).write(self.out),
            },
            Hole::Tools => self.string(row.tools_as_is()?),
            Hole::ToolsJson => match row.tools_as_is().filter(|_| !self.exact).and_then(wrapped) {
                Some(tools) => self.json(&tools),
                None => self.json(row.tools_as_is()?),
            },
            Hole::Text => self.string(row.text()?),
            Hole::Label => self.raw(if row.label()? { "true" } else { "false" }),
            Hole::Content(who @ Who::At(..), None) => {
                let turn = row.turn(who)?;
                self.content(&turn);
            }
            Hole::Content(who, part) => {
                let text = content(row, who, part)?;
                self.string(text);
            }
            Hole::Name(who) => self.string(row.turn(who)?.name?),
            Hole::Weight(who) => {
                let weight = row.turn(who)?.weight?;
                self.raw(&weight.to_string());
            }
            Hole::Calls(who) => self.string(row.turn(who)?.tool_calls?),
            Hole::CallsJson(who) => self.json(row.turn(who)?.tool_calls?),
            Hole::CallId(who) => self.string(row.turn(who)?.tool_call_id?),
            Hole::Call(who) => self.string(&self.text_of(row.turn(who)?.tool_calls?)),
            Hole::CallJson(who) => self.json(&self.text_of(row.turn(who)?.tool_calls?)),
            Hole::Turn(who, style) => self.turn(who, style)?,
            Hole::Turns { system, list, start, end, style } => {
                let system = system.then_some(Who::System);
                let turns = (start..end).map(|i| Who::At(list, i));
                self.list(system.into_iter().chain(turns), |text, who| text.turn(who, style))?;
            }
            Hole::History => {
                let pairs = self.messages().saturating_sub(1) / 2;
                self.list(0..pairs, |text, n| text.pair(n, ["[", ",", "]"]))?;
            }
            Hole::Pairs => {
                let pairs = self.messages() / 2;
                self.list(0..pairs, |text, n| text.pair(n, ["{\"human\":", ",\"assistant\":", "}"]))?;
            }
        }
        Some(())
    }

    fn messages(&self) -> u32 {
        match self.schema {
            RowSchema::Preference => self.row.counts()[0] as u32,
            _ => self.row.talk_len() as u32,
        }
    }

    fn pair(&mut self, n: u32, around: [&str; 3]) -> Option<()> {
        for (i, before) in around[..2].iter().enumerate() {
            self.raw(before);
            let turn = self.row.turn(Who::At(List::Messages, 2 * n + i as u32))?;
            self.content(&turn);
        }
        self.raw(around[2]);
        Some(())
    }

    /// JSON as it is, on one line; a text that is not JSON becomes a string.
    fn json(&mut self, text: &str) {
        if is_json(text) {
            self.raw(&one_line(text));
        } else {
            self.string(text);
        }
    }

    /// Calls as the text of a `function_call` turn.
    fn text_of<'c>(&self, calls: &'c str) -> Cow<'c, str> {
        if self.exact { calls_as_text(calls) } else { calls_to_text(calls) }
    }

    fn turn(&mut self, who: Who, style: Style) -> Option<()> {
        let turn = match who {
            Who::System => {
                Spoken { extra: self.row.system_extra(), ..Spoken::plain("system", self.row.system_as_is()?) }
            }
            who => self.row.turn(who)?,
        };
        let calls = turn.tool_calls.filter(|_| turn.role == "assistant");
        if style == Style::OpenAi {
            self.raw("{\"role\":\"");
            self.raw(style.word(turn.role));
            self.raw("\",\"content\":");
            if turn.null_content { self.raw("null") } else { self.content(&turn) }
        } else {
            self.raw("{\"from\":\"");
            self.raw(if calls.is_some() { "function_call" } else { style.word(turn.role) });
            self.raw("\",\"value\":");
            match calls {
                Some(calls) => self.string(&self.text_of(calls)),
                None => self.content(&turn),
            }
        }
        if let Some(name) = turn.name {
            self.raw(",\"name\":");
            self.string(name);
        }
        if let Some(calls) = turn.tool_calls
            && (style == Style::OpenAi || turn.role != "assistant")
        {
            self.raw(",\"tool_calls\":");
            let row = self.row;
            let bare = if self.exact { None } else { wrapped(calls) };
            let calls = bare.as_deref().unwrap_or(calls);
            let made = self.calls.as_mut().and_then(|ids| with_ids(calls, &mut || ids.next(row)));
            let calls = made.map_or(Cow::Borrowed(calls), |(calls, _)| Cow::Owned(calls));
            if let Some(ids) = &mut self.calls {
                let after = match who {
                    Who::At(list, n) => Some((n + 1..).map_while(move |n| row.turn(Who::At(list, n)))),
                    Who::System => None,
                };
                ids.called(&calls, after.into_iter().flatten());
            }
            self.json(&calls);
        }
        if let Some(ids) = &mut self.calls {
            ids.spoken(turn.role);
        }
        if style == Style::OpenAi {
            let mut made = || self.calls.as_mut().filter(|_| turn.role == "tool")?.answered(turn.name);
            if let Some(id) = turn.tool_call_id.map(Cow::Borrowed).or_else(|| made().map(Cow::Owned)) {
                self.raw(",\"tool_call_id\":");
                self.string(&id);
            }
        }
        if let Some(weight) = turn.weight {
            self.raw(",\"weight\":");
            self.raw(&weight.to_string());
        }
        match who {
            Who::System => self.keys_of(turn.extra, &OWN[..4]),
            _ => self.others(&turn),
        }
        self.raw("}");
        Some(())
    }

    /// The keys of a turn of which nothing is known, but for those by the names of others.
    pub(super) fn others(&mut self, turn: &Spoken<'_>) {
        self.keys_of(turn.extra, &OWN);
    }

    /// The keys of a JSON object, but for some.
    fn keys_of(&mut self, object: Option<&str>, but: &[&str]) {
        let Some(Ok(Node { value: Value::Object(keys), .. })) = object.map(Node::parse_own) else {
            return;
        };
        for (key, node) in keys.iter().filter(|(key, _)| !but.contains(&&**key)) {
            self.key(key);
            self.raw(&one_line(node.raw));
        }
    }
}

fn is_number(text: &str) -> bool {
    Node::parse(text).is_ok_and(|node| matches!(node.value, Value::Number) && node.raw == text)
}

/// The text of a turn, or a part of it. Of a text that was edited since, the first part is all.
fn content<'a>(row: &RowView<'a>, who: Who, part: Option<Slice>) -> Option<&'a str> {
    let text = match who {
        Who::System => row.system_as_is()?,
        who => row.turn(who)?.content,
    };
    let Some(part) = part else { return Some(text) };
    if text.len() != part.whole as usize {
        return Some(if part.start == 0 && part.end > 0 { text } else { "" });
    }
    text.get(part.start as usize..part.end as usize)
}
