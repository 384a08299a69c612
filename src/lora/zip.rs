//! The zip archives that `torch.save` writes: entries that are stored, not compressed.
//!
//! Laid out as in PKWARE's APPNOTE.TXT 6.3.10: §4.3.7 local headers, §4.3.12 central directory,
//! §4.3.14 to 4.3.16 its end, §4.5.3 the 64-bit sizes.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";

/// The entries of an archive in memory, by name.
pub(super) struct Archive<'a> {
    entries: BTreeMap<String, Entry<'a>>,
}

struct Entry<'a> {
    bytes: &'a [u8],
    crc: u32,
}

impl<'a> Archive<'a> {
    /// Reads the directory; nothing is copied but names.
    ///
    /// # Errors
    /// When it is no archive or a damaged one, when an entry is compressed, encrypted, or there twice.
    pub(super) fn read(file: &'a [u8]) -> Result<Self> {
        let (mut at, count) = directory(file)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (name, entry, next) = entry(file, at)?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(Error::format(format!("two entries of the archive are called {name:?}")));
            }
            at = next;
        }
        Ok(Self { entries })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of an entry, after a look at their check sum.
    ///
    /// # Errors
    /// When there is none, or its bytes are not those that were written.
    pub(super) fn get(&self, name: &str) -> Result<&'a [u8]> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| Error::format(format!("the archive has no entry {name:?}")))?;
        let mut crc = flate2::Crc::new();
        crc.update(entry.bytes);
        match crc.sum() == entry.crc {
            true => Ok(entry.bytes),
            false => Err(Error::format(format!("the check sum of {name:?} is wrong"))
                .help("the file is damaged: fetch it again")),
        }
    }
}

fn cut() -> Error {
    Error::format("the zip archive is cut off or damaged").help("fetch the file again")
}

fn take(file: &[u8], at: usize, count: usize) -> Result<&[u8]> {
    at.checked_add(count).and_then(|end| file.get(at..end)).ok_or_else(cut)
}

/// A little-endian number of up to eight bytes.
fn number(file: &[u8], at: usize, count: usize) -> Result<u64> {
    Ok(take(file, at, count)?.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
}

fn place(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| cut())
}

/// Where the central directory begins, and how many entries it has.
fn directory(file: &[u8]) -> Result<(usize, usize)> {
    const SIZE: usize = 22;
    const COMMENT: usize = u16::MAX as usize;
    let from = file.len().saturating_sub(SIZE + COMMENT);
    let end = from + memchr::memmem::rfind(&file[from..], END).ok_or_else(cut)?;
    take(file, end, SIZE)?;
    let (mut count, mut begin) = (number(file, end + 10, 2)?, number(file, end + 16, 4)?);
    if count == 0xffff || begin == 0xffff_ffff {
        let locator = end.checked_sub(20).ok_or_else(cut)?;
        if take(file, locator, 4)? != LOCATOR64 {
            return Err(cut());
        }
        let end64 = place(number(file, locator + 8, 8)?)?;
        if take(file, end64, 4)? != END64 {
            return Err(cut());
        }
        (count, begin) =
            (number(file, end64.saturating_add(32), 8)?, number(file, end64.saturating_add(48), 8)?);
    }
    Ok((place(begin)?, place(count)?))
}

/// The entry whose directory record begins at `at`, and where the next record begins.
fn entry(file: &[u8], at: usize) -> Result<(String, Entry<'_>, usize)> {
    const FIXED: usize = 46;
    let record = take(file, at, FIXED)?;
    if &record[..4] != CENTRAL {
        return Err(cut());
    }
    let field = |at, count| number(record, at, count);
    let (flags, method, crc) = (field(8, 2)?, field(10, 2)?, field(16, 4)? as u32);
    let [mut size, mut full, mut offset] = [field(20, 4)?, field(24, 4)?, field(42, 4)?];
    let [name, extra, comment] = [field(28, 2)? as usize, field(30, 2)? as usize, field(32, 2)? as usize];
    let text = String::from_utf8_lossy(take(file, at + FIXED, name)?).into_owned();
    // The 64-bit fields stand there in this order, each only where the 32-bit one is full.
    let mut extras = take(file, at + FIXED + name, extra)?;
    while let [a, b, c, d, rest @ ..] = extras {
        let length = usize::from(u16::from_le_bytes([*c, *d])).min(rest.len());
        if u16::from_le_bytes([*a, *b]) == 1 {
            let mut wide = 0;
            for field in [&mut full, &mut size, &mut offset].into_iter().filter(|f| **f == 0xffff_ffff) {
                *field = number(&rest[..length], wide, 8)?;
                wide += 8;
            }
        }
        extras = &rest[length..];
    }
    if method != 0 || flags & 1 != 0 || size != full {
        return Err(Error::format(format!(
            "{text:?} is compressed or encrypted, which torch.save never does"
        ))
        .help("take adapter_model.safetensors, or save the file again with torch.save"));
    }
    let local = place(offset)?;
    if take(file, local, 4)? != LOCAL {
        return Err(cut());
    }
    let lengths = number(file, local + 26, 2)? as usize + number(file, local + 28, 2)? as usize;
    let bytes = take(file, local + 30 + lengths, place(size)?)?;
    Ok((text, Entry { bytes, crc }, at + FIXED + name + extra + comment))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry whose sizes, place and directory are told in 64 bits, as torch does beyond 4 GB.
    fn wide(bytes: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let (crc, size) = (crc.sum().to_le_bytes(), (bytes.len() as u64).to_le_bytes());
        let full = [0xff; 4];
        let local = [LOCAL, &[0; 10], &crc, &full, &full, &[1, 0, 0, 0], b"x", bytes].concat();
        let begin = local.len() as u64;
        // Another extra field first, then that of the 64-bit sizes: full, stored, offset.
        let extra = [&[9, 9, 1, 0, 7, 1, 0, 24, 0][..], &size, &size, &[0; 8]].concat();
        let lengths = [1, 0, extra.len() as u8, 0, 0, 0];
        let central =
            [CENTRAL, &[0; 12], &crc, &full, &full, &lengths, &[0; 8], &full, b"x", &extra].concat();
        let end = begin + central.len() as u64;
        let end64 = [END64, &[0; 28], &1u64.to_le_bytes(), &[0; 8], &begin.to_le_bytes()].concat();
        let locator = [LOCATOR64, &[0; 4], &end.to_le_bytes(), &[0; 4]].concat();
        let last = [END, &[0; 4], &[0xff; 4], &[0; 4], &full, &[0; 2]].concat();
        [local, central, end64, locator, last].concat()
    }

    #[test]
    fn sizes_in_64_bits() {
        let file = wide(b"numbers");
        let archive = Archive::read(&file).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["x"]);
        assert_eq!(archive.get("x").unwrap(), b"numbers");
        for length in 0..file.len() {
            assert!(Archive::read(&file[..length]).is_err());
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            // An error or an archive, never a panic.
            let _ = Archive::read(&damaged).and_then(|archive| archive.get("x").map(<[u8]>::len));
        }
    }
}
