//! A model as a Hugging Face folder: config, tokenizer, and weights in shards.

use super::config::DecoderConfig;
use super::config_json::config_json;
use super::decoder::Decoder;
use super::frozen::Frozen;
use super::model::Model;
use super::rounding::{ExportType, Kept, kept, note};
use super::weight::Weight;
use crate::display::{self, Align, Bundle, Show, Table, advice, check_stop};
use crate::error::{Error, Result};
use crate::files::folder_beside;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const ONE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What belongs to a model beside its weights and what our tokenizer reads.
const FURTHER: [&str; 5] =
    ["special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "preprocessor_config.json"];
/// Numbers that are converted at a time; only what GPT-2's files have turned is expanded as a whole.
const PIECE: usize = 1 << 20;

/// How a model is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportOptions {
    /// The type of the numbers.
    pub dtype: ExportType,
    /// Bytes of tensors in one file at most; a larger tensor has a file of its own.
    pub shard_bytes: u64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { dtype: ExportType::Bf16, shard_bytes: 5_000_000_000 }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// The files with weights, in their order.
    pub shards: Vec<String>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What is to be known about it, such as blocks that were expanded.
    pub notes: Vec<String>,
    /// Of each weight that an adapter was merged into, what rounding to 16 bits left of its change;
    /// empty in 32 bits.
    pub kept: Vec<Kept>,
}

impl Exported {
    /// The share of the merged change that all weights together keep, 0 to 1; 1 where nothing was rounded.
    pub fn share_kept(&self) -> f64 {
        Kept::share_of(&self.kept).unwrap_or(1.0)
    }
}

impl Model {
    /// Writes the model as it is into a new folder that transformers, vLLM and [`Model::open`] read.
    ///
    /// # Errors
    /// When the folder exists or cannot be written, and when a weight does not fit the type.
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::model::{ExportOptions, Model};
    ///
    /// let model = Model::open("models/smollm2-135m.gguf")?;
    /// model.export("models/smollm2-hf", &ExportOptions::default())?
    /// # ; Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn export(&self, folder: impl AsRef<Path>, options: &ExportOptions) -> Result<Exported> {
        self.export_as(self.decoder(), folder, options)
    }

    /// Like [`export`](Self::export), with the weights of another decoder of the same shape, such as one
    /// that adapters were merged into; config and tokenizer are this model's.
    ///
    /// The folder appears whole or not at all, and the same weights give the same bytes. No more than
    /// one matrix is expanded at a time.
    ///
    /// # Errors
    /// As [`export`](Self::export), and when the decoder has other sizes than this model.
    pub fn export_as(
        &self,
        decoder: &Decoder,
        folder: impl AsRef<Path>,
        options: &ExportOptions,
    ) -> Result<Exported> {
        let DecoderConfig { tied_embeddings, max_norm, .. } = *self.config(); // merging may end both
        let same = DecoderConfig { tied_embeddings, max_norm, ..decoder.config().clone() };
        if same != *self.config() {
            return Err(Error::input("these weights have other sizes than this model")
                .help("export them with the model that they were made from"));
        }
        export(decoder, Beside::Model(self), folder.as_ref(), options)
    }
}

impl Decoder {
    /// Writes the weights and a config, without a tokenizer, into a new folder.
    ///
    /// # Errors
    /// As [`Model::export`].
    pub fn export(&self, folder: impl AsRef<Path>, options: &ExportOptions) -> Result<Exported> {
        export(self, Beside::Nothing, folder.as_ref(), options)
    }
}

/// Where config and tokenizer come from.
enum Beside<'a> {
    Model(&'a Model),
    Nothing,
}

fn export(decoder: &Decoder, beside: Beside, folder: &Path, options: &ExportOptions) -> Result<Exported> {
    if folder.exists() {
        return Err(Error::input("the folder exists already").path(folder).help("choose another name"));
    }
    if options.shard_bytes == 0 {
        return Err(Error::input("shards of 0 bytes").help("5 GB are usual: 5_000_000_000"));
    }
    let new = folder_beside(folder)?;
    let asked = |e: Error| e.moved(new.path(), folder);
    let mut notes = write_beside(decoder, &beside, new.path(), options).map_err(asked)?;
    let (shards, bytes) = write_weights(decoder, new.path(), options).map_err(asked)?;
    let kept = match &beside {
        Beside::Model(model) => kept(model.unmerged().decoder(), decoder, options.dtype)?,
        Beside::Nothing => Vec::new(),
    };
    notes.extend(note(&kept, options.dtype.called()));
    let blocks = decoder.tensors().iter().filter(|(_, part)| is_blocks(part)).count();
    if blocks > 0 {
        notes.push(format!(
            "{blocks} matrices were in blocks ({}): the folder has the dequantised numbers, not those from before \
             quantisation",
            decoder.weight_types()
        ));
    }
    std::fs::rename(new.path(), folder).map_err(|e| Error::io(folder, e))?;
    let _ = new.keep(); // it has moved: there is nothing left to remove
    Ok(Exported { folder: folder.to_path_buf(), shards, bytes, notes, kept })
}

