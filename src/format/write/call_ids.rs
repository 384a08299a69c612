//! Ids of calls that their file gives none.

use std::collections::{HashSet, VecDeque};

use crate::format::row::Spoken;
use crate::format::row_view::RowView;
use crate::format::schema::calls::ids_of;

/// The ids of calls that are made up on the way.
#[derive(Default)]
pub(super) struct CallIds {
    made: u32,
    /// The numbers of ids like ours that calls of the row have; looked for when the first is needed.
    taken: Option<HashSet<u32>>,
    /// Calls that no tool says that it answers: their ids and names.
    open: VecDeque<(String, String)>,
    /// A tool or the user has spoken since the last call: the next one begins anew.
    closed: bool,
}

impl CallIds {
    /// An id that no call of the row has.
    pub fn next(&mut self, row: &RowView<'_>) -> String {
        let taken = self.taken.get_or_insert_with(|| taken(row));
        loop {
            self.made += 1;
            if !taken.contains(&self.made) {
                // Nine letters and digits, as some chat templates want them.
                return format!("call{:05}", self.made);
            }
        }
    }

    /// Opens the calls of a turn beside those of the turns right before it; `after` are the turns that
    /// follow, of which some may say which call they answer.
    pub fn called<'a>(&mut self, calls: &str, after: impl Iterator<Item = Spoken<'a>>) {
        if std::mem::take(&mut self.closed) {
            self.open.clear();
        }
        self.open.extend(ids_of(calls));
        let answers = after.take_while(|turn| turn.tool_calls.is_none()).filter(|turn| turn.role == "tool");
        let said: HashSet<&str> = answers.filter_map(|turn| turn.tool_call_id).collect();
        if !said.is_empty() {
            self.open.retain(|(id, _)| !said.contains(id.as_str()));
        }
    }

    /// Notes who speaks.
    pub fn spoken(&mut self, role: &str) {
        self.closed |= matches!(role, "tool" | "user");
    }

    /// Which call a tool answers that does not say so: the one of its name, or else the first.
    pub fn answered(&mut self, name: Option<&str>) -> Option<String> {
        let named = name.and_then(|name| self.open.iter().position(|(_, called)| called == name));
        self.open.remove(named.unwrap_or(0)).map(|(id, _)| id)
    }
}

/// The numbers of ids like ours in the calls of a row, also where they are the beginning of longer ones.
fn taken(row: &RowView<'_>) -> HashSet<u32> {
    const DIGITS: usize = 5;
    let mut taken = HashSet::new();
    for calls in row.talk().filter_map(|turn| turn.tool_calls) {
        for (at, word) in calls.match_indices("call") {
            let rest = &calls[at + word.len()..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).take(2 * DIGITS).count();
            for length in DIGITS..=digits {
                // Longer numbers are written without a zero before them.
                if length == DIGITS || !rest.starts_with('0') {
                    taken.extend(rest[..length].parse::<u32>());
                }
            }
        }
    }
    taken
}
