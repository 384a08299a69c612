//! Where plain text ends in a JSON string: what reading and writing JSON does most.

/// The length of the beginning of `bytes` that stands in a JSON string as it is: up to a quote, a
/// backslash or a control character.
#[inline]
pub(crate) fn plain(bytes: &[u8]) -> usize {
    // Keys and short words end here.
    let Some(chunk) = bytes.first_chunk::<16>() else { return short(bytes) };
    match ends(chunk) {
        0 => long(bytes),
        ends => ends.trailing_zeros() as usize,
    }
}

/// The same of fewer than 16 bytes.
#[inline]
fn short(bytes: &[u8]) -> usize {
    let mut chunk = [b' '; 16];
    chunk[..bytes.len()].copy_from_slice(bytes);
    bytes.len().min(ends(&chunk).trailing_zeros() as usize)
}

/// The same of 16 bytes or more.
fn long(bytes: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= wide::BYTES && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { wide::long(bytes) };
    }
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<16>() {
        match ends(chunk) {
            0 => at += 16,
            ends => return at + ends.trailing_zeros() as usize,
        }
    }
    match bytes.last_chunk::<16>() {
        // The last bytes again, with those before them, which are known to be none.
        Some(chunk) => match ends(chunk) {
            0 => bytes.len(),
            ends => bytes.len() - 16 + ends.trailing_zeros() as usize,
        },
        None => bytes.len(),
    }
}

/// A bit for each byte that does not stand in a JSON string as it is.
#[cfg(target_arch = "x86_64")]
#[inline]
fn ends(chunk: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let word = u128::from_le_bytes(*chunk);
    // SAFETY: these take and give values, and need SSE2, which every x86-64 processor has.
    unsafe {
        let bytes = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let slashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        _mm_movemask_epi8(_mm_or_si128(controls, _mm_or_si128(quotes, slashes))) as u32
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn ends_plain(byte: &u8) -> bool {
    *byte < 0x20 || *byte == b'"' || *byte == b'\\'
}

/// A bit for each byte that does not stand in a JSON string as it is.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ends(chunk: &[u8; 16]) -> u32 {
    // Without a branch for each byte, so that all are looked at at once.
    if !chunk.iter().fold(false, |any, b| any | ends_plain(b)) {
        return 0;
    }
    chunk.iter().enumerate().fold(0, |bits, (i, b)| bits | (u32::from(ends_plain(b)) << i))
}

/// 64 bytes at a time.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };

    pub const BYTES: usize = 64;

    #[target_feature(enable = "avx2")]
    pub fn long(bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(chunk) = bytes[at..].first_chunk::<BYTES>() {
            match ends(chunk) {
                0 => at += BYTES,
                ends => return at + ends.trailing_zeros() as usize,
            }
        }
        let Some(chunk) = bytes.last_chunk::<BYTES>() else { return bytes.len() };
        match ends(chunk) {
            0 => bytes.len(),
            ends => bytes.len() - BYTES + ends.trailing_zeros() as usize,
        }
    }

    #[target_feature(enable = "avx2")]
    fn ends(chunk: &[u8; BYTES]) -> u64 {
        // SAFETY: both halves lie in the chunk; the load needs no alignment.
        let (low, high) = unsafe {
            (_mm256_loadu_si256(chunk.as_ptr().cast()), _mm256_loadu_si256(chunk[32..].as_ptr().cast()))
        };
        let (low, high) = (marks(low), marks(high));
        u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32
    }

    #[target_feature(enable = "avx2")]
    fn marks(bytes: __m256i) -> __m256i {
        let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
        let quotes = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"' as i8));
        let slashes = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
        _mm256_or_si256(controls, _mm256_or_si256(quotes, slashes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_ends_where_it_must() {
        for end in ['"', '\\', '\n', '\0', '\u{1f}'] {
            for before in 0..70 {
                for after in [0, 3, 40, 100] {
                    let after = "~".repeat(after);
                    let text = format!("{}{end}é\"{after}", "数".repeat(before));
                    assert_eq!(plain(text.as_bytes()), 3 * before, "{text:?}");
                    let text = format!("{}{end}{after}", "\u{7f} !".repeat(before));
                    assert_eq!(plain(text.as_bytes()), 3 * before, "{text:?}");
                }
            }
        }
        for length in 0..300 {
            let text = "no end, 数, \u{80}. ".repeat(length);
            assert_eq!(plain(&text.as_bytes()[..length]), length);
        }
    }
}
