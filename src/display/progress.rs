//! Progress of long work.

use super::{cut, duration, neutral, thousands};
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A stream of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// The standard output: the place where a notebook shows what a cell says.
    Output,
    /// The standard error: the place of everything that is no answer, in a command line.
    Error,
}

/// Whether progress goes to the standard error.
static ON_ERROR: AtomicBool = AtomicBool::new(false);

/// Sends the lines of [`Progress`] to a stream, for the whole process; they go to the standard output
/// unless this says otherwise. A bar in a terminal is always on the standard error.
pub fn progress_on(stream: OutputStream) {
    ON_ERROR.store(stream == OutputStream::Error, Ordering::Relaxed);
}

/// Progress of long work: a bar in a terminal; elsewhere a line every few seconds (the stock kernel passes whole
/// lines only), after the first minute less and less often. Shows nothing for work that ends within a second.
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
    /// 0 where nobody knows.
    total: u64,
    /// Units that were done before.
    from: u64,
    done: u64,
    begun: Instant,
    last: Instant,
    terminal: bool,
    shown: Option<u64>,
}

/// Time between two lines at first.
const LINE: Duration = Duration::from_secs(3);
/// Time between two lines at most.
const RARE: Duration = Duration::from_secs(300);
/// After the first minute the time between two lines is this part of all that was spent.
const PART: u32 = 10;

impl Progress {
    /// Begins work of `total` units; 0 is a number that nobody knows.
    pub fn new(label: impl Into<String>, total: u64) -> Self {
        let now = Instant::now();
        Self {
            label: label.into(),
            total,
            from: 0,
            done: 0,
            begun: now,
            last: now,
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// The same where `done` units were done before: the count goes on from there, and the time that is left
    /// follows from what is done now.
    ///
    /// # Examples
    /// ```
    /// let mut progress = lorascope::display::Progress::new("training", 30).after(10);
    /// progress.advance(1, "");
    /// assert_eq!(progress.done(), 11);
    /// ```
    #[must_use]
    pub fn after(mut self, done: u64) -> Self {
        (self.from, self.done) = (done, done);
        self
    }

    /// Units done so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Says anew how many units there are; 0 is a number that nobody knows.
    pub fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// Reports `units` more as done, with a word on the latest.
    pub fn advance(&mut self, units: u64, note: &str) {
        self.done += units;
        let every = if self.terminal { Duration::from_millis(100) } else { between(self.begun.elapsed()) };
        let news = self.terminal || self.shown != Some(self.done);
        if news && self.begun.elapsed() > Duration::from_secs(1) && self.last.elapsed() >= every {
            self.print(note);
        }
    }

    fn print(&mut self, note: &str) {
        self.last = Instant::now();
        self.shown = Some(self.done);
        let line = self.line(self.begun.elapsed(), note);
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

    /// What is said after some time: `reading 3/10 row 3, 14.0 s left`.
    fn line(&self, spent: Duration, note: &str) -> String {
        let count = match self.total {
            0 => thousands(self.done),
            total => format!("{}/{}", thousands(self.done), thousands(total)),
        };
        let note = cut(&note.replace(['\n', '\r'], " "), 80);
        let note = if note.is_empty() { note } else { format!(" {note}") };
        let left = self.left(spent).map_or_else(String::new, |left| format!(", {} left", duration(left)));
        neutral(&format!("{} {count}{note}{left}", self.label.replace(['\n', '\r'], " ")))
    }

    /// The time that is left at the pace so far, in whole seconds; none where nothing tells, and where it is less
    /// than one.
    fn left(&self, spent: Duration) -> Option<Duration> {
        let now = self.done.saturating_sub(self.from);
        let rest = self.total.checked_sub(self.done).filter(|rest| *rest > 0 && now > 0)?;
        let seconds = (spent.as_secs_f64() * rest as f64 / now as f64).round();
        Duration::try_from_secs_f64(seconds).ok().filter(|left| left.as_secs() > 0)
    }
}

/// The time between two lines, of work that goes on for so long.
fn between(spent: Duration) -> Duration {
    if spent < Duration::from_secs(60) { LINE } else { (spent / PART).clamp(LINE, RARE) }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(minutes: u64) -> u64 {
        let (end, mut now, mut lines) = (Duration::from_secs(60 * minutes), Duration::ZERO, 0);
        while now + between(now) <= end {
            now += between(now);
            lines += 1;
        }
        lines
    }

    #[test]
    fn lines_come_less_and_less_often() {
        assert_eq!([Duration::ZERO, Duration::from_secs(59)].map(between), [LINE; 2]);
        assert_eq!(between(Duration::from_secs(600)), Duration::from_secs(60));
        assert_eq!(between(Duration::from_secs(86_400)), RARE);
        assert_eq!(lines(1), 20);
        assert!(lines(60) < 70 && lines(600) < 200, "{} {}", lines(60), lines(600));
    }

    #[test]
    fn the_count_goes_on_and_the_end_has_nothing_left() {
        let mut progress = Progress::new("run", 30).after(10);
        let said = |progress: &Progress, seconds| progress.line(Duration::from_secs(seconds), "loss 1.234");
        assert_eq!(said(&progress, 5), "run 10/30 loss 1.234");
        progress.advance(5, "");
        assert_eq!(said(&progress, 10), "run 15/30 loss 1.234, 30.0 s left");
        progress.advance(15, "");
        assert_eq!(said(&progress, 40), "run 30/30 loss 1.234");
        progress.set_total(31);
        assert_eq!(progress.line(Duration::from_millis(5), ""), "run 30/31", "less than a second");
        progress.set_total(0);
        assert_eq!(said(&progress, 40), "run 30 loss 1.234", "nobody knows how many");
        progress.set_total(20);
        assert_eq!(said(&progress, 40), "run 30/20 loss 1.234");
    }
}
