//! One canonical row to read from, whether it stands in the table or was just parsed.

use super::schema::layout::{List, Who};
use super::schema::{Row, Turn};
use super::table::{Rows, Spoken, is_blank, is_no_tools, made_up_id};

/// Where a record stands in its file, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub line: u32,
    pub number: u32,
}

/// A canonical row.
#[derive(Clone, Copy)]
pub(super) enum RowView<'a> {
    /// Row `i` of a table.
    Table(&'a Rows<'a>, usize),
    /// A row that was just parsed.
    Fresh(&'a Row<'a>, Place),
}

impl<'a> Spoken<'a> {
    /// A turn that has a role and a text, and nothing else.
    pub fn plain(role: &'a str, content: &'a str) -> Self {
        Self {
            role,
            content,
            null_content: false,
            name: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
            extra: None,
        }
    }

    fn of(turn: &'a Turn<'a>) -> Self {
        Self {
            role: turn.role.as_str(),
            content: &turn.content,
            null_content: turn.null_content,
            name: turn.name.as_deref(),
            tool_calls: turn.tool_calls.as_deref(),
            tool_call_id: turn.tool_call_id.as_deref(),
            weight: turn.weight,
            extra: turn.extra.as_deref(),
        }
    }

    /// Whether it has a text and nothing else.
    pub fn is_plain(&self) -> bool {
        !self.null_content
            && self.name.is_none()
            && self.tool_calls.is_none()
            && self.tool_call_id.is_none()
            && self.weight.is_none()
            && self.extra.is_none()
    }
}

impl<'a> RowView<'a> {
    /// The id, where the file gave one.
    pub fn id(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.given(*i).then(|| rows.id(*i)),
            Self::Fresh(row, _) => row.id.as_deref(),
        }
    }

    /// The line of the file on which it began.
    pub fn line(&self) -> u32 {
        match self {
            Self::Table(rows, i) => rows.line(*i),
            Self::Fresh(_, place) => place.line,
        }
    }

    /// The id, or the one that is made up from the record's number.
    pub fn name(&self) -> String {
        match self {
            Self::Table(rows, i) => rows.id(*i).to_string(),
            Self::Fresh(row, place) => {
                row.id.as_deref().map_or_else(|| made_up_id(place.number), str::to_string)
            }
        }
    }

    /// The system text; a blank one is none.
    pub fn system(&self) -> Option<&'a str> {
        self.system_as_is().filter(|text| !is_blank(text))
    }

    /// The system text as the file has it.
    pub fn system_as_is(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.system_as_is(*i),
            Self::Fresh(row, _) => row.system.as_deref(),
        }
    }

    /// What the system's turn has beside its text, as a JSON object.
    pub fn system_extra(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.system_extra(*i),
            Self::Fresh(row, _) => row.system_extra.as_deref(),
        }
    }

    /// Whether the system has a turn of its own: a text, or other keys.
    pub fn has_system(&self) -> bool {
        self.system().is_some() || self.system_extra().is_some()
    }

    /// The tools; an empty list of them is none.
    pub fn tools(&self) -> Option<&'a str> {
        self.tools_as_is().filter(|tools| !is_no_tools(tools))
    }

    /// The tools as the file has them.
    pub fn tools_as_is(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.tools_as_is(*i),
            Self::Fresh(row, _) => row.tools.as_deref(),
        }
    }

    pub fn text(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.text(*i),
            Self::Fresh(row, _) => row.text.as_deref(),
        }
    }

    pub fn label(&self) -> Option<bool> {
        match self {
            Self::Table(rows, i) => rows.label(*i),
            Self::Fresh(row, _) => row.label,
        }
    }

    /// The name of the schema that it was read from.
    pub fn source(&self) -> &'a str {
        match self {
            Self::Table(rows, i) => rows.source(*i),
            Self::Fresh(row, _) => row.source_name(),
        }
    }

    pub fn extra(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.extra(*i),
            Self::Fresh(row, _) => row.extra.as_deref(),
        }
    }

    /// The number of messages, of chosen and of rejected turns.
    pub fn counts(&self) -> [usize; 3] {
        match self {
            Self::Table(rows, i) => rows.counts(*i),
            Self::Fresh(row, _) => {
                let count = |turns: &Option<Vec<Turn<'_>>>| turns.as_ref().map_or(0, Vec::len);
                [row.turns.len(), count(&row.chosen), count(&row.rejected)]
            }
        }
    }

    /// Whether it has a chosen and a rejected answer.
    pub fn is_preference(&self) -> bool {
        match self {
            Self::Table(rows, i) => rows.is_preference(*i),
            Self::Fresh(row, _) => row.chosen.is_some() && row.rejected.is_some(),
        }
    }

    /// A turn; the chosen ones also follow the messages. The system's is no turn here.
    pub fn turn(&self, who: Who) -> Option<Spoken<'a>> {
        let Who::At(list, n) = who else { return None };
        let n = n as usize;
        match self {
            Self::Table(rows, i) => rows.turn(*i, list, n),
            Self::Fresh(row, _) => match list {
                List::Messages => row.turns.get(n).or_else(|| {
                    row.chosen.as_ref().and_then(|chosen| chosen.get(n.checked_sub(row.turns.len())?))
                }),
                List::Chosen => row.chosen.as_ref().and_then(|turns| turns.get(n)),
                List::Rejected => row.rejected.as_ref().and_then(|turns| turns.get(n)),
            }
            .map(Spoken::of),
        }
    }

    /// The number of turns that are trained on: messages and chosen ones.
    pub fn talk_len(&self) -> usize {
        let [messages, chosen, _] = self.counts();
        messages + chosen
    }

    /// The turns that are trained on: messages and chosen ones.
    pub fn talk(&self) -> impl Iterator<Item = Spoken<'a>> {
        let view = *self;
        (0..self.talk_len() as u32).filter_map(move |i| view.turn(Who::At(List::Messages, i)))
    }
}
