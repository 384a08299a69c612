//! From the keys of a record to a canonical row.

use std::borrow::Cow;

use super::default::is_json;
use super::layout::{Hole, Input, List, Shape, Style, Who};
use super::preserved::Carry;
use super::recognise::{is_moss, texts};
use super::transcript::ASSISTANT;
use super::turns::{hear_all, shape_of};
use crate::display::cut;
use crate::format::Role;
use crate::format::options::{Join, ReadOptions};
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::record::{CARRY, Keys, Node, Value, one_line};
use crate::format::row::{Fault, Row, Turn, is_no_tools};
use crate::format::row_schema::RowSchema;

/// A record on its way to a row: its keys, and for those that were used what stands there.
pub(super) struct Reader<'a> {
    pub keys: Keys<'a>,
    pub shapes: Vec<Option<Shape<'a>>>,
    pub row: Row<'a>,
    pub join: Join,
    pub input: Option<Input>,
    /// The row carries what it was: nothing in its texts is to be guessed.
    pub carried: bool,
    /// The record is a list of turns, without an object around it.
    pub bare: bool,
    /// The turns begin with those of a `history` beside their list.
    pub after_history: bool,
    /// How many turns the `history` holds.
    pub history: u32,
    /// Some key has an upper-case letter.
    capitals: bool,
}

/// Where the turns of a record are.
#[derive(Clone, Copy)]
enum Talk {
    /// Instruction, input, output.
    Instruction(usize, Option<usize>, Option<usize>),
    /// A list of turns.
    Turns(usize),
    /// A list of pairs.
    Pairs(usize),
    /// An object of pairs, as MOSS has them.
    Moss(usize),
    /// An instruction, and inputs with their outputs.
    Instances(usize, usize),
    /// A question and its answer.
    Asked(usize, usize),
    Text(usize),
}

/// Alpaca's three keys, as strings, without input: nothing to look for, and nothing to keep.
pub(super) fn plain_alpaca<'a>(keys: &mut Keys<'a>, options: &ReadOptions) -> Option<Row<'a>> {
    let [(instruction, question), (input, between), (output, answer)] = keys.as_mut_slice() else {
        return None;
    };
    let ordinary = options.map.is_none()
        && options.schema.is_none_or(|schema| schema == RowSchema::Alpaca)
        && instruction == "instruction"
        && input == "input"
        && output == "output"
        && between.str() == Some("")
        && !question.str()?.trim_ascii_end().ends_with(ASSISTANT);
    answer.str().filter(|_| ordinary)?;
    let turns = vec![
        Turn::new(Role::User, question.take_content()?),
        Turn::new(Role::Assistant, answer.take_content()?),
    ];
    Some(Row { turns, source: Some(RowSchema::Alpaca), ..Row::default() })
}

pub(super) fn row<'a>(mut keys: Keys<'a>, options: &ReadOptions) -> Result<Row<'a>, Fault> {
    let carry = keys
        .iter()
        .position(|(key, _)| key == CARRY)
        .and_then(|i| Carry::of(&keys[i].1).inspect(|_| drop(keys.remove(i))));
    let mut reader = Reader { carried: carry.is_some(), ..Reader::of(keys, options) };
    reader.beside()?;
    let schema = reader.read(options.schema)?;
    reader.row.source = Some(schema);
    if carry.is_none() {
        reader.weigh();
        if options.schema.is_none() {
            reader.aside(schema);
        }
    }
    match carry {
        None => {
            reader.row.extra = reader.extra(schema).map(Cow::Owned);
            Ok(reader.row)
        }
        Some(carry) => {
            let unknown = reader.keys.iter().zip(&reader.shapes).filter(|(_, shape)| shape.is_none());
            let unknown: Vec<(&str, &str)> = unknown.map(|((key, node), _)| (&**key, node.raw)).collect();
            carry.restore(&mut reader.row, &unknown);
            // A mark that was put beside the turns since counts as any other.
            reader.weigh();
            Ok(reader.row)
        }
    }
}

