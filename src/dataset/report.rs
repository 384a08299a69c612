//! A first look at a dataset in numbers: lengths, turns, roles, duplicates, faults.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::look::characters;
use super::problems::ProblemKind;
use super::table::Rows;
use crate::display::{Align, Bundle, Progress, Show, Table, Text, thousands};
use crate::error::Result;
use crate::plot::{self, Figure};
use crate::text::Tokenizer;

/// What [`Dataset::report`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Conversations.
    pub rows: u64,
    /// Turns of a conversation, without the system text.
    pub turns: Lengths,
    /// Characters of a conversation.
    pub characters: Lengths,
    /// Tokens of a conversation under the chat template, where a tokenizer was given.
    pub tokens: Option<Lengths>,
    /// How the lengths spread: in tokens where they are known, else in characters. `None` without
    /// rows.
    pub histogram: Option<Figure>,
    /// Turns by role; `system` counts system texts.
    pub roles: BTreeMap<String, u64>,
    /// Rows by the schema that they were read from.
    pub sources: BTreeMap<String, u64>,
    /// Rows that say what an earlier row says.
    pub duplicates: u64,
    /// Records of the file that became no row.
    pub rejected: u64,
    /// Faults by kind, the most frequent first.
    pub problems: Vec<ProblemCount>,
}

/// A distribution of lengths; quantiles by the nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Lengths {
    /// The sum.
    pub total: u64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// Nine of ten are at most this.
    pub p90: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

/// How often a kind of fault occurs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemCount {
    /// The kind.
    pub kind: ProblemKind,
    /// How many records have it.
    pub count: u64,
    /// The first lines of the file that have it, at most five.
    pub lines: Vec<u32>,
}

impl Lengths {
    /// The distribution of some lengths.
    ///
    /// # Examples
    /// ```
    /// use lorascope::dataset::Lengths;
    ///
    /// let lengths = Lengths::of((1..=200).collect());
    /// assert_eq!((lengths.p50, lengths.p90, lengths.p99, lengths.max), (100, 180, 198, 200));
    /// assert_eq!(lengths.mean, 100.5);
    /// ```
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let Some(&max) = values.last() else { return Self::default() };
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let total = values.iter().sum();
        let mean = total as f64 / values.len() as f64;
        Self { total, mean, p50: rank(50), p90: rank(90), p99: rank(99), max }
    }
}

impl Dataset {
    /// Lengths, turns, roles, duplicates and faults of these rows.
    ///
    /// # Errors
    /// Only if the table is not canonical, which no verb of this type makes it.
    pub fn report(&self) -> Result<Report> {
        self.report_on(None)
    }

    /// The report, with lengths in tokens: those of whole conversations under the chat template.
    ///
    /// Rows that the template refuses are counted as a problem and have no length.
    ///
    /// # Errors
    /// If the tokenizer has no chat template, or if it refuses every row.
    pub fn report_with(&self, tokenizer: &Tokenizer) -> Result<Report> {
        /// Rows between two words on the progress.
        const BATCH: usize = 4096;
        let mut progress = Progress::new("counting tokens", self.len() as u64);
        let mut counted = Vec::with_capacity(self.len());
        for start in (0..self.len()).step_by(BATCH) {
            let batch = start..self.len().min(start + BATCH);
            counted.par_extend(batch.clone().into_par_iter().map(|i| {
                let example = tokenizer.example(&self.conversation(i)?, self.tools(i)?.as_deref())?;
                Ok(example.len() as u64)
            }));
            progress.advance(batch.len() as u64, "");
        }
        if counted.iter().all(Result::is_err)
            && let Some(Err(error)) = counted.pop()
        {
            return Err(error);
        }
        self.report_on(Some(counted.into_iter().map(Result::ok).collect()))
    }

    /// The report; `tokens` are the lengths of the rows, `None` for a row that was refused.
    fn report_on(&self, tokens: Option<Vec<Option<u64>>>) -> Result<Report> {
        let chars: Vec<u64> = self.counted(|rows, i| characters(rows, i) as u64)?;
        let turns = self.counted(|rows, i| rows.turns(i).len() as u64)?;
        let lines = self.counted(|rows, i| rows.line(i))?;
        let characters = Lengths::of(chars.clone());
        let mut problems = self.problem_counts()?;
        let (tokens, histogram) = match tokens {
            None => (None, histogram("characters", &chars)?),
            Some(tokens) => {
                let refused = lines.iter().zip(&tokens).filter(|(_, t)| t.is_none()).map(|(line, _)| *line);
                problems.extend(ProblemCount::of(ProblemKind::TemplateRefuses, refused));
                let known: Vec<u64> = tokens.into_iter().flatten().collect();
                let lengths = Lengths::of(known.clone());
                (Some(lengths), histogram("tokens", &known)?)
            }
        };
        let mut roles: BTreeMap<String, u64> = BTreeMap::new();
        let mut sources: BTreeMap<String, u64> = BTreeMap::new();
        let tallies = self.pieces(|rows, _| {
            let (mut roles, mut sources) = (BTreeMap::new(), BTreeMap::new());
            for i in 0..rows.len() {
                let system = rows.system(i).map(|_| "system");
                for role in system.into_iter().chain(rows.turns(i).map(|turn| turn.role)) {
                    *roles.entry(role).or_insert(0u64) += 1;
                }
                *sources.entry(rows.source(i)).or_insert(0u64) += 1;
            }
            let owned = |tally: BTreeMap<&str, u64>| {
                tally.into_iter().map(|(name, n)| (name.to_string(), n)).collect::<Vec<_>>()
            };
            Ok((owned(roles), owned(sources)))
        })?;
        for (said, read) in tallies {
            said.into_iter().for_each(|(role, n)| *roles.entry(role).or_default() += n);
            read.into_iter().for_each(|(source, n)| *sources.entry(source).or_default() += n);
        }
        let number = |of: &dyn Fn(ProblemKind) -> bool| {
            problems.iter().filter(|p| of(p.kind)).map(|p| p.count).sum::<u64>()
        };
        Ok(Report {
            rows: self.len() as u64,
            turns: Lengths::of(turns),
            characters,
            tokens,
            histogram,
            roles,
            sources,
            duplicates: number(&|kind| kind == ProblemKind::DuplicateRow),
            rejected: number(&ProblemKind::rejects),
            problems,
        })
    }

