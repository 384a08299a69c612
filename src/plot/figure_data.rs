//! The numbers behind a figure, as a table.

use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use super::canvas::one_line;
use super::numbers::drawable;
use crate::error::Result;

/// A long table: one row for each number drawn. Plain vectors, so that a figure can be serialised
/// and compared; numbers that are not drawn (NaN, infinity) are missing values.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct FigureData(Vec<(String, Values)>);

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
enum Values {
    Text(Vec<String>),
    Number(Vec<Option<f64>>),
}

impl FigureData {
    /// Appends a column of names.
    pub(super) fn text<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.push(name, Values::Text(values.into_iter().map(str::to_string).collect()))
    }

    /// Appends a column of numbers.
    pub(super) fn number(self, name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let drawn = |value: f64| drawable(value).then_some(value);
        self.push(name, Values::Number(values.into_iter().map(drawn).collect()))
    }

    fn push(mut self, name: &str, values: Values) -> Self {
        let name = self.free(name, self.0.len());
        self.0.push((name, values));
        self
    }

    /// A name that no column before `index` has: two axes may be called the same, or nothing.
    fn free(&self, name: &str, index: usize) -> String {
        let name = match one_line(name).trim() {
            "" => format!("column {}", index + 1),
            name => name.to_string(),
        };
        let taken = |name: &str| self.0.iter().take(index).any(|(other, _)| other == name);
        let numbered = (2..).map(|number| format!("{name} {number}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name)
    }

    /// The same columns under other names, as far as names are given.
    pub(super) fn renamed<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for (index, name) in names.into_iter().enumerate().take(self.0.len()) {
            self.0[index].0 = self.free(name, index);
        }
        // A name that was given may now stand further on as well.
        for index in 0..self.0.len() {
            self.0[index].0 = self.free(&self.0[index].0, index);
        }
        self
    }

    pub(super) fn frame(&self) -> Result<DataFrame> {
        let column = |(name, values): &(String, Values)| -> Column {
            let name = name.as_str().into();
            match values {
                Values::Text(values) => Series::new(name, values.as_slice()).into(),
                Values::Number(values) => Series::new(name, values.as_slice()).into(),
            }
        };
        Ok(DataFrame::new_infer_height(self.0.iter().map(column).collect())?)
    }
}
