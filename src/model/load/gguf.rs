//! A GGUF file, or all parts of one that was split (`NAME-00001-of-00002.gguf`).

use crate::error::{Error, Result};
use crate::files;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
/// The largest alignment of parts: a page of any system.
const LARGEST: u64 = 65536;
const AGAIN: &str = "parts of two models, or a damaged one: fetch all parts again";

/// One model: the metadata of its first file, the tensors of all.
pub(crate) struct Gguf {
    first: GgufPart,
    more: Vec<GgufPart>,
}

/// One file of a model.
pub(crate) struct GgufPart {
    pub(super) path: PathBuf,
    file: memmap2::Mmap,
    content: Content,
}

/// The split metadata of a part.
#[derive(PartialEq)]
struct Split {
    /// From 0; file names count from 1.
    number: u64,
    count: u64,
    tensors: u64,
}

impl Gguf {
    /// Opens a file; if it is one part of a model, also the other parts, found by name.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let given = GgufPart::open(path)?;
        let split = given.split()?;
        let Some(Split { number, count, tensors }) = split else {
            return Ok(Self { first: given, more: Vec::new() });
        };
        let names = names(path, number, count)?;
        let mut given = Some(given);
        let mut parts = Vec::new();
        for at in 0..count {
            let part = match given.take_if(|_| at == number) {
                Some(part) => part,
                None => {
                    let other = path.with_file_name(names(at));
                    if !other.exists() {
                        return Err(Error::not_found(format!(
                            "this file is missing: part {} of {count} of the model",
                            at + 1
                        ))
                        .path(other)
                        .help(format!("fetch it too, into the folder of {}", names(number))));
                    }
                    GgufPart::open(&other)?
                }
            };
            match part.split()? {
                Some(own) if own == (Split { number: at, count, tensors }) => parts.push(part),
                own => {
                    return Err(Error::format(format!(
                        "{} where {} has {COUNT} {count} and {TENSORS} {tensors}",
                        describe(own.as_ref()),
                        names(number),
                    ))
                    .path(&part.path)
                    .help(AGAIN));
                }
            }
        }
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { return Err(Error::format("no part").path(path)) };
        let model = Self { first, more: parts.collect() };
        model.check(tensors)?;
        Ok(model)
    }

    /// Checks that the parts belong together, as far as their metadata tells.
    fn check(&self, tensors: u64) -> Result<()> {
        let mut seen = HashSet::new();
        for part in self.parts() {
            let refuse = |e: Error| e.path(&part.path).help(AGAIN);
            if let Some(name) = part.content.tensor_infos.keys().find(|name| !seen.insert(*name)) {
                return Err(refuse(Error::format("another part has this tensor too").layer(name)));
            }
            let differs = |(key, value): &(&String, &Value)| {
                let first = self.metadata().get(*key);
                *key != NUMBER && first.is_some_and(|first| format!("{first:?}") != format!("{value:?}"))
            };
            if let Some((key, _)) = part.content.metadata.iter().find(differs) {
                return Err(refuse(Error::format(format!("{key} differs from that of the first part"))));
            }
        }
        match seen.len() as u64 == tensors {
            true => Ok(()),
            false => Err(Error::format(format!(
                "{TENSORS} is {tensors}, but the parts hold {} together",
                seen.len()
            ))
            .path(&self.first.path)
            .help(AGAIN)),
        }
    }

    /// The first file.
    pub(super) fn path(&self) -> &Path {
        &self.first.path
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &GgufPart> {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub(super) fn is_split(&self) -> bool {
        !self.more.is_empty()
    }

    pub(super) fn metadata(&self) -> &HashMap<String, Value> {
        &self.first.content.metadata
    }

    /// A tensor, and the part that holds it.
    pub(super) fn tensor(&self, name: &str) -> Option<(&GgufPart, &TensorInfo)> {
        self.parts().find_map(|part| Some((part, part.content.tensor_infos.get(name)?)))
    }

    /// Hashes the file; for parts, the bytes of the file before it was split.
    pub(super) fn hash(&self, hasher: &mut Xxh3) -> Result<()> {
        if !self.is_split() {
            hasher.update(&self.first.file);
            return Ok(());
        }
        let alignment = match self.metadata().get("general.alignment").map(number) {
            Some(Some(alignment @ 1..=LARGEST)) => alignment as usize,
            None => 32,
            other => {
                return Err(Error::format(format!("tensors aligned to {other:?} bytes in parts of a model"))
                    .path(&self.first.path)
                    .help("the file is damaged: fetch it again"));
            }
        };
        let padding = |length: usize| vec![0; length.next_multiple_of(alignment) - length];
        let headers = self.parts().map(GgufPart::header).collect::<Result<Vec<_>>>()?;
        let infos =
            || self.parts().zip(&headers).flat_map(|(part, h)| h.infos.iter().map(move |i| (part, i)));
        let entries = || {
            let own = |key: &[u8]| [NUMBER, COUNT, TENSORS].iter().any(|name| name.as_bytes() == key);
            headers.iter().take(1).flat_map(|h| &h.entries).filter(move |entry| !own(entry.name))
        };
        let mut start = self.first.file.get(..8).unwrap_or_default().to_vec();
        start.extend((infos().count() as u64).to_le_bytes());
        start.extend((entries().count() as u64).to_le_bytes());
        entries().for_each(|entry| start.extend(entry.bytes));
        let mut offset = 0u64;
        for (part, info) in infos() {
            start.extend(info.bytes);
            start.extend(offset.to_le_bytes());
            offset += part.named(info.name)?.len().next_multiple_of(alignment) as u64;
        }
        hasher.update(&start);
        hasher.update(&padding(start.len()));
        for (part, info) in infos() {
            let bytes = part.named(info.name)?;
            hasher.update(bytes);
            hasher.update(&padding(bytes.len()));
        }
        Ok(())
    }
}

impl GgufPart {
    fn open(path: &Path) -> Result<Self> {
        let file = map(path)?;
        match file.get(..4) {
            Some(b"GGUF") => {}
            found => {
                return Err(Error::format(format!(
                    "not a GGUF file: it begins with {:?} instead of \"GGUF\"",
                    String::from_utf8_lossy(found.unwrap_or(&file))
                ))
                .path(path)
                .help("give a .gguf file or a Hugging Face folder"));
            }
        }
        let damaged = |e: Error| e.path(path).help("the file is damaged: fetch it again");
        check_alignment(&file).map_err(damaged)?;
        let content = Content::read(&mut std::io::Cursor::new(&file[..]))
            .map_err(|e| damaged(Error::format(Error::from(e))))?;
        let mut end = 0;
        for (name, info) in &content.tensor_infos {
            let range = range(&content, info).map_err(|e| damaged(e.layer(name)))?;
            if !range.start.is_multiple_of(4) {
                let at = range.start;
                let error =
                    Error::format(format!("the tensor begins at byte {at}, which is no multiple of 4"));
                return Err(damaged(error.layer(name)));
            }
            end = end.max(range.end);
        }
        if end > file.len() {
            return Err(Error::format(format!(
                "the file ends early: its tensors need {end} bytes, it has {}",
                file.len()
            ))
            .path(path)
            .help("the download was cut off: fetch it again"));
        }
        Ok(Self { path: path.to_path_buf(), file, content })
    }

    /// The split metadata; `None` for a whole model, also for one that `llama-gguf-split --merge` made: it writes
    /// `split.count` 0.
    fn split(&self) -> Result<Option<Split>> {
        let refuse = |e: Error| e.path(&self.path).help("the file is damaged: fetch it again");
        let get = |key: &str| match self.content.metadata.get(key) {
            None => Ok(None),
            Some(value) => number(value)
                .map(Some)
                .ok_or_else(|| refuse(Error::format(format!("{key} is {value:?}, which is not a count")))),
        };
        let lacks = |key: &str| refuse(Error::format(format!("a part of a model without {key}")));
        let (no, count, tensors) = (get(NUMBER)?, get(COUNT)?, get(TENSORS)?);
        if count.unwrap_or(0) <= 1 {
            let own = self.content.tensor_infos.len() as u64;
            return match (no.unwrap_or(0), tensors.unwrap_or(own) == own) {
                (0, true) => Ok(None),
                (no, _) => {
                    let split =
                        Split { number: no, count: count.unwrap_or(0), tensors: tensors.unwrap_or(own) };
                    Err(refuse(Error::format(format!(
                        "{}, but the file holds {own} tensors: it is neither a part of a model nor the whole",
                        describe(Some(&split))
                    ))))
                }
            };
        }
        let split = Split {
            number: no.ok_or_else(|| lacks(NUMBER))?,
            count: count.unwrap_or(0),
            tensors: tensors.ok_or_else(|| lacks(TENSORS))?,
        };
        // The format has it in 16 bits, and a name has five digits for it.
        if split.number >= split.count || split.count > u64::from(u16::MAX) {
            return Err(refuse(Error::format(format!("{} cannot be", describe(Some(&split))))));
        }
        let in_header = self.file.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        match (&self.content.magic, in_header) {
            (VersionedMagic::GgufV1, _) => {
                let error = Error::format("parts of GGUF's first version are not read");
                Err(error.path(&self.path).help("join them: llama-gguf-split --merge"))
            }
            (_, Some(count)) if count == self.content.tensor_infos.len() as u64 => Ok(Some(split)),
            _ => Err(refuse(Error::format("the file holds a tensor twice"))),
        }
    }

    /// The bytes of a tensor of this part.
    pub(super) fn bytes(&self, info: &TensorInfo) -> Result<&[u8]> {
        self.file
            .get(range(&self.content, info)?)
            .ok_or_else(|| Error::format("the file ends before this tensor does"))
    }

    fn named(&self, name: &[u8]) -> Result<&[u8]> {
        let name = String::from_utf8_lossy(name);
        let info = self.content.tensor_infos.get(name.trim_end_matches('\0'));
        self.bytes(info.ok_or_else(|| Error::format("this tensor is missing").path(&self.path).layer(name))?)
    }

    fn header(&self) -> Result<Header<'_>> {
        let read = || {
            let mut reader = Reader(self.file.get(8..)?);
            let (infos, entries) = (reader.length()?, reader.length()?);
            let entries = (0..entries).map(|_| reader.entry()).collect::<Option<Vec<_>>>()?;
            let infos = (0..infos).map(|_| reader.info()).collect::<Option<Vec<_>>>()?;
            Some(Header { entries, infos })
        };
        read().ok_or_else(|| {
            let error = Error::format("the header is not as GGUF has it").path(&self.path);
            error.help("the file is damaged: fetch it again")
        })
    }
}

