//! The canonical table: built from rows, and read back row by row without copies.

use polars::prelude::*;
use polars_arrow::array::{
    Array, BooleanArray, ListArray, MutableBinaryViewArray, PrimitiveArray, StructArray, Utf8ViewArray,
};
use polars_arrow::bitmap::MutableBitmap;
use polars_arrow::offset::{Offsets, OffsetsBuffer};

use crate::error::{Error, Result};
use crate::format::row::{Row, Spoken, Turn, is_blank, is_no_tools, made_up_id};
use crate::format::row_view::RowColumns;
use crate::format::schema::layout::List;

/// Collects rows into columns.
#[derive(Default)]
pub(super) struct Builder {
    id: Strings,
    given: Vec<bool>,
    lines: Vec<u32>,
    numbers: Vec<u32>,
    system: Strings,
    system_extra: Strings,
    messages: Turns,
    tools: Strings,
    text: Strings,
    chosen: Turns,
    rejected: Turns,
    label: Vec<Option<bool>>,
    source: Strings,
    extra: Strings,
}

type Strings = MutableBinaryViewArray<str>;

/// A column of lists of turns.
#[derive(Default)]
struct Turns {
    ends: Offsets<i64>,
    there: MutableBitmap,
    role: Strings,
    content: Strings,
    name: Strings,
    tool_calls: Strings,
    tool_call_id: Strings,
    weight: Vec<Option<f32>>,
    extra: Strings,
}

impl Turns {
    fn push(&mut self, turns: Option<&[Turn<'_>]>) -> Result<()> {
        self.there.push(turns.is_some());
        let turns = turns.unwrap_or_default();
        self.ends.try_push(turns.len())?;
        for turn in turns {
            self.role.push_value(turn.role.as_str());
            self.content.push((!turn.null_content).then_some(&*turn.content));
            self.name.push(turn.name.as_deref());
            self.tool_calls.push(turn.tool_calls.as_deref());
            self.tool_call_id.push(turn.tool_call_id.as_deref());
            self.weight.push(turn.weight);
            self.extra.push(turn.extra.as_deref());
        }
        Ok(())
    }

    fn finish(self, name: &str) -> Result<Column> {
        let fields = [
            strings("role", self.role),
            strings("content", self.content),
            strings("name", self.name),
            strings("tool_calls", self.tool_calls),
            strings("tool_call_id", self.tool_call_id),
            Series::new("weight".into(), self.weight),
            strings("extra", self.extra),
        ];
        let turns = StructChunked::from_series("turn".into(), fields[0].len(), fields.iter())?;
        let dtype = DataType::List(Box::new(turns.dtype().clone()));
        let turns = turns.into_series().rechunk();
        let list = ListArray::<i64>::try_new(
            dtype.to_arrow(CompatLevel::newest()),
            OffsetsBuffer::from(self.ends),
            turns.chunks()[0].clone(),
            self.there.into(),
        )?;
        Ok(Series::from_arrow(name.into(), Box::new(list))?.into())
    }
}

fn strings(name: &str, values: Strings) -> Series {
    StringChunked::with_chunk(name.into(), Utf8ViewArray::from(values)).into_series()
}

impl Builder {
    /// Appends a row; `number` makes the id of a row that has none.
    pub fn push(&mut self, row: &Row<'_>, line: u32, number: u32) -> Result<()> {
        match &row.id {
            Some(id) => self.id.push_value(id),
            None => self.id.push_value(made_up_id(number)),
        }
        self.given.push(row.id.is_some());
        self.lines.push(line);
        self.numbers.push(number);
        self.system.push(row.system.as_deref());
        self.system_extra.push(row.system_extra.as_deref());
        self.messages.push(Some(&row.turns))?;
        self.tools.push(row.tools.as_deref());
        self.text.push(row.text.as_deref());
        self.chosen.push(row.chosen.as_deref())?;
        self.rejected.push(row.rejected.as_deref())?;
        self.label.push(row.label);
        self.source.push_value(row.source_name());
        self.extra.push(row.extra.as_deref());
        Ok(())
    }

    /// The columns id, given, line, number, system, system_extra, messages, tools, text, chosen, rejected, label,
    /// source, extra.
    pub fn finish(self) -> Result<DataFrame> {
        let height = self.lines.len();
        Ok(DataFrame::new(
            height,
            vec![
                strings("id", self.id).into(),
                Column::new("given".into(), self.given),
                Column::new("line".into(), self.lines),
                Column::new("number".into(), self.numbers),
                strings("system", self.system).into(),
                strings("system_extra", self.system_extra).into(),
                self.messages.finish("messages")?,
                strings("tools", self.tools).into(),
                strings("text", self.text).into(),
                self.chosen.finish("chosen")?,
                self.rejected.finish("rejected")?,
                Column::new("label".into(), self.label),
                strings("source", self.source).into(),
                strings("extra", self.extra).into(),
            ],
        )?)
    }
}

/// The canonical table's arrays, for reading it row by row.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    id: &'a Utf8ViewArray,
    given: &'a BooleanArray,
    line: &'a PrimitiveArray<u32>,
    number: &'a PrimitiveArray<u32>,
    system: &'a Utf8ViewArray,
    system_extra: &'a Utf8ViewArray,
    messages: TurnsOf<'a>,
    tools: &'a Utf8ViewArray,
    text: &'a Utf8ViewArray,
    chosen: TurnsOf<'a>,
    rejected: TurnsOf<'a>,
    label: &'a BooleanArray,
    source: &'a Utf8ViewArray,
    extra: &'a Utf8ViewArray,
}

