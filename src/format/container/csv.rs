//! Rows of cells: finding their ends, and making JSON objects of them.

use super::json::{Keys, quote, solid};
use super::records::{FoundRecords, Record, RecordPiece};
use crate::error::{Error, Result};
use crate::format::problems::{Problem, ProblemKind};
use crate::format::row::RecordPlace;

/// Where a row of cells ends.
enum End {
    /// After so many bytes, its line break among them.
    At(usize),
    /// The bytes do not reach that far; inside a quoted cell or not.
    Open { quoted: bool },
    /// A quote stands where none may.
    Broken,
}

/// Looks for the end of the row that begins with the bytes.
///
/// A quoted cell ends at a quote that is not doubled, and the delimiter or the line's end follows:
/// all else would make one cell of what are many.
fn end(bytes: &[u8], delimiter: u8, ended: bool) -> End {
    let mut at = 0;
    loop {
        if bytes.get(at) != Some(&b'"') {
            let rest = bytes.get(at..).unwrap_or_default();
            match memchr::memchr2(delimiter, b'\n', rest) {
                None => return End::Open { quoted: false },
                Some(i) if rest[i] == b'\n' => return End::At(at + i + 1),
                Some(i) => at += i + 1,
            }
            continue;
        }
        at += 1;
        loop {
            match memchr::memchr(b'"', &bytes[at..]) {
                None => return End::Open { quoted: true },
                Some(i) => at += i + 1,
            }
            match bytes.get(at) {
                Some(b'"') => at += 1,
                None if !ended => return End::Open { quoted: true },
                _ => break,
            }
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) => return End::Open { quoted: false },
            (Some(&byte), _) if byte == delimiter => at += 1,
            (Some(b'\n'), _) => return End::At(at + 1),
            (Some(b'\r'), Some(b'\n')) => return End::At(at + 2),
            (Some(b'\r'), None) => return End::Open { quoted: !ended },
            _ => return End::Broken,
        }
    }
}

/// Splits a buffer into rows; blank lines are none. A row with a stray quote is a fault of its first
/// line, and the next row begins with the next line. `full` says that the buffer will not grow.
pub(super) fn rows(bytes: &[u8], delimiter: u8, place: RecordPlace, ended: bool, full: bool) -> FoundRecords {
    let mut found = FoundRecords::at(place);
    while found.end < bytes.len() {
        let rest = &bytes[found.end..];
        let first_line = || memchr::memchr(b'\n', rest).map(|at| at + 1);
        let (length, fault) = match end(rest, delimiter, ended) {
            End::At(length) => (length, None),
            End::Open { quoted: false } if ended => (rest.len(), None),
            End::Open { quoted: true } if ended || full && found.end == 0 => {
                let Some(length) = first_line().or(ended.then_some(rest.len())) else { break };
                (length, Some("a quote is opened and never closed"))
            }
            End::Open { .. } => break,
            End::Broken => {
                let length = first_line().unwrap_or(rest.len());
                (length, Some("a quote stands where none may: inside a quoted cell it must be doubled"))
            }
        };
        if let Some(what) = fault {
            found.fault(ProblemKind::WrongCells, what);
        } else if solid(&rest[..length], 0).is_some() {
            let bytes = found.end..found.end + length;
            found.records.push(Record { bytes, line: found.place.line, number: found.place.number });
        }
        found.place.number += u32::from(fault.is_some() || solid(&rest[..length], 0).is_some());
        found.place.pass(&rest[..length]);
        found.end += length;
    }
    found
}

/// A cell's text, and whether it was quoted.
struct Cell {
    text: Vec<u8>,
    quoted: bool,
}

/// The cells of a whole row.
fn cells(mut bytes: &[u8], delimiter: u8) -> Vec<Cell> {
    bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        let mut text = Vec::new();
        let quoted = bytes.get(at) == Some(&b'"');
        if quoted {
            at += 1;
            while let Some(i) = memchr::memchr(b'"', &bytes[at..]) {
                text.extend_from_slice(&bytes[at..at + i]);
                at += i + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                text.push(b'"');
                at += 1;
            }
        } else {
            let rest = bytes.get(at..).unwrap_or_default();
            let length = memchr::memchr(delimiter, rest).unwrap_or(rest.len());
            text.extend_from_slice(&rest[..length]);
            at += length;
        }
        cells.push(Cell { text, quoted });
        if at >= bytes.len() {
            return cells;
        }
        at += 1;
    }
}

/// The first rows of a buffer.
fn first(bytes: &[u8], delimiter: u8, ended: bool, count: usize) -> Vec<Vec<Cell>> {
    let found = rows(bytes, delimiter, RecordPlace { line: 1, number: 1 }, ended, false);
    found.records.iter().take(count).map(|r| cells(&bytes[r.bytes.clone()], delimiter)).collect()
}

