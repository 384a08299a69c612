//! The threads that compute.

use crate::display::work_in_background;
use crate::error::{Error, Result};

/// The cores that one of so many processes on this machine may use: those that it is bound to, or its share of all.
pub(super) fn cores(processes: usize) -> usize {
    let (bound, share) = share(processes);
    share.min(bound)
}

/// The cores that this process is bound to, and its share of all where there are so many processes.
pub(super) fn share(processes: usize) -> (usize, usize) {
    let bound = std::thread::available_parallelism().map_or(1, usize::from);
    (bound, (all_cores().unwrap_or(bound) / processes.max(1)).max(1))
}

/// Those of the machine, whatever this process is bound to.
fn all_cores() -> Option<usize> {
    #[cfg(unix)]
    {
        // SAFETY: asks a number of the system.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        usize::try_from(online).ok()
    }
    #[cfg(not(unix))]
    None
}

/// Threads at a lower priority than the notebook's, so that cells stay responsive; 0 are as many as there are cores.
/// What they do belongs to no cell.
pub(crate) fn pool(name: &str, threads: usize) -> Result<rayon::ThreadPool> {
    let name = name.to_string();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |i| format!("{name}-{i}"))
        .start_handler(|_| {
            work_in_background();
            lower_priority();
        })
        .build()
        .map_err(|e| Error::compute(format!("cannot start threads: {e}")))
}

fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: plain system calls on the calling thread; a refusal changes nothing and is no harm.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, thread, 5);
    }
}
