//! Random draws that depend on the seed and the row's number alone.

use lorascope::ops::random::SplitMix64;

/// Random draws that must not disturb each other.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Row = 1,
    Fault = 2,
    Talk = 3,
}

/// A small generator: its numbers are part of the committed files, so it is ours and never changes with a
/// dependency.
pub(super) struct Draw(SplitMix64);

impl Draw {
    /// The draws of one row; `stream` keeps rows, faults and follow-ups apart.
    pub fn new(seed: u64, stream: u64, index: u64) -> Self {
        let mut draw = Self(SplitMix64::new(seed));
        for part in [stream, index] {
            draw.0 = SplitMix64::new(draw.next() ^ part.wrapping_mul(SplitMix64::STEP));
        }
        draw
    }

    pub fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A whole number from `low` to `high`, both included.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// One of the items.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[(self.next() % items.len() as u64) as usize]
    }

    /// Whether a thing happens that happens `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
