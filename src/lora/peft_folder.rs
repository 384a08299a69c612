//! Writes adapter folders: a new folder appears whole or not at all, and in an existing one only the adapter is
//! replaced.

use super::Adapters;
use super::peft::CONFIG;
use super::validated::{BIN, SAFETENSORS};
use crate::display::advice;
use crate::error::{Error, Result};
use crate::files::{Existing, as_before, beside, cause, folder_beside};
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

impl Adapters {
    /// Writes a folder that PEFT's `PeftModel.from_pretrained` loads. `base` is the model's name or
    /// path, as `base_model_name_or_path`. The folder appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists already, or cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, base: &str) -> Result<PathBuf> {
        let folder = folder.as_ref();
        if folder.exists() {
            return Err(Error::input("the folder exists already").path(folder).help(instead(folder)));
        }
        let new = folder_beside(folder)?;
        for (name, bytes) in self.files(base)? {
            let written = std::fs::write(new.path().join(name), bytes);
            written.map_err(|e| Error::io(folder.join(name), e))?;
        }
        std::fs::rename(new.path(), folder).map_err(|e| Error::io(folder, e))?;
        let _ = new.keep(); // it has moved: there is nothing left to remove
        Ok(folder.to_path_buf())
    }

    /// Like [`save`](Self::save), but replaces the adapter in a folder that exists: `adapter_config.json`
    /// and `adapter_model.safetensors`, each by a rename, and an `adapter_model.bin`, which would be another
    /// adapter, is removed. All else in the folder stays as it is. A folder that is a link stays one; a
    /// link in place of one of the two files becomes a file, and what it led to is left alone.
    ///
    /// # Errors
    /// When what exists there is no adapter of PEFT's form, or the files cannot be written: then the old
    /// adapter is left as it was.
    pub fn overwrite(&self, folder: impl AsRef<Path>, base: &str) -> Result<PathBuf> {
        let folder = folder.as_ref();
        if !folder.exists() {
            return self.save(folder, base);
        }
        is_adapter(folder)?;
        let [(_, config), (_, weights)] = self.files(base)?;
        let (config, weights) = (ready(folder, CONFIG, &config)?, ready(folder, SAFETENSORS, &weights)?);
        // Both are on disk now. Should the second rename fail, the first is taken back.
        let (old, place) = (aside(folder)?, folder.join(SAFETENSORS));
        put(weights, &place)?;
        if let Err(error) = put(config, &folder.join(CONFIG)) {
            let back = match &old {
                Some(old) => std::fs::rename(old, &place),
                None => std::fs::remove_file(&place),
            };
            return Err(match back {
                Ok(()) => error,
                Err(_) => {
                    error.help("its new adapter_model.safetensors is in place, the config is the old one")
                }
            });
        }
        drop(old);
        let bin = folder.join(BIN);
        match std::fs::remove_file(&bin) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&bin, e)),
            _ => {}
        }
        synced(folder)?;
        Ok(folder.to_path_buf())
    }
}

/// The advice for a folder that exists.
fn instead(folder: &Path) -> String {
    if !folder.join(CONFIG).is_file() {
        return "choose another name".to_string();
    }
    let here = [CONFIG, SAFETENSORS, BIN].into_iter().filter(|name| folder.join(name).exists());
    format!(
        "choose another name, or say {}, which replaces {} and leaves what else is in it",
        advice("overwrite", "--overwrite"),
        here.collect::<Vec<_>>().join(", ")
    )
}

/// Checks that a folder holds an adapter, so that no other folder is overwritten by mistake.
fn is_adapter(folder: &Path) -> Result<()> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        return Err(Error::input(format!("this holds no {CONFIG}: it is no adapter to replace"))
            .path(folder)
            .help("choose another name"));
    }
    let text = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    match serde_json::from_slice::<Value>(&text) {
        Ok(config) if config.get("peft_type").is_none() && config.get("lora_parameters").is_some() => {
            Err(Error::input("this is an adapter of mlx, whose tensors lie in adapters.safetensors")
                .path(folder)
                .help("choose another name"))
        }
        _ => Ok(()),
    }
}

/// Writes the new contents of a file to a temporary file beside it and flushes it.
fn ready(folder: &Path, name: &str, bytes: &[u8]) -> Result<NamedTempFile> {
    let path = folder.join(name);
    let mut file = beside(&path, Existing::Replace)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io(&path, cause(e)))?;
    Ok(file)
}

/// Keeps the old weights under a second name in the folder, which is removed on drop.
fn aside(folder: &Path) -> Result<Option<tempfile::TempPath>> {
    let path = folder.join(SAFETENSORS);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let spare = beside(&folder.join("old"), Existing::Replace)?.into_temp_path();
    std::fs::remove_file(&spare).map_err(|e| Error::io(&spare, e))?;
    // Where the file system has no second names, the bytes are copied.
    let linked = std::fs::hard_link(&path, &spare).or_else(|_| std::fs::copy(&path, &spare).map(drop));
    linked.map_err(|e| Error::io(&path, e))?;
    Ok(Some(spare))
}

fn put(file: NamedTempFile, path: &Path) -> Result<()> {
    as_before(&file, path).map_err(|e| Error::io(path, cause(e)))?;
    file.persist(path).map(drop).map_err(|e| Error::io(path, e.error))
}

/// Renames reach the disk with the folder's own entries.
fn synced(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        let entries = std::fs::File::open(folder).and_then(|entries| entries.sync_all());
        entries.map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}