    /// The faults by kind: those that reject rows first, then the most frequent.
    fn problem_counts(&self) -> Result<Vec<ProblemCount>> {
        let mut lines: BTreeMap<ProblemKind, Vec<u32>> = BTreeMap::new();
        for problem in self.listed()?.iter().flat_map(|(_, problems)| problems) {
            lines.entry(problem.kind).or_default().push(problem.line);
        }
        let counts = lines.into_iter().filter_map(|(kind, lines)| ProblemCount::of(kind, lines.into_iter()));
        let mut counts: Vec<ProblemCount> = counts.collect();
        counts.sort_by_key(|p| (!p.kind.rejects(), std::cmp::Reverse(p.count)));
        Ok(counts)
    }

    fn counted<T: Send + Clone>(&self, of: impl Fn(Rows<'_>, usize) -> T + Sync) -> Result<Vec<T>> {
        let parts = self.pieces(|rows, _| Ok((0..rows.len()).map(|i| of(rows, i)).collect::<Vec<T>>()))?;
        Ok(parts.concat())
    }
}

impl ProblemCount {
    /// `None` where no line has the fault.
    fn of(kind: ProblemKind, mut lines: impl Iterator<Item = u32>) -> Option<Self> {
        let first: Vec<u32> = lines.by_ref().take(5).collect();
        let count = (first.len() + lines.count()) as u64;
        (count > 0).then_some(Self { kind, count, lines: first })
    }
}

fn histogram(unit: &str, lengths: &[u64]) -> Result<Option<Figure>> {
    if lengths.is_empty() {
        return Ok(None);
    }
    let lengths: Vec<f64> = lengths.iter().map(|&length| length as f64).collect();
    plot::histogram("Length of a conversation", unit, "rows", &lengths).map(Some)
}

impl Report {
    fn lengths(&self) -> Table {
        const COLUMNS: [&str; 7] = ["a row has", "mean", "p50", "p90", "p99", "max", "in all"];
        let mut table = Table::new(
            COLUMNS
                .iter()
                .enumerate()
                .map(|(i, name)| (*name, if i == 0 { Align::Left } else { Align::Right })),
        )
        .caption(format!(
            "{} rows · {} rejected · {} duplicates",
            thousands(self.rows),
            thousands(self.rejected),
            thousands(self.duplicates)
        ));
        let named = [
            ("turns", Some(&self.turns)),
            ("characters", Some(&self.characters)),
            ("tokens", self.tokens.as_ref()),
        ];
        for (name, lengths) in named {
            let Some(l) = lengths else { continue };
            let whole = [l.p50, l.p90, l.p99, l.max, l.total].map(thousands);
            table.row([name.to_string(), format!("{:.1}", l.mean)].into_iter().chain(whole));
        }
        table
    }

    fn kinds(&self) -> Table {
        let mut table = Table::new([("turns by role", Align::Left), ("count", Align::Right)]);
        for (role, count) in &self.roles {
            table.row([role.clone(), thousands(*count)]);
        }
        for (source, count) in &self.sources {
            table.row([format!("rows of {source}"), thousands(*count)]);
        }
        table
    }

    fn faults(&self) -> Table {
        let mut table = Table::new([
            ("problem", Align::Left),
            ("rows", Align::Right),
            ("", Align::Left),
            ("first lines", Align::Left),
            ("what to do", Align::Left),
        ])
        .caption("problems");
        for problem in &self.problems {
            let lines: Vec<String> = problem.lines.iter().map(u32::to_string).collect();
            let more = if problem.count > lines.len() as u64 { ", …" } else { "" };
            table.row([
                problem.kind.name().to_string(),
                thousands(problem.count),
                if problem.kind.rejects() { "rejected" } else { "kept" }.to_string(),
                lines.join(", ") + more,
                problem.kind.fix().to_string(),
            ]);
        }
        table
    }
}

impl Show for Report {
    fn show(&self) -> Bundle {
        let faults = match self.problems.is_empty() {
            true => Text::new("no problems").show(),
            false => self.faults().show(),
        };
        let mut parts = vec![self.lengths().show(), self.kinds().show()];
        parts.extend(self.histogram.as_ref().map(Show::show));
        parts.push(faults);
        Bundle {
            html: parts.iter().map(|part| format!("<div>{}</div>", part.html)).collect(),
            text: parts.into_iter().map(|part| part.text).collect::<Vec<_>>().join("\n"),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
