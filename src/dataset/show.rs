//! What a dataset looks like in a notebook: its head and its tail.

use super::{Dataset, first_user, last_answer};
use crate::display::{Align, Bundle, Show, Table, Text, cut, thousands};
use crate::error::Result;

/// Rows shown from the head, and as many from the tail.
const ENDS: usize = 5;
/// Characters of a text that are shown.
const CHARACTERS: usize = 120;

impl Dataset {
    fn table(&self) -> Result<Table> {
        let rows = self.rows()?;
        let problems = match self.0.problems.len() {
            0 => "no problems".to_string(),
            1 => "1 problem: see problems() and report()".to_string(),
            n => format!("{} problems: see problems() and report()", thousands(n as u64)),
        };
        let mut table = Table::new([
            ("", Align::Right),
            ("id", Align::Left),
            ("schema", Align::Left),
            ("turns", Align::Right),
            ("first user text", Align::Left),
            ("last answer", Align::Left),
        ])
        .caption(format!("{} rows · {problems}", thousands(rows.len() as u64)));
        let row = |i: usize| {
            [
                i.to_string(),
                rows.id(i).to_string(),
                rows.source(i).to_string(),
                rows.turns(i).len().to_string(),
                cut(first_user(rows, i), CHARACTERS),
                cut(last_answer(rows, i), CHARACTERS),
            ]
        };
        let all = rows.len() <= 2 * ENDS;
        for i in 0..if all { rows.len() } else { ENDS } {
            table.row(row(i));
        }
        if !all {
            table.row(["…"; 6]);
            for i in rows.len() - ENDS..rows.len() {
                table.row(row(i));
            }
        }
        Ok(table)
    }
}

impl Show for Dataset {
    fn show(&self) -> Bundle {
        match self.table() {
            Ok(table) => table.show(),
            Err(error) => Text::new(error.to_string()).show(),
        }
    }
}

impl std::fmt::Display for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
