//! A working folder of a test's own.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The working folder belongs to the process, so tests in one process take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The process works in it until it is dropped and removed.
pub struct WorkingFolder {
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl WorkingFolder {
    pub fn enter() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        std::env::set_current_dir(folder.path()).unwrap();
        Self { folder, _turn: turn }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for WorkingFolder {
    fn drop(&mut self) {
        std::env::set_current_dir(super::root()).unwrap();
    }
}
