//! The stock kernel of evcxr, on the same build: what lorascope must work in as well. The tests run a notebook in it.

use crate::base::{self, Clone as Folder};
use crate::files::link_target;
use crate::paths::{Places, Tools, on_path};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs evcxr's kernel in a folder of its own until it ends.
pub fn run(places: &Places, tools: &Tools, connection: &Path, folder: &Folder) -> Result<bool, String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.folder.display());
    if !base::is_ready(places, tools) {
        return Err(format!("lorascope is not built in {}: run `make kernel`", places.cache.display()));
    }
    base::link_base(places, tools, folder)?;
    link_target(&places.base_crate().join("target"), &folder.krate().join("target"), true).map_err(at)?;
    // evcxr would link with lld where it finds no mold, by a flag that recompiles everything.
    if on_path("mold").is_none() {
        fs::write(folder.folder.join("config/init.evcxr"), ":linker system\n").map_err(at)?;
    }
    // evcxr learns from the first `?` that cells may have one. Where that stands in a cell's last expression, the
    // value would be shown as Debug text: so the first one is here.
    fs::write(folder.folder.join("config/prelude.rs"), "Ok::<(), std::fmt::Error>(())?;\n").map_err(at)?;
    let libraries = folder.krate().join("target").join(&tools.host).join("debug/deps");
    let old = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let libraries = format!("{}:{}:{old}", libraries.display(), tools.libraries.display());
    let mut kernel = Command::new(std::env::current_exe().map_err(at)?)
        .arg("--control_file")
        .arg(connection)
        .env("EVCXR_TMPDIR", folder.krate())
        .env("EVCXR_CONFIG_DIR", folder.folder.join("config"))
        .env("LD_LIBRARY_PATH", libraries.trim_end_matches(':'))
        // Remarks on its configuration; what cells print is a message.
        .stdout(Stdio::null())
        .spawn()
        .map_err(at)?;
    loop {
        if let Some(status) = kernel.try_wait().map_err(at)? {
            return Ok(status.success());
        }
        keep_lock(places, folder).map_err(at)?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Puts back what cargo drops from Cargo.lock when a cell has no `:dep`: evcxr evaluates `42` when it starts. Without
/// this the `:dep` of the first cell would resolve all versions anew, and the newest ones are not those that are built.
fn keep_lock(places: &Places, folder: &Folder) -> std::io::Result<()> {
    let lock = folder.folder.join("Cargo.lock");
    if !fs::read_to_string(&lock).unwrap_or_default().contains("name = \"lorascope\"") {
        fs::copy(places.base().join("Cargo.lock"), folder.folder.join("Cargo.lock.full"))?;
        fs::rename(folder.folder.join("Cargo.lock.full"), lock)?;
    }
    Ok(())
}
