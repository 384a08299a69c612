//! The verbs that make a new dataset from a dataset.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use polars::prelude::*;
use regex::Regex;

use super::data::Done;
use super::recipe::{Keep, Part, Recipe, Step};
use super::source::Source;
use super::{Dataset, split};
use crate::display::{Align, Table, thousands};
use crate::error::{Error, Result};
use crate::format::fix::{Fix, Fixes};
use crate::format::options::ReadOptions;
use crate::ops::random;

/// Which way [`Dataset::sort`] sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The least first.
    #[default]
    Ascending,
    /// The greatest first.
    Descending,
}

impl Dataset {
    /// The first `n` rows.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn head(&self, n: usize) -> Result<Self> {
        self.slice(0, n)
    }

    /// The rows from `offset` on, `len` of them or as many as there are.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn slice(&self, offset: usize, len: usize) -> Result<Self> {
        self.apply(&Step::Slice { offset, len })
    }

    /// `n` rows drawn at random, none twice, in their old order; all rows where there are no more.
    /// The same rows, `n` and seed give the same sample.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn sample(&self, n: usize, seed: u64) -> Result<Self> {
        self.apply(&Step::Sample { n, seed })
    }

    /// Keeps the rows for which `predicate` is true.
    ///
    /// It may name the columns of [`frame`](Self::frame) and of [`columns`](Self::columns), such
    /// as `col("chars").gt(lit(20000))`.
    ///
    /// # Errors
    /// If the expression names an unknown column or does not give a boolean for each row.
    pub fn filter(&self, predicate: Expr) -> Result<Self> {
        let why = format!("filter {predicate}");
        let rows = self.evaluate(predicate.clone(), |frame| frame.filter(predicate))?;
        self.keep(rows, why)
    }

    /// The rows in the order of an expression over the columns that [`filter`](Self::filter) knows,
    /// such as `col("chars")`; rows that are equal stay in their old order.
    ///
    /// # Errors
    /// If the expression names an unknown column.
    pub fn sort(&self, by: Expr, order: Order) -> Result<Self> {
        let why =
            format!("sort by {by}, {}", if order == Order::Ascending { "ascending" } else { "descending" });
        let options = SortMultipleOptions::default()
            .with_maintain_order(true)
            .with_order_descending(order == Order::Descending);
        let rows = self.evaluate(by.clone(), |frame| frame.sort_by_exprs([by], options))?;
        self.keep(rows, why)
    }

    /// Splits the rows in two: about `fraction` of them, and the rest, each in its old order.
    ///
    /// Rows stay on one side when their first user texts differ only in case, white space and punctuation, when
    /// they are near-duplicates (see [`near`](super::near)), or when they have the same id. The same rows, fraction
    /// and seed give the same parts.
    ///
    /// # Errors
    /// If `fraction` is not between 0 and 1, or if the rows cannot be cut in two because all of
    /// them are alike.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let part = |part| self.apply(&Step::Split { fraction, seed, part });
        Ok((part(Part::First)?, part(Part::Second)?))
    }

    /// The rows of both, these first.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn concat(&self, other: &Self) -> Result<Self> {
        let step = Step::Concat { with: Box::new(other.recipe()?) };
        self.appended(other, step)
    }

    /// Rows of several datasets in the shares that the weights say, drawn and shuffled at random:
    /// as many as there can be when no row comes twice.
    ///
    /// # Errors
    /// Without datasets; a weight that is not a positive number; weights so small that a dataset
    /// would give no row.
    ///
    /// # Examples
    /// ```
    /// use lorascope::dataset::Dataset;
    ///
    /// let school = Dataset::open("datasets/school_math.jsonl")?;
    /// let talk = Dataset::open("datasets/conversations.json")?;
    /// let mixed = Dataset::mix(&[(&school, 3.0), (&talk, 1.0)], 42)?;
    /// assert_eq!(mixed.len(), 4 * talk.len());
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn mix(parts: &[(&Self, f64)], seed: u64) -> Result<Self> {
        let Some(((first, _), others)) = parts.split_first() else {
            return Err(Error::input("there is nothing to mix").help("give one dataset or more"));
        };
        if let Some((_, weight)) = parts.iter().find(|(_, weight)| !(weight.is_finite() && *weight > 0.0)) {
            return Err(Error::input(format_args!("{weight} is no weight")).help("give positive numbers"));
        }
        let of = |(data, weight): &(&Self, f64)| data.len() as f64 / weight;
        let unit = parts.iter().map(of).fold(f64::INFINITY, f64::min);
        let mut rows = Vec::new();
        let mut start = 0;
        for (n, (data, weight)) in parts.iter().enumerate() {
            let count = ((unit * weight).round() as usize).min(data.len());
            if count == 0 {
                return Err(Error::input(format_args!(
                    "dataset {} of {} would give no row",
                    n + 1,
                    parts.len()
                ))
                .help("raise its weight, or leave it out"));
            }
            let order = shuffled(data.len(), seed, n as u64 + 1);
            rows.extend(order[..count].iter().map(|row| start + row));
            start += data.len() as u32;
        }
        let order = shuffled(rows.len(), seed, 0);
        let rows = order.into_iter().map(|n| rows[n as usize]).collect();
        let shares: Vec<String> = parts.iter().map(|(_, weight)| weight.to_string()).collect();
        let why = format!("mix {} with seed {seed}", shares.join(" : "));
        let all = others.iter().try_fold((*first).clone(), |all, (data, _)| all.concat(data))?;
        all.keep(rows, why)
    }

    /// Repairs rows: `data.fix(Fix::MergeSameRole | Fix::DropTrailingUser)`. Records that were
    /// rejected and are rows now belong to the new dataset, unless this one is a part already.
    /// [`problems`](Self::problems) lists what was repaired.
    ///
    /// The files are read anew.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn fix(&self, fixes: impl Into<Fixes>) -> Result<Self> {
        self.apply(&Step::Fix { fixes: fixes.into() })
    }

    /// Trims the white space at both ends of every turn; the same as `fix(Fix::Trim)`.
    ///
    /// # Errors
    /// As for [`fix`](Self::fix).
    pub fn trim(&self) -> Result<Self> {
        self.fix(Fix::Trim)
    }

    /// Removes the rows that repeat an earlier one.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn dedup(&self) -> Result<Self> {
        self.apply(&Step::Dedup)
    }

    /// Removes near-duplicates: all rows of a group of near-duplicates but the first (see [`near`](super::near)).
    /// A threshold of 0.8 is usual; 1 removes rows that differ only in white space and case.
    ///
    /// # Errors
    /// A threshold that is not from 0.5 to 1.
    pub fn dedup_near(&self, threshold: f64) -> Result<Self> {
        self.apply(&Step::DedupNear { threshold })
    }

    /// Removes the rows that [`problems`](Self::problems) lists.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn drop_problems(&self) -> Result<Self> {
        self.apply(&Step::DropProblems)
    }

    /// Keeps the rows in which a regular expression matches something: the system text, a turn, rejected ones
    /// included, a plain text; or, as JSON, calls, tools, and keys that are kept beside them.
    ///
    /// # Errors
    /// If the expression cannot be read.
    pub fn matching(&self, pattern: &str) -> Result<Self> {
        self.apply(&Step::Regex { pattern: pattern.into(), keep: Keep::Matching })
    }

    /// Keeps the rows in which a regular expression matches nothing.
    ///
    /// # Errors
    /// If the expression cannot be read.
    pub fn not_matching(&self, pattern: &str) -> Result<Self> {
        self.apply(&Step::Regex { pattern: pattern.into(), keep: Keep::Others })
    }

    /// What was done to the rows since the file was opened, and how many there were before and
    /// after. [`recipe`](Self::recipe) is the same for machines.
    pub fn steps(&self) -> Table {
        let right = Align::Right;
        let mut table =
            Table::new([("step", Align::Left), ("rows before", right), ("after", right), ("removed", right)]);
        for Done { step, before, after } in &self.0.steps {
            let removed = before.saturating_sub(*after) as u64;
            table.row([
                step.to_string(),
                thousands(*before as u64),
                thousands(*after as u64),
                thousands(removed),
            ]);
        }
        table
    }

    /// Returns how these rows were made: what was opened, and the steps since.
    ///
    /// # Errors
    /// If a big file, read for its fingerprint, cannot be read to its end.
    pub fn recipe(&self) -> Result<Recipe> {
        let steps = self.0.steps.iter().map(|done| done.step.clone()).collect();
        Ok(Recipe { steps, ..self.0.origin.recipe()? })
    }

    /// The rows that a recipe describes.
    ///
    /// # Errors
    /// If a file is gone or no longer what it was, or if a step does not fit its rows.
    pub fn from_recipe(recipe: &Recipe) -> Result<Self> {
        let opened = match recipe.files.as_slice() {
            [] => Self::open_with(&recipe.path, &recipe.options)?,
            files => Self::open_files(files, &recipe.options)?,
        };
        recipe.check(&opened.recipe()?)?;
        recipe.steps.iter().try_fold(opened, |data, step| data.apply(step))
    }

    pub(super) fn keep(&self, rows: Vec<u32>, why: String) -> Result<Self> {
        self.apply(&Step::Keep { rows, why })
    }

    /// One step of a recipe.
    pub(super) fn apply(&self, step: &Step) -> Result<Self> {
        let len = self.store()?.len();
        let len = self.0.rows.as_ref().map_or(len, |rows| rows.len());
        let rows: Vec<u32> = match step {
            Step::Concat { with } => return self.appended(&Self::from_recipe(with)?, step.clone()),
            Step::Fix { fixes } => return self.repaired(*fixes),
            Step::Slice { offset, len: wanted } => {
                let offset = (*offset).min(len);
                (offset as u32..(offset + (*wanted).min(len - offset)) as u32).collect()
            }
            Step::Keep { rows, .. } => rows.clone(),
            Step::Sample { n, seed } => {
                let mut rows = shuffled(len, *seed, 0);
                rows.truncate(*n);
                rows.sort_unstable();
                rows
            }
            Step::Split { fraction, seed, part } => {
                let (first, second) = split::split(self, *fraction, *seed)?;
                if *part == Part::First { first } else { second }
            }
            Step::Dedup => {
                let mut said = PlHashMap::with_capacity(len);
                let first = |(row, hash)| said.insert(hash, ()).is_none().then_some(row);
                (0u32..).zip(self.hashes()?).filter_map(first).collect()
            }
            Step::DedupNear { threshold } => {
                let clusters = self.near_duplicates(*threshold)?;
                let later: HashSet<u32> = clusters.iter().flat_map(|rows| &rows[1..]).copied().collect();
                (0..len as u32).filter(|row| !later.contains(row)).collect()
            }
            Step::DropProblems => self.without_problems()?,
            Step::Regex { pattern, keep } => self.by_regex(pattern, *keep)?,
        };
        if let Some(row) = rows.iter().find(|row| **row as usize >= len) {
            return Err(Error::input(format_args!("a step takes row {row} of {len} rows")));
        }
        Ok(self.part(rows, step.clone()))
    }

    /// Some of these rows.
    fn part(&self, rows: Vec<u32>, step: Step) -> Self {
        let done = Done { step, before: self.len(), after: rows.len() };
        let rows = match &self.0.rows {
            None => rows.into(),
            Some(held) => rows.into_iter().map(|row| held[row as usize]).collect(),
        };
        let new = self.derived(self.0.sources.clone(), Some(rows), done);
        // The rows of the files are shared with this one.
        if let Some(store) = self.0.store.get() {
            let _ = new.0.store.set(store.clone());
        }
        new
    }

    fn derived(&self, sources: Vec<Arc<Source>>, rows: Option<Arc<[u32]>>, done: Done) -> Self {
        let mut steps = self.0.steps.clone();
        steps.push(done);
        Self::of(self.0.origin.clone(), sources, rows, steps, self.0.tokenizer.clone())
    }

    fn appended(&self, other: &Self, step: Step) -> Result<Self> {
        let before = self.len();
        let first = self.store()?.len() as u32;
        let theirs = other.store()?.len() as u32;
        let rows = (self.0.rows.is_some() || other.0.rows.is_some()).then(|| {
            let own: Vec<u32> =
                self.0.rows.as_ref().map_or_else(|| (0..first).collect(), |rows| rows.to_vec());
            let others = other.0.rows.as_ref().map_or_else(|| (0..theirs).collect(), |rows| rows.to_vec());
            own.into_iter().chain(others.into_iter().map(|row| first + row)).collect()
        });
        let sources = self.0.sources.iter().chain(&other.0.sources).cloned().collect();
        let new = self.derived(sources, rows, Done { step, before, after: before + other.len() });
        new.store()?;
        Ok(new)
    }

    fn repaired(&self, fixes: Fixes) -> Result<Self> {
        let reopen = |source: &Arc<Source>| {
            let options = ReadOptions { fixes: source.options.fixes | fixes, ..source.options.clone() };
            Ok(Arc::new(source.reopen(&options)?))
        };
        let sources: Vec<Arc<Source>> = self.0.sources.iter().map(reopen).collect::<Result<_>>()?;
        let before = self.len();
        let done = |after| Done { step: Step::Fix { fixes }, before, after };
        let Some(held) = &self.0.rows else {
            let after = sources.iter().map(|source| Ok(source.full()?.len())).sum::<Result<usize>>()?;
            return Ok(self.derived(sources, None, done(after)));
        };
        // A row is known again by its file and by its record's number there.
        let whole = |sources| Self::of(self.0.origin.clone(), sources, None, Vec::new(), None);
        let (old, new) = (whole(self.0.sources.clone()).keys()?, whole(sources.clone()).keys()?);
        let places: HashMap<(usize, u32), u32> = new.into_iter().zip(0..).collect();
        let place = |row: &u32| places.get(&old[*row as usize]).copied();
        let rows: Arc<[u32]> = held.iter().filter_map(place).collect();
        let after = rows.len();
        Ok(self.derived(sources, Some(rows), done(after)))
    }

    /// The file and the record's number of every row of the sources.
    fn keys(&self) -> Result<Vec<(usize, u32)>> {
        let numbers =
            self.pieces(|rows, _| Ok((0..rows.len()).map(|i| rows.number(i)).collect::<Vec<_>>()))?;
        let mut numbers = numbers.into_iter().flatten();
        let mut keys = Vec::new();
        for (n, source) in self.0.sources.iter().enumerate() {
            keys.extend(numbers.by_ref().take(source.full()?.len()).map(|number| (n, number)));
        }
        Ok(keys)
    }

    fn without_problems(&self) -> Result<Vec<u32>> {
        let mut sound = vec![true; self.store()?.len()];
        let mut first = 0;
        for source in &self.0.sources {
            let full = source.full()?;
            for row in full
                .problems()?
                .iter()
                .filter(|p| p.outcome != crate::format::problems::Outcome::Repaired)
                .filter_map(|p| p.row)
            {
                sound[first + row as usize] = false;
            }
            first += full.len();
        }
        let number = |row: u32| self.0.rows.as_ref().map_or(row, |rows| rows[row as usize]);
        Ok((0..self.len() as u32).filter(|row| sound[number(*row) as usize]).collect())
    }

    fn by_regex(&self, pattern: &str, keep: Keep) -> Result<Vec<u32>> {
        let regex = Regex::new(pattern).map_err(|e| {
            Error::input(format_args!("{pattern:?} is no regular expression: {e}"))
                .help("see the syntax of the crate regex; escape . ( ) [ ] { } + * ? | ^ $ with a backslash")
        })?;
        let wanted = keep == Keep::Matching;
        let kept = self.pieces(|rows, first| {
            let says = |text: Option<&str>| text.is_some_and(|text| regex.is_match(text));
            let matches = |i: usize| {
                let alone =
                    [rows.system(i), rows.system_extra(i), rows.text(i), rows.tools(i), rows.extra(i)];
                alone.into_iter().any(says)
                    || rows.turns(i).chain(rows.rejected(i)).any(|turn| {
                        says(Some(turn.content))
                            || [turn.name, turn.tool_calls, turn.extra].into_iter().any(says)
                    })
            };
            let kept = (0..rows.len()).filter(|&i| matches(i) == wanted);
            Ok(kept.map(|i| (first + i) as u32).collect::<Vec<_>>())
        })?;
        Ok(kept.concat())
    }
}

/// The numbers 0..n in random order.
fn shuffled(n: usize, seed: u64, nth: u64) -> Vec<u32> {
    random::permutation(n, seed, nth).into_iter().map(|row| row as u32).collect()
}
