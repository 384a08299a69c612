//! A view of one canonical row, stored in a table or just parsed.

use super::row::{RecordPlace, Row, Spoken, Turn, is_blank, is_no_tools, made_up_id};
use super::schema::layout::{List, Who};

/// Canonical rows in columns, read by their numbers.
pub(crate) trait RowColumns {
    /// The id, where the file gave one.
    fn given_id(&self, i: usize) -> Option<&str>;
    /// The id, or the one that was made up.
    fn id(&self, i: usize) -> &str;
    /// The line of the file on which the row began.
    fn line(&self, i: usize) -> u32;
    /// The system text as the file has it.
    fn system_as_is(&self, i: usize) -> Option<&str>;
    /// What the system's turn has beside its text, as a JSON object.
    fn system_extra(&self, i: usize) -> Option<&str>;
    /// The tools as the file has them.
    fn tools_as_is(&self, i: usize) -> Option<&str>;
    /// The text of a row that is no conversation.
    fn text(&self, i: usize) -> Option<&str>;
    /// Whether the answer is labelled good or bad.
    fn label(&self, i: usize) -> Option<bool>;
    /// The name of the schema that the row was read from.
    fn source(&self, i: usize) -> &str;
    /// What has no other place, as a JSON object.
    fn extra(&self, i: usize) -> Option<&str>;
    /// The number of messages, of chosen and of rejected turns.
    fn counts(&self, i: usize) -> [usize; 3];
    /// Whether the row has a chosen and a rejected answer.
    fn is_preference(&self, i: usize) -> bool;
    /// Turn `n` of a list; the chosen ones also follow the messages.
    fn turn(&self, i: usize, list: List, n: usize) -> Option<Spoken<'_>>;
}

/// A view of a canonical row.
#[derive(Clone, Copy)]
pub(crate) enum RowView<'a> {
    /// Row `i` of a table.
    Table(&'a dyn RowColumns, usize),
    /// A row that was just parsed.
    Fresh(&'a Row<'a>, RecordPlace),
}

impl<'a> RowView<'a> {
    /// The id, where the file gave one.
    pub fn id(&self) -> Option<&'a str> {
        match self {
            Self::Table(rows, i) => rows.given_id(*i),
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
