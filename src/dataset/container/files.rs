//! The files that a path stands for: one, all of a folder, or those that a pattern matches.

use std::path::{Path, PathBuf};

use super::form::Container;
use crate::error::{Error, Result};

/// The endings of files of rows; each may be followed by `.gz` or `.zst`.
const ENDINGS: &str = ".json, .jsonl, .ndjson, .csv, .tsv or .parquet";

/// The files of rows that a path stands for, sorted by name.
///
/// A file stands for itself, whatever it is called. Of a folder it is the files with the ending of a
/// container, without hidden ones and those in folders below. Of a pattern (`*`, `?`, `[…]`, `**` for
/// folders below) it is all files that it matches.
pub(in crate::dataset) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_dir() {
        return folder(path);
    }
    match path.to_str() {
        // A file may well have a bracket in its name.
        Some(pattern) if !path.exists() && pattern.contains(['*', '?', '[']) => matching(pattern),
        _ if !path.exists() => Err(missing(path)),
        _ => Ok(vec![path.to_path_buf()]),
    }
}

/// There is no such file: says what its folder holds.
fn missing(path: &Path) -> Error {
    let error = Error::not_found("no such file or folder").path(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match folder.read_dir() {
        Err(_) => error.help("its folder does not exist either: check the path"),
        Ok(entries) => {
            let found = entries.flatten().map(|entry| entry.path());
            let mut found: Vec<PathBuf> = found.filter(|path| !hidden(path)).collect();
            found.sort();
            match found.is_empty() {
                true => error.help("its folder is empty"),
                false => error.help(format_args!("check the name{}", list(found))),
            }
        }
    }
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    for entry in path.read_dir().map_err(|e| Error::io(path, e))? {
        let entry = entry.map_err(|e| Error::io(path, e))?.path();
        if hidden(&entry) {
            continue;
        }
        match entry.is_file() && Container::of_name(&entry).is_some() {
            true => found.push(entry),
            false => others.push(entry),
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::input(format_args!("the folder holds no file of rows{}", list(others)))
            .path(path)
            .help(format_args!("name a folder with files that end in {ENDINGS}")));
    }
    Ok(found)
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let paths = glob::glob_with(pattern, options)
        .map_err(|e| Error::input(format_args!("the pattern cannot be used: {e}")).path(pattern))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|e| Error::io(e.path(), e.error().kind().into()))?;
        if path.is_file() && !hidden(&path) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        let literal: PathBuf = Path::new(pattern)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
            .collect();
        let literal = if literal.as_os_str().is_empty() { PathBuf::from(".") } else { literal };
        let there = match literal.read_dir() {
            Ok(entries) => {
                list(entries.filter_map(|e| e.ok()).map(|e| e.path()).filter(|p| !hidden(p)).collect())
            }
            Err(_) => format!(": there is no folder {}", literal.display()),
        };
        return Err(Error::not_found(format_args!("no file matches the pattern{there}"))
            .path(pattern)
            .help("`*` stands for any part of a name, `**` for folders below"));
    }
    Ok(found)
}

/// What there is instead.
fn list(mut paths: Vec<PathBuf>) -> String {
    const SHOWN: usize = 8;
    paths.sort();
    let mut names: Vec<String> = paths
        .iter()
        .take(SHOWN)
        .map(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() { format!("{name}/") } else { name }
        })
        .collect();
    if paths.len() > SHOWN {
        names.push(format!("{} more", paths.len() - SHOWN));
    }
    if names.is_empty() { ": it is empty".into() } else { format!("; there are {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: Result<Vec<PathBuf>>, root: &Path) -> Result<String, String> {
        let name = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
        match found {
            Ok(paths) => Ok(paths.iter().map(name).collect::<Vec<_>>().join(" ")),
            Err(error) => Err(error.to_string().replace(&format!("{}/", root.display()), "")),
        }
    }

    #[test]
    fn folders_and_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "b.jsonl",
            "a.CSV.gz",
            "c.parquet",
            ".hidden.json",
            "notes.md",
            "x[1].txt",
            "sub/d.json",
            "sub/.e.json",
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let find = |what: &str| names(files(&root.join(what)), root);
        assert_eq!(find("").unwrap(), "a.CSV.gz b.jsonl c.parquet");
        assert_eq!(find("*.jsonl").unwrap(), "b.jsonl");
        assert_eq!(find("**/*.json*").unwrap(), "b.jsonl sub/d.json");
        assert_eq!(find("x[1].txt").unwrap(), "x[1].txt", "a file that is there is no pattern");
        assert!(
            find("none.json")
                .unwrap_err()
                .contains("no such file or folder; check the name; there are a.CSV.gz, ")
        );
        let error = find("*.tsv").unwrap_err();
        assert!(
            error.starts_with(
                "*.tsv: no file matches the pattern; there are a.CSV.gz, b.jsonl, c.parquet, notes.md, sub/"
            ),
            "{error}"
        );
        std::fs::create_dir(root.join("empty")).unwrap();
        let error = find("empty").unwrap_err();
        assert!(error.contains("the folder holds no file of rows: it is empty; name a folder"), "{error}");
        assert!(find("no/*.json").unwrap_err().contains("there is no folder"));
        assert!(find("a***b").unwrap_err().contains("the pattern cannot be used"));
    }

    #[cfg(unix)]
    #[test]
    fn links_may_lead_anywhere() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("far.json"), "[]").unwrap();
        std::os::unix::fs::symlink(other.path().join("far.json"), folder.path().join("near.json")).unwrap();
        std::os::unix::fs::symlink(other.path().join("gone.json"), folder.path().join("gone.json")).unwrap();
        assert_eq!(files(folder.path()).unwrap(), [folder.path().join("near.json")]);
    }
}
