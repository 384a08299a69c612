//! The `Model` handle: frozen weights with their tokenizer, opened once per process.

use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::generate::GenerateConfig;
use super::load::{OpenOptions, Source};
use super::streaming::{Generated, generate_with};
use super::weight_dtype::WeightDtype;
use crate::dataset::Dataset;
use crate::display::{self, Align, Bundle, Live, Progress, Show, Table, Text, in_kernel};
use crate::error::{Error, Result};
use crate::image;
use crate::lora::Adapters;
use crate::text::{Message, Tokenizer};
use candle_core::{Device, DeviceLocation};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

/// A language model: frozen weights, tokenizer and chat template.
///
/// Cheap to clone; opening a file that is open already gives the loaded model. Nothing changes it:
/// what is trained lives in [`Adapters`].
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    path: PathBuf,
    stamp: Vec<Stamp>,
    device: DeviceLocation,
    weights: WeightDtype,
    decoder: Decoder,
    tokenizer: Tokenizer,
    fingerprint: String,
    /// The model before adapters were merged into it, if this is a merged model.
    base: Option<Model>,
}

/// Identifies a version of a file without reading it.
#[derive(Debug, PartialEq)]
struct Stamp {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(path: PathBuf) -> Result<Self> {
        let path = std::fs::canonicalize(&path).map_err(|e| Error::io(&path, e))?;
        let metadata = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Self { path, length: metadata.len(), modified: metadata.modified().ok() })
    }
}

