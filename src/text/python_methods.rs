//! The parts of Python that chat templates use: methods of strings and dicts, `strftime_now`.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use minijinja::value::{Value, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::python_repr::{text, to_json};

/// Adds the filters and functions that Hugging Face gives to a chat template.
pub(super) fn install(env: &mut Environment<'static>, now: Option<i64>) {
    env.set_formatter(print);
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", to_json);
    env.add_filter("string", |value: &Value| text(value));
    // What is no string is written as one first; what is not there is empty.
    env.add_filter("trim", |value: &Value, set: Option<&str>| {
        strip(&text(value), set, true, true).to_string()
    });
    // None cannot be iterated in Python, and templates ask so before they count their tools.
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    env.add_function("raise_exception", |message: String| {
        Err::<Value, Error>(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", move |format: &str| {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        strftime(format, now.unwrap_or_else(clock))
    });
}

/// Writes `{{ value }}` as Python does, without escaping.
fn print(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    out.write_str(&text(value)).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

/// Whether Python counts a character as white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn strip<'a>(text: &'a str, set: Option<&str>, start: bool, end: bool) -> &'a str {
    let strip = |c: char| set.map_or(is_space(c), |set| set.contains(c));
    let text = if start { text.trim_start_matches(strip) } else { text };
    if end { text.trim_end_matches(strip) } else { text }
}

/// The lines of a text, ended by any of Python's line breaks.
fn lines(text: &str) -> Value {
    const BREAKS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let text = text.replace("\r\n", "\n");
    text.strip_suffix(BREAKS).unwrap_or(&text).split(BREAKS).filter(|_| !text.is_empty()).collect()
}

/// The methods in which Python differs from pycompat's, or which that does not have; then pycompat's.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let own = value.as_str().map(|text| string_method(text, name, args)).transpose()?.flatten();
    own.map_or_else(|| unknown_method_callback(state, value, name, args), Ok)
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, set, name != "rstrip", name != "lstrip"))
        }
        "split" => match from_args(args)? {
            (Some(""), _) => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
            (None::<&str>, None::<i64>) => text.split(is_space).filter(|word| !word.is_empty()).collect(),
            _ => return Ok(None),
        },
        "splitlines" if args.is_empty() => lines(text),
        // Digits alone, as Python has it: `½` and `Ⅷ` are numeric.
        "isdigit" if args.is_empty() => {
            Value::from(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        }
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(rest.unwrap_or(text))
        }
        _ => return Ok(None),
    }))
}

/// Writes a UTC time, in seconds since 1970, after a Python format string.
fn strftime(format: &str, seconds: i64) -> Result<String, Error> {
    // Those in which Python and chrono agree.
    const KNOWN: &str = "YymdBbAaHMS%";
    let invalid = |detail: String| Error::new(ErrorKind::InvalidOperation, detail);
    let mut letters = format.chars();
    while letters.by_ref().any(|c| c == '%') {
        let directive = letters.next();
        if !directive.is_some_and(|directive| KNOWN.contains(directive)) {
            let directive = directive.map(String::from).unwrap_or_default();
            return Err(invalid(format!(
                "strftime_now does not know %{directive}; known: %Y %y %m %d %B %b %A %a %H %M %S"
            )));
        }
    }
    let time = DateTime::from_timestamp(seconds, 0)
        .ok_or_else(|| invalid(format!("{seconds} seconds since 1970 are beyond the calendar")))?;
    Ok(time.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| strftime("%a %d %b %Y %H:%M:%S", seconds).unwrap();
        assert_eq!(at(0), "Thu 01 Jan 1970 00:00:00");
        assert_eq!(at(951_827_696), "Tue 29 Feb 2000 12:34:56");
        assert_eq!(at(-1), "Wed 31 Dec 1969 23:59:59");
        assert_eq!(strftime("%A, %d %B %y", 1_735_603_200).unwrap(), "Tuesday, 31 December 24");
    }

    /// A text may grow far beyond what a template is given: that is paid for before memory is taken.
    #[test]
    fn texts_that_grow_without_end_run_out_of_fuel() {
        let mut env = Environment::new();
        env.set_fuel(Some(50_000_000));
        install(&mut env, None);
        let grown = env.render_str("{% set s = 'a' * 400000 %}{{ s.replace('a', s) }}", ());
        assert!(grown.unwrap_err().to_string().contains("fuel"));
    }

    #[test]
    fn numerals_are_no_digits() {
        let mut env = Environment::new();
        install(&mut env, None);
        let said = env.render_str("{{ '12'.isdigit() }} {{ '½'.isdigit() }} {{ ''.isdigit() }}", ());
        assert_eq!(said.unwrap(), "True False False");
    }

    #[test]
    fn an_unknown_directive_lists_the_known_ones() {
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("does not know %Q; known: %Y"));
    }
}
