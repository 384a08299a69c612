//! The tokenizer in a Hugging Face folder: `tokenizer.json`, and beside it the chat template and
//! the names of the special tokens.

use std::path::Path;

use serde_json::Value as Json;

use super::gguf::is_merge;
use super::tokenizer::{Parts, broken};
use crate::error::{Error, Result};

const MODEL: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";
/// The files that [`read`] looks at.
pub(crate) const FILES: [&str; 4] = [MODEL, CONFIG, GENERATION, TEMPLATE];

/// Reads the tokenizer of a model's folder.
pub(super) fn read(folder: &Path) -> Result<Parts> {
    let path = folder.join(MODEL);
    let Some(text) = text(&path)? else { return Err(missing(folder)) };
    check_merges(&parse(&path, &text)?).map_err(|error| error.path(&path))?;
    let inner = tokenizers::Tokenizer::from_bytes(&text).map_err(|error| broken(error).path(&path))?;

    let config = json(&folder.join(CONFIG))?;
    let generation = json(&folder.join(GENERATION))?;
    let named = |key| token(&config[key]).and_then(|token| inner.token_to_id(token));
    Ok(Parts {
        bos: named("bos_token"),
        eos: named("eos_token"),
        pad: named("pad_token"),
        adds_bos: false,
        stops: ids(&generation["eos_token_id"]),
        template: text_template(folder, &config)?,
        inner,
    }
    .find_adds_bos())
}

/// The file's text; none where there is no such file.
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
    let help = match folder.join("tokenizer.model").exists() {
        true => {
            "there is a tokenizer.model: write tokenizer.json once with transformers, \
             AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        }
        false => "copy it from the model's page, beside the weights",
    };
    Error::not_found(format!("this model folder has no {MODEL}")).path(folder).help(help)
}

fn parse(path: &Path, text: &str) -> Result<Json> {
    serde_json::from_str(text)
        .map_err(|error| Error::format(format!("not JSON: {error}")).path(path).line(error.line() as u64))
}

/// The file as JSON; null where there is no such file.
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

/// The template's own file comes first, then the config: a string, or a list of named ones.
fn text_template(folder: &Path, config: &Json) -> Result<Option<String>> {
    if let Some(template) = text(&folder.join(TEMPLATE))? {
        return Ok(Some(template));
    }
    let value = match &config["chat_template"] {
        Json::Array(named) => named.iter().find(|one| one["name"] == "default").map(|one| &one["template"]),
        one => Some(one),
    };
    Ok(value.and_then(Json::as_str).map(String::from))
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
