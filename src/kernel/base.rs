//! The build of lorascope that cells link with, and the folder of each kernel.
//!
//! evcxr compiles each cell as a crate called `ctx`. A first build of polars and candle takes a quarter of an hour, so
//! it happens once, in `base`, and cells name what was built there. Three properties of cargo shape the layout:
//! - A path dependency that is a dylib has no hash in its file name: the `liblorascope.so` of the tests and that of
//!   the cells would overwrite each other. So they have a target folder each, in which the crates from the registry
//!   are hard links; and each kernel has a link of its own to the library that it began with.
//! - The profile of a workspace is the one in its root. So `ctx` is the member of a workspace, and the cells get our
//!   profile and not evcxr's; Cargo.lock lies in the root as well.
//! - cargo drops from Cargo.lock what is not needed at the moment; the stand-in of cargo puts it back.

use crate::files::{link_target, locked, newest, write_if_new};
use crate::paths::{Places, Tools, on_path, variables};
use crate::workspace;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildProgress {
    pub done: u64,
    pub total: u64,
}

/// Whether cells can be compiled at once: lorascope is built, by this toolchain, from the sources as they are.
pub fn is_ready(places: &Places, tools: &Tools) -> bool {
    let key = fs::read_to_string(places.base().join("key")).unwrap_or_default();
    let files = [places.base_call(), places.base_features(), places.base_metadata()];
    key == self::key(places, tools)
        && files.iter().all(|file| file.is_file())
        && built(places, tools) >= newest_source(places)
}

fn built(places: &Places, tools: &Tools) -> Option<std::time::SystemTime> {
    fs::metadata(library(&places.base_crate(), tools)).and_then(|file| file.modified()).ok()
}

fn newest_source(places: &Places) -> Option<std::time::SystemTime> {
    let manifest = fs::metadata(places.source.join("Cargo.toml")).and_then(|file| file.modified()).ok();
    // The kernel itself is no part of the library.
    let modules = places.source.join("src").read_dir().into_iter().flatten().filter_map(Result::ok);
    let modules = modules.filter(|entry| !["kernel", "bin"].contains(&&*entry.file_name().to_string_lossy()));
    let times = modules.filter_map(|entry| match entry.path().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().and_then(|file| file.modified()).ok(),
    });
    times.chain(manifest).max()
}

fn library(krate: &Path, tools: &Tools) -> PathBuf {
    krate.join("target").join(&tools.host).join("debug/deps/liblorascope.so")
}

/// What a build depends on beside the sources.
fn key(places: &Places, tools: &Tools) -> String {
    let lock = fs::read_to_string(places.source.join("Cargo.lock")).unwrap_or_default();
    format!("{}\n{}\n{}\n{lock}", places.source.display(), places.features.join(","), tools.version)
}

/// Builds lorascope as the cells will use it; `progress` hears how far it is.
pub fn build(places: &Places, tools: &Tools, progress: &mut dyn FnMut(BuildProgress)) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", places.base().display());
    let _lock = locked(&places.cache.join("cells.lock"), true).map_err(at)?;
    if is_ready(places, tools) {
        return Ok(()); // by another kernel, while this one waited
    }
    let krate = places.base_crate();
    let features: Vec<String> = places.features.iter().map(|feature| format!("{feature:?}")).collect();
    let member = format!(
        "[package]\nname = \"ctx\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\nlorascope = {{ path = {:?}, features = [{}] }}\n",
        places.source.display().to_string(),
        features.join(", ")
    );
    write_if_new(&krate.join("Cargo.toml"), &member).map_err(at)?;
    write_if_new(&krate.join("src/lib.rs"), "pub use lorascope;\n").map_err(at)?;
    let manifest = fs::read_to_string(places.source.join("Cargo.toml"))
        .map_err(|error| format!("{}: {error}", places.source.join("Cargo.toml").display()))?;
    let root = format!("[workspace]\nmembers = [\"ctx\"]\nresolver = \"3\"\n\n{}", profile(&manifest));
    write_if_new(&places.base().join("Cargo.toml"), &root).map_err(at)?;
    fs::copy(places.source.join("Cargo.lock"), places.base().join("Cargo.lock")).map_err(at)?;
    link_target(&places.cache.join("target"), &krate.join("target"), false).map_err(at)?;
    if !places.base_call().is_file() {
        // rustc is called again only for a file that changed.
        fs::write(krate.join("src/lib.rs"), "pub use lorascope;\n").map_err(at)?;
    }
    let wrapper = places.base().join("record-rustc");
    link_program(&wrapper)?;
    run(
        cargo(&krate, tools).args(["build", "--target", &tools.host]).envs([
            ("RUSTC_WRAPPER", wrapper.as_os_str()),
            (variables::RECORD, places.base_call().as_os_str()),
        ]),
        progress,
    )?;
    workspace::write_metadata(places, tools)?;
    if fs::read_to_string(places.base().join("key")).unwrap_or_default() != key(places, tools) {
        // Of another toolchain, which may lie in the same folder.
        workspace::forget_rust(&places.base());
    }
    fs::write(places.base().join("key"), key(places, tools)).map_err(at)
}