static OPEN: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl Model {
    /// Opens a `.gguf` file or a Hugging Face folder on the CPU. For a model that is split into
    /// `NAME-00001-of-00002.gguf` and so on, give any part: the others are found in the same folder.
    ///
    /// # Errors
    /// When it is missing, damaged, of an unknown architecture, or without a tokenizer.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens a model with its weights on a device.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the device has no room.
    pub fn open_on(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::open_with(path, &OpenOptions { device: device.clone(), ..Default::default() })
    }

    /// Opens a model with options: another dtype for the weights, another device.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when a weight is too large for its new dtype.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        image::check()?;
        let (weights, device) = (options.weights, &options.device);
        let source = Source::open(path.as_ref())?.with_dtype(weights);
        let path = source.canonical()?;
        let stamp = source.files()?.into_iter().map(Stamp::of).collect::<Result<Vec<_>>>()?;
        let same = |m: &Arc<Inner>| {
            m.path == path && m.stamp == stamp && m.device == device.location() && m.weights == weights
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|model| model.strong_count() > 0);
        let loaded = open.iter().filter_map(Weak::upgrade).find(same);
        if let Some(inner) = loaded {
            return Ok(Self(inner));
        }
        let tokenizer = source_tokenizer(&source)?;
        let decoder = Decoder::load(&source, device)?;
        if tokenizer.vocabulary_size() > decoder.config().vocabulary {
            return Err(Error::format(format!(
                "the tokenizer has {} tokens, the model {}",
                tokenizer.vocabulary_size(),
                decoder.config().vocabulary
            ))
            .path(&path)
            .help("take the tokenizer that belongs to these weights"));
        }
        let (device, fingerprint) = (device.location(), weights.mark(source.fingerprint()?));
        let inner =
            Arc::new(Inner { path, stamp, device, weights, decoder, tokenizer, fingerprint, base: None });
        open.push(Arc::downgrade(&inner));
        Ok(Self(inner))
    }

    /// Opens a model of the Hugging Face hub, fetched into the hub's cache where it is not there yet:
    /// `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to the hub's own
    /// client.
    ///
    /// # Errors
    /// As [`hub_model`](crate::hub::hub_model) and [`open`](Self::open).
    ///
    /// # Examples
    /// ```no_run
    /// let model = lorascope::model::Model::hub("HuggingFaceTB/SmolLM2-135M-Instruct")?;
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    #[cfg(feature = "hub")]
    pub fn hub(id: &str) -> Result<Self> {
        Self::open(crate::hub::hub_model(id, &Default::default())?)
    }

    /// This model with other weights of the same shapes.
    pub(super) fn with_decoder(&self, decoder: Decoder) -> Self {
        let old = &self.0;
        Self(Arc::new(Inner {
            path: old.path.clone(),
            stamp: Vec::new(),
            device: old.device,
            weights: old.weights,
            decoder,
            tokenizer: old.tokenizer.clone(),
            fingerprint: format!("{}-merged", old.fingerprint),
            base: Some(self.unmerged()),
        }))
    }

    /// This model at another time, in seconds since 1970: a chat template that writes the date uses this time
    /// ([`Tokenizer::at_time`]).
    ///
    /// # Errors
    /// None where the model could be opened.
    pub fn at_time(&self, seconds: i64) -> Result<Self> {
        let old = &self.0;
        Ok(Self(Arc::new(Inner {
            path: old.path.clone(),
            stamp: Vec::new(),
            device: old.device,
            weights: old.weights,
            decoder: old.decoder.clone(),
            tokenizer: old.tokenizer.at_time(seconds)?,
            fingerprint: old.fingerprint.clone(),
            base: old.base.clone(),
        })))
    }

    /// This model with the same weights on other devices.
    pub(crate) fn placed(&self, decoder: Decoder) -> Self {
        let old = &self.0;
        Self(Arc::new(Inner {
            path: old.path.clone(),
            stamp: Vec::new(),
            device: decoder.device().location(),
            weights: old.weights,
            decoder,
            tokenizer: old.tokenizer.clone(),
            fingerprint: old.fingerprint.clone(),
            base: old.base.clone(),
        }))
    }

    /// The dtype that its weights were loaded in.
    pub fn weights(&self) -> WeightDtype {
        self.0.weights
    }

    /// Whether adapters were [merged](Self::merged) into this model.
    pub fn is_merged(&self) -> bool {
        self.0.base.is_some()
    }

    /// The model before adapters were [merged](Self::merged) into it.
    #[must_use]
    pub fn unmerged(&self) -> Self {
        self.0.base.clone().unwrap_or_else(|| self.clone())
    }

    /// The name of the file or folder.
    pub fn name(&self) -> String {
        self.0.path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// The absolute path of the file or folder.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Its sizes.
    pub fn config(&self) -> &DecoderConfig {
        self.0.decoder.config()
    }

    /// Its weights and layers.
    pub fn decoder(&self) -> &Decoder {
        &self.0.decoder
    }

    /// Its tokenizer and chat template.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// XXH3 of the files that the model was opened from (weights, and in a folder config, tokenizer
    /// and chat template), 128 bits in hexadecimal: tells whether a saved run still has the model
    /// that it was trained with. If the weights were converted at [opening](Self::open_with), the dtype follows
    /// after a hyphen.
    ///
    /// # Errors
    /// None today: the files are hashed when the model is opened.
    pub fn fingerprint(&self) -> Result<String> {
        Ok(self.0.fingerprint.clone())
    }

    /// Reads an adapter for this model from a PEFT folder, a kohya file or an mlx folder.
    ///
    /// # Errors
    /// As [`Adapters::open_for`].
    pub fn adapters(&self, path: impl AsRef<Path>) -> Result<Adapters> {
        let adapters = Adapters::open_for(path, &self.decoder().targets(), self.decoder().device())?;
        self.decoder().check(&adapters).map(|()| adapters)
    }

    /// Answers one question through the chat template, with greedy decoding.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn ask(&self, question: &str) -> Result<Text> {
        self.chat(&[Message::user(question)], &GenerateConfig::default())
    }

    /// Answers a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, the config is invalid, or the conversation is
    /// longer than the model's context.
    pub fn chat(&self, messages: &[Message], config: &GenerateConfig) -> Result<Text> {
        self.chat_with(&Adapters::default(), messages, config)
    }

    /// Answers a conversation with these adapters.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn chat_with(
        &self,
        adapters: &Adapters,
        messages: &[Message],
        config: &GenerateConfig,
    ) -> Result<Text> {
        with_progress(|on_text| self.chat_each(adapters, messages, config, on_text))
    }

    /// Like [`chat_with`](Self::chat_with), but passes each piece of the answer to `on_text` as soon as
    /// its characters are whole; `on_text` returns false to stop, and so does the notebook's stop button.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn chat_each(
        &self,
        adapters: &Adapters,
        messages: &[Message],
        config: &GenerateConfig,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated> {
        self.decoder().check(adapters)?;
        let ids = self.tokenizer().prompt(messages, None)?;
        generate_with(self.decoder(), adapters, self.tokenizer(), &ids, config, on_text)
    }

    /// Like [`chat_with`](Self::chat_with), but shows the answer while it is generated: in the lorascope kernel
    /// token by token, in the stock kernel whole lines, about once a second.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn chat_live(
        &self,
        adapters: &Adapters,
        messages: &[Message],
        config: &GenerateConfig,
    ) -> Result<Generated> {
        let mut live = Live::new();
        let made = self.chat_each(adapters, messages, config, &mut |piece| {
            live.push(piece);
            true
        })?;
        made.whole()
    }

    /// Continues a text without a chat template.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn complete(&self, text: &str, config: &GenerateConfig) -> Result<Text> {
        self.complete_with(&Adapters::default(), text, config)
    }

    /// Continues a text with these adapters, without a chat template.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn complete_with(&self, adapters: &Adapters, text: &str, config: &GenerateConfig) -> Result<Text> {
        self.decoder().check(adapters)?;
        let tokenizer = self.tokenizer();
        let ids = tokenizer.encode(text)?;
        with_progress(|on_text| generate_with(self.decoder(), adapters, tokenizer, &ids, config, on_text))
    }
}

