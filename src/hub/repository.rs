//! Datasets and models of the hub, stored in the layout of its own client: blobs named by their hash, and snapshots
//! that link to them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::{Answer, Client, Follow, passing};
use super::fetch::{Wanted, beside, fetch, lock};
use super::names::{TOKENIZER_FILES, below, check_id, check_revision, escaped, form_rank, is_hash};
use super::options::{RemoteOptions, environment};
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};

/// Downloads the files of a dataset of the Hugging Face hub into the hub's cache, and returns their paths there,
/// sorted by name.
///
/// The files are those of the training rows, or all with rows where none is called so;
/// [`RemoteOptions::files`] names others. `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` and
/// `HF_HUB_OFFLINE` mean what they mean to the hub's own client.
///
/// # Errors
/// If the name is none, if there is no such dataset, revision or file, if the dataset needs a token,
/// if the network may not be used and the files were not fetched before, and as for
/// [`fetch_url`](super::fetch_url).
pub fn hub_files(id: &str, options: &RemoteOptions) -> Result<Vec<PathBuf>> {
    files(RepositoryKind::Dataset, id, options)
}

/// Downloads a model of the Hugging Face hub into the hub's cache, and returns what
/// [`Model::open`](crate::model::Model::open) opens: the folder of its snapshot, with config,
/// tokenizer, chat template and safetensors, or the one file that [`RemoteOptions::files`] names,
/// such as `*Q4_K_M.gguf`.
///
/// # Errors
/// As for [`hub_files`], and if the model has no safetensors.
pub fn hub_model(id: &str, options: &RemoteOptions) -> Result<PathBuf> {
    let fetched = files(RepositoryKind::Model, id, options)?;
    match (&options.files, fetched.as_slice()) {
        (Some(_), [one]) => Ok(one.clone()),
        (Some(pattern), several) => {
            Err(Error::input(format_args!("{} files of the model {id} match {pattern}", several.len()))
                .help("name one .gguf file in RemoteOptions::files"))
        }
        (None, several) => {
            // All lie at the top of the snapshot, but for templates, which may lie one deeper.
            let config = several.iter().find(|path| path.ends_with(MODEL_CONFIG));
            let folder = config.and_then(|path| path.parent());
            folder.map(Path::to_path_buf).ok_or_else(|| Error::compute("the model's config was not fetched"))
        }
    }
}

fn files(kind: RepositoryKind, id: &str, options: &RemoteOptions) -> Result<Vec<PathBuf>> {
    check_id(kind.name(), id)?;
    check_revision(&options.revision)?;
    let folder = format!("{}s--{}", kind.name(), id.replace('/', "--"));
    let folder = options.hub_cache(&environment)?.join(folder);
    if options.offline(&environment) {
        return cached(kind, &folder, id, options);
    }
    let hub = Hub {
        kind,
        client: Client::new(options)?,
        endpoint: options.endpoint(&environment),
        token: options.token(&environment),
        id,
        options,
        folder: &folder,
    };
    let found = hub.list()?;
    let chosen = kind.choose(found.names(), id, options)?;
    let reference = folder.join("refs").join(&options.revision);
    if options.revision != found.sha {
        write_whole(&reference, found.sha.as_bytes(), Existing::Replace)?;
    }
    chosen.iter().map(|name| hub.file(&found.sha, name)).collect()
}

/// What the hub has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RepositoryKind {
    Dataset,
    Model,
}

impl RepositoryKind {
    fn name(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Model => "model",
        }
    }

    /// Where its files lie: those of models at the top.
    fn root(self) -> &'static str {
        match self {
            Self::Dataset => "datasets/",
            Self::Model => "",
        }
    }

    fn choose(self, names: Vec<String>, id: &str, options: &RemoteOptions) -> Result<Vec<String>> {
        match self {
            Self::Dataset => choose(names, id, options),
            Self::Model => choose_model(names, id, options),
        }
    }
}

struct Hub<'a> {
    kind: RepositoryKind,
    client: Client,
    endpoint: String,
    token: Option<String>,
    id: &'a str,
    options: &'a RemoteOptions,
    folder: &'a Path,
}

