//! Rows as columns, row group by row group.

use std::borrow::Cow;

use polars::prelude::*;
use polars_arrow::array::{
    Array, BooleanArray, ListArray, MutableBinaryViewArray, PrimitiveArray, StructArray, Utf8ViewArray,
};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::{ArrowDataType, Field as ArrowField};
use polars_arrow::offset::{Offsets, OffsetsBuffer};
use polars_parquet::write::schema_to_metadata_key;
use rayon::prelude::*;
use serde::de::IgnoredAny;

use super::columns::{fields, lines, unescaped};
use super::shape::{self, Column, ColumnShape, Lift};
use super::sink::Sink;
use super::spool::{LostValues as Lost, Spool};
use crate::error::{Error, Result};
use crate::format::container::{PARQUET_JSON as JSON, elements};
use crate::format::write::json::string;

/// JSON text of a row group.
const GROUP: usize = 8 << 20;

/// Writes all rows; says what will not be read again as it was.
pub(super) fn write(spool: Spool, sink: &mut Sink) -> Result<Lost> {
    let (rows, mut pieces) = spool.read()?;
    let columns = shape::columns(&rows);
    if columns.is_empty() {
        return Err(
            Error::input("there are no rows, and so no columns").help("write JSON lines, or other rows")
        );
    }
    let mut lost = Lost::new();
    let schema = frame(&[], &columns)?.0.schema().clone();
    let json = serde_json::to_string(&shape::json(&columns)).map_err(Error::compute)?;
    let mut about = vec![(JSON.to_string(), json)];
    // Readers of Arrow find the types here. Views of strings are newer than many of them.
    let arrow = schema_to_metadata_key(&schema.to_arrow(CompatLevel::oldest()));
    about.extend(arrow.value.map(|value| (arrow.key, value)));
    let mut writer = ParquetWriter::new(sink)
        .with_compression(ParquetCompression::Zstd(None))
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(about)))
        .batched(&schema)?;
    loop {
        let batch = pieces.next(GROUP)?;
        if batch.is_empty() {
            writer.finish()?;
            return Ok(lost);
        }
        let frames: Vec<(DataFrame, Lost)> =
            batch.par_iter().map(|piece| frame(piece, &columns)).collect::<Result<_>>()?;
        for (frame, more) in frames {
            writer.write_batch(&frame)?;
            more.into_iter().for_each(|(what, rows)| *lost.entry(what).or_default() += rows);
        }
    }
}

type Strings = MutableBinaryViewArray<str>;

/// Rows in which something was.
#[derive(Default)]
struct Count {
    rows: u64,
    /// The last of them, from 1.
    last: usize,
}

impl Count {
    fn note(&mut self, row: usize) {
        self.rows += u64::from(std::mem::replace(&mut self.last, row) != row);
    }
}

/// The values of a place in the making.
enum Values {
    Text(Strings),
    Flag(Vec<Option<bool>>),
    Integer(Vec<Option<i64>>),
    /// And the rows in which the number was whole.
    Number(Vec<Option<f64>>, Count),
    /// And the rows in which there is a value.
    Json(Strings, Count),
    List {
        ends: Offsets<i64>,
        valid: Vec<bool>,
        items: Box<Values>,
    },
    Object {
        fields: Vec<ColumnBuilder>,
        valid: Vec<bool>,
    },
}

/// The values under a key in the making.
struct ColumnBuilder {
    name: String,
    values: Values,
    lift: Option<Lift>,
    /// Rows in which the value was null.
    nulls: Count,
    lifted: Count,
}

impl ColumnBuilder {
    fn of(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            values: Values::of(&column.shape),
            lift: column.lift,
            nulls: Count::default(),
            lifted: Count::default(),
        }
    }

    fn push(&mut self, value: Option<&[u8]>, row: usize) -> Result<()> {
        if value.is_some_and(is_null) {
            self.nulls.note(row);
        }
        match (self.lift, value) {
            (Some(lift), Some(string @ [b'"', ..])) => {
                self.lifted.note(row);
                self.values.push(Some(&lift.list(string)), row)
            }
            // Beside arguments as objects those as text are the same JSON, without quotes around it.
            (None, Some(string @ [b'"', ..]))
                if self.name == ARGUMENTS && matches!(self.values, Values::Json(..)) && is_object(string) =>
            {
                self.lifted.note(row);
                self.values.push(Some(text(string).as_bytes()), row)
            }
            _ => self.values.push(value, row),
        }
    }

    /// Adds what will not be read again as it was.
    fn lost(&self, path: &str, lost: &mut Lost) {
        let path = if path.is_empty() { self.name.clone() } else { format!("{path}.{}", self.name) };
        let mut add = |what: String, count: &Count| {
            if count.rows > 0 {
                lost.insert(what, count.rows);
            }
        };
        add(format!("nulls under `{path}`: they are read as keys that are not there"), &self.nulls);
        let what = match self.lift {
            Some(lift) => format!("written as lists of {}, as in other rows", lift.name()),
            None => "read as objects, as in other rows".to_string(),
        };
        add(format!("strings under `{path}`: {what}"), &self.lifted);
        let mut values = &self.values;
        while let Values::List { items, .. } = values {
            values = items;
        }
        match values {
            Values::Json(_, count) => {
                add(
                    format!("types of values under `{path}`: what is no string is written as JSON text"),
                    count,
                );
            }
            Values::Number(_, count) => {
                add(format!("types of values under `{path}`: whole numbers are written as 1.0"), count);
            }
            Values::Object { fields, .. } => fields.iter().for_each(|field| field.lost(&path, lost)),
            _ => {}
        }
    }
}

/// The key of a call whose value is an object, or that object as text.
const ARGUMENTS: &str = "arguments";

