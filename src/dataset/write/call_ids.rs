//! Ids of calls that their file gives none.

use crate::dataset::view::RowView;

/// The ids of calls that are made up on the way.
#[derive(Default)]
pub(super) struct CallIds {
    made: u32,
    /// Calls that no tool says that it answers: their ids and names.
    pub open: Vec<(String, String)>,
}

impl CallIds {
    /// An id that no call of the row has.
    pub fn next(&mut self, row: &RowView<'_>) -> String {
        loop {
            self.made += 1;
            // Nine letters and digits, as some chat templates want them.
            let id = format!("call{:05}", self.made);
            if !row.talk().any(|turn| turn.tool_calls.is_some_and(|calls| calls.contains(&id))) {
                return id;
            }
        }
    }

    /// Which call a tool answers that does not say so: the one of its name, or else the first.
    pub fn answered(&mut self, name: Option<&str>) -> Option<String> {
        let same = self.open.iter().position(|(_, called)| name == Some(called.as_str())).unwrap_or(0);
        (same < self.open.len()).then(|| self.open.remove(same).0)
    }
}