/// cargo as evcxr calls it: another flag would be another build.
pub fn cargo(krate: &Path, tools: &Tools) -> Command {
    let mut command = match on_path("mold") {
        Some(mold) => {
            let mut command = Command::new(mold);
            command.arg("-run").arg(&tools.cargo);
            command
        }
        None => Command::new(&tools.cargo),
    };
    command
        .current_dir(krate)
        .env("CARGO_TARGET_DIR", "target")
        .env("CARGO_BUILD_BUILD_DIR", "target")
        .env("RUSTFLAGS", "-Cprefer-dynamic")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Runs cargo and reads its progress bar; the error is what it said last.
pub fn run(command: &mut Command, progress: &mut dyn FnMut(BuildProgress)) -> Result<(), String> {
    command.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", "100");
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cargo: {error}"))?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let (mut line, mut bytes) = (Vec::new(), [0; 4096]);
        while let Ok(read) = stderr.read(&mut bytes)
            && read > 0
        {
            for byte in &bytes[..read] {
                if !b"\r\n".contains(byte) {
                    line.push(*byte);
                    continue;
                }
                let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
                match build_progress(&text) {
                    Some(now) => progress(now),
                    None if !text.trim().is_empty() => {
                        said += text.trim_end();
                        said.push('\n');
                    }
                    None => {}
                }
            }
        }
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let compiling = |line: &&str| !line.trim_start().starts_with("Compiling ");
    Err(said.lines().filter(compiling).collect::<Vec<_>>().join("\n"))
}

/// Reads `Building [====>   ] 131/402: polars-core`.
fn build_progress(line: &str) -> Option<BuildProgress> {
    let (_, counts) = line.trim_start().strip_prefix("Building [")?.split_once("] ")?;
    let (done, rest) = counts.split_once('/')?;
    let total = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(BuildProgress { done: done.trim().parse().ok()?, total: total.parse().ok()? })
}

/// The section [profile.dev] of a Cargo.toml.
fn profile(manifest: &str) -> String {
    let mut inside = false;
    let lines = manifest.lines().filter(|line| {
        if line.starts_with('[') {
            inside = *line == "[profile.dev]";
        }
        inside
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// A name under which this program is another one.
fn link_program(path: &Path) -> Result<(), String> {
    let at = |error| format!("{}: {error}", path.display());
    let program = std::env::current_exe().map_err(at)?;
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(program, &new).map_err(at)?;
    fs::rename(new, path).map_err(at)
}

/// The folder of a kernel: what evcxr writes and what its cells load. It is removed when this is dropped; that of a
/// killed kernel when the next one starts.
#[derive(Debug)]
pub struct Clone {
    pub folder: PathBuf,
    _in_use: File,
}

impl Clone {
    /// The folder that evcxr compiles cells in.
    pub fn krate(&self) -> PathBuf {
        self.folder.join("ctx")
    }

    /// The folder with this kernel's link to lorascope.
    pub fn libraries(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// What rust-analyzer reads of Rust's own library.
    pub fn rust_source(&self) -> PathBuf {
        self.folder.join("rust/library")
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const IN_USE: &str = "in-use";

/// Makes the folder of a kernel, without what is still to be built.
pub fn new_clone(places: &Places, tools: &Tools) -> Result<Clone, String> {
    let kernels = places.kernels();
    let at = |error: std::io::Error| format!("{}: {error}", kernels.display());
    fs::create_dir_all(&kernels).map_err(at)?;
    let _lock = locked(&kernels.join(".lock"), true).map_err(at)?;
    sweep(&kernels);
    let folder = tempfile::Builder::new().prefix(&format!("{}-", std::process::id())).tempdir_in(&kernels);
    let folder = folder.map_err(at)?.keep();
    let in_use = locked(&folder.join(IN_USE), true).map_err(at)?;
    for part in ["bin", "ctx", "lib", "config", "home", "rust/library"] {
        fs::create_dir_all(folder.join(part)).map_err(at)?;
    }
    for name in ["cargo", "rustup", "record-rustc"] {
        link_program(&folder.join("bin").join(name))?;
    }
    // rust-analyzer calls the cargo that lies in CARGO_HOME.
    std::os::unix::fs::symlink("../bin", folder.join("home/bin")).map_err(at)?;
    let clone = Clone { folder, _in_use: in_use };
    link_rust(tools, &clone).map_err(at)?;
    Ok(clone)
}

/// Links to what rust-analyzer reads of Rust's own library. The intrinsics of all processors (`stdarch`) are half of
/// its text, and no cell has a variable of their types.
fn link_rust(tools: &Tools, clone: &Clone) -> std::io::Result<()> {
    let library = tools.rust_source();
    for part in workspace::RUST_PACKAGES.iter().copied().chain(["Cargo.toml", "Cargo.lock"]) {
        if library.join(part).exists() {
            std::os::unix::fs::symlink(library.join(part), clone.rust_source().join(part))?;
        }
    }
    Ok(())
}

/// Links a kernel to the base, which is built by now.
pub fn link_base(places: &Places, tools: &Tools, clone: &Clone) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", clone.folder.display());
    let _lock = locked(&places.cache.join("cells.lock"), false).map_err(at)?;
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(places.base().join(name), clone.folder.join(name)).map_err(at)?;
    }
    for ending in ["so", "rlib"] {
        let from = library(&places.base_crate(), tools).with_extension(ending);
        let to = clone.libraries().join(format!("liblorascope.{ending}"));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).map_err(at)?;
        }
    }
    Ok(())
}

/// Ends cargo and rustc where a cell is being compiled: all processes that this one started, but that of the cells.
pub fn end_compilation(cells: Option<u32>) {
    let parents: HashMap<u32, u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // The name of a program may hold brackets and blanks.
            let parent = status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((process, parent))
        })
        .collect();
    let ours = std::process::id();
    for process in parents.keys() {
        let line = std::iter::successors(Some(*process), |process| parents.get(process).copied());
        let line: Vec<u32> = line.take_while(|process| *process != ours && *process > 1).collect();
        let top = line.last().copied();
        if top.is_some_and(|top| parents.get(&top) == Some(&ours)) && top != cells {
            // SAFETY: a plain call; a process that is gone by now is no matter.
            unsafe { libc::kill(*process as libc::pid_t, libc::SIGTERM) };
        }
    }
}

/// Removes the folders whose kernel is gone: nobody holds the lock on their `in-use` file.
fn sweep(kernels: &Path) {
    for entry in kernels.read_dir().into_iter().flatten().filter_map(Result::ok) {
        let folder = entry.path();
        if !folder.is_dir() {
            continue;
        }
        let gone = match File::open(folder.join(IN_USE)) {
            Ok(file) => file.try_lock().is_ok(),
            Err(_) => true,
        };
        if gone {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_bar_of_cargo_is_read() {
        let line = "    Building [=======>                ] 131/402: polars-core, candle-core(build)";
        assert_eq!(build_progress(line), Some(BuildProgress { done: 131, total: 402 }));
        assert_eq!(build_progress("   Compiling polars-core v0.55.2"), None);
        assert_eq!(build_progress("Building [odd"), None);
    }

    #[test]
    fn the_profile_of_the_cells_is_that_of_the_library() {
        let manifest = "[package]\nname = \"x\"\n[profile.dev]\nopt-level = 2\nrpath = true\n[profile.release]\nlto = true\n";
        assert_eq!(profile(manifest), "[profile.dev]\nopt-level = 2\nrpath = true\n");
    }

    #[test]
    fn each_kernel_has_a_folder_and_those_of_killed_ones_go() {
        let cache = tempfile::tempdir().unwrap();
        let places = Places::new(None, Some(cache.path().to_path_buf()), Vec::new());
        let tools = Tools::find().unwrap();
        let stale = places.kernels().join("1-stale");
        fs::create_dir_all(&stale).unwrap();
        fs::write(stale.join(IN_USE), "").unwrap();
        let first = new_clone(&places, &tools).unwrap();
        assert!(!stale.exists() && first.folder.join("bin/cargo").is_symlink());
        assert_eq!(first.rust_source().join("core").exists(), tools.rust_source().join("core").exists());
        let second = new_clone(&places, &tools).unwrap();
        assert!(first.folder.exists() && first.folder != second.folder, "the first one is in use");
        let folder = second.folder.clone();
        drop(second);
        assert!(!folder.exists());
    }
}
