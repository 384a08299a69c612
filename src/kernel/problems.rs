//! Errors of the compiler as a notebook shows them: the lines of the cell, what is marked in them, the way out, and
//! nothing of the code that evcxr adds.

use crate::messages::Problem;
use evcxr::CompilationError;

const RED: &str = "\u{1b}[1;31m";
const BLUE: &str = "\u{1b}[1;34m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// The errors of a cell that does not compile; `source` is the cell, `count` its number.
pub fn compile_errors(errors: &[CompilationError], source: &str, count: usize) -> Problem {
    let value = errors.iter().map(CompilationError::message).collect::<Vec<_>>().join("\n");
    let shown = errors.iter().flat_map(|error| compile_error(error, source, count)).collect();
    Problem { name: "compile error".to_string(), value, shown }
}

fn compile_error(error: &CompilationError, source: &str, count: usize) -> Vec<String> {
    let code = error.code().map_or_else(String::new, |code| format!("[{code}]"));
    let mut shown = vec![format!("{RED}error{code}{PLAIN}{BOLD}: {}{PLAIN}", error.message())];
    let lines: Vec<&str> = source.lines().collect();
    let mut spans: Vec<_> = error.spanned_messages().iter().filter_map(|m| Some((m.span?, m))).collect();
    spans.sort_by_key(|(span, message)| (!message.is_primary, span.start_line));
    if let Some((span, _)) = spans.first() {
        shown.push(format!(
            "  {BLUE}-->{PLAIN} cell {count}, line {}, column {}",
            span.start_line, span.start_column
        ));
    }
    spans.sort_by_key(|(span, _)| (span.start_line, span.start_column));
    let width = spans.iter().map(|(span, _)| span.start_line.to_string().len()).max().unwrap_or(1);
    let mut last = 0;
    for (span, message) in spans {
        let Some(line) = lines.get(span.start_line.wrapping_sub(1)) else { continue };
        if span.start_line != last {
            shown.push(format!("{BLUE}{:>width$} |{PLAIN} {line}", span.start_line));
            last = span.start_line;
        }
        let before: String =
            line.chars().take(span.start_column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let end = if span.end_line == span.start_line { span.end_column } else { line.chars().count() + 1 };
        let marks =
            (if message.is_primary { "^" } else { "-" }).repeat(end.saturating_sub(span.start_column).max(1));
        let color = if message.is_primary { RED } else { BLUE };
        let label = message.label.replace('\n', " ");
        shown.push(format!("{BLUE}{:>width$} |{PLAIN} {before}{color}{marks} {label}{PLAIN}", ""));
    }
    shown.extend(
        error.help().into_iter().map(|help| format!("{BOLD}help{PLAIN}: {}", help.replace("\n\n", "\n"))),
    );
    shown.extend(error.evcxr_extra_hint().map(|hint| format!("{BOLD}note{PLAIN}: {hint}")));
    shown
}

/// The error of a `?` or of a last expression. Its first line says what it is.
pub fn cell_error(text: &str) -> Problem {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut shown = vec![format!("{RED}error{PLAIN}{BOLD}: {first}{PLAIN}")];
    shown.extend(lines.map(String::from));
    Problem { name: "error".to_string(), value: text.to_string(), shown }
}

/// A panic of the cell.
pub fn panicked(message: &str) -> Problem {
    let mut problem = cell_error(message);
    problem.name = "panic".to_string();
    if let Some(first) = problem.shown.first_mut() {
        *first = first.replacen("error", "panic", 1);
    }
    problem
}

/// Reads what `{:?}` made of a text.
pub fn from_debug(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some('u') => {
                let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_debug() {
        for text in ["", "plain", "two\nlines", "\"quoted\" \\ back", "tab\t\u{1b}[1m 字 \u{7f}", "\0end"] {
            assert_eq!(from_debug(&format!("{text:?}")), text);
        }
    }
}
