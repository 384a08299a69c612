//! The canonical table: built from rows, and read back row by row without copies.

use polars::prelude::*;
use polars_arrow::array::{
    Array, ListArray, MutableBinaryViewArray, PrimitiveArray, StructArray, Utf8ViewArray,
};
use polars_arrow::offset::{Offsets, OffsetsBuffer};

use super::schema::Row;
use crate::error::{Error, Result};
use crate::text::Message;

/// Collects rows into columns.
#[derive(Default)]
pub(super) struct Builder {
    id: Strings,
    lines: Vec<u32>,
    system: Strings,
    ends: Offsets<i64>,
    role: Strings,
    content: Strings,
    name: Strings,
    tool_calls: Strings,
    weight: Vec<Option<f32>>,
    tools: Strings,
    source: Strings,
    extra: Strings,
}

type Strings = MutableBinaryViewArray<str>;

impl Builder {
    /// Appends a row; `number` makes the id of a row that has none.
    pub fn push(&mut self, row: &Row<'_>, line: u32, number: u32) -> Result<()> {
        match &row.id {
            Some(id) => self.id.push_value(id),
            None => self.id.push_value(made_up_id(number)),
        }
        self.lines.push(line);
        self.system.push(row.system.as_deref());
        self.ends.try_push(row.turns.len())?;
        for turn in &row.turns {
            self.role.push_value(turn.role.as_str());
            self.content.push_value(&turn.content);
            self.name.push(turn.name.as_deref());
            self.tool_calls.push(turn.tool_calls.as_deref());
            self.weight.push(turn.weight);
        }
        self.tools.push(row.tools.as_deref());
        self.source.push_value(row.source.name());
        self.extra.push(row.extra.as_deref());
        Ok(())
    }

    /// The columns id, line, system, messages, tools, source, extra.
    pub fn finish(self) -> Result<DataFrame> {
        let strings = |name: &str, values: Strings| {
            StringChunked::with_chunk(name.into(), Utf8ViewArray::from(values)).into_series()
        };
        let fields = [
            strings("role", self.role),
            strings("content", self.content),
            strings("name", self.name),
            strings("tool_calls", self.tool_calls),
            Series::new("weight".into(), self.weight),
        ];
        let turns = StructChunked::from_series("turn".into(), fields[0].len(), fields.iter())?;
        let dtype = DataType::List(Box::new(turns.dtype().clone()));
        let turns = turns.into_series().rechunk();
        let list = ListArray::<i64>::try_new(
            dtype.to_arrow(CompatLevel::newest()),
            OffsetsBuffer::from(self.ends),
            turns.chunks()[0].clone(),
            None,
        )?;
        let messages = Series::from_arrow("messages".into(), Box::new(list))?;
        let height = self.lines.len();
        Ok(DataFrame::new(
            height,
            vec![
                strings("id", self.id).into(),
                Column::new("line".into(), self.lines),
                strings("system", self.system).into(),
                messages.into(),
                strings("tools", self.tools).into(),
                strings("source", self.source).into(),
                strings("extra", self.extra).into(),
            ],
        )?)
    }
}

/// The id of a row that its file gives none.
pub(super) fn made_up_id(number: u32) -> String {
    format!("row-{number}")
}

/// The canonical table's arrays, for reading it row by row.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    id: &'a Utf8ViewArray,
    line: &'a PrimitiveArray<u32>,
    system: &'a Utf8ViewArray,
    offsets: &'a OffsetsBuffer<i64>,
    role: &'a Utf8ViewArray,
    content: &'a Utf8ViewArray,
    name: &'a Utf8ViewArray,
    tool_calls: &'a Utf8ViewArray,
    weight: &'a PrimitiveArray<f32>,
    tools: &'a Utf8ViewArray,
    source: &'a Utf8ViewArray,
    extra: &'a Utf8ViewArray,
}

/// One turn, borrowed from the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spoken<'a> {
    pub role: &'a str,
    pub content: &'a str,
    pub name: Option<&'a str>,
    pub tool_calls: Option<&'a str>,
    pub weight: Option<f32>,
}

impl Spoken<'_> {
    pub fn message(&self) -> Message {
        Message {
            role: super::schema::role_of(self.role),
            content: self.content.to_string(),
            name: self.name.map(str::to_string),
            tool_calls: self.tool_calls.map(str::to_string),
            weight: self.weight,
        }
    }
}

impl<'a> Rows<'a> {
    /// Looks into a canonical table whose columns are single chunks.
    pub fn of(frame: &'a DataFrame) -> Result<Self> {
        let list = array::<ListArray<i64>>(frame, "messages")?;
        let turns = downcast::<StructArray>(list.values().as_ref(), "messages")?;
        let [role, content, name, tool_calls, weight] = turns.values() else {
            return Err(Error::compute("the column messages has not the five fields of a turn"));
        };
        let strings = |array: &'a dyn Array| downcast::<Utf8ViewArray>(array, "messages");
        Ok(Self {
            id: array(frame, "id")?,
            line: array(frame, "line")?,
            system: array(frame, "system")?,
            offsets: list.offsets(),
            role: strings(role.as_ref())?,
            content: strings(content.as_ref())?,
            name: strings(name.as_ref())?,
            tool_calls: strings(tool_calls.as_ref())?,
            weight: downcast(weight.as_ref(), "messages")?,
            tools: array(frame, "tools")?,
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
    pub fn line(&self, i: usize) -> u32 {
        self.line.value(i)
    }
    pub fn system(&self, i: usize) -> Option<&'a str> {
        self.system.get(i)
    }
    pub fn tools(&self, i: usize) -> Option<&'a str> {
        self.tools.get(i)
    }
    pub fn source(&self, i: usize) -> &'a str {
        self.source.value(i)
    }
    pub fn extra(&self, i: usize) -> Option<&'a str> {
        self.extra.get(i)
    }

    /// The turns of row `i`, without the system text.
    pub fn turns(self, i: usize) -> impl DoubleEndedIterator<Item = Spoken<'a>> + ExactSizeIterator {
        let (start, end) = self.offsets.start_end(i);
        (start..end).map(move |t| Spoken {
            role: self.role.value(t),
            content: self.content.value(t),
            name: self.name.get(t),
            tool_calls: self.tool_calls.get(t),
            weight: self.weight.get(t),
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
        part(self.tools(i));
        for turn in self.turns(i) {
            part(Some(turn.role));
            part(Some(turn.content));
            part(turn.name);
            part(turn.tool_calls);
            part(turn.weight.map(|w| w.to_string()).as_deref());
        }
        hash.digest()
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
