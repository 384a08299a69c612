//! Finding out by looking how the records of a file stand in it.

use std::path::Path;

use super::csv;
use super::form::{Form, stem};
use super::json::{Keys, Scan, solid};
use crate::error::{Error, Result};

/// What the first bytes of a file say.
pub(super) enum Look {
    /// The records stand like this, and begin after so many bytes.
    Found(Form, usize),
    /// More bytes are needed.
    More,
}

/// Looks at the begin of a file, white space and byte-order mark aside.
pub(super) fn look(bytes: &[u8], ended: bool, path: &Path) -> Result<Look> {
    let Some((start, first)) = solid(bytes, 0) else {
        return Err(Error::format("the file is empty")
            .path(path)
            .help("name a file that holds JSON, CSV or Parquet"));
    };
    foreign(bytes).map_or(Ok(()), |error| Err(error.path(path)))?;
    match first {
        b'[' => Ok(Look::Found(Form::Array, start + 1)),
        b'{' => Ok(object(&bytes[start..], ended, start)),
        _ => {
            let (name, _) = stem(path);
            let named = name.ends_with(".csv") || name.ends_with(".tsv");
            match csv::delimiter(&bytes[start..], ended, named) {
                Some(delimiter) => Ok(Look::Found(Form::Csv { delimiter }, start)),
                None => Ok(Look::Found(Form::Lines, 0)),
            }
        }
    }
}