/// Generates; in the lorascope kernel beneath a line with the end of the text so far.
fn with_progress(generate: impl FnOnce(&mut dyn FnMut(&str) -> bool) -> Result<Generated>) -> Result<Text> {
    const SHOWN: usize = 60;
    // Nobody knows how many pieces there will be.
    let mut progress = in_kernel().then(|| Progress::new("generating: pieces", 0));
    let mut text = String::new();
    let made = generate(&mut |piece| {
        if let Some(progress) = &mut progress {
            text.push_str(piece);
            let from = text.char_indices().nth_back(SHOWN).map_or(0, |(at, _)| at);
            progress.advance(1, &text[from..]);
        }
        true
    })?;
    Ok(Text::new(made.whole()?.text))
}

impl Dataset {
    /// The same rows with the tokenizer and chat template of a model: the report, the columns `tokens` and
    /// `answer_tokens`, and [`row`](Self::row) then count tokens.
    pub fn for_model(&self, model: &Model) -> Self {
        self.for_tokenizer(model.tokenizer())
    }
}

/// The tokenizer of a `.gguf` file or a Hugging Face folder, without its weights.
///
/// # Errors
/// When there is none, or it is damaged or of an unknown kind.
pub fn tokenizer_of(path: impl AsRef<Path>) -> Result<Tokenizer> {
    let path = path.as_ref();
    if path.is_dir() { Tokenizer::from_folder(path) } else { source_tokenizer(&Source::open(path)?) }
}

fn source_tokenizer(source: &Source) -> Result<Tokenizer> {
    match source.metadata() {
        Some(metadata) => Tokenizer::from_gguf(metadata).map_err(|e| e.path(source.path())),
        None => Tokenizer::from_folder(source.path()),
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({})", self.0.path.display())
    }
}

impl Show for Model {
    fn show(&self) -> Bundle {
        let c = self.config();
        let weights: usize = self.decoder().parameters();
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]).caption(self.name());
        table.row(["parameters".to_string(), format!("{:.1} million", weights as f64 / 1e6)]);
        table.row([
            "in memory".to_string(),
            format!(
                "{}, {}",
                display::bytes(self.decoder().bytes() as u64),
                self.decoder().describe_dtypes(self.0.weights)
            ),
        ]);
        table.row([
            "blocks".to_string(),
            format!("{} of width {}, feed-forward {}", c.layers, c.width, c.intermediate),
        ]);
        table.row([
            "attention".to_string(),
            format!("{} heads of {}, {} for keys and values", c.heads, c.head_width, c.kv_heads),
        ]);
        table.row(["vocabulary".to_string(), display::thousands(c.vocabulary as u64)]);
        table.row(["context".to_string(), format!("{} tokens", display::thousands(c.context as u64))]);
        table.row(["file".to_string(), self.0.path.display().to_string()]);
        table.show()
    }
}
