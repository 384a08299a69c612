//! The `Tokenizer`: encodes and decodes text, and renders conversations.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::Value;
use rayon::prelude::*;

use super::conversation::Conversation;
use super::library_error::broken;
use super::pipeline::{Parts, Pipeline};
use super::template::{GenerationPrompt, TemplateContext, TemplateSources};
use super::templates::{ChatTemplate, Templates};
use super::word_cache::Special;
use super::{Message, NamedTemplate, folder_reader, gguf};
use crate::error::{Error, Result};

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
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) templates: Option<Arc<Templates>>,
}

impl Tokenizer {
    /// Reads the tokenizer from the metadata of a GGUF file.
    ///
    /// Byte-level BPE (`tokenizer.ggml.model` = "gpt2"), cut into words as GPT-2, SmolLM, Llama 3 or
    /// Qwen 2 do (`tokenizer.ggml.pre`), and the BPE of SentencePiece ("llama").
    ///
    /// # Errors
    /// Another kind of tokenizer, an unknown way to cut words (the error lists the known ones), a
    /// missing key, ids outside the vocabulary, merges that make no token, a template with a
    /// syntax error.
    pub fn from_gguf(metadata: &HashMap<String, Value>) -> Result<Self> {
        Self::new(gguf::read(metadata)?)
    }

