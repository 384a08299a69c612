//! How stored numbers become f32: plain numbers and GGUF's blocks, whose 16-bit numbers are little-endian f16.

use super::instructions::{Instructions, LANES, Lanes};

/// How 32 values are unpacked.
pub(super) trait Format {
    /// Bytes of a block.
    const BYTES: usize;
    /// Values of a block, a multiple of 32.
    const VALUES: usize;
    /// Whether each value stands for itself, so that a row may end within a block.
    const PLAIN: bool = false;

    /// Passes the values of a block to `each`, 32 at a time with the number of the first of them.
    fn unpack<I: Instructions>(block: &[u8], each: impl FnMut(usize, &Lanes));
}

/// The first four f16 of a block, most of which begin with one or two.
#[inline(always)]
fn halves<I: Instructions>(block: &[u8]) -> [f32; 4] {
    block.first_chunk().map_or([0.0; 4], |bytes| I::halves(*bytes))
}

/// The last four f16 of a block.
#[inline(always)]
fn last_halves<I: Instructions>(block: &[u8]) -> [f32; 4] {
    block.last_chunk().map_or([0.0; 4], |bytes| I::halves(*bytes))
}

/// Eight bytes from a place on, the lowest first.
#[inline(always)]
fn eight(block: &[u8], at: usize) -> u64 {
    block[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Two times four bytes, the lowest first.
#[inline(always)]
fn eight_of(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[inline(always)]
fn array<const N: usize>(value: impl Fn(usize) -> f32) -> [f32; N] {
    let mut array = [0f32; N];
    for (i, element) in array.iter_mut().enumerate() {
        *element = value(i);
    }
    array
}

/// A loop whose number is known where the body is compiled, four times: shifts by it are those of the instructions.
#[inline(always)]
fn four(mut body: impl FnMut(usize)) {
    body(0);
    body(1);
    body(2);
    body(3);
}

/// 16 bytes of two values each: the low nibbles are the first 16 values. `value` gets the place and the nibble.
#[inline(always)]
fn nibbles(bytes: &[u8], value: impl Fn(usize, u8) -> f32) -> Lanes {
    let bytes = &bytes[..LANES / 2];
    let mut lanes = [0f32; LANES];
    for i in 0..LANES / 2 {
        lanes[i] = value(i, bytes[i] & 15);
        lanes[i + LANES / 2] = value(i + LANES / 2, bytes[i] >> 4);
    }
    lanes
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident: $bytes:literal bytes, $values:literal values $(, plain $plain:literal)?;
        |$block:ident, $each:ident, $set:ident| $body:block)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const VALUES: usize = $values;
            $(const PLAIN: bool = $plain;)?

            #[inline(always)]
            fn unpack<$set: Instructions>(block: &[u8], mut $each: impl FnMut(usize, &Lanes)) {
                let Some($block) = block.as_array::<$bytes>() else { return };
                $body
            }
        }
    )*};
}

