//! The cells that were executed, for clients that ask for them.

use jupyter_protocol::{HistoryEntry, HistoryRequest};

/// The cells that a request asks for, the oldest first. Lines are counted from 1; all are of this session, 0.
pub fn asked(cells: &[String], request: &HistoryRequest) -> Vec<HistoryEntry> {
    let line = |(at, code): (usize, &String)| (at + 1, code.clone());
    let all = || cells.iter().enumerate().map(line);
    let last = |found: Vec<(usize, String)>, n: i32| {
        let skipped = found.len().saturating_sub(usize::try_from(n).unwrap_or(0));
        found.into_iter().skip(skipped).collect::<Vec<_>>()
    };
    let (found, output) = match request {
        HistoryRequest::Tail { n, output, .. } => (last(all().collect(), *n), *output),
        HistoryRequest::Range { start, stop, output, .. } => {
            // 0 as the end is no end.
            let inside = |line: &usize| {
                *line as i64 >= i64::from(*start) && (*stop <= 0 || (*line as i64) < i64::from(*stop))
            };
            (all().filter(|(line, _)| inside(line)).collect(), *output)
        }
        HistoryRequest::Search { pattern, unique, output, n, .. } => {
            let mut found: Vec<(usize, String)> = all().filter(|(_, code)| matches(pattern, code)).collect();
            if *unique {
                let newest: Vec<bool> = (0..found.len())
                    .map(|at| found[at + 1..].iter().all(|(_, later)| *later != found[at].1))
                    .collect();
                found = found
                    .into_iter()
                    .zip(newest)
                    .filter(|(_, newest)| *newest)
                    .map(|(cell, _)| cell)
                    .collect();
            }
            let n = if *n > 0 { *n } else { i32::MAX };
            (last(found, n), *output)
        }
    };
    found
        .into_iter()
        .map(|(line, code)| match output {
            true => HistoryEntry::InputOutput(0, line, (code, String::new())),
            false => HistoryEntry::Input(0, line, code),
        })
        .collect()
}

/// Whether a whole text is as a pattern says, in which `*` is any text and `?` any character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // The last `*`, and where the text after it is tried from.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_select_cells() {
        let cells: Vec<String> = ["let a = 1;", "a", "let b = 2;", "a"].map(String::from).into();
        let lines = |request: HistoryRequest| -> Vec<usize> {
            let line = |entry: &HistoryEntry| match entry {
                HistoryEntry::Input(_, line, _) | HistoryEntry::InputOutput(_, line, _) => *line,
            };
            asked(&cells, &request).iter().map(line).collect()
        };
        let tail = |n| HistoryRequest::Tail { n, output: false, raw: true };
        assert_eq!((lines(tail(3)), lines(tail(9))), (vec![2, 3, 4], vec![1, 2, 3, 4]));
        let range =
            |start, stop| HistoryRequest::Range { session: None, start, stop, output: true, raw: true };
        assert_eq!((lines(range(2, 4)), lines(range(0, 0))), (vec![2, 3], vec![1, 2, 3, 4]));
        let search = |pattern: &str, unique| HistoryRequest::Search {
            pattern: pattern.to_string(),
            unique,
            output: false,
            raw: true,
            n: 2,
        };
        assert_eq!((lines(search("let *", false)), lines(search("a", true))), (vec![1, 3], vec![4]));
        assert_eq!(lines(search("*", false)), [3, 4]);
    }

    #[test]
    fn patterns_match_whole_texts() {
        assert!(matches("l?t *;", "let a = 1;") && matches("*", "") && matches("a*b*c", "aXbYbc"));
        assert!(!matches("let", "let a") && !matches("?", "") && !matches("a*b", "abc"));
    }
}
