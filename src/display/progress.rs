//! Progress of long work.

use super::outbox::EVERY;
use super::stop::in_background;
use super::{Bundle, Displayed, StopButton, cut, duration, escape, in_kernel, neutral, thousands};
use crate::error::Result;
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

/// Progress of long work: one bar that moves in the lorascope kernel and in a terminal; elsewhere a line every few
/// seconds (the stock kernel passes whole lines only), after the first minute less and less often. Shows nothing for
/// work that ends within a second.
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
    place: Place,
    shown: Option<u64>,
    note: String,
    stop: StopButton,
}

/// Where progress is shown.
#[derive(Debug)]
enum Place {
    Terminal,
    Lines,
    /// In the cell that runs, from the moment that there is something to show.
    Cell(Option<Displayed>),
    /// Work that no cell waits for, in a notebook that could not tell.
    Nowhere,
}

impl Place {
    fn now() -> Self {
        match in_kernel() {
            true if in_background() => Self::Nowhere,
            true => Self::Cell(None),
            false if std::io::stderr().is_terminal() => Self::Terminal,
            false => Self::Lines,
        }
    }

    /// Time between two reports, of work that goes on for so long.
    fn every(&self, spent: Duration) -> Duration {
        match self {
            Self::Terminal => Duration::from_millis(100),
            Self::Cell(_) => EVERY,
            Self::Lines | Self::Nowhere => between(spent),
        }
    }
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
        Self::at(label.into(), total, Place::now(), Instant::now())
    }

    fn at(label: String, total: u64, place: Place, now: Instant) -> Self {
        let (note, stop) = (String::new(), StopButton::here());
        Self { label, total, from: 0, done: 0, begun: now, last: now, place, shown: None, note, stop }
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
        self.advance_at(units, note, Instant::now());
    }

    /// Reports `units` more as done, as [`advance`](Self::advance) does, and fails once a person has pressed stop in
    /// the cell that waits for this work.
    ///
    /// # Errors
    /// An interrupted error then.
    ///
    /// # Examples
    /// ```
    /// let mut progress = lorascope::display::Progress::new("reading", 2);
    /// progress.try_advance(1, "row 1")?; // nobody pressed stop
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn try_advance(&mut self, units: u64, note: &str) -> Result<()> {
        self.advance(units, note);
        self.stop.check()
    }

    fn advance_at(&mut self, units: u64, note: &str, now: Instant) {
        self.done += units;
        self.note.clear();
        self.note.push_str(note);
        let (spent, since) = (now.duration_since(self.begun), now.duration_since(self.last));
        let news = matches!(self.place, Place::Terminal) || self.shown != Some(self.done);
        if news && spent > Duration::from_secs(1) && since >= self.place.every(spent) {
            (self.last, self.shown) = (now, Some(self.done));
            self.report(spent);
        }
    }

    fn report(&mut self, spent: Duration) {
        let line = self.line(spent, &self.note);
        match &self.place {
            Place::Terminal => {
                const WIDTH: usize = 24;
                let filled = (WIDTH as u64 * self.done).checked_div(self.total).unwrap_or(0).min(WIDTH as u64)
                    as usize;
                let bar = format!("{}{}", "█".repeat(filled), "░".repeat(WIDTH - filled));
                let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{bar} {line}");
            }
            Place::Lines if ON_ERROR.load(Ordering::Relaxed) => {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
            Place::Lines => {
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
            Place::Cell(Some(shown)) => shown.replace(&self.bar(&line)),
            Place::Cell(None) => self.place = Place::Cell(Some(Displayed::new("progress", &self.bar(&line)))),
            Place::Nowhere => {}
        }
    }

    /// A line above a bar, where it is known how much there is to do.
    fn bar(&self, line: &str) -> Bundle {
        let mut html = format!("<div style=\"overflow-wrap:anywhere\">{}</div>", escape(line));
        if self.total > 0 {
            let percent = 100.0 * self.done.min(self.total) as f64 / self.total as f64;
            html += &format!(
                "<div style=\"height:6px;margin-top:3px;border-radius:3px;background-color:rgba(128,128,128,0.3)\">\
                 <div style=\"width:{percent:.1}%;height:6px;border-radius:3px;background-color:#0072b2\"></div></div>"
            );
        }
        let html = format!("<div style=\"max-width:40em;margin:0.2em 0\">{html}</div>");
        Bundle { html, text: line.to_string() }
    }

    /// The bar of work that is over: in which time it was done, or that it ended before.
    fn end(&self, spent: Duration) -> Bundle {
        let how = match self.total {
            0 => "",
            total if self.done >= total => "done in ",
            _ => "ended after ",
        };
        let said = self.said(&self.note);
        self.bar(&format!("{said}, {how}{}", duration(spent)))
    }

    /// What is said after some time: `reading 3/10 row 3, 14.0 s left`.
    fn line(&self, spent: Duration, note: &str) -> String {
        let left = self.left(spent).map_or_else(String::new, |left| format!(", {} left", duration(left)));
        self.said(note) + &left
    }

    /// What was done, with the latest note.
    fn said(&self, note: &str) -> String {
        let count = match self.total {
            0 => thousands(self.done),
            total => format!("{}/{}", thousands(self.done), thousands(total)),
        };
        let note = cut(&note.replace(['\n', '\r'], " "), 80);
        let note = if note.is_empty() { note } else { format!(" {note}") };
        neutral(&format!("{} {count}{note}", self.label.replace(['\n', '\r'], " ")))
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
        match &self.place {
            Place::Terminal if self.shown.is_some() => {
                let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
            }
            Place::Cell(Some(shown)) => shown.finish(&self.end(self.begun.elapsed())),
            _ => {}
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

    #[test]
    fn a_bar_says_how_far_it_is_and_how_it_ended() {
        let begin = Instant::now();
        let mut progress = Progress::at("reading <rows>".into(), 8, Place::Nowhere, begin);
        progress.advance_at(2, "a note", begin + Duration::from_millis(900));
        assert_eq!(progress.shown, None, "nothing is shown within the first second");
        progress.advance_at(0, "line 2", begin + Duration::from_secs(10));
        let bundle = progress.bar(&progress.line(Duration::from_secs(10), &progress.note));
        assert_eq!(bundle.text, "reading <rows> 2/8 line 2, 30.0 s left");
        assert!(
            bundle.html.contains("width:25.0%") && bundle.html.contains("&lt;rows&gt;"),
            "{}",
            bundle.html
        );
        assert_eq!(
            progress.end(Duration::from_secs(12)).text,
            "reading <rows> 2/8 line 2, ended after 12.0 s"
        );
        progress.advance_at(6, "line 8", begin + Duration::from_millis(10_100));
        let end = progress.end(Duration::from_secs(12));
        assert_eq!(end.text, "reading <rows> 8/8 line 8, done in 12.0 s");
        assert!(end.html.contains("width:100.0%"));
        progress.set_total(0);
        let end = progress.end(Duration::from_secs(12));
        assert!(end.text == "reading <rows> 8 line 8, 12.0 s" && !end.html.contains("height:6px"), "{end:?}");
    }

    #[test]
    fn in_a_cell_a_bar_moves_twice_a_second_at_most() {
        let begin = Instant::now();
        let mut progress = Progress::at("reading".into(), 10_000, Place::Cell(None), begin);
        let mut shown = Vec::new();
        for millisecond in 1..=10_000 {
            progress.advance_at(1, "", begin + Duration::from_millis(millisecond));
            if progress.shown != shown.last().copied() {
                shown.extend(progress.shown);
            }
        }
        assert_eq!(shown.len(), 18, "one after the first second, and one each half second: {shown:?}");
        assert!(shown.windows(2).all(|two| two[1] - two[0] >= 500), "{shown:?}");
    }
}
