//! From a text to its shingles and its signature.

use xxhash_rust::xxh3::xxh3_64;

use crate::ops::random::SplitMix64;
use crate::ops::vector::simd;

/// Characters of a shingle.
pub(super) const SHINGLE: usize = 5;
/// Bytes of a signature: random orders of the shingles.
pub(super) const PLACES: usize = 128;

/// A byte for each random order.
pub(super) type Signature = [u8; PLACES];

/// A hash of the characters that count, and the signature; `None` for a text without any.
pub(super) type Signed = Option<(u64, Signature)>;

/// 128 orders of all 32-bit numbers, x ↦ a·x + b mod 2³² with odd a.
static ORDERS: ([u32; PLACES], [u32; PLACES]) = orders();

const fn orders() -> ([u32; PLACES], [u32; PLACES]) {
    let (mut a, mut b) = ([0; PLACES], [0; PLACES]);
    let mut random = SplitMix64::new(42);
    let mut place = 0;
    while place < PLACES {
        let z = random.next();
        a[place] = (z >> 32) as u32 | 1;
        b[place] = z as u32;
        place += 1;
    }
    (a, b)
}

/// Signs texts one after the other, in buffers that are used again.
#[derive(Default)]
pub(super) struct Signer {
    /// The text without white space, in small letters.
    plain: String,
    /// Where its characters begin, and its end.
    starts: Vec<usize>,
    shingles: Vec<u32>,
}

impl Signer {
    /// A hash of the characters that count, and the signature; `None` where there are none.
    pub fn sign(&mut self, text: &str) -> Signed {
        self.read(text)?;
        let hash = xxh3_64(self.plain.as_bytes());
        let shingles = &self.shingles;
        Some((
            hash,
            simd(
                #[inline(always)]
                || minima(shingles),
            ),
        ))
    }

    /// The characters that count, in small letters.
    pub fn plain(&mut self, text: &str) -> &str {
        self.read(text);
        &self.plain
    }

    /// The hashes of the text's shingles: ascending, each once.
    pub fn shingles(&mut self, text: &str) -> Vec<u32> {
        if self.read(text).is_none() {
            return Vec::new();
        }
        let mut set = std::mem::take(&mut self.shingles);
        set.sort_unstable();
        set.dedup();
        set
    }

    fn read(&mut self, text: &str) -> Option<()> {
        self.plain.clear();
        self.starts.clear();
        self.shingles.clear();
        self.plain.reserve(text.len());
        self.starts.reserve(text.len() + 1);
        for c in text.chars() {
            let c = match c {
                '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
                c => c,
            };
            match c {
                // The bulk of Chinese text: neither spaces nor capital letters.
                '\u{3001}'..='\u{d7ff}' => {}
                c if c.is_whitespace() || c.is_control() => continue,
                c if c.is_uppercase() => {
                    for c in c.to_lowercase() {
                        self.starts.push(self.plain.len());
                        self.plain.push(c);
                    }
                    continue;
                }
                _ => {}
            }
            self.starts.push(self.plain.len());
            self.plain.push(c);
        }
        let characters = self.starts.len();
        self.starts.push(self.plain.len());
        let bytes = self.plain.as_bytes();
        self.shingles.reserve(characters);
        match characters {
            0 => return None,
            // A text shorter than a shingle is one.
            1..SHINGLE => self.shingles.push(xxh3_64(bytes) as u32),
            _ => self.shingles.extend(
                self.starts.windows(SHINGLE + 1).map(|at| xxh3_64(&bytes[at[0]..at[SHINGLE]]) as u32),
            ),
        }
        Some(())
    }
}

/// A byte of the first shingle in each order.
#[inline(always)]
fn minima(shingles: &[u32]) -> Signature {
    /// Orders whose minima stay in registers.
    const TILE: usize = 32;
    let mut signature = [0; PLACES];
    for tile in (0..PLACES).step_by(TILE) {
        let a: [u32; TILE] = std::array::from_fn(|k| ORDERS.0[tile + k]);
        let b: [u32; TILE] = std::array::from_fn(|k| ORDERS.1[tile + k]);
        let mut least = [u32::MAX; TILE];
        for &x in shingles {
            for k in 0..TILE {
                least[k] = least[k].min(a[k].wrapping_mul(x).wrapping_add(b[k]));
            }
        }
        for k in 0..TILE {
            // Mixed, as the high bits of a minimum are mostly zero.
            signature[tile + k] = (least[k].wrapping_mul(0x9e37_79b1) >> 24) as u8;
        }
    }
    signature
}

/// In how many places two signatures agree.
#[inline(always)]
pub(super) fn agreement(a: &Signature, b: &Signature) -> u32 {
    let mut equal = [0u8; 32];
    for part in 0..PLACES / 32 {
        for k in 0..32 {
            equal[k] += u8::from(a[part * 32 + k] == b[part * 32 + k]);
        }
    }
    equal.iter().map(|&n| u32::from(n)).sum()
}

/// |A ∩ B| / |A ∪ B| of two ascending lists; 0 where one is empty.
pub(super) fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        shared += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let all = a.len() + b.len() - shared;
    if shared == 0 { 0.0 } else { shared as f64 / all as f64 }
}
