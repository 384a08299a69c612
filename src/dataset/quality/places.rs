//! Where the rows of a report are: their files, lines and records.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::error::Result;
use crate::format::container::absolute;
use crate::format::problems::Problem;

/// Places in one file: the first has the first line, the first record and the first row, and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The name of the file; for several files, the path from the folder that holds them all.
    pub file: String,
    /// The lines, from 1.
    pub lines: Vec<u32>,
    /// The numbers of the records in the file, from 1; `None` for a fault of the file itself.
    pub records: Vec<Option<u32>>,
    /// The numbers of the rows in the dataset, from 0; `None` for a record that was rejected.
    pub rows: Vec<Option<u64>>,
}

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Which of the files.
    pub file: usize,
    pub line: u32,
    pub record: Option<u32>,
    pub row: Option<u64>,
}

/// The files of a dataset, and which rows are whose.
pub(super) struct Files {
    /// Those of the files, then those of the folders that are not read.
    names: Vec<String>,
    /// The number of each file's first row among all rows of the files.
    starts: Vec<u32>,
    /// The dataset's rows, by those numbers; `None` for all.
    rows: Option<Arc<[u32]>>,
    /// The dataset's numbers of them.
    own: HashMap<u32, u64>,
}

impl Files {
    pub fn of(data: &Dataset) -> Result<Self> {
        let paths: Vec<&Path> = data.0.sources.iter().map(|source| source.path.as_path()).collect();
        let mut starts = Vec::with_capacity(paths.len());
        let mut end = 0;
        for source in &data.0.sources {
            starts.push(end);
            end += source.full()?.len() as u32;
        }
        let rows = data.0.rows.clone();
        let own = rows.iter().flat_map(|rows| rows.iter().copied()).zip(0..).collect();
        // The order is that of the faults that are listed.
        let aside = data.0.origin.aside().map(|(folder, _)| absolute(&folder));
        let aside: Vec<PathBuf> = aside.collect::<Result<_>>()?;
        let aside: Vec<&Path> = aside.iter().map(PathBuf::as_path).collect();
        Ok(Self { names: names(&paths, &aside), starts, rows, own })
    }

    /// The names of the files.
    pub fn names(&self) -> &[String] {
        &self.names[..self.starts.len()]
    }

    /// The file of a row of the dataset.
    fn file(&self, row: u32) -> usize {
        let number = self.rows.as_ref().map_or(row, |rows| rows[row as usize]);
        self.starts.partition_point(|start| *start <= number).saturating_sub(1)
    }

    /// The name of the file of a row.
    pub fn name(&self, row: u32) -> &str {
        self.names.get(self.file(row)).map_or("", String::as_str)
    }

    /// The line of a row, for messages; of several files with the file's name.
    pub fn line(&self, row: u32, line: u32) -> String {
        match self.names() {
            [_] => format!("line {line}"),
            _ => format!("{}, line {line}", self.name(row)),
        }
    }

    /// Where a row stands; `line` and `record` are those of its record in the file.
    pub fn row(&self, row: u32, line: u32, record: u32) -> Spot {
        Spot { file: self.file(row), line, record: Some(record), row: Some(row.into()) }
    }

    /// Where a fault is that the reader found in a file.
    pub fn fault(&self, file: usize, problem: &Problem) -> Spot {
        let number = problem.row.map(|row| self.starts[file] + row);
        let row = number.and_then(|number| match self.rows {
            None => Some(number.into()),
            Some(_) => self.own.get(&number).copied(),
        });
        Spot { file, line: problem.line, record: problem.number, row }
    }

    /// The places by file, in the order of the files.
    pub fn places(&self, spots: &[Spot]) -> Vec<Places> {
        let mut places: BTreeMap<usize, Places> = BTreeMap::new();
        for spot in spots {
            let here = places.entry(spot.file).or_insert_with(|| Places {
                file: self.names.get(spot.file).cloned().unwrap_or_default(),
                lines: Vec::new(),
                records: Vec::new(),
                rows: Vec::new(),
            });
            here.lines.push(spot.line);
            here.records.push(spot.record);
            here.rows.push(spot.row);
        }
        places.into_values().collect()
    }
}

/// The names of some files: of one its own, of several the paths from the folder that holds them all;
/// and those of the folders beside them.
fn names(paths: &[&Path], aside: &[&Path]) -> Vec<String> {
    let folder = |path: &&Path| path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let mut common = paths.first().map_or_else(PathBuf::new, folder);
    while !paths.iter().all(|path| path.starts_with(&common)) && common.pop() {}
    let name = |path: &&Path| path.strip_prefix(&common).unwrap_or(path).to_string_lossy().into_owned();
    paths.iter().chain(aside).map(name).collect()
}

impl Places {
    /// The numbers of the records, where several are on one line: an array that was written without line
    /// breaks.
    fn on_one_line(&self) -> Option<Vec<u32>> {
        let one = self.lines.len() > 1 && self.lines.iter().all(|line| *line == self.lines[0]);
        if one { self.records.iter().copied().collect() } else { None }
    }

    /// The first places in words: `4, 9, …`, or `line 1, records 4, 9, …` of records on one line; with the
    /// file's name where there are several.
    pub(super) fn first(places: &[Self], shown: usize, several: bool) -> String {
        let all: usize = places.iter().map(|places| places.lines.len()).sum();
        let mut parts = Vec::new();
        let mut left = shown;
        for places in places.iter().take_while(|_| shown > 0) {
            let first =
                |numbers: &[u32]| -> Vec<String> { numbers.iter().take(left).map(u32::to_string).collect() };
            let (before, numbers) = match places.on_one_line() {
                Some(records) => (format!("line {}, records ", places.lines[0]), first(&records)),
                None => (String::new(), first(&places.lines)),
            };
            if numbers.is_empty() {
                break;
            }
            left -= numbers.len();
            let lines = before + &numbers.join(", ");
            parts.push(if several { format!("{}: {lines}", places.file) } else { lines });
        }
        let more = if all > shown { ", …" } else { "" };
        parts.join("; ") + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_in_two_folders_are_told_apart() {
        let paths = ["/d/a/rows.jsonl", "/d/b/rows.jsonl"].map(Path::new);
        assert_eq!(names(&paths, &[]), ["a/rows.jsonl", "b/rows.jsonl"]);
        assert_eq!(names(&paths[..1], &[]), ["rows.jsonl"]);
        let below = [Path::new("/d/more")];
        assert_eq!(names(&["/d/x.jsonl", "/d/y.csv"].map(Path::new), &below), ["x.jsonl", "y.csv", "more"]);
    }
}
