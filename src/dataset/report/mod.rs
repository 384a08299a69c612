//! A first look at a dataset in numbers: lengths, turns, roles, languages, duplicates, faults.

mod duplicates;
mod gather;
mod lengths;
mod page;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Dataset;
use super::problems::{Outcome, ProblemKind};
use crate::display::cut;
use crate::error::{Error, Result};
use crate::text::{Message, Tokenizer};
pub use duplicates::{Cluster, Duplicates, RowBrief};
use gather::Gathered;
pub use lengths::{Cut, Lengths, Packing, Padding, Spread, Unit};

/// How [`Dataset::report_as`] looks at the rows.
///
/// # Examples
/// ```
/// use lorascope::dataset::ReportConfig;
///
/// let config = ReportConfig { contexts: vec![8192], ..Default::default() };
/// assert_eq!((config.near, config.batches.len()), (0.8, 5));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Contexts for which the report says what they leave out, in tokens, or in characters where no
    /// tokenizer is given.
    pub contexts: Vec<u64>,
    /// Length of the sequences that rows are packed into, in the same unit.
    pub packing: u64,
    /// Batch sizes whose padding is compared with packing.
    pub batches: Vec<u64>,
    /// The similarity from which on two rows are near-duplicates, from 0.5 to 1.
    pub near: f64,
    /// How many clusters, openings, and shortest and longest rows are shown.
    pub shown: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            contexts: vec![512, 1024, 2048, 4096],
            packing: 2048,
            batches: vec![1, 4, 8, 16, 32],
            near: super::near::THRESHOLD,
            shown: 8,
        }
    }
}

/// What [`Dataset::report`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the file that the rows come from.
    pub file: String,
    /// Conversations.
    pub rows: u64,
    /// Records of the file that became no row.
    pub rejected: u64,
    /// Turns of a conversation, without the system text.
    pub turns: Lengths,
    /// Characters of a row: of the system text and the turns of its conversation, or of its plain text;
    /// rejected answers do not count.
    pub characters: Lengths,
    /// Tokens of a conversation under the chat template, where a tokenizer was given.
    pub tokens: Option<Lengths>,
    /// The unit of the contexts, of packing and of the shortest and longest rows: tokens where they
    /// are known.
    pub unit: Unit,
    /// How lengths spread: of rows in the report's unit, of rows' trained tokens, and of the turns of
    /// each role in characters.
    pub spreads: Vec<Spread>,
    /// Turns by role; `system` counts system texts, `text` plain texts, and `rejected` the turns of
    /// rejected answers.
    pub roles: BTreeMap<String, u64>,
    /// Rows by the schema that they were read from.
    pub sources: BTreeMap<String, u64>,
    /// Rows by language, as [`language::of`](super::language::of) finds it, the most frequent first.
    pub languages: Vec<(String, u64)>,
    /// What contexts leave out.
    pub contexts: Vec<Cut>,
    /// What padding and packing cost.
    pub packing: Packing,
    /// Rows that say what an earlier row says, character by character.
    pub duplicates: u64,
    /// Groups of rows that say the same.
    pub exact: Duplicates,
    /// Groups of rows that say nearly the same.
    pub near: Duplicates,
    /// The commonest beginnings of answers, the most frequent first.
    pub openings: Vec<Opening>,
    /// The shortest rows.
    pub shortest: Vec<RowBrief>,
    /// The longest rows.
    pub longest: Vec<RowBrief>,
    /// Faults by kind: those that reject rows first, then the most frequent.
    pub problems: Vec<ProblemCount>,
    /// The first row of each schema.
    pub examples: Vec<Sample>,
}

/// How many answers begin alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The first three words, or the first eight characters in a script without spaces.
    pub text: String,
    /// Answers that begin so.
    pub count: u64,
    /// Their share of all answers, from 0 to 1.
    pub share: f64,
}

/// How often a kind of fault occurs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemCount {
    /// The kind.
    pub kind: ProblemKind,
    /// What became of the records.
    pub outcome: Outcome,
    /// How many records have it.
    pub count: u64,
    /// The first lines of the file that have it, at most five.
    pub lines: Vec<u32>,
    /// What is wrong in the first of them.
    pub example: String,
}

/// A row as an example of its schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The schema that it was read from.
    pub source: String,
    /// Its number in the dataset, from 0.
    pub row: u64,
    /// What it says; long texts end in an ellipsis, and of many turns the first ones are shown.
    pub messages: Vec<Message>,
    /// The turns of the rejected answer, of a preference.
    pub rejected: Vec<Message>,
    /// The text of a row that is no conversation.
    pub text: Option<String>,
    /// Whether the answer is a good one, where the row says so.
    pub label: Option<bool>,
}

