//! Statistics of answers: repeated ones, contradictions, tools, labels, preferences.

use std::collections::BTreeMap;

use polars::prelude::{InitHashMaps, PlHashMap};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::column_summary::{Columns, Numbers, tool_names};
use super::lengths::{LengthSummary, share};
use super::places::Files;
use super::spoils::Spoils;
use super::turn_text::text_of;
use crate::dataset::table::Rows;
use crate::format::problems::ProblemKind;
use crate::format::schema::layout::List;

/// One answer that is given to many different prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canned {
    /// The answer; a long one ends in an ellipsis.
    pub text: String,
    /// Different prompts.
    pub prompts: u64,
    /// Rows.
    pub rows: u64,
    /// Their share of the rows that have an answer, from 0 to 1.
    pub share: f64,
}

/// How often tools are offered and called.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ToolCounts {
    /// Rows that offer tools.
    pub offering: u64,
    /// Rows in which the assistant calls one.
    pub calling: u64,
    /// Calls.
    pub calls: u64,
    /// Turns of tools.
    pub answers: u64,
    /// The tools that most rows offer, and how many do.
    pub offered: Vec<(String, u64)>,
    /// The tools that are called most, and how often.
    pub called: Vec<(String, u64)>,
}

/// The two answers of preferences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preferences {
    /// Rows with two answers.
    pub rows: u64,
    /// Characters of the chosen answers.
    pub chosen: LengthSummary,
    /// Characters of the rejected answers.
    pub rejected: LengthSummary,
    /// Rows whose chosen answer is the longer one: far from a half, length alone tells them apart.
    pub longer: u64,
    /// How far apart the scores of the two are.
    pub margins: Vec<Margin>,
}

/// The scores of chosen answers less those of rejected ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// The key of the chosen answer's score.
    pub chosen: String,
    /// The key of the rejected answer's score.
    pub rejected: String,
    /// Rows whose rejected answer has at least the chosen one's score.
    pub wrong: u64,
    /// The differences.
    pub numbers: Numbers,
}

/// How many answers are labelled good and bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Rows labelled good.
    pub good: u64,
    /// Rows labelled bad.
    pub bad: u64,
}

/// An answer is canned when at least this many different prompts have it.
const CANNED: usize = 5;
/// For every so many answers, one more prompt is required.
const PER: usize = 2000;
/// Letters of an answer that may be canned; a Chinese character counts as three.
const LETTERS: usize = 16;
/// Names of tools that are shown.
const NAMES: usize = 20;

/// What some rows answer.
#[derive(Default)]
pub(super) struct Answers {
    /// By row: hashes of the prompt and of the answer, 0 where there is none.
    asked: Vec<u64>,
    answered: Vec<u64>,
    /// Whether the answer is long enough to be canned.
    long: Vec<bool>,
    /// Whether the row's prompt may have another answer in another row: of preferences and labels it may.
    alone: Vec<bool>,
    counts: ToolCounts,
    offered: BTreeMap<String, u64>,
    called: BTreeMap<String, u64>,
    chosen: Vec<u64>,
    rejected: Vec<u64>,
    longer: u64,
    labels: [u64; 2],
}

impl Answers {
    /// Looks at row `i` of a table.
    pub fn look(&mut self, rows: Rows<'_>, i: usize) {
        let last = rows.turns(i).rposition(|turn| turn.role == "assistant");
        let mut hash = Xxh3::new();
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        let (mut answered, mut long) = (0, false);
        let (mut calls, mut called_here) = (0, false);
        part(rows.system(i).unwrap_or_default().trim());
        part(rows.system_extra(i).unwrap_or_default());
        part(rows.tools(i).unwrap_or_default());
        for (n, turn) in rows.turns(i).enumerate() {
            let text = text_of(&turn).trim();
            if Some(n) == last {
                let mut said = Xxh3::new();
                said.update(text.as_bytes());
                said.update(turn.tool_calls.unwrap_or_default().as_bytes());
                answered = said.digest().max(1);
                long = turn.tool_calls.is_none() && letters(text) >= LETTERS;
            } else if last.is_some_and(|last| n < last) {
                [turn.role, text, turn.tool_calls.unwrap_or_default()].into_iter().for_each(&mut part);
            }
            if let Some(json) = turn.tool_calls {
                let names = tool_names(json);
                calls += names.len().max(1) as u64;
                called_here = true;
                names.into_iter().for_each(|name| *self.called.entry(name.into_owned()).or_default() += 1);
            }
            self.counts.answers += u64::from(turn.role == "tool");
        }
        let asks = last.is_some_and(|last| last > 0);
        self.asked.push(if asks { hash.digest().max(1) } else { 0 });
        self.answered.push(answered);
        self.long.push(long);
        self.alone.push(!rows.is_preference(i) && rows.label(i).is_none());
        self.counts.calls += calls;
        self.counts.calling += u64::from(called_here);
        if let Some(tools) = rows.tools(i) {
            let mut names = tool_names(tools);
            self.counts.offering += u64::from(!names.is_empty());
            names.sort_unstable();
            names.dedup();
            names.into_iter().for_each(|name| *self.offered.entry(name.into_owned()).or_default() += 1);
        }
        if rows.is_preference(i) {
            let [_, chosen, _] = rows.counts(i);
            let of = |n| rows.turn(i, List::Chosen, n).map_or(0, |turn| text_of(&turn).chars().count());
            let chosen: usize = (0..chosen).map(of).sum();
            let rejected: usize = rows.rejected(i).map(|turn| text_of(&turn).chars().count()).sum();
            self.longer += u64::from(chosen > rejected);
            self.chosen.push(chosen as u64);
            self.rejected.push(rejected as u64);
        }
        if let Some(good) = rows.label(i) {
            self.labels[usize::from(!good)] += 1;
        }
    }

