//! One JSON record as a tree that borrows from the file: the fast path of opening one.
//!
//! Every value keeps the text that it was written as, so that what no schema knows, and numbers of
//! any size, can be written again as they were.

use std::borrow::Cow;

pub(crate) use content::Content;
pub(crate) use plain::plain;

mod content;
mod plain;

/// How deep lists and objects may lie in each other: as deep as serde_json reads.
const DEPTH: usize = 128;
/// What [`CARRY`] may add: it wraps values that were that deep in their own row.
const MORE: usize = 32;
/// The key that carries what a row's schema has no place for.
pub(crate) const CARRY: &str = "lorascope";

/// A value, and the text that it was written as.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub raw: &'a str,
    pub value: Value<'a>,
    /// It is a string, and `raw` is what this crate writes for it.
    pub as_written: bool,
}

/// What a [`Node`] is.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// Its text is the node's.
    Number,
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Keys<'a>),
}

/// The keys of an object in their order, with their values.
pub(crate) type Keys<'a> = Vec<(Cow<'a, str>, Node<'a>)>;

/// Why and where a text is not JSON that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// In bytes from the start.
    pub at: usize,
    pub what: &'static str,
}

impl<'a> Node<'a> {
    /// Reads a text that is one JSON value.
    pub fn parse(text: &'a str) -> Result<Self, Broken> {
        Self::parse_within(text, DEPTH)
    }

    /// Reads JSON that this crate wrote around values of a file.
    pub fn parse_own(text: &'a str) -> Result<Self, Broken> {
        Self::parse_within(text, DEPTH + 2 * MORE)
    }

    fn parse_within(text: &'a str, limit: usize) -> Result<Self, Broken> {
        let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, depth: 0, limit };
        let node = parser.value()?;
        parser.space();
        match parser.at == text.len() {
            true => Ok(node),
            false => Err(parser.broken("trailing characters")),
        }
    }

    /// A value that is not a string, or that was not written as this crate would.
    pub fn new(raw: &'a str, value: Value<'a>) -> Self {
        Self { raw, value, as_written: false }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub fn str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn array(&self) -> Option<&[Node<'a>]> {
        match &self.value {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    pub fn object(&self) -> Option<&Keys<'a>> {
        match &self.value {
            Value::Object(keys) => Some(keys),
            _ => None,
        }
    }

    /// The value of a key, where this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.object()?.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Takes the text out of a string.
    pub fn take(&mut self) -> Option<Cow<'a, str>> {
        match &mut self.value {
            Value::String(text) => Some(std::mem::take(text)),
            _ => None,
        }
    }

    /// Takes the text out of a string, with its JSON where that is what this crate writes.
    pub fn take_content(&mut self) -> Option<Content<'a>> {
        let json = self.as_written.then_some(self.raw);
        Some(Content::written(self.take()?, json))
    }

    /// What it is, for messages: `the number 42`, `a list`.
    pub fn kind(&self) -> Cow<'static, str> {
        Cow::Borrowed(match &self.value {
            Value::Null => "null",
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            Value::Number => return format!("the number {}", crate::display::cut(self.raw, 20)).into(),
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        })
    }
}

/// The key that stands twice in an object, if one does.
pub(crate) fn doubled<'k>(keys: &'k Keys<'_>) -> Option<&'k str> {
    if keys.len() <= 16 {
        let double = |i: &usize| keys[..*i].iter().any(|(key, _)| *key == keys[*i].0);
        return (1..keys.len()).find(double).map(|i| &*keys[i].0);
    }
    let mut seen = std::collections::HashSet::with_capacity(keys.len());
    keys.iter().find(|(key, _)| !seen.insert(&**key)).map(|(key, _)| &**key)
}

/// JSON on one line. Inside strings JSON forbids raw line breaks, so that those there are can go,
/// and the indentation after them.
pub(crate) fn one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    let mut lines = json.split(['\n', '\r']);
    let mut line = lines.next().unwrap_or_default().to_string();
    lines.for_each(|more| line.push_str(more.trim_start_matches([' ', '\t'])));
    Cow::Owned(line)
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    limit: usize,
}

