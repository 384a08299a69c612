//! Reads the tensors of adapter files from untrusted sources: everything is validated before it is used or
//! allocated.

use super::pickle::read_bin;
use super::tensor_names::check_name;
use crate::display;
use crate::error::{Error, Result};
use crate::ops::vector;
use candle_core::{DType, Device, Tensor};
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

pub(super) const SAFETENSORS: &str = "adapter_model.safetensors";
pub(super) const BIN: &str = "adapter_model.bin";
/// Bytes of an adapter's file at most: rank 256 beside all layers of a 70B model in f32 is less. The
/// variable says another number.
const LIMIT: u64 = 8 << 30;
const LIMIT_VARIABLE: &str = "LORASCOPE_MAX_ADAPTER_BYTES";
/// Bytes of a header at most: 100,000 tensors take about 15 MB.
const HEADER: usize = 64 << 20;
const DAMAGED: &str = "the file is damaged or cut off: fetch it again";

/// The tensors of a PEFT folder in f32, and the file that they are from: safetensors, or else
/// `adapter_model.bin`.
///
/// # Errors
/// When there is neither, when the file is damaged, larger than 8 GiB, or asks for more than tensors, and
/// when a tensor is not of floats or holds a value that is not finite.
pub(super) fn read_folder(folder: &Path, device: &Device) -> Result<(PathBuf, BTreeMap<String, Tensor>)> {
    let (path, bin) = (folder.join(SAFETENSORS), folder.join(BIN));
    if !path.exists() && bin.exists() {
        check_size(&bin)?;
        let tensors = read_bin(&bin).and_then(|tensors| finite(tensors, device)).map_err(|e| e.path(&bin))?;
        return Ok((bin, tensors));
    }
    let tensors = read(&path, device)?;
    Ok((path, tensors))
}

/// The tensors of a safetensors file in f32.
///
/// # Errors
/// As [`read_folder`].
pub(super) fn read(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    check_size(path)?;
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: the mapping is read here and its tensors are copied out; a program that cuts the file in
    // those moments kills this one, as it would with any mapped file.
    let file = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    crate::files::refuse_pointer(path, &file)?;
    tensors(&file).and_then(|tensors| finite(tensors, device)).map_err(|e| e.path(path))
}

fn check_size(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path)
        .map_err(|e| Error::io(path, e).help("PEFT writes it beside adapter_config.json"))?;
    let limit = std::env::var(LIMIT_VARIABLE).ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(LIMIT);
    match metadata.len() {
        0 => Err(Error::format("the file is empty").path(path).help("fetch it again")),
        size if size > limit => Err(Error::format(format!(
            "an adapter of {} is refused: the limit is {}",
            display::bytes(size),
            display::bytes(limit)
        ))
        .path(path)
        .help(format!("if it is to be so large, set {LIMIT_VARIABLE} to a larger number of bytes"))),
        _ => Ok(()),
    }
}

/// Converts to f32 and checks that every number is finite.
fn finite(tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let one = |(name, tensor): (String, Tensor)| {
        let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
        let flat = tensor.flatten_all()?;
        let values = crate::ops::values(&flat)?;
        let values: &[f32] = &values;
        if let Some(at) = vector::first_above(values, f32::MAX) {
            return Err(Error::format(format!("number {at} of this tensor is {}", values[at]))
                .layer(&name)
                .help("the adapter has diverged, or the file is damaged: take an earlier one"));
        }
        Ok((name, tensor.to_device(device)?))
    };
    tensors.into_iter().map(one).collect()
}

fn tensors(file: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    use candle_core::safetensors::Load;
    check_header(file)?;
    let all = safetensors::SafeTensors::deserialize(file).map_err(|e| Error::format(e).help(DAMAGED))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in all.iter() {
        tensors.insert(name.to_string(), view.load(&Device::Cpu).map_err(|e| Error::from(e).layer(name))?);
    }
    Ok(tensors)
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The entries in the order of the file, so that a name that stands there twice is seen.
struct Header(Vec<(String, Option<Entry>)>);

impl<'de> serde::Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the header of a safetensors file")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let entry = match name.as_str() {
                        "__metadata__" => {
                            map.next_value::<BTreeMap<String, String>>()?;
                            None
                        }
                        _ => Some(map.next_value::<Entry>()?),
                    };
                    entries.push((name, entry));
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Checks that the header describes all bytes after it, each once.
fn check_header(file: &[u8]) -> Result<()> {
    let damaged = |what: String| Error::format(what).help(DAMAGED);
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(damaged(format!("a safetensors file of {} bytes", file.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = match usize::try_from(length) {
        Ok(length) if length <= HEADER => rest.get(..length),
        _ => None,
    };
    let Some(header) = header else {
        return Err(damaged(format!("the header claims {length} bytes, the file has {}", file.len())));
    };
    let data = (rest.len() - header.len()) as u64;
    let Header(entries) = serde_json::from_slice(header)
        .map_err(|e| damaged(format!("the header is no JSON that fits: {e}")))?;
    let mut places = BTreeMap::new();
    let mut names = std::collections::BTreeSet::new();
    for (name, entry) in &entries {
        if !names.insert(name) {
            return Err(damaged(format!("two tensors are called {:?}", display::cut(name, 80))));
        }
        let Some(entry) = entry else { continue };
        check_name(name)?;
        let width = match entry.dtype.as_str() {
            "F64" => 8,
            "F32" => 4,
            "F16" | "BF16" => 2,
            other => {
                let error =
                    format!("a tensor of type {:?}, and an adapter is of floats", display::cut(other, 20));
                return Err(Error::format(error).layer(name).help("supported: F64, F32, F16, BF16"));
            }
        };
        let [begin, end] = entry.data_offsets;
        let bytes = entry.shape.iter().try_fold(width, |all: u64, size| all.checked_mul(*size));
        if end > data || begin > end || bytes != Some(end - begin) {
            return Err(damaged(format!(
                "shape {:?} of {} at bytes {begin} to {end} of {data}",
                entry.shape, entry.dtype
            ))
            .layer(name));
        }
        if begin < end
            && let Some(other) = places.insert(begin, (end, name))
        {
            return Err(damaged(format!("its bytes are also those of {:?}", other.1)).layer(name));
        }
    }
    let mut at = 0;
    for (begin, (end, name)) in places {
        if begin < at {
            return Err(damaged(format!("it begins at byte {begin}, where another tensor is")).layer(name));
        }
        if begin > at {
            return Err(damaged(format!("{} bytes before it belong to no tensor", begin - at)).layer(name));
        }
        at = end;
    }
    match data - at {
        0 => Ok(()),
        rest => Err(damaged(format!("{rest} bytes at the end belong to no tensor"))),
    }
}