impl Dataset {
    /// Lengths, turns, roles, languages, duplicates and faults of these rows; in tokens too, where
    /// [`for_tokenizer`](Self::for_tokenizer) bound a tokenizer.
    ///
    /// # Errors
    /// If the rows can no longer be read; those of [`report_with`](Self::report_with).
    pub fn report(&self) -> Result<Report> {
        self.report_as(&ReportConfig::default())
    }

    /// The report, with lengths in tokens: those of whole conversations under the chat template.
    ///
    /// Rows that the template refuses are counted as a problem and have no length.
    ///
    /// # Errors
    /// If the tokenizer has no chat template, or if it refuses every row.
    pub fn report_with(&self, tokenizer: &Tokenizer) -> Result<Report> {
        self.for_tokenizer(tokenizer).report()
    }

    /// The report with other contexts, batch sizes or similarities than the usual ones.
    ///
    /// # Errors
    /// A context or a batch of 0, a similarity that is not from 0.5 to 1; those of
    /// [`report_with`](Self::report_with).
    pub fn report_as(&self, config: &ReportConfig) -> Result<Report> {
        config.check()?;
        let counted = self.tokenizer().map(|_| self.tokens()).transpose()?;
        let found = Gathered::of(self)?;
        let mut problems = self.problem_counts()?;
        let unit = if counted.is_some() { Unit::Tokens } else { Unit::Characters };
        let mut trained = Vec::new();
        // The rows that have a length, and it.
        let measured: Vec<(u32, u64)> = match counted {
            None => (0..).zip(found.characters.iter().copied()).collect(),
            Some(counted) => {
                let mut refused = Vec::new();
                let mut known = Vec::with_capacity(counted.len());
                for (row, counted) in (0..).zip(counted.iter()) {
                    match counted {
                        Ok(tokens) => {
                            known.push((row, tokens.all.into()));
                            trained.push(tokens.trained.into());
                        }
                        Err(why) => refused.push((row, why.clone())),
                    }
                }
                let rows: Vec<u32> = refused.iter().map(|(row, _)| *row).collect();
                let lines = self.briefs(&rows)?.into_iter().map(|brief| brief.line);
                let faults = lines.zip(refused.into_iter().map(|(_, why)| why));
                problems.extend(ProblemCount::of(Outcome::Kept, ProblemKind::TemplateRefuses, faults));
                known
            }
        };
        let lengths: Vec<u64> = measured.iter().map(|(_, length)| *length).collect();
        let roles = found.roles.iter().map(|(role, lengths)| (role.clone(), lengths.len() as u64)).collect();
        let mut spreads: Vec<Spread> = Spread::of("row", unit, lengths.clone()).into_iter().collect();
        spreads.extend(Spread::of("trained", Unit::Tokens, trained));
        let mut languages: Vec<(String, u64)> =
            found.languages.iter().map(|(code, count)| (code.to_string(), *count)).collect();
        languages.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let exact = self.exact(&found.hashes, config.shown)?;
        Ok(Report {
            file: self
                .path()
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            rows: self.len() as u64,
            rejected: self.rejected()? as u64,
            turns: Lengths::of(found.turns.clone()),
            characters: Lengths::of(found.characters.clone()),
            tokens: (unit == Unit::Tokens).then(|| Lengths::of(lengths.clone())),
            unit,
            roles,
            sources: found.sources.iter().map(|(name, (count, _))| (name.clone(), *count)).collect(),
            languages,
            contexts: config.contexts.iter().map(|&context| Cut::at(context, &lengths)).collect(),
            packing: Packing::of(&lengths, config.packing, &config.batches),
            duplicates: exact.rows - exact.groups,
            exact,
            near: self.near(&found.signatures, &found.hashes, config)?,
            openings: self.openings(&found, config.shown)?,
            shortest: self.extremes(&measured, config.shown, |length| length)?,
            longest: self.extremes(&measured, config.shown, |length| u64::MAX - length)?,
            problems,
            examples: self.samples(&found)?,
            spreads: {
                let roles = found.roles.into_iter();
                spreads
                    .extend(roles.filter_map(|(role, lengths)| Spread::of(&role, Unit::Characters, lengths)));
                spreads
            },
        })
    }