/// Whether a list is one of turns: of objects that name their speaker.
pub(super) fn are_turns(values: &[Node<'_>]) -> bool {
    let names = |key: &str| key.eq_ignore_ascii_case("role") || key.eq_ignore_ascii_case("from");
    let speaks = |node: &Node<'_>| node.object().is_some_and(|keys| keys.iter().any(|(key, _)| names(key)));
    values.first().is_some_and(speaks)
}

/// A record that is a list of turns.
pub(super) fn bare<'a>(turns: Node<'a>, options: &ReadOptions) -> Result<Row<'a>, Fault> {
    let keys = vec![(Cow::Borrowed("messages"), turns)];
    let mut reader = Reader { bare: true, ..Reader::of(keys, options) };
    let schema = reader.read(options.schema)?;
    reader.row.source = Some(schema);
    reader.row.extra = reader.extra(schema).map(Cow::Owned);
    Ok(reader.row)
}

pub(super) fn wrong<T>(what: String) -> Result<T, Fault> {
    Err((ProblemKind::WrongType, what.into()))
}

impl<'a> Reader<'a> {
    fn of(keys: Keys<'a>, options: &ReadOptions) -> Self {
        Self {
            shapes: vec![None; keys.len()],
            capitals: keys.iter().any(|(key, _)| key.bytes().any(|byte| byte.is_ascii_uppercase())),
            keys,
            row: Row::default(),
            join: options.join,
            input: None,
            carried: false,
            bare: false,
            after_history: false,
            history: 0,
        }
    }

    /// The place of a key that is there and not null; in other letters too, where the key itself is not.
    pub fn find(&self, name: &str) -> Option<usize> {
        let is = |same: fn(&str, &str) -> bool| {
            self.keys.iter().position(|(key, node)| same(key, name) && !node.is_null())
        };
        is(str::eq).or_else(|| if self.capitals { is(str::eq_ignore_ascii_case) } else { None })
    }

