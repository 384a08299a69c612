//! Limits of time, looked at only where somebody asks for it: a machine that is busy with something else is slow,
//! and nothing is wrong then.

use std::time::{Duration, Instant};

/// Whether limits of time and of memory are looked at: with `LORASCOPE_TIMED` set, on a machine that does nothing
/// else. `.ci/run` does not set it.
pub fn timed() -> bool {
    std::env::var_os("LORASCOPE_TIMED").is_some()
}

/// Asks until there is an answer. Ten minutes are for what never comes: a busy machine is only slow.
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(600) {
        if let Some(value) = ready() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not within ten minutes: {what}");
}

/// Says how long something took, and fails where it took longer than the limit and that is looked at.
pub fn within(begun: Instant, limit: Duration) {
    let took = begun.elapsed();
    println!("it took {took:?}, {limit:?} are allowed");
    assert!(!timed() || took <= limit, "it took {took:?}, more than {limit:?}");
}
