//! The files that a path stands for: one, all of a folder, or those that a pattern matches.

use std::path::{Component, Path, PathBuf};

use super::form::Container;
use crate::error::{Error, Result};

/// The endings of files of rows; each may be followed by `.gz` or `.zst`.
const ENDINGS: &str = ".json, .jsonl, .ndjson, .csv, .tsv or .parquet";

/// The files of rows that a path stands for, sorted by name.
///
/// A file stands for itself, whatever it is called. Of a folder it is the files with the ending of a
/// container, without hidden ones and those in folders below. Of a pattern (`*`, `?`, `[…]`, `**` for
/// folders below) it is all files that it matches.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
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

/// The folders in a folder that hold files of rows: these are not read with it.
pub(crate) fn folders_below(path: &Path) -> Vec<PathBuf> {
    let entries = path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| entry.is_dir() && !hidden(entry) && holds_rows(entry, BELOW)).collect();
    found.sort();
    found
}

/// Folders within folders that are looked into.
const BELOW: usize = 8;

fn holds_rows(folder: &Path, depth: usize) -> bool {
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|entry| !hidden(entry)).any(|entry| match entry.is_dir() {
        true => depth > 0 && holds_rows(&entry, depth - 1),
        false => Container::of_name(&entry).is_some(),
    })
}

/// Refuses to write a file that a folder or a pattern would stand for as well: the next time it would
/// be read with the others.
pub(crate) fn refuse_inside(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        return Ok(());
    }
    let pattern = from.to_str().filter(|pattern| !from.is_dir() && pattern.contains(['*', '?', '[']));
    let target = real(to);
    let inside = if from.is_dir() {
        Container::of_name(to).is_some() && target.parent() == Some(&real(from))
    } else {
        pattern.is_some_and(|pattern| matches(pattern, &target))
    };
    // Through a link the file may well be one of them.
    let same = || files(from).is_ok_and(|found| found.iter().any(|file| real(file) == target));
    if inside || to.exists() && same() {
        let what = format!("the file would be one of those that {} stands for", from.display());
        return Err(Error::input(what)
            .path(to)
            .help("write it into another folder, or name the files to read"));
    }
    Ok(())
}

/// The path without links and dots; what is not there has no links.
pub(crate) fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut real = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
        real = real.canonicalize().unwrap_or(real);
    }
    real
}

/// The path with its folder's links and dots resolved; a link itself keeps its name.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = std::fs::canonicalize(folder).map_err(|e| Error::io(path, e))?;
    Ok(path.file_name().map_or(folder.clone(), |name| folder.join(name)))
}

/// Whether a pattern matches a path, which is a real one.
fn matches(pattern: &str, path: &Path) -> bool {
    let literal = literal(pattern);
    let rest = Path::new(pattern).strip_prefix(&literal).unwrap_or(Path::new(pattern));
    let folder = if literal.as_os_str().is_empty() { PathBuf::from(".") } else { literal };
    let Some(folder) = real(&folder).to_str().map(glob::Pattern::escape) else { return false };
    let options = glob::MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..Default::default()
    };
    // Without dots: the path has none.
    let rest: PathBuf = rest.components().collect();
    let whole = format!("{folder}/{}", rest.display());
    glob::Pattern::new(&whole).is_ok_and(|pattern| pattern.matches_path_with(path, options))
}

/// The folders before the first part of a pattern that is one.
fn literal(pattern: &str) -> PathBuf {
    let special = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    Path::new(pattern).components().take_while(|part| !special(part)).collect()
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
        let literal = literal(pattern);
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

    #[test]
    fn folders_below_are_those_with_rows() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "deep/er/b.csv", "code/main.py", ".git/x.json", "two/c.parquet"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let found = folders_below(folder.path());
        assert_eq!(found, ["deep", "two"].map(|name| folder.path().join(name)));
        assert!(folders_below(&folder.path().join("a.jsonl")).is_empty());
    }

    #[test]
    fn outputs_are_kept_out_of_the_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("in")).unwrap();
        std::fs::write(root.join("in/a.jsonl"), "x").unwrap();
        let refused = |from: &str, to: &str| refuse_inside(&root.join(from), &root.join(to)).is_err();
        for (from, to) in [
            ("in", "in/out.jsonl"),
            ("in", "in/../in/out.parquet"),
            ("in", "in/a.jsonl"),
            ("in/*", "in/out.jsonl"),
            ("*/*.jsonl", "in/out.jsonl"),
            ("**/*.jsonl", "in/new/out.jsonl"),
            ("i?/./*.jsonl", "in/out.jsonl"),
        ] {
            assert!(refused(from, to), "{from} {to}");
        }
        for (from, to) in [
            ("in", "out.jsonl"),
            ("in", "in/below/out.jsonl"),
            ("in/*.json", "in/out.jsonl"),
            ("*/a.jsonl", "in/out.jsonl"),
            ("in/a.jsonl", "in/a.jsonl"),
            ("in/a.jsonl", "in/b.jsonl"),
        ] {
            assert!(!refused(from, to), "{from} {to}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn outputs_are_found_behind_links() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("far.json"), "[]").unwrap();
        std::os::unix::fs::symlink(other.path().join("far.json"), folder.path().join("near.json")).unwrap();
        assert!(refuse_inside(folder.path(), &other.path().join("far.json")).is_err());
        std::os::unix::fs::symlink(folder.path(), other.path().join("again")).unwrap();
        assert!(refuse_inside(folder.path(), &other.path().join("again/new.json")).is_err());
        assert!(refuse_inside(folder.path(), &other.path().join("new.json")).is_ok());
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
