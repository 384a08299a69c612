//! Whether a person has typed all of a cell: what `jupyter console` asks at each Enter.

use jupyter_protocol::IsCompleteReplyStatus as Status;

/// Whether code is complete, goes on in another line, or cannot become right.
pub fn completeness(code: &str) -> Status {
    let mut open = Vec::new();
    let mut rest = code.chars().peekable();
    let mut before = ' ';
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|c| c != '\n') {},
            '/' if rest.peek() == Some(&'*') => {
                rest.next();
                if !skip_comment(&mut rest) {
                    return Status::Incomplete;
                }
            }
            'r' | '"' if c == '"' || (c == 'r' && !is_word(before) && raw_string(&rest).is_some()) => {
                let closed = match if c == 'r' { raw_string(&rest) } else { None } {
                    Some(hashes) => skip_raw(&mut rest, hashes),
                    None => skip_string(&mut rest),
                };
                if !closed {
                    return Status::Incomplete;
                }
            }
            '\'' => skip_character(&mut rest),
            '(' | '[' | '{' => open.push(c),
            ')' | ']' | '}' => {
                let wanted = match c {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(wanted) {
                    return Status::Invalid;
                }
            }
            _ => {}
        }
        before = c;
    }
    let goes_on = code.trim_end().ends_with(['.', ',', '=', '+', '|', '&']);
    if open.is_empty() && !goes_on { Status::Complete } else { Status::Incomplete }
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The number of hashes where a raw string begins after an `r`.
fn raw_string(rest: &Rest<'_>) -> Option<usize> {
    let mut rest = rest.clone();
    let mut hashes = 0;
    loop {
        match rest.next()? {
            '#' => hashes += 1,
            '"' => return Some(hashes),
            _ => return None,
        }
    }
}

fn skip_raw(rest: &mut Rest<'_>, hashes: usize) -> bool {
    while rest.next_if_eq(&'#').is_some() {}
    rest.next();
    while let Some(c) = rest.next() {
        if c == '"' && (0..hashes).all(|_| rest.next_if_eq(&'#').is_some()) {
            return true;
        }
    }
    false
}

fn skip_string(rest: &mut Rest<'_>) -> bool {
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '"' => return true,
            _ => {}
        }
    }
    false
}

/// Skips a character such as `'{'`; a lifetime has no end.
fn skip_character(rest: &mut Rest<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('\\') => {
            rest.next();
            rest.next();
            while rest.next().is_some_and(|c| c != '\'') {}
        }
        Some(_) if ahead.next() == Some('\'') => {
            rest.next();
            rest.next();
        }
        _ => {}
    }
}

fn skip_comment(rest: &mut Rest<'_>) -> bool {
    let mut depth = 1;
    while depth > 0 {
        match rest.next() {
            Some('/') if rest.next_if_eq(&'*').is_some() => depth += 1,
            Some('*') if rest.next_if_eq(&'/').is_some() => depth -= 1,
            Some(_) => {}
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_strings_and_comments_are_told_apart() {
        let complete = [
            "",
            "let a = 1;",
            "a.b(\"{\")",
            "let c = '{';",
            "fn f<'a>(x: &'a str) {}",
            "// {",
            "/* { /* */ */ 1",
        ];
        for code in
            complete.into_iter().chain(["r#\"{ \" \"#", "let r = 3;", "'\\''; '\\u{7b}'", "\"a\\\"b\""])
        {
            assert_eq!(completeness(code), Status::Complete, "{code}");
        }
        for code in ["fn f() {", "let a =", "\"abc", "r#\"a\"", "/* ", "run.steps(3)?.", "f(a,"] {
            assert_eq!(completeness(code), Status::Incomplete, "{code}");
        }
        for code in ["}", "(]", "f())"] {
            assert_eq!(completeness(code), Status::Invalid, "{code}");
        }
    }
}
