//! JSON lines and JSON arrays, read in blocks of whole records.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

/// Bytes of a block: small enough that a few of them in flight cost little memory.
const BLOCK: usize = 2 << 20;

/// One record inside a [`Block`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub bytes: Range<usize>,
    /// The line of the file on which it begins, from 1.
    pub line: u32,
    /// Its number in the file, from 1.
    pub number: u32,
}

/// A piece of the file that holds whole records.
#[derive(Debug)]
pub(super) struct Block {
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    /// What is wrong with the file itself at the end of this block.
    pub fault: Option<(u32, &'static str)>,
}

/// How the records of a file stand one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Lines,
    Array,
}

/// Reads a file block by block, and hashes what passes.
///
/// The container is what the first byte says, whatever the file is called: `[` begins an array,
/// all else is read line by line.
pub(super) struct Blocks {
    path: PathBuf,
    file: File,
    container: Container,
    /// Read, but not yet handed out: the begin of a record whose end has not been seen.
    rest: Vec<u8>,
    line: u32,
    number: u32,
    hash: Xxh3,
    size: u64,
    /// The end of the file has been read.
    ended: bool,
    /// The end of the array has been handed out.
    closed: bool,
}

impl Blocks {
    pub fn open(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if about.is_dir() {
            return Err(Error::input("this is a folder").path(path).help("name one file in it"));
        }
        if !about.is_file() {
            return Err(Error::input("this is not a file").path(path).help("write the rows to a file first"));
        }
        let mut blocks = Self {
            path: path.to_path_buf(),
            file: File::open(path).map_err(|e| Error::io(path, e))?,
            container: Container::Lines,
            rest: Vec::new(),
            line: 1,
            number: 1,
            hash: Xxh3::new(),
            size: 0,
            ended: false,
            closed: false,
        };
        blocks.fill(BLOCK)?;
        blocks.begin()?;
        Ok(blocks)
    }