/// The delimiter of a text that is CSV: its rows have as many cells as its header has names. A file
/// that is `named` so may also have a single column.
pub(super) fn delimiter(bytes: &[u8], ended: bool, named: bool) -> Option<u8> {
    const LOOK: usize = 1 << 16;
    let (bytes, ended) = (&bytes[..bytes.len().min(LOOK)], ended && bytes.len() <= LOOK);
    let best = [b',', b'\t', b';'].into_iter().filter_map(|delimiter| {
        let rows = first(bytes, delimiter, ended, 50);
        let header = rows.first()?;
        let names: Vec<&[u8]> = header.iter().map(|cell| cell.text.trim_ascii()).collect();
        let unique = names.iter().enumerate().all(|(i, name)| !name.is_empty() && !names[..i].contains(name));
        let second = rows.get(1);
        // A broken first line of JSON lines has commas as well.
        let json = second.and_then(|row| row[0].text.first()).is_some_and(|&b| b == b'{' || b == b'[');
        let fit = rows[1..].iter().filter(|row| row.len() == header.len()).count();
        let plausible =
            header.len() > 1 && unique && fit > 0 && second.is_some_and(|row| row.len() == header.len());
        (named && header.len() > 1 || plausible && !json).then_some((fit, header.len(), delimiter))
    });
    best.max().map(|(.., delimiter)| delimiter).or(named.then_some(b','))
}

/// The names of the columns.
pub(super) struct Header {
    names: Vec<String>,
    delimiter: u8,
}

impl Header {
    /// Reads the row of names.
    pub fn of(row: &[u8], delimiter: u8) -> Result<Self> {
        let name = |cell: &Cell| match std::str::from_utf8(&cell.text) {
            Ok(text) => Ok(text.trim().to_string()),
            Err(_) => Err(Error::format("the header is not UTF-8")
                .help("convert the file, from GB18030 for instance with iconv -f GB18030 -t UTF-8")),
        };
        let names: Vec<String> = cells(row, delimiter).iter().map(name).collect::<Result<_>>()?;
        for (i, name) in names.iter().enumerate() {
            if !name.is_empty() && names[..i].contains(name) {
                return Err(Error::format(format_args!("two columns are called {name}"))
                    .help("give each column its own name"));
            }
        }
        Ok(Self { names, delimiter })
    }

    /// Makes JSON objects of rows of cells.
    pub fn objects(&self, piece: RecordPiece) -> RecordPiece {
        let mut new =
            RecordPiece { bytes: Vec::with_capacity(piece.bytes.len() * 5 / 4), ..RecordPiece::default() };
        new.faults = piece.faults;
        for record in piece.records {
            let cells = cells(&piece.bytes[record.bytes.clone()], self.delimiter);
            let more = cells.get(self.names.len()..).unwrap_or_default();
            if cells.len() < self.names.len() || more.iter().any(|cell| !cell.text.is_empty()) {
                let what = format!("the row has {} cells, and the header {}", cells.len(), self.names.len());
                let problem = Problem::new(record.line, ProblemKind::WrongCells, what);
                new.faults.push(problem);
                continue;
            }
            let start = new.bytes.len();
            let missing = |(name, cell): &(&String, &Cell)| {
                !cell.quoted && KNOWN.contains(&name.as_str()) && is_nan(&cell.text)
            };
            if let Some((name, cell)) = self.names.iter().zip(&cells).find(missing) {
                let text = String::from_utf8_lossy(&cell.text);
                let what = format!(
                    "the cell `{name}` is {text}, as pandas writes what is no value: read as this text"
                );
                new.faults.push(Problem::new(record.line, ProblemKind::NotANumber, what));
            }
            for (name, cell) in self.names.iter().zip(&cells) {
                // Nothing between two delimiters is no value; two quotes are an empty text.
                if !cell.text.is_empty() || cell.quoted {
                    new.bytes.push(if new.bytes.len() == start { b'{' } else { b',' });
                    quote(&mut new.bytes, name.as_bytes());
                    new.bytes.push(b':');
                    value(&mut new.bytes, name, &cell.text);
                }
            }
            new.bytes.extend_from_slice(if new.bytes.len() == start { b"{}\n" } else { b"}\n" });
            new.records.push(Record { bytes: start..new.bytes.len(), ..record });
        }
        new
    }
}

/// Texts that pandas takes for no value when it reads a file.
pub(crate) const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Columns whose texts are trained on.
const KNOWN: [&str; 16] = [
    "instruction",
    "input",
    "context",
    "output",
    "response",
    "prompt",
    "completion",
    "question",
    "answer",
    "query",
    "target",
    "text",
    "chosen",
    "rejected",
    "system",
    "history",
];

fn is_nan(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"nan")
}

