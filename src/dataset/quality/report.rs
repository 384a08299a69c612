//! The report: a dataset in numbers. Lengths, turns, roles, languages, duplicates, problems.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answers::{Canned, Labels, Preferences, ToolCounts};
use super::column_summary::ColumnSummary;
use super::duplicates::{Duplicates, Groups};
use super::gather::Gathered;
use super::lengths::{LengthSpread, LengthSummary, LongRows, Packing, Unit, share};
use super::places::{Files, Places, Spot};
use super::report_config::ReportConfig;
use super::row_briefs::{Looks, RowBrief, Sample};
use super::spoils::Spoiled;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::format::{Outcome, ProblemKind};
use crate::text::Tokenizer;

/// What [`Dataset::report`] found.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name of the file, folder or pattern that the rows come from.
    pub file: String,
    /// The files; of several the paths from the folder that holds them all.
    pub files: Vec<String>,
    /// Conversations.
    pub rows: u64,
    /// Records of the file that became no row.
    pub rejected: u64,
    /// Faults by kind: those that reject rows first, then the most frequent. They are those that
    /// [`problems`](Dataset::problems) lists, which the reader found, and more, which take a look at all
    /// rows: placeholders, refusals, canned answers, answers that contradict each other.
    pub problems: Vec<ProblemCount>,
    /// Turns of a conversation, without the system text.
    pub turns: LengthSummary,
    /// Characters of a row: of the system text and the turns of its conversation, or of its plain text;
    /// rejected answers do not count.
    pub characters: LengthSummary,
    /// Tokens of a conversation under the chat template, where a tokenizer was given.
    pub tokens: Option<LengthSummary>,
    /// Rows of plain text in which the names of special tokens are taken for these tokens, where a tokenizer
    /// was given: [`Dataset::rendered`].
    #[serde(default)]
    pub rendered: u64,
    /// The unit of the contexts, of packing and of the shortest and longest rows: tokens where they
    /// are known.
    pub unit: Unit,
    /// How lengths spread: of rows in the report's unit, of rows' trained tokens, and of the turns of
    /// each role in characters.
    pub spreads: Vec<LengthSpread>,
    /// Turns by role; `system` counts system texts, `text` plain texts, and `rejected` the turns of
    /// rejected answers.
    pub roles: BTreeMap<String, u64>,
    /// Rows by the schema that they were read from.
    pub sources: BTreeMap<String, u64>,
    /// Rows by language, as [`language::of`](super::language::of) finds it, the most frequent first.
    pub languages: Vec<(String, u64)>,
    /// What contexts leave out.
    pub contexts: Vec<LongRows>,
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
    /// Answers that many different prompts share, the most frequent first.
    pub canned: Vec<Canned>,
    /// The columns of the file: canonical ones that it fills, and keys that no schema knows.
    pub columns: Vec<ColumnSummary>,
    /// Tools and their calls, where rows have some.
    pub tools: Option<ToolCounts>,
    /// The two answers of preferences, where rows have two.
    pub preferences: Option<Preferences>,
    /// The labels, where rows have one.
    pub labels: Option<Labels>,
    /// The shortest rows.
    pub shortest: Vec<RowBrief>,
    /// The longest rows.
    pub longest: Vec<RowBrief>,
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
    /// Where they are: all lines and records, by file.
    pub places: Vec<Places>,
    /// What is wrong in the first of them.
    pub example: String,
}

