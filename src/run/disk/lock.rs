//! The lock of a run's folder: one process at a time has a run open.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// The name of its file.
pub(crate) const LOCK: &str = "lock";

/// Takes the lock of a run's folder. It ends with its process, however that ends; the process id in the file is for
/// messages.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut lock = open.map_err(|e| Error::io(&path, e))?;
    lock.try_lock().map_err(|e| match e {
        fs::TryLockError::WouldBlock => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid); // left out of the message where it cannot be read
            let pid: String = pid.chars().filter(char::is_ascii_digit).take(10).collect();
            let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
            Error::state(format!("another process{who} has this run open"))
                .path(folder)
                .help("shut that notebook's kernel down, end that command, or give this run another name")
        }
        fs::TryLockError::Error(e) => Error::io(&path, e),
    })?;
    let written =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
    written.map_err(|e| Error::io(&path, e))?;
    Ok(lock)
}
