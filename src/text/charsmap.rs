//! The normaliser inside a SentencePiece model, checked before it is used.
//!
//! A blob: the length of a double-array trie in bytes (u32), the trie's units (u32 each), then the
//! strings that replace what the trie matches, each ended by a NUL. The library that reads it trusts
//! every number inside, and reads out of bounds (a panic) where one is wrong.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use tokenizers::normalizers::precompiled::Precompiled;

use crate::error::{Error, Result};

/// Units of a trie; that of all of NFKC has some 50,000.
const UNITS: usize = 1 << 20;

/// As the library reads it, which asks for no padding at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The normaliser in a blob; none where the blob is empty.
pub(super) fn normalizer(blob: &[u8]) -> Result<Option<Precompiled>> {
    if blob.is_empty() {
        return Ok(None);
    }
    check(blob).ok_or_else(|| Error::format("the normaliser's character map is broken"))?;
    Precompiled::from(blob)
        .map(Some)
        .map_err(|error| Error::format(format!("the normaliser's character map: {error}")))
}

/// Checks a blob as a `tokenizer.json` has it, in base 64.
pub(super) fn check_base64(text: &str) -> Result<()> {
    let blob = BASE64.decode(text).ok().filter(|blob| check(blob).is_some());
    blob.map(drop).ok_or_else(|| Error::format("the normaliser's character map is broken"))
}

/// Walks through all that the trie can reach; none where a number leads outside.
fn check(blob: &[u8]) -> Option<()> {
    let (size, rest) = blob.split_first_chunk::<4>()?;
    let (trie, strings) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
    let (units, []) = trie.as_chunks::<4>() else { return None };
    let units: Vec<usize> = units.iter().map(|unit| u32::from_le_bytes(*unit) as usize).collect();
    if units.is_empty() || units.len() > UNITS {
        return None;
    }
    let strings = std::str::from_utf8(strings).ok()?;

    let mut seen = vec![false; units.len()];
    let mut open = vec![offset(units[0])];
    while let Some(node) = open.pop() {
        // The children of a node lie at its place combined with each byte.
        if (node | 255) >= units.len() {
            return None;
        }
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        for byte in 1..=255 {
            let unit = units[node ^ byte];
            if label(unit) != byte {
                continue;
            }
            let child = (node ^ byte) ^ offset(unit);
            if has_leaf(unit) && !strings.is_char_boundary(value(*units.get(child)?)) {
                return None;
            }
            open.push(child);
        }
    }
    Some(())
}

// A unit's bits, as in Darts-clone: label 0 to 7, leaf 8, offset 10 to 30 (shifted by 8 if bit 9 is
// set); a leaf's own unit has its value in bits 0 to 30.

fn label(unit: usize) -> usize {
    unit & ((1 << 31) | 0xff)
}

fn has_leaf(unit: usize) -> bool {
    (unit >> 8) & 1 == 1
}

fn offset(unit: usize) -> usize {
    (unit >> 10) << ((unit & (1 << 9)) >> 6)
}

fn value(unit: usize) -> usize {
    unit & ((1 << 31) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trie that writes `b` for `a`: the root's children are in the block at 256.
    fn blob() -> Vec<u8> {
        let mut units = vec![0u32; 768];
        units[0] = 256 << 10;
        let a = 256 ^ 0x61;
        units[a] = 0x61 | (1 << 8) | (((a as u32) ^ 512) << 10);
        units[512] = (1 << 31) | 1;
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        [&(trie.len() as u32).to_le_bytes()[..], &trie, b"\0b\0"].concat()
    }

    #[test]
    fn a_map_replaces() {
        let map = normalizer(&blob()).unwrap().unwrap();
        assert_eq!(map.normalize_string("cab"), "cbb");
        assert!(normalizer(&[]).unwrap().is_none());
    }

    #[test]
    fn base_64_is_read() {
        for (text, bytes) in
            [("", &b""[..]), ("TQ==", b"M"), ("TWE=", b"Ma"), ("TWFu", b"Man"), ("+/8A", &[251, 255, 0])]
        {
            assert_eq!(BASE64.decode(text).unwrap(), bytes);
        }
        assert!(BASE64.decode("T*==").is_err());
        assert!(check_base64("TWFu").is_err());
    }

    #[test]
    fn numbers_that_lead_outside_are_an_error() {
        let good = blob();
        let with = |unit: usize, value: u32| {
            let mut blob = good.clone();
            blob[4 + 4 * unit..8 + 4 * unit].copy_from_slice(&value.to_le_bytes());
            blob
        };
        let broken = [
            vec![0; 3],
            vec![0; 4],
            vec![255; 8],
            good[..40].to_vec(),
            with(0, 800 << 10),
            with(512, (1 << 31) | 9),
            with(256 ^ 0x61, 0x61 | (1 << 8) | (1 << 9) | (0x1f_ffff << 10)),
        ];
        for blob in broken {
            assert!(normalizer(&blob).unwrap_err().to_string().contains("character map"));
        }
    }
}
