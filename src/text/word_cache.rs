//! A fast path from text to ids for byte-level BPE: splits the text into words itself and caches the ids of words
//! per thread.
//!
//! `tokenizers` keeps for every byte where it came from, through each stage, and cuts words with an
//! engine that can look ahead. Neither is needed where only whole words are asked for: the usual
//! expressions look ahead in one place only (`\s+(?!\S)`: white space leaves its last character to
//! the word after it), which [`WordCache::cut`] does by hand.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::Input;
use regex_automata::meta::Regex;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    SplitDelimiterBehavior,
};
use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::library_error::broken;
use crate::error::Result;

/// How GPT-2 cuts words, as `ByteLevel` does where it is told to cut.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// How the expressions end that leave the last white space to the next word.
const SPACES: &str = r"|\s+(?!\S)|\s+";
/// The number of words that a thread remembers at most, and the longest word in bytes.
const REMEMBERED: usize = 1 << 16;
const LONGEST: usize = 256;
/// Tokenizers whose words a thread remembers.
const TOKENIZERS: usize = 4;

/// Whether the names of special tokens in a text stand for these tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// They are the tokens.
    Token,
    /// They are ordinary characters.
    Text,
}

/// The ids of a text, word by word; the words follow each other without a gap.
#[derive(Debug, Default)]
pub(super) struct WordIds {
    pub ids: Vec<u32>,
    /// Where each word ends: in the text, in bytes, and in `ids`.
    pub ends: Vec<(usize, usize)>,
}

/// Splits texts into words, which the model then encodes one by one.
#[derive(Debug)]
pub(super) struct WordCache {
    /// Identifies the tokenizer that the cached words of a thread belong to.
    identity: u64,
    added: Added,
    /// Whether each digit is split off as a word of its own first.
    digits: bool,
    /// Whether texts that are not in Unicode normalisation form C take the slow path.
    nfc: bool,
    /// Pattern 0 is all but white space, pattern 1 is white space.
    regex: Regex,
}

/// The added tokens, which are found in a text before it is split into words.
#[derive(Debug)]
struct Added {
    names: Option<AhoCorasick>,
    /// The id of each name, and whether it is special.
    tokens: Vec<(u32, bool)>,
}

thread_local! {
    /// The tokenizers that this thread used last, and their words.
    static SEEN: RefCell<Vec<(u64, Seen)>> = RefCell::default();
}

type Seen = AHashMap<Box<str>, Box<[u32]>>;

