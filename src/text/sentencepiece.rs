//! SentencePiece's `tokenizer.model` (Unigram and BPE) as a `tokenizers::Tokenizer`, put together as
//! Hugging Face's converters do.
//!
//! Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer and
//! detokenizer for neural text processing".

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip as StripDecoder;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers, Strip};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, ModelWrapper, SplitDelimiterBehavior};

use super::charsmap;
use super::library_error::broken;
use super::pipeline::{Named, Parts};
use super::protobuf::{Field, Fields};
use super::template::TemplateSources;
use crate::error::{Error, Result};

/// Larger files are refused: the largest tokenizers in use have 5 MB and 260,000 pieces.
const MAX_FILE: u64 = 32 << 20;
const MAX_PIECES: usize = 1 << 20;
const MAX_TEXT: usize = 8 << 20;
/// A longer piece, in bytes, would have too many ways to be merged.
const MAX_PIECE: usize = 512;
/// The character for a space.
const SPACE: char = '▁';

/// The kind of a piece, by its number in files (the same in GGUF).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal = 1,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Unigram,
    Bpe,
}

/// Where a space is added in front of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// At the beginning.
    Once,
    /// At the beginning and after each token that is found before the rest is cut.
    EachPart,
}

#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: PieceKind,
}

/// The pieces of a vocabulary, and how text is normalised.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    pub pieces: Vec<Piece>,
    pub algorithm: Algorithm,
    pub byte_fallback: bool,
    /// The map of characters, as a blob.
    pub charsmap: Vec<u8>,
    pub dummy_prefix: bool,
    pub remove_extra_spaces: bool,
    pub named: Named,
}

/// Whether a file of this length is read at all.
pub(super) fn check_size(bytes: u64) -> Result<()> {
    if bytes > MAX_FILE {
        let limit = MAX_FILE >> 20;
        return Err(Error::format(format!(
            "{bytes} bytes are too many for a SentencePiece model, at most {limit} MiB are read"
        )));
    }
    Ok(())
}

impl PieceKind {
    pub fn of(number: u64) -> Result<Self> {
        use PieceKind::*;
        let all = [Normal, Unknown, Control, UserDefined, Unused, Byte];
        all.into_iter()
            .find(|kind| *kind as u64 == number)
            .ok_or_else(|| Error::format(format!("a piece of type {number}, known are 1 to 6")))
    }
}

