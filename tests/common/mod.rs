//! What several test files need.
#![allow(dead_code, reason = "each group of tests uses a part of it")]

pub mod archive;
pub mod bits;
pub mod clock;
#[cfg(feature = "cli")]
pub mod command;
pub mod devices;
pub mod drawn;
pub mod fake_kernel;
pub mod files;
pub mod found;
#[path = "../../src/bin/lorascope/generate/mod.rs"]
pub mod generate;
pub mod gguf;
pub mod golden;
pub mod imports;
pub mod llama;
pub mod messages;
pub mod one_row;
pub mod reference;
pub mod rows;
pub mod runs;
pub mod server;
pub mod svg;
pub mod tiny;
pub mod tiny_adapters;
pub mod working_folder;

use std::path::PathBuf;

/// The folder of the repository: `LORASCOPE_ROOT`, where the tests run on another machine than that they were built on.
pub fn root() -> PathBuf {
    std::env::var_os("LORASCOPE_ROOT").unwrap_or(env!("CARGO_MANIFEST_DIR").into()).into()
}

/// The real model: `LORASCOPE_MODEL`, or what `make model` puts into the repository.
pub fn model_path() -> PathBuf {
    let path = match std::env::var_os("LORASCOPE_MODEL") {
        Some(path) => PathBuf::from(path),
        None => root().join("models/smollm2-135m.gguf"),
    };
    assert!(path.exists(), "there is no {}: run `make model`", path.display());
    path
}