impl WordCache {
    /// The fast path for a tokenizer; `None` if the tokenizer has a stage that is not supported here.
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(bpe) if bpe.dropout.is_none()) {
            return None;
        }
        let nfc = match tokenizer.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return None,
        };
        let stages = match tokenizer.get_pre_tokenizer()? {
            PreTokenizerWrapper::Sequence(stages) => stages.as_ref(),
            one => std::slice::from_ref(one),
        };
        let (digits, stages) = match stages {
            [PreTokenizerWrapper::Digits(digits), rest @ ..] if digits.individual_digits => (true, rest),
            all => (false, all),
        };
        let expression = match stages {
            [PreTokenizerWrapper::ByteLevel(bytes)] if bytes.use_regex && !bytes.add_prefix_space => GPT2,
            [PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)]
                if !bytes.use_regex && !bytes.add_prefix_space =>
            {
                expression(split)?
            }
            _ => return None,
        };
        let regex = Regex::new_many(&[expression.strip_suffix(SPACES)?, r"\s+"]).ok()?;
        if regex.is_match("") {
            return None;
        }
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self { identity, added: Added::of(tokenizer, nfc)?, digits, nfc, regex })
    }

    /// The ids of a text; `None` if it must take the slow path.
    pub fn ids(&self, text: &str, special: Special, model: &ModelWrapper) -> Result<Option<WordIds>> {
        if self.nfc && !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            return Ok(None);
        }
        SEEN.with_borrow_mut(|all| {
            let known = all.iter().position(|(identity, _)| *identity == self.identity);
            let at = known.unwrap_or_else(|| {
                all.truncate(TOKENIZERS - 1);
                all.insert(0, (self.identity, Seen::default()));
                0
            });
            let seen = &mut all[at].1;
            let mut cut = WordIds::default();
            for (range, id) in self.added.pieces(text, special) {
                if let Some(id) = id {
                    cut.ids.push(id);
                    cut.ends.push((range.end, cut.ids.len()));
                    continue;
                }
                let piece = &text[range.clone()];
                self.words(piece, &mut |word| {
                    push(&piece[word.clone()], model, seen, &mut cut.ids)?;
                    cut.ends.push((range.start + word.end, cut.ids.len()));
                    Ok(())
                })?;
            }
            Ok(Some(cut))
        })
    }

    /// Splits a text at its added tokens: the bytes of each piece, and its id where it is a token.
    pub fn pieces(&self, text: &str) -> Vec<(Range<usize>, Option<u32>)> {
        self.added.pieces(text, Special::Token)
    }

    fn words(&self, piece: &str, each: &mut impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        if !self.digits {
            return self.cut(piece, 0, each);
        }
        let mut start = 0;
        for (at, digit) in piece.char_indices().filter(|(_, c)| c.is_numeric()) {
            self.cut(&piece[start..at], start, each)?;
            start = at + digit.len_utf8();
            each(at..start)?;
        }
        self.cut(&piece[start..], start, each)
    }

    /// The words of a text that stands at `offset`.
    fn cut(
        &self,
        text: &str,
        offset: usize,
        each: &mut impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < text.len() {
            let found = self.regex.search(&Input::new(text).range(at..));
            let Some(found) = found else { return each(offset + at..offset + text.len()) };
            if at < found.start() {
                each(offset + at..offset + found.start())?;
            }
            let mut end = found.end();
            if found.pattern().as_usize() == 1 && end < text.len() {
                let last = text[found.range()].chars().next_back().map_or(0, char::len_utf8);
                end = if found.start() < end - last { end - last } else { end };
            }
            each(offset + found.start()..offset + end)?;
            at = end;
        }
        Ok(())
    }
}

impl Added {
    fn of(tokenizer: &tokenizers::Tokenizer, normalizer: bool) -> Option<Self> {
        let all = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        // Those are found in a second pass, over the normalised text.
        let normalized = all.values().filter(|token| token.normalized).count();
        let plain = normalized == 0 || (!normalizer && normalized == all.len());
        let simple = |token: &tokenizers::AddedToken| !(token.lstrip || token.rstrip || token.single_word);
        if !plain || !all.values().all(simple) {
            return None;
        }
        let tokens = all.iter().map(|(&id, token)| (id, token.special)).collect();
        let names = match all.is_empty() {
            true => None,
            false => {
                let names = all.values().map(|token| token.content.as_str());
                Some(AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(names).ok()?)
            }
        };
        Some(Self { names, tokens })
    }

    fn pieces(&self, text: &str, special: Special) -> Vec<(Range<usize>, Option<u32>)> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for found in self.names.iter().flat_map(|names| names.find_iter(text)) {
            let (id, is_special) = self.tokens[found.pattern().as_usize()];
            if is_special && special == Special::Text {
                continue;
            }
            if start < found.start() {
                pieces.push((start..found.start(), None));
            }
            pieces.push((found.range(), Some(id)));
            start = found.end();
        }
        if start < text.len() {
            pieces.push((start..text.len(), None));
        }
        pieces
    }
}

/// The expression that matches words, if the split is by matches.
fn expression(split: &Split) -> Option<&str> {
    match &split.pattern {
        SplitPattern::Regex(regex) if split.behavior == SplitDelimiterBehavior::Isolated && !split.invert => {
            Some(regex)
        }
        _ => None,
    }
}

/// Adds the ids of a word.
fn push(word: &str, model: &ModelWrapper, seen: &mut Seen, ids: &mut Vec<u32>) -> Result<()> {
    if let Some(known) = seen.get(word) {
        ids.extend_from_slice(known);
        return Ok(());
    }
    let mut bytes = PreTokenizedString::from(word);
    ByteLevel::new(false, false, false).pre_tokenize(&mut bytes).map_err(broken)?;
    let start = ids.len();
    for (bytes, _, _) in bytes.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        ids.extend(model.tokenize(bytes).map_err(broken)?.into_iter().map(|token| token.id));
    }
    if seen.len() < REMEMBERED && word.len() <= LONGEST {
        seen.insert(word.into(), ids[start..].into());
    }
    Ok(())
}
