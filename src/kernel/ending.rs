//! How a cell ended, from the lines that its process prints for the kernel.

use crate::lost;
use crate::problems::from_debug;

/// How a cell ended, as its process told.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// The error of a `?`, or that of a last expression.
    pub error: Option<String>,
    /// The message of a panic.
    pub panic: Option<String>,
    /// The signal that evcxr's handler caught before it ended the process.
    pub crash: Option<String>,
    /// Variables whose old values were put back, and whether they are mutable.
    pub kept: Vec<(String, bool)>,
    /// Variables that have no old value any more.
    pub lost: Vec<String>,
}

/// The end of a cell, while its lines come.
#[derive(Debug, Default)]
pub struct Ending {
    pub ended: Ended,
    panicked: bool,
    /// The lines of a panic's message.
    panic: Option<Vec<String>>,
    /// The lines of evcxr's handler of signals: one that says which, and a backtrace of its own.
    crash: Option<Vec<String>>,
}

impl Ending {
    /// What the code that was added to a cell says (code.rs).
    pub fn note(&mut self, note: &str) {
        match note.split_once(' ').unwrap_or((note, "")) {
            ("error", text) => self.ended.error = Some(from_debug(text)),
            ("panic", _) => self.panicked = true,
            ("kept", variable) => {
                if let Some((how, name)) = variable.split_once(' ') {
                    self.ended.kept.push((name.to_string(), how == "mut"));
                }
            }
            ("lost", name) => self.ended.lost.push(name.to_string()),
            _ => {}
        }
    }

    /// Takes a line of the standard error. Returns what is shown at once.
    pub fn error_line(&mut self, line: &str) -> Option<String> {
        if let Some(crash) = &mut self.crash {
            crash.push(line.to_string());
        } else if lost::signal_of(line).is_some() {
            self.crash = Some(vec![line.to_string()]);
        } else if let Some(panic) = &mut self.panic {
            if !line.starts_with("note: run with `RUST_BACKTRACE=") {
                panic.push(line.to_string());
            }
        } else if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.panic = Some(vec![line.to_string()]);
        } else if !line.is_empty() {
            return Some(format!("{line}\n"));
        }
        None
    }

    /// Ends with the cell, or with the process. The message of a panic is the cell's error, and the lines of a crash say
    /// which signal it was; where the cell caught the panic, or goes on, both are text, which is returned.
    pub fn finish(&mut self, gone: bool) -> String {
        let mut shown = String::new();
        match self.panic.take() {
            // The first line names a place in the generated code.
            Some(lines) if self.panicked => {
                self.ended.panic = Some(lines[1..].join("\n").trim_end().to_string());
            }
            None if self.panicked => self.ended.panic = Some(String::new()),
            Some(lines) => shown += &(lines.join("\n") + "\n"),
            None => {}
        }
        match self.crash.take() {
            Some(lines) if gone => self.ended.crash = lost::signal_of(&lines[0]).map(String::from),
            Some(lines) => shown += &(lines.join("\n") + "\n"),
            None => {}
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str], panicked: bool, gone: bool) -> (Ended, String) {
        let mut ending = Ending::default();
        let shown: String = lines.iter().filter_map(|line| ending.error_line(line)).collect();
        if panicked {
            ending.note("panic");
        }
        let rest = ending.finish(gone);
        (ending.ended, shown + &rest)
    }

    const PANIC: [&str; 3] =
        ["warned", "thread 'main' panicked at /x/cell/3/lib.rs:9:1:", "index out of bounds"];

    #[test]
    fn the_message_of_a_panic_is_the_error_unless_it_was_caught() {
        let (ended, shown) = after(&PANIC, true, false);
        assert_eq!((ended.panic.as_deref(), shown.as_str()), (Some("index out of bounds"), "warned\n"));
        let (ended, shown) = after(&PANIC, false, false);
        assert_eq!((ended.panic, shown), (None, PANIC.join("\n") + "\n"));
    }

    #[test]
    fn a_crash_says_its_signal_without_the_backtrace() {
        let lines = ["warned", "Segmentation fault.", "   0: evcxr::runtime::segfault_handler", "   1: main"];
        let (ended, shown) = after(&lines, false, true);
        assert_eq!((ended.crash.as_deref(), shown.as_str()), (Some("signal: 11 "), "warned\n"));
        // A cell may print such a line itself, and go on: all is shown at its end.
        let (ended, shown) = after(&lines, false, false);
        assert_eq!((ended.crash, shown), (None, lines.join("\n") + "\n"));
    }

    #[test]
    fn notes_are_read() {
        let mut ending = Ending::default();
        ["kept mut a", "kept let b", "lost c", "error \"two\\nlines\"", "unknown"]
            .iter()
            .for_each(|note| ending.note(note));
        let ended = ending.ended;
        assert_eq!(ended.kept, [("a".to_string(), true), ("b".to_string(), false)]);
        assert_eq!((ended.lost, ended.error.as_deref()), (vec!["c".to_string()], Some("two\nlines")));
    }
}
