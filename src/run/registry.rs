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

/// The run in this folder, unless it has ended.
pub(super) fn get(folder: &Path) -> Option<Arc<Inner>> {
    runs().get(folder).filter(|run| !run.ended()).cloned()
}

pub(super) fn insert(run: Arc<Inner>) {
    runs().insert(run.folder.clone(), run);
}

/// Forgets a run, but not one that has taken its folder since.
pub(super) fn remove(run: &Arc<Inner>) {
    let mut runs = runs();
    if runs.get(&run.folder).is_some_and(|there| Arc::ptr_eq(there, run)) {
        runs.remove(&run.folder);
    }
}

pub(super) fn all() -> Vec<Arc<Inner>> {
    runs().values().filter(|run| !run.ended()).cloned().collect()
}
