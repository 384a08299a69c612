//! The stages of `tokenizers`, called one by one, and which of its tokens have a meaning.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use tokenizers::{
    AddedToken, AddedVocabulary, Model, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer,
};

use super::library_error::broken;
use super::template::TemplateSources;
use super::word_cache::{Special, WordCache, WordIds};
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

/// The tokens that have a role, beside those that end a turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub unk: Option<u32>,
}

/// What the readers of files find.
pub(super) struct Parts {
    pub inner: tokenizers::Tokenizer,
    pub named: Named,
    pub adds_bos: bool,
    pub stops: Vec<u32>,
    pub templates: TemplateSources,
}

pub(super) struct Pipeline {
    pub inner: tokenizers::Tokenizer,
    /// The added tokens of `inner`, of which the special ones are taken for ordinary text.
    plain: AddedVocabulary,
    /// The strings that are special tokens.
    pub specials: Vec<String>,
    /// Finds them.
    specials_in: Option<AhoCorasick>,
    pub named: Named,
    pub adds_bos: bool,
    pub stops: Vec<u32>,
    /// The short way to the ids, where the tokenizer is one of those that it knows.
    words: Option<WordCache>,
}

/// A token and the bytes of the text that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub id: u32,
    pub range: Range<usize>,
}

impl Parts {
    /// A tokenizer without any role for its tokens.
    pub fn of(inner: tokenizers::Tokenizer) -> Self {
        let (named, templates) = (Named::default(), TemplateSources::default());
        Self { inner, named, adds_bos: false, stops: Vec::new(), templates }
    }

    /// Asks the tokenizer itself whether it puts `bos` in front.
    pub fn find_adds_bos(mut self) -> Self {
        let begins_with = |bos| match self.inner.encode("a", true) {
            Ok(encoding) => encoding.get_ids().len() > 1 && encoding.get_ids()[0] == bos,
            Err(_) => false,
        };
        self.adds_bos = self.named.bos.is_some_and(begins_with);
        self
    }
}

impl Pipeline {
    pub fn new(parts: Parts) -> Self {
        let Parts { inner, named, adds_bos, mut stops, templates: _ } = parts;
        let mut plain = inner.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        let added = inner.get_added_vocabulary().get_added_tokens_decoder().values();
        let mut specials: Vec<String> = added.filter(|t| t.special).map(|t| t.content.clone()).collect();
        specials.sort_unstable();

        let special = |name: &&str| specials.iter().any(|s| s == *name);
        stops.extend(named.eos);
        stops
            .extend(TURN_ENDS.iter().filter(|name| special(name)).filter_map(|name| inner.token_to_id(name)));
        stops.sort_unstable();
        stops.dedup();
        let words = WordCache::of(&inner);
        // Without it (more names than fit into memory) each name is looked for by itself.
        let specials_in = AhoCorasick::new(&specials).ok();
        Self { inner, plain, specials, specials_in, named, adds_bos, stops, words }
    }

    /// The same with these tokens special, and their names.
    pub fn with_specials<const N: usize>(&self, ids: [u32; N]) -> Result<(Self, [String; N])> {
        let mut names = [const { String::new() }; N];
        for (id, place) in ids.into_iter().zip(&mut names) {
            let name = self.inner.id_to_token(id);
            // A name of one character is a piece of text, and stands in every other message.
            *place = name.filter(|name| name.chars().nth(1).is_some()).ok_or_else(|| {
                let size = self.vocabulary_size();
                Error::input(format!(
                    "token {id} of this vocabulary of {size} is no name that can be special"
                ))
                .help("take another template: this one is for models that were trained with its token ids")
            })?;
        }
        let mut inner = self.inner.clone();
        let tokens = names.iter().map(|name| AddedToken::from(name.as_str(), true).normalized(false));
        inner.add_special_tokens(tokens).map_err(broken)?;
        let Self { named, adds_bos, stops, .. } = self;
        let (named, adds_bos, stops) = (*named, *adds_bos, stops.clone());
        let parts = Parts { inner, named, adds_bos, stops, templates: TemplateSources::default() };
        Ok((Self::new(parts), names))
    }

    /// Whether the name of a special token occurs in a text.
    pub fn has_special(&self, text: &str) -> bool {
        match &self.specials_in {
            Some(specials) => specials.is_match(text),
            None => self.specials.iter().any(|special| text.contains(special)),
        }
    }

    /// The ids of a text, word by word, where that is possible.
    pub fn word_ids(&self, text: &str, special: Special) -> Result<Option<WordIds>> {
        match &self.words {
            Some(words) => words.ids(text, special, self.inner.get_model()),
            None => Ok(None),
        }
    }

    /// The ids of a text.
    pub fn ids(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        if let Some(words) = self.word_ids(text, special)? {
            return Ok(words.ids);
        }
        let added = match special {
            Special::Token => self.inner.get_added_vocabulary(),
            Special::Text => &self.plain,
        };
        let words = self.stages(added, text)?;
        let splits = words.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(splits
            .into_iter()
            .flat_map(|(_, _, tokens)| tokens.iter().flatten().map(|token| token.id))
            .collect())
    }

    /// The number of tokens, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        let model = self.inner.get_model();
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        model.get_vocab_size() + added.keys().filter(|id| model.id_to_token(**id).is_none()).count()
    }

    /// The tokens of a text, special ones recognised.
    pub fn tokens(&self, text: &str) -> Result<Vec<Token>> {
        self.tokens_after(self.inner.get_added_vocabulary(), text)
    }

    /// The tokens of a text in which nothing is special.
    pub fn plain_tokens(&self, text: &str) -> Result<Vec<Token>> {
        self.tokens_after(&self.plain, text)
    }

    fn tokens_after(&self, added: &AddedVocabulary, text: &str) -> Result<Vec<Token>> {
        let words = self.stages(added, text)?;
        let encoding = words.into_encoding(None, 0, OffsetType::Byte).map_err(broken)?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens.map(|(&id, &(start, end))| Token { id, range: start..end }).collect())
    }

    /// The stages of `tokenizers`, called one by one: so that both ways to see special tokens share
    /// one vocabulary in memory, and no truncation or padding from a `tokenizer.json` comes in.
    fn stages(&self, added: &AddedVocabulary, text: &str) -> Result<PreTokenizedString> {
        let mut words: PreTokenizedString = added.extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut words).map_err(broken)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut words, None).map_err(broken)?;
        Ok(words)
    }

    /// Cuts a text at its added tokens: the bytes of each piece, and its id where it is a token.
    pub fn pieces(&self, text: &str) -> Vec<(Range<usize>, Option<u32>)> {
        if let Some(words) = &self.words {
            return words.pieces(text);
        }
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
