//! What chat templates take from Python: methods of strings and dicts, `strftime_now`.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State};

use super::python_repr::{text, to_json};

/// Gives an environment what Hugging Face gives to a chat template.
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

/// `{{ value }}`: as Python writes it, and nothing is escaped.
fn print(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    out.write_str(&text(value)).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

/// What Python takes for white space.
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
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days + 4).rem_euclid(7) as usize]);

    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(&match letters.next() {
            Some('Y') => format!("{year}"),
            Some('y') => format!("{:02}", year.rem_euclid(100)),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('B') => month_name.to_string(),
            Some('b') => month_name[..3].to_string(),
            Some('A') => day_name.to_string(),
            Some('a') => day_name[..3].to_string(),
            Some('H') => format!("{:02}", second / 3600),
            Some('M') => format!("{:02}", second / 60 % 60),
            Some('S') => format!("{:02}", second % 60),
            Some('%') => "%".to_string(),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                let detail =
                    format!("strftime_now does not know %{other}; known: %Y %y %m %d %B %b %A %a %H %M %S");
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        });
    }
    Ok(out)
}

/// Year, month and day in the Gregorian calendar, from days since 1970-01-01.
///
/// The year is counted from March, so that a leap day is the last of its year and months have a
/// pattern of 153 days in five.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let from_march_of_year_0 = days + 719_468;
    let (era, day) = (
        from_march_of_year_0.div_euclid(DAYS_IN_400_YEARS),
        from_march_of_year_0.rem_euclid(DAYS_IN_400_YEARS),
    );
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day_of_month)
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
