//! The tokenizer inside a GGUF file: byte-level BPE (`tokenizer.ggml.model` = "gpt2"), and
//! SentencePiece's BPE ("llama").

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::library_error::broken;
use super::pipeline::{Named, Parts};
use super::sentencepiece::{Algorithm, Piece, PieceKind, Pieces, Prefix};
use super::template::TemplateSources;
use crate::error::{Error, Result};

/// How text is cut into words before the merges, by its name in `tokenizer.ggml.pre`.
struct Cut {
    names: &'static [&'static str],
    words: WordCache,
    /// Unicode normalisation form C first.
    nfc: bool,
    /// A word that is a token as a whole is taken, whatever the merges would make of it.
    whole_words: bool,
    /// Whether a text begins with `bos` where the file does not say.
    bos: bool,
}

enum WordCache {
    /// The expression of GPT-2.
    Gpt2,
    /// Each digit alone, then the expression of GPT-2.
    DigitsThenGpt2,
    /// Another expression.
    Regex(&'static str),
}

const CUTS: [Cut; 4] = [
    Cut {
        names: &["gpt-2", "gpt2", "mpt"],
        words: WordCache::Gpt2,
        nfc: false,
        whole_words: false,
        bos: false,
    },
    Cut {
        names: &["smollm", "starcoder", "refact", "command-r"],
        words: WordCache::DigitsThenGpt2,
        nfc: false,
        whole_words: false,
        bos: false,
    },
    Cut {
        names: &["llama-bpe", "llama3", "llama-v3"],
        words: WordCache::Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: false,
        whole_words: true,
        bos: true,
    },
    Cut {
        names: &["qwen2", "deepseek-r1-qwen"],
        words: WordCache::Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        nfc: true,
        whole_words: false,
        bos: false,
    },
];

/// Types of token in `tokenizer.ggml.token_type`.
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

/// Reads the tokenizer out of a file's metadata.
pub(super) fn read(metadata: &HashMap<String, Value>) -> Result<Parts> {
    let metadata = Metadata(metadata);
    let model = metadata.need("model")?.to_string().map_err(|_| wrong("model", "a string"))?;
    let tokens = metadata.strings("tokens")?;
    let mut parts = match model.as_str() {
        "gpt2" => byte_level(&metadata, &tokens)?,
        "llama" => pieces(&metadata, &tokens)?,
        other => {
            return Err(Error::format(format!("tokenizer model {other:?} is not supported")).help(
                "byte-level BPE (\"gpt2\") and SentencePiece's (\"llama\") are; open the model's Hugging Face \
                 folder instead",
            ));
        }
    };
    let id = |key| metadata.id(key, tokens.len());
    parts.named = Named {
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        pad: id("padding_token_id")?,
        unk: id("unknown_token_id")?,
    };
    parts.stops = [id("eot_token_id")?, id("eom_token_id")?].into_iter().flatten().collect();
    let template = |key| metadata.0.get(key).and_then(|value| value.to_string().ok()).cloned();
    parts.templates = TemplateSources {
        default: template("tokenizer.chat_template"),
        tool_use: template("tokenizer.chat_template.tool_use"),
    };
    Ok(parts)
}

/// SentencePiece's BPE, with a space in front as llama.cpp puts it.
fn pieces(metadata: &Metadata, tokens: &[&str]) -> Result<Parts> {
    let scores = metadata.need("scores")?.to_vec().map_err(|_| wrong("scores", "an array of numbers"))?;
    let types = metadata.numbers("token_type")?;
    if scores.len() != tokens.len() || types.len() != tokens.len() {
        let (tokens, scores, types) = (tokens.len(), scores.len(), types.len());
        return Err(Error::format(format!("{tokens} tokens have {scores} scores and {types} types")));
    }
    let pieces = tokens.iter().zip(scores).zip(types).map(|((text, score), kind)| {
        let score = score.to_f32().map_err(|_| wrong("scores", "an array of numbers"))?;
        Ok(Piece { text: text.to_string(), score, kind: PieceKind::of(kind.into())? })
    });
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    let model = Pieces {
        byte_fallback: pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
        pieces,
        algorithm: Algorithm::Bpe,
        charsmap: Vec::new(),
        dummy_prefix: metadata.flag("add_space_prefix")?.unwrap_or(true),
        remove_extra_spaces: false,
        named: Named::default(),
    };
    let adds_bos = metadata.flag("add_bos_token")?.unwrap_or(true);
    Ok(Parts { adds_bos, ..model.parts(Some(Prefix::EachPart))? })
}

fn byte_level(metadata: &Metadata, tokens: &[&str]) -> Result<Parts> {
    let cut = cut(metadata.string("pre")?)?;
    let vocabulary = vocabulary(tokens)?;
    let merges = merges(&metadata.strings("merges")?, &vocabulary)?;

    let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(cut.whole_words);
    let mut inner = tokenizers::Tokenizer::new(bpe.build().map_err(broken)?);
    if cut.nfc {
        inner.with_normalizer(Some(NFC)).map_err(broken)?;
    }
    inner.with_pre_tokenizer(Some(cut.words.pre_tokenizer()?));
    inner.with_decoder(Some(ByteLevel::new(false, false, false)));
    inner.add_tokens(added_tokens(tokens, &metadata.numbers("token_type")?)).map_err(broken)?;
    let adds_bos = metadata.flag("add_bos_token")?.unwrap_or(cut.bos);
    Ok(Parts { adds_bos, ..Parts::of(inner) })
}

fn cut(name: Option<&str>) -> Result<&'static Cut> {
    let known = || CUTS.iter().flat_map(|cut| cut.names).copied().collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        return Err(Error::format("the file does not say how its tokenizer cuts words (tokenizer.ggml.pre)")
            .help("convert the model again with a current llama.cpp, or open its Hugging Face folder"));
    };
    CUTS.iter().find(|cut| cut.names.contains(&name)).ok_or_else(|| {
        Error::format(format!("tokenizer.ggml.pre {name:?} is not known; known are {}", known()))
            .help("open the model's Hugging Face folder instead, whose tokenizer.json is complete")
    })
}

