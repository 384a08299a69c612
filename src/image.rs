//! One image of this library in a process.
//!
//! A cell that is linked to a second copy of lorascope has its own statics: candle numbers tensors
//! from a static, so tensors of two copies share their ids, and whatever is keyed by an id is
//! silently wrong. That happens when the sources change under a live kernel, or when `:dep` names
//! lorascope twice. Entry points call [`check`], and the second copy gets an error.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The environment of the process is the one place that two copies share: `pid:address`.
const KEY: &str = "LORASCOPE_IMAGE";

/// Refuses to work in the second of two copies of lorascope in one process.
///
/// # Errors
/// When another copy was asked first, with what to do about it.
///
/// # Examples
/// ```
/// lorascope::image::check()?;
/// lorascope::image::check()?; // the same copy may ask as often as it likes
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn check() -> Result<()> {
    static SECOND: OnceLock<bool> = OnceLock::new();
    let second = *SECOND.get_or_init(|| {
        let process = format!("{}:", std::process::id());
        let own = format!("{process}{:p}", &raw const SECOND);
        // A claim that was inherited from a parent process has another number: it does not count.
        let second = std::env::var(KEY).is_ok_and(|found| found.starts_with(&process) && found != own);
        if !second {
            // SAFETY: once in a process, in the first call into the library, before it starts any
            // thread; std locks the environment against its own readers.
            unsafe { std::env::set_var(KEY, own) }
        }
        second
    });
    if second {
        return Err(Error::state("this process already holds another copy of lorascope")
            .help("restart the kernel, and name lorascope in one `:dep` line, in the first cell"));
    }
    Ok(())
}

/// [`check`] for a caller that found this copy with `dlsym`; the tests load a second one that way.
#[unsafe(no_mangle)]
pub extern "C" fn lorascope_image_is_first() -> bool {
    check().is_ok()
}