/// A column of lists of turns, for reading.
#[derive(Clone, Copy)]
struct TurnsOf<'a> {
    list: &'a ListArray<i64>,
    role: &'a Utf8ViewArray,
    content: &'a Utf8ViewArray,
    name: &'a Utf8ViewArray,
    tool_calls: &'a Utf8ViewArray,
    tool_call_id: &'a Utf8ViewArray,
    weight: &'a PrimitiveArray<f32>,
    extra: &'a Utf8ViewArray,
}

impl<'a> TurnsOf<'a> {
    fn of(frame: &'a DataFrame, column: &str) -> Result<Self> {
        let list = array::<ListArray<i64>>(frame, column)?;
        let turns = downcast::<StructArray>(list.values().as_ref(), column)?;
        let [role, content, name, tool_calls, tool_call_id, weight, extra] = turns.values() else {
            return Err(Error::compute(format_args!(
                "the column {column} has not the seven fields of a turn"
            )));
        };
        let strings = |array: &'a dyn Array| downcast::<Utf8ViewArray>(array, column);
        Ok(Self {
            list,
            role: strings(role.as_ref())?,
            content: strings(content.as_ref())?,
            name: strings(name.as_ref())?,
            tool_calls: strings(tool_calls.as_ref())?,
            tool_call_id: strings(tool_call_id.as_ref())?,
            weight: downcast(weight.as_ref(), column)?,
            extra: strings(extra.as_ref())?,
        })
    }

    fn range(&self, i: usize) -> std::ops::Range<usize> {
        let (start, end) = self.list.offsets().start_end(i);
        start..end
    }

    fn spoken(&self, t: usize) -> Spoken<'a> {
        Spoken {
            role: self.role.value(t),
            content: self.content.get(t).unwrap_or_default(),
            json: None,
            null_content: self.content.is_null(t),
            name: self.name.get(t),
            tool_calls: self.tool_calls.get(t),
            tool_call_id: self.tool_call_id.get(t),
            weight: self.weight.get(t),
            extra: self.extra.get(t),
        }
    }

    fn turn(&self, i: usize, n: usize) -> Option<Spoken<'a>> {
        let range = self.range(i);
        (n < range.len()).then(|| self.spoken(range.start + n))
    }
}

impl<'a> Rows<'a> {
    /// Looks into a canonical table whose columns are single chunks.
    pub fn of(frame: &'a DataFrame) -> Result<Self> {
        Ok(Self {
            id: array(frame, "id")?,
            given: array(frame, "given")?,
            line: array(frame, "line")?,
            number: array(frame, "number")?,
            system: array(frame, "system")?,
            system_extra: array(frame, "system_extra")?,
            messages: TurnsOf::of(frame, "messages")?,
            tools: array(frame, "tools")?,
            text: array(frame, "text")?,
            chosen: TurnsOf::of(frame, "chosen")?,
            rejected: TurnsOf::of(frame, "rejected")?,
            label: array(frame, "label")?,
            source: array(frame, "source")?,
            extra: array(frame, "extra")?,
        })
    }