    /// Adds what later rows answer.
    pub fn add(&mut self, later: Self) {
        self.asked.extend(later.asked);
        self.answered.extend(later.answered);
        self.long.extend(later.long);
        self.alone.extend(later.alone);
        self.chosen.extend(later.chosen);
        self.rejected.extend(later.rejected);
        self.longer += later.longer;
        self.labels.iter_mut().zip(later.labels).for_each(|(all, more)| *all += more);
        let (all, more) = (&mut self.counts, later.counts);
        all.offering += more.offering;
        all.calling += more.calling;
        all.calls += more.calls;
        all.answers += more.answers;
        for (all, more) in [(&mut self.offered, later.offered), (&mut self.called, later.called)] {
            more.into_iter().for_each(|(name, count)| *all.entry(name).or_default() += count);
        }
    }

    /// The tools, where rows have some.
    pub fn tools(&self) -> Option<ToolCounts> {
        let most = |names: &BTreeMap<String, u64>| {
            let mut names: Vec<(String, u64)> =
                names.iter().map(|(name, count)| (name.clone(), *count)).collect();
            names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            names.truncate(NAMES);
            names
        };
        let counts = &self.counts;
        let any = counts.offering + counts.calls + counts.answers > 0;
        any.then(|| ToolCounts { offered: most(&self.offered), called: most(&self.called), ..counts.clone() })
    }

    /// The two answers of preferences, where there are some.
    pub fn preferences(&self, columns: &Columns) -> Option<Preferences> {
        let margin = |((chosen, rejected), values): (&(String, String), &Vec<f64>)| {
            Some(Margin {
                chosen: chosen.clone(),
                rejected: rejected.clone(),
                wrong: values.iter().filter(|value| **value <= 0.0).count() as u64,
                numbers: Numbers::of(values.clone())?,
            })
        };
        (!self.chosen.is_empty()).then(|| Preferences {
            rows: self.chosen.len() as u64,
            chosen: LengthSummary::of(self.chosen.clone()),
            rejected: LengthSummary::of(self.rejected.clone()),
            longer: self.longer,
            margins: columns.margins.iter().filter_map(margin).collect(),
        })
    }

    /// The labels, where there are some.
    pub fn labels(&self) -> Option<Labels> {
        let [good, bad] = self.labels;
        (good + bad > 0).then_some(Labels { good, bad })
    }

    /// Notes the rows whose prompt has another answer in an earlier row.
    pub fn contradictions(&self, spoils: &mut Spoils, files: &Files, lines: &[u32]) {
        let mut first: PlHashMap<u64, u32> = PlHashMap::with_capacity(self.asked.len());
        for (row, &asked) in (0u32..).zip(&self.asked) {
            if asked == 0 || !self.alone[row as usize] {
                continue;
            }
            let earlier = *first.entry(asked).or_insert(row);
            if self.answered[earlier as usize] != self.answered[row as usize] {
                spoils.note(ProblemKind::OtherAnswer, row, || {
                    let place = files.line(earlier, lines[earlier as usize]);
                    format!("the prompt is that of {place}, the answer is another")
                });
            }
        }
    }

    /// The answers that many different prompts have, the most frequent first: prompts, rows, and the
    /// first row. Notes their rows.
    pub fn canned(&self, spoils: &mut Spoils) -> Vec<(u64, u64, u32)> {
        let answers = self.answered.iter().filter(|answered| **answered != 0).count();
        let least = CANNED.max(answers / PER);
        let all = self.answered.iter().zip(&self.asked).zip(&self.long).zip(0u32..);
        let eligible = all.filter(|(((answered, asked), long), _)| **answered != 0 && **asked != 0 && **long);
        let mut eligible: Vec<(u64, u64, u32)> =
            eligible.map(|(((answered, asked), _), row)| (*answered, *asked, row)).collect();
        eligible.sort_unstable();
        let mut found: Vec<(u64, u64, u32)> = Vec::new();
        let mut rows: Vec<u32> = Vec::new();
        for same in eligible.chunk_by(|a, b| a.0 == b.0) {
            let prompts = same.chunk_by(|a, b| a.1 == b.1).count();
            if prompts >= least {
                let first = same.iter().map(|(_, _, row)| *row).min().unwrap_or_default();
                found.push((prompts as u64, same.len() as u64, first));
                rows.extend(same.iter().map(|(_, _, row)| *row));
            }
        }
        rows.sort_unstable();
        found.sort_unstable_by_key(|&(prompts, _, first)| (std::cmp::Reverse(prompts), first));
        let most = found.first().copied();
        for row in rows {
            spoils.note(ProblemKind::CannedAnswer, row, || {
                let (prompts, count, _) = most.unwrap_or_default();
                let percent = 100.0 * share(count, answers as u64);
                format!("the commonest one answers {prompts} different prompts, {percent:.1} % of the rows")
            });
        }
        found
    }

    /// Rows that have an answer.
    pub fn count(&self) -> u64 {
        self.answered.iter().filter(|answered| **answered != 0).count() as u64
    }
}

/// What is to be read in a text: letters and digits, a Chinese character for three.
fn letters(text: &str) -> usize {
    let weight = |c: char| if c > '\u{2e7f}' { 3 } else { usize::from(c.is_alphanumeric()) };
    text.chars().take(4 * LETTERS).map(weight).sum()
}
