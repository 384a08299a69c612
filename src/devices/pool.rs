//! The threads that compute.

use crate::error::{Error, Result};

/// Threads at a lower priority than the notebook's, so that cells stay responsive; 0 are as many as there are cores.
pub(crate) fn pool(name: &str, threads: usize) -> Result<rayon::ThreadPool> {
    let name = name.to_string();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |i| format!("{name}-{i}"))
        .start_handler(|_| lower_priority())
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
