//! Access to single rows: messages, tools, text and label.

use super::data::Dataset;
use super::table::Rows;
use crate::error::Result;
use crate::format::Role;
use crate::format::row::{Spoken, role_of};
use crate::text::Message;

impl Dataset {
    /// Returns the messages of row `i`, counted from 0; a system text comes first. For a preference, these are the
    /// prompt and the chosen answer; a row of plain text has none.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn conversation(&self, i: usize) -> Result<Vec<Message>> {
        self.at(i, conversation)
    }

    /// Returns the tools that the assistant of row `i` may call, as JSON.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn tools(&self, i: usize) -> Result<Option<String>> {
        self.at(i, |rows, i| rows.tools(i).map(str::to_string))
    }

    /// Returns the text of row `i`; `None` where it is a conversation.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn text(&self, i: usize) -> Result<Option<String>> {
        self.at(i, |rows, i| rows.text(i).map(str::to_string))
    }

    /// Returns whether the answer of row `i` is labelled good; `None` where it has no label.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn label(&self, i: usize) -> Result<Option<bool>> {
        self.at(i, |rows, i| rows.label(i))
    }
}

/// The messages of a row; the system's comes first.
pub(super) fn conversation(rows: Rows<'_>, i: usize) -> Vec<Message> {
    let extra = rows.system_extra(i);
    let text = rows.system(i).or_else(|| extra.and(rows.system_as_is(i)));
    let system =
        text.map(|text| Message { extra: extra.map(Into::into), ..Message::new(Role::System, text) });
    system.into_iter().chain(rows.turns(i).map(|turn| message(&turn))).collect()
}

pub(super) fn message(turn: &Spoken<'_>) -> Message {
    Message {
        role: role_of(turn.role),
        content: (!turn.null_content).then(|| turn.content.to_string()),
        name: turn.name.map(str::to_string),
        tool_calls: turn.tool_calls.map(str::to_string),
        tool_call_id: turn.tool_call_id.map(str::to_string),
        weight: turn.weight,
        extra: turn.extra.map(str::to_string),
    }
}
