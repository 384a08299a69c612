//! From text to token ids and back.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::Value;
use rayon::prelude::*;
use tokenizers::{
    AddedVocabulary, Model, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer,
};

use super::template::{Conversation, GenerationPrompt, Template};
use super::{Message, folder, gguf};
use crate::error::{Error, Result};

/// Special tokens that end an assistant's turn in the families that are in use; a model stops at
/// those that its vocabulary has.
const TURN_ENDS: [&str; 7] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

/// A model's tokenizer and its chat template. Cheap to clone.
///
/// # Examples
/// ```no_run
/// use lorascope::text::{Message, Tokenizer};
///
/// let tokenizer = Tokenizer::from_folder("models/smollm2")?;
/// let example = tokenizer.example(&[Message::user("3 + 5?"), Message::assistant("8")], None)?;
/// assert_eq!(example.trained_tokens(), 2); // "8" and the end of the turn
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    pub(super) core: Arc<Core>,
    template: Option<Arc<Template>>,
}

/// What the readers of files find.
pub(super) struct Parts {
    pub inner: tokenizers::Tokenizer,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub adds_bos: bool,
    pub stops: Vec<u32>,
    pub template: Option<String>,
}

pub(super) struct Core {
    inner: tokenizers::Tokenizer,
    /// The added tokens of `inner`, of which the special ones are taken for ordinary text.
    plain: AddedVocabulary,
    /// The strings that are special tokens.
    pub specials: Vec<String>,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    adds_bos: bool,
    pub stops: Vec<u32>,
}

/// A token and the bytes of the text that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub id: u32,
    pub range: Range<usize>,
}

impl Tokenizer {
    /// The tokenizer inside a GGUF file, out of the file's metadata.
    ///
    /// Byte-level BPE only (`tokenizer.ggml.model` = "gpt2"), cut into words as GPT-2, SmolLM,
    /// Llama 3 or Qwen 2 do (`tokenizer.ggml.pre`).
    ///
    /// # Errors
    /// Another kind of tokenizer, an unknown way to cut words (the error lists the known ones), a
    /// missing key, ids outside the vocabulary, merges that make no token, a template with a
    /// syntax error.
    pub fn from_gguf(metadata: &HashMap<String, Value>) -> Result<Self> {
        Self::new(gguf::read(metadata)?)
    }

    /// The tokenizer in a Hugging Face folder: `tokenizer.json`, `tokenizer_config.json`, and
    /// `chat_template.jinja` where the template is a file of its own.
    ///
    /// # Errors
    /// No `tokenizer.json`; a file that is not JSON, with its line; a template with a syntax error.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        folder::read(folder).and_then(Self::new).map_err(|error| error.path(folder))
    }

    fn new(mut parts: Parts) -> Result<Self> {
        let template = parts.template.take();
        let core = Arc::new(Core::new(parts));
        let new = Self { core, template: None };
        template.map_or(Ok(new.clone()), |source| new.with_template(&source))
    }

    /// The same tokenizer with another chat template, written in Jinja.
    ///
    /// # Errors
    /// A syntax error in the template, with its line.
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/base")?;
    /// let tokenizer = tokenizer.with_template(
    ///     "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}\
    ///      {% if add_generation_prompt %}assistant: {% endif %}",
    /// )?;
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn with_template(&self, source: &str) -> Result<Self> {
        let core = &self.core;
        let named = [("bos_token", core.bos), ("eos_token", core.eos), ("pad_token", core.pad)];
        let named =
            named.into_iter().filter_map(|(name, id)| Some((name.to_string(), core.inner.id_to_token(id?)?)));
        let template = Template::new(source, named.collect())?;
        Ok(Self { core: self.core.clone(), template: Some(Arc::new(template)) })
    }

    /// The ids of a text as Hugging Face's `tokenizer(text)` gives them: special tokens in the text
    /// are recognised, and `bos` stands in front where the model was trained so (unless the text
    /// already begins with it, as a rendered template may).
    ///
    /// # Errors
    /// The tokenizer's own, such as a text that no token fits.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = ids(self.core.tokens(text)?);
        if let Some(bos) = self.core.bos.filter(|bos| self.core.adds_bos && ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The ids of a text in which nothing is special: `<|im_end|>` is ten ordinary characters, and
    /// nothing is put in front. For what people write.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        Ok(ids(self.core.plain_tokens(text)?))
    }

    /// The text of some ids, special tokens included. Bytes that are no UTF-8, such as half a
    /// character at the end, become U+FFFD; ids outside the vocabulary are left out.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.core.inner.decode(ids, false).map_err(broken)
    }

    /// The number of tokens of each text, taken as [`encode_plain`](Self::encode_plain) does, on
    /// all processors.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn count<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<usize>> {
        texts.par_iter().map(|text| Ok(self.core.plain_tokens(text.as_ref())?.len())).collect()
    }

    /// The text of a conversation, as the model's chat template writes it. `tools` is a JSON array.
    ///
    /// # Errors
    /// No chat template; messages that the template refuses, or an error in it, with the
    /// template's line; `tools` or tool calls that are no JSON.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&str>,
        prompt: GenerationPrompt,
    ) -> Result<String> {
        let (messages, tools) = Conversation::new(messages, tools)?.values();
        self.template()?.render(&messages, &tools, prompt)
    }

    pub(super) fn template(&self) -> Result<&Template> {
        self.template.as_deref().ok_or_else(|| {
            Error::state("this tokenizer has no chat template")
                .help("give it one with Tokenizer::with_template, or train a base model on plain text")
        })
    }

    /// The number of tokens, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.core.inner.get_vocab_size(true)
    }

    /// The id of a token, by its exact name.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.core.inner.token_to_id(token)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.core.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.core.eos
    }

    /// The tokens at which generation stops: `eos`, and the ends of a turn that the model's files
    /// or its vocabulary name.
    pub fn stop_ids(&self) -> &[u32] {
        &self.core.stops
    }

    /// The tokenizer underneath, for what is not here (decoding as a stream, for example).
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.core.inner
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary_size", &self.vocabulary_size()).finish_non_exhaustive()
    }
}

