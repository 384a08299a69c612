//! The columns that rows of JSON make: their names in the order of their first occurrence, and what
//! was seen of their values.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::format::container::{Keys, elements};

/// How deep lists and objects may lie in each other before they become JSON text.
const DEPTH: usize = 16;
/// Keys that the objects of one place may have in all before they become JSON text.
const KEYS: usize = 100;
/// Whole numbers up to here are the same as floating-point numbers.
const EXACT: u64 = 1 << 53;

/// What was seen of the values in one place of the rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SeenValues {
    pub flags: bool,
    pub integers: bool,
    /// Whole numbers that a floating-point number does not hold.
    pub large: bool,
    pub numbers: bool,
    pub texts: bool,
    /// Something that has no type of its own: a number beyond all types, an object with a key twice.
    pub odd: bool,
    pub nulls: bool,
    /// What the items of lists are.
    pub list: Option<Box<SeenValues>>,
    pub object: Option<Objects>,
}

/// The keys of all objects in one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Objects {
    pub fields: Vec<Field>,
    /// Not all of them have the same keys.
    pub differ: bool,
    count: usize,
}

/// One key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub name: String,
    pub seen: SeenValues,
    /// The number of the object that had it last.
    at: usize,
}

impl SeenValues {
    fn note(&mut self, value: &[u8], depth: usize) {
        match value.first() {
            Some(b'n') | None => self.nulls = true,
            Some(b't' | b'f') => self.flags = true,
            Some(b'"') => self.texts = true,
            Some(b'-' | b'0'..=b'9') => self.number(value),
            // All the same what else is there: it becomes JSON text.
            _ if self.odd => {}
            _ if depth == DEPTH => self.odd = true,
            Some(b'[') => {
                let items = self.list.get_or_insert_default();
                elements(value).into_iter().for_each(|item| items.note(item, depth + 1));
            }
            _ => {
                let objects = self.object.get_or_insert_default();
                let twice = objects.note(value, depth + 1);
                if twice || objects.fields.len() > KEYS {
                    self.odd = true;
                    self.object = Some(Objects::default());
                }
            }
        }
    }

    fn number(&mut self, value: &[u8]) {
        let whole = !value.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
        match serde_json::from_slice::<i64>(value) {
            // As an integer it would lose its sign.
            Ok(0) if value == b"-0" => self.numbers = true,
            Ok(number) if whole => {
                self.integers = true;
                self.large |= number.unsigned_abs() > EXACT;
            }
            _ if !whole && serde_json::from_slice::<f64>(value).is_ok_and(f64::is_finite) => {
                self.numbers = true
            }
            _ if value == b"-0" => self.numbers = true,
            _ => self.odd = true,
        }
    }

    fn merge(&mut self, other: Self) {
        self.flags |= other.flags;
        self.integers |= other.integers;
        self.large |= other.large;
        self.numbers |= other.numbers;
        self.texts |= other.texts;
        self.odd |= other.odd;
        self.nulls |= other.nulls;
        match (&mut self.list, other.list) {
            (Some(items), Some(more)) => items.merge(*more),
            (None, more) => self.list = more,
            _ => {}
        }
        match (&mut self.object, other.object) {
            (Some(objects), Some(more)) => {
                objects.merge(more);
                self.odd |= objects.fields.len() > KEYS;
            }
            (None, more) => self.object = more,
            _ => {}
        }
    }
}

impl Objects {
    /// Takes in an object; says whether it has a key twice.
    fn note(&mut self, object: &[u8], depth: usize) -> bool {
        self.count += 1;
        let (before, mut keys, mut twice) = (self.fields.len(), 0, false);
        for (key, value) in fields(object) {
            let place = match self.fields.iter().position(|field| field.name == key) {
                Some(place) => place,
                None => {
                    self.fields.push(Field { name: key.into_owned(), seen: SeenValues::default(), at: 0 });
                    self.fields.len() - 1
                }
            };
            let field = &mut self.fields[place];
            twice |= std::mem::replace(&mut field.at, self.count) == self.count;
            field.seen.note(value, depth);
            keys += 1;
        }
        let new = self.fields.len() > before && self.count > 1;
        self.differ |= new || keys != self.fields.len();
        twice
    }

    fn merge(&mut self, other: Self) {
        let known = self.fields.len();
        let mut shared = 0;
        for field in other.fields {
            match self.fields[..known].iter_mut().find(|there| there.name == field.name) {
                Some(there) => {
                    there.seen.merge(field.seen);
                    there.at = 0;
                    shared += 1;
                }
                None => self.fields.push(Field { at: 0, ..field }),
            }
        }
        let same = shared == known && self.fields.len() == known;
        self.differ |= other.differ || !same && self.count > 0 && other.count > 0;
        self.count += other.count;
    }

    /// Takes in some rows.
    pub fn rows(&mut self, rows: &[u8]) {
        let rows: Vec<&[u8]> = lines(rows).collect();
        let parts: Vec<Self> = rows
            .par_chunks(128)
            .map(|rows| {
                let mut columns = Self::default();
                for row in rows {
                    columns.note(row, 0);
                }
                columns
            })
            .collect();
        parts.into_iter().for_each(|part| self.merge(part));
    }
}

/// The text of a JSON string, given without its quotes.
pub(super) fn unescaped(inside: &[u8]) -> Cow<'_, str> {
    if !inside.contains(&b'\\') {
        return String::from_utf8_lossy(inside);
    }
    let quoted = [b"\"", inside, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| String::from_utf8_lossy(inside), Cow::Owned)
}

/// The keys of an object, and their values as they stand there.
pub(super) fn fields(object: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
    let mut keys = Keys::of(object);
    std::iter::from_fn(move || {
        let (key, start) = keys.next()?;
        let end = keys.skip()?;
        Some((unescaped(key), object[start..end].trim_ascii()))
    })
}

/// The lines of a piece.
pub(super) fn lines(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    piece.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}
