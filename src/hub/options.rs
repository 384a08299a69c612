//! How files are fetched.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How [`fetch_url`](super::fetch_url) and [`hub_files`](super::hub_files) fetch.
///
/// # Examples
/// ```
/// use lorascope::hub::RemoteOptions;
///
/// let options = RemoteOptions { max_bytes: 1 << 30, ..Default::default() };
/// assert_eq!(options.revision, "main");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteOptions {
    /// The folder for files of the web; `None` for `downloads` in `LORASCOPE_CACHE`, or in the
    /// user's folder for caches.
    pub cache: Option<PathBuf>,
    /// The most bytes that one file may have.
    pub max_bytes: u64,
    /// How often one file is asked for again without a further byte of it.
    pub retries: u32,
    /// Seconds before the first retry; each further one waits twice as long, at most a minute.
    pub pause: f64,
    /// Seconds without an answer or a further byte after which a connection counts as broken.
    pub timeout: f64,
    /// The SHA-256 that the file of an address must have, in hexadecimal.
    pub sha256: Option<String>,
    /// Whether what was fetched before is used.
    pub reuse: Reuse,
    /// Whether the network may be used.
    pub network: Network,
    /// The branch, tag or commit of a dataset of the hub.
    pub revision: String,
    /// Which files of a dataset of the hub are meant, such as `data/train-*.parquet`; `None` for
    /// the training rows, or for all where no file is called so.
    pub files: Option<String>,
    /// The hub's address; `None` for `HF_ENDPOINT` or the public hub.
    pub endpoint: Option<String>,
    /// The hub's cache; `None` for `HF_HUB_CACHE`, `HF_HOME` or the user's folder for caches.
    pub hub_cache: Option<PathBuf>,
    /// The hub's token; `None` for `HF_TOKEN` or the file that the hub's own client writes.
    #[serde(skip)]
    pub token: Option<String>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            cache: None,
            max_bytes: 20_000_000_000,
            retries: 5,
            pause: 1.0,
            timeout: 30.0,
            sha256: None,
            reuse: Reuse::Checked,
            network: Network::FromEnvironment,
            revision: "main".to_string(),
            files: None,
            endpoint: None,
            hub_cache: None,
            token: None,
        }
    }
}

/// Whether what was fetched before is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// It is, if it still has the checksum that it had.
    #[default]
    Checked,
    /// It is fetched again.
    Never,
}

/// Whether the network may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Unless `HF_HUB_OFFLINE` is 1.
    #[default]
    FromEnvironment,
    /// It may.
    Online,
    /// Only what was fetched before is used.
    Offline,
}

/// A variable of the environment that is not empty.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of this process.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl RemoteOptions {
    pub(super) fn check(&self) -> Result<()> {
        for (name, seconds) in [("pause", self.pause), ("timeout", self.timeout)] {
            if !(0.0..=86_400.0).contains(&seconds) {
                return Err(Error::input(format_args!("{name} is {seconds} seconds"))
                    .help("give a number from 0 to 86400"));
            }
        }
        if let Some(hash) = &self.sha256
            && !(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(
                Error::input(format_args!("`{hash}` is no SHA-256")).help("give its 64 hexadecimal digits")
            );
        }
        Ok(())
    }

    pub(super) fn offline(&self, environment: Environment<'_>) -> bool {
        match self.network {
            Network::Online => false,
            Network::Offline => true,
            Network::FromEnvironment => environment("HF_HUB_OFFLINE")
                .is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on")),
        }
    }

    /// Where files of the web are kept.
    pub(super) fn downloads(&self, environment: Environment<'_>) -> Result<PathBuf> {
        let folder = || match environment("LORASCOPE_CACHE") {
            Some(folder) => Some(PathBuf::from(folder)),
            None => caches(environment).map(|caches| caches.join("lorascope")),
        };
        let folder = self.cache.clone().or_else(|| folder().map(|folder| folder.join("downloads")));
        folder.ok_or_else(|| homeless("cache"))
    }

    /// The hub's cache.
    pub(super) fn hub_cache(&self, environment: Environment<'_>) -> Result<PathBuf> {
        let folder = || match environment("HF_HUB_CACHE") {
            Some(folder) => Some(PathBuf::from(folder)),
            None => hub_home(environment).map(|home| home.join("hub")),
        };
        self.hub_cache.clone().or_else(folder).ok_or_else(|| homeless("hub_cache"))
    }

    pub(super) fn endpoint(&self, environment: Environment<'_>) -> String {
        let endpoint = self.endpoint.clone().or_else(|| environment("HF_ENDPOINT"));
        endpoint.as_deref().unwrap_or("https://huggingface.co").trim_end_matches('/').to_string()
    }

    pub(super) fn token(&self, environment: Environment<'_>) -> Option<String> {
        let file = || {
            let path = match environment("HF_TOKEN_PATH") {
                Some(path) => PathBuf::from(path),
                None => hub_home(environment)?.join("token"),
            };
            std::fs::read_to_string(path).ok()
        };
        let token = self.token.clone().or_else(|| environment("HF_TOKEN")).or_else(file)?;
        Some(token.trim().to_string()).filter(|token| !token.is_empty())
    }
}

fn homeless(option: &str) -> Error {
    Error::input("there is no folder for what is fetched: HOME is not set")
        .help(format_args!("set HOME, or give a folder in RemoteOptions::{option}"))
}

fn caches(environment: Environment<'_>) -> Option<PathBuf> {
    let home = || environment("HOME").map(|home| PathBuf::from(home).join(".cache"));
    environment("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
}

fn hub_home(environment: Environment<'_>) -> Option<PathBuf> {
    let home = || caches(environment).map(|caches| caches.join("huggingface"));
    environment("HF_HOME").map(PathBuf::from).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where() {
        let options = RemoteOptions::default();
        let said = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        let home = said(&[("HOME", "/h")]);
        assert_eq!(options.hub_cache(&home).unwrap().to_str(), Some("/h/.cache/huggingface/hub"));
        assert_eq!(options.downloads(&home).unwrap().to_str(), Some("/h/.cache/lorascope/downloads"));
        assert_eq!(
            (options.endpoint(&home).as_str(), options.offline(&home)),
            ("https://huggingface.co", false)
        );
        let set = said(&[
            ("HF_HOME", "/f"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_OFFLINE", "ON"),
            ("LORASCOPE_CACHE", "/l"),
            ("HF_TOKEN", " t\n"),
        ]);
        assert_eq!(options.hub_cache(&set).unwrap().to_str(), Some("/f/hub"));
        assert_eq!(options.downloads(&set).unwrap().to_str(), Some("/l/downloads"));
        assert_eq!((options.endpoint(&set).as_str(), options.offline(&set)), ("http://mirror", true));
        assert_eq!(options.token(&set).as_deref(), Some("t"));
        let cache = said(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]);
        assert_eq!(options.hub_cache(&cache).unwrap().to_str(), Some("/c"));
        assert!(options.hub_cache(&said(&[])).unwrap_err().to_string().contains("HOME is not set"));
        let given = RemoteOptions { network: Network::Online, ..Default::default() };
        assert!(!given.offline(&set));
    }
}
