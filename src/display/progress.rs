//! Progress of long work.

use super::{cut, duration, neutral, thousands};
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The standard output: the place where a notebook shows what a cell says.
    Output,
    /// The standard error: the place of everything that is no answer, in a command line.
    Error,
}

/// Whether progress goes to the standard error.
static ON_ERROR: AtomicBool = AtomicBool::new(false);

/// Sends the lines of [`Progress`] to a stream, for the whole process; they go to the standard output
/// unless this says otherwise. A bar in a terminal is always on the standard error.
pub fn progress_on(stream: Stream) {
    ON_ERROR.store(stream == Stream::Error, Ordering::Relaxed);
}

/// Progress of long work: a bar in a terminal, a line every few seconds elsewhere (the stock
/// kernel passes whole lines only). Shows nothing for work that ends within a second.
///
/// # Examples
/// ```
/// let mut progress = lorascope::display::Progress::new("reading", 2);
/// progress.advance(1, "row 1");
/// progress.advance(1, "row 2");
/// assert_eq!(progress.done(), 2);
/// ```
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    done: u64,
    begun: Instant,
    last: Instant,
    terminal: bool,
    shown: Option<u64>,
}

impl Progress {
    /// Begins work of `total` units.
    pub fn new(label: impl Into<String>, total: u64) -> Self {
        let now = Instant::now();
        Self {
            label: label.into(),
            total,
            done: 0,
            begun: now,
            last: now,
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// Units done so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Reports `units` more as done, with a word on the latest.
    pub fn advance(&mut self, units: u64, note: &str) {
        self.done += units;
        let every = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(3) };
        let news = self.terminal || self.shown != Some(self.done);
        if news && self.begun.elapsed() > Duration::from_secs(1) && self.last.elapsed() >= every {
            self.print(note);
        }
    }

    fn print(&mut self, note: &str) {
        self.last = Instant::now();
        self.shown = Some(self.done);
        let spent = self.begun.elapsed();
        let left = match self.done {
            0 => String::new(),
            done => {
                let rest = self.total.saturating_sub(done) as f64 / done as f64;
                Duration::try_from_secs_f64(spent.as_secs_f64() * rest)
                    .map_or_else(|_| String::new(), |rest| format!(", {} left", duration(rest)))
            }
        };
        let line = neutral(&format!(
            "{} {}/{} {}{left}",
            self.label.replace(['\n', '\r'], " "),
            thousands(self.done),
            thousands(self.total),
            cut(&note.replace(['\n', '\r'], " "), 80),
        ));
        if self.terminal {
            const WIDTH: usize = 24;
            let filled =
                (WIDTH as u64 * self.done).checked_div(self.total).unwrap_or(0).min(WIDTH as u64) as usize;
            let bar = format!("{}{}", "█".repeat(filled), "░".repeat(WIDTH - filled));
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{bar} {line}");
        } else if ON_ERROR.load(Ordering::Relaxed) {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        } else {
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}