    /// Looks at the first bytes: drops a byte-order mark, decides on the container.
    fn begin(&mut self) -> Result<()> {
        if self.rest.starts_with(b"\xef\xbb\xbf") {
            self.rest.drain(..3);
        }
        let packed = match self.rest.as_slice() {
            [0x1f, 0x8b, ..] => Some("gzip"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
            [b'P', b'A', b'R', b'1', ..] => Some("Parquet"),
            [b'P', b'K', 3, 4, ..] => Some("zip"),
            _ => None,
        };
        if let Some(packed) = packed {
            return Err(Error::format(format!("this is {packed}, not JSON lines or a JSON array"))
                .path(&self.path)
                .help("unpack it first"));
        }
        match self.rest.iter().position(|b| !b.is_ascii_whitespace()) {
            None if self.ended => {
                return Err(Error::format("the file is empty")
                    .path(&self.path)
                    .help("name a file that holds JSON lines or a JSON array"));
            }
            Some(start) if self.rest[start] == b'[' => {
                self.container = Container::Array;
                self.line += newlines(&self.rest[..=start]);
                self.rest.drain(..=start);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads until `rest` holds `wanted` bytes or the file ends.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        let from = self.rest.len();
        let missing = wanted.saturating_sub(from) as u64;
        let read = (&mut self.file)
            .take(missing)
            .read_to_end(&mut self.rest)
            .map_err(|e| Error::io(&self.path, e))?;
        self.hash.update(&self.rest[from..]);
        self.size += read as u64;
        self.ended = (read as u64) < missing;
        Ok(())
    }

    /// How many of the file's bytes have been read, and how many there are.
    pub fn progress(&self) -> (u64, u64) {
        (self.size, self.file.metadata().map_or(self.size, |about| about.len()))
    }

    /// The size and the fingerprint of what was read: all of the file, once the blocks are used up.
    pub fn fingerprint(&self) -> (u64, String) {
        (self.size, hex(self.hash.digest128()))
    }

    fn read(&mut self) -> Result<Option<Block>> {
        if self.closed {
            return self.read_on();
        }
        let mut wanted = BLOCK;
        loop {
            if self.rest.len() < wanted && !self.ended {
                self.fill(wanted)?;
            }
            if self.rest.is_empty() && self.ended {
                return Ok(None);
            }
            let found = match self.container {
                Container::Lines => lines(&self.rest, self.line, self.ended),
                Container::Array => elements(&self.rest, self.line, self.number, self.ended),
            };
            if found.end > 0 {
                let mut bytes = std::mem::replace(&mut self.rest, Vec::with_capacity(BLOCK));
                self.rest.extend_from_slice(&bytes[found.end..]);
                bytes.truncate(found.end);
                self.line = found.line;
                self.closed = found.closed;
                if let Some(last) = found.records.last() {
                    self.number = last.number + 1;
                }
                return Ok(Some(Block { bytes, records: found.records, fault: found.fault }));
            }
            // One record is larger than what was read: look again with twice as much.
            wanted *= 2;
        }
    }

    /// Reads what follows an array: nothing but white space, or it is a fault.
    fn read_on(&mut self) -> Result<Option<Block>> {
        let mut fault = None;
        loop {
            if fault.is_none() && self.rest.iter().any(|b| !b.is_ascii_whitespace()) {
                fault = Some((self.line, "something follows the end of the array"));
            }
            self.rest.clear();
            if self.ended {
                return Ok(fault.map(|fault| Block {
                    bytes: Vec::new(),
                    records: Vec::new(),
                    fault: Some(fault),
                }));
            }
            self.fill(BLOCK)?;
        }
    }
}

impl Iterator for Blocks {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if matches!(next, Some(Err(_))) {
            self.rest.clear();
            self.ended = true;
        }
        next
    }
}

/// What lies in a buffer: its whole records, where the last ends, and the line after that.
struct Found {
    records: Vec<Record>,
    end: usize,
    line: u32,
    /// The array has ended here.
    closed: bool,
    fault: Option<(u32, &'static str)>,
}

/// Splits a buffer at line breaks; blank lines are no records.
fn lines(bytes: &[u8], mut line: u32, ended: bool) -> Found {
    let whole = memchr::memrchr(b'\n', bytes).map_or(0, |last| last + 1);
    let end = if ended { bytes.len() } else { whole };
    let mut records = Vec::new();
    let mut start = 0;
    let last = (end > 0 && bytes[end - 1] != b'\n').then_some(end);
    for stop in memchr::memchr_iter(b'\n', &bytes[..end]).map(|at| at + 1).chain(last) {
        if bytes[start..stop].iter().any(|b| !b.is_ascii_whitespace()) {
            records.push(Record { bytes: start..stop, line, number: line });
        }
        start = stop;
        line += 1;
    }
    Found { records, end, line, closed: false, fault: None }
}

/// Splits the inside of an array at its top-level commas, without parsing what lies between.
///
/// A string ends at a raw line break, which JSON forbids inside strings: one that lacks its
/// closing quote then spoils its own record and not the rest of the file.
fn elements(bytes: &[u8], mut line: u32, mut number: u32, ended: bool) -> Found {
    let mut records = Vec::new();
    let mut counted = 0;
    let mut at = 0;
    let mut end = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_whitespace() || byte == b',' {
            at += 1;
            end = at;
            continue;
        }
        line += newlines(&bytes[counted..at]);
        counted = at;
        if byte == b']' {
            return Found { records, end: at + 1, line, closed: true, fault: None };
        }
        let Some(length) = element(&bytes[at..]) else { break };
        records.push(Record { bytes: at..at + length, line, number });
        number += 1;
        at += length;
        end = at;
    }
    line += newlines(&bytes[counted..end]);
    if !ended {
        return Found { records, end, line, closed: false, fault: None };
    }
    if end < bytes.len() {
        records.push(Record { bytes: end..bytes.len(), line, number });
    }
    let fault = Some((line, "the array is not closed: the file was cut off, or a bracket is missing"));
    Found { records, end: bytes.len(), line, closed: true, fault }
}

/// The length of the JSON value at the start of `bytes`; `None` when its end is not in sight.
fn element(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                loop {
                    at += memchr::memchr3(b'"', b'\\', b'\n', bytes.get(at..)?)?;
                    if bytes[at] != b'\\' {
                        break;
                    }
                    at += 2;
                }
            }
            b'{' | b'[' => depth += 1,
            // A scalar ends before the comma or the bracket that is the array's.
            b',' | b']' if depth == 0 => return Some(at),
            b'}' | b']' if depth <= 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

fn newlines(bytes: &[u8]) -> u32 {
    memchr::memchr_iter(b'\n', bytes).count() as u32
}

/// The files that a path names.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(vec![path.to_path_buf()])
}

/// 128 bits in hexadecimal.
pub(super) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(bytes: &'a [u8], found: &Found) -> Vec<(&'a str, u32)> {
        found
            .records
            .iter()
            .map(|r| (std::str::from_utf8(&bytes[r.bytes.clone()]).unwrap().trim_end(), r.line))
            .collect()
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        let bytes = b"{}\r\n\n  \n[1]\nlast";
        assert_eq!(texts(bytes, &lines(bytes, 1, true)), [("{}", 1), ("[1]", 4), ("last", 5)]);
        let open = lines(bytes, 1, false);
        assert_eq!((open.records.len(), open.end, open.line), (2, 12, 5));
    }

    #[test]
    fn elements_end_at_their_own_bracket() {
        let bytes = b"\n {\"a\": \"]},{\\\"\"},\n {\"b\": [1, {}]}\n, 3, \"x\" ]\n";
        let found = elements(bytes, 1, 1, true);
        assert_eq!(
            texts(bytes, &found),
            [("{\"a\": \"]},{\\\"\"}", 2), ("{\"b\": [1, {}]}", 3), ("3", 4), ("\"x\"", 4)]
        );
        assert_eq!((found.closed, found.fault), (true, None));
        assert_eq!(element(b"} x"), Some(1), "a stray bracket is an element: broken, but an end is found");
    }

    #[test]
    fn an_unclosed_string_spoils_one_element() {
        let bytes = b"{\"a\": \"x},\n{\"a\": \"y\"}]";
        let found = elements(bytes, 1, 1, true);
        assert_eq!(found.records.len(), 1, "the brace inside the string is lost with it");
        let bytes = b"{\"a\": \"x\n},\n{\"a\": \"y\"}]";
        assert_eq!(elements(bytes, 1, 1, true).records.len(), 2);
    }

    #[test]
    fn an_array_that_is_cut_off_says_so() {
        let bytes = b"{\"a\": 1},\n{\"a\": ";
        let found = elements(bytes, 1, 1, true);
        assert_eq!(found.records.len(), 2);
        assert!(found.fault.unwrap().1.starts_with("the array is not closed"));
    }
}
