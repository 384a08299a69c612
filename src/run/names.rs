//! Names of runs, and the folders that they stand for.

use super::disk::folder::Folder;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The folder that runs lie in, below the working folder.
const RUNS: &str = "runs";

/// Where a run of this name lies.
pub(crate) fn path_of(name: &str) -> Result<PathBuf> {
    check_name(name)?;
    real(&Path::new(RUNS).join(name))
}

/// Where a run lies that is named, or given by the path of its folder.
pub(crate) fn found_at(name: &str) -> Result<PathBuf> {
    if name.contains(std::path::is_separator) {
        return real(Path::new(name));
    }
    path_of(name)
}

/// The name of a run in this folder.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The absolute path without links, also of a folder that does not exist yet: the registry knows a folder by one
/// name only.
pub(crate) fn real(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
    match (std::fs::canonicalize(&path), path.parent(), path.file_name()) {
        (Err(e), Some(parent), Some(name)) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(real(parent)?.join(name))
        }
        (real, ..) => real.map_err(|e| Error::io(&path, e)),
    }
}

/// A run's name is the name of its folder and nothing else.
fn check_name(name: &str) -> Result<()> {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || name.chars().count() > 60 || name.starts_with('.') || !plain {
        return Err(Error::input(format!("{name:?} cannot name a run"))
            .help("use up to 60 letters, digits, '-', '_' and '.', and no '.' in front"));
    }
    Ok(())
}

/// The error where no run has this name; it lists those that exist.
pub(crate) fn no_run(name: &str, path: &Path) -> Error {
    const LISTED: usize = 20;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut there = Folder::runs_in(folder);
    let help = match there.len() {
        0 => format!("no run lies in {}", folder.display()),
        count => {
            there.truncate(LISTED);
            let more = if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
            format!("there are {}{more}", there.join(", "))
        }
    };
    Error::not_found(format!("no run {name:?}")).path(path).help(help)
}
