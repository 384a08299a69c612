//! Tokens of plain texts: documents, and chats that were already rendered.

use super::word_cache::Special;
use super::{Example, SpecialTokens, Tokenizer};
use crate::error::Result;

impl Tokenizer {
    /// Encodes a plain text, all of it trained on: `bos` if the model was trained with it, the text, `eos`.
    /// [`SpecialTokens::Auto`] decides whether names of special tokens in the text are these tokens.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn document(&self, text: &str) -> Result<Example> {
        self.document_with(text, SpecialTokens::Auto)
    }

    /// Like [`document`](Self::document), with an explicit choice for special tokens.
    ///
    /// If names are tokens, a text that begins with `bos` gets no second one (and keeps one of several), and a text
    /// that ends with a stop token gets no `eos`; white space before the former and after the latter is dropped.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/smollm2")?;
    /// use lorascope::text::SpecialTokens;
    ///
    /// let rendered = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n";
    /// let tokens = tokenizer.document_with(rendered, SpecialTokens::Tokens)?;
    /// let text = tokenizer.document_with(rendered, SpecialTokens::Text)?;
    /// assert!(tokens.len() < text.len());
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn document_with(&self, text: &str, special: SpecialTokens) -> Result<Example> {
        let pipeline = &self.pipeline;
        let mut ids = match self.reads_tokens(text, special) {
            false => pipeline.ids(text, Special::Text)?,
            true => {
                let mut ids = pipeline.ids(self.trimmed(text), Special::Token)?;
                let begins = ids.iter().take_while(|id| Some(**id) == pipeline.named.bos).count();
                ids.drain(..begins.saturating_sub(1));
                ids
            }
        };
        let ends = ids.last().is_some_and(|last| pipeline.stops.contains(last));
        if let Some(bos) = pipeline.named.bos.filter(|bos| pipeline.adds_bos && ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        if !ends {
            ids.extend(self.eos());
        }
        Ok(Example { trained: vec![true; ids.len()], ids })
    }

    /// Whether names of special tokens in a plain text are read as these tokens.
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/smollm2")?;
    /// use lorascope::text::SpecialTokens;
    ///
    /// assert!(tokenizer.reads_tokens("<|im_start|>user\nHi<|im_end|>\n", SpecialTokens::Auto));
    /// assert!(!tokenizer.reads_tokens("The token <|im_end|> ends a turn.", SpecialTokens::Auto));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn reads_tokens(&self, text: &str, special: SpecialTokens) -> bool {
        match special {
            SpecialTokens::Auto => self.is_rendered(text),
            SpecialTokens::Tokens => true,
            SpecialTokens::Text => false,
        }
    }

    /// Whether a text looks like the output of a chat template or a tokenizer.
    fn is_rendered(&self, text: &str) -> bool {
        let pipeline = &self.pipeline;
        if !pipeline.has_special(text) {
            return false;
        }
        let pieces = pipeline.pieces(text);
        let special = |id: Option<u32>| id.is_some_and(|id| pipeline.is_special(id));
        let says = pieces.iter().find(|(range, id)| id.is_some() || !text[range.clone()].trim().is_empty());
        // `<unk>` stands for a word in texts that were tokenised for other models.
        if says.is_some_and(|(_, id)| special(*id) && *id != pipeline.named.unk) {
            return true;
        }
        pieces.iter().enumerate().any(|(n, (range, id))| {
            let after = &text[range.end..];
            let follows = |c: char| matches!(c, '\n' | '\r') || c.is_alphanumeric();
            id.is_some_and(|id| pipeline.stops.contains(&id))
                && (after.trim().is_empty()
                    || after.starts_with(follows)
                    || pieces.get(n + 1).is_some_and(|(_, next)| special(*next)))
        })
    }

    /// A rendered text without the white space before `bos` and after the token that ends it.
    fn trimmed<'a>(&self, text: &'a str) -> &'a str {
        let pipeline = &self.pipeline;
        let (begin, end) = (text.trim_start(), text.trim_end());
        let first = pipeline.pieces(begin).first().and_then(|(_, id)| *id);
        let last = pipeline.pieces(end).last().and_then(|(_, id)| *id);
        let text = if last.is_some_and(|id| pipeline.stops.contains(&id)) { end } else { text };
        if first.is_some() && first == pipeline.named.bos { text.trim_start() } else { text }
    }
}
