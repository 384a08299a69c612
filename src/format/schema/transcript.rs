//! Several turns in one text, each after the name of its speaker.

use std::ops::Range;

use crate::format::Role;

const HUMAN: &str = "Human:";
pub(super) const ASSISTANT: &str = "Assistant:";

/// The turns in a text of `Human:…\nAssistant:…` that ends where the assistant is to answer: what
/// stands before each text, and the text; at the end only what stands there.
pub(crate) fn several(text: &str) -> Option<Vec<(&str, Option<&str>)>> {
    if !text.trim_ascii_end().ends_with(ASSISTANT) || !text.trim_ascii_start().starts_with(HUMAN) {
        return None;
    }
    // Where each speaker's name begins, at the start of a line.
    let mut names = Vec::new();
    let mut line = text.len() - text.trim_ascii_start().len();
    loop {
        let rest = &text[line..];
        if rest.starts_with(HUMAN) {
            names.push((line, HUMAN));
        } else if rest.starts_with(ASSISTANT) {
            names.push((line, ASSISTANT));
        }
        match rest.find('\n') {
            Some(end) => line += end + 1,
            None => break,
        }
    }
    let in_turn = |(n, (_, name)): (usize, &(usize, &str))| *name == [HUMAN, ASSISTANT][n % 2];
    if names.len() % 2 != 0 || !names.iter().enumerate().all(in_turn) {
        return None;
    }
    let mut turns = Vec::with_capacity(names.len());
    let mut done = 0;
    for (n, (at, name)) in names.iter().enumerate() {
        let said = at + name.len();
        let end = names.get(n + 1).map_or(text.len(), |(next, _)| *next);
        let content = text[said..end].trim_ascii();
        if n + 1 == names.len() {
            return content.is_empty().then(|| {
                turns.push((&text[done..], None));
                turns
            });
        }
        if content.trim().is_empty() {
            return None;
        }
        let start = said + text[said..end].find(content)?;
        turns.push((&text[done..start], Some(content)));
        done = start + content.len();
    }
    None
}

/// A turn of a [`transcript`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub role: Role,
    /// Where the name of its speaker begins.
    pub from: usize,
    /// Where that name ends.
    pub named: usize,
    /// Its text, without white space at both ends.
    pub text: Range<usize>,
}

/// The turns of a text of `\n\nHuman: …\n\nAssistant: …`, as both answers of a preference may be
/// written. `None` for a text that does not begin so.
pub(super) fn transcript(text: &str) -> Option<Vec<Told>> {
    text.trim_ascii_start().starts_with(HUMAN).then_some(())?;
    let mut names: Vec<(usize, usize, Role)> = Vec::new();
    let first = text.len() - text.trim_ascii_start().len();
    names.push((0, first + HUMAN.len(), Role::User));
    for (name, role) in [(HUMAN, Role::User), (ASSISTANT, Role::Assistant)] {
        let found = text.match_indices(name).filter(|(at, _)| *at > first && text[..*at].ends_with("\n\n"));
        names.extend(found.map(|(at, _)| (at - 2, at + name.len(), role)));
    }
    names.sort_unstable_by_key(|name| name.0);
    let told = names.iter().enumerate().map(|(n, &(from, named, role))| {
        let end = names.get(n + 1).map_or(text.len(), |next| next.0).max(named);
        let inside = &text[named..end];
        let start = named + (inside.len() - inside.trim_ascii_start().len());
        Told { role, from, named, text: start..(start + inside.trim_ascii().len()) }
    });
    Some(told.collect())
}

/// How many turns of two transcripts are the prompt: those before the last name of the assistant that
/// both have in common.
pub(super) fn shared(chosen: &str, rejected: &str, told: &[Told]) -> usize {
    let same = chosen.bytes().zip(rejected.bytes()).take_while(|(a, b)| a == b).count();
    told.iter().rposition(|turn| turn.role == Role::Assistant && turn.named <= same).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcripts_are_cut_at_names() {
        let text = "\n\nHuman: Tea?\n\nYes.\n\nAssistant: Tea. \n\nHuman:Why?\n\nAssistant:";
        let told = transcript(text).unwrap();
        let texts: Vec<(Role, &str)> = told.iter().map(|t| (t.role, &text[t.text.clone()])).collect();
        assert_eq!(
            texts,
            [
                (Role::User, "Tea?\n\nYes."),
                (Role::Assistant, "Tea."),
                (Role::User, "Why?"),
                (Role::Assistant, "")
            ]
        );
        assert_eq!(transcript("Tea?\n\nHuman: x"), None);
        let three = transcript("\n\nHuman: a\n\nAssistant: b\n\n\nHuman: c\n\nAssistant: d").unwrap();
        assert_eq!(three.len(), 4);
        let (a, b) = ("\n\nHuman: a\n\nAssistant: Sunny", "\n\nHuman: a\n\nAssistant: Sure");
        assert_eq!(shared(a, b, &transcript(a).unwrap()), 1);
        let longer = "\n\nHuman: a\n\nAssistant: Sunny\n\nHuman: b\n\nAssistant: c";
        assert_eq!(shared(a, longer, &transcript(a).unwrap()), 1);
        let other = "\n\nHuman: a\n\nAssistant: Sunny\n\nHuman: c\n\nAssistant: d";
        assert_eq!(shared(longer, other, &transcript(longer).unwrap()), 1);
        assert_eq!(
            shared("\n\nHuman: a\n\nAssistant: x", "\n\nHuman: b\n\nAssistant: x", &transcript(a).unwrap()),
            0
        );
    }
}