    pub fn len(&self) -> usize {
        self.id.len()
    }
    pub fn id(&self, i: usize) -> &'a str {
        self.id.value(i)
    }
    /// Whether the file gave the id.
    pub fn given(&self, i: usize) -> bool {
        self.given.value(i)
    }
    pub fn line(&self, i: usize) -> u32 {
        self.line.value(i)
    }
    /// The number of the record in its file, from 1.
    pub fn number(&self, i: usize) -> u32 {
        self.number.value(i)
    }
    /// The system text; a blank one is none.
    pub fn system(&self, i: usize) -> Option<&'a str> {
        self.system.get(i).filter(|text| !is_blank(text))
    }
    /// The system text as the file has it.
    pub fn system_as_is(&self, i: usize) -> Option<&'a str> {
        self.system.get(i)
    }
    /// What the system's turn has beside its text, as a JSON object.
    pub fn system_extra(&self, i: usize) -> Option<&'a str> {
        self.system_extra.get(i)
    }
    /// The tools; an empty list of them is none.
    pub fn tools(&self, i: usize) -> Option<&'a str> {
        self.tools.get(i).filter(|tools| !is_no_tools(tools))
    }
    /// The tools as the file has them.
    pub fn tools_as_is(&self, i: usize) -> Option<&'a str> {
        self.tools.get(i)
    }
    /// The text of a row that is no conversation.
    pub fn text(&self, i: usize) -> Option<&'a str> {
        self.text.get(i)
    }
    pub fn label(&self, i: usize) -> Option<bool> {
        self.label.get(i)
    }
    pub fn source(&self, i: usize) -> &'a str {
        self.source.value(i)
    }
    pub fn extra(&self, i: usize) -> Option<&'a str> {
        self.extra.get(i)
    }
    /// Whether the row has a chosen and a rejected answer.
    pub fn is_preference(&self, i: usize) -> bool {
        self.chosen.list.is_valid(i) && self.rejected.list.is_valid(i)
    }
    /// The number of messages, of chosen and of rejected turns.
    pub fn counts(&self, i: usize) -> [usize; 3] {
        [self.messages, self.chosen, self.rejected].map(|turns| turns.range(i).len())
    }
    /// The rejected turns of a preference.
    pub fn rejected(self, i: usize) -> impl DoubleEndedIterator<Item = Spoken<'a>> + ExactSizeIterator {
        self.rejected.range(i).map(move |t| self.rejected.spoken(t))
    }

    /// Turn `n` of a list; the chosen ones also follow the messages.
    pub fn turn(&self, i: usize, list: List, n: usize) -> Option<Spoken<'a>> {
        match list {
            List::Messages => self
                .messages
                .turn(i, n)
                .or_else(|| self.chosen.turn(i, n.checked_sub(self.messages.range(i).len())?)),
            List::Chosen => self.chosen.turn(i, n),
            List::Rejected => self.rejected.turn(i, n),
        }
    }

    /// The turns of row `i` that are trained on, without the system text: the messages, and after a
    /// prompt the chosen answer.
    pub fn turns(self, i: usize) -> impl DoubleEndedIterator<Item = Spoken<'a>> + ExactSizeIterator {
        let (messages, chosen) = (self.messages.range(i), self.chosen.range(i));
        let border = messages.len();
        (0..border + chosen.len()).map(move |n| match n < border {
            true => self.messages.spoken(messages.start + n),
            false => self.chosen.spoken(chosen.start + n - border),
        })
    }

    /// A hash of what row `i` says: system text, turns and tools; not of its id or its place.
    pub fn hash(self, i: usize) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let mut part = |text: Option<&str>| {
            // The length keeps "ab" + "c" apart from "a" + "bc".
            hash.update(&text.map_or(u64::MAX, |t| t.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default().as_bytes());
        };
        part(self.system(i));
        if let Some(extra) = self.system_extra(i) {
            part(Some(extra));
        }
        part(self.tools(i));
        for turn in self.turns(i).chain(self.rejected(i)) {
            part(Some(turn.role));
            part(Some(turn.content));
            part(turn.name);
            part(turn.tool_calls);
            part(turn.tool_call_id);
            part(turn.weight.map(|w| w.to_string()).as_deref());
            part(turn.extra);
        }
        if let Some(text) = self.text(i) {
            part(Some(text));
        }
        if let Some(label) = self.label(i) {
            part(Some(if label { "good" } else { "bad" }));
        }
        hash.digest()
    }
}

impl RowColumns for Rows<'_> {
    fn given_id(&self, i: usize) -> Option<&str> {
        self.given(i).then(|| self.id(i))
    }
    fn id(&self, i: usize) -> &str {
        Rows::id(self, i)
    }
    fn line(&self, i: usize) -> u32 {
        Rows::line(self, i)
    }
    fn system_as_is(&self, i: usize) -> Option<&str> {
        Rows::system_as_is(self, i)
    }
    fn system_extra(&self, i: usize) -> Option<&str> {
        Rows::system_extra(self, i)
    }
    fn tools_as_is(&self, i: usize) -> Option<&str> {
        Rows::tools_as_is(self, i)
    }
    fn text(&self, i: usize) -> Option<&str> {
        Rows::text(self, i)
    }
    fn label(&self, i: usize) -> Option<bool> {
        Rows::label(self, i)
    }
    fn source(&self, i: usize) -> &str {
        Rows::source(self, i)
    }
    fn extra(&self, i: usize) -> Option<&str> {
        Rows::extra(self, i)
    }
    fn counts(&self, i: usize) -> [usize; 3] {
        Rows::counts(self, i)
    }
    fn is_preference(&self, i: usize) -> bool {
        Rows::is_preference(self, i)
    }
    fn turn(&self, i: usize, list: List, n: usize) -> Option<Spoken<'_>> {
        Rows::turn(self, i, list, n)
    }
}

fn array<'a, A: Array + 'static>(frame: &'a DataFrame, name: &str) -> Result<&'a A> {
    match frame.column(name)?.as_materialized_series().chunks().as_slice() {
        [chunk] => downcast(chunk.as_ref(), name),
        chunks => Err(Error::compute(format_args!("the column {name} has {} chunks, not one", chunks.len()))),
    }
}

fn downcast<'a, A: Array + 'static>(array: &'a dyn Array, name: &str) -> Result<&'a A> {
    array.as_any().downcast_ref().ok_or_else(|| {
        Error::compute(format_args!("the column {name} is of the unexpected type {:?}", array.dtype()))
    })
}
