//! One pass over the rows: what a report counts, and each row's signature.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::answers::Answers;
use super::column_summary::Columns;
use super::near::Signatures;
use super::near_rows::said;
use super::near_signature::{Signed, Signer};
use super::spoils::Spoils;
use super::turn_text::{opening, text_of};
use super::verdicts::Verdicts;
use crate::dataset::Dataset;
use crate::dataset::columns::lang;
use crate::dataset::table::Rows;
use crate::display::Progress;
use crate::error::Result;

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
struct GatheredPiece {
    gathered: Gathered,
    signed: Vec<Signed>,
}

impl Gathered {
    pub fn of(data: &Dataset) -> Result<Self> {
        let progress = Mutex::new(Progress::new("looking at the rows", data.len() as u64));
        let pieces = data.pieces(|rows, first| {
            let piece = GatheredPiece::of(rows, first as u64);
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

impl GatheredPiece {
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
