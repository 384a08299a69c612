//! Finding out by looking how the records of a file stand in it.

use std::path::Path;

use super::csv;
use super::form::{Form, stem};
use super::json::{Keys, Scan, solid};
use crate::error::{Error, Result};

/// What the first bytes of a file say.
pub(super) enum Detection {
    Found(Start),
    /// More bytes are needed.
    More,
}

/// How the records of a file stand in it.
pub(super) struct Start {
    pub form: Form,
    /// The bytes before the first of them.
    pub at: usize,
    /// Keys beside the list of rows that could be meant for all of them.
    pub beside: Vec<String>,
}

impl Detection {
    fn found(form: Form, at: usize) -> Self {
        Self::Found(Start { form, at, beside: Vec::new() })
    }
}

/// Bytes within which the first element of an array ends, unless it is huge.
const FIRST: usize = 8 << 20;

/// Looks at the begin of a file, white space and byte-order mark aside.
pub(super) fn detect(bytes: &[u8], ended: bool, path: &Path) -> Result<Detection> {
    let Some((start, first)) = solid(bytes, 0) else {
        return Err(Error::format("the file is empty")
            .path(path)
            .help("name a file that holds JSON, CSV or Parquet"));
    };
    foreign(bytes).map_or(Ok(()), |error| Err(error.path(path)))?;
    match first {
        b'[' => Ok(array(&bytes[start..], ended, start)),
        b'{' => Ok(object(&bytes[start..], ended, start)),
        _ => {
            let (name, _) = stem(path);
            let named = name.ends_with(".csv") || name.ends_with(".tsv");
            match csv::delimiter(&bytes[start..], ended, named) {
                Some(delimiter) => Ok(Detection::found(Form::Csv { delimiter }, start)),
                None => Ok(Detection::found(Form::Lines, 0)),
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

/// An array of rows, or arrays of turns: each of these is a record.
fn array(bytes: &[u8], ended: bool, start: usize) -> Detection {
    let more = !ended && bytes.len() < FIRST;
    let first = match solid(bytes, 1) {
        None if more => return Detection::More,
        Some((at, b'{')) => match element(&bytes[at..]) {
            None if more => return Detection::More,
            first => first,
        },
        _ => None,
    };
    if first != Some(Element::Turn) {
        return Detection::found(Form::Array, start + 1);
    }
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    match Scan::default().feed(bytes) {
        None if !ended => Detection::More,
        Some(end) if end <= line && solid(&bytes[..line], end).is_none() => {
            Detection::found(Form::Lines, start)
        }
        _ => Detection::found(Form::Values, start),
    }
}

/// JSON lines, objects over several lines, or one object around the rows.
///
/// A first line that ends inside its value is not yet a reason to take the file for one of objects
/// over several lines: the line may be a broken one of JSON lines. It ends where a line break is
/// usual, and the next line goes on as JSON must.
fn object(bytes: &[u8], ended: bool, start: usize) -> Detection {
    let found = |form| Detection::found(form, start);
    let wrapped =
        |name, at: usize, beside| Detection::Found(Start { form: Form::Field(name), at: start + at, beside });
    let field = |known_only| match field(bytes, known_only) {
        Field::Found(name, at, beside) => Some(wrapped(name, at, beside)),
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
            None => Detection::More,
        };
    }
    let Some(line) = line else {
        return match field(true) {
            Some(look) => look,
            None if ended => found(Form::Lines),
            None => Detection::More,
        };
    };
    let last = bytes[..line].iter().rfind(|b| !b.is_ascii_whitespace());
    let next = solid(bytes, line).map(|(_, byte)| byte);
    let goes_on = match (last, next) {
        (_, None) if !ended => return Detection::More,
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
        Field::Found(name, at, beside) => wrapped(name, at, beside),
        Field::Unsure if !ended => Detection::More,
        _ => found(Form::Values),
    }
}

/// Whether an object holds the rows in one of its fields.
enum Field {
    /// Under this key; its first row begins after so many bytes; other keys could be meant for all rows.
    Found(String, usize, Vec<String>),
    /// The object is itself a row.
    Row,
    /// The bytes do not reach far enough.
    Unsure,
}

/// Keys under which files have their rows.
const WRAPPERS: [&str; 18] = [
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
    "valid",
    "val",
    "dev",
    "eval",
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
/// Keys that say that an object is a row, the strongest first.
const ROWS: [&str; 12] = [
    "instruction",
    "prompt",
    "completion",
    "response",
    "question",
    "answer",
    "query",
    "input",
    "output",
    "text",
    "system",
    "label",
];
/// Keys of [`ROWS`] that cannot be meant for all rows of a file.
const ALONE: usize = 9;
/// Keys of arrays that are part of a row.
const PARTS: [&str; 3] = ["tools", "functions", "tool_calls"];

/// What an element of an array is, by its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// It has all that a row needs.
    Row,
    /// Input and output: a row, or a part of one.
    Pair,
    /// It names its speaker, and has what is said.
    Turn,
    /// It may be a turn, or what human and assistant say.
    Spoken,
    Other,
}

/// Looks for the first array of objects that can be the rows; with `known_only` only under a usual key.
fn field(bytes: &[u8], known_only: bool) -> Field {
    let mut keys = Keys::of(bytes);
    // What says that the object is a row, and what may be said of all rows.
    let (mut row, mut alone, mut beside) = (false, false, Vec::new());
    let mut list: Option<(String, usize, Element)> = None;
    let mut empty: Option<(String, usize)> = None;
    let ended = loop {
        let Some((key, value)) = keys.next() else { break keys.ended() };
        let key = String::from_utf8_lossy(key);
        let (wrapper, turns) = (WRAPPERS.contains(&&*key), TURNS.contains(&&*key));
        match (bytes.get(value) == Some(&b'[')).then(|| solid(bytes, value + 1)) {
            _ if list.is_some() => {}
            Some(None) => break false,
            Some(Some((_, b']'))) if wrapper && empty.is_none() => {
                empty = Some((key.clone().into_owned(), value + 1));
            }
            Some(Some((first, b'{'))) if !PARTS.contains(&&*key) => {
                let Some(element) = element(&bytes[first..]) else { break false };
                let wrapped = match element {
                    Element::Turn | Element::Spoken => false,
                    Element::Row => wrapper || !row && (turns || !known_only),
                    Element::Pair | Element::Other => !turns && (wrapper || !row && !known_only),
                };
                match wrapped {
                    true => list = Some((key.clone().into_owned(), value + 1, element)),
                    false => row = true,
                }
            }
            // Lists of turns without a key of their own.
            Some(Some((first, b'['))) if wrapper => {
                if let Some((turn, b'{')) = solid(bytes, first + 1)
                    && element(&bytes[turn..]) == Some(Element::Turn)
                {
                    list = Some((key.clone().into_owned(), value + 1, Element::Row));
                }
            }
            _ => {}
        }
        row |= ROWS.contains(&&*key) || turns;
        alone |= ROWS[..ALONE].contains(&&*key);
        if ROWS[ALONE..].contains(&&*key) {
            beside.push(key.into_owned());
        }
        if keys.skip().is_none() {
            break false;
        }
    };
    match (list, empty) {
        (Some((_, _, Element::Pair | Element::Other)), _) if alone => Field::Row,
        (Some((name, at, _)), _) => Field::Found(name, at, beside),
        (None, _) if !ended => Field::Unsure,
        (None, Some((name, at))) if !row => Field::Found(name, at, beside),
        _ => Field::Row,
    }
}

/// What an object in an array is; `None` when its keys are not all in sight.
fn element(bytes: &[u8]) -> Option<Element> {
    let mut keys = Keys::of(bytes);
    let (mut turn, mut said, mut spoken, mut pair, mut row) = (false, false, false, false, false);
    while let Some((key, _)) = keys.next() {
        let is = |names: &[&str]| names.iter().any(|name| name.as_bytes() == key);
        if is(&TURNS) || is(&ROWS[..1]) {
            return Some(Element::Row);
        }
        turn |= is(&["from", "role", "speaker"]);
        said |= is(&["value", "content", "text", "message", "tool_calls", "function_call"]);
        spoken |= is(&["human", "user", "assistant", "bot"]);
        pair |= is(&["input", "output"]);
        row |= is(&ROWS[1..7]);
        keys.skip()?;
    }
    keys.ended().then_some(match () {
        () if row => Element::Row,
        () if turn && said => Element::Turn,
        () if turn || spoken => Element::Spoken,
        () if pair => Element::Pair,
        () => Element::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> String {
        match detect(text.as_bytes(), true, Path::new("x")) {
            Ok(Detection::Found(Start { form, at, beside })) => match form {
                Form::Field(key) => format!("{key} at {at}{}", beside.concat()),
                other => format!("{other:?}"),
            },
            Ok(Detection::More) => "more".into(),
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
            // Conversations and their neighbours are rows.
            (r#"{"system": "s", "conversation": [{"human": "a", "assistant": "b"}]}"#, "Lines"),
            (r#"{"conversation": [{"input": "a", "output": "b"}], "system": "s"}"#, "Lines"),
            ("{\n\"conversation\": [\n{\"system\": \"s\", \"input\": \"a\", \"output\": \"b\"}]}", "Values"),
            ("{\n\"id\": 1,\n\"dialog\": [\n{\"q\": \"a\", \"a\": \"b\"}]}", "Values"),
            (r#"{"id": "1", "data": ["q", "a"]}"#, "Lines"),
            ("{\n\"id\": \"1\",\n\"data\": [\"q\", \"a\"]}", "Values"),
            (r#"{"instruction": "a", "instances": [{"input": "b", "output": "c"}]}"#, "Lines"),
            ("{\n\"instances\": [{\"input\": \"b\", \"output\": \"c\"}],\n\"instruction\": \"a\"}", "Values"),
            (r#"{"instances": [{"input": "b", "output": "c"}]}"#, "instances at 15"),
            (r#"{"prompt": "a", "results": [{"text": "b", "score": 1}]}"#, "Lines"),
            // Lists of rows, and what stands beside them.
            (r#"{"train": [], "test": [{"instruction": "a"}]}"#, "test at 23"),
            (r#"{"system": "s", "data": [{"instruction": "a"}]}"#, "data at 25system"),
            (r#"{"data": [[{"role": "user", "content": "a"}]]}"#, "data at 10"),
            (r#"{"data": [{"role": "user", "content": "a"}]}"#, "Lines"),
        ] {
            assert_eq!(form(text), expected, "{text}");
        }
    }

    #[test]
    fn arrays_of_turns_are_records() {
        let turns = r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#;
        for (text, expected) in [
            (turns.to_string(), "Lines"),
            (format!("{turns}\n{turns}\n"), "Lines"),
            (format!("{turns} {turns}"), "Values"),
            (turns.replace("}, ", "},\n"), "Values"),
            (format!("[{turns}, {turns}]"), "Array"),
            ("[{\"instruction\": \"a\", \"output\": \"b\"}]".to_string(), "Array"),
            ("[{\"role\": \"doctor\", \"question\": \"a\", \"answer\": \"b\"}]".to_string(), "Array"),
            ("[{\"human\": \"a\", \"assistant\": \"b\"}]".to_string(), "Array"),
            ("[{\"from\": \"a\", \"to\": \"b\"}]".to_string(), "Array"),
            ("[{\"id\": 1, \"conversations\": [{\"from\": \"human\"}]}]".to_string(), "Array"),
            ("[]".to_string(), "Array"),
            ("[".to_string(), "Array"),
        ] {
            assert_eq!(form(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert_eq!(form("PK\u{3}\u{4}"), "x: this is zip, not JSON, CSV or Parquet; unpack it first");
        let wide = detect(b"\xff\xfe{\0", true, Path::new("x")).err().unwrap().to_string();
        assert_eq!(
            wide,
            "x: the text is in UTF-16LE, not in UTF-8; convert it with iconv -f UTF-16 -t UTF-8"
        );
    }
}
