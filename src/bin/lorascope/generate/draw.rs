//! Random draws that depend on the seed and the row's number alone.

/// Random draws that must not disturb each other.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Row = 1,
    Fault = 2,
    Talk = 3,
}

/// A small generator (SplitMix64): its numbers are part of the committed files, so it is ours and
/// never changes with a dependency.
pub(super) struct Draw(u64);

impl Draw {
    /// The draws of one row; `stream` keeps rows, faults and follow-ups apart.
    pub fn new(seed: u64, stream: u64, index: u64) -> Self {
        let mut draw = Self(seed);
        for part in [stream, index] {
            draw.0 = draw.next() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        draw
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
