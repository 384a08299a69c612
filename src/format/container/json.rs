//! Finding where the records of a JSON file begin and end, without parsing what lies between.

use super::records::{FoundRecords, Record};
use crate::format::row::RecordPlace;
use crate::format::write::json::inside;

/// Splits a buffer at line breaks; blank lines are no records.
pub(super) fn lines(bytes: &[u8], place: RecordPlace, ended: bool) -> FoundRecords {
    let whole = memchr::memrchr(b'\n', bytes).map_or(0, |last| last + 1);
    let end = if ended { bytes.len() } else { whole };
    let mut found = FoundRecords::at(place);
    let mut start = 0;
    let last = (end > 0 && bytes[end - 1] != b'\n').then_some(end);
    for stop in memchr::memchr_iter(b'\n', &bytes[..end]).map(|at| at + 1).chain(last) {
        let line = found.place.line;
        if bytes[start..stop].iter().any(|b| !b.is_ascii_whitespace()) {
            found.records.push(Record { bytes: start..stop, line, number: line });
        }
        start = stop;
        found.place.line = line.saturating_add(1);
    }
    found.end = end;
    found
}

/// Splits the inside of an array at its top-level commas.
pub(super) fn elements(bytes: &[u8], place: RecordPlace, ended: bool) -> FoundRecords {
    let mut found = FoundRecords::at(place);
    let mut counted = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_whitespace() || byte == b',' {
            at += 1;
            found.end = at;
            continue;
        }
        found.place.pass(&bytes[counted..at]);
        counted = at;
        if byte == b']' {
            found.end = at + 1;
            found.closed = true;
            return found;
        }
        let Some(length) = Scan::default().feed(&bytes[at..]) else { break };
        found.push(at..at + length);
        at += length;
        found.end = at;
    }
    found.place.pass(&bytes[counted..found.end]);
    if ended {
        if found.end < bytes.len() {
            found.push(found.end..bytes.len());
        }
        found.end = bytes.len();
        found.closed = true;
        found.broken("the array is not closed: the file was cut off, or a bracket is missing");
    }
    found
}

/// The elements of a whole array.
pub(crate) fn items(array: &[u8]) -> Vec<&[u8]> {
    let inside = array.get(1..).unwrap_or_default();
    let found = elements(inside, RecordPlace { line: 1, number: 1 }, true);
    found.records.iter().map(|record| inside[record.bytes.clone()].trim_ascii()).collect()
}

/// Splits JSON objects that follow each other; what is none lasts until the end of its line.
pub(super) fn values(bytes: &[u8], place: RecordPlace, ended: bool) -> FoundRecords {
    let mut found = FoundRecords::at(place);
    let mut counted = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_whitespace() {
            at += 1;
            found.end = at;
            continue;
        }
        found.place.pass(&bytes[counted..at]);
        counted = at;
        let length = match byte {
            b'{' | b'[' => Scan::default().feed(&bytes[at..]),
            _ => memchr::memchr(b'\n', &bytes[at..]),
        };
        let Some(length) = length else { break };
        found.push(at..at + length);
        at += length;
        found.end = at;
    }
    found.place.pass(&bytes[counted..found.end]);
    if ended {
        if found.end < bytes.len() {
            found.push(found.end..bytes.len());
            found.place.pass(&bytes[found.end..]);
        }
        found.end = bytes.len();
    }
    found
}

/// Looks for the end of one JSON value, piece by piece.
///
/// A string ends at a raw line break, which JSON forbids inside strings: one that lacks its closing
/// quote then spoils its own record and not the rest of the file. For the same reason a value ends
/// before a brace at the begin of a line where JSON allows none: the value lacks its own.
#[derive(Debug, Default)]
pub(super) struct Scan {
    depth: usize,
    /// Which of the innermost 128 brackets are braces, the innermost in the lowest bit.
    braces: u128,
    /// The last byte that was neither white space nor inside a string.
    last: u8,
    quoted: bool,
    escaped: bool,
    /// Nothing but white space since the last line break.
    fresh: bool,
}

impl Scan {
    /// How many of the bytes belong to the value; `None` when its end is not among them.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.quoted {
                if self.escaped {
                    bytes.get(at)?;
                    self.escaped = false;
                    at += 1;
                }
                at += memchr::memchr3(b'"', b'\\', b'\n', bytes.get(at..)?)?;
                let byte = bytes[at];
                at += 1;
                self.escaped = byte == b'\\';
                self.quoted = self.escaped;
                self.fresh = byte == b'\n';
                continue;
            }
            let &byte = bytes.get(at)?;
            match byte {
                b'\n' => self.fresh = true,
                b' ' | b'\t' | b'\r' => {}
                // A scalar ends before the comma or the bracket that is the array's.
                b',' | b']' if self.depth == 0 => return Some(at),
                b'}' | b']' if self.depth <= 1 => return Some(at + 1),
                b'{' if self.fresh && self.depth > 0 && !self.may_begin() => return Some(at),
                _ => {
                    match byte {
                        b'{' | b'[' => {
                            self.depth += 1;
                            self.braces = self.braces << 1 | u128::from(byte == b'{');
                        }
                        b'}' | b']' => {
                            self.depth -= 1;
                            self.braces >>= 1;
                        }
                        b'"' => self.quoted = true,
                        _ => {}
                    }
                    self.last = byte;
                    self.fresh = false;
                }
            }
            at += 1;
        }
    }

    /// Whether an object may stand here.
    fn may_begin(&self) -> bool {
        match self.last {
            b'[' | b':' => true,
            b',' => self.braces & 1 == 0,
            _ => false,
        }
    }
}

