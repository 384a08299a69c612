//! Where everything lies.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with the build of lorascope that cells link with, the clones of the kernels, and the downloads.
#[derive(Debug, Clone)]
pub struct Places {
    /// The checkout (or unpacked package) of lorascope.
    pub source: PathBuf,
    pub cache: PathBuf,
    /// Features of the lorascope of the cells.
    pub features: Vec<String>,
}

impl Places {
    pub fn new(source: Option<PathBuf>, cache: Option<PathBuf>, features: Vec<String>) -> Self {
        let source = source.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        let source = source.canonicalize().unwrap_or(source);
        let cache = cache.unwrap_or_else(user_cache);
        Self { source, cache: std::path::absolute(&cache).unwrap_or(cache), features }
    }

    pub fn base(&self) -> PathBuf {
        self.cache.join("cells")
    }

    /// The folder in which cargo builds a crate called `ctx`, as evcxr does.
    pub fn base_crate(&self) -> PathBuf {
        self.base().join("ctx")
    }

    pub fn kernels(&self) -> PathBuf {
        self.cache.join("kernels")
    }

    /// How rustc was called for the crate of a cell, as `record-rustc` left it.
    pub fn base_call(&self) -> PathBuf {
        self.base().join("rustc.json")
    }

    /// The features of all packages of the base.
    pub fn base_features(&self) -> PathBuf {
        self.base().join("features.json")
    }

    pub fn base_metadata(&self) -> PathBuf {
        self.base().join("metadata.json")
    }
}

fn user_cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("lorascope")
}

/// The file in a kernel's folder that has the number of the cell that is compiled.
pub const CELL_NUMBER: &str = "cell-number";

/// Variables by which a kernel tells its stand-ins where they are.
pub mod variables {
    /// The folder of this kernel.
    pub const CLONE: &str = "LORASCOPE_KERNEL_CLONE";
    /// The base that the kernel stands on.
    pub const BASE: &str = "LORASCOPE_KERNEL_BASE";
    /// The real cargo, rustc and rustup.
    pub const CARGO: &str = "LORASCOPE_KERNEL_CARGO";
    pub const RUSTUP: &str = "LORASCOPE_KERNEL_RUSTUP";
    /// Where the real cargo has what it downloaded.
    pub const CARGO_HOME: &str = "LORASCOPE_KERNEL_CARGO_HOME";
    /// The source of Rust's own library.
    pub const RUST_SOURCE: &str = "LORASCOPE_KERNEL_RUST_SOURCE";
    /// The target of the host.
    pub const HOST: &str = "LORASCOPE_KERNEL_HOST";
    /// The socket between the kernel and the process of the cells.
    pub const SOCKET: &str = "LORASCOPE_KERNEL_SOCKET";
    /// What lines of a cell's output begin with that are meant for the kernel.
    pub const TOKEN: &str = "LORASCOPE_KERNEL_TOKEN";
    /// The file that `record-rustc` writes.
    pub const RECORD: &str = "LORASCOPE_KERNEL_RECORD";
}

/// A variable of the environment, which a stand-in needs.
pub fn variable(name: &str) -> Result<String, String> {
    std::env::var(name)
        .map_err(|_| format!("{name} is not set: this program is started by a lorascope kernel"))
}

/// The tools of Rust that the kernel calls.
#[derive(Debug, Clone)]
pub struct Tools {
    pub cargo: PathBuf,
    pub rustup: Option<PathBuf>,
    /// Where cargo has what it downloaded.
    pub cargo_home: PathBuf,
    /// The target of the host, e.g. `x86_64-unknown-linux-gnu`.
    pub host: String,
    /// The folder of Rust's own shared libraries.
    pub libraries: PathBuf,
    /// Version, commit and host of rustc.
    pub version: String,
}

impl Tools {
    /// The source of Rust's own library, where it is installed.
    pub fn rust_source(&self) -> PathBuf {
        // …/lib/rustlib/HOST/lib
        let rustlib = self.libraries.ancestors().nth(2).unwrap_or(&self.libraries);
        rustlib.join("src/rust/library")
    }

    pub fn find() -> Result<Self, String> {
        let rustup = on_path("rustup");
        let tool = |name: &str| {
            let by_rustup = rustup.as_ref().and_then(|rustup| {
                let output = Command::new(rustup).args(["which", name]).output().ok()?;
                let path = String::from_utf8(output.stdout).ok()?;
                output.status.success().then(|| PathBuf::from(path.trim()))
            });
            by_rustup
                .or_else(|| on_path(name))
                .ok_or_else(|| format!("{name} is missing: install Rust 1.95 or newer with rustup"))
        };
        let (cargo, rustc) = (tool("cargo")?, tool("rustc")?);
        let asked = |arguments: &[&str]| {
            let output = Command::new(&rustc).args(arguments).output();
            let output = output.map_err(|error| format!("{}: {error}", rustc.display()))?;
            String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", rustc.display()))
        };
        let version = asked(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("rustc -vV names no host")?.to_string();
        let libraries = PathBuf::from(asked(&["--print", "target-libdir"])?.trim());
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
        let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from);
        Ok(Self { cargo, rustup, cargo_home, host, libraries, version })
    }
}

/// A program in the folders of `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
