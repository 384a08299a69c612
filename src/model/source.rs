//! Weights on disk: a GGUF file or a Hugging Face folder, behind one way to ask for a tensor.

use super::config::{DecoderConfig, Positions};
use super::families::Part;
use super::layers::frequencies::{Frequencies, Scaling};
use super::weight::Weight;
use super::weights_as::WeightsAs;
use crate::error::{Error, Result};
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::quantized::{QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";

/// A tensor by the names that it has in the two kinds of files; errors say Hugging Face's.
pub(crate) struct Name {
    hugging_face: String,
    /// The same in a file of the model without its head.
    bare: String,
    gguf: String,
}

impl Name {
    /// A tensor (`weight` or `bias`) of a part, in a block or outside of them.
    pub(crate) fn of(config: &DecoderConfig, part: Part, layer: Option<usize>, tensor: &str) -> Self {
        let (path, gguf) = match layer {
            Some(layer) => (config.path(part, layer), format!("blk.{layer}.{}", part.gguf())),
            None => (config.family.definition().name(part).to_string(), part.gguf().to_string()),
        };
        let base = config.family.definition().base;
        let bare = path.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&path);
        Self {
            bare: format!("{bare}.{tensor}"),
            hugging_face: format!("{path}.{tensor}"),
            gguf: format!("{gguf}.{tensor}"),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hugging_face)
    }
}

/// How files store a matrix where they do not store it as it is used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    /// The number of heads where a GGUF file has rotated pairs as rows (2j, 2j + 1) for (j, j + W/2).
    pub(crate) interleaved: Option<usize>,
    /// Whether a folder has it as `[in, out]`.
    pub(crate) transposed: bool,
}

/// Named tensors of a model.
pub(crate) enum Source {
    Gguf { path: PathBuf, file: memmap2::Mmap, content: Content, weights: WeightsAs },
    Folder { path: PathBuf, files: Vec<memmap2::Mmap>, names: BTreeMap<String, usize>, weights: WeightsAs },
}

