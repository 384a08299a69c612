//! The notebook kernel, which is a program of its own: it links with evcxr and not with lorascope.

use lorascope::error::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const PROGRAM: &str = "lorascope-kernel";

#[derive(clap::Args)]
pub struct Arguments {
    /// What lorascope-kernel is told: install, uninstall, build, run; help lists its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let program = program().ok_or_else(|| {
        Error::not_found(format!("{PROGRAM} is neither beside this program nor in PATH"))
            .help("`make kernel` builds it, as does `cargo build --release` in src/kernel")
    })?;
    let status = Command::new(&program).args(&arguments.arguments).status();
    let status = status.map_err(|error| Error::io(&program, error))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The program beside this one, or in the folders of `PATH`.
fn program() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.with_file_name(PROGRAM);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM));
    std::iter::once(beside).chain(on_path).find(|file| file.is_file())
}
