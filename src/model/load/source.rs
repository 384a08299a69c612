//! Weights on disk: one interface to the tensors of a GGUF file or a Hugging Face folder.

use super::folder::{CONFIG, beside_weights, weight_files};
use super::gguf::{Gguf, map};
use crate::error::{Error, Result};
use crate::model::config::{DecoderConfig, Positions};
use crate::model::layers::frequencies::{Frequencies, FrequencyScaling};
use crate::model::parts::{ModelPart, TensorName};
use crate::model::weight::Weight;
use crate::model::weight_dtype::WeightDtype;
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// How a file stores a matrix, if not in the layout that we use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    /// The number of heads, if a GGUF file stores rotated pairs as rows (2j, 2j + 1) instead of (j, j + W/2).
    pub(crate) interleaved: Option<usize>,
    /// Whether a folder stores it as `[in, out]`.
    pub(crate) transposed: bool,
}

/// Where the tensors of a model come from.
pub(super) trait Tensors {
    /// Whether there is a tensor of this name.
    fn has(&self, name: &TensorName) -> bool;

    /// A matrix `[out, in]`.
    fn weight(&self, name: &TensorName, shape: [usize; 2], stored: Stored, device: &Device)
    -> Result<Weight>;

    /// A vector in f32; `interleaved` as in [`Stored`].
    fn vector(
        &self,
        name: &TensorName,
        length: usize,
        interleaved: Option<usize>,
        device: &Device,
    ) -> Result<Tensor>;

    /// Fails where there is a bias that the model's config does not name.
    fn refuse(&self, bias: &TensorName) -> Result<()>;
}

/// Named tensors of a model.
pub(crate) enum Source {
    Gguf { gguf: Gguf, dtype: WeightDtype },
    Folder { path: PathBuf, files: Vec<memmap2::Mmap>, names: BTreeMap<String, usize>, dtype: WeightDtype },
}

