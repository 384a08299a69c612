//! The problems of a dataset's files and rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::DataFrame;

use super::data::Dataset;
use super::source::Source;
use crate::error::Result;
use crate::format::ProblemKind;
use crate::format::problems::{Problem, frame};

impl Dataset {
    /// Returns the problems of the records: file, line, row (its number in this dataset, from 0, where the record is
    /// a row), id, kind, outcome (rejected, kept or repaired), what, fix. It joins with
    /// [`columns`](Self::columns) on `row`.
    ///
    /// A part of a dataset lists the problems of its own rows; the rejected records belong to the dataset that was
    /// opened. These problems are found while a file is read; the [`report`](Self::report) adds those that are
    /// found by comparing rows or reading their texts, such as placeholders and refusals.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn problems(&self) -> Result<DataFrame> {
        let (listed, numbers) = (self.listed()?, self.numbers()?);
        let mut problems = Vec::new();
        for (file, (path, found)) in listed.iter().enumerate() {
            let number = |row: u32| numbers.get(file)?.get(row as usize).copied().flatten();
            problems.extend(found.iter().map(|p| (path.as_path(), p, p.row.and_then(number))));
        }
        frame(&problems)
    }

    /// The problems of each file.
    pub(super) fn listed(&self) -> Result<Vec<(PathBuf, Vec<Problem>)>> {
        let mut held = vec![self.0.rows.is_none(); self.store()?.len()];
        for &row in self.0.rows.iter().flat_map(|rows| rows.iter()) {
            held[row as usize] = true;
        }
        let mut first = 0;
        let mut listed = Vec::with_capacity(self.0.sources.len());
        for source in &self.0.sources {
            let full = source.full()?;
            let belongs = |p: &&Problem| match p.row {
                Some(row) => held[first + row as usize],
                None => self.0.rows.is_none(),
            };
            listed.push((source.path.clone(), full.problems()?.iter().filter(belongs).cloned().collect()));
            first += full.len();
        }
        if self.0.rows.is_none() {
            listed.extend(self.0.origin.aside());
        }
        Ok(listed)
    }

    /// Returns the folders and files beside the opened ones that were not read, and why.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn not_read(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut all = Vec::new();
        let mut add = |path: &Path, problems: &[Problem]| {
            let not_read = |p: &&Problem| p.kind == ProblemKind::NotRead;
            all.extend(problems.iter().filter(not_read).map(|p| (path.to_path_buf(), p.what.to_string())));
        };
        for source in &self.0.sources {
            add(&source.path, &source.full()?.problems()?);
        }
        self.0.origin.aside().for_each(|(path, problems)| add(&path, &problems));
        Ok(all)
    }

    /// The number of problems. It is known for whole files without reading the list.
    pub(super) fn faults(&self) -> Result<usize> {
        match self.0.rows {
            None => {
                let faults = self.0.sources.iter().map(|source| Ok(source.full()?.faults));
                Ok(faults.sum::<Result<usize>>()? + self.0.origin.aside().count())
            }
            Some(_) => Ok(self.listed()?.iter().map(|(_, problems)| problems.len()).sum()),
        }
    }

    /// Returns how many records of the files were rejected; [`problems`](Self::problems) lists them.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    pub fn rejected(&self) -> Result<usize> {
        if self.0.rows.is_some() {
            return Ok(0);
        }
        let of = |source: &Arc<Source>| Ok(source.full()?.rejected);
        self.0.sources.iter().map(of).sum()
    }

    /// For each file the numbers in this dataset of the rows that were read from it.
    fn numbers(&self) -> Result<Vec<Vec<Option<u32>>>> {
        let mut numbers: Vec<Option<u32>> = match &self.0.rows {
            None => (0..self.store()?.len() as u32).map(Some).collect(),
            Some(_) => vec![None; self.store()?.len()],
        };
        // From the last to the first: a row that stands twice is called by its first number.
        let rows = self.0.rows.as_deref().unwrap_or_default();
        for (number, row) in rows.iter().enumerate().rev() {
            numbers[*row as usize] = Some(number as u32);
        }
        let mut numbers = numbers.into_iter();
        let of = |source: &Arc<Source>| Ok(numbers.by_ref().take(source.full()?.len()).collect());
        self.0.sources.iter().map(of).collect()
    }
}
