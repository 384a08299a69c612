//! A first look at a dataset in numbers: lengths, turns, roles, duplicates, faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::problems::ProblemKind;
use super::{Dataset, characters};
use crate::display::{Align, Bundle, Progress, Show, Table, Text, escape, thousands};
use crate::error::Result;
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
    /// How the lengths spread: in tokens where they are known, else in characters.
    pub histogram: Histogram,
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

/// Counts over equally wide intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// What is counted: `characters` or `tokens`.
    pub unit: String,
    /// Where the first interval begins.
    pub start: u64,
    /// The width of an interval; the last one also takes all that is greater.
    pub width: u64,
    /// Rows whose length lies in `[start + i * width, start + (i + 1) * width)`.
    pub counts: Vec<u64>,
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

impl Histogram {
    /// At most twenty intervals up to the 99th percentile, so that one long row does not flatten it.
    fn of(unit: &str, values: &[u64], lengths: &Lengths) -> Self {
        const INTERVALS: u64 = 20;
        let least = values.iter().min().copied().unwrap_or(0);
        let width = (lengths.p99 - least) / INTERVALS + 1;
        let start = least / width * width;
        let mut counts = vec![0; ((lengths.p99 - start) / width + 1) as usize];
        let last = counts.len() - 1;
        for value in values {
            counts[(((value - start) / width) as usize).min(last)] += 1;
        }
        Self { unit: unit.to_string(), start, width, counts }
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
        let rows = self.rows()?;
        let all = 0..rows.len();
        let chars: Vec<u64> = all.clone().into_par_iter().map(|i| characters(rows, i) as u64).collect();
        let turns = all.clone().map(|i| rows.turns(i).len() as u64).collect();
        let characters = Lengths::of(chars.clone());
        let mut problems = self.problem_counts();
        let (tokens, histogram) = match tokens {
            None => (None, Histogram::of("characters", &chars, &characters)),
            Some(tokens) => {
                let refused = all.clone().filter(|&i| tokens[i].is_none()).map(|i| rows.line(i));
                problems.extend(ProblemCount::of(ProblemKind::TemplateRefuses, refused));
                let known: Vec<u64> = tokens.into_iter().flatten().collect();
                let lengths = Lengths::of(known.clone());
                (Some(lengths), Histogram::of("tokens", &known, &lengths))
            }
        };
        let mut roles: BTreeMap<String, u64> = BTreeMap::new();
        let mut sources: BTreeMap<String, u64> = BTreeMap::new();
        for i in all {
            let system = rows.system(i).map(|_| "system");
            for role in system.into_iter().chain(rows.turns(i).map(|turn| turn.role)) {
                count(&mut roles, role);
            }
            count(&mut sources, rows.source(i));
        }
        let number = |of: &dyn Fn(ProblemKind) -> bool| {
            problems.iter().filter(|p| of(p.kind)).map(|p| p.count).sum::<u64>()
        };
        Ok(Report {
            rows: rows.len() as u64,
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
    fn problem_counts(&self) -> Vec<ProblemCount> {
        let mut lines: BTreeMap<ProblemKind, Vec<u32>> = BTreeMap::new();
        for problem in &self.0.problems {
            lines.entry(problem.kind).or_default().push(problem.line);
        }
        let counts = lines.into_iter().filter_map(|(kind, lines)| ProblemCount::of(kind, lines.into_iter()));
        let mut counts: Vec<ProblemCount> = counts.collect();
        counts.sort_by_key(|p| (!p.kind.rejects(), std::cmp::Reverse(p.count)));
        counts
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

fn count(counts: &mut BTreeMap<String, u64>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => drop(counts.insert(key.to_string(), 1)),
    }
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

impl Histogram {
    /// The label of interval `i`: its bounds, both inclusive.
    fn label(&self, i: usize) -> String {
        let from = self.start + i as u64 * self.width;
        if i + 1 == self.counts.len() {
            format!("{} and more", thousands(from))
        } else {
            format!("{}–{}", thousands(from), thousands(from + self.width - 1))
        }
    }

    fn share(&self, i: usize) -> f64 {
        let most = self.counts.iter().max().copied().unwrap_or(0).max(1);
        self.counts[i] as f64 / most as f64
    }
}

impl Show for Histogram {
    fn show(&self) -> Bundle {
        let unit = escape(&self.unit);
        let mut html = format!(
            "<table style=\"border-collapse:collapse;font-size:90%\"><caption style=\"caption-side:top;\
             text-align:left;padding:0.3em 0;opacity:0.8\">{unit} of a row</caption><tbody>"
        );
        let mut text = format!("{} of a row\n", self.unit);
        let widest = (0..self.counts.len()).map(|i| self.label(i).chars().count()).max().unwrap_or(0);
        for (i, &count) in self.counts.iter().enumerate() {
            let (label, count) = (self.label(i), thousands(count));
            let _ = write!(
                html,
                "<tr><td style=\"text-align:right;padding:0 0.7em;white-space:nowrap\">{label}</td>\
                 <td style=\"width:16em\"><div style=\"height:0.8em;width:{:.1}%;background:currentColor;\
                 opacity:0.45\"></div></td><td style=\"text-align:right;padding:0 0.7em\">{count}</td></tr>",
                100.0 * self.share(i),
            );
            let pad = " ".repeat(widest - label.chars().count());
            let bar = "█".repeat((24.0 * self.share(i)).round() as usize);
            let _ = writeln!(text, "{pad}{label}  {bar} {count}");
        }
        html.push_str("</tbody></table>");
        Bundle { html, text }
    }
}

impl Show for Report {
    fn show(&self) -> Bundle {
        let faults = match self.problems.is_empty() {
            true => Text::new("no problems").show(),
            false => self.faults().show(),
        };
        let parts = [self.lengths().show(), self.kinds().show(), self.histogram.show(), faults];
        Bundle {
            html: parts.iter().map(|part| format!("<div>{}</div>", part.html)).collect(),
            text: parts.map(|part| part.text).join("\n"),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
