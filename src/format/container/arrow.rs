//! Columns of Arrow arrays, written row by row as JSON.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use polars_arrow::array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray, FixedSizeListArray, ListArray,
    MapArray, PrimitiveArray, StructArray, Utf8Array, Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType as Type, Field, TimeUnit};
use polars_arrow::types::NativeType;
use serde::de::IgnoredAny;

use super::csv;
use super::json::quote;
use super::scalars::{date, decimal, moment, show, time};
use crate::format::problems::{Problem, ProblemKind};

/// What a column holds that is neither text, number, time nor a list or an object of these, and in
/// which of its fields.
pub(super) fn unreadable(dtype: &Type, path: &str) -> Vec<(String, String)> {
    let what = match dtype.to_storage() {
        Type::List(field) | Type::LargeList(field) | Type::FixedSizeList(field, _) | Type::Map(field, _) => {
            return unreadable(field.dtype(), path);
        }
        Type::Struct(fields) => {
            let inside = |field: &Field| unreadable(field.dtype(), &format!("{path}.{}", field.name));
            return fields.iter().flat_map(inside).collect();
        }
        Type::Dictionary(_, inner, _) => return unreadable(inner, path),
        Type::FixedSizeBinary(_) => "bytes".to_string(),
        Type::Float16 | Type::Interval(_) | Type::Decimal256(..) | Type::Unknown | Type::Union(_) => {
            format!("values of the type {dtype:?}")
        }
        _ => return Vec::new(),
    };
    vec![(path.to_string(), what)]
}

/// What JSON does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Odd {
    /// Bytes that are no text.
    Bytes,
    /// NaN and the infinities.
    NotANumber,
}

/// What was met that JSON does not hold: in which columns, in how many rows, and in which first.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// The row that is being read, from 1.
    pub row: Cell<u32>,
    found: RefCell<BTreeMap<(String, Odd), Rows>>,
}

#[derive(Debug, Clone, Copy)]
struct Rows {
    count: u64,
    first: u32,
    last: u32,
}

impl Met {
    fn note(&self, path: &str, odd: Odd) {
        let row = self.row.get();
        let mut found = self.found.borrow_mut();
        let rows = found.entry((path.to_string(), odd)).or_insert(Rows { count: 0, first: row, last: 0 });
        rows.count += u64::from(std::mem::replace(&mut rows.last, row) != row);
    }

    /// All of it, as faults of the file.
    pub fn take(&mut self) -> Vec<Problem> {
        let found = std::mem::take(self.found.get_mut());
        let problem = |((path, odd), rows): ((String, Odd), Rows)| {
            let count = crate::display::thousands(rows.count);
            let count = if rows.count == 1 { "1 row".to_string() } else { format!("{count} rows") };
            let (kind, what) = match odd {
                Odd::Bytes => (ProblemKind::LeftOut, "bytes that are no text"),
                Odd::NotANumber => (ProblemKind::NotANumber, "NaN or infinity"),
            };
            let then = if odd == Odd::Bytes { "left out" } else { "read as null" };
            Problem::new(rows.first, kind, format!("the column `{path}` holds {what} in {count}: {then}"))
        };
        found.into_iter().map(problem).collect()
    }
}

/// What the texts of a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// No more than texts.
    Plain,
    /// Lists of turns as well, under keys of such.
    MayBeJson,
}

type Put<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// An array that writes its values as JSON.
pub(super) struct Cells<'a> {
    array: &'a dyn Array,
    kind: CellKind<'a>,
}

