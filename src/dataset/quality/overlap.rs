//! Rows of one dataset that occur in another.

use std::collections::HashMap;

use polars::prelude::*;

use crate::dataset::Dataset;
use crate::dataset::columns::first_user;
use crate::display::{Align, Bundle, Show, Table, cut, thousands};
use crate::error::Result;

/// Rows that two datasets have in common; [`Dataset::overlap`] finds them.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedRows {
    /// The pairs, in the order of the other dataset's rows.
    pub pairs: Vec<SharedRow>,
    /// The rows of the other dataset.
    pub of: usize,
}

/// A row of the other dataset that occurs in this one.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedRow {
    /// The number of the other dataset's row.
    pub other: u32,
    /// The number of the most similar row here.
    pub row: u32,
    /// How alike they are: the Jaccard index of their shingles, 1 for equal texts.
    pub similarity: f64,
    /// The first user text of the other dataset's row.
    pub text: String,
}

impl Dataset {
    /// Finds the rows of another dataset, such as a test set or a benchmark, that occur in this one:
    /// exactly, or nearly from a Jaccard similarity of `threshold` on (0.8 is usual; see
    /// [`near`](super::near)).
    ///
    /// # Errors
    /// A threshold that is not from 0.5 to 1.
    ///
    /// # Examples
    /// ```
    /// use lorascope::dataset::Dataset;
    ///
    /// let data = Dataset::open("datasets/school_math.jsonl")?;
    /// let (train, test) = data.split(0.9, 42)?;
    /// assert_eq!(train.overlap(&test, 0.8)?.pairs.len(), 0);
    /// assert_eq!(data.overlap(&test, 0.8)?.pairs.len(), test.len());
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn overlap(&self, other: &Self, threshold: f64) -> Result<SharedRows> {
        let found = self.signatures()?.matches(self, &other.signatures()?, other, threshold)?;
        let shared = |(row, there, similarity): (u32, u32, f64)| {
            let text = other.at(there as usize, |rows, i| first_user(rows, i).to_string())?;
            Ok(SharedRow { other: there, row, similarity, text })
        };
        Ok(SharedRows { pairs: found.into_iter().map(shared).collect::<Result<_>>()?, of: other.len() })
    }
}

impl Dataset {
    /// Finds the rows of another dataset that equal a row of this one, and that row. Much faster than
    /// [`overlap`](Self::overlap), which also finds near-duplicates.
    ///
    /// # Errors
    /// If a big file, read for it, cannot be read to its end.
    ///
    /// # Examples
    /// ```
    /// use lorascope::dataset::Dataset;
    ///
    /// let data = Dataset::open("datasets/school_math.jsonl")?;
    /// let last = data.len() - 1;
    /// assert_eq!(data.equal_rows(&data)?[last], (last, last));
    /// let (train, test) = data.split(0.9, 42)?;
    /// assert_eq!(train.equal_rows(&test)?, []);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn equal_rows(&self, other: &Self) -> Result<Vec<(usize, usize)>> {
        let mut here = HashMap::new();
        for (row, hash) in self.hashes()?.into_iter().enumerate() {
            here.entry(hash).or_insert(row);
        }
        let there = other.hashes()?.into_iter().enumerate();
        Ok(there.filter_map(|(row, hash)| Some((row, *here.get(&hash)?))).collect())
    }
}

impl SharedRows {
    /// The pairs as a table: other, row, similarity, text.
    ///
    /// # Errors
    /// Only if polars cannot build the table.
    pub fn frame(&self) -> Result<DataFrame> {
        let pairs = &self.pairs;
        Ok(DataFrame::new(
            pairs.len(),
            vec![
                Column::new("other".into(), pairs.iter().map(|pair| pair.other).collect::<Vec<_>>()),
                Column::new("row".into(), pairs.iter().map(|pair| pair.row).collect::<Vec<_>>()),
                Column::new(
                    "similarity".into(),
                    pairs.iter().map(|pair| pair.similarity).collect::<Vec<_>>(),
                ),
                Column::new("text".into(), pairs.iter().map(|pair| pair.text.as_str()).collect::<Vec<_>>()),
            ],
        )?)
    }

    fn table(&self) -> Table {
        const SHOWN: usize = 10;
        let mut table = Table::new([
            ("row of the other", Align::Right),
            ("row here", Align::Right),
            ("similarity", Align::Right),
            ("first user text", Align::Left),
        ])
        .caption(format!(
            "{} of the other's {} rows occur here",
            thousands(self.pairs.len() as u64),
            thousands(self.of as u64)
        ));
        for pair in self.pairs.iter().take(SHOWN) {
            let similarity = format!("{:.2}", pair.similarity);
            table.row([pair.other.to_string(), pair.row.to_string(), similarity, cut(&pair.text, 120)]);
        }
        if self.pairs.len() > SHOWN {
            table.row(["…"; 4]);
        }
        table
    }
}

impl Show for SharedRows {
    fn show(&self) -> Bundle {
        self.table().show()
    }
}

impl std::fmt::Display for SharedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
