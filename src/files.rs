//! Files and folders that appear whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::{Builder, NamedTempFile, TempDir};

use crate::display::advice;
use crate::error::{Error, Result};

/// What to do where a file, or a run of the same name, exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// Leaves it alone and fails.
    #[default]
    Refuse,
    /// Replaces it. A file keeps its owner and who may read it; where it is a link, the file that it leads to is
    /// replaced. A run is replaced once the new one is ready: its folder moves to `NAME.1`.
    Replace,
}

/// Refuses what Git leaves in place of a large file that it has not fetched.
pub(crate) fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    match bytes.starts_with(b"version https://git-lfs.github.com/spec/v1") {
        false => Ok(()),
        true => Err(Error::format("a Git LFS pointer, which stands for the file and is not the file itself")
            .path(path)
            .help("run `git lfs pull` in its folder, or fetch the file again")),
    }
}

/// Writes a file, in folders that are made where they are missing.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], existing: Existing) -> Result<()> {
    let mut file = beside(path, existing)?;
    file.write_all(bytes).map_err(|e| Error::io(path, cause(e)))?;
    place(file, path, existing)
}

/// A temporary file in the folder of `path`: moving it stays within one file system.
pub(crate) fn beside(path: &Path, existing: Existing) -> Result<NamedTempFile> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            return Err(Error::input("this is a folder").path(path).help("name a file in it"));
        }
        Ok(about) if !about.is_file() => {
            return Err(Error::input("this is a device or a pipe, which is not replaced by a file")
                .path(path)
                .help("name a file"));
        }
        _ => {}
    }
    if existing == Existing::Refuse && path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    let target = &target(path, existing)?;
    let folder = parent(target)?;
    builder(0o666).tempfile_in(folder).map_err(|e| Error::io(path, cause(e)))
}

/// A temporary folder beside `path`.
pub(crate) fn folder_beside(path: &Path) -> Result<TempDir> {
    let folder = parent(path)?;
    builder(0o777).tempdir_in(folder).map_err(|e| Error::io(path, cause(e)))
}

/// Moves a file that [`beside`] made to its place.
pub(crate) fn place(file: NamedTempFile, path: &Path, existing: Existing) -> Result<()> {
    let target = target(path, existing)?;
    let moved = match existing {
        Existing::Replace => {
            as_before(&file, &target).map_err(|e| Error::io(path, cause(e)))?;
            file.persist(target)
        }
        Existing::Refuse => file.persist_noclobber(target),
    };
    moved.map(drop).map_err(|e| match e.error.kind() {
        // It was not there when the writing began.
        std::io::ErrorKind::AlreadyExists => taken(path),
        _ => Error::io(path, e.error),
    })
}

/// Gives a file that takes the place of another who may read it and whose it is, as far as the writer may, and
/// brings it to the disk: the old one is gone then.
pub(crate) fn as_before(file: &NamedTempFile, old: &Path) -> std::io::Result<()> {
    let Ok(about) = std::fs::symlink_metadata(old) else { return Ok(()) };
    if about.is_file() {
        let file = file.as_file();
        #[cfg(unix)]
        {
            use std::fs::Permissions;
            use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
            // Root gives files away, nobody else may: then it is the writer's, as any new file. A group that
            // cannot be kept has no rights that the old one had.
            let owner = fchown(file, Some(about.uid()), None).is_ok();
            let group = fchown(file, None, Some(about.gid())).is_ok();
            let kept = if group { 0o777 } else { 0o707 };
            let special = if owner && group { 0o7000 } else { 0 };
            file.set_permissions(Permissions::from_mode(about.mode() & (kept | special)))?;
        }
        file.sync_all()?;
    }
    Ok(())
}

/// Where a file is written: a link that is replaced stays one, and the file that it leads to is replaced, or made
/// where there is none.
fn target(path: &Path, existing: Existing) -> Result<PathBuf> {
    if existing == Existing::Refuse || !path.is_symlink() {
        return Ok(path.to_path_buf());
    }
    match std::fs::canonicalize(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut end = path.to_path_buf();
            // A circle is another error.
            while end.is_symlink() {
                let next = std::fs::read_link(&end).map_err(|e| Error::io(path, e))?;
                end = end.parent().unwrap_or(Path::new("")).join(next);
            }
            Ok(end)
        }
        end => end.map_err(|e| Error::io(path, e)),
    }
}

/// What the system said: `tempfile` adds the temporary name, which nobody asked for.
pub(crate) fn cause(error: std::io::Error) -> std::io::Error {
    match error.to_string().split_once(" at path \"") {
        Some((said, _)) => std::io::Error::new(error.kind(), said.to_string()),
        None => error,
    }
}

fn taken(path: &Path) -> Error {
    Error::input("the file exists")
        .path(path)
        .help(advice("choose another name, or say overwrite", "choose another name, or say --overwrite"))
}

fn parent(path: &Path) -> Result<&Path> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    Ok(folder)
}

/// As any other new file: the user's umask decides, not the privacy of temporary files.
fn builder(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    builder.prefix(".lorascope-");
    builder
}
