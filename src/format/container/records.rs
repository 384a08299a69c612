//! Records, the blocks of bytes that hold them, and a pool of buffers for these.

use std::ops::Range;
use std::sync::Mutex;

use crate::format::problems::{Problem, ProblemKind};
use crate::format::row::RecordPlace;

/// Bytes of a block: small enough that a few of them in flight cost little memory.
pub(super) const BLOCK: usize = 1 << 20;

/// Bytes of the largest record: more is taken for a fault of the file.
pub(super) const LARGEST: usize = 256 << 20;

/// One record inside a [`Block`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub bytes: Range<usize>,
    /// The line of the file on which it begins, from 1; of Parquet the row.
    pub line: u32,
    /// Its number in the file, from 1.
    pub number: u32,
}

/// A piece of the file that holds whole records.
#[derive(Debug)]
pub(crate) struct Block {
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    /// What is wrong with the file itself in this block: there are no records of it.
    pub faults: Vec<Problem>,
}

/// A block in the making.
#[derive(Debug, Default)]
pub(super) struct RecordPiece {
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    pub faults: Vec<Problem>,
}

impl RecordPlace {
    /// Moves on by the lines of some bytes.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.line = self.line.saturating_add(newlines(bytes));
    }
}

/// What lies in a buffer: its whole records, where the last ends, and the place after that.
pub(super) struct FoundRecords {
    pub records: Vec<Record>,
    pub faults: Vec<Problem>,
    pub end: usize,
    pub place: RecordPlace,
    /// The array has ended here.
    pub closed: bool,
}

impl FoundRecords {
    pub fn at(place: RecordPlace) -> Self {
        Self { records: Vec::new(), faults: Vec::new(), end: 0, place, closed: false }
    }

    pub fn push(&mut self, bytes: Range<usize>) {
        self.records.push(Record { bytes, line: self.place.line, number: self.place.number });
        self.place.number = self.place.number.saturating_add(1);
    }

    pub fn fault(&mut self, kind: ProblemKind, what: &'static str) {
        self.faults.push(Problem::new(self.place.line, kind, what));
    }

    pub fn broken(&mut self, what: &'static str) {
        self.fault(ProblemKind::BrokenJson, what);
    }
}

/// A pool of buffers of about a block to use again: a fresh buffer costs a page fault for every 4 KB.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    /// An empty buffer for a block, or for what is made of one.
    pub fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().map_or(None, |mut spare| spare.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(BLOCK * 5 / 4))
    }

    /// Keeps a buffer for later, unless it grew for an unusually large record.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if (BLOCK..=4 * BLOCK).contains(&buffer.capacity())
            && let Ok(mut spare) = self.0.lock()
        {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// The number of line breaks.
pub(super) fn newlines(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}