impl Parts {
    /// Asks the tokenizer itself whether it puts `bos` in front.
    pub fn find_adds_bos(mut self) -> Self {
        let begins_with = |bos| match self.inner.encode("a", true) {
            Ok(encoding) => encoding.get_ids().len() > 1 && encoding.get_ids()[0] == bos,
            Err(_) => false,
        };
        self.adds_bos = self.bos.is_some_and(begins_with);
        self
    }
}

impl Core {
    fn new(parts: Parts) -> Self {
        let Parts { inner, bos, eos, pad, adds_bos, mut stops, template: _ } = parts;
        let mut plain = inner.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        let added = inner.get_added_vocabulary().get_added_tokens_decoder().values();
        let mut specials: Vec<String> = added.filter(|t| t.special).map(|t| t.content.clone()).collect();
        specials.sort_unstable();

        let special = |name: &&str| specials.iter().any(|s| s == *name);
        stops.extend(eos);
        stops
            .extend(TURN_ENDS.iter().filter(|name| special(name)).filter_map(|name| inner.token_to_id(name)));
        stops.sort_unstable();
        stops.dedup();
        Self { inner, plain, specials, bos, eos, pad, adds_bos, stops }
    }

    /// The tokens of a text, special ones recognised.
    pub fn tokens(&self, text: &str) -> Result<Vec<Token>> {
        self.tokens_after(self.inner.get_added_vocabulary(), text)
    }

    /// The tokens of a text in which nothing is special.
    pub fn plain_tokens(&self, text: &str) -> Result<Vec<Token>> {
        self.tokens_after(&self.plain, text)
    }

    /// The stages of `tokenizers`, called one by one: so that both ways to see special tokens share
    /// one vocabulary in memory, and no truncation or padding from a `tokenizer.json` comes in.
    fn tokens_after(&self, added: &AddedVocabulary, text: &str) -> Result<Vec<Token>> {
        let mut words: PreTokenizedString = added.extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut words).map_err(broken)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut words, None).map_err(broken)?;
        let encoding = words.into_encoding(None, 0, OffsetType::Byte).map_err(broken)?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens.map(|(&id, &(start, end))| Token { id, range: start..end }).collect())
    }

    /// Cuts a text at its added tokens: the bytes of each piece, and its id where it is a token.
    pub fn pieces(&self, text: &str) -> Vec<(Range<usize>, Option<u32>)> {
        let added = self.inner.get_added_vocabulary();
        let cut = added.extract_and_normalize(None::<&NormalizerWrapper>, text);
        let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let id = |tokens: &Option<Vec<tokenizers::Token>>| tokens.as_ref()?.first().map(|token| token.id);
        splits.into_iter().map(|(_, (start, end), tokens)| (start..end, id(tokens))).collect()
    }

    /// Whether a token is special, rather than a word that was added to the vocabulary.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|token| token.special)
    }
}

pub(super) fn ids(tokens: Vec<Token>) -> Vec<u32> {
    tokens.into_iter().map(|token| token.id).collect()
}

/// An error of the tokenizer library.
pub(super) fn broken(error: impl fmt::Display) -> Error {
    Error::format(format!("the tokenizer: {error}"))
}