    pub fn find_any(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.find(name))
    }

    pub fn is(&self, i: usize, test: impl Fn(&Value<'a>) -> bool) -> bool {
        test(&self.keys[i].1.value)
    }

    /// Takes the string of key `i`.
    pub fn text(&mut self, i: usize) -> Result<Cow<'a, str>, Fault> {
        let (key, node) = &mut self.keys[i];
        match node.take() {
            Some(text) => Ok(text),
            None => wrong(format!("`{key}` is {}, not a string", node.kind())),
        }
    }

    /// Takes the value of key `i`.
    pub fn node(&mut self, i: usize) -> Node<'a> {
        let node = &mut self.keys[i].1;
        Node { value: std::mem::replace(&mut node.value, Value::Null), ..*node }
    }

    pub fn fill(&mut self, i: usize, hole: Hole) {
        self.shapes[i] = Some(Shape::Hole(hole));
    }

    /// Notes that key `i` is there and has nothing to say.
    pub fn keep(&mut self, i: usize) {
        self.shapes[i] = Some(Shape::Literal(one_line(self.keys[i].1.raw)));
    }

    /// What may stand beside the turns: id, system, tools. Null says nothing, in the keys of turns too.
    fn beside(&mut self) -> Result<(), Fault> {
        const MAY_BE_NULL: [&str; 6] = ["id", "system", "system_prompt", "tools", "input", "history"];
        for i in 0..self.keys.len() {
            if self.keys[i].1.is_null() && MAY_BE_NULL.contains(&&*self.keys[i].0) {
                self.keep(i);
            }
        }
        if let Some(i) = self.find("id") {
            match &mut self.keys[i].1 {
                Node { raw, value: Value::Number, .. } => {
                    self.row.id = Some(Cow::Borrowed(raw));
                    self.fill(i, Hole::IdNumber);
                }
                Node { value: Value::String(id), .. } => {
                    self.row.id = Some(std::mem::take(id));
                    self.fill(i, Hole::Id);
                }
                other => return wrong(format!("`id` is {}, not a string or a number", other.kind())),
            }
        }
        // A blank text is none, and one beside it counts.
        let moss = self.find("chat").filter(|i| is_moss(&self.keys[*i].1));
        let instruction =
            moss.and_then(|_| self.find("meta_instruction")).filter(|i| self.keys[*i].1.str().is_some());
        let systems =
            ["system", "system_prompt"].into_iter().filter_map(|name| self.find(name)).chain(instruction);
        let (blank, said): (Vec<usize>, Vec<usize>) =
            systems.partition(|i| self.keys[*i].1.str().is_some_and(|text| text.trim().is_empty()));
        blank.into_iter().for_each(|i| self.keep(i));
        if let Some(&i) = said.first() {
            self.row.system = Some(self.text(i)?);
            self.fill(i, Hole::Content(Who::System, None));
        }
        if let Some(i) = self.find("tools").or_else(|| self.functions()) {
            match &mut self.keys[i].1 {
                Node { value: Value::String(tools), .. } => {
                    if !is_no_tools(tools) && !is_json(tools) {
                        let what = "`tools` is a text that is no JSON: chat templates need a list of tools";
                        self.row.noted.push((ProblemKind::WrongType, what.into(), Outcome::Kept));
                    }
                    self.row.tools = Some(std::mem::take(tools));
                    self.fill(i, Hole::Tools);
                }
                Node { raw, value: Value::Array(_) | Value::Object(_), .. } => {
                    self.row.tools = Some(one_line(raw));
                    self.fill(i, Hole::ToolsJson);
                }
                other => return wrong(format!("`tools` is {}, not a list or a string", other.kind())),
            }
        }
        Ok(())
    }

    fn read(&mut self, wanted: Option<RowSchema>) -> Result<RowSchema, Fault> {
        let preference = self
            .find_any(&["chosen", "response_chosen", "chosen_messages"])
            .zip(self.find_any(&["rejected", "response_rejected", "rejected_messages"]));
        let label = self.label(wanted);
        let missing = |what: &str| match wanted {
            Some(schema) => wrong(format!("the record is no {schema} row: it has not {what}")),
            None => Err((ProblemKind::UnknownSchema, self.names().into())),
        };
        match wanted {
            Some(RowSchema::Preference) if preference.is_none() => return missing("`chosen` and `rejected`"),
            Some(RowSchema::Kto) if label.is_none() => return missing("`label` of true or false"),
            _ => {}
        }
        if let Some((chosen, rejected)) = preference
            && wanted.is_none_or(|schema| schema == RowSchema::Preference)
        {
            self.preference(chosen, rejected)?;
            return Ok(RowSchema::Preference);
        }
        let talk = match wanted {
            None | Some(RowSchema::Kto) => self.talk()?,
            Some(RowSchema::Alpaca) => self.instruction().or_else(|| self.instances()),
            Some(RowSchema::ShareGpt | RowSchema::BelleChat) => {
                self.find_any(&["conversations", "conversation"]).map(Talk::Turns)
            }
            Some(RowSchema::OpenAi) => self.find_any(&["messages", "conversation"]).map(Talk::Turns),
            Some(RowSchema::Firefly) => {
                let moss = || self.find("chat").filter(|i| is_moss(&self.keys[*i].1)).map(Talk::Moss);
                self.find("conversation").map(Talk::Pairs).or(self.input_output()).or_else(moss)
            }
            Some(RowSchema::PromptCompletion) => self.asked(),
            Some(RowSchema::Text) => self.find("text").map(Talk::Text),
            Some(RowSchema::Preference) => None,
        };
        let needed = match wanted {
            Some(RowSchema::Alpaca) => "`instruction` and `output`",
            Some(RowSchema::ShareGpt | RowSchema::BelleChat) => "`conversations`",
            Some(RowSchema::OpenAi) => "`messages`",
            Some(RowSchema::Firefly) => "`conversation`, or `input` and `output`",
            Some(RowSchema::Text) => "`text`",
            _ => "`prompt` and `completion`",
        };
        let Some(talk) = talk else { return missing(needed) };
        let mut schema = self.spoken(talk)?;
        match wanted {
            Some(wanted) => schema = wanted,
            None if label.is_some() && schema != RowSchema::Text => schema = RowSchema::Kto,
            None => {}
        }
        self.judge(schema, label, wanted)?;
        Ok(schema)
    }

    /// Finds the turns by the keys of the record.
    fn talk(&self) -> Result<Option<Talk>, Fault> {
        let lists = (self.find("conversations"), self.find("messages"));
        if lists.0.is_some() && lists.1.is_some() {
            return wrong(
                "the row has both `conversations` and `messages`: keep the one that is meant".into(),
            );
        }
        let pairs = self.find("conversation").map(|i| {
            let values = self.keys[i].1.array().unwrap_or_default();
            if are_turns(values) || texts(values) { Talk::Turns(i) } else { Talk::Pairs(i) }
        });
        // Turns under other names, which could as well hold anything else.
        let others = ["data", "dialog", "dialogue", "turns", "chat"];
        let others = others.iter().find_map(|name| {
            let turns = |i: &usize| self.keys[*i].1.array().is_some_and(|v| are_turns(v) || texts(v));
            self.find(name).filter(turns).map(Talk::Turns)
        });
        let text = self.find("text").map(Talk::Text);
        let talk = lists
            .0
            .or(lists.1)
            .map(Talk::Turns)
            .or(pairs)
            .or_else(|| self.instances())
            .or_else(|| self.instruction())
            .or_else(|| self.asked())
            .or_else(|| self.input_output())
            .or(text)
            .or(others)
            .or_else(|| self.find("chat").filter(|i| is_moss(&self.keys[*i].1)).map(Talk::Moss));
        // The speaker and the message before it: one turn, and no document.
        let message = |key: &str| self.keys.iter().any(|(name, _)| name == key);
        if matches!(talk, Some(Talk::Text(_))) && self.find("role").is_some() && message("parent_id") {
            let what = "the record is one message of a tree (`parent_id`, `role`, `text`): write each path from \
                        a first message to a last one as a conversation";
            return Err((ProblemKind::UnknownSchema, what.into()));
        }
        Ok(talk)
    }

    /// An instruction whose inputs and outputs stand in a list.
    fn instances(&self) -> Option<Talk> {
        let instances = self.find("instances").filter(|i| self.keys[*i].1.array().is_some())?;
        self.find_any(&["output", "response"]).is_none().then_some(())?;
        Some(Talk::Instances(self.find("instruction")?, instances))
    }

    fn instruction(&self) -> Option<Talk> {
        let instruction = self.find("instruction")?;
        // An input that is no text is a fault.
        let input = self.find("input").filter(|i| self.keys[*i].1.str().is_none());
        let input = input.or_else(|| self.about(instruction));
        Some(Talk::Instruction(instruction, input, self.find_any(&["output", "response"])))
    }

    fn asked(&self) -> Option<Talk> {
        let question = self.find_any(&["prompt", "question", "query"])?;
        Some(Talk::Asked(question, self.find_any(&["completion", "response", "answer", "output"])?))
    }

    fn input_output(&self) -> Option<Talk> {
        Some(Talk::Asked(self.find("input")?, self.find_any(&["output", "target"])?))
    }

    fn names(&self) -> String {
        let name = |key: &str| cut(&key.escape_debug().to_string(), 40);
        let names: Vec<String> = self.keys.iter().take(20).map(|(key, _)| name(key)).collect();
        match (names.as_slice(), self.keys.len() - names.len()) {
            ([], _) => "the record has no keys".into(),
            (_, 0) => format!("the record has the keys {}", names.join(", ")),
            (_, more) => format!("the record has the keys {} and {more} more", names.join(", ")),
        }
    }

    /// Reads the turns, and says which schema has them so.
    fn spoken(&mut self, talk: Talk) -> Result<RowSchema, Fault> {
        match talk {
            Talk::Instruction(instruction, input, output) => {
                let Some(output) = output else { return wrong("`output` is missing or null".into()) };
                self.history()?;
                if !self.several(instruction, input)? {
                    self.question(instruction, input)?;
                }
                let answer = self.text(output)?;
                self.push(output, Role::Assistant, answer);
                self.think();
                Ok(RowSchema::Alpaca)
            }
            Talk::Text(i) => {
                self.row.text = Some(self.text(i)?);
                self.fill(i, Hole::Text);
                Ok(RowSchema::Text)
            }
            Talk::Turns(i) => self.turns(i),
            Talk::Pairs(i) => self.pairs(i),
            Talk::Moss(i) => self.moss(i),
            Talk::Instances(instruction, i) => self.only_instance(instruction, i),
            Talk::Asked(question, answer) => {
                let firefly = self.keys[question].0.eq_ignore_ascii_case("input");
                let about = if firefly { None } else { self.about(question) };
                self.history()?;
                if self.several(question, about)? {
                    // Its turns are the row's.
                } else if self.is(question, |value| matches!(value, Value::Array(_))) {
                    self.after_history = self.history > 0;
                    self.list(question, Style::OpenAi)?;
                    self.after_history = false;
                } else {
                    self.question(question, about)?;
                }
                if self.is(answer, |value| matches!(value, Value::Array(_))) {
                    self.list(answer, Style::OpenAi)?;
                } else {
                    let text = self.text(answer)?;
                    self.push(answer, Role::Assistant, text);
                    self.think();
                }
                if self.row.turns.len() as u32 != self.history + 2 {
                    self.name_history();
                }
                Ok(if firefly { RowSchema::Firefly } else { RowSchema::PromptCompletion })
            }
        }
    }

    /// Appends the text of key `i` as a turn.
    fn push(&mut self, i: usize, role: Role, text: Cow<'a, str>) {
        let who = Who::At(List::Messages, self.row.turns.len() as u32);
        self.fill(i, Hole::Content(who, None));
        self.row.turns.push(Turn::new(role, text));
    }

    /// A list of turns; a leading system turn becomes the row's system text.
    fn turns(&mut self, i: usize) -> Result<RowSchema, Fault> {
        let node = self.node(i);
        let key = self.keys[i].0.clone();
        if node.array().is_some_and(texts) {
            return self.in_turn(i, node);
        }
        self.history_beside()?;
        let heard = hear_all(node, &key)?;
        let schema = match &*key {
            "conversations" if heard.iter().any(|turn| turn.is_called("assistant")) => RowSchema::BelleChat,
            "conversations" => RowSchema::ShareGpt,
            _ => RowSchema::OpenAi,
        };
        let style = match schema {
            RowSchema::BelleChat => Style::BelleChat,
            RowSchema::ShareGpt => Style::ShareGpt,
            _ => Style::OpenAi,
        };
        self.take(i, heard, style);
        Ok(schema)
    }

    /// Appends the turns of a list.
    pub fn list(&mut self, i: usize, style: Style) -> Result<(), Fault> {
        let node = self.node(i);
        let heard = hear_all(node, &self.keys[i].0.clone())?;
        self.take(i, heard, style);
        Ok(())
    }

    /// Appends turns to the messages.
    pub fn take(&mut self, i: usize, heard: Vec<super::turns::Heard<'a>>, style: Style) {
        let start = self.row.turns.len() as u32;
        let system = (start == 0 || self.after_history)
            && self.row.system.is_none()
            && heard.first().is_some_and(super::turns::Heard::is_system);
        let who = |n: usize| match n {
            0 if system => Who::System,
            n => Who::At(List::Messages, start + n as u32 - u32::from(system)),
        };
        self.shapes[i] = Some(shape_of(&heard, &who, style, false));
        for (n, heard) in heard.into_iter().enumerate() {
            if system && n == 0 {
                let (text, others) = heard.turn.into_system();
                (self.row.system, self.row.system_extra) = (Some(text), others);
            } else {
                self.row.turns.push(heard.turn);
            }
        }
    }
}