/// A file's header in the order that it is written in.
struct Header<'a> {
    entries: Vec<Entry<'a>>,
    /// Each without the offset at its end.
    infos: Vec<Entry<'a>>,
}

struct Entry<'a> {
    name: &'a [u8],
    /// All of it, the name included.
    bytes: &'a [u8],
}

/// What is left of a header, of GGUF's versions 2 and 3.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.take(8)?.try_into().ok()?)).ok()
    }

    fn kind(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// Skips a value; arrays may be nested up to `depth`.
    fn skip(&mut self, kind: u32, depth: usize) -> Option<()> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => self.length()?,
            9 => {
                let (kind, count) = (self.kind()?, self.length()?);
                return (0..count).try_for_each(|_| self.skip(kind, depth.checked_sub(1)?));
            }
            _ => return None,
        };
        self.take(size).map(|_| ())
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let all = self.0;
        let name = self.text()?;
        let kind = self.kind()?;
        self.skip(kind, 64)?;
        Some(Entry { name, bytes: all.get(..all.len() - self.0.len())? })
    }

    fn info(&mut self) -> Option<Entry<'a>> {
        let all = self.0;
        let name = self.text()?;
        let dimensions = self.kind()? as usize;
        self.take(dimensions.checked_mul(8)?.checked_add(4)?)?; // and the type
        let bytes = all.get(..all.len() - self.0.len())?;
        self.take(8)?;
        Some(Entry { name, bytes })
    }
}