impl Source {
    /// Opens a `.gguf` file, or a folder with `config.json` and safetensors.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| {
            Error::io(path, e).help("give a .gguf file or a Hugging Face folder; `make model` fetches one")
        })?;
        if metadata.is_dir() { Self::open_folder(path) } else { Self::open_gguf(path) }
    }

    fn open_gguf(path: &Path) -> Result<Self> {
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
        Ok(Self::Gguf { path: path.to_path_buf(), file, content, weights: WeightsAs::Stored })
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let (mut files, mut names) = (Vec::new(), BTreeMap::new());
        for file_path in weight_files(path)? {
            let file = map(&file_path)?;
            let tensors = safetensors::SafeTensors::deserialize(&file).map_err(|e| {
                Error::format(e).path(&file_path).help("the file is damaged or cut off: fetch it again")
            })?;
            for name in tensors.names() {
                names.insert(name.to_string(), files.len());
            }
            files.push(file);
        }
        Ok(Self::Folder { path: path.to_path_buf(), files, names, weights: WeightsAs::Stored })
    }

    /// The same files, with every matrix in another type as it is loaded.
    pub(crate) fn loading_as(mut self, kind: WeightsAs) -> Self {
        match &mut self {
            Self::Gguf { weights, .. } | Self::Folder { weights, .. } => *weights = kind,
        }
        self
    }

    fn weights_as(&self) -> WeightsAs {
        match self {
            Self::Gguf { weights, .. } | Self::Folder { weights, .. } => *weights,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Gguf { path, .. } | Self::Folder { path, .. } => path,
        }
    }

    /// The files that a model is read from: a change in one of them makes another model.
    pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
        match path.is_dir() {
            false => Ok(vec![path.to_path_buf()]),
            true => Ok([weight_files(path)?, beside_weights(path)].concat()),
        }
    }

    /// XXH3 of the mapped weights and of what stands beside them in a folder, 128 bits in
    /// hexadecimal.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        match self {
            Self::Gguf { file, .. } => hasher.update(file),
            Self::Folder { path, files, .. } => {
                files.iter().for_each(|file| hasher.update(file));
                for path in beside_weights(path) {
                    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
                    // Name and length keep the end of one file apart from the begin of the next.
                    hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
                    hasher.update(&(bytes.len() as u64).to_le_bytes());
                    hasher.update(&bytes);
                }
            }
        }
        Ok(format!("{:032x}", hasher.digest128()))
    }

    /// A GGUF file's metadata.
    pub(crate) fn metadata(&self) -> Option<&HashMap<String, Value>> {
        match self {
            Self::Gguf { content, .. } => Some(&content.metadata),
            Self::Folder { .. } => None,
        }
    }

    pub(crate) fn config(&self) -> Result<DecoderConfig> {
        match self {
            Self::Gguf { path, content, .. } => {
                let mut config = DecoderConfig::from_gguf(&content.metadata).map_err(|e| e.path(path))?;
                // What the metadata does not say, but the tensors.
                let has = |part| self.has(&Name::of(&config, part, Some(0), "bias"));
                let (qkv, o, mlp) = (has(Part::Q), has(Part::O), has(Part::Up));
                config.qkv_bias |= qkv;
                config.o_bias |= o;
                config.mlp_bias |= mlp;
                config.tied_embeddings = !self.has(&Name::of(&config, Part::Head, None, "weight"));
                if let Some(frequencies) = self.divided(&config)? {
                    config.positions = Positions::Rotary(frequencies);
                }
                config.checked().map_err(|e| e.path(path))
            }
            Self::Folder { path, .. } => {
                let path = path.join(CONFIG);
                let text = std::fs::read_to_string(&path).map_err(|e| {
                    Error::io(&path, e).help("a Hugging Face folder has it beside the weights")
                })?;
                DecoderConfig::from_json(&text).map_err(|e| e.path(&path))
            }
        }
    }

    /// The frequencies where a GGUF file brings a divisor for each: Llama 3.1 and later.
    fn divided(&self, config: &DecoderConfig) -> Result<Option<Frequencies>> {
        const NAME: &str = "rope_freqs.weight";
        let Positions::Rotary(Frequencies { theta, scaling }) = &config.positions else { return Ok(None) };
        let plain = || NAME.to_string();
        let name = Name { hugging_face: plain(), bare: plain(), gguf: plain() };
        if !self.has(&name) {
            return Ok(None);
        }
        if *scaling != Scaling::None {
            let error = "rotary frequencies that are scaled twice, by the metadata and by a tensor";
            return Err(Error::format(error).path(self.path()).layer(name));
        }
        let divisors = self.vector(&name, config.head_width / 2, None, &Device::Cpu)?.to_vec1::<f32>()?;
        let scaling = Scaling::Divisors(divisors.into_iter().map(f64::from).collect());
        Ok(Some(Frequencies { theta: *theta, scaling }))
    }

    pub(crate) fn has(&self, name: &Name) -> bool {
        match self {
            Self::Gguf { content, .. } => content.tensor_infos.contains_key(&name.gguf),
            Self::Folder { names, .. } => {
                names.contains_key(&name.hugging_face) || names.contains_key(&name.bare)
            }
        }
    }

    /// A matrix `[out, in]`.
    pub(crate) fn weight(
        &self,
        name: &Name,
        shape: [usize; 2],
        stored: Stored,
        device: &Device,
    ) -> Result<Weight> {
        let context = |e: Error| e.path(self.path()).layer(name);
        let weight = match self {
            Self::Gguf { file, content, .. } => {
                let info = content.tensor_infos.get(&name.gguf).ok_or_else(|| context(missing()))?;
                let [rows, inner] = shape;
                let fits = info.shape.dims() == shape && inner.is_multiple_of(info.ggml_dtype.block_size());
                if !fits {
                    return Err(context(wrong_shape(info.shape.dims(), &shape)));
                }
                let bytes = tensor_bytes(file, content, info).map_err(context)?;
                let bytes = match stored.interleaved {
                    Some(heads) => Cow::Owned(halves_apart(bytes, rows, heads)),
                    None => Cow::Borrowed(bytes),
                };
                let storage =
                    QStorage::from_data(bytes, device, info.ggml_dtype).map_err(|e| context(e.into()))?;
                Weight::quantized(QTensor::new(storage, (rows, inner))?)
            }
            Self::Folder { .. } => {
                let tensor = self.dense(name, device).map_err(context)?;
                match (stored.transposed, tensor.dims()) {
                    (true, [_, _]) => Weight::dense(tensor.t()?),
                    _ => Weight::dense(tensor),
                }
            }
        }
        .map_err(context)?;
        if weight.shape() != shape {
            return Err(context(wrong_shape(&weight.shape(), &shape)));
        }
        self.weights_as().convert(weight).map_err(context)
    }

    /// A vector in f32; `interleaved` as in [`Stored`].
    pub(crate) fn vector(
        &self,
        name: &Name,
        length: usize,
        interleaved: Option<usize>,
        device: &Device,
    ) -> Result<Tensor> {
        let context = |e: Error| e.path(self.path()).layer(name);
        let vector = match self {
            Self::Gguf { file, content, .. } => {
                let info = content.tensor_infos.get(&name.gguf).ok_or_else(|| context(missing()))?;
                if info.shape.dims() != [length] {
                    return Err(context(wrong_shape(info.shape.dims(), &[length])));
                }
                let bytes = tensor_bytes(file, content, info).map_err(context)?;
                let bytes = match interleaved {
                    Some(_) if info.ggml_dtype.block_size() > 1 => {
                        let error = Error::format("a quantised bias of rotated heads is not supported");
                        return Err(context(error.help("take a file whose biases are f32")));
                    }
                    Some(heads) => Cow::Owned(halves_apart(bytes, length, heads)),
                    None => Cow::Borrowed(bytes),
                };
                QStorage::from_data(bytes, device, info.ggml_dtype)
                    .and_then(|storage| QTensor::new(storage, info.shape.clone())?.dequantize(device))
            }
            Self::Folder { .. } => self.dense(name, device).map_err(context)?.to_dtype(DType::F32),
        }
        .map_err(|e| context(e.into()))?;
        if vector.dims() != [length] {
            return Err(context(wrong_shape(vector.dims(), &[length])));
        }
        Ok(vector)
    }

    fn dense(&self, name: &Name, device: &Device) -> Result<Tensor> {
        use candle_core::safetensors::Load;
        let Self::Folder { files, names, .. } = self else { return Err(missing()) };
        let found = [&name.hugging_face, &name.bare].into_iter().find_map(|n| names.get_key_value(n));
        let (name, file) = found.ok_or_else(missing)?;
        let file = files.get(*file).ok_or_else(missing)?;
        let tensors = safetensors::SafeTensors::deserialize(file).map_err(Error::format)?;
        Ok(tensors.tensor(name).map_err(Error::format)?.load(device)?)
    }
}

fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.metadata().map_err(|e| Error::io(path, e))?.len() == 0 {
        return Err(Error::format("the file is empty").path(path).help("fetch it again"));
    }
    // SAFETY: the mapping is read while the model loads and its tensors are copied out; a program
    // that cuts the file in those moments kills this one, as it would with any mapped file.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))
}

/// What a Hugging Face folder has beside the weights: config, tokenizer and chat template.
fn beside_weights(folder: &Path) -> Vec<PathBuf> {
    let names = [CONFIG].into_iter().chain(crate::text::FILES);
    names.map(|name| folder.join(name)).filter(|path| path.exists()).collect()
}

/// The files that hold the weights of a Hugging Face folder: one, or those that an index names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    const ONE: &str = "model.safetensors";
    let index = folder.join("model.safetensors.index.json");
    if folder.join(ONE).exists() {
        return Ok(vec![folder.join(ONE)]);
    }
    if !index.exists() {
        return Err(Error::not_found(format!("no {ONE} inside"))
            .path(folder)
            .help("give a .gguf file or a Hugging Face folder with config.json and model.safetensors"));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(&index).map_err(|e| Error::io(&index, e))?;
    let Index { weight_map } =
        serde_json::from_str(&text).map_err(|e| Error::format(&e).path(&index).line(e.line() as u64))?;
    // A path could lead out of the folder.
    let is_name = |name: &&String| Path::new(name).file_name() == Some(OsStr::new(name));
    if let Some(name) = weight_map.values().find(|name| !is_name(name)) {
        return Err(Error::format(format!("weight_map names {name:?}, which is not a plain file name"))
            .path(&index)
            .help("fetch the model again, from a source that you trust"));
    }
    let files: BTreeSet<PathBuf> = weight_map.values().map(|name| folder.join(name)).collect();
    match files.iter().find(|file| !file.exists()) {
        None => Ok(files.into_iter().collect()),
        Some(file) => Err(Error::not_found("this part of the model is missing")
            .path(file)
            .help("model.safetensors.index.json names it: fetch it too")),
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

fn tensor_bytes<'a>(file: &'a [u8], content: &Content, info: &TensorInfo) -> Result<&'a [u8]> {
    file.get(range(content, info)?).ok_or_else(|| Error::format("the file ends before this tensor does"))
}

/// Puts the rows of rotated heads from GGUF's order into Hugging Face's: row j of the first half of
/// a head is row 2j there, row j of the second half is row 2j + 1.
fn halves_apart(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let half = rows / heads / 2;
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(2 * half * row) {
        for part in 0..2 {
            for j in 0..half {
                let at = (2 * j + part) * row;
                out.extend_from_slice(&head[at..at + row]);
            }
        }
    }
    out
}

fn missing() -> Error {
    Error::format("this tensor is missing").help("the file does not hold a whole model: fetch it again")
}

fn wrong_shape(found: &[usize], expected: &[usize]) -> Error {
    Error::format(format!("shape {found:?} where the model's config says {expected:?}"))
        .help("the weights and the config belong to two models, or the file is damaged: fetch both again")
}