/// What the hub says of a revision.
#[derive(Deserialize)]
struct Found {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Found {
    fn names(&self) -> Vec<String> {
        self.siblings.iter().map(|file| file.rfilename.clone()).collect()
    }
}

impl Hub<'_> {
    /// The files of the revision.
    fn list(&self) -> Result<Found> {
        let revision = escaped(&self.options.revision).replace('/', "%2F");
        let (kind, id) = (self.kind.name(), self.id);
        let url = format!("{}/api/{kind}s/{id}/revision/{revision}", self.endpoint);
        let (status, headers, text) = self.client.text(&url, self.token.as_deref())?;
        if status != 200 {
            return Err(self.refused(
                status,
                headers.get("x-error-code").and_then(|code| code.to_str().ok()),
                None,
            ));
        }
        let found: Found = serde_json::from_str(&text).map_err(|e| {
            Error::format(format_args!("{url} gives no list of files: {e}")).help("check HF_ENDPOINT")
        })?;
        if !(found.sha.len() == 40 && found.sha.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(Error::format(format_args!("{url} names `{}`, which is no commit", found.sha))
                .help("check HF_ENDPOINT"));
        }
        Ok(found)
    }

    /// One file, fetched where it is not there.
    fn file(&self, sha: &str, name: &str) -> Result<PathBuf> {
        let place = self.folder.join("snapshots").join(sha).join(name);
        if place.is_file() {
            return Ok(place);
        }
        let (root, id) = (self.kind.root(), self.id);
        let url = format!("{}/{root}{id}/resolve/{sha}/{}", self.endpoint, escaped(name));
        let (hash, size) = self.about(&url, name)?;
        let blobs = self.folder.join("blobs");
        let blob = blobs.join(&hash);
        let locks = self.folder.with_file_name(".locks").join(self.folder.file_name().unwrap_or_default());
        let _lock = lock(&locks.join(format!("{hash}.lock")))?;
        if !blob.is_file() {
            std::fs::create_dir_all(&blobs).map_err(|e| Error::io(&blobs, e))?;
            // A large file's hash is its SHA-256, a small one's that of git.
            let sha256 = (hash.len() == 64).then_some(hash.as_str());
            let wanted = Wanted { url: &url, token: self.token.as_deref(), size, sha256 };
            let done = fetch(&self.client, &wanted, &beside(&blob, "incomplete"), self.options)?;
            std::fs::rename(&done.path, &blob).map_err(|e| Error::io(&blob, e))?;
        }
        link(&blob, &hash, &place, name)?;
        Ok(place)
    }

    /// The hash and the size of a file, which the hub says before it leads to where the file lies.
    fn about(&self, url: &str, name: &str) -> Result<(String, Option<u64>)> {
        let mut tries = 0;
        let answer: Answer = loop {
            tries += 1;
            // Not even one byte is wanted yet.
            let none = [("range", "bytes=0-0".to_string())];
            match self.client.get(url, &none, self.token.as_deref(), Follow::SameHost) {
                Ok(answer) if passing(answer.status) && tries <= self.client.retries() => {
                    self.client.wait(tries, answer.header("retry-after"));
                }
                Ok(answer) => break answer,
                Err(failure) if failure.passing && tries <= self.client.retries() => {
                    self.client.wait(tries, None)
                }
                Err(failure) => return Err(failure.error),
            }
        };
        if !matches!(answer.status, 200 | 206 | 301..=308 | 416) {
            return Err(self.refused(answer.status, answer.header("x-error-code"), Some(name)));
        }
        let said = |header: &str| {
            answer
                .way
                .iter()
                .rev()
                .find_map(|headers| headers.get(header))
                .and_then(|value| value.to_str().ok())
        };
        let tag = said("x-linked-etag").or_else(|| said("etag")).unwrap_or_default();
        let hash = tag.trim_start_matches("W/").trim_matches('"').to_string();
        if !is_hash(&hash) {
            return Err(
                Error::format(format_args!("the hub gives no hash of {name}")).help("check HF_ENDPOINT")
            );
        }
        Ok((hash, said("x-linked-size").and_then(|size| size.parse().ok())))
    }