/// The names of all parts, derived from the name of one.
fn names(path: &Path, number: u64, count: u64) -> Result<impl Fn(u64) -> String> {
    let suffix = move |number: u64| format!("-{:05}-of-{count:05}.gguf", number + 1);
    let name = path.file_name().and_then(|name| name.to_str());
    match name.and_then(|name| name.strip_suffix(&suffix(number))) {
        Some(stem) => {
            let stem = stem.to_string();
            Ok(move |number| format!("{stem}{}", suffix(number)))
        }
        None => Err(Error::not_found(format!(
            "this is part {} of {count} of a model, but its name does not end in {:?}: the others are not found",
            number + 1,
            suffix(number)
        ))
        .path(path)
        .help("give all parts their names back, or join them: llama-gguf-split --merge")),
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::I8(n) => u64::try_from(*n).ok(),
        Value::I16(n) => u64::try_from(*n).ok(),
        Value::I32(n) => u64::try_from(*n).ok(),
        Value::I64(n) => u64::try_from(*n).ok(),
        Value::U8(n) => Some(u64::from(*n)),
        Value::U16(n) => Some(u64::from(*n)),
        Value::U32(n) => Some(u64::from(*n)),
        Value::U64(n) => Some(*n),
        _ => None,
    }
}

fn describe(split: Option<&Split>) -> String {
    match split {
        None => format!("no {COUNT}"),
        Some(Split { number, count, tensors }) => {
            format!("{NUMBER} {number}, {COUNT} {count} and {TENSORS} {tensors}")
        }
    }
}

