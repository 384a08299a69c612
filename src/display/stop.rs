//! The stop button: whether the work that a cell waits for is to end.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the kernel asked the cell that runs to stop.
static REQUESTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IN_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Whether a person pressed stop while the cell runs that this thread works for. Always false without the lorascope
/// kernel, and in the threads that train in the background. It costs one atomic load: a long loop of your own ends
/// cleanly if it looks.
///
/// # Examples
/// ```
/// let mut sum = 0;
/// for n in 0..1000 {
///     if lorascope::display::stop_requested() {
///         break;
///     }
///     sum += n;
/// }
/// assert_eq!(sum, 499_500); // nobody pressed stop
/// ```
pub fn stop_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed) && !in_background()
}

/// Fails once a person pressed stop.
///
/// # Errors
/// An interrupted error, as [`stop_requested`] says.
pub(crate) fn check_stop() -> Result<()> {
    StopButton::here().check()
}

/// The stop button of the thread that called [`here`](Self::here), for work that it shares with other threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopButton {
    listens: bool,
}

impl StopButton {
    /// That of this thread.
    pub fn here() -> Self {
        Self { listens: !in_background() }
    }

    /// Whether it was pressed.
    pub fn pressed(self) -> bool {
        self.listens && REQUESTED.load(Ordering::Relaxed)
    }

    /// Fails once it was pressed.
    pub fn check(self) -> Result<()> {
        if self.pressed() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// Says that what this thread does belongs to no cell: it goes on when a cell is stopped, and shows nothing in it.
pub(crate) fn work_in_background() {
    IN_BACKGROUND.set(true);
}

pub(super) fn in_background() -> bool {
    IN_BACKGROUND.get()
}

/// Presses the button, or lets go of it.
pub(super) fn request_stop(stop: bool) {
    REQUESTED.store(stop, Ordering::Relaxed);
}
