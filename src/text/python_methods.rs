//! The parts of Python that chat templates use: methods of strings and dicts, `strftime_now`.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State};

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

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => string_method(state, text, name, args),
        (None, ValueKind::Map) => dict_method(state, value, name, args),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn string_method(state: &mut State, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, set, name != "rstrip", name != "lstrip"))
        }
        "startswith" | "endswith" => {
            let (what,): (Value,) = from_args(args)?;
            let matches = |part: &str| match name {
                "startswith" => text.starts_with(part),
                _ => text.ends_with(part),
            };
            match what.as_str() {
                Some(part) => Value::from(matches(part)),
                // Python takes a tuple of alternatives, too.
                None => Value::from(what.try_iter()?.any(|part| part.as_str().is_some_and(matches))),
            }
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = most.and_then(|n| usize::try_from(n).ok());
            match (separator, most) {
                (Some(""), _) => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                (Some(s), None) => text.split(s).collect(),
                (Some(s), Some(n)) => text.splitn(n + 1, s).collect(),
                (None, None) => text.split(is_space).filter(|word| !word.is_empty()).collect(),
                (None, Some(_)) => {
                    return Err(Error::new(
                        ErrorKind::InvalidOperation,
                        "split() with a limit and no separator",
                    ));
                }
            }
        }
        "splitlines" => lines(text),
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            Value::from(text.replace(from, to))
        }
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(rest.unwrap_or(text))
        }
        "format" => format(text, args)?,
        "find" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.find(part).map_or(-1, |at| text[..at].chars().count() as i64))
        }
        "count" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(text.matches(part).count())
        }
        "isdigit" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "title" | "capitalize" => state.apply_filter(name, &[Value::from(text)])?,
        "join" => {
            let (parts,): (Value,) = from_args(args)?;
            state.apply_filter("join", &[parts, Value::from(text)])?
        }
        _ => return Err(ErrorKind::UnknownMethod.into()),
    })
}

/// `"{} of {}".format(a, b)`, with empty braces only.
fn format(text: &str, args: &[Value]) -> Result<Value, Error> {
    let mut parts = text.split("{}");
    let mut out = parts.next().unwrap_or_default().to_string();
    let mut args = args.iter();
    for part in parts {
        let value = args.next().ok_or_else(|| Error::new(ErrorKind::MissingArgument, "format()"))?;
        out = out + &super::python_repr::text(value) + part;
    }
    if text.replace("{}", "").contains(['{', '}']) {
        return Err(Error::new(ErrorKind::InvalidOperation, "format() with more than {} in it"));
    }
    Ok(Value::from(out))
}

fn dict_method(state: &mut State, dict: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match name {
        "items" => state.apply_filter("items", std::slice::from_ref(dict)),
        "keys" => Ok(dict.try_iter()?.collect()),
        "values" => dict.try_iter()?.map(|key| dict.get_item(&key)).collect(),
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let value = dict.get_item(&key)?;
            Ok(if value.is_undefined() { default.unwrap_or(Value::from(())) } else { value })
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
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

    #[test]
    fn an_unknown_directive_lists_the_known_ones() {
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("does not know %Q; known: %Y"));
    }
}
