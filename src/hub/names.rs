//! Validates names from the network before they become part of a path or of a URL.

use std::path::{Component, Path};

use crate::error::{Error, Result};

/// A file name for an address: a hash of it all, and its last part as far as it is harmless.
pub(super) fn of_url(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let last = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let harmless = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = last.chars().map(harmless).collect();
    let name = name.trim_start_matches('.');
    // The end says what the file is.
    let name = &name[name.len().saturating_sub(80)..];
    let hash = xxhash_rust::xxh3::xxh3_128(url.as_bytes());
    if name.is_empty() { format!("{hash:032x}") } else { format!("{hash:032x}-{name}") }
}

fn plain(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty()
        && name.len() <= 96
        && name.bytes().all(letter)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
        && !name.contains("--")
}

/// Checks the name of a dataset or model of the hub: `organisation/name`, or a `name` alone.
pub(super) fn check_id(kind: &str, id: &str) -> Result<()> {
    match id.split_once('/') {
        Some((organisation, name)) if plain(organisation) && plain(name) => Ok(()),
        None if plain(id) => Ok(()),
        _ => Err(Error::input(format_args!("`{id}` is no name of a {kind}"))
            .help("name it as its page does: organisation/name")),
    }
}

/// Checks the name of a branch, a tag or a commit.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b'+');
    if revision.len() <= 200 && revision.bytes().all(letter) && below(revision) && !revision.contains("..") {
        return Ok(());
    }
    Err(Error::input(format_args!("`{revision}` is no revision")).help("give a branch, a tag or a commit"))
}

/// Whether a relative path stays below where it begins.
pub(super) fn below(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', ':'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty())
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        && path.split('/').all(|part| part != "." && part != "..")
}

/// Whether a hash of the hub's can be the name of a file.
pub(super) fn is_hash(hash: &str) -> bool {
    (16..=128).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The files of a model's folder that belong to its tokenizer.
pub(crate) const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
];

/// How well a file of this name holds rows, the best form first; `None` of one that holds none.
pub(crate) fn form_rank(name: &str) -> Option<u8> {
    let name = name.to_lowercase();
    let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    match stem.rsplit_once('.')?.1 {
        "parquet" => Some(0),
        "jsonl" | "ndjson" => Some(1),
        "json" => Some(2),
        "csv" | "tsv" => Some(3),
        _ => None,
    }
}

/// A path as part of an address.
pub(super) fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => out.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_folder() {
        for url in [
            "http://h/a/../../etc/passwd",
            "http://h/..",
            "http://h/%2e%2e%2f",
            "http://h/.hidden",
            "http://h/a\\b",
            "http://h",
            "http://h/数据.json?x=/../y",
        ] {
            let name = of_url(url);
            assert!(name.len() >= 32 && !name.contains(['/', '\\']) && !name.contains("-."), "{name}");
        }
        assert!(of_url("https://h/a/x.json?download=true").ends_with("-x.json"));
        assert_ne!(of_url("https://h/x.json?a"), of_url("https://h/x.json?b"));
        assert!(of_url(&format!("https://h/{}.jsonl.gz", "x".repeat(500))).len() <= 113);
    }

    #[test]
    fn names_of_the_hub() {
        for good in ["BelleGroup/school_math_0.25M", "gsm8k", "a/b-c.d_e"] {
            check_id("dataset", good).unwrap();
        }
        for bad in
            ["", "/", "a/", "../b", "a/..", "a/b/c", "a b", "a/.b", "a/b?x", "-a/b", "a--b/c", "a/b#", "数/a"]
        {
            assert!(check_id("dataset", bad).is_err(), "{bad}");
        }
        for good in ["main", "refs/convert/parquet", "v1.0"] {
            check_revision(good).unwrap();
        }
        for bad in ["", "/main", "a//b", "../x", "a/../b", "a\nb", "a?b", "a/."] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
        assert!(below("data/train.json") && below("数/a b.json"));
        for bad in ["/etc/passwd", "a/../b", "..", "a//b", "./a", "a\\..\\b", "C:/x", "a\0b", "a/"] {
            assert!(!below(bad), "{bad}");
        }
        assert_eq!(escaped("a b/数?.json"), "a%20b/%E6%95%B0%3F.json");
    }
}
