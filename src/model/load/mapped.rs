//! Memory-mapped weight files.

use crate::error::{Error, Result};
use crate::files;
use std::fs::File;
use std::path::Path;

pub(super) fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if file.metadata().map_err(|e| Error::io(path, e))?.len() == 0 {
        return Err(Error::format("the file is empty").path(path).help("fetch it again"));
    }
    // SAFETY: the mapping is read while the model loads and its tensors are copied out; a program
    // that cuts the file in those moments kills this one, as it would with any mapped file.
    let file = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    files::refuse_pointer(path, &file)?;
    Ok(file)
}
