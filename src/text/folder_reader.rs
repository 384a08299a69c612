//! Reads the tokenizer of a Hugging Face folder: `tokenizer.json` or `tokenizer.model`, the chat template and the
//! special tokens.

use std::path::Path;

use serde_json::Value as Json;

use super::charsmap;
use super::gguf::is_merge;
use super::library_error::broken;
use super::pipeline::Parts;
use super::sentencepiece::{self, Prefix};
use super::template::TemplateSources;
use crate::error::{Error, Result};

pub(super) const MODEL: &str = "tokenizer.json";
const PIECES: &str = "tokenizer.model";
pub(super) const CONFIG: &str = "tokenizer_config.json";
pub(super) const GENERATION: &str = "generation_config.json";
pub(super) const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";
pub(super) const TOOLS_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";
/// The files that [`read`] looks at.
pub(crate) const FILES: [&str; 7] =
    [MODEL, PIECES, CONFIG, GENERATION, TEMPLATE, TEMPLATE_JSON, TOOLS_TEMPLATE];

/// Reads the tokenizer of a model's folder.
pub(super) fn read(folder: &Path) -> Result<Parts> {
    let config = json(&folder.join(CONFIG))?;
    let generation = json(&folder.join(GENERATION))?;
    let path = folder.join(MODEL);
    let mut parts = match text(&path)? {
        Some(text) => {
            let file = parse(&path, &text)?;
            check_merges(&file).and_then(|()| check_maps(&file["normalizer"])).map_err(|e| e.path(&path))?;
            let inner =
                tokenizers::Tokenizer::from_bytes(&text).map_err(|error| broken(error).path(&path))?;
            Parts::of(inner).named(&config).find_adds_bos()
        }
        None => pieces(folder, &config)?,
    };
    parts.stops = ids(&generation["eos_token_id"]);
    parts.templates = templates(folder, &config)?;
    Ok(parts)
}

/// The tokenizer in SentencePiece's own format.
fn pieces(folder: &Path, config: &Json) -> Result<Parts> {
    let path = folder.join(PIECES);
    let length = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(folder)),
        Err(error) => return Err(Error::io(path, error)),
    };
    let prefix = match (config["add_prefix_space"].as_bool(), config["legacy"].as_bool()) {
        (Some(false), _) => Some(Prefix::Never),
        (_, Some(true)) => Some(Prefix::EachPart),
        (_, Some(false)) => Some(Prefix::Once),
        (_, None) => None,
    };
    let read = || {
        sentencepiece::check_size(length)?;
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        sentencepiece::Pieces::parse(&bytes)?.parts(prefix)
    };
    let mut parts = read().map_err(|error| error.path(&path))?.named(config);
    // As Hugging Face's Llama tokenizers have it, where the config does not say.
    parts.adds_bos = config["add_bos_token"].as_bool().unwrap_or(parts.adds_bos);
    Ok(parts)
}

/// The text of a file; `None` if it does not exist.
fn text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, error)),
    }
}

fn missing(folder: &Path) -> Error {
    if !folder.is_dir() {
        return Error::not_found("no such folder").path(folder);
    }
    Error::not_found(format!("this model folder has no {MODEL} and no {PIECES}"))
        .path(folder)
        .help("copy it from the model's page, beside the weights")
}

fn parse(path: &Path, text: &str) -> Result<Json> {
    serde_json::from_str(text)
        .map_err(|error| Error::format(format!("not JSON: {error}")).path(path).line(error.line() as u64))
}

/// A JSON file; null if it does not exist.
fn json(path: &Path) -> Result<Json> {
    text(path)?.map_or(Ok(Json::Null), |text| parse(path, &text))
}

/// A token in a config: a string, or an object with its `content`.
fn token(value: &Json) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn ids(value: &Json) -> Vec<u32> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    all.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

impl Parts {
    /// Sets the special tokens that the config names.
    fn named(mut self, config: &Json) -> Self {
        let id = |key| token(&config[key]).and_then(|token| self.inner.token_to_id(token));
        let (bos, eos, pad, unk) = (id("bos_token"), id("eos_token"), id("pad_token"), id("unk_token"));
        let named = &mut self.named;
        (named.bos, named.eos) = (bos.or(named.bos), eos.or(named.eos));
        (named.pad, named.unk) = (pad.or(named.pad), unk.or(named.unk));
        self
    }
}

/// The template's own files come first, then the config: a string, or a list of named ones.
fn templates(folder: &Path, config: &Json) -> Result<TemplateSources> {
    let path = folder.join(TEMPLATE_JSON);
    let file = json(&path)?;
    let mut sources = named_templates(&config["chat_template"]);
    let of_file = named_templates(&file["chat_template"]);
    let own = [text(&folder.join(TEMPLATE))?, of_file.default];
    sources.default = own.into_iter().flatten().next().or(sources.default);
    let own = [text(&folder.join(TOOLS_TEMPLATE))?, of_file.tool_use];
    sources.tool_use = own.into_iter().flatten().next().or(sources.tool_use);
    Ok(sources)
}

fn named_templates(value: &Json) -> TemplateSources {
    let string = |value: &Json| value.as_str().map(String::from);
    let Some(all) = value.as_array() else {
        return TemplateSources { default: string(value), tool_use: None };
    };
    let named = |name| all.iter().find(|one| one["name"] == name).and_then(|one| string(&one["template"]));
    TemplateSources { default: named("default"), tool_use: named("tool_use") }
}

/// A BPE whose merges do not fit its vocabulary makes `tokenizers` panic.
fn check_merges(file: &Json) -> Result<()> {
    let model = &file["model"];
    let (Some(vocabulary), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else {
        return Ok(());
    };
    if model["continuing_subword_prefix"].as_str().is_some_and(|prefix| !prefix.is_empty()) {
        return Ok(());
    }
    for (n, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Json::String(line) => line.split_once(' '),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        if !pair.is_some_and(|(a, b)| is_merge(a, b, |token| vocabulary.contains_key(token))) {
            return Err(Error::format(format!("merge {n}, {merge}, makes no known token")));
        }
    }
    Ok(())
}

/// A character map that points outside of itself makes `tokenizers` panic.
fn check_maps(normalizer: &Json) -> Result<()> {
    if let Some(map) = normalizer["precompiled_charsmap"].as_str() {
        charsmap::check_base64(map)?;
    }
    normalizer["normalizers"].as_array().into_iter().flatten().try_for_each(check_maps)
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "hub")]
    #[test]
    fn the_hub_fetches_the_files_that_are_read() {
        assert_eq!(super::FILES, crate::hub::names::TOKENIZER_FILES);
    }
}