    /// Reads the tokenizer of a Hugging Face folder: `tokenizer.json`, or else SentencePiece's
    /// `tokenizer.model`; the special tokens from `tokenizer_config.json`.
    ///
    /// The chat template is the first of `chat_template.jinja`, `chat_template.json` and the one in
    /// `tokenizer_config.json`. Where there is another one named `tool_use` (in the list of
    /// `tokenizer_config.json`, or in `additional_chat_templates/`), conversations with tools take it.
    ///
    /// # Errors
    /// No tokenizer; a file that is not JSON, with its line; a SentencePiece model that is broken, of
    /// another kind than Unigram or BPE, or too large; a template with a syntax error.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        folder_reader::read(folder).and_then(Self::new).map_err(|error| error.path(folder))
    }

    fn new(mut parts: Parts) -> Result<Self> {
        let sources = std::mem::take(&mut parts.templates);
        let new = Self { pipeline: Arc::new(Pipeline::new(parts)), templates: None };
        if sources.default.is_none() && sources.tool_use.is_none() {
            return Ok(new);
        }
        new.with_templates(sources, Vec::new())
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
        let sources = TemplateSources { default: Some(source.to_string()), tool_use: None };
        self.with_templates(sources, Vec::new())
    }

    /// The same tokenizer with a built-in chat template, for a model that has none.
    ///
    /// # Errors
    /// A vocabulary without the special tokens that the template is made of.
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/base")?;
    /// use lorascope::text::{GenerationPrompt, Message, NamedTemplate};
    ///
    /// let tokenizer = tokenizer.with_named_template(NamedTemplate::Alpaca)?;
    /// let text = tokenizer.render(&[Message::user("3 + 5?")], None, GenerationPrompt::Add)?;
    /// assert_eq!(text, "### Instruction:\n3 + 5?\n\n### Response:\n");
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn with_named_template(&self, template: NamedTemplate) -> Result<Self> {
        template.check(&self.pipeline)?;
        let (pipeline, tokens) = match template.token_ids() {
            None => (self.pipeline.clone(), Vec::new()),
            Some(ids) => {
                let (pipeline, names) = self.pipeline.with_specials(ids)?;
                let [user, assistant] = names;
                (Arc::new(pipeline), vec![("user_token", user), ("assistant_token", assistant)])
            }
        };
        let sources = TemplateSources { default: Some(template.source()), tool_use: None };
        Self { pipeline, templates: None }.with_templates(sources, tokens)
    }

    fn with_templates(
        &self,
        sources: TemplateSources,
        mut tokens: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let named = self.pipeline.named;
        let named = [
            ("bos_token", named.bos),
            ("eos_token", named.eos),
            ("pad_token", named.pad),
            ("unk_token", named.unk),
        ];
        let name = |id: Option<u32>| self.pipeline.inner.id_to_token(id?);
        tokens.extend(named.into_iter().filter_map(|(role, id)| Some((role, name(id)?))));
        let templates = Templates::new(sources, TemplateContext { tokens, now: None })?;
        Ok(Self { pipeline: self.pipeline.clone(), templates: Some(Arc::new(templates)) })
    }

    /// The same tokenizer at a fixed time, in seconds since 1970: a template that writes the current
    /// date (`strftime_now`, here in UTC) then gives the same tokens tomorrow.
    ///
    /// # Errors
    /// None where the tokenizer could be made.
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/llama-3.2")?;
    /// let tokenizer = tokenizer.at_time(1_721_952_000)?; // 26 Jul 2024
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn at_time(&self, seconds: i64) -> Result<Self> {
        let templates = self.templates.as_ref().map(|templates| templates.at_time(seconds)).transpose()?;
        Ok(Self { pipeline: self.pipeline.clone(), templates: templates.map(Arc::new) })
    }

    /// The time that templates are rendered at, in seconds since 1970; `None` is the clock's.
    pub(crate) fn time(&self) -> Option<i64> {
        self.templates.as_ref()?.time()
    }

    /// Whether a template writes the time, so that its tokens depend on the day.
    pub(crate) fn is_dated(&self) -> bool {
        self.templates.as_ref().is_some_and(|templates| templates.is_dated())
    }

    /// Encodes a text as Hugging Face's `tokenizer(text)` does: recognises special tokens in the text, and puts `bos` in
    /// front if the model was trained with it (unless the text already begins with it, as a rendered template may).
    ///
    /// # Errors
    /// The tokenizer's own, such as a text that no token fits.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.pipeline.ids(text, Special::Token)?;
        if let Some(bos) =
            self.pipeline.named.bos.filter(|bos| self.pipeline.adds_bos && ids.first() != Some(bos))
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Encodes a text without special tokens: `<|im_end|>` is ten ordinary characters, and nothing is put in front. For
    /// text that people write.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        self.pipeline.ids(text, Special::Text)
    }

    /// Decodes ids to text, including special tokens. Bytes that are no UTF-8, such as half a
    /// character at the end, become U+FFFD; ids outside the vocabulary are left out.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.pipeline.inner.decode(ids, false).map_err(broken)
    }

    /// Counts the tokens of each text as [`encode_plain`](Self::encode_plain) does, in parallel.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn count<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<usize>> {
        texts.par_iter().map(|text| Ok(self.pipeline.ids(text.as_ref(), Special::Text)?.len())).collect()
    }

    /// Renders a conversation with the chat template of the model. `tools` is a JSON array.
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
        let mut conversation = Conversation::new(messages, tools)?;
        let template = self.template(&conversation)?;
        conversation.suit(template.needs());
        let (messages, tools) = conversation.values();
        template.render(&messages, &tools, prompt)
    }

    /// The template for a conversation, with tools or without.
    pub(super) fn template(&self, conversation: &Conversation) -> Result<&ChatTemplate> {
        let tools = &conversation.tools;
        self.templates.as_ref().and_then(|templates| templates.pick(tools)).ok_or_else(|| {
            Error::state("this tokenizer has no chat template").help(
                "give it one with Tokenizer::with_template or with_named_template; rows of plain text \
                 ({\"text\": …}) need none",
            )
        })
    }

    /// Whether it has a chat template.
    pub fn has_template(&self) -> bool {
        self.templates.is_some()
    }

    /// The number of tokens, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.pipeline.vocabulary_size()
    }

    /// The id of a token, by its exact name.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.pipeline.inner.token_to_id(token)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.pipeline.named.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.pipeline.named.eos
    }

    /// The tokens at which generation stops: `eos`, and the ends of a turn that the model's files
    /// or its vocabulary name.
    pub fn stop_ids(&self) -> &[u32] {
        &self.pipeline.stops
    }

    /// The underlying tokenizer of the `tokenizers` crate.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.pipeline.inner
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary_size", &self.vocabulary_size()).finish_non_exhaustive()
    }
}
