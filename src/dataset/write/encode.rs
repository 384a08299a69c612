//! One row as JSON text in any schema.

use std::borrow::Cow;

use super::super::record::{CARRY, Node, Value, one_line};
use super::super::schema::default::{Field, Want, fields, is_json, want};
use super::super::schema::layout::{Hole, Input, List, Slice, Style, Who};
use super::super::schema::{RowSchema, call_to_text};
use super::super::table::{Spoken, made_up_id};
use super::super::view::RowView;
use super::json::{inside, string};
use super::losses::{Lost, lost};
use super::{Extra, Layout, WriteOptions};

/// Writes rows of one schema, one at a time.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataset) struct Encoder {
    schema: RowSchema,
    extra: Extra,
    layout: Layout,
}

/// What the column `extra` of a row holds.
#[derive(Default)]
pub(super) struct Extras<'a> {
    /// Keys that no schema knows, with their values.
    pub unknown: Vec<(Cow<'a, str>, Node<'a>)>,
    pub input: Option<Input>,
    /// What the row's lists of turns had to be for `keys` to fit.
    turns: Option<[usize; 3]>,
    /// The keys of the row as it was laid out.
    pub keys: Option<Vec<Node<'a>>>,
}

impl<'a> Extras<'a> {
    pub fn of(json: Option<&'a str>) -> Self {
        let Some(Ok(Node { value: Value::Object(keys), .. })) = json.map(Node::parse_own) else {
            return Self::default();
        };
        let mut extras = Self::default();
        for (key, node) in keys {
            if key != CARRY {
                extras.unknown.push((key, node));
                continue;
            }
            let numbers = |key: &str| -> Option<[u32; 3]> {
                let numbers = node.get(key)?.array()?.iter().map(|number| number.raw.parse().ok());
                numbers.collect::<Option<Vec<u32>>>()?.try_into().ok()
            };
            extras.input =
                numbers("input").map(|[instruction, start, whole]| Input { instruction, start, whole });
            extras.turns = numbers("turns").map(|counts| counts.map(|count| count as usize));
            extras.keys = node.get("keys").and_then(Node::array).map(<[_]>::to_vec);
        }
        extras
    }
}

impl Extras<'_> {
    /// Whether the layout says that the row has its id, though it reads as one that is made up.
    fn says_id(&self) -> bool {
        let is_id = |node: &Node<'_>| {
            node.array()
                .is_some_and(|pair| pair.len() == 2 && pair.iter().all(|part| part.str() == Some("id")))
        };
        self.keys.as_ref().is_some_and(|keys| keys.iter().any(is_id))
    }
}

impl Encoder {
    pub fn new(schema: RowSchema, options: &WriteOptions) -> Self {
        Self { schema, extra: options.extra, layout: options.layout }
    }

    /// Appends a row, which is the output's `position`-th, from 1, and says what the schema has no
    /// place for; nothing where [`Extra::Keep`] carries it.
    ///
    /// # Errors
    /// Why the row cannot be one of this schema; nothing is appended then.
    pub fn encode(&self, row: &RowView<'_>, position: u32, out: &mut Vec<u8>) -> Result<Lost, String> {
        let own = self.layout == Layout::Own && row.source() == self.schema.name();
        let extras = Extras::of(row.extra());
        let start = out.len();
        let input = extras
            .input
            .filter(|_| self.schema == RowSchema::Alpaca && row.source() == RowSchema::Alpaca.name());
        let given = extras.says_id();
        let mut text = Text { row, schema: self.schema, position, input, given, out };
        let mut stale = false;
        if let (true, Some(keys)) = (own, &extras.keys) {
            let fits = extras.turns.is_none_or(|counts| counts == row.counts());
            if fits && text.laid_out(keys, &extras).is_some() {
                return Ok(Lost::default());
            }
            text.out.truncate(start);
            stale = true;
        }
        self.fits(row)?;
        if text.fields().is_none() {
            text.out.truncate(start);
            return Err("its turns are not those of its schema".to_string());
        }
        if own && !stale {
            text.unknown(&extras, &[]);
            text.raw("}");
            return Ok(Lost::default());
        }
        let mut lost = lost(self.schema, row, &extras, position);
        if self.extra == Extra::Keep && !lost.is_empty() {
            text.carry(lost);
            lost = Lost::default();
        }
        text.raw("}");
        Ok(lost)
    }

