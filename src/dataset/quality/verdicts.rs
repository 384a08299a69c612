//! Rows that judge the same answers differently.

use polars::prelude::PlHashMap;
use xxhash_rust::xxh3::Xxh3;

use super::places::Files;
use super::spoils::Spoils;
use super::turn_text::{text_of, thought};
use crate::dataset::table::Rows;
use crate::format::problems::ProblemKind;
use crate::format::row::Spoken;
use crate::format::schema::layout::List;

/// What a row says of which answer.
struct Verdict {
    row: u32,
    /// The hash of the prompt and of what is judged: an answer, or two in whatever order.
    of: u64,
    /// The answer is good; of two, that of the lesser hash is the chosen one.
    good: bool,
    pair: bool,
}

/// The verdicts of some rows, in their order.
#[derive(Default)]
pub(super) struct Verdicts(Vec<Verdict>);

impl Verdicts {
    /// Looks at row `i` of a table, which is `row` in the dataset.
    pub fn look(&mut self, rows: Rows<'_>, i: usize, row: u32) {
        let [messages, chosen, rejected] = rows.counts(i);
        let hash = |list, turns: std::ops::Range<usize>| {
            let mut hash = Xxh3::new();
            turns.filter_map(|n| rows.turn(i, list, n)).for_each(|turn| hash_turn(&mut hash, &turn));
            hash.digest()
        };
        let mut of = Xxh3::new();
        for part in [rows.system(i), rows.tools(i)] {
            add(&mut of, part.unwrap_or_default());
        }
        if rows.is_preference(i) {
            of.update(&hash(List::Messages, 0..messages).to_le_bytes());
            let answers = (hash(List::Chosen, 0..chosen), hash(List::Rejected, 0..rejected));
            if answers.0 != answers.1 {
                of.update(&answers.0.min(answers.1).to_le_bytes());
                of.update(&answers.0.max(answers.1).to_le_bytes());
                self.0.push(Verdict { row, of: of.digest(), good: answers.0 < answers.1, pair: true });
            }
        } else if let (Some(good), None) = (rows.label(i), rows.text(i)) {
            of.update(&hash(List::Messages, 0..messages).to_le_bytes());
            self.0.push(Verdict { row, of: of.digest(), good, pair: false });
        }
    }

    /// Adds those of later rows.
    pub fn add(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Notes the rows that say the opposite of an earlier one.
    pub fn note(&self, spoils: &mut Spoils, files: &Files, lines: &[u32]) {
        let mut first: PlHashMap<(u64, bool), (u32, bool)> = PlHashMap::default();
        for verdict in &self.0 {
            let &mut (earlier, good) =
                first.entry((verdict.of, verdict.pair)).or_insert((verdict.row, verdict.good));
            if good != verdict.good {
                spoils.note(ProblemKind::OtherVerdict, verdict.row, || {
                    let place = files.line(earlier, lines[earlier as usize]);
                    match (verdict.pair, good) {
                        (true, _) => format!("{place} chooses the other of the two answers"),
                        (false, true) => format!("the answer is labelled bad, and good in {place}"),
                        (false, false) => format!("the answer is labelled good, and bad in {place}"),
                    }
                });
            }
        }
    }
}

fn hash_turn(hash: &mut Xxh3, turn: &Spoken<'_>) {
    let thought = thought(turn).unwrap_or_default();
    [turn.role, text_of(turn).trim(), turn.tool_calls.unwrap_or_default(), &thought]
        .into_iter()
        .for_each(|part| add(hash, part));
}

fn add(hash: &mut Xxh3, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}
