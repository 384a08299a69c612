//! The runs of this process, by their folders. A run lives here, so dropping a handle, or losing one
//! in a cell that failed, loses nothing.

use super::handle::{Run, RunInner};
use super::state::status::State;
use crate::display::{before_end, tell_of_run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

static RUNS: Mutex<BTreeMap<PathBuf, Arc<RunInner>>> = Mutex::new(BTreeMap::new());

fn runs() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<RunInner>>> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The run in this folder, unless it has ended.
pub(crate) fn get(folder: &Path) -> Option<Arc<RunInner>> {
    runs().get(folder).filter(|run| !run.ended()).cloned()
}

pub(crate) fn insert(run: Arc<RunInner>) {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| before_end(pause_all));
    tell_of_run(&run.folder.display().to_string(), Some(&reopening(&run.folder)));
    runs().insert(run.folder.clone(), run);
}

/// Forgets a run, but not one that has taken its folder since.
pub(crate) fn remove(run: &Arc<RunInner>) {
    let mut runs = runs();
    if runs.get(&run.folder).is_some_and(|there| Arc::ptr_eq(there, run)) {
        runs.remove(&run.folder);
        tell_of_run(&run.folder.display().to_string(), None);
    }
}

/// Pauses the runs, all at once, each with a snapshot, first those that train: the kernel is asked to end.
fn pause_all() -> bool {
    let (training, resting): (Vec<_>, Vec<_>) =
        all().into_iter().partition(|run| run.shared.read().state == State::Running);
    for runs in [training, resting] {
        std::thread::scope(|scope| {
            for run in runs {
                // What a run could not save it has said itself.
                scope.spawn(move || Run(run).pause());
            }
        });
    }
    true
}

/// The code that goes on with a run after the process has ended.
fn reopening(folder: &Path) -> String {
    format!("let run = Run::open({:?})?; run.resume()?", folder.display().to_string())
}

pub(crate) fn all() -> Vec<Arc<RunInner>> {
    runs().values().filter(|run| !run.ended()).cloned().collect()
}