/// The keys of an object and where their values begin, as far as the bytes reach.
pub(crate) struct Keys<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Keys<'a> {
    /// `bytes` begin with the object's brace.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 1 }
    }

    fn blank(&mut self, also: u8) {
        while self.bytes.get(self.at).is_some_and(|&b| b.is_ascii_whitespace() || b == also) {
            self.at += 1;
        }
    }

    /// The next key and where its value begins. `None` at the end of the object or of the bytes.
    pub fn next(&mut self) -> Option<(&'a [u8], usize)> {
        self.blank(b',');
        let start = self.at;
        (self.bytes.get(start) == Some(&b'"')).then_some(())?;
        let length = string(&self.bytes[start..])?;
        self.at += length;
        self.blank(b':');
        self.bytes.get(self.at)?;
        Some((&self.bytes[start + 1..start + length - 1], self.at))
    }

    /// Where the value that was found last ends.
    pub fn skip(&mut self) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        self.at += match rest.first()? {
            b'"' => string(rest)?,
            b'{' | b'[' => Scan::default().feed(rest)?,
            _ => rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b'\n'))?,
        };
        Some(self.at)
    }

    /// Whether the object has ended here.
    pub fn ended(&mut self) -> bool {
        self.blank(b',');
        self.bytes.get(self.at).is_some_and(|&b| b != b'"')
    }
}

/// The length of a string with its quotes.
fn string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The first byte that is not white space, from `at` on.
pub(super) fn solid(bytes: &[u8], at: usize) -> Option<(usize, u8)> {
    let rest = bytes.get(at..)?;
    rest.iter().position(|b| !b.is_ascii_whitespace()).map(|i| (at + i, rest[i]))
}

/// Writes bytes as a JSON string; those that are not UTF-8 stay for the reader to find.
pub(crate) fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    inside(out, text);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: RecordPlace = RecordPlace { line: 1, number: 1 };

    fn texts<'a>(bytes: &'a [u8], found: &FoundRecords) -> Vec<(&'a str, u32)> {
        let text = |r: &Record| std::str::from_utf8(&bytes[r.bytes.clone()]).unwrap().trim_end();
        found.records.iter().map(|r| (text(r), r.line)).collect()
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        let bytes = b"{}\r\n\n  \n[1]\nlast";
        assert_eq!(texts(bytes, &lines(bytes, START, true)), [("{}", 1), ("[1]", 4), ("last", 5)]);
        let open = lines(bytes, START, false);
        assert_eq!((open.records.len(), open.end, open.place.line), (2, 12, 5));
    }

    #[test]
    fn elements_end_at_their_own_bracket() {
        let bytes = b"\n {\"a\": \"]},{\\\"\"},\n {\"b\": [1, {}]}\n, 3, \"x\" ]\n";
        let found = elements(bytes, START, true);
        assert_eq!(
            texts(bytes, &found),
            [("{\"a\": \"]},{\\\"\"}", 2), ("{\"b\": [1, {}]}", 3), ("3", 4), ("\"x\"", 4)]
        );
        assert_eq!((found.closed, found.faults.len()), (true, 0));
        let stray = Scan::default().feed(b"} x");
        assert_eq!(stray, Some(1), "a stray bracket is an element: broken, but an end is found");
    }

    #[test]
    fn an_unclosed_string_spoils_one_element() {
        let bytes = b"{\"a\": \"x},\n{\"a\": \"y\"}]";
        assert_eq!(
            elements(bytes, START, true).records.len(),
            2,
            "the brace at the line's begin is not its own"
        );
        let bytes = b"{\"a\": \"x\n},\n{\"a\": \"y\"}]";
        assert_eq!(elements(bytes, START, true).records.len(), 2);
    }

    #[test]
    fn an_unclosed_object_spoils_one_element() {
        let bytes = b" {\"a\": [{\"b\": 1},\n {\"b\": 2}]\n {\"a\": 3},\n {\"a\":\n {\"c\": 4}}\n]";
        let found = elements(bytes, START, true);
        assert_eq!(texts(bytes, &found).iter().map(|r| r.1).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(found.closed && found.faults.is_empty());
    }

    #[test]
    fn an_array_that_is_cut_off_says_so() {
        let bytes = b"{\"a\": 1},\n{\"a\": ";
        let found = elements(bytes, START, true);
        assert_eq!(found.records.len(), 2);
        assert!(found.faults[0].what.starts_with("the array is not closed"));
    }

    #[test]
    fn a_scan_may_be_fed_byte_by_byte() {
        let value = br#"{"a\\": ["\"]}", {"b": [1.5, null]}], "c": "\\"} "#;
        let whole = Scan::default().feed(value);
        let mut scan = Scan::default();
        let single = value.iter().position(|byte| scan.feed(std::slice::from_ref(byte)).is_some());
        assert_eq!((whole, single), (Some(value.len() - 1), Some(value.len() - 2)));
    }

    #[test]
    fn objects_follow_each_other() {
        let bytes = b"{\n \"a\": 1\n}\n{\"b\":\n2} {\"c\": 3}\nnoise, more\n{\n\"d\": 4\n{\n\"e\": 5\n}";
        let found = values(bytes, START, true);
        let lines: Vec<u32> = found.records.iter().map(|r| r.line).collect();
        assert_eq!(lines, [1, 4, 5, 6, 7, 9], "{:?}", texts(bytes, &found));
    }

    #[test]
    fn any_text_can_be_quoted() {
        for text in ["", "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}", "数 \u{2028} 🦀"] {
            let mut out = Vec::new();
            quote(&mut out, text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
