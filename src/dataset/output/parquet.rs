//! Rows as columns: lists of turns as lists of structs, row group by row group.

use std::borrow::Cow;

use polars::prelude::*;
use polars_arrow::array::{Array, ListArray, MutableBinaryViewArray, Utf8ViewArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::offset::{Offsets, OffsetsBuffer};
use rayon::prelude::*;

use super::columns::{Columns, Shape, fields, unescaped};
use super::{Sink, Spool, lines};
use crate::dataset::container::{PARQUET_JSON as JSON, elements};
use crate::error::{Error, Result};

/// JSON text of a row group.
const GROUP: usize = 8 << 20;

/// Writes all rows.
pub(super) fn write(spool: Spool, sink: &mut Sink) -> Result<()> {
    let (columns, mut pieces) = spool.read()?;
    if columns.0.is_empty() {
        return Err(
            Error::input("there are no rows, and so no columns").help("write JSON lines, or other rows")
        );
    }
    let schema = frame(&[], &columns)?.schema().clone();
    let json = serde_json::to_string(&columns.json()).map_err(Error::compute)?;
    let mut writer = ParquetWriter::new(sink)
        .with_compression(ParquetCompression::Zstd(None))
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(vec![(JSON.to_string(), json)])))
        .batched(&schema)?;
    loop {
        let batch = pieces.next(GROUP)?;
        if batch.is_empty() {
            writer.finish()?;
            return Ok(());
        }
        let frames: Vec<DataFrame> =
            batch.par_iter().map(|piece| frame(piece, &columns)).collect::<Result<_>>()?;
        for frame in frames {
            writer.write_batch(&frame)?;
        }
    }
}

type Strings = MutableBinaryViewArray<str>;

/// A column in the making.
enum Column {
    Text(Strings),
    Flag(Vec<Option<bool>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    /// Values as they stand in the file, strings with their quotes.
    Json(Strings),
    Turns {
        ends: Offsets<i64>,
        valid: Vec<bool>,
        fields: Vec<(String, Column)>,
    },
    Pairs {
        ends: Offsets<i64>,
        valid: Vec<bool>,
        inner: Offsets<i64>,
        texts: Strings,
    },
}

impl Column {
    fn of(shape: &Shape) -> Self {
        match shape {
            Shape::Flag => Self::Flag(Vec::new()),
            Shape::Integer => Self::Integer(Vec::new()),
            Shape::Number => Self::Number(Vec::new()),
            Shape::Json => Self::Json(Strings::default()),
            Shape::Text | Shape::Unknown => Self::Text(Strings::default()),
            Shape::Pairs => Self::Pairs {
                ends: Offsets::default(),
                valid: Vec::new(),
                inner: Offsets::default(),
                texts: Strings::default(),
            },
            Shape::Turns(columns) => Self::Turns {
                ends: Offsets::default(),
                valid: Vec::new(),
                fields: columns.iter().map(|c| (c.name.clone(), Self::of(&c.shape))).collect(),
            },
        }
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<()> {
        let value = value.filter(|value| value.first() != Some(&b'n'));
        match self {
            Self::Text(texts) => texts.push(value.map(text)),
            Self::Flag(flags) => flags.push(value.map(|value| value.first() == Some(&b't'))),
            Self::Json(texts) => texts.push(value.map(String::from_utf8_lossy)),
            Self::Integer(numbers) => {
                numbers.push(value.and_then(|value| serde_json::from_slice(value).ok()));
            }
            Self::Number(numbers) => {
                numbers.push(value.and_then(|value| serde_json::from_slice(value).ok()));
            }
            Self::Turns { ends, valid, fields } => {
                let turns = value.map(elements).unwrap_or_default();
                valid.push(value.is_some());
                ends.try_push(turns.len())?;
                for turn in turns {
                    object(turn, fields)?;
                }
            }
            Self::Pairs { ends, valid, inner, texts } => {
                let pairs = value.map(elements).unwrap_or_default();
                valid.push(value.is_some());
                ends.try_push(pairs.len())?;
                for pair in pairs {
                    let pair = elements(pair);
                    inner.try_push(pair.len())?;
                    pair.into_iter().for_each(|part| texts.push_value(text(part)));
                }
            }
        }
        Ok(())
    }

    fn finish(self, name: &str) -> Result<Series> {
        let valid = |valid: Vec<bool>| {
            let all = valid.iter().all(|&valid| valid);
            (!all).then(|| valid.into_iter().collect::<Bitmap>())
        };
        Ok(match self {
            Self::Text(texts) | Self::Json(texts) => strings(name, texts),
            Self::Integer(numbers) => Series::new(name.into(), numbers),
            Self::Flag(flags) => Series::new(name.into(), flags),
            Self::Number(numbers) => Series::new(name.into(), numbers),
            Self::Turns { ends, valid: rows, fields } => {
                let fields: Vec<Series> =
                    fields.into_iter().map(|(name, column)| column.finish(&name)).collect::<Result<_>>()?;
                let turns = usize::try_from(*ends.last()).unwrap_or_default();
                let turns = StructChunked::from_series("item".into(), turns, fields.iter())?;
                list(name, ends, turns.into_series(), valid(rows))?
            }
            Self::Pairs { ends, valid: rows, inner, texts } => {
                let pairs = list("item", inner, strings("item", texts), None)?;
                list(name, ends, pairs, valid(rows))?
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

fn strings(name: &str, texts: Strings) -> Series {
    StringChunked::with_chunk(name.into(), Utf8ViewArray::from(texts)).into_series()
}

fn list(name: &str, ends: Offsets<i64>, values: Series, valid: Option<Bitmap>) -> Result<Series> {
    let dtype = DataType::List(Box::new(values.dtype().clone())).to_arrow(CompatLevel::newest());
    let values = values.rechunk();
    let values: Box<dyn Array> = values.to_arrow(0, CompatLevel::newest());
    let list = ListArray::<i64>::try_new(dtype, OffsetsBuffer::from(ends), values, valid)?;
    Ok(Series::from_arrow(name.into(), Box::new(list))?)
}

/// Appends one object; keys that it lacks are nulls.
fn object(json: &[u8], columns: &mut [(String, Column)]) -> Result<()> {
    let mut values: Vec<Option<&[u8]>> = vec![None; columns.len()];
    for (key, value) in fields(json) {
        if let Some(place) = columns.iter().position(|(name, _)| *name == key) {
            values[place] = Some(value);
        }
    }
    columns.iter_mut().zip(values).try_for_each(|((_, column), value)| column.push(value))
}

fn frame(piece: &[u8], columns: &Columns) -> Result<DataFrame> {
    let mut made: Vec<(String, Column)> =
        columns.0.iter().map(|column| (column.name.clone(), Column::of(&column.shape))).collect();
    let mut rows = 0;
    for row in lines(piece) {
        object(row, &mut made)?;
        rows += 1;
    }
    let series: Vec<_> = made
        .into_iter()
        .map(|(name, column)| column.finish(&name).map(|series| series.into_column()))
        .collect::<Result<_>>()?;
    Ok(DataFrame::new(rows, series)?)
}