impl Dataset {
    /// LengthSummary, turns, roles, languages, duplicates and faults of these rows; in tokens too, where
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
    /// If the tokenizer has no chat template, and the rows are conversations.
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
        let files = Files::of(self)?;
        let mut found = Gathered::of(self)?;
        let unit = if counted.is_some() { Unit::Tokens } else { Unit::Characters };
        let mut trained = Vec::new();
        // The rows that have a length, and it.
        let measured: Vec<(u32, u64)> = match counted {
            None => (0..).zip(found.characters.iter().copied()).collect(),
            Some(counted) => {
                let mut known = Vec::with_capacity(counted.len());
                for (row, counted) in (0..).zip(counted.iter()) {
                    match counted {
                        Ok(tokens) => {
                            known.push((row, tokens.all.into()));
                            trained.push(tokens.trained.into());
                        }
                        Err(why) => found.spoils.note(ProblemKind::TemplateRefuses, row, || why.clone()),
                    }
                }
                known
            }
        };
        let unwritten = self.tokenizer().map(|tokenizer| self.unwritten(tokenizer)).transpose()?;
        for (row, what) in unwritten.unwrap_or_default() {
            found.spoils.note(ProblemKind::NotWritten, row as u32, || what.to_string());
        }
        found.said.contradictions(&mut found.spoils, &files, &found.lines);
        found.verdicts.note(&mut found.spoils, &files, &found.lines);
        let mut canned = found.said.canned(&mut found.spoils);
        canned.truncate(config.shown);
        let problems = self.problem_counts(&found, &files)?;
        let lengths: Vec<u64> = measured.iter().map(|(_, length)| *length).collect();
        let roles = found.roles.iter().map(|(role, lengths)| (role.clone(), lengths.len() as u64)).collect();
        let mut spreads: Vec<LengthSpread> =
            LengthSpread::of("row", unit, lengths.clone()).into_iter().collect();
        spreads.extend(LengthSpread::of("trained", Unit::Tokens, trained));
        let mut languages: Vec<(String, u64)> =
            found.languages.iter().map(|(code, count)| (code.to_string(), *count)).collect();
        languages.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let (exact, near) = (Groups::exact(&found.hashes, config.shown), Groups::near(self, &found, config)?);
        let openings = commonest(&found, config.shown);
        let shortest = extremes(&measured, config.shown, |length| length);
        let longest = extremes(&measured, config.shown, |length| u64::MAX - length);
        let firsts: Vec<u32> = found.sources.values().map(|(_, row)| *row as u32).collect();
        let shown = exact.members().chain(near.members()).chain(firsts.iter().copied());
        let shown = shown.chain(openings.iter().chain(&canned).map(|(_, _, row)| *row));
        let shown = shown.chain(shortest.iter().chain(&longest).map(|(row, _)| *row)).collect();
        let looks = Looks::at(self, &files, shown)?;
        let exact = exact.told(&looks);
        let briefs = |rows: Vec<(u32, u64)>| -> Vec<RowBrief> {
            let brief = |(row, length)| Some(RowBrief { length, ..looks.brief(row)? });
            rows.into_iter().filter_map(brief).collect()
        };
        let opening = |(key, count, row)| Opening {
            text: looks.opening(row, key).unwrap_or_default(),
            count,
            share: share(count, found.answers),
        };
        let answers = found.said.count();
        let canned = canned.into_iter().map(|(prompts, rows, row)| Canned {
            text: looks.answer(row).unwrap_or_default(),
            prompts,
            rows,
            share: share(rows, answers),
        });
        Ok(Report {
            file: self
                .path()
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            files: files.names().to_vec(),
            rows: self.len() as u64,
            rejected: self.rejected()? as u64,
            problems,
            turns: LengthSummary::of(found.turns),
            characters: LengthSummary::of(found.characters),
            tokens: (unit == Unit::Tokens).then(|| LengthSummary::of(lengths.clone())),
            rendered: if unit == Unit::Tokens { self.rendered()? as u64 } else { 0 },
            unit,
            roles,
            sources: found.sources.iter().map(|(name, (count, _))| (name.clone(), *count)).collect(),
            languages,
            contexts: config.contexts.iter().map(|&context| LongRows::at(context, &lengths)).collect(),
            packing: Packing::of(&lengths, config.packing, &config.batches),
            duplicates: exact.rows - exact.groups,
            exact,
            near: near.told(&looks),
            openings: openings.into_iter().map(opening).collect(),
            canned: canned.collect(),
            tools: found.said.tools(),
            preferences: found.said.preferences(&found.columns),
            labels: found.said.labels(),
            columns: found.columns.told(self)?,
            shortest: briefs(shortest),
            longest: briefs(longest),
            examples: firsts.into_iter().filter_map(|row| looks.sample(row)).collect(),
            spreads: {
                let roles = found.roles.into_iter();
                spreads.extend(
                    roles.filter_map(|(role, lengths)| LengthSpread::of(&role, Unit::Characters, lengths)),
                );
                spreads
            },
        })
    }

    /// The faults by kind, those of the reader and those that were found in the rows: rejected records
    /// first, then the most frequent.
    fn problem_counts(&self, found: &Gathered, files: &Files) -> Result<Vec<ProblemCount>> {
        let mut kinds: BTreeMap<(Outcome, ProblemKind), (Vec<Spot>, String)> = BTreeMap::new();
        for (file, (_, problems)) in self.listed()?.iter().enumerate() {
            for problem in problems {
                let kind = kinds
                    .entry((problem.outcome, problem.kind))
                    .or_insert_with(|| (Vec::new(), problem.what.to_string()));
                kind.0.push(files.fault(file, problem));
            }
        }
        for (kind, Spoiled { rows, example }) in &found.spoils.0 {
            let spots = rows
                .iter()
                .map(|row| files.row(*row, found.lines[*row as usize], found.numbers[*row as usize]))
                .collect();
            kinds.entry((Outcome::Kept, *kind)).or_insert_with(|| (spots, example.clone()));
        }
        let count = |((outcome, kind), (spots, example)): ((Outcome, ProblemKind), (Vec<Spot>, String))| {
            let count = spots.len() as u64;
            ProblemCount { kind, outcome, count, places: files.places(&spots), example }
        };
        let mut counts: Vec<ProblemCount> = kinds.into_iter().map(count).collect();
        counts.sort_by_key(|p| (p.outcome, std::cmp::Reverse(p.count)));
        Ok(counts)
    }
}

/// The commonest openings: their hashes, answers and first rows; of equally common ones the first.
fn commonest(found: &Gathered, shown: usize) -> Vec<(u64, u64, u32)> {
    let mut openings: Vec<(u64, u64, u32)> =
        found.openings.iter().map(|(&key, &(count, row))| (key, count, row as u32)).collect();
    openings.sort_unstable_by_key(|&(key, count, row)| (std::cmp::Reverse(count), row, key));
    openings.truncate(shown);
    openings
}

/// The rows of the least `order` with their lengths, of equals the first.
fn extremes(measured: &[(u32, u64)], shown: usize, order: impl Fn(u64) -> u64) -> Vec<(u32, u64)> {
    let mut rows = measured.to_vec();
    let key = |&(row, length): &(u32, u64)| (order(length), row);
    if rows.len() > shown {
        rows.select_nth_unstable_by_key(shown, key);
        rows.truncate(shown);
    }
    rows.sort_unstable_by_key(key);
    rows
}
