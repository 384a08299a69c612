//! The columns that rows of JSON make: their names in the order of their first occurrence, and what
//! all their values have in common.

use std::borrow::Cow;

use rayon::prelude::*;

use super::lines;
use crate::dataset::container::{Keys, elements};

/// The columns of rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Columns(pub Vec<Column>);

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub shape: Shape,
}

/// What all values of a column are; nulls count for nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// No value so far.
    Unknown,
    Flag,
    Integer,
    Number,
    Text,
    /// Lists of objects with these fields.
    Turns(Vec<Column>),
    /// Lists of lists of texts.
    Pairs,
    /// Values of several shapes, and those that are none of the others.
    Json,
}

impl Shape {
    fn of(value: &[u8], nested: bool) -> Self {
        match value.first() {
            Some(b'n') | None => Self::Unknown,
            Some(b't' | b'f') => Self::Flag,
            Some(b'"') => Self::Text,
            Some(b'-' | b'0'..=b'9') => {
                let whole = !value.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
                match whole {
                    // As an integer it would lose its sign.
                    true if value == b"-0" => Self::Json,
                    true if serde_json::from_slice::<i64>(value).is_ok() => Self::Integer,
                    false if serde_json::from_slice::<f64>(value).is_ok() => Self::Number,
                    _ => Self::Json,
                }
            }
            Some(b'[') if !nested => {
                let mut shape = Self::Unknown;
                let items = elements(value);
                for item in &items {
                    shape.join(match item.first() {
                        Some(b'{') => {
                            let mut fields = Columns::default();
                            fields.object(item, true);
                            if fields.0.is_empty() { Self::Json } else { Self::Turns(fields.0) }
                        }
                        Some(b'[') if elements(item).iter().all(|text| text.first() == Some(&b'"')) => {
                            Self::Pairs
                        }
                        _ => Self::Json,
                    });
                }
                if items.is_empty() { Self::Pairs } else { shape }
            }
            _ => Self::Json,
        }
    }

    fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Unknown) => {}
            (Self::Unknown, other) => *self = other,
            (Self::Turns(fields), Self::Turns(more)) => {
                for column in more {
                    join(fields, column);
                }
            }
            (one, other) if *one != other => *self = Self::Json,
            _ => {}
        }
    }
}

/// Adds a column, or what it says about one that is there.
fn join(columns: &mut Vec<Column>, column: Column) {
    match columns.iter_mut().find(|there| there.name == column.name) {
        Some(there) => there.shape.join(column.shape),
        None => columns.push(column),
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

impl Columns {
    /// The columns whose texts are JSON, and the fields of turns: their names from the outside in.
    pub fn json(&self) -> Vec<Vec<&str>> {
        let mut found = Vec::new();
        for column in &self.0 {
            match &column.shape {
                Shape::Json => found.push(vec![column.name.as_str()]),
                Shape::Turns(fields) => {
                    let fields = fields.iter().filter(|field| field.shape == Shape::Json);
                    found.extend(fields.map(|field| vec![column.name.as_str(), field.name.as_str()]));
                }
                _ => {}
            }
        }
        found
    }

    /// Takes in some rows.
    pub fn note(&mut self, rows: &[u8]) {
        let rows: Vec<&[u8]> = lines(rows).collect();
        let parts: Vec<Self> = rows
            .par_chunks(128)
            .map(|rows| {
                let mut columns = Self::default();
                rows.iter().for_each(|row| columns.object(row, false));
                columns
            })
            .collect();
        for column in parts.into_iter().flat_map(|part| part.0) {
            join(&mut self.0, column);
        }
    }

    fn object(&mut self, object: &[u8], nested: bool) {
        for (key, value) in fields(object) {
            let shape = Shape::of(value, nested);
            match self.0.iter_mut().find(|there| there.name == key) {
                Some(there) => there.shape.join(shape),
                None => self.0.push(Column { name: key.into_owned(), shape }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_what_their_values_have_in_common() {
        let mut columns = Columns::default();
        columns.note(
            br#"{"id":"a","messages":[{"role":"user","content":"x"}],"n":1,"label":true,"e":[]}
{"messages":[{"role":"assistant","content":"y","weight":0.5,"tool_calls":[{"a":1}]}],"n":"two","p":[["q","a"]]}
{"label":null,"a\"b":{"c":[1]},"l":["x"]}"#,
        );
        let shape = |name: &str| columns.0.iter().find(|c| c.name == name).map(|c| c.shape.clone()).unwrap();
        let names: Vec<&str> = columns.0.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["id", "messages", "n", "label", "e", "p", "a\"b", "l"]);
        assert_eq!((shape("id"), shape("n"), shape("label")), (Shape::Text, Shape::Json, Shape::Flag));
        assert_eq!((shape("e"), shape("p"), shape("l")), (Shape::Pairs, Shape::Pairs, Shape::Json));
        assert_eq!(columns.json(), [vec!["messages", "tool_calls"], vec!["n"], vec!["a\"b"], vec!["l"]]);
        let Shape::Turns(fields) = shape("messages") else { panic!("{columns:?}") };
        let fields: Vec<_> = fields.into_iter().map(|c| (c.name, c.shape)).collect();
        let field = |name: &str, shape| (name.to_string(), shape);
        let expected = [
            field("role", Shape::Text),
            field("content", Shape::Text),
            field("weight", Shape::Number),
            field("tool_calls", Shape::Json),
        ];
        assert_eq!(fields, expected);
    }
}
