//! Adapters for the model `tiny` of tests/golden, opened or refused.

use lorascope::candle_core::Device;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use lorascope::model::Decoder;
use std::path::{Path, PathBuf};

pub fn golden(name: &str) -> PathBuf {
    super::root().join("tests/golden").join(name)
}

pub fn tiny() -> Decoder {
    Decoder::open(golden("tiny"), &Device::Cpu).unwrap()
}

pub fn open(path: impl AsRef<Path>) -> Result<Adapters> {
    Adapters::open_for(path, &tiny().targets(), &Device::Cpu)
}

/// What the error says after the path that it begins with.
#[track_caller]
pub fn refused(path: &Path, named: &Path) -> String {
    let error = open(path).unwrap_err().to_string();
    let Some(rest) = error.strip_prefix(&named.display().to_string()) else {
        panic!("{error} does not name {}", named.display())
    };
    rest.to_string()
}