/// Files of which we know that we cannot read them.
fn foreign(bytes: &[u8]) -> Option<Error> {
    let wide = match bytes {
        [0xff, 0xfe, ..] | [b'{' | b'[' | b'"' | b' ', 0, ..] => Some("UTF-16LE"),
        [0xfe, 0xff, ..] | [0, b'{' | b'[' | b'"' | b' ', ..] => Some("UTF-16BE"),
        _ => None,
    };
    if let Some(wide) = wide {
        return Some(Error::format(format_args!("the text is in {wide}, not in UTF-8")).help(format_args!(
            "convert it with iconv -f {} -t UTF-8",
            wide.trim_end_matches(['L', 'B', 'E'])
        )));
    }
    let (packed, help) = match bytes {
        [b'P', b'K', 3..=8, 4..=8, ..] => ("zip", "unpack it first"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => ("bzip2", "unpack it first"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("xz", "unpack it first"),
        [b'7', b'z', 0xbc, 0xaf, ..] => ("7-Zip", "unpack it first"),
        _ if bytes.get(257..262) == Some(b"ustar") => ("a tar archive", "unpack it first"),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => ("an Arrow file", "write it as Parquet"),
        [b'G', b'G', b'U', b'F', ..] => ("a GGUF model", "name a file of rows"),
        _ if bytes.starts_with(b"SQLite format 3") => ("an SQLite database", "write its table as CSV"),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            ("a pointer of git-lfs and not the file", "fetch the file with git lfs pull")
        }
        _ => return None,
    };
    Some(Error::format(format_args!("this is {packed}, not JSON, CSV or Parquet")).help(help))
}

/// JSON lines, objects over several lines, or one object around the rows.
///
/// A first line that ends inside its value is not yet a reason to take the file for one of objects
/// over several lines: the line may be a broken one of JSON lines. It ends where a line break is
/// usual, and the next line goes on as JSON must.
fn object(bytes: &[u8], ended: bool, start: usize) -> Look {
    let found = |form| Look::Found(form, start);
    let field = |known_only| match field(bytes, known_only) {
        Field::Found(name, at) => Some(Look::Found(Form::Field(name), start + at)),
        _ => None,
    };
    let line = memchr::memchr(b'\n', bytes);
    let end = line.unwrap_or(bytes.len());
    if let Some(length) = Scan::default().feed(bytes)
        && length <= end
    {
        return match solid(bytes, length) {
            Some((at, b'{')) if at < end => found(Form::Values),
            Some(_) => found(Form::Lines),
            None if ended => field(true).unwrap_or(found(Form::Lines)),
            None => Look::More,
        };
    }
    let Some(line) = line else {
        return match field(true) {
            Some(look) => look,
            None if ended => found(Form::Lines),
            None => Look::More,
        };
    };
    let last = bytes[..line].iter().rfind(|b| !b.is_ascii_whitespace());
    let next = solid(bytes, line).map(|(_, byte)| byte);
    let goes_on = match (last, next) {
        (_, None) if !ended => return Look::More,
        (Some(b'{'), Some(next)) => matches!(next, b'"' | b'}'),
        (Some(b'['), Some(_)) => true,
        (Some(b','), Some(next)) => next != b'{',
        (Some(b':'), Some(next)) => matches!(next, b'[' | b'"'),
        _ => false,
    };
    if !goes_on {
        return found(Form::Lines);
    }
    match self::field(bytes, false) {
        Field::Found(name, at) => Look::Found(Form::Field(name), start + at),
        Field::Unsure if !ended => Look::More,
        _ => found(Form::Values),
    }
}

/// Whether an object holds the rows in one of its fields.
enum Field {
    /// Under this key; its first row begins after so many bytes.
    Found(String, usize),
    /// The object is itself a row.
    Row,
    /// The bytes do not reach far enough.
    Unsure,
}

/// Keys under which files have their rows.
const WRAPPERS: [&str; 14] = [
    "data",
    "rows",
    "examples",
    "train",
    "instances",
    "items",
    "records",
    "samples",
    "dataset",
    "entries",
    "validation",
    "test",
    "results",
    "questions",
];
/// Keys under which rows have their turns, and files sometimes their rows.
const TURNS: [&str; 9] = [
    "conversations",
    "conversation",
    "messages",
    "history",
    "turns",
    "dialog",
    "dialogue",
    "chosen",
    "rejected",
];
/// Keys that say that an object is a row.
const ROWS: [&str; 12] = [
    "instruction",
    "input",
    "output",
    "prompt",
    "completion",
    "response",
    "question",
    "answer",
    "query",
    "text",
    "system",
    "label",
];
/// Keys of arrays that are part of a row.
const PARTS: [&str; 3] = ["tools", "functions", "tool_calls"];
/// Keys that say that an object is a turn.
const SPEAKERS: [&str; 7] = ["from", "role", "speaker", "human", "user", "assistant", "bot"];

/// Looks for the first array of objects that can be the rows; with `known_only` only under a usual key.
fn field(bytes: &[u8], known_only: bool) -> Field {
    let mut keys = Keys::of(bytes);
    let mut row = false;
    while let Some((key, value)) = keys.next() {
        let key = String::from_utf8_lossy(key);
        let inside = (bytes.get(value) == Some(&b'[')).then(|| solid(bytes, value + 1));
        match inside {
            Some(None) => return Field::Unsure,
            Some(Some((_, b']'))) if WRAPPERS.contains(&&*key) => {
                return Field::Found(key.into_owned(), value + 1);
            }
            Some(Some((first, b'{'))) if !PARTS.contains(&&*key) => {
                let wrapped = match (is_turn(&bytes[first..]), TURNS.contains(&&*key)) {
                    (None, _) => return Field::Unsure,
                    (Some(turn), true) => !turn,
                    (Some(turn), false) => !turn && (WRAPPERS.contains(&&*key) || !row && !known_only),
                };
                if wrapped {
                    return Field::Found(key.into_owned(), value + 1);
                }
                row = true;
            }
            _ => {}
        }
        row |= ROWS.contains(&&*key) || TURNS.contains(&&*key);
        if keys.skip().is_none() {
            return Field::Unsure;
        }
    }
    if keys.ended() { Field::Row } else { Field::Unsure }
}

/// Whether an object is a turn and not a row; `None` when its keys are not all in sight.
fn is_turn(bytes: &[u8]) -> Option<bool> {
    let mut keys = Keys::of(bytes);
    let mut turn = false;
    while let Some((key, _)) = keys.next() {
        let is = |names: &[&str]| names.iter().any(|name| name.as_bytes() == key);
        if is(&TURNS) || is(&ROWS[..3]) {
            return Some(false);
        }
        turn |= is(&SPEAKERS);
        keys.skip()?;
    }
    keys.ended().then_some(turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> String {
        match look(text.as_bytes(), true, Path::new("x")) {
            Ok(Look::Found(form, at)) => match form {
                Form::Field(key) => format!("{key} at {at}"),
                other => format!("{other:?}"),
            },
            Ok(Look::More) => "more".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn objects_around_rows_are_told_from_rows() {
        for (text, expected) in [
            (r#"{"version": 1, "data": [{"instruction": "a"}]}"#, "data at 24"),
            ("{\"version\": [1],\n \"rows\":\n [\n {\"instruction\": \"a\"}]}", "rows at 28"),
            (r#"{"conversations": [{"from": "human", "value": "a"}]}"#, "Lines"),
            (r#"{"conversations": [{"id": "1", "messages": []}]}"#, "conversations at 19"),
            ("{\n\"messages\": [\n{\"role\": \"user\", \"content\": \"a\"}]}", "Values"),
            ("{\n\"instruction\": \"a\",\n\"parts\": [{\"b\": 1}]}", "Values"),
            ("{\n\"meta\": {},\n\"parts\": [{\"b\": 1}]}", "parts at 24"),
            (r#"{"meta": {}, "parts": [{"b": 1}]}"#, "Lines"),
            (r#"{"data": []}"#, "data at 10"),
            (r#"{"data": [1]}"#, "Lines"),
            ("{\"data\": [{\"a\": 1}]}\n{\"data\": [{\"a\": 1}]}", "Lines"),
            ("{\"a\": 1}{\"a\": 2}\n", "Values"),
            ("{\"a\": \"\n{\"a\": 1}\n", "Lines"),
            ("{\"a\": 1,\n{\"a\": 1}\n", "Lines"),
            ("{\"a\": \n{\"a\": 1}\n", "Lines"),
            ("{\n\"a\": 1}\n", "Values"),
            ("{", "Lines"),
            ("{\n", "Lines"),
            ("{\"tools\": [{\"name\": \"f\"}], \"data\": [{\"role\": \"x\"}]}", "Lines"),
        ] {
            assert_eq!(form(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert_eq!(form("PK\u{3}\u{4}"), "x: this is zip, not JSON, CSV or Parquet; unpack it first");
        let wide = look(b"\xff\xfe{\0", true, Path::new("x")).err().unwrap().to_string();
        assert_eq!(
            wide,
            "x: the text is in UTF-16LE, not in UTF-8; convert it with iconv -f UTF-16 -t UTF-8"
        );
    }
}