/// Writes the text of a cell as a JSON value: as a string, or, under the keys of lists, as what it is.
pub(super) fn value(out: &mut Vec<u8>, key: &str, text: &[u8]) {
    match key {
        "label" if text.eq_ignore_ascii_case(b"true") => out.extend_from_slice(b"true"),
        "label" if text.eq_ignore_ascii_case(b"false") => out.extend_from_slice(b"false"),
        // A line break in JSON stands outside strings only, where a space does as well.
        _ if holds_json(key, text) => out.extend(text.iter().map(|&b| if b == b'\n' { b' ' } else { b })),
        _ => quote(out, text),
    }
}

/// Whether a text under a key is read as that text from a cell.
pub(crate) fn reads_as_text(key: &str, text: &[u8]) -> bool {
    let flag = || text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"false");
    !(holds_json(key, text) || key == "label" && flag())
}

/// Whether the text under a key is JSON and not a text that looks like it.
pub(super) fn holds_json(key: &str, text: &[u8]) -> bool {
    let Some((start, b'[' | b'{')) = solid(text, 0) else { return false };
    let list = match key {
        "conversations" | "conversation" | "messages" | "history" | "extra" | "lorascope"
        | "chosen_messages" | "rejected_messages" => true,
        // An answer may be a list of numbers; only turns are meant.
        "prompt" | "completion" | "chosen" | "rejected" | "response_chosen" | "response_rejected" => {
            let turn = solid(text, start + usize::from(text[start] == b'['));
            let mut keys = turn.filter(|&(_, byte)| byte == b'{').map(|(at, _)| Keys::of(&text[at..]));
            keys.as_mut()
                .and_then(Keys::next)
                .is_some_and(|(key, _)| matches!(key, b"role" | b"from" | b"content"))
        }
        _ => false,
    };
    list && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<(u32, Vec<String>)> {
        let found = rows(bytes, b',', RecordPlace { line: 1, number: 1 }, true, false);
        let text = |cell: Cell| String::from_utf8(cell.text).unwrap();
        let row = |r: &Record| (r.line, cells(&bytes[r.bytes.clone()], b',').into_iter().map(text).collect());
        found.records.iter().map(row).collect()
    }

    #[test]
    fn rows_end_where_the_csv_crate_ends_them() {
        for text in [
            "a,b\n1,2\n",
            "a,b\r\n\"x\ny\",\"say \"\"hi\"\"\"\r\n\r\n\n3,",
            "a\n\"\"\n\"q\"",
            ",,\n\"a,\r\nb\",c d, e\n",
        ] {
            let mut oracle = ::csv::ReaderBuilder::new();
            let oracle = oracle.has_headers(false).flexible(true).from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> =
                oracle.into_records().map(|row| row.unwrap().iter().map(String::from).collect()).collect();
            let ours: Vec<Vec<String>> = texts(text.as_bytes()).into_iter().map(|row| row.1).collect();
            assert_eq!(ours, expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let rows = texts(b"a,b\n\"x\n\ny\",1\n\nz,2\n");
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2, 6]);
    }

    #[test]
    fn a_stray_quote_spoils_its_line() {
        let bytes = b"a,b\n\"he said \"x\" to me\",1\n3,4\n\"open,5\n6,7\n";
        let found = rows(bytes, b',', RecordPlace { line: 1, number: 1 }, true, false);
        let lines: Vec<u32> = found.records.iter().map(|r| r.line).collect();
        let faults: Vec<u32> = found.faults.iter().map(|fault| fault.line).collect();
        assert_eq!((lines, faults), (vec![1, 3, 5], vec![2, 4]));
        assert_eq!(found.end, bytes.len());
    }

    #[test]
    fn the_delimiter_is_found() {
        let find = |text: &str| delimiter(text.as_bytes(), true, false).map(char::from);
        assert_eq!(find("instruction,output\na,b\n"), Some(','));
        assert_eq!(find("instruction;output\n\"a,b\";c\n"), Some(';'));
        assert_eq!(find("instruction\toutput\na, b, c\td\n"), Some('\t'));
        assert_eq!(find("Dear all,\nhello\n"), None);
        assert_eq!(find("x\", \"output\": \"y\"}\n{\"a\": 1, \"b\": 2}\n"), None);
        assert_eq!(delimiter(b"text\nhello\n", true, true), Some(b','));
    }

    #[test]
    fn turns_are_json_and_answers_are_not() {
        assert!(holds_json("messages", b" [{\"role\": \"user\"}]"));
        assert!(!holds_json("messages", b"[{'role': 'user'}]"));
        assert!(!holds_json("output", b"[1, 2]"));
        assert!(!holds_json("chosen", b"[1, 2]"));
        assert!(holds_json("chosen", b"[{\"role\": \"assistant\", \"content\": \"a\"}]"));
        assert!(holds_json("rejected", b"{\"from\": \"gpt\", \"value\": \"a\"}"));
    }
}
