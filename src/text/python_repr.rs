//! Writes values of a chat template as Python does: `str`, `repr` and `json.dumps`.

use std::io::{Result as IoResult, Write};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `str(value)`; an empty text for an undefined value.
pub(super) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_string(),
        None => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::None => "None".to_string(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_string(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq => format!("[{}]", items().map(|item| repr(&item)).collect::<Vec<_>>().join(", ")),
        ValueKind::Map => {
            let pair = |key: Value| {
                let value = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&value))
            };
            format!("{{{}}}", items().map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// `repr` of a string: in single quotes, unless only double ones need no escape.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => out.extend(['\\', c]),
            _ if is_unseen(c) => {
                let number = u32::from(c);
                out.push_str(&if number < 256 {
                    format!("\\x{number:02x}")
                } else {
                    format!("\\u{number:04x}")
                });
            }
            _ => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Whether `repr` escapes a character: controls, separators other than the space, format characters.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `repr` of a float: the shortest digits that read back as the same number, with an exponent below
/// 10⁻⁴ and from 10¹⁶ on.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_string();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=15 => format!("{value:?}"),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
    }
}

/// The largest indent that a template may ask for.
const MAX_INDENT: usize = 16;

/// `json.dumps(value, ensure_ascii=False)` and its options: unlike Jinja's own filter it escapes no
/// HTML, which would put `\u003c` into the model's tokens.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let invalid = |detail: String| Error::new(ErrorKind::InvalidOperation, detail);
    if value.is_undefined() {
        return Err(invalid("tojson: what is not defined is not JSON".to_string()));
    }
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    if let Some(n) = indent.filter(|n| *n > MAX_INDENT) {
        return Err(invalid(format!("tojson: an indent of {n}, at most {MAX_INDENT} is supported")));
    }
    let [item, key] = match separators {
        // With an indent the comma ends its line.
        None => [if indent.is_some() { "," } else { ", " }, ": "].map(String::from),
        Some(two) => two.try_into().map_err(|_| invalid("tojson: separators are two strings".to_string()))?,
    };
    let formatter =
        PythonFormatter { item, key, indent: indent.map(|n| " ".repeat(n)), depth: 0, filled: false };
    let failed = |detail: String| Error::new(ErrorKind::BadSerialization, detail);
    let mut json = serde_json::to_value(value).map_err(|e| failed(e.to_string()))?;
    if sorted == Some(true) {
        json.sort_all_objects();
    }
    let mut out = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        .map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8(out).map_err(|e| failed(e.to_string()))?;
    Ok(if ascii == Some(true) { escape_unicode(&text) } else { text })
}

/// `json.dumps(value, ensure_ascii=False)`.
pub(super) fn dumps(json: &serde_json::Value) -> String {
    let formatter = PythonFormatter {
        item: ", ".to_string(),
        key: ": ".to_string(),
        indent: None,
        depth: 0,
        filled: false,
    };
    let mut out = Vec::new();
    // Writing JSON to memory cannot fail.
    let _ = json.serialize(&mut Serializer::with_formatter(&mut out, formatter));
    String::from_utf8(out).unwrap_or_default()
}

/// In JSON, what is not ASCII stands in strings only, and may be written as UTF-16 in hexadecimal.
fn escape_unicode(json: &str) -> String {
    let escaped = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    json.chars().map(|c| if c.is_ascii() { c.to_string() } else { escaped(c) }).collect()
}

/// JSON as Python writes it: on one line, or with each value on a line of its own.
struct PythonFormatter {
    /// What stands between values, and between a key and its value.
    item: String,
    key: String,
    indent: Option<String>,
    depth: usize,
    /// Whether the array or object that ends next has a value.
    filled: bool,
}

impl PythonFormatter {
    fn line<W: ?Sized + Write>(&self, out: &mut W) -> IoResult<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(indent.as_bytes()))
    }

    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> IoResult<()> {
        (self.depth, self.filled) = (self.depth + 1, false);
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> IoResult<()> {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.line(out)
    }
}

impl Formatter for PythonFormatter {
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> IoResult<()> {
        out.write_all(float(value).as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        self.next(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> IoResult<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        out.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> IoResult<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_those_of_python() {
        let cases = [
            (0.5, "0.5"),
            (3.0, "3.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (-2.5e300, "-2.5e+300"),
        ];
        for (value, expected) in cases {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn strings_are_quoted_as_in_python() {
        let cases =
            [("it's", "\"it's\""), ("a\"b'", "'a\"b\\''"), ("é\n\u{1b}\u{200b}", "'é\\n\\x1b\\u200b'")];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
    }
}
