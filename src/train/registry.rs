//! The runs of this process, by their folders. A run lives here, so dropping a handle, or losing one
//! in a cell that failed, loses nothing.

use super::run::Inner;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static RUNS: Mutex<BTreeMap<PathBuf, Arc<Inner>>> = Mutex::new(BTreeMap::new());

fn runs() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<Inner>>> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn get(folder: &Path) -> Option<Arc<Inner>> {
    runs().get(folder).cloned()
}

pub(super) fn insert(folder: &Path, run: Arc<Inner>) {
    runs().insert(folder.to_path_buf(), run);
}

pub(super) fn remove(folder: &Path) -> Option<Arc<Inner>> {
    runs().remove(folder)
}

pub(super) fn all() -> Vec<Arc<Inner>> {
    runs().values().cloned().collect()
}