    /// Says why a row cannot be written in this schema, if it cannot.
    pub fn fits(&self, row: &RowView<'_>) -> Result<(), String> {
        let schema = self.schema;
        match (schema, row.text().is_some()) {
            (RowSchema::Text, true) => return Ok(()),
            (RowSchema::Text, false) => {
                return Err(format!("{schema} holds plain text, and row {} is a conversation", row.name()));
            }
            (_, true) => {
                return Err(format!("{schema} holds conversations, and row {} is plain text", row.name()));
            }
            _ => {}
        }
        let n = row.talk_len();
        match schema {
            RowSchema::Preference if !row.is_preference() => Err(format!(
                "{schema} holds a chosen and a rejected answer, and row {} has only one",
                row.name()
            )),
            RowSchema::Kto if row.label().is_none() => Err(format!(
                "{schema} holds answers that are labelled good or bad, and row {} has no label",
                row.name()
            )),
            RowSchema::Alpaca | RowSchema::Firefly => {
                let pair = |(i, turn): (usize, Spoken<'_>)| {
                    turn.role == ["user", "assistant"][i % 2] && !turn.content.trim().is_empty()
                };
                if n >= 2 && n.is_multiple_of(2) && row.talk().enumerate().all(pair) {
                    return Ok(());
                }
                let silent = |turn: &Spoken<'_>| turn.content.trim().is_empty();
                let name = |turn: Spoken<'_>| match turn.role {
                    role if silent(&turn) => format!("{role} (without a text)"),
                    role => role.to_string(),
                };
                let roles: Vec<String> = row.talk().take(20).map(name).collect();
                let more = if n > 20 { format!(" and {} more", n - 20) } else { String::new() };
                Err(format!(
                    "{schema} holds pairs of user and assistant, and row {} has the turns {}{more}",
                    row.name(),
                    roles.join(", ")
                ))
            }
            RowSchema::PromptCompletion | RowSchema::Kto
                if n < 2 || row.talk().last().is_none_or(|turn| turn.role != "assistant") =>
            {
                Err(format!("{schema} holds a prompt and an answer, and row {} has not both", row.name()))
            }
            _ => Ok(()),
        }
    }
}

/// The text of one row.
struct Text<'w, 'r> {
    row: &'w RowView<'r>,
    schema: RowSchema,
    position: u32,
    input: Option<Input>,
    /// The file gave the id, though it reads as one that is made up from the row's place.
    given: bool,
    out: &'w mut Vec<u8>,
}