impl Pieces {
    /// Reads SentencePiece's own format, `ModelProto`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let whole =
            |error: Error| error.help("the file is no SentencePiece model, or is broken: fetch it again");
        Self::read(bytes).map_err(whole)
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let (mut pieces, mut trainer, mut normalizer) = (Vec::new(), &[][..], &[][..]);
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(_)) if pieces.len() == MAX_PIECES => {
                    return Err(Error::format(format!("more than {MAX_PIECES} pieces")));
                }
                (1, Field::Bytes(message)) => pieces.push(Piece::read(message, pieces.len())?),
                (2, Field::Bytes(message)) => trainer = message,
                (3, Field::Bytes(message)) => normalizer = message,
                _ => {}
            }
        }
        let mut model = Self {
            pieces,
            algorithm: Algorithm::Unigram,
            byte_fallback: false,
            charsmap: Vec::new(),
            dummy_prefix: true,
            remove_extra_spaces: true,
            named: Named::default(),
        };
        let mut roles = ["<unk>", "<s>", "</s>", "<pad>"];
        for field in Fields::of(trainer) {
            match field? {
                (3, Field::Number(1)) => model.algorithm = Algorithm::Unigram,
                (3, Field::Number(2)) => model.algorithm = Algorithm::Bpe,
                (3, Field::Number(other)) => return Err(unsupported(format!("the model type {other}"))),
                (24, Field::Number(1)) => return Err(unsupported("spaces at the end of words")),
                (35, Field::Number(on)) => model.byte_fallback = on == 1,
                (number @ 45..=48, Field::Bytes(name)) => roles[number as usize - 45] = utf8(name)?,
                _ => {}
            }
        }
        for field in Fields::of(normalizer) {
            match field? {
                (2, Field::Bytes(blob)) => model.charsmap = blob.to_vec(),
                (3, Field::Number(on)) => model.dummy_prefix = on == 1,
                (4, Field::Number(on)) => model.remove_extra_spaces = on == 1,
                (5, Field::Number(0)) => return Err(unsupported("spaces that stay spaces")),
                _ => {}
            }
        }
        let id = |name: &str, kind| {
            let found = model.pieces.iter().position(|piece| piece.text == name && piece.kind == kind);
            found.map(|id| id as u32)
        };
        let [unk, bos, eos, pad] = roles;
        model.named = Named {
            bos: id(bos, PieceKind::Control),
            eos: id(eos, PieceKind::Control),
            pad: id(pad, PieceKind::Control),
            unk: id(unk, PieceKind::Unknown),
        };
        Ok(model)
    }

    /// The tokenizer of these pieces.
    pub fn parts(&self, prefix: Option<Prefix>) -> Result<Parts> {
        self.check()?;
        let model: ModelWrapper = match self.algorithm {
            Algorithm::Unigram => self.unigram()?.into(),
            Algorithm::Bpe => self.bpe()?.into(),
        };
        // Hugging Face's Llama tokenizers put it in front once, its other ones each time.
        let usual = if self.algorithm == Algorithm::Bpe { Prefix::Once } else { Prefix::EachPart };
        let prefix = if self.dummy_prefix { prefix.unwrap_or(usual) } else { Prefix::Never };

        // The added tokens get their ids from a model that knows them by their names.
        let mut inner = tokenizers::Tokenizer::new(self.names()?);
        inner.with_normalizer(self.normalizer(prefix)?).map_err(broken)?;
        inner.with_pre_tokenizer(self.pre_tokenizer(prefix)?);
        inner.with_decoder(Some(decoder(prefix)?));
        let added = self.pieces.iter().filter_map(|piece| match piece.kind {
            PieceKind::Unknown | PieceKind::Control => {
                Some(AddedToken::from(&*piece.text, true).normalized(false))
            }
            PieceKind::UserDefined => Some(AddedToken::from(&*piece.text, false).normalized(false)),
            _ => None,
        });
        inner.add_tokens(added).map_err(broken)?;
        inner.with_model(model);
        let adds_bos = self.algorithm == Algorithm::Bpe && self.named.bos.is_some();
        Ok(Parts {
            inner,
            named: self.named,
            adds_bos,
            stops: Vec::new(),
            templates: TemplateSources::default(),
        })
    }

    fn check(&self) -> Result<()> {
        let text: usize = self.pieces.iter().map(|piece| piece.text.len()).sum();
        if self.pieces.len() > MAX_PIECES || text > MAX_TEXT {
            let pieces = self.pieces.len();
            return Err(Error::format(format!(
                "{pieces} pieces of {text} bytes are too many for a tokenizer, at most {MAX_PIECES} of {MAX_TEXT} are read"
            )));
        }
        if let Some(id) =
            self.pieces.iter().position(|piece| piece.text.is_empty() || !piece.score.is_finite())
        {
            let Piece { text, score, .. } = &self.pieces[id];
            return Err(Error::format(format!("piece {id} is {text:?} with the score {score}")));
        }
        let bytes = self.pieces.iter().filter(|piece| piece.kind == PieceKind::Byte).count();
        if self.byte_fallback && bytes != 256 {
            return Err(Error::format(format!("{bytes} pieces stand for bytes, and 256 are needed")));
        }
        Ok(())
    }

    /// A model that knows the ids of the pieces.
    fn names(&self) -> Result<BPE> {
        BPE::builder().vocab_and_merges(self.vocabulary()?, Vec::new()).build().map_err(broken)
    }

    fn vocabulary(&self) -> Result<Vocab> {
        let mut vocabulary = Vocab::with_capacity(self.pieces.len());
        for (id, Piece { text, .. }) in self.pieces.iter().enumerate() {
            if let Some(first) = vocabulary.insert(text.clone(), id as u32) {
                return Err(Error::format(format!("piece {text:?} occurs twice, as {first} and as {id}")));
            }
        }
        Ok(vocabulary)
    }

    fn unigram(&self) -> Result<Unigram> {
        // A name with a space matches no text, as spaces are written otherwise: what a person types
        // must not become a token with a meaning.
        let name = |piece: &Piece| match piece.kind {
            PieceKind::Unknown | PieceKind::Control | PieceKind::Unused => format!(" {}", piece.text),
            _ => piece.text.clone(),
        };
        let scored = self.pieces.iter().map(|piece| (name(piece), f64::from(piece.score))).collect();
        let unknown = self.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown);
        if unknown.is_none() {
            return Err(Error::format("no piece stands for unknown text"));
        }
        Unigram::from(scored, unknown, self.byte_fallback).map_err(broken)
    }

    fn bpe(&self) -> Result<BPE> {
        let vocabulary = self.vocabulary()?;
        let merges = self.merges(&vocabulary)?;
        let mut bpe = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .fuse_unk(true)
            .byte_fallback(self.byte_fallback);
        if let Some(unknown) = self.pieces.iter().find(|piece| piece.kind == PieceKind::Unknown) {
            bpe = bpe.unk_token(unknown.text.clone());
        }
        bpe.build().map_err(broken)
    }

    /// Every way to put a piece together from two others, the best score first.
    ///
    /// SentencePiece keeps no list: it joins the two neighbours whose join has the best score. Ways
    /// to the same piece, and pieces of the same score, come longest left part first, as in Hugging
    /// Face's converter.
    fn merges(&self, vocabulary: &Vocab) -> Result<Merges> {
        let normal = |text: &str| {
            vocabulary.get(text).filter(|id| self.pieces[**id as usize].kind == PieceKind::Normal)
        };
        let mut ways: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.kind == PieceKind::Normal) {
            let text = piece.text.as_str();
            if text.len() > MAX_PIECE {
                let length = text.len();
                return Err(Error::format(format!(
                    "a piece of {length} bytes, at most {MAX_PIECE} are read"
                )));
            }
            let first = ways.len();
            for (at, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(at);
                if normal(left).is_some() && normal(right).is_some() {
                    ways.push((piece.score, left.chars().count(), right.chars().count(), left, right));
                }
            }
            ways[first..].sort_by_key(|way| (normal(way.3), normal(way.4)));
        }
        ways.sort_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
        Ok(ways.into_iter().map(|(_, _, _, left, right)| (left.to_string(), right.to_string())).collect())
    }

    fn normalizer(&self, prefix: Prefix) -> Result<Option<NormalizerWrapper>> {
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        steps.extend(charsmap::normalizer(&self.charsmap)?.map(NormalizerWrapper::from));
        if self.remove_extra_spaces {
            // A space in front becomes the prefix.
            steps.push(Strip::new(prefix == Prefix::Never, true).into());
            let runs = tokenizers::normalizers::replace::ReplacePattern::Regex(" {2,}".into());
            steps.push(Replace::new(runs, " ").map_err(broken)?.into());
        } else if prefix == Prefix::EachPart {
            steps.push(Prepend::new(SPACE.to_string()).into());
        }
        steps.push(Replace::new(" ", SPACE.to_string()).map_err(broken)?.into());
        Ok(Some(Normalizers::new(steps).into()))
    }

    fn pre_tokenizer(&self, prefix: Prefix) -> Result<Option<PreTokenizerWrapper>> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        let scheme = match prefix {
            Prefix::Never => None,
            Prefix::Once => Some(PrependScheme::First),
            Prefix::EachPart => self.remove_extra_spaces.then_some(PrependScheme::Always),
        };
        steps.extend(scheme.map(|scheme| Metaspace::new(SPACE, scheme, false).into()));
        if self.words_stand_alone() {
            let word = SplitPattern::Regex(format!("{SPACE}*[^{SPACE}]+|{SPACE}+"));
            let split = Split::new(word, SplitDelimiterBehavior::Isolated, false).map_err(broken)?;
            steps.push(split.into());
        }
        Ok((!steps.is_empty()).then(|| PreTokenizers::new(steps).into()))
    }

    /// Whether no piece spans the end of a word, so that words can be looked at (and remembered) one
    /// by one.
    fn words_stand_alone(&self) -> bool {
        let spans = |piece: &Piece| piece.text.trim_start_matches(SPACE).contains(SPACE);
        let space = self.pieces.iter().any(|piece| piece.text.chars().eq([SPACE]));
        let normal = |piece: &&Piece| matches!(piece.kind, PieceKind::Normal);
        (space || self.byte_fallback) && !self.pieces.iter().filter(normal).any(spans)
    }
}

impl Piece {
    fn read(message: &[u8], id: usize) -> Result<Self> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: PieceKind::Normal };
        for field in Fields::of(message) {
            match field? {
                (1, Field::Bytes(text)) => {
                    piece.text =
                        utf8(text).map_err(|error| Error::format(format!("piece {id}: {error}")))?.into();
                }
                (2, Field::Four(score)) => piece.score = f32::from_le_bytes(score),
                (3, Field::Number(kind)) => piece.kind = PieceKind::of(kind)?,
                _ => {}
            }
        }
        Ok(piece)
    }
}

fn decoder(prefix: Prefix) -> Result<DecoderWrapper> {
    let spaces = Replace::new(SPACE.to_string(), " ").map_err(broken)?;
    let mut steps: Vec<DecoderWrapper> = vec![spaces.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix != Prefix::Never {
        steps.push(StripDecoder::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps).into())
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::format("a name that is not UTF-8"))
}

fn unsupported(what: impl std::fmt::Display) -> Error {
    Error::format(format!("this SentencePiece model has {what}, which is not supported"))
}