/// Whether a JSON string holds an object as text.
fn is_object(string: &[u8]) -> bool {
    let text = text(string);
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(&text).is_ok()
}

fn is_null(value: &[u8]) -> bool {
    value.first() == Some(&b'n')
}

impl Values {
    fn of(shape: &ColumnShape) -> Self {
        match shape {
            ColumnShape::Flag => Self::Flag(Vec::new()),
            ColumnShape::Integer => Self::Integer(Vec::new()),
            ColumnShape::Number => Self::Number(Vec::new(), Count::default()),
            ColumnShape::Json => Self::Json(Strings::default(), Count::default()),
            ColumnShape::Text => Self::Text(Strings::default()),
            ColumnShape::List(items) => {
                Self::List { ends: Offsets::default(), valid: Vec::new(), items: Box::new(Self::of(items)) }
            }
            ColumnShape::Object(columns) => {
                Self::Object { fields: columns.iter().map(ColumnBuilder::of).collect(), valid: Vec::new() }
            }
        }
    }

    /// Appends a value of row `row`, counted from 1.
    fn push(&mut self, value: Option<&[u8]>, row: usize) -> Result<()> {
        let value = value.filter(|value| !is_null(value));
        match self {
            Self::Text(texts) => texts.push(value.map(text)),
            Self::Flag(flags) => flags.push(value.map(|value| value.first() == Some(&b't'))),
            Self::Json(texts, count) => {
                let text = value.map(mixed);
                if value.is_some_and(|value| value.first() != Some(&b'"'))
                    || text.as_ref().is_some_and(|text| text.starts_with('"'))
                {
                    count.note(row);
                }
                texts.push(text);
            }
            Self::Integer(numbers) => {
                numbers.push(value.and_then(|value| serde_json::from_slice(value).ok()));
            }
            Self::Number(numbers, count) => {
                if value.is_some_and(|value| serde_json::from_slice::<i64>(value).is_ok()) {
                    count.note(row);
                }
                numbers.push(value.and_then(|value| serde_json::from_slice(value).ok()));
            }
            Self::List { ends, valid, items } => {
                let found = value.map(elements).unwrap_or_default();
                valid.push(value.is_some());
                ends.try_push(found.len())?;
                found.into_iter().try_for_each(|item| items.push(Some(item), row))?;
            }
            Self::Object { fields, valid } => {
                valid.push(value.is_some());
                object(value.unwrap_or_default(), fields, row)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Box<dyn Array>> {
        let valid = |valid: Vec<bool>| {
            let all = valid.iter().all(|&valid| valid);
            (!all).then(|| valid.into_iter().collect::<Bitmap>())
        };
        Ok(match self {
            Self::Text(texts) | Self::Json(texts, _) => Utf8ViewArray::from(texts).boxed(),
            Self::Integer(numbers) => PrimitiveArray::<i64>::from(numbers).boxed(),
            Self::Number(numbers, _) => PrimitiveArray::<f64>::from(numbers).boxed(),
            Self::Flag(flags) => BooleanArray::from(flags).boxed(),
            Self::List { ends, valid: rows, items } => {
                let items = items.finish()?;
                let dtype = ListArray::<i64>::default_datatype(items.dtype().clone());
                ListArray::<i64>::try_new(dtype, OffsetsBuffer::from(ends), items, valid(rows))?.boxed()
            }
            Self::Object { fields, valid: rows } => {
                let (mut types, mut arrays) = (Vec::new(), Vec::new());
                for field in fields {
                    let array = field.values.finish()?;
                    types.push(ArrowField::new(field.name.into(), array.dtype().clone(), true));
                    arrays.push(array);
                }
                StructArray::try_new(ArrowDataType::Struct(types), rows.len(), arrays, valid(rows))?.boxed()
            }
        })
    }
}

/// A string as its text, all else as JSON.
fn text(value: &[u8]) -> Cow<'_, str> {
    match value {
        [b'"', inside @ .., b'"'] => unescaped(inside),
        json => String::from_utf8_lossy(json),
    }
}

/// A string as its text, unless the text could be taken for JSON; then, as all else, as JSON.
fn mixed(value: &[u8]) -> Cow<'_, str> {
    let plain = text(value);
    match serde_json::from_str::<IgnoredAny>(&plain).is_ok() && value.first() == Some(&b'"') {
        true => {
            let mut quoted = Vec::new();
            string(&mut quoted, &plain);
            Cow::Owned(String::from_utf8_lossy(&quoted).into_owned())
        }
        false => plain,
    }
}

/// Appends one object; keys that it lacks are nulls.
fn object(json: &[u8], places: &mut [ColumnBuilder], row: usize) -> Result<()> {
    let mut values: Vec<Option<&[u8]>> = vec![None; places.len()];
    for (key, value) in fields(json) {
        if let Some(place) = places.iter().position(|place| place.name == key) {
            values[place] = Some(value);
        }
    }
    places.iter_mut().zip(values).try_for_each(|(place, value)| place.push(value, row))
}

fn frame(piece: &[u8], columns: &[Column]) -> Result<(DataFrame, Lost)> {
    let mut places: Vec<ColumnBuilder> = columns.iter().map(ColumnBuilder::of).collect();
    let mut rows = 0;
    for row in lines(piece) {
        rows += 1;
        object(row, &mut places, rows)?;
    }
    let mut lost = Lost::new();
    places.iter().for_each(|place| place.lost("", &mut lost));
    let column = |place: ColumnBuilder| -> Result<polars::prelude::Column> {
        Ok(Series::from_arrow(place.name.as_str().into(), place.values.finish()?)?.into_column())
    };
    let columns = places.into_iter().map(column).collect::<Result<_>>()?;
    Ok((DataFrame::new(rows, columns)?, lost))
}