impl WordCache {
    fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper> {
        let gpt2 = ByteLevel::new(false, false, true);
        let bytes = ByteLevel::new(false, false, false);
        Ok(match self {
            WordCache::Gpt2 => gpt2.into(),
            WordCache::DigitsThenGpt2 => Sequence::new(vec![Digits::new(true).into(), gpt2.into()]).into(),
            WordCache::Regex(regex) => {
                let pattern = SplitPattern::Regex(regex.to_string());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(broken)?;
                Sequence::new(vec![split.into(), bytes.into()]).into()
            }
        })
    }
}

fn vocabulary(tokens: &[&str]) -> Result<Vocab> {
    let mut vocabulary = Vocab::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        if let Some(first) = vocabulary.insert(token.to_string(), id as u32) {
            return Err(Error::format(format!("token {token:?} occurs twice, as {first} and as {id}")));
        }
    }
    Ok(vocabulary)
}

fn merges(lines: &[&str], vocabulary: &Vocab) -> Result<Merges> {
    let pairs = lines.iter().enumerate().map(|(n, line)| {
        let pair =
            line.split_once(' ').filter(|(a, b)| is_merge(a, b, |token| vocabulary.contains_key(token)));
        let (a, b) =
            pair.ok_or_else(|| Error::format(format!("merge {n}, {line:?}, makes no known token")))?;
        Ok((a.to_string(), b.to_string()))
    });
    pairs.collect()
}

/// Whether both sides and their join are tokens. `tokenizers` panics where a join is longer than
/// every token, so this is asked before.
pub(super) fn is_merge(a: &str, b: &str, is_token: impl Fn(&str) -> bool) -> bool {
    is_token(a) && is_token(b) && is_token(&format!("{a}{b}"))
}

fn added_tokens(tokens: &[&str], types: &[u32]) -> Vec<AddedToken> {
    let typed = tokens.iter().zip(types).filter(|(_, kind)| [CONTROL, USER_DEFINED].contains(kind));
    typed.map(|(token, kind)| AddedToken::from(*token, *kind == CONTROL).normalized(false)).collect()
}

/// The keys that begin with `tokenizer.ggml.`.
struct Metadata<'a>(&'a HashMap<String, Value>);

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(&format!("tokenizer.ggml.{key}"))
    }

    fn need(&self, key: &str) -> Result<&'a Value> {
        self.get(key).ok_or_else(|| {
            Error::format(format!("the file has no tokenizer: tokenizer.ggml.{key} is missing"))
                .help("take a GGUF file of a whole model, or open the model's Hugging Face folder")
        })
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key)
            .map(|v| v.to_string().map(String::as_str).map_err(|_| wrong(key, "a string")))
            .transpose()
    }

    fn strings(&self, key: &str) -> Result<Vec<&'a str>> {
        let expected = || wrong(key, "an array of strings");
        let values = self.need(key)?.to_vec().map_err(|_| expected())?;
        values.iter().map(|v| v.to_string().map(String::as_str).map_err(|_| expected())).collect()
    }

    fn numbers(&self, key: &str) -> Result<Vec<u32>> {
        let expected = || wrong(key, "an array of numbers");
        let values = self.need(key)?.to_vec().map_err(|_| expected())?;
        values.iter().map(|v| number(v).ok_or_else(expected)).collect()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key).map(|v| v.to_bool().map_err(|_| wrong(key, "true or false"))).transpose()
    }

    fn id(&self, key: &str, tokens: usize) -> Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let id = number(value).ok_or_else(|| wrong(key, "a number"))?;
        if id as usize >= tokens {
            return Err(Error::format(format!(
                "tokenizer.ggml.{key} is {id}, but there are {tokens} tokens"
            )));
        }
        Ok(Some(id))
    }
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::I32(n) => u32::try_from(*n).ok(),
        Value::I64(n) => u32::try_from(*n).ok(),
        other => other.to_u64().ok().and_then(|n| u32::try_from(n).ok()),
    }
}

fn wrong(key: &str, expected: &str) -> Error {
    Error::format(format!("tokenizer.ggml.{key} is not {expected}"))
}