    /// Why the hub gives nothing.
    fn refused(&self, status: u16, code: Option<&str>, file: Option<&str>) -> Error {
        let id = format!("{} {}", self.kind.name(), self.id);
        match (status, code) {
            (_, Some("RevisionNotFound")) => {
                Error::not_found(format_args!("the {id} has no revision {}", self.options.revision))
                    .help("give a branch, a tag or a commit of it in RemoteOptions::revision")
            }
            (404, Some("EntryNotFound")) => {
                Error::not_found(format_args!("the {id} has no file {}", file.unwrap_or_default()))
            }
            (404, _) => Error::not_found(format_args!("the hub has no {id}"))
                .help("check the name; for a private one set HF_TOKEN"),
            // Without a token the hub does not say whether there is such a dataset.
            (401 | 403, _) if self.token.is_none() => Error::input(format_args!(
                "the hub does not give out the {id}: it is gated, private, or not there"
            ))
            .help("check the name, accept its terms on its page, and set HF_TOKEN"),
            (401 | 403, _) => Error::input(format_args!("the hub does not give out the {id} for this token"))
                .help("accept its terms on its page, and set HF_TOKEN to a token that may read it"),
            _ => Error::format(format_args!("the hub answers {status} for the {id}")).help("try again later"),
        }
    }
}

/// The link from a snapshot to a blob; a copy where links cannot be made.
fn link(blob: &Path, hash: &str, place: &Path, name: &str) -> Result<()> {
    let folder = place.parent().unwrap_or(place);
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    // A link that leads nowhere is of an earlier blob.
    let _ = std::fs::remove_file(place);
    #[cfg(unix)]
    {
        let up = "../".repeat(name.split('/').count() + 1);
        if std::os::unix::fs::symlink(format!("{up}blobs/{hash}"), place).is_ok() {
            return Ok(());
        }
    }
    let _ = (hash, name);
    let part = beside(place, "part");
    std::fs::copy(blob, &part).and_then(|_| std::fs::rename(&part, place)).map_err(|e| Error::io(place, e))
}

/// The files that were fetched before.
fn cached(kind: RepositoryKind, folder: &Path, id: &str, options: &RemoteOptions) -> Result<Vec<PathBuf>> {
    let missing = || {
        let kind = kind.name();
        Error::state(format_args!("the {kind} {id} was not fetched before, and network access is off"))
            .help("unset HF_HUB_OFFLINE, or set RemoteOptions::network")
    };
    let reference = std::fs::read_to_string(folder.join("refs").join(&options.revision));
    let sha = reference.map_or_else(|_| options.revision.clone(), |sha| sha.trim().to_string());
    let snapshot = folder.join("snapshots").join(&sha);
    if !below(&sha) || !snapshot.is_dir() {
        return Err(missing());
    }
    let mut names = Vec::new();
    walk(&snapshot, "", &mut names)?;
    if names.is_empty() {
        return Err(missing());
    }
    Ok(kind.choose(names, id, options)?.iter().map(|name| snapshot.join(name)).collect())
}

fn walk(folder: &Path, before: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in folder.read_dir().map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        match entry.path() {
            path if path.is_dir() => walk(&path, &format!("{name}/"), names)?,
            path if path.is_file() => names.push(name),
            _ => {}
        }
    }
    Ok(())
}

/// Files that describe a dataset and hold none of its rows.
const NO_ROWS: [&str; 5] =
    ["dataset_info.json", "dataset_infos.json", "package.json", "config.json", "state.json"];

const MODEL_CONFIG: &str = "config.json";

/// The files that a model is opened from.
fn choose_model(names: Vec<String>, id: &str, options: &RemoteOptions) -> Result<Vec<String>> {
    let mut all: Vec<String> = names.into_iter().filter(|name| below(name)).collect();
    all.sort();
    if options.files.is_some() {
        return matching(&all, &format!("model {id}"), options);
    }
    let shards = all.iter().any(|name| name == "model.safetensors.index.json");
    let weights = |name: &str| {
        let part = name.starts_with("model-") && name.ends_with(".safetensors");
        if shards { part || name == "model.safetensors.index.json" } else { name == "model.safetensors" }
    };
    let beside = |name: &str| name == MODEL_CONFIG || TOKENIZER_FILES.contains(&name);
    if !all.iter().any(|name| weights(name)) || !all.iter().any(|name| name == MODEL_CONFIG) {
        let what = format!("the model {id} has no config.json with safetensors: {}", shown(&all));
        return Err(Error::not_found(what).help("name a .gguf file of it in RemoteOptions::files"));
    }
    Ok(all.into_iter().filter(|name| weights(name) || beside(name)).collect())
}

