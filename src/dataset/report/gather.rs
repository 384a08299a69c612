//! One pass over the rows: what a report counts, and each row's signature.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::answers::Answers;
use super::columns::Columns;
use super::spoils::Spoils;
use super::verdicts::Verdicts;
use crate::dataset::Dataset;
use crate::dataset::look::lang;
use crate::dataset::near::{Signatures, Signer, said};
use crate::dataset::record::Node;
use crate::dataset::table::{Rows, Spoken};
use crate::display::Progress;
use crate::error::Result;
use crate::text::Tokenizer;

/// What the rows say in numbers, in the order of the rows where there is one value each.
#[derive(Default)]
pub(super) struct Gathered {
    pub turns: Vec<u64>,
    pub characters: Vec<u64>,
    pub hashes: Vec<u64>,
    pub lines: Vec<u32>,
    /// The numbers of the records in their files.
    pub numbers: Vec<u32>,
    pub signatures: Signatures,
    /// Characters of each turn, by role; `system` and `text` are no turns, and the turns of a rejected
    /// answer are `rejected`.
    pub roles: BTreeMap<String, Vec<u64>>,
    /// By schema: rows, and the first of them.
    pub sources: BTreeMap<String, (u64, u64)>,
    pub languages: BTreeMap<&'static str, u64>,
    /// By the hash of an answer's opening: answers that begin so, and the first row of them.
    pub openings: HashMap<u64, (u64, u64)>,
    pub answers: u64,
    pub spoils: Spoils,
    pub said: Answers,
    pub columns: Columns,
    pub verdicts: Verdicts,
}

/// The same of some consecutive rows.
#[derive(Default)]
struct Piece {
    gathered: Gathered,
    signed: Vec<crate::dataset::near::Signed>,
}

impl Gathered {
    pub fn of(data: &Dataset) -> Result<Self> {
        let progress = Mutex::new(Progress::new("looking at the rows", data.len() as u64));
        let pieces = data.pieces(|rows, first| {
            let piece = Piece::of(rows, first as u64);
            progress.lock().unwrap_or_else(PoisonError::into_inner).advance(rows.len() as u64, "");
            Ok(piece)
        })?;
        let mut new = Self::default();
        let mut signed = Vec::with_capacity(pieces.len());
        for piece in pieces {
            new.add(piece.gathered);
            signed.push(piece.signed);
        }
        new.signatures = Signatures::joined(signed);
        Ok(new)
    }

    fn add(&mut self, piece: Self) {
        self.turns.extend(piece.turns);
        self.characters.extend(piece.characters);
        self.hashes.extend(piece.hashes);
        self.lines.extend(piece.lines);
        self.numbers.extend(piece.numbers);
        self.spoils.add(piece.spoils);
        self.said.add(piece.said);
        self.columns.add(piece.columns);
        self.verdicts.add(piece.verdicts);
        self.answers += piece.answers;
        for (role, lengths) in piece.roles {
            self.roles.entry(role).or_default().extend(lengths);
        }
        for (source, (count, first)) in piece.sources {
            self.sources.entry(source).or_insert((0, first)).0 += count;
        }
        for (language, count) in piece.languages {
            *self.languages.entry(language).or_default() += count;
        }
        for (opening, (count, first)) in piece.openings {
            self.openings.entry(opening).or_insert((0, first)).0 += count;
        }
    }
}

impl Piece {
    fn of(rows: Rows<'_>, first: u64) -> Self {
        let mut new = Self::default();
        let (mut signer, mut text) = (Signer::default(), String::new());
        for i in 0..rows.len() {
            said(rows, i, &mut text);
            new.signed.push(signer.sign(&text));
            let it = &mut new.gathered;
            it.hashes.push(rows.hash(i));
            it.lines.push(rows.line(i));
            it.numbers.push(rows.number(i));
            let row = (first + i as u64) as u32;
            it.spoils.look(rows, i, row);
            it.said.look(rows, i);
            it.columns.look(rows, i, row);
            it.verdicts.look(rows, i, row);
            *it.languages.entry(lang(rows, i)).or_default() += 1;
            match it.sources.get_mut(rows.source(i)) {
                Some((count, _)) => *count += 1,
                None => drop(it.sources.insert(rows.source(i).to_string(), (1, first + i as u64))),
            }
            let system = rows.system(i).map(|text| ("system", text));
            let text = rows.text(i).map(|text| ("text", text));
            let turns = rows.turns(i).map(|turn| (turn.role, text_of(&turn)));
            let rejected = rows.rejected(i).map(|turn| ("rejected", text_of(&turn)));
            let mut characters = 0;
            for (role, text) in system.into_iter().chain(text).chain(turns).chain(rejected) {
                let length = text.chars().count() as u64;
                characters += if role == "rejected" { 0 } else { length };
                match it.roles.get_mut(role) {
                    Some(lengths) => lengths.push(length),
                    None => drop(it.roles.insert(role.to_string(), vec![length])),
                }
                if role == "assistant" && !text.is_empty() {
                    it.answers += 1;
                    let key = xxh3_64(opening(text).as_bytes());
                    it.openings.entry(key).or_insert((0, first + i as u64)).0 += 1;
                }
            }
            it.turns.push(rows.turns(i).len() as u64);
            it.characters.push(characters);
        }
        new
    }
}

/// What a turn says; nothing where it only calls a tool.
pub(super) fn text_of<'a>(turn: &Spoken<'a>) -> &'a str {
    turn.content
}

/// The reasoning beside what a turn says.
pub(super) fn thought(turn: &Spoken<'_>) -> Option<String> {
    let extra = Node::parse_own(turn.extra?).ok()?;
    Tokenizer::REASONING.into_iter().find_map(|key| extra.get(key)?.str().map(str::to_string))
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
