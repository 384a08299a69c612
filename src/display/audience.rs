//! The audience of messages: code in a notebook, or a person at the command line.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// The reader of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A person who writes Rust, in a notebook or a program.
    Code,
    /// A person at the command line.
    CommandLine,
}

static AT_COMMAND_LINE: AtomicBool = AtomicBool::new(false);

/// Makes the advice in errors, tables and problems such that this audience can follow it, for the whole
/// process: methods for code, which is the default, options for the command line.
pub fn speak_to(audience: Audience) {
    AT_COMMAND_LINE.store(audience == Audience::CommandLine, Ordering::Relaxed);
}

/// Whether a person at the command line reads them.
pub(super) fn at_command_line() -> bool {
    AT_COMMAND_LINE.load(Ordering::Relaxed)
}

/// Whether tables show all of each cell: at the command line, where the answer goes into a file or to another
/// program, which have no width.
pub(super) fn shows_all() -> bool {
    at_command_line() && !std::io::stdout().is_terminal()
}

/// Chooses the wording for the current audience.
pub(crate) fn advice<T>(code: T, command: T) -> T {
    if at_command_line() { command } else { code }
}
