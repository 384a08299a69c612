//! The kernel's launcher on a base with one library in it and a shell script in evcxr's place.

use crate::common::clock::eventually;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const LOCK: &str = "[[package]]\nname = \"lorascope\"\n";

/// A cache folder as `make kernel` leaves it. The script writes what it was given and stays.
fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = cache.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("base/Cargo.toml", "");
    write("base/Cargo.lock", LOCK);
    let target = "base/ctx/target/triple/debug";
    write(&format!("{target}/deps/libpolars-1.rlib"), "polars");
    write(&format!("{target}/deps/liblorascope.so"), "lorascope");
    write(&format!("{target}/deps/libctx.so"), "the crate of a cell");
    write(&format!("{target}/.fingerprint/polars-1/dep-lib-polars"), "polars");
    write(
        "evcxr/bin/evcxr_jupyter",
        "#!/bin/sh\necho \"$2 $EVCXR_TMPDIR $$\" > $EVCXR_TMPDIR/begun\nexec sleep 3600\n",
    );
    let script = cache.path().join("evcxr/bin/evcxr_jupyter");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    cache
}

fn launch(cache: &Path) -> Child {
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel/launch.py");
    Command::new("python3").arg(launcher).arg(cache).arg("connection.json").spawn().unwrap()
}

fn clones(cache: &Path) -> Vec<PathBuf> {
    let Ok(entries) = cache.join("kernels").read_dir() else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The clone in which a kernel has begun and that is not among `known`, and the kernel's process.
fn begun(cache: &Path, known: &[PathBuf]) -> (PathBuf, String) {
    eventually("a kernel begins", || {
        let clone = clones(cache).into_iter().find(|clone| !known.contains(clone))?;
        let text = fs::read_to_string(clone.join("ctx/begun")).ok().filter(|text| text.ends_with('\n'))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words[..2], ["connection.json", clone.join("ctx").to_str().unwrap()]);
        Some((clone.clone(), words[2].to_string()))
    })
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

#[test]
fn two_kernels_have_a_clone_each_and_remove_it() {
    let cache = cache();
    let mut first = launch(cache.path());
    let (one, _) = begun(cache.path(), &[]);
    let mut second = launch(cache.path());
    let (two, _) = begun(cache.path(), std::slice::from_ref(&one));

    let debug = "ctx/target/triple/debug";
    let inode = |folder: &Path, file: &str| fs::metadata(folder.join(debug).join(file)).unwrap().ino();
    let base = cache.path().join("base");
    for clone in [&one, &two] {
        for library in ["deps/libpolars-1.rlib", "deps/liblorascope.so"] {
            assert_eq!(inode(clone, library), inode(&base, library), "{library} is no hard link");
        }
        let fingerprint = ".fingerprint/polars-1/dep-lib-polars";
        assert_ne!(inode(clone, fingerprint), inode(&base, fingerprint), "cargo writes it in place");
        assert!(!clone.join(debug).join("deps/libctx.so").exists(), "a cell of another kernel");
    }

    // What cargo does for a cell without dependencies.
    fs::write(one.join("Cargo.lock"), "[[package]]\nname = \"ctx\"\n").unwrap();
    eventually("the lock is put back", || {
        (fs::read_to_string(one.join("Cargo.lock")).unwrap() == LOCK).then_some(())
    });

    signal("-TERM", &first.id().to_string());
    first.wait().unwrap();
    assert_eq!(clones(cache.path()), std::slice::from_ref(&two));
    signal("-TERM", &second.id().to_string());
    second.wait().unwrap();
    assert!(clones(cache.path()).is_empty());
    assert!(base.join(debug).join("deps/libpolars-1.rlib").exists());
}

#[test]
fn the_clone_of_a_killed_kernel_goes_when_the_next_one_starts() {
    let cache = cache();
    let mut killed = launch(cache.path());
    let (stale, kernel) = begun(cache.path(), &[]);
    killed.kill().unwrap();
    killed.wait().unwrap();

    let mut next = launch(cache.path());
    let (own, _) = begun(cache.path(), std::slice::from_ref(&stale));
    assert!(stale.exists(), "its kernel lives on without the launcher");
    signal("-TERM", &next.id().to_string());
    next.wait().unwrap();
    assert!(!own.exists());

    signal("-KILL", &kernel);
    eventually("the kernel is gone", || {
        let mut last = launch(cache.path());
        begun(cache.path(), std::slice::from_ref(&stale));
        let swept = !stale.exists();
        signal("-TERM", &last.id().to_string());
        last.wait().unwrap();
        swept.then_some(())
    });
    assert!(clones(cache.path()).is_empty());
}

#[test]
fn without_a_base_it_says_what_to_run() {
    let cache = tempfile::tempdir().unwrap();
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel/launch.py");
    let output = Command::new("python3").arg(launcher).arg(cache.path()).arg("x").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("run `make kernel`"));
}