fn is_blocks(part: &Frozen) -> bool {
    matches!(part, Frozen::Matrix(weight) | Frozen::Turned(weight) if weight.type_name().starts_with('Q'))
}

/// Config, tokenizer, template; what is to be said about them.
fn write_beside(
    decoder: &Decoder,
    beside: &Beside,
    folder: &Path,
    options: &ExportOptions,
) -> Result<Vec<String>> {
    let tied = decoder.is_tied();
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text)).map_err(|e| Error::io(&path, e))
    };
    let mut config = match beside {
        Beside::Model(model) if model.path().is_dir() => Map::new(),
        _ => config_json(decoder.config(), options.dtype.names().1)?,
    };
    let mut notes = Vec::new();
    match beside {
        Beside::Nothing => notes.push("there is no tokenizer in the folder".to_string()),
        Beside::Model(model) if model.path().is_dir() => {
            let path = model.path().join(CONFIG);
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
            config = serde_json::from_str(&text).map_err(|e| Error::format(e).path(&path))?;
            for name in crate::text::FILES.into_iter().chain(FURTHER) {
                let (from, to) = (model.path().join(name), folder.join(name));
                if from.is_file() {
                    to.parent()
                        .map_or(Ok(()), std::fs::create_dir_all)
                        .and_then(|()| std::fs::copy(&from, &to))
                        .map_err(|e| Error::io(&from, e))?;
                }
            }
        }
        Beside::Model(model) => {
            let tokenizer = model.tokenizer();
            for (name, id) in [("bos_token_id", tokenizer.bos()), ("eos_token_id", tokenizer.eos())] {
                if let Some(id) = id {
                    config.insert(name.to_string(), json!(id));
                }
            }
            for (name, text) in tokenizer.files(decoder.config().context)? {
                put(name, &text)?;
            }
            notes.push("config and tokenizer were made from those of the GGUF file".to_string());
        }
    }
    if let Beside::Model(model) = beside {
        let stops = stops(&config, model.tokenizer().stop_ids());
        put_stops(folder, &mut config, stops)?;
    }
    // What the files now hold, whatever the model's own config said about its files.
    config.insert("tie_word_embeddings".to_string(), Json::Bool(tied));
    config.shift_remove("quantization_config");
    match decoder.config().max_norm {
        Some(max_norm) => config.insert("max_norm".to_string(), json!(max_norm)),
        None => config.shift_remove("max_norm"),
    };
    let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    config.insert(key.to_string(), json!(options.dtype.names().1));
    put(CONFIG, &(serde_json::to_string_pretty(&config).map_err(Error::compute)? + "\n"))?;
    Ok(notes)
}

/// The tokens at which the model stops, those of its own config first: servers know no others, and a model
/// that was taught a chat template ends its turns with another token than its base.
fn stops(config: &Map<String, Json>, ours: &[u32]) -> Vec<u32> {
    let id = |x: &Json| x.as_u64().and_then(|x| u32::try_from(x).ok());
    let mut all: Vec<u32> = match config.get("eos_token_id") {
        Some(Json::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    };
    all.extend(ours);
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|id| seen.insert(*id));
    all
}

/// Writes them into both configs, that of the model and that of generation.
fn put_stops(folder: &Path, config: &mut Map<String, Json>, stops: Vec<u32>) -> Result<()> {
    let value = match stops.as_slice() {
        [] => return Ok(()),
        [one] => json!(one),
        all => json!(all),
    };
    let path = folder.join(GENERATION);
    let mut generation: Map<String, Json> = match path.is_file() {
        true => {
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
            serde_json::from_str(&text).map_err(|e| Error::format(e).path(&path))?
        }
        false => Map::new(),
    };
    config.insert("eos_token_id".to_string(), value.clone());
    generation.insert("eos_token_id".to_string(), value);
    let text = serde_json::to_string_pretty(&generation).map_err(Error::compute)? + "\n";
    std::fs::write(&path, text).map_err(|e| Error::io(&path, e))
}

fn count(part: &Frozen) -> (Vec<usize>, u64) {
    let shape = match part {
        Frozen::Matrix(weight) => weight.shape().to_vec(),
        Frozen::Turned(weight) => weight.shape().into_iter().rev().collect(),
        Frozen::Vector(vector) => vector.dims().to_vec(),
    };
    let count = shape.iter().map(|size| *size as u64).product();
    (shape, count)
}

