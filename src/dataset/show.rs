//! Shows a dataset in a notebook: its first and its last rows.

use super::Dataset;
use super::columns::{first_user, last_answer};
use super::table::Rows;
use crate::display::{Align, Bundle, Show, Table, bytes, cut, failed, thousands};
use crate::error::Result;

/// Rows shown from the head, and as many from the tail.
const ENDS: usize = 5;
/// Characters of a text that are shown.
const CHARACTERS: usize = 120;

impl Dataset {
    fn table(&self) -> Result<Table> {
        let mut table = Table::new([
            ("", Align::Right),
            ("id", Align::Left),
            ("schema", Align::Left),
            ("turns", Align::Right),
            ("first user text", Align::Left),
            ("last answer", Align::Left),
        ]);
        if let Some(head) = self.0.sources.iter().find_map(|source| source.head()) {
            let rows = Rows::of(&head)?;
            (0..rows.len().min(2 * ENDS)).for_each(|i| table.row(cells(i, rows, i)));
            table.row(["…"; 6]);
            let size = self.0.sources.iter().map(|source| source.size).sum();
            return Ok(table.caption(format!(
                "the first rows of {}; all of it is read when something needs all rows",
                bytes(size)
            )));
        }
        let all = self.len();
        let problems = match self.faults()? {
            0 => "no problems".to_string(),
            1 => "1 problem: see problems() and report()".to_string(),
            n => format!("{} problems: see problems() and report()", thousands(n as u64)),
        };
        let mut show = |i| self.at(i, |rows, place| cells(i, rows, place)).map(|cells| table.row(cells));
        if all <= 2 * ENDS {
            (0..all).try_for_each(&mut show)?;
        } else {
            (0..ENDS).try_for_each(&mut show)?;
            table.row(["…"; 6]);
            let mut show = |i| self.at(i, |rows, place| cells(i, rows, place)).map(|cells| table.row(cells));
            (all - ENDS..all).try_for_each(&mut show)?;
        }
        Ok(table.caption(format!("{} rows · {problems}", thousands(all as u64))))
    }
}

fn cells(i: usize, rows: Rows<'_>, place: usize) -> [String; 6] {
    [
        i.to_string(),
        rows.id(place).to_string(),
        rows.source(place).to_string(),
        rows.turns(place).len().to_string(),
        cut(first_user(rows, place), CHARACTERS),
        cut(last_answer(rows, place), CHARACTERS),
    ]
}

impl Show for Dataset {
    fn show(&self) -> Bundle {
        match self.table() {
            Ok(table) => table.show(),
            Err(error) => failed(error, ""),
        }
    }
}

impl std::fmt::Debug for Dataset {
    /// Its files; nothing is read for it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMED: usize = 3;
        let files = &self.0.sources;
        let names = files.iter().take(NAMED).map(|source| source.path.display().to_string());
        let more = match files.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more files"),
        };
        write!(f, "Dataset({}{more}, {} steps)", names.collect::<Vec<_>>().join(", "), self.0.steps.len())
    }
}

impl std::fmt::Display for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
