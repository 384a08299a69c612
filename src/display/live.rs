//! Text that is shown while it is made.

use super::channel::kernel;
use super::{neutral, width};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Columns after which a line is broken where nothing else breaks it.
const WIDTH: usize = 100;
const EVERY: Duration = Duration::from_secs(1);

/// Shows a text while it is made: in the lorascope kernel and in a terminal at once, elsewhere in whole lines, at most
/// once a second (the stock kernel passes whole lines only). A long line is broken at a space.
///
/// # Examples
/// ```
/// let mut live = lorascope::display::Live::new();
/// live.push("3 + 5 ");
/// live.push("= 8");
/// drop(live); // what is left is shown
/// ```
#[derive(Debug)]
pub struct Live {
    lines: Lines,
    last: Instant,
    place: Place,
    /// Whether something stands in a line that has not ended.
    begun: bool,
}

/// Where a text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the cell that runs.
    Cell,
    Terminal,
    /// Where only whole lines arrive.
    Lines,
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// Nothing yet.
    pub fn new() -> Self {
        let place = match kernel() {
            Some(_) => Place::Cell,
            None if std::io::stdout().is_terminal() => Place::Terminal,
            None => Place::Lines,
        };
        Self { lines: Lines::default(), last: Instant::now(), place, begun: false }
    }

    /// Goes on with a piece of text.
    pub fn push(&mut self, piece: &str) {
        if self.place != Place::Lines {
            if let Some(last) = piece.chars().last() {
                self.begun = last != '\n';
            }
            return self.place.write(&visible(piece));
        }
        self.lines.push(piece);
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            self.place.write(&self.lines.take_whole());
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        match self.place {
            Place::Lines => self.place.write(&self.lines.take_all()),
            _ if self.begun => self.place.write("\n"),
            _ => {}
        }
    }
}

impl Place {
    fn write(self, text: &str) {
        match kernel().filter(|_| self == Self::Cell) {
            Some(kernel) => kernel.stream("stdout", text, None),
            None if text.is_empty() => {}
            None => {
                let mut stdout = std::io::stdout().lock();
                // A notebook that went away is no reason to fail a computation.
                let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            }
        }
    }
}

/// A text without what commands a terminal.
fn visible(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().filter(|c| *c != '\r').map(shown).collect()
}

/// Text that waits for the end of its line.
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, piece: &str) {
        self.0.push_str(&visible(piece));
    }

    /// The lines that are whole, and full ones of a line that is not.
    fn take_whole(&mut self) -> String {
        let end = self.0.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.0.split_off(end);
        let mut out = std::mem::replace(&mut self.0, rest);
        while width(&self.0) > WIDTH {
            let mut columns = 0;
            let full = self.0.char_indices().find(|(_, c)| {
                columns += width(c.encode_utf8(&mut [0; 4]));
                columns > WIDTH
            });
            let full = full.map_or(self.0.len(), |(at, _)| at);
            let at = self.0[..full].rfind(' ').map_or(full, |space| space + 1);
            let rest = self.0.split_off(at);
            out += &std::mem::replace(&mut self.0, rest);
            out.push('\n');
        }
        neutral(&out)
    }

    fn take_all(&mut self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut out = std::mem::take(&mut self.0);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        neutral(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_markers_are_broken() {
        let mut lines = Lines::default();
        lines.push("one\ntw");
        assert_eq!(lines.take_whole(), "one\n");
        lines.push("o\nEVCXR_BEGIN_");
        assert_eq!(lines.take_whole(), "two\n");
        lines.push("CONTENT text/html\n\u{1b}[2J\r");
        assert!(!lines.take_whole().contains("EVCXR_BEGIN_CONTENT"));
        assert_eq!(lines.take_all(), "\u{fffd}[2J\n");
        lines.push("end");
        assert_eq!(lines.take_all(), "end\n");
    }

    #[test]
    fn long_lines_break_at_a_space_or_at_a_character() {
        let mut lines = Lines::default();
        lines.push(&"word ".repeat(25));
        assert_eq!(lines.take_whole(), format!("{}\n", "word ".repeat(20)));
        lines.push(&"字".repeat(60));
        let shown = lines.take_whole();
        assert!(shown.starts_with("word word "), "{shown}");
        assert!(shown.lines().all(|line| width(line) <= WIDTH));
    }
}