impl Text<'_, '_> {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        string(self.out, text);
    }

    fn key(&mut self, key: &str) {
        let first = self.out.last() == Some(&b'{');
        self.raw(if first { "\"" } else { ",\"" });
        inside(self.out, key);
        self.raw("\":");
    }

    /// The row as its schema lays it out, but for the closing brace; `None` where a turn is missing.
    fn fields(&mut self) -> Option<()> {
        self.raw("{");
        for (key, field) in fields(self.schema) {
            self.field(key, *field, Some(self.position))?;
        }
        Some(())
    }

    fn field(&mut self, key: &str, field: Field, position: Option<u32>) -> Option<()> {
        let wanted = match field {
            Field::Id if self.given => Want::Hole(Hole::Id),
            field => want(field, self.schema, self.row, self.input, position),
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
    fn laid_out(&mut self, keys: &[Node<'_>], extras: &Extras<'_>) -> Option<()> {
        self.raw("{");
        let mut named = Vec::with_capacity(keys.len());
        for node in keys {
            match &node.value {
                Value::String(key) => {
                    named.push(&**key);
                    if let Some((_, node)) = extras.unknown.iter().find(|(name, _)| name == key) {
                        self.key(key);
                        self.raw(node.raw);
                    } else if let Some((_, field)) = fields(self.schema).iter().find(|(name, _)| name == key)
                    {
                        self.field(key, *field, None)?;
                    }
                }
                Value::Array(pair) => {
                    let [key, shape] = pair.as_slice() else { return None };
                    named.push(key.str()?);
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
    fn unknown(&mut self, extras: &Extras<'_>, named: &[&str]) {
        for (key, node) in extras.unknown.iter().filter(|(key, _)| !named.contains(&&**key)) {
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

    fn list<T>(
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
                None => self.string(&made_up_id(self.position)),
            },
            Hole::Tools => self.string(row.tools()?),
            Hole::ToolsJson => self.json(row.tools()?),
            Hole::Text => self.string(row.text()?),
            Hole::Label => self.raw(if row.label()? { "true" } else { "false" }),
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
            Hole::Call(who) => self.string(call_to_text(row.turn(who)?.tool_calls?)),
            Hole::CallJson(who) => self.json(call_to_text(row.turn(who)?.tool_calls?)),
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
            self.string(self.row.turn(Who::At(List::Messages, 2 * n + i as u32))?.content);
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

    fn turn(&mut self, who: Who, style: Style) -> Option<()> {
        let system = || {
            Some(Spoken {
                role: "system",
                content: self.row.system()?,
                name: None,
                tool_calls: None,
                weight: None,
            })
        };
        let turn = if who == Who::System { system()? } else { self.row.turn(who)? };
        let calls_only = turn.role == "assistant" && turn.content.is_empty();
        let calls = turn.tool_calls.filter(|_| calls_only);
        let (from, value) = match style {
            Style::OpenAi => ("{\"role\":\"", "\",\"content\":"),
            _ => ("{\"from\":\"", "\",\"value\":"),
        };
        self.raw(from);
        match (style, calls) {
            (Style::OpenAi, Some(_)) => {
                self.raw("assistant");
                self.raw(value);
                self.raw("null");
            }
            (_, Some(calls)) => {
                self.raw("function_call");
                self.raw(value);
                self.string(call_to_text(calls));
            }
            (_, None) => {
                self.raw(style.word(turn.role));
                self.raw(value);
                self.string(turn.content);
            }
        }
        if let Some(name) = turn.name {
            self.raw(",\"name\":");
            self.string(name);
        }
        if let Some(calls) = turn.tool_calls
            && (style == Style::OpenAi || !calls_only)
        {
            self.raw(",\"tool_calls\":");
            self.json(calls);
        }
        if let Some(weight) = turn.weight {
            self.raw(",\"weight\":");
            self.raw(&weight.to_string());
        }
        self.raw("}");
        Some(())
    }

    /// The key that carries what was lost.
    fn carry(&mut self, lost: Lost) {
        let row = self.row;
        self.key(CARRY);
        self.raw("{\"source\":");
        self.string(row.source());
        if let Some(extra) = row.extra() {
            self.raw(",\"extra\":");
            self.raw(extra);
        }
        if let (true, Some(label)) = (lost.has(Lost::LABEL), row.label()) {
            self.raw(if label { ",\"label\":true" } else { ",\"label\":false" });
        }
        if lost.has(Lost::REJECTED) {
            let [_, chosen, rejected] = row.counts();
            self.raw(&format!(",\"chosen\":{chosen},\"rejected\":"));
            let turns = (0..rejected as u32).filter_map(|i| row.turn(Who::At(List::Rejected, i)));
            self.list(turns, |text, turn| {
                text.raw("{\"role\":");
                text.string(turn.role);
                text.key("content");
                text.string(turn.content);
                text.beside(&turn);
                Some(())
            });
        }
        if let (true, Some(tools)) = (lost.has(Lost::BREAKS), row.tools()) {
            self.raw(",\"tools\":");
            self.string(tools);
        }
        if lost.has(Lost::NAMES | Lost::CALLS | Lost::WEIGHTS | Lost::BREAKS) {
            self.raw(",\"turns\":{");
            for (n, turn) in row.talk().enumerate().filter(|(_, turn)| !turn.is_plain()) {
                self.key(&n.to_string());
                self.raw("{");
                self.beside(&turn);
            }
            self.raw("}");
        }
        self.raw("}");
    }

    /// What a turn has beside speaker and text, the calls as the string that they are in the table,
    /// and its closing brace.
    fn beside(&mut self, turn: &Spoken<'_>) {
        if let Some(name) = turn.name {
            self.key("name");
            self.string(name);
        }
        if let Some(calls) = turn.tool_calls {
            self.key("tool_calls");
            self.string(calls);
        }
        if let Some(weight) = turn.weight {
            self.key("weight");
            self.raw(&weight.to_string());
        }
        self.raw("}");
    }
}

fn is_number(text: &str) -> bool {
    Node::parse(text).is_ok_and(|node| matches!(node.value, Value::Number) && node.raw == text)
}

/// The text of a turn, or a part of it. Of a text that was edited since, the first part is all.
fn content<'a>(row: &RowView<'a>, who: Who, part: Option<Slice>) -> Option<&'a str> {
    let text = match who {
        Who::System => row.system()?,
        who => row.turn(who)?.content,
    };
    let Some(part) = part else { return Some(text) };
    if text.len() != part.whole as usize {
        return Some(if part.start == 0 { text } else { "" });
    }
    text.get(part.start as usize..part.end as usize)
}