/// candle divides by `general.alignment` as soon as it has read it, so a damaged one is found
/// before: as the format has it, a 32-bit number (type 4) and a power of two.
fn check_alignment(file: &[u8]) -> Result<()> {
    const KEY: &[u8] = b"general.alignment";
    let fits = |at: usize| match file[at + KEY.len()..] {
        [4, 0, 0, 0, a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]).is_power_of_two(),
        _ => false,
    };
    match memchr::memmem::find_iter(file, KEY).all(fits) {
        true => Ok(()),
        false => Err(Error::format("general.alignment is not a power of two in 32 bits")),
    }
}

/// Where a tensor lies in its file.
fn range(content: &Content, info: &TensorInfo) -> Result<Range<usize>> {
    let checked = || {
        let elements = info.shape.dims().iter().try_fold(1usize, |all, size| all.checked_mul(*size))?;
        let bytes = (elements / info.ggml_dtype.block_size()).checked_mul(info.ggml_dtype.type_size())?;
        let start = usize::try_from(content.tensor_data_offset.checked_add(info.offset)?).ok()?;
        Some(start..start.checked_add(bytes)?)
    };
    checked().ok_or_else(|| {
        Error::format(format!(
            "a tensor of shape {:?} at {} fits into no file",
            info.shape.dims(),
            info.offset
        ))
    })
}

/// Maps a weight file into memory.
pub(super) fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.metadata().map_err(|e| Error::io(path, e))?.len() == 0 {
        return Err(Error::format("the file is empty").path(path).help("fetch it again"));
    }
    // SAFETY: the mapping is read while the model loads and its tensors are copied out; a program
    // that cuts the file in those moments kills this one, as it would with any mapped file.
    let file = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    files::refuse_pointer(path, &file)?;
    Ok(file)
}
