//! What several test files need.

use std::path::{Path, PathBuf};

/// The real model: `LORASCOPE_MODEL`, or what `make model` puts into the repository.
pub fn model_path() -> PathBuf {
    let path = match std::env::var_os("LORASCOPE_MODEL") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2-135m.gguf"),
    };
    assert!(path.exists(), "there is no {}: run `make model`", path.display());
    path
}
