//! What a turn says, as a report looks at it.

use crate::format::record::Node;
use crate::format::row::{REASONING, Spoken};

/// What a turn says; nothing where it only calls a tool.
pub(super) fn text_of<'a>(turn: &Spoken<'a>) -> &'a str {
    turn.content
}

/// The reasoning beside what a turn says.
pub(super) fn thought(turn: &Spoken<'_>) -> Option<String> {
    let extra = Node::parse_own(turn.extra?).ok()?;
    REASONING.into_iter().find_map(|key| extra.get(key)?.str().map(str::to_string))
}

/// How an answer begins: its first three words, or its first eight characters in a script without
/// spaces, of its first line that says something.
pub(super) fn opening(text: &str) -> &str {
    const CHARACTERS: usize = 8;
    const WORDS: usize = 3;
    let text = text.trim_start();
    let line = text.lines().next().unwrap_or_default();
    let at = |n: usize| line.char_indices().nth(n).map_or(line.len(), |(at, _)| at);
    // Han, kana, Thai and others from there on; Hangul has spaces.
    let spaceless = |c: char| matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{2e80}'..='\u{9fff}' | '\u{20000}'..);
    if line[..at(CHARACTERS)].contains(spaceless) {
        return line[..at(CHARACTERS)].trim_end();
    }
    let spaces = line
        .char_indices()
        .filter(|(at, c)| c.is_whitespace() && !line[..*at].ends_with(char::is_whitespace));
    let end = spaces.map(|(at, _)| at).nth(WORDS - 1).unwrap_or(line.len());
    &line[..end.min(at(5 * CHARACTERS))]
}

#[cfg(test)]
mod tests {
    use super::opening;

    #[test]
    fn openings() {
        assert_eq!(opening("\n\nSure, here is  the answer"), "Sure, here is");
        assert_eq!(opening("Sure,   here   is"), "Sure,   here   is");
        assert_eq!(opening("解：单价乘以数量：8 × 14"), "解：单价乘以数量");
        assert_eq!(opening("答\n二"), "答");
        assert_eq!(opening(&"x".repeat(90)).len(), 40);
        assert_eq!(opening(" \n "), "");
    }
}
