//! The files of a Hugging Face folder.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(super) const CONFIG: &str = "config.json";
const ONE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The other files of a Hugging Face folder: config, tokenizer and chat template.
pub(super) fn beside_weights(folder: &Path) -> Vec<PathBuf> {
    let names = [CONFIG].into_iter().chain(crate::text::FILES);
    names.map(|name| folder.join(name)).filter(|path| path.exists()).collect()
}

/// The weight files of a Hugging Face folder: one file, or those that the index names.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join(INDEX);
    if folder.join(ONE).exists() {
        return Ok(vec![folder.join(ONE)]);
    }
    if !index.exists() {
        return Err(without_weights(folder));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(&index).map_err(|e| Error::io(&index, e))?;
    let Index { weight_map } =
        serde_json::from_str(&text).map_err(|e| Error::format(&e).path(&index).line(e.line() as u64))?;
    // A path could lead out of the folder.
    let is_name = |name: &&String| Path::new(name).file_name() == Some(OsStr::new(name));
    if let Some(name) = weight_map.values().find(|name| !is_name(name)) {
        return Err(Error::format(format!("weight_map names {name:?}, which is not a plain file name"))
            .path(&index)
            .help("fetch the model again, from a source that you trust"));
    }
    let files: BTreeSet<PathBuf> = weight_map.values().map(|name| folder.join(name)).collect();
    match files.iter().find(|file| !file.exists()) {
        None => Ok(files.into_iter().collect()),
        Some(file) => Err(Error::not_found("this part of the model is missing")
            .path(file)
            .help("model.safetensors.index.json names it: fetch it too")),
    }
}

/// The error for a folder without safetensors weights; it says what the folder has instead.
fn without_weights(folder: &Path) -> Error {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: BTreeSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let like = |begin: &str, end: &str| names.iter().find(|n| n.starts_with(begin) && n.ends_with(end));
    if let Some(name) = like("model-", ".safetensors") {
        let error =
            format!("{name} is a part of a model, but there is no {INDEX}, which says what each part holds");
        return Error::not_found(error)
            .path(folder)
            .help(format!("fetch {INDEX} too, from where the parts are from"));
    }
    if let Some(name) = like("pytorch_model", ".bin") {
        return Error::not_found(format!("the weights are in {name}, a pickle; safetensors are read"))
            .path(folder)
            .help(format!(
                "write {ONE} beside it, in Python: AutoModelForCausalLM.from_pretrained({folder:?})\
                 .save_pretrained({folder:?}, safe_serialization=True)"
            ));
    }
    if let Some(name) = like("", ".gguf") {
        let error = Error::not_found(format!("no {ONE} inside, but {name}")).path(folder);
        return error.help("give the path of the .gguf file itself");
    }
    Error::not_found(format!("no {ONE} inside"))
        .path(folder)
        .help("give a .gguf file or a Hugging Face folder with config.json and model.safetensors")
}