formats! {
    F32: 128 bytes, 32 values, plain true; |b, each, _I| {
        each(0, &array(#[inline(always)] |i| f32::from_ne_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]])));
    }

    F16: 64 bytes, 32 values, plain true; |b, each, I| {
        each(0, &array(#[inline(always)] |i| I::half(u16::from_ne_bytes([b[2 * i], b[2 * i + 1]]))));
    }

    Bf16: 64 bytes, 32 values, plain true; |b, each, _I| {
        each(0, &array(#[inline(always)] |i| f32::from_bits(u32::from(u16::from_ne_bytes([b[2 * i], b[2 * i + 1]])) << 16)));
    }

    /// Scale d, nibbles: d·(q − 8).
    Q4_0: 18 bytes, 32 values; |b, each, I| {
        let [d, ..] = halves::<I>(b);
        each(0, &nibbles(&b[2..], #[inline(always)] |_, q| (i32::from(q) - 8) as f32 * d));
    }

    /// Scale d, minimum m, nibbles: d·q + m.
    Q4_1: 20 bytes, 32 values; |b, each, I| {
        let [d, m, ..] = halves::<I>(b);
        each(0, &nibbles(&b[4..], #[inline(always)] |_, q| f32::from(q).mul_add(d, m)));
    }

    /// Scale d, the fifth bits, nibbles: d·(q − 16).
    Q5_0: 22 bytes, 32 values; |b, each, I| {
        let ([d, ..], fifth) = (halves::<I>(b), u32::from_le_bytes([b[2], b[3], b[4], b[5]]));
        each(0, &nibbles(&b[6..], #[inline(always)] |i, q| (i32::from(q) + (fifth >> i & 1) as i32 * 16 - 16) as f32 * d));
    }

    /// Scale d, minimum m, the fifth bits, nibbles: d·q + m.
    Q5_1: 24 bytes, 32 values; |b, each, I| {
        let [d, m, ..] = halves::<I>(b);
        let fifth = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
        each(0, &nibbles(&b[8..], #[inline(always)] |i, q| ((i32::from(q) + (fifth >> i & 1) as i32 * 16) as f32).mul_add(d, m)));
    }

    /// Scale d, signed bytes: d·q.
    Q8_0: 34 bytes, 32 values; |b, each, I| {
        let [d, ..] = halves::<I>(b);
        each(0, &array(#[inline(always)] |i| f32::from(b[2 + i] as i8) * d));
    }

    /// Scale d, a sum that is not needed, signed bytes: d·q.
    Q8_1: 36 bytes, 32 values; |b, each, I| {
        let [d, ..] = halves::<I>(b);
        each(0, &array(#[inline(always)] |i| f32::from(b[4 + i] as i8) * d));
    }

    /// Scales and minima in nibbles for 16 values each, two bits a value, d and dₘ: d·s·q − dₘ·m.
    Q2K: 84 bytes, 256 values; |b, each, I| {
        const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
        let [.., d, least] = last_halves::<I>(b);
        for side in 0..2 {
            let numbers = eight(b, 8 * side);
            let (d, m) = (I::scaled(numbers & NIBBLES, 0.0, d), I::scaled(numbers >> 4 & NIBBLES, 0.0, least));
            let q = &b[16 + 32 * side..][..32];
            four(#[inline(always)] |n| {
                each(128 * side + 32 * n, &array(#[inline(always)] |i| {
                    f32::from(q[i] >> (2 * n) & 3).mul_add(d[2 * n + i / 16], -m[2 * n + i / 16])
                }));
            });
        }
    }

    /// The third bits, two bits a value, scales of 6 bits for 16 values each, d: d·(s − 32)·(q − 4).
    Q3K: 110 bytes, 256 values; |b, each, I| {
        let [.., d] = last_halves::<I>(b);
        let (low, high) = (eight(b, 96), (eight(b, 100) >> 32) as u32);
        let third = &b[..32];
        for side in 0..2 {
            let two = |shift: usize| high >> (4 * side + shift) & 0x0303_0303;
            let numbers = low >> (4 * side) & 0x0f0f_0f0f_0f0f_0f0f | eight_of(two(0), two(2)) << 4;
            let d = I::scaled(numbers, 32.0, d);
            let q = &b[32 + 32 * side..][..32];
            four(#[inline(always)] |n| {
                each(128 * side + 32 * n, &array(#[inline(always)] |i| {
                    f32::from((q[i] >> (2 * n) & 3 | (third[i] >> (4 * side + n) & 1) << 2) as i8 - 4) * d[2 * n + i / 16]
                }));
            });
        }
    }

    /// d and dₘ, scales s and minima m of 6 bits for 32 values each, nibbles: d·s·q − dₘ·m.
    Q4K: 144 bytes, 256 values; |b, each, I| {
        let (d, m) = scales_and_minima::<I>(b);
        for pair in 0..4 {
            let q = &b[16 + 32 * pair..][..32];
            let (low, high) = (2 * pair, 2 * pair + 1);
            each(32 * low, &array(#[inline(always)] |i| f32::from(q[i] & 15).mul_add(d[low], -m[low])));
            each(32 * high, &array(#[inline(always)] |i| f32::from(q[i] >> 4).mul_add(d[high], -m[high])));
        }
    }

    /// As [`Q4K`] with fifth bits before the nibbles.
    Q5K: 176 bytes, 256 values; |b, each, I| {
        let ((d, m), fifth) = (scales_and_minima::<I>(b), &b[16..48]);
        four(#[inline(always)] |pair| {
            let q = &b[48 + 32 * pair..][..32];
            let (low, high) = (2 * pair, 2 * pair + 1);
            each(32 * low, &array(#[inline(always)] |i| {
                f32::from(q[i] & 15 | (fifth[i] >> low & 1) << 4).mul_add(d[low], -m[low])
            }));
            each(32 * high, &array(#[inline(always)] |i| {
                f32::from(q[i] >> 4 | (fifth[i] >> high & 1) << 4).mul_add(d[high], -m[high])
            }));
        });
    }

    /// Nibbles, two high bits a value, signed scales s for 16 values each, d: d·s·(q − 32).
    Q6K: 210 bytes, 256 values; |b, each, I| {
        const SIGNS: u64 = 0x8080_8080_8080_8080;
        let [.., d] = last_halves::<I>(b);
        for side in 0..2 {
            let d = I::scaled(eight(b, 192 + 8 * side) ^ SIGNS, 128.0, d);
            let (low, high) = (&b[64 * side..][..64], &b[128 + 32 * side..][..32]);
            four(#[inline(always)] |n| {
                let low = &low[n % 2 * 32..][..32];
                each(128 * side + 32 * n, &array(#[inline(always)] |i| {
                    f32::from((low[i] >> (n / 2 * 4) & 15 | (high[i] >> (2 * n) & 3) << 4) as i8 - 32) * d[2 * n + i / 16]
                }));
            });
        }
    }

    /// Scale d in f32, signed bytes, sums that are not needed: d·q.
    Q8K: 292 bytes, 256 values; |b, each, _I| {
        let d = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        for part in 0..8 {
            let q = &b[4 + 32 * part..][..32];
            each(32 * part, &array(#[inline(always)] |i| f32::from(q[i] as i8) * d));
        }
    }
}

/// Scales d·s and minima dₘ·m of eight times 32 values. The numbers s and m have 6 bits in 12 bytes: the low four of
/// both lie in the first 8, whose two upper bits are the upper ones of the last four.
#[inline(always)]
fn scales_and_minima<I: Instructions>(b: &[u8]) -> ([f32; 8], [f32; 8]) {
    let [d, least, ..] = halves::<I>(b);
    let (both, last) = (eight(b, 4), (eight(b, 8) >> 32) as u32);
    let (s, m) = (both as u32, (both >> 32) as u32);
    let upper = |first: u32| first >> 6 & 0x0303_0303;
    let s = eight_of(s & 0x3f3f_3f3f, last & 0x0f0f_0f0f | upper(s) << 4);
    let m = eight_of(m & 0x3f3f_3f3f, last >> 4 & 0x0f0f_0f0f | upper(m) << 4);
    (I::scaled(s, 0.0, d), I::scaled(m, 0.0, least))
}
