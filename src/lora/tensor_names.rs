//! Names of tensors in adapter files: those of PEFT, and a check of names in files.

use crate::display;
use crate::error::{Error, Result};

pub(super) const A: &str = "lora_A";
pub(super) const B: &str = "lora_B";
pub(crate) const EMBEDDING_A: &str = "lora_embedding_A";
pub(super) const EMBEDDING_B: &str = "lora_embedding_B";
pub(super) const MAGNITUDE: &str = "lora_magnitude_vector";
/// Bytes of a name at most.
const NAME: usize = 512;

/// Checks a name from a file: names become parts of paths of files and layers.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| !c.is_control() && c != '/' && c != '\\';
    match name.len() <= NAME && !name.is_empty() && name.chars().all(plain) && !name.contains("..") {
        true => Ok(()),
        false => Err(Error::format(format!("{:?} is no name for a tensor", display::cut(name, 80)))
            .help("the file is damaged or made to harm: fetch it from a source that you trust")),
    }
}