/// The names of the files, and the bytes of all tensors.
fn write_weights(decoder: &Decoder, folder: &Path, options: &ExportOptions) -> Result<(Vec<String>, u64)> {
    let width = options.dtype.dtype().size_in_bytes() as u64;
    let mut shards: Vec<Vec<(String, Frozen)>> = Vec::new();
    let (mut full, mut total) = (u64::MAX, 0);
    for (name, part) in decoder.tensors() {
        let bytes = count(&part).1 * width;
        if full.saturating_add(bytes) > options.shard_bytes {
            shards.push(Vec::new());
            full = 0;
        }
        full += bytes;
        total += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push((name, part));
        }
    }
    let named = |number: usize| match shards.len() {
        1 => ONE.to_string(),
        all => format!("model-{:05}-of-{all:05}.safetensors", number + 1),
    };
    let mut map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let path = folder.join(named(number));
        write_shard(&path, shard, options.dtype)?;
        map.extend(shard.iter().map(|(name, _)| (name.clone(), json!(named(number)))));
    }
    if shards.len() > 1 {
        map.sort_keys();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        let path = folder.join(INDEX);
        let text = serde_json::to_string_pretty(&index).map_err(Error::compute)? + "\n";
        std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
    }
    Ok(((0..shards.len()).map(named).collect(), total))
}

/// A safetensors file: the length of the header in eight bytes, the header, the numbers.
fn write_shard(path: &Path, shard: &[(String, Frozen)], dtype: ExportType) -> Result<()> {
    let width = dtype.dtype().size_in_bytes() as u64;
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({ "format": "pt" }))]);
    let mut at = 0;
    for (name, part) in shard {
        let (shape, count) = count(part);
        let end = at + count * width;
        header.insert(
            name.clone(),
            json!({ "dtype": dtype.names().0, "shape": shape, "data_offsets": [at, end] }),
        );
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(Error::compute)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let io = |e| Error::io(path, e);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&header).map_err(io)?;
    for (name, part) in shard {
        check_stop()?;
        match part {
            Frozen::Vector(vector) => write_numbers(&mut file, vector, dtype),
            Frozen::Matrix(weight) => write_matrix(&mut file, weight, dtype),
            Frozen::Turned(weight) => write_numbers(&mut file, &weight.expand()?.t()?.contiguous()?, dtype),
        }
        .map_err(|e| e.path(path).layer(name))?;
    }
    file.flush().map_err(io)
}

fn write_matrix(file: &mut BufWriter<File>, weight: &Weight, dtype: ExportType) -> Result<()> {
    let [out, inner] = weight.shape();
    let rows: Vec<u32> = (0..out as u32).collect();
    rows.chunks((PIECE / inner).max(1)).try_for_each(|rows| write_numbers(file, &weight.rows(rows)?, dtype))
}

fn write_numbers(file: &mut BufWriter<File>, tensor: &Tensor, dtype: ExportType) -> Result<()> {
    let flat = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.contiguous()?;
    let values = flat.to_vec1::<f32>()?;
    let fits = |x: f32| match dtype {
        ExportType::F32 => x.is_finite(),
        ExportType::Bf16 => half::bf16::from_f32(x).is_finite(),
        ExportType::F16 => half::f16::from_f32(x).is_finite(),
    };
    match values.iter().find(|x| !fits(**x)) {
        Some(x) if !x.is_finite() => {
            return Err(Error::compute(format!("a weight is {x}"))
                .help("look at the adapter that was merged, or at the model itself: nothing was written"));
        }
        Some(x) => {
            let other = match dtype {
                ExportType::F16 => {
                    advice("write it as ExportType::Bf16 or ExportType::F32", "say --dtype bf16 or f32")
                }
                _ => advice("write it as ExportType::F32", "say --dtype f32"),
            };
            return Err(
                Error::compute(format!("a weight is {x}, which {} cannot hold", dtype.called())).help(other)
            );
        }
        None => {}
    }
    let flat = flat.to_dtype(dtype.dtype())?;
    let (storage, _) = flat.storage_and_layout();
    let bytes: Vec<u8> = match &*storage {
        Storage::Cpu(CpuStorage::F32(all)) => all.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Storage::Cpu(CpuStorage::BF16(all)) => all.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Storage::Cpu(CpuStorage::F16(all)) => all.iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => return Err(Error::compute("the numbers have no known type")),
    };
    file.write_all(&bytes).map_err(Error::compute)
}

impl Show for Exported {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption("exported");
        table.row(["folder".to_string(), self.folder.display().to_string()]);
        table.row([
            "weights".to_string(),
            format!("{} in {} file(s)", display::bytes(self.bytes), self.shards.len()),
        ]);
        for note in &self.notes {
            table.row(["note".to_string(), note.clone()]);
        }
        table.show()
    }
}
