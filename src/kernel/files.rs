//! Locks, links and files that are written only if they change.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Waits for a lock on a file, which is made if it is missing; it is given up when the file is dropped.
pub fn locked(path: &Path, alone: bool) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    if alone {
        file.lock()?
    } else {
        file.lock_shared()?
    }
    Ok(file)
}

/// Leaves a file alone that holds the text already: cargo looks at its age.
pub fn write_if_new(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// Writes a file beside its place and moves it there, so that nobody reads half of it.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

/// Brings what cargo has built in `from` to `to`; `ours`: lorascope itself as well. Libraries and programs are hard
/// links. Fingerprints and what build scripts wrote are copies, because they are written in place: a link would give
/// all other folders a new time of writing, after which cargo builds everything in them anew.
pub fn link_target(from: &Path, to: &Path, ours: bool) -> io::Result<()> {
    for debug in debug_folders(from) {
        for part in ["deps", "build", ".fingerprint"] {
            let Ok(entries) = from.join(&debug).join(part).read_dir() else { continue };
            for entry in entries {
                let entry = entry?;
                let file = entry.file_name().to_string_lossy().into_owned();
                if wanted(&file, part == "deps", ours) {
                    bring(&entry.path(), &to.join(&debug).join(part).join(file), part != "deps")?;
                }
            }
        }
    }
    Ok(())
}

/// `debug` and `TARGET/debug`.
fn debug_folders(target: &Path) -> Vec<std::path::PathBuf> {
    let entries = target.read_dir().into_iter().flatten().filter_map(Result::ok);
    let of_targets = entries.map(|entry| Path::new(&entry.file_name()).join("debug"));
    of_targets.chain([Path::new("debug").to_path_buf()]).filter(|debug| target.join(debug).is_dir()).collect()
}

fn wanted(file: &str, deps: bool, ours: bool) -> bool {
    let stem = file.split('.').next().unwrap_or(file);
    let name = stem.rsplit_once('-').map_or(stem, |(name, _)| name);
    let skipped = ["ctx", "libctx"].contains(&name)
        || (!ours && ["lorascope", "liblorascope"].contains(&name))
        // The cells of a kernel, numbered.
        || name.starts_with("libcode_");
    // A file without `lib` is a test.
    !skipped && (!deps || name.starts_with("lib"))
}

fn bring(from: &Path, to: &Path, copy: bool) -> io::Result<()> {
    if from.is_dir() {
        for entry in from.read_dir()? {
            let entry = entry?;
            bring(&entry.path(), &to.join(entry.file_name()), copy)?;
        }
        return Ok(());
    }
    let made = fs::metadata(from)?.modified()?;
    match fs::metadata(to).and_then(|there| there.modified()) {
        Ok(there) if there == made => return Ok(()),
        Ok(_) => fs::remove_file(to)?,
        Err(_) => {}
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    // Another file system, or one without hard links: a copy.
    let program = from.file_name().is_some_and(|name| name.to_string_lossy().starts_with("build-script-"));
    if (copy && !program) || fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_modified(made)?;
    }
    Ok(())
}

/// When the newest file of a folder and of all folders in it was written.
pub fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = folder.read_dir().ok()?.filter_map(Result::ok);
    let time = |entry: fs::DirEntry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() { newest(&entry.path()) } else { entry.metadata().ok()?.modified().ok() }
    };
    entries.filter_map(time).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn libraries_are_linked_and_cells_and_tests_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let deps = from.join("x/debug/deps");
        fs::create_dir_all(&deps).unwrap();
        for file in ["libpolars-1.rlib", "liblorascope.so", "libctx.so", "libcode_3.so", "sums-12"] {
            fs::write(deps.join(file), file).unwrap();
        }
        let others = [
            "build/ring-2/output",
            "build/ring-2/out/libring.a",
            "build/ring-3/build-script-build",
            ".fingerprint/polars-1/lib",
        ];
        for file in others.map(|file| from.join("x/debug").join(file)) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "hash").unwrap();
        }
        let there = |to: &Path| {
            let mut names: Vec<_> =
                to.join("x/debug/deps").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        link_target(&from, &to, false).unwrap();
        assert_eq!(there(&to), ["libpolars-1.rlib"]);
        assert_eq!(fs::read_to_string(to.join("x/debug/.fingerprint/polars-1/lib")).unwrap(), "hash");
        let linked = |file: &str| {
            let number = |folder: &Path| fs::metadata(folder.join("x/debug").join(file)).unwrap().ino();
            number(&from) == number(&to)
        };
        assert_eq!(others.map(linked), [false, false, true, false]);
        assert!(linked("deps/libpolars-1.rlib"));
        link_target(&from, &to, true).unwrap();
        assert_eq!(there(&to), ["liblorascope.so", "libpolars-1.rlib"]);
    }
}
