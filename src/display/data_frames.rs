//! How data frames are shown in a notebook.

use super::plain_values::failed;
use super::{Align, Bundle, Show, Table, thousands};

/// Rows of a data frame that are shown from its head, and as many from its tail.
const HEAD: usize = 5;

impl Show for polars::frame::DataFrame {
    fn show(&self) -> Bundle {
        use polars::prelude::DataType;
        let columns = self.columns();
        let named: Vec<(String, Align)> = columns
            .iter()
            .map(|column| {
                let align = if column.dtype().is_primitive_numeric() { Align::Right } else { Align::Left };
                (column.name().to_string(), align)
            })
            .collect();
        let height = self.height();
        let mut table = Table::new(named.iter().map(|(name, align)| (name.as_str(), *align)))
            .typed(columns.iter().map(|column| column.dtype().to_string()))
            .caption(format!("{} rows × {} columns", thousands(height as u64), columns.len()));
        let all = height <= 2 * HEAD;
        let head = if all { height } else { HEAD };
        let cell = |row: usize| {
            columns.iter().map(move |column| match column.get(row) {
                Ok(value) if matches!(column.dtype(), DataType::String) => {
                    value.get_str().map_or_else(|| "null".to_string(), str::to_string)
                }
                Ok(value) => value.to_string(),
                Err(_) => String::new(),
            })
        };
        for row in 0..head {
            table.row(cell(row));
        }
        if !all {
            table.row(columns.iter().map(|_| "…"));
            for row in height - HEAD..height {
                table.row(cell(row));
            }
        }
        table.show()
    }
}

impl Show for polars::prelude::LazyFrame {
    fn show(&self) -> Bundle {
        match self.clone().collect() {
            Ok(frame) => frame.show(),
            Err(error) => failed(crate::error::Error::from(error), ""),
        }
    }
}