impl<'a> Parser<'a> {
    fn broken(&self, what: &'static str) -> Broken {
        Broken { at: self.at, what }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space, not yet taken.
    fn next(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn value(&mut self) -> Result<Node<'a>, Broken> {
        let first = self.next();
        let start = self.at;
        let mut as_written = false;
        let value = match first {
            Some(b'"') => {
                let (text, same) = self.string()?;
                as_written = same;
                Value::String(text)
            }
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(_) => return Err(self.broken("expected value")),
            None => return Err(self.broken("the text ends where a value should be")),
        };
        Ok(Node { raw: &self.text[start..self.at], value, as_written })
    }

    fn nested(
        &mut self,
        inside: impl Fn(&mut Self) -> Result<Value<'a>, Broken>,
    ) -> Result<Value<'a>, Broken> {
        self.depth += 1;
        if self.depth > self.limit {
            return Err(self.broken("lists and objects lie in each other more than 128 deep"));
        }
        self.at += 1;
        let value = inside(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Value<'a>, Broken> {
        let mut values = Vec::new();
        if self.next() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value()?);
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.broken("expected `,` or `]`")),
            }
        }
        self.at += 1;
        Ok(Value::Array(values))
    }

    fn object(&mut self) -> Result<Value<'a>, Broken> {
        let mut keys = Keys::new();
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(keys));
        }
        loop {
            if self.next() != Some(b'"') {
                return Err(self.broken("key must be a string"));
            }
            let (key, _) = self.string()?;
            if self.next() != Some(b':') {
                return Err(self.broken("expected `:`"));
            }
            self.at += 1;
            let carries = self.depth == 1 && key == CARRY;
            self.limit += if carries { MORE } else { 0 };
            keys.push((key, self.value()?));
            self.limit -= if carries { MORE } else { 0 };
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.broken("expected `,` or `}`")),
            }
        }
        self.at += 1;
        Ok(Value::Object(keys))
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Broken> {
        match self.bytes[self.at..].starts_with(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(value)
            }
            false => Err(self.broken("expected ident")),
        }
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.broken("invalid number")) }
    }

    fn number(&mut self) -> Result<Value<'a>, Broken> {
        self.at += usize::from(self.bytes[self.at] == b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Value::Number)
    }

    /// A string, from its opening quote on, and whether it stands there as this crate writes it. It borrows
    /// where it holds no escapes.
    fn string(&mut self) -> Result<(Cow<'a, str>, bool), Broken> {
        self.at += 1;
        let start = self.at;
        self.at += plain(&self.bytes[start..]);
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok((Cow::Borrowed(&self.text[start..self.at - 1]), true));
        }
        // Up to the next quote: all of the string, unless it holds quotes.
        let rest = &self.bytes[self.at..];
        let more = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        let mut text = String::with_capacity(self.at - start + more);
        text.push_str(&self.text[start..self.at]);
        let mut as_written = true;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    // Of those that can be written in several ways, the short one.
                    as_written &= !matches!(self.bytes.get(self.at + 1), Some(b'u' | b'/'));
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.broken("control character in a string")),
                None => return Err(self.broken("EOF while parsing a string")),
            }
            let length = plain(&self.bytes[self.at..]);
            text.push_str(&self.text[self.at..self.at + length]);
            self.at += length;
        }
        self.at += 1;
        Ok((Cow::Owned(text), as_written))
    }

    fn escape(&mut self) -> Result<char, Broken> {
        let char = match self.bytes.get(self.at + 1) {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(same @ (b'"' | b'\\' | b'/')) => char::from(*same),
            Some(b'u') => return self.unicode(),
            _ => return Err(self.broken("invalid escape")),
        };
        self.at += 2;
        Ok(char)
    }

    fn unicode(&mut self) -> Result<char, Broken> {
        let lone = "half of a surrogate pair stands alone";
        let first = self.hex()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(self.broken(lone));
                }
                let second = self.hex()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.broken(lone));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.broken(lone))
    }

    /// The number in `\u12ab`.
    fn hex(&mut self) -> Result<u32, Broken> {
        let digits = self.bytes.get(self.at + 2..self.at + 6);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let code = code.ok_or_else(|| self.broken("invalid escape"))?;
        self.at += 6;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_serde_json_reads() {
        let good = [
            r#"{"a": [1, -0.5e+3, true, false, null, "é\u00e9\ud83d\udc4b\"\\\/\b\f\n\r\t"], "": {}}"#,
            " [ ] ",
            "\"0123456789abcdef\u{7f}0123456\\n789\"",
            "-0",
        ];
        for text in good {
            let node = Node::parse(text).unwrap();
            assert_eq!(node.raw, text.trim());
            assert_eq!(
                plain_value(&node),
                serde_json::from_str::<serde_json::Value>(text).unwrap(),
                "{text}"
            );
        }
        let bad = [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "01",
            "1.",
            "-",
            "1e",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"a\nb\"",
            "\"a",
            "tru",
            "nul",
            "1 2",
            "[1 2]",
            "\"\\u+123\"",
        ];
        for text in bad {
            assert!(Node::parse(text).is_err(), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
    }

    fn plain_value(node: &Node<'_>) -> serde_json::Value {
        match &node.value {
            Value::Null | Value::Bool(_) | Value::Number => serde_json::from_str(node.raw).unwrap(),
            Value::String(text) => serde_json::Value::from(&**text),
            Value::Array(values) => values.iter().map(plain_value).collect(),
            Value::Object(keys) => {
                keys.iter().map(|(key, node)| (key.to_string(), plain_value(node))).collect()
            }
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Node::parse(&deep(128)).is_ok());
        assert!(Node::parse(&deep(129)).is_err());
        assert!(Node::parse(&deep(1_000_000)).is_err());
        assert!(Node::parse(&format!("{{\"lorascope\":{}}}", deep(150))).is_ok());
        assert!(Node::parse(&format!("{{\"x\":{}}}", deep(150))).is_err());
    }

    #[test]
    fn one_line_keeps_values() {
        assert_eq!(one_line("[1,\r\n\t 2,\n \"a\\n b\"]"), "[1,2,\"a\\n b\"]");
        assert_eq!(one_line("[1, 2]"), "[1, 2]");
    }
}