    /// The faults by kind: those of rejected records first, then the most frequent.
    fn problem_counts(&self) -> Result<Vec<ProblemCount>> {
        let mut kinds: BTreeMap<(Outcome, ProblemKind), Vec<(u32, String)>> = BTreeMap::new();
        for problem in self.listed()?.iter().flat_map(|(_, problems)| problems) {
            let fault = (problem.line, problem.what.to_string());
            kinds.entry((problem.outcome, problem.kind)).or_default().push(fault);
        }
        let counts = kinds
            .into_iter()
            .filter_map(|((outcome, kind), faults)| ProblemCount::of(outcome, kind, faults.into_iter()));
        let mut counts: Vec<ProblemCount> = counts.collect();
        counts.sort_by_key(|p| (p.outcome, std::cmp::Reverse(p.count)));
        Ok(counts)
    }

    fn openings(&self, found: &Gathered, shown: usize) -> Result<Vec<Opening>> {
        let mut commonest: Vec<(u64, u64, u64)> =
            found.openings.iter().map(|(&key, &(count, row))| (count, row, key)).collect();
        // Equally common ones in the order of the rows.
        commonest.sort_unstable_by_key(|&(count, row, key)| (std::cmp::Reverse(count), row, key));
        commonest.truncate(shown);
        let mut openings = Vec::new();
        for (count, row, key) in commonest {
            let messages = self.conversation(row as usize)?;
            let mut begins = messages.iter().map(|message| gather::opening(&message.content));
            let text = begins.find(|text| xxhash_rust::xxh3::xxh3_64(text.as_bytes()) == key);
            let text = text.unwrap_or_default().to_string();
            openings.push(Opening { text, count, share: lengths::share(count, found.answers) });
        }
        Ok(openings)
    }

    /// The rows of the least `order`, of equals the first.
    fn extremes(
        &self,
        measured: &[(u32, u64)],
        shown: usize,
        order: impl Fn(u64) -> u64,
    ) -> Result<Vec<RowBrief>> {
        let mut rows: Vec<(u64, u32, u64)> =
            measured.iter().map(|&(row, length)| (order(length), row, length)).collect();
        if rows.len() > shown {
            rows.select_nth_unstable(shown);
            rows.truncate(shown);
        }
        rows.sort_unstable();
        let briefs = self.briefs(&rows.iter().map(|(_, row, _)| *row).collect::<Vec<_>>())?;
        Ok(briefs.into_iter().zip(rows).map(|(brief, (_, _, length))| RowBrief { length, ..brief }).collect())
    }

    fn samples(&self, found: &Gathered) -> Result<Vec<Sample>> {
        const MESSAGES: usize = 8;
        const CHARACTERS: usize = 600;
        let shown = |mut messages: Vec<Message>| {
            messages.truncate(MESSAGES);
            for message in &mut messages {
                message.content = cut(&message.content, CHARACTERS);
                message.tool_calls = message.tool_calls.as_deref().map(|calls| cut(calls, CHARACTERS));
            }
            messages
        };
        let sample = |(source, (_, row)): (&String, &(u64, u64))| {
            self.at(*row as usize, |rows, i| Sample {
                source: source.clone(),
                row: *row,
                messages: shown(super::conversation(rows, i)),
                rejected: shown(rows.rejected(i).map(|turn| turn.message()).collect()),
                text: rows.text(i).map(|text| cut(text, CHARACTERS)),
                label: rows.label(i),
            })
        };
        found.sources.iter().map(sample).collect()
    }
}

impl ReportConfig {
    fn check(&self) -> Result<()> {
        let zero = |what: &str| {
            Err(Error::input(format_args!("a report on {what} of 0 says nothing")).help("give 1 or more"))
        };
        if self.packing == 0 || self.contexts.contains(&0) {
            return zero("a context");
        }
        if self.batches.contains(&0) {
            return zero("a batch");
        }
        super::near::check(self.near)
    }
}

impl ProblemCount {
    /// `None` where no line has the fault.
    fn of(outcome: Outcome, kind: ProblemKind, faults: impl Iterator<Item = (u32, String)>) -> Option<Self> {
        let mut faults = faults.peekable();
        let example = faults.peek()?.1.clone();
        let mut lines: Vec<u32> = Vec::new();
        let mut count = 0;
        for (line, _) in faults {
            count += 1;
            if lines.len() < 5 {
                lines.push(line);
            }
        }
        Some(Self { kind, outcome, count, lines, example })
    }
}
