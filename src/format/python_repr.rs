//! JSON as Python writes it: unpaired surrogates, NaN and the infinities. Python reads them; JSON has none of
//! them.

use std::ops::Range;

use super::container::Record;
use super::fix::Fix;
use super::options::ReadOptions;
use super::problems::{Noted, Outcome, Problem, ProblemKind};

/// A number that stands for NaN where it is to be found out whether anybody reads it: no key has a
/// use for one of this size.
const STRANGE: &str = "1e999";

/// A text that JSON can be.
struct Mended {
    text: String,
    /// The first half of a pair that stands alone, in bytes from the start.
    half: Option<usize>,
    /// The first number that is none, and the key before it.
    number: Option<(Range<usize>, String)>,
}

/// Replaces halves of pairs by U+FFFD and numbers that are none by `number`; `None` where there are
/// none of both.
fn mend(text: &str, number: &str) -> Option<Mended> {
    let bytes = text.as_bytes();
    let mut mended = Mended { text: String::with_capacity(text.len()), half: None, number: None };
    let (mut at, mut copied) = (0, 0);
    let mut key = 0..0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' {
            let start = at + 1;
            at = start;
            while let Some(&byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                if byte != b'\\' {
                    at += 1;
                } else if let Some(length) = whole(&bytes[at..]) {
                    at += length;
                } else {
                    mended.half.get_or_insert(at);
                    mended.text.push_str(&text[copied..at]);
                    mended.text.push_str("\\ufffd");
                    at += 6;
                    copied = at;
                }
            }
            key = start..at.min(bytes.len());
            at += 1;
            continue;
        }
        match word(&bytes[at..]) {
            Some(length) => {
                mended.number.get_or_insert_with(|| (at..at + length, text[key.clone()].to_string()));
                mended.text.push_str(&text[copied..at]);
                mended.text.push_str(number);
                at += length;
                copied = at;
            }
            None => at += 1,
        }
    }
    mended.text.push_str(&text[copied..]);
    (mended.half.is_some() || mended.number.is_some()).then_some(mended)
}

/// The length of an escape, or of the pair that it begins; `None` for half of a pair alone.
fn whole(bytes: &[u8]) -> Option<usize> {
    let code = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match code(0) {
        Some(0xd800..=0xdbff) => code(6).filter(|low| (0xdc00..=0xdfff).contains(low)).map(|_| 12),
        Some(0xdc00..=0xdfff) => None,
        _ => Some(2.min(bytes.len())),
    }
}

/// The length of a number that is none.
fn word(bytes: &[u8]) -> Option<usize> {
    let word = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| bytes.starts_with(word))?;
    Some(word.len())
}

/// What comes of a record that is no JSON.
pub(crate) enum Again {
    /// It is no row, and there is a repair.
    Rejected(Problem),
    /// The text as JSON, and what was replaced in it.
    Mended(String, Vec<Noted>),
}

/// Looks again at a record that is no JSON; `None` where it is not what Python writes either. `fault`
/// tries to read a text as a row.
///
/// Without the repair a half of a pair costs the row, and NaN does where a turn or another known key
/// needs the value; a key that nobody reads costs no row.
pub(crate) fn again(
    text: &str,
    place: &Record,
    options: &ReadOptions,
    fault: impl Fn(&str) -> Option<Problem>,
) -> Option<Again> {
    let mended = mend(text, "null")?;
    let fixed = options.fixes.has(Fix::ReplaceInvalidUtf8);
    let before = |at: usize| &text.as_bytes()[..at];
    let line = |at: usize| place.line.saturating_add(memchr::memchr_iter(b'\n', before(at)).count() as u32);
    let mut noted: Vec<Noted> = Vec::new();
    if let Some(at) = mended.half {
        let column = at - memchr::memrchr(b'\n', before(at)).map_or(0, |at| at + 1) + 1;
        let what = format!("half of a surrogate pair stands alone, at column {column}");
        if !fixed {
            return Some(Again::Rejected(Problem::rejected(line(at), ProblemKind::HalfSurrogate, what)));
        }
        noted.push((ProblemKind::HalfSurrogate, what.into(), Outcome::Repaired));
    }
    if let Some((at, key)) = mended.number {
        let word = &text[at.clone()];
        let what = format!("`{}` is {word}", crate::display::cut(&key, 40));
        if !fixed && let Some(problem) = mend(text, STRANGE).and_then(|strange| fault(&strange.text)) {
            let number = format!("the number {STRANGE}");
            let named = problem.what.contains(&number);
            return Some(Again::Rejected(match fault(&mended.text) {
                // It is no row whatever stands there.
                Some(other) if !named => other,
                _ => Problem {
                    kind: ProblemKind::NotANumber,
                    what: if named { problem.what.replace(&number, word).into() } else { what.into() },
                    line: line(at.start),
                    ..problem
                },
            }));
        }
        let what = format!("{what}, which JSON has not: read as null");
        noted.push((ProblemKind::NotANumber, what.into(), Outcome::kept(fixed)));
    }
    Some(Again::Mended(mended.text, noted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        mend(text, "null").map(|mended| mended.text)
    }

    #[test]
    fn halves_and_numbers_that_are_none_are_replaced() {
        let same = [
            r#"{"a": "\ud83d\udc4b", "b": "NaN, \"Infinity\" \\ud83d"}"#,
            r#"{"NaN": 1, "x": null}"#,
            "{",
            "\"\\",
            "\"\\ud8",
        ];
        for json in same {
            assert_eq!(text(json), None, "{json}");
        }
        let found = text(r#"{"a": "x\ud83d", "b": "\udc4b\ud83d\u0041\\"}"#).unwrap();
        assert_eq!(found, r#"{"a": "x\ufffd", "b": "\ufffd\ufffd\u0041\\"}"#);
        assert_eq!(text("[NaN, -Infinity,Infinity, \"NaN\"]").unwrap(), "[null, null,null, \"NaN\"]");
        let mended = mend("{\"a\": 1, \"score\": [1, NaN]}", STRANGE).unwrap();
        assert_eq!(mended.number, Some((22..25, "score".to_string())));
    }
}