enum CellKind<'a> {
    /// Values that are left out.
    Nothing,
    Scalar(Put<'a>),
    /// Texts that nobody marked as such.
    Bytes(Box<dyn Fn(usize) -> &'a [u8] + 'a>, Column<'a>),
    Text(&'a Utf8ViewArray),
    /// Texts that are JSON where they can be.
    Json(&'a Utf8ViewArray),
    /// Values from the first number on, up to the second.
    List(Box<dyn Fn(usize) -> (usize, usize) + 'a>, Box<Cells<'a>>),
    /// Keys as JSON, and the values under them.
    Object(Vec<(Vec<u8>, Cells<'a>)>),
    /// Keys and values of a map.
    Map(&'a MapArray, Box<Cells<'a>>, Box<Cells<'a>>),
    /// Places in another array.
    Dictionary(Box<dyn Fn(usize) -> usize + 'a>, Box<Cells<'a>>),
}

/// The kind of an array that is of type `A`.
fn with<'a, A: 'static>(array: &'a dyn Array, kind: impl FnOnce(&'a A) -> CellKind<'a>) -> CellKind<'a> {
    array.as_any().downcast_ref().map_or(CellKind::Nothing, kind)
}

fn number<'a, T: NativeType>(array: &'a dyn Array, put: impl Fn(T, &mut Vec<u8>) + 'a) -> CellKind<'a> {
    with(array, |array: &PrimitiveArray<T>| {
        CellKind::Scalar(Box::new(move |i, out| put(array.value(i), out)))
    })
}

fn plain<T: NativeType + std::fmt::Display>(array: &dyn Array) -> CellKind<'_> {
    number(array, |value: T, out| show(out, value))
}

fn text<'a>(bytes: impl Fn(usize) -> &'a [u8] + 'a) -> CellKind<'a> {
    CellKind::Scalar(Box::new(move |i, out| quote(out, bytes(i))))
}

/// A column, or a field of one, and where to note what JSON does not hold.
#[derive(Debug, Clone)]
pub(super) struct Column<'a> {
    pub path: String,
    pub met: &'a Met,
}

impl<'a> Column<'a> {
    fn note(&self, odd: Odd) {
        self.met.note(&self.path, odd);
    }

    /// JSON has no infinity and no NaN: they become null.
    fn float(&self, out: &mut Vec<u8>, finite: bool, value: &impl serde::Serialize) {
        if !finite {
            self.note(Odd::NotANumber);
        }
        let _ = serde_json::to_writer(out, value);
    }

    fn cells(&self, array: &'a dyn Array) -> Box<Cells<'a>> {
        Box::new(Cells::of(array, self.clone()))
    }
}

impl<'a> Cells<'a> {
    pub fn of(array: &'a dyn Array, column: Column<'a>) -> Self {
        let kind = match array.dtype().to_storage() {
            Type::Boolean => with(array, |array: &BooleanArray| {
                CellKind::Scalar(Box::new(|i, out| show(out, array.value(i))))
            }),
            Type::Int8 => plain::<i8>(array),
            Type::Int16 => plain::<i16>(array),
            Type::Int32 => plain::<i32>(array),
            Type::Int64 => plain::<i64>(array),
            Type::UInt8 => plain::<u8>(array),
            Type::UInt16 => plain::<u16>(array),
            Type::UInt32 => plain::<u32>(array),
            Type::UInt64 => plain::<u64>(array),
            Type::Float32 => number(array, move |v: f32, out| column.float(out, v.is_finite(), &v)),
            Type::Float64 => number(array, move |v: f64, out| column.float(out, v.is_finite(), &v)),
            Type::Decimal(_, scale) => {
                let scale = *scale;
                number(array, move |value: i128, out| decimal(out, value, scale))
            }
            Type::Decimal32(_, scale) => {
                let scale = *scale;
                number(array, move |value: i32, out| decimal(out, value.into(), scale))
            }
            Type::Decimal64(_, scale) => {
                let scale = *scale;
                number(array, move |value: i64, out| decimal(out, value.into(), scale))
            }
            Type::Date32 => {
                number(array, |days: i32, out| show(out, format_args!("\"{}\"", date(days.into()))))
            }
            Type::Date64 => number(array, |value: i64, out| moment(out, value, TimeUnit::Millisecond, false)),
            Type::Timestamp(unit, zone) => {
                let (unit, zoned) = (*unit, zone.is_some());
                number(array, move |value: i64, out| moment(out, value, unit, zoned))
            }
            Type::Time32(unit) => {
                let unit = *unit;
                number(array, move |value: i32, out| {
                    show(out, format_args!("\"{}\"", time(value.into(), unit)))
                })
            }
            Type::Time64(unit) => {
                let unit = *unit;
                number(array, move |value: i64, out| show(out, format_args!("\"{}\"", time(value, unit))))
            }
            Type::Duration(_) => plain::<i64>(array),
            Type::Utf8View => with(array, CellKind::Text),
            Type::Utf8 => with(array, |array: &Utf8Array<i32>| text(|i| array.value(i).as_bytes())),
            Type::LargeUtf8 => with(array, |array: &Utf8Array<i64>| text(|i| array.value(i).as_bytes())),
            Type::BinaryView => {
                with(array, |array: &BinaryViewArray| CellKind::Bytes(Box::new(|i| array.value(i)), column))
            }
            Type::Binary => {
                with(array, |array: &BinaryArray<i32>| CellKind::Bytes(Box::new(|i| array.value(i)), column))
            }
            Type::LargeBinary => {
                with(array, |array: &BinaryArray<i64>| CellKind::Bytes(Box::new(|i| array.value(i)), column))
            }
            Type::List(_) => with(array, |array: &ListArray<i32>| {
                CellKind::List(
                    Box::new(|i| array.offsets().start_end(i)),
                    column.cells(array.values().as_ref()),
                )
            }),
            Type::LargeList(_) => with(array, |array: &ListArray<i64>| {
                CellKind::List(
                    Box::new(|i| array.offsets().start_end(i)),
                    column.cells(array.values().as_ref()),
                )
            }),
            Type::FixedSizeList(_, size) => {
                let size = *size;
                with(array, |array: &FixedSizeListArray| {
                    CellKind::List(
                        Box::new(move |i| (i * size, (i + 1) * size)),
                        column.cells(array.values().as_ref()),
                    )
                })
            }
            Type::Struct(fields) => with(array, |array: &StructArray| {
                let key = |name: &str| {
                    let mut key = Vec::new();
                    quote(&mut key, name.as_bytes());
                    key
                };
                let values = fields.iter().zip(array.values()).map(|(field, values)| {
                    let path = format!("{}.{}", column.path, field.name);
                    Cells::of(values.as_ref(), Column { path, ..column.clone() })
                });
                CellKind::Object(fields.iter().map(|field| key(&field.name)).zip(values).collect())
            }),
            Type::Map(..) => with(array, |array: &MapArray| {
                let entries = array.field().as_any().downcast_ref::<StructArray>();
                match entries.map(|entries| entries.values()) {
                    Some([keys, values]) => {
                        CellKind::Map(array, column.cells(keys.as_ref()), column.cells(values.as_ref()))
                    }
                    _ => CellKind::Nothing,
                }
            }),
            Type::Dictionary(..) => dictionary(array, &column),
            _ => CellKind::Nothing,
        };
        Self { array, kind }
    }

    /// Takes the texts in the field that `path` leads to for JSON.
    pub fn mark_json(&mut self, path: &[String]) {
        match (&mut self.kind, path.split_first()) {
            (CellKind::Text(texts), None) => {
                let texts = *texts;
                self.kind = CellKind::Json(texts);
            }
            (CellKind::List(_, values), _) => values.mark_json(path),
            (CellKind::Object(fields), Some((name, rest))) => {
                let mut key = Vec::new();
                quote(&mut key, name.as_bytes());
                fields
                    .iter_mut()
                    .filter(|(known, _)| *known == key)
                    .for_each(|(_, cells)| cells.mark_json(rest));
            }
            _ => {}
        }
    }

    /// Writes row `i` of some columns as an object without its nulls.
    pub fn object(columns: &[(&[u8], Self)], i: usize, texts: Texts, out: &mut Vec<u8>) {
        let start = out.len();
        for (key, cells) in columns {
            if cells.is_nothing(i) {
                continue;
            }
            out.push(if out.len() == start { b'{' } else { b',' });
            out.extend_from_slice(key);
            out.push(b':');
            match &cells.kind {
                // Lists of turns that were written as text.
                CellKind::Text(array) if texts == Texts::MayBeJson => {
                    let name = std::str::from_utf8(&key[1..key.len() - 1]).unwrap_or_default();
                    let text = array.value(i).as_bytes();
                    if csv::holds_json(name, text) { csv::value(out, name, text) } else { quote(out, text) }
                }
                _ => cells.put(i, out),
            }
        }
        if out.len() == start {
            out.push(b'{');
        }
        out.push(b'}');
    }

    fn is_nothing(&self, i: usize) -> bool {
        self.array.is_null(i)
            || match &self.kind {
                CellKind::Nothing => true,
                CellKind::Bytes(bytes, column) if std::str::from_utf8(bytes(i)).is_err() => {
                    column.note(Odd::Bytes);
                    true
                }
                CellKind::Dictionary(place, values) => values.is_nothing(place(i)),
                _ => false,
            }
    }

    fn put(&self, i: usize, out: &mut Vec<u8>) {
        if self.is_nothing(i) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.kind {
            CellKind::Nothing => {}
            CellKind::Scalar(put) => put(i, out),
            CellKind::Bytes(bytes, _) => quote(out, bytes(i)),
            CellKind::Text(texts) => quote(out, texts.value(i).as_bytes()),
            CellKind::Json(texts) => match serde_json::from_str::<IgnoredAny>(texts.value(i)) {
                Ok(_) => out.extend_from_slice(texts.value(i).as_bytes()),
                Err(_) => quote(out, texts.value(i).as_bytes()),
            },
            CellKind::List(range, values) => {
                out.push(b'[');
                let (start, end) = range(i);
                for j in start..end {
                    if j > start {
                        out.push(b',');
                    }
                    values.put(j, out);
                }
                out.push(b']');
            }
            CellKind::Object(fields) => {
                let start = out.len();
                for (key, values) in fields.iter().filter(|(_, values)| !values.is_nothing(i)) {
                    out.push(if out.len() == start { b'{' } else { b',' });
                    out.extend_from_slice(key);
                    out.push(b':');
                    values.put(i, out);
                }
                if out.len() == start {
                    out.push(b'{');
                }
                out.push(b'}');
            }
            CellKind::Map(map, keys, values) => {
                out.push(b'{');
                let (start, end) = map.offsets().start_end(i);
                for j in start..end {
                    if j > start {
                        out.push(b',');
                    }
                    let key = out.len();
                    keys.put(j, out);
                    // Keys of JSON are strings.
                    if out.get(key) != Some(&b'"') {
                        out.insert(key, b'"');
                        out.push(b'"');
                    }
                    out.push(b':');
                    values.put(j, out);
                }
                out.push(b'}');
            }
            CellKind::Dictionary(place, values) => values.put(place(i), out),
        }
    }
}

fn dictionary<'a>(array: &'a dyn Array, column: &Column<'a>) -> CellKind<'a> {
    macro_rules! of {
        ($($key:ty)*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<DictionaryArray<$key>>() {
                return CellKind::Dictionary(Box::new(|i| array.key_value(i)), column.cells(array.values().as_ref()));
            })*
        };
    }
    of!(u8 u16 u32 u64 i8 i16 i32 i64);
    CellKind::Nothing
}