impl Source {
    /// Opens a `.gguf` file (all parts, if it was split) or a folder with `config.json` and safetensors.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| {
            Error::io(path, e).help("give a .gguf file or a Hugging Face folder; `make model` fetches one")
        })?;
        match metadata.is_dir() {
            true => Self::open_folder(path),
            false => Ok(Self::Gguf { gguf: Gguf::open(path)?, dtype: WeightDtype::Stored }),
        }
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
        Ok(Self::Folder { path: path.to_path_buf(), files, names, dtype: WeightDtype::Stored })
    }

    /// Sets the dtype that matrices are converted to when they are loaded.
    pub(crate) fn with_dtype(mut self, new: WeightDtype) -> Self {
        match &mut self {
            Self::Gguf { dtype, .. } | Self::Folder { dtype, .. } => *dtype = new,
        }
        self
    }

    fn dtype(&self) -> WeightDtype {
        match self {
            Self::Gguf { dtype, .. } | Self::Folder { dtype, .. } => *dtype,
        }
    }

    /// The path of the folder, the file, or its first part.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Gguf { gguf, .. } => gguf.path(),
            Self::Folder { path, .. } => path,
        }
    }

    /// The canonical path. The path of a part keeps its file name, by which the other parts are found: it may be a
    /// link to a file with another name.
    pub(crate) fn canonical(&self) -> Result<PathBuf> {
        let path = self.path();
        let whole = |path: &Path| std::fs::canonicalize(path).map_err(|e| Error::io(path, e));
        match (self, path.file_name()) {
            (Self::Gguf { gguf, .. }, Some(name)) if gguf.is_split() => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                Ok(whole(folder.unwrap_or(Path::new(".")))?.join(name))
            }
            _ => whole(path),
        }
    }

    /// The files that the model is read from: if one changes, it is another model.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Gguf { gguf, .. } => Ok(gguf.parts().map(|part| part.path.clone()).collect()),
            Self::Folder { path, .. } => Ok([weight_files(path)?, beside_weights(path)].concat()),
        }
    }

    /// XXH3 of the mapped weights and of the other files of the folder, 128 bits in hexadecimal.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        match self {
            Self::Gguf { gguf, .. } => gguf.hash(&mut hasher)?,
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
            Self::Gguf { gguf, .. } => Some(gguf.metadata()),
            Self::Folder { .. } => None,
        }
    }

    pub(crate) fn config(&self) -> Result<DecoderConfig> {
        match self {
            Self::Gguf { gguf, .. } => {
                let path = gguf.path();
                let mut config = DecoderConfig::from_gguf(gguf.metadata()).map_err(|e| e.path(path))?;
                // What the metadata does not say, but the tensors.
                let has = |part| self.has(&TensorName::of(&config, part, Some(0), "bias"));
                let (qkv, o, mlp) = (has(ModelPart::Q), has(ModelPart::O), has(ModelPart::Up));
                config.qkv_bias |= qkv;
                config.o_bias |= o;
                config.mlp_bias |= mlp;
                config.tied_embeddings = !self.has(&TensorName::of(&config, ModelPart::Head, None, "weight"));
                if let Some(frequencies) = self.divided(&config)? {
                    config.positions = Positions::Rotary(frequencies);
                }
                config.validated().map_err(|e| e.path(path))
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

    /// The frequencies of a GGUF file that has a divisor for each: Llama 3.1 and later.
    fn divided(&self, config: &DecoderConfig) -> Result<Option<Frequencies>> {
        const NAME: &str = "rope_freqs.weight";
        let Positions::Rotary(Frequencies { theta, scaling }) = &config.positions else { return Ok(None) };
        let plain = || NAME.to_string();
        let name = TensorName { hugging_face: plain(), bare: plain(), gguf: plain() };
        if !self.has(&name) {
            return Ok(None);
        }
        if *scaling != FrequencyScaling::None {
            let error = "rotary frequencies that are scaled twice, by the metadata and by a tensor";
            return Err(Error::format(error).path(self.path()).layer(name));
        }
        let divisors = self.vector(&name, config.head_width / 2, None, &Device::Cpu)?.to_vec1::<f32>()?;
        let scaling = FrequencyScaling::Divisors(divisors.into_iter().map(f64::from).collect());
        Ok(Some(Frequencies { theta: *theta, scaling }))
    }

    /// The file of a tensor, if the model has several.
    fn path_of(&self, name: &TensorName) -> &Path {
        match self {
            Self::Gguf { gguf, .. } => gguf.tensor(&name.gguf).map_or(gguf.path(), |(part, _)| &part.path),
            Self::Folder { path, .. } => path,
        }
    }

    fn dense(&self, name: &TensorName, device: &Device) -> Result<Tensor> {
        use candle_core::safetensors::Load;
        let Self::Folder { files, names, .. } = self else { return Err(missing()) };
        let found = [&name.hugging_face, &name.bare].into_iter().find_map(|n| names.get_key_value(n));
        let (name, file) = found.ok_or_else(missing)?;
        let file = files.get(*file).ok_or_else(missing)?;
        let tensors = safetensors::SafeTensors::deserialize(file).map_err(Error::format)?;
        Ok(tensors.tensor(name).map_err(Error::format)?.load(device)?)
    }
}

impl Tensors for Source {
    fn has(&self, name: &TensorName) -> bool {
        match self {
            Self::Gguf { gguf, .. } => gguf.tensor(&name.gguf).is_some(),
            Self::Folder { names, .. } => {
                names.contains_key(&name.hugging_face) || names.contains_key(&name.bare)
            }
        }
    }

    fn weight(
        &self,
        name: &TensorName,
        shape: [usize; 2],
        stored: Stored,
        device: &Device,
    ) -> Result<Weight> {
        let context = |e: Error| e.path(self.path_of(name)).layer(name);
        let weight = match self {
            Self::Gguf { gguf, .. } => {
                let (part, info) = gguf.tensor(&name.gguf).ok_or_else(|| context(missing()))?;
                let [rows, inner] = shape;
                let fits = info.shape.dims() == shape && inner.is_multiple_of(info.ggml_dtype.block_size());
                if !fits {
                    return Err(context(wrong_shape(info.shape.dims(), &shape)));
                }
                let bytes = part.bytes(info).map_err(context)?;
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
        self.dtype().convert(weight).map_err(context)
    }

    fn vector(
        &self,
        name: &TensorName,
        length: usize,
        interleaved: Option<usize>,
        device: &Device,
    ) -> Result<Tensor> {
        let context = |e: Error| e.path(self.path_of(name)).layer(name);
        let vector = match self {
            Self::Gguf { gguf, .. } => {
                let (part, info) = gguf.tensor(&name.gguf).ok_or_else(|| context(missing()))?;
                if info.shape.dims() != [length] {
                    return Err(context(wrong_shape(info.shape.dims(), &[length])));
                }
                let bytes = part.bytes(info).map_err(context)?;
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

    fn refuse(&self, bias: &TensorName) -> Result<()> {
        if !self.has(bias) {
            return Ok(());
        }
        let help = match self {
            Self::Gguf { .. } => "the layers beside it have none: the file is damaged, fetch it again",
            Self::Folder { .. } => "set attention_bias or mlp_bias in config.json if it belongs to the model",
        };
        let error = Error::format("a bias that is not in the model's config");
        Err(error.path(self.path()).layer(bias).help(help))
    }
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
