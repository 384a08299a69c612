//! One row as JSON text in any schema.

use std::collections::HashSet;

use super::extras::Extras;
use super::losses::{Lost, lost};
use super::options::{Extra, Layout, WriteOptions};
use super::text::Text;
use crate::format::row::Spoken;
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;
use crate::format::schema::default::{Prompts, are_strings};
use crate::format::schema::layout::Hole;

/// Writes rows of one schema, one at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoder {
    schema: RowSchema,
    extra: Extra,
    layout: Layout,
    prompts: Prompts,
}

/// Why a row is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Its answer is marked as not to be learned, which the schema cannot say: it would be learned.
    LabelledBad,
    /// The schema cannot hold it, and why.
    Other(String),
}

impl Encoder {
    pub fn new(schema: RowSchema, options: &WriteOptions) -> Self {
        Self { schema, extra: options.extra, layout: options.layout, prompts: Prompts::Texts }
    }

    /// The same, with all prompts and answers as lists of turns: readers take the form of a file's first
    /// row for that of all.
    pub fn with_turns(self) -> Self {
        Self { prompts: Prompts::Turns, ..self }
    }

    /// In which form a row's prompt and answers are written, where there are two.
    pub fn prompts(&self, row: &RowView<'_>) -> Option<Prompts> {
        let schema = self.schema;
        let two = matches!(schema, RowSchema::PromptCompletion | RowSchema::Preference | RowSchema::Kto);
        let free = self.layout == Layout::Schema && self.prompts == Prompts::Texts;
        (two && free).then(|| if are_strings(schema, row) { Prompts::Texts } else { Prompts::Turns })
    }

    /// Appends a row, which is the output's `position`-th, from 1, and says what the schema has no
    /// place for; nothing where [`Extra::Keep`] carries it.
    ///
    /// A row of the schema itself keeps all that it has: where the schema's own layout has no place
    /// for something, it is written as it was.
    ///
    /// # Errors
    /// Why the row cannot be one of this schema; nothing is appended then.
    pub fn encode(&self, row: &RowView<'_>, position: u32, out: &mut Vec<u8>) -> Result<Lost, Unfit> {
        if self.leaves_out(row) {
            return Err(Unfit::LabelledBad);
        }
        let own = row.source() == self.schema.name();
        let extras = Extras::of(row.extra());
        let start = out.len();
        let input = extras
            .input
            .filter(|_| self.schema == RowSchema::Alpaca && row.source() == RowSchema::Alpaca.name());
        let given = match own && extras.is_number() {
            true => Some(Hole::IdNumber),
            false => extras.says_id().then_some(Hole::Id),
        };
        let exact = own && self.layout == Layout::Keep;
        let mut text =
            Text::new(row, self.schema, position, input, given, own, out).with(self.prompts).exactly(exact);
        let laid_out = extras.keys.as_deref().filter(|_| own && extras.fits(row));
        let mut stale = false;
        if let (Layout::Keep, Some(keys)) = (self.layout, laid_out) {
            if text.laid_out(keys, &extras).is_some() {
                return Ok(Lost::default());
            }
            text.cut(start);
            stale = true;
        }
        self.fits(row).map_err(Unfit::Other)?;
        if text.fields().is_none() {
            text.cut(start);
            return Err(Unfit::Other("its turns are not those of its schema".to_string()));
        }
        let mut lost = lost(self.schema, row, &extras, position, own);
        if own
            && lost.is_said()
            && !stale
            && !extras.is_moss()
            && let Some(keys) = laid_out
        {
            let written = text.len();
            if text.laid_out(keys, &extras).is_some() {
                text.cut_before(start, written);
                return Ok(Lost::default());
            }
            text.cut(written);
        }
        if own {
            text.unknown(&extras, &HashSet::new());
        }
        let carries = if own { lost.is_said() } else { !lost.is_empty() };
        if self.extra == Extra::Keep && carries {
            text.carry(&lost, &extras, start);
            lost = Lost::default();
        }
        text.raw("}");
        Ok(lost)
    }

    /// Whether a row is left out, since its answer is marked as not to be learned and nobody would know:
    /// labelled as a bad one, or of weight 0 where turns have no weights.
    pub fn leaves_out(&self, row: &RowView<'_>) -> bool {
        let in_pairs = matches!(self.schema, RowSchema::Alpaca | RowSchema::Firefly);
        let own = row.source() == self.schema.name();
        let unmarked = |turn: Spoken<'_>| turn.role == "assistant" && turn.weight == Some(0.0);
        // Its own row keeps the key that says so.
        !own && self.schema != RowSchema::Kto && row.label() == Some(false)
            || in_pairs && row.talk().any(unmarked) && !(own && self.keeps_layout(row))
    }

    /// Whether a row of the schema is written with the keys that it had, and so with what they say of weights.
    fn keeps_layout(&self, row: &RowView<'_>) -> bool {
        let extras = Extras::of(row.extra());
        extras.keys.is_some() && extras.fits(row) && (self.layout == Layout::Keep || !extras.is_moss())
    }

    /// Says why a row cannot be written in this schema, if it cannot.
    pub fn fits(&self, row: &RowView<'_>) -> Result<(), String> {
        let schema = self.schema;
        match (schema, row.text().is_some()) {
            (RowSchema::Text, true) => return Ok(()),
            (RowSchema::Text, false) => {
                return Err(format!("{schema} holds plain text, and row {} is a conversation", row.name()));
            }
            (_, true) => {
                return Err(format!("{schema} holds conversations, and row {} is plain text", row.name()));
            }
            _ => {}
        }
        let n = row.talk_len();
        match schema {
            RowSchema::Preference if !row.is_preference() => Err(format!(
                "{schema} holds a chosen and a rejected answer, and row {} has only one",
                row.name()
            )),
            RowSchema::Kto if row.label().is_none() => Err(format!(
                "{schema} holds answers that are labelled good or bad, and row {} has no label",
                row.name()
            )),
            RowSchema::Alpaca | RowSchema::Firefly => {
                let pair = |(i, turn): (usize, Spoken<'_>)| {
                    turn.role == ["user", "assistant"][i % 2] && !turn.content.trim().is_empty()
                };
                if n >= 2 && n.is_multiple_of(2) && row.talk().enumerate().all(pair) {
                    return Ok(());
                }
                let silent = |turn: &Spoken<'_>| turn.content.trim().is_empty();
                let name = |turn: Spoken<'_>| match turn.role {
                    role if silent(&turn) => format!("{role} (without a text)"),
                    role => role.to_string(),
                };
                let roles: Vec<String> = row.talk().take(20).map(name).collect();
                let more = if n > 20 { format!(" and {} more", n - 20) } else { String::new() };
                Err(format!(
                    "{schema} holds pairs of user and assistant, and row {} has the turns {}{more}",
                    row.name(),
                    roles.join(", ")
                ))
            }
            RowSchema::PromptCompletion | RowSchema::Kto
                if n < 2 || row.talk().last().is_none_or(|turn| turn.role != "assistant") =>
            {
                Err(format!("{schema} holds a prompt and an answer, and row {} has not both", row.name()))
            }
            _ => Ok(()),
        }
    }
}