fn shown(names: &[String]) -> String {
    match names.len() {
        0 => "it is empty".to_string(),
        1..=12 => format!("it has {}", names.join(", ")),
        n => format!("it has {} and {} more", names[..12].join(", "), n - 12),
    }
}

/// The files that [`RemoteOptions::files`] names.
fn matching(all: &[String], whose: &str, options: &RemoteOptions) -> Result<Vec<String>> {
    let pattern = options.files.as_deref().unwrap_or_default();
    let glob = glob::Pattern::new(pattern)
        .map_err(|e| Error::input(format_args!("the pattern `{pattern}` cannot be used: {e}")))?;
    let chosen: Vec<String> = all.iter().filter(|name| glob.matches(name)).cloned().collect();
    if chosen.is_empty() {
        let what = format!("the {whose} has no file {pattern}: {}", shown(all));
        return Err(Error::not_found(what).help("name one of them in RemoteOptions::files"));
    }
    Ok(chosen)
}

/// The files with rows among those of a dataset.
fn choose(names: Vec<String>, id: &str, options: &RemoteOptions) -> Result<Vec<String>> {
    let mut all: Vec<String> = names.into_iter().filter(|name| below(name)).collect();
    all.sort();
    if options.files.is_some() {
        return matching(&all, &format!("dataset {id}"), options);
    }
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_string();
    let rows: Vec<&String> = all
        .iter()
        .filter(|name| {
            form_rank(name).is_some() && !last(name).starts_with('.') && !NO_ROWS.contains(&&*last(name))
        })
        .collect();
    let word = |name: &str, words: &[&str]| {
        name.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).any(|part| words.contains(&part))
    };
    let train: Vec<&String> =
        rows.iter().copied().filter(|name| word(name, &["train", "training"])).collect();
    let held = ["test", "valid", "validation", "val", "dev", "eval", "evaluation"];
    let rest: Vec<&String> = rows.iter().copied().filter(|name| !word(name, &held)).collect();
    let chosen = [train, rest, rows].into_iter().find(|names| !names.is_empty()).unwrap_or_default();
    // The same rows often lie there in two forms.
    let best = chosen.iter().map(|name| form_rank(name)).min();
    let chosen: Vec<String> =
        chosen.into_iter().filter(|name| Some(form_rank(name)) == best).cloned().collect();
    if chosen.is_empty() {
        return Err(Error::not_found(format_args!("the dataset {id} has no file of rows: {}", shown(&all)))
            .help("name a file in RemoteOptions::files"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_training_rows_are_chosen() {
        let choose = |names: &[&str], files: Option<&str>| {
            let options = RemoteOptions { files: files.map(str::to_string), ..Default::default() };
            super::choose(names.iter().map(|name| name.to_string()).collect(), "a/b", &options)
                .map(|chosen| chosen.join(" "))
                .map_err(|error| error.to_string())
        };
        let belle = [".gitattributes", "README.md", "school_math_0.25M.json"];
        assert_eq!(choose(&belle, None).unwrap(), "school_math_0.25M.json");
        let split =
            ["data/test-0.parquet", "data/train-1.parquet", "data/train-0.parquet", "dataset_infos.json"];
        assert_eq!(choose(&split, None).unwrap(), "data/train-0.parquet data/train-1.parquet");
        assert_eq!(choose(&split, Some("data/test-*")).unwrap(), "data/test-0.parquet");
        assert_eq!(
            choose(&["a.jsonl", "a.parquet", "b.parquet", "dev.csv"], None).unwrap(),
            "a.parquet b.parquet"
        );
        assert_eq!(choose(&["dev.csv", "test.csv"], None).unwrap(), "dev.csv test.csv");
        assert_eq!(choose(&["../x.json", "/y.json", "a.json"], None).unwrap(), "a.json");
        let error = choose(&["README.md"], None).unwrap_err();
        assert_eq!(
            error,
            "the dataset a/b has no file of rows: it has README.md; name a file in RemoteOptions::files"
        );
        assert!(choose(&belle, Some("x*")).unwrap_err().contains("has no file x*: it has .gitattributes"));
    }
}
