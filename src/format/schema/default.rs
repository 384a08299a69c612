//! How each schema lays out a row by default: its keys, their order, and what stands there.

use super::layout::{Hole, Input, List, Shape, Style, Who};
use crate::format::record::{Node, Value};
use crate::format::row::{Spoken, made_up_id};
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;

/// What stands under a key of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Id,
    System,
    Tools,
    Text,
    Label,
    Turns,
    Instruction,
    Input,
    Output,
    History,
    Pairs,
    Prompt,
    Completion,
    Chosen,
    Rejected,
}

/// The keys of a schema in the order in which it is written.
pub(crate) fn fields(schema: RowSchema) -> &'static [(&'static str, Field)] {
    match schema {
        RowSchema::Alpaca => &[
            ("id", Field::Id),
            ("system", Field::System),
            ("instruction", Field::Instruction),
            ("input", Field::Input),
            ("output", Field::Output),
            ("history", Field::History),
            ("tools", Field::Tools),
        ],
        RowSchema::ShareGpt | RowSchema::BelleChat => {
            &[("id", Field::Id), ("conversations", Field::Turns), ("tools", Field::Tools)]
        }
        RowSchema::OpenAi => &[("id", Field::Id), ("messages", Field::Turns), ("tools", Field::Tools)],
        RowSchema::Firefly => &[
            ("id", Field::Id),
            ("system", Field::System),
            ("conversation", Field::Pairs),
            ("tools", Field::Tools),
        ],
        RowSchema::PromptCompletion => &[
            ("id", Field::Id),
            ("prompt", Field::Prompt),
            ("completion", Field::Completion),
            ("tools", Field::Tools),
        ],
        RowSchema::Text => &[("id", Field::Id), ("text", Field::Text)],
        RowSchema::Preference => &[
            ("id", Field::Id),
            ("prompt", Field::Prompt),
            ("chosen", Field::Chosen),
            ("rejected", Field::Rejected),
            ("tools", Field::Tools),
        ],
        RowSchema::Kto => &[
            ("id", Field::Id),
            ("prompt", Field::Prompt),
            ("completion", Field::Completion),
            ("label", Field::Label),
            ("tools", Field::Tools),
        ],
    }
}

/// What a row has under a key by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The key is left out.
    Nothing,
    Hole(Hole),
    /// An empty string.
    Empty,
}

impl Want {
    pub fn is(self, shape: &Shape<'_>) -> bool {
        match (self, shape) {
            (Self::Hole(wanted), Shape::Hole(hole)) => wanted == *hole,
            (Self::Empty, Shape::Literal(json)) => json == "\"\"",
            _ => false,
        }
    }
}

/// Whether rows of a schema always have an id.
pub(crate) fn needs_id(schema: RowSchema) -> bool {
    matches!(schema, RowSchema::ShareGpt | RowSchema::BelleChat)
}

/// Whether an id may be one that was made up from a row's position.
fn looks_made_up(id: &str) -> bool {
    id.strip_prefix("row-").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What a row has under the key of a field; `position` is its place in the output, from 1, where it
/// is written.
pub(crate) fn want(
    field: Field,
    schema: RowSchema,
    row: &RowView<'_>,
    input: Option<Input>,
    position: Option<u32>,
) -> Want {
    want_as(field, schema, row, input, position, Prompts::Texts)
}

/// How prompts and answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompts {
    /// As texts where that says all, or else as lists of turns.
    Texts,
    /// As lists of turns.
    Turns,
}

/// Like [`want`], with prompts and answers in one form.
pub(crate) fn want_as(
    field: Field,
    schema: RowSchema,
    row: &RowView<'_>,
    input: Option<Input>,
    position: Option<u32>,
    prompts: Prompts,
) -> Want {
    let are_strings = |schema, row: &RowView<'_>| prompts == Prompts::Texts && are_strings(schema, row);
    let [messages, chosen, rejected] = row.counts().map(|n| n as u32);
    let n = if schema == RowSchema::Preference { messages } else { messages + chosen };
    let message = |back: u32| Who::At(List::Messages, n.saturating_sub(back));
    let there = |there: bool, hole: Hole| if there { Want::Hole(hole) } else { Want::Nothing };
    let system = row.has_system();
    let turns = |system: bool, list: List, start: u32, end: u32| {
        let style = match schema {
            RowSchema::ShareGpt => Style::ShareGpt,
            RowSchema::BelleChat => Style::BelleChat,
            _ => Style::OpenAi,
        };
        Want::Hole(Hole::Turns { system, list, start, end, style })
    };
    let text = |list: List, i: u32| Want::Hole(Hole::Content(Who::At(list, i), None));
    match field {
        Field::Id if needs_id(schema) => Want::Hole(Hole::Id),
        Field::Id => {
            let made_up = |id: &str| match position {
                Some(position) => id == made_up_id(position),
                None => looks_made_up(id),
            };
            there(row.id().is_some_and(|id| !made_up(id)), Hole::Id)
        }
        Field::System => there(row.system().is_some(), Hole::Content(Who::System, None)),
        Field::Tools => match row.tools() {
            None => Want::Nothing,
            Some(tools) if writes_json(schema) && is_json(tools) => Want::Hole(Hole::ToolsJson),
            Some(_) => Want::Hole(Hole::Tools),
        },
        Field::Text => there(row.text().is_some(), Hole::Text),
        Field::Label => there(row.label().is_some(), Hole::Label),
        Field::Turns => turns(system, List::Messages, 0, n),
        // An edited text is no longer what both were joined from: it stands in the first of them that had some.
        Field::Instruction => Want::Hole(Hole::Content(message(2), input.map(Input::before))),
        Field::Input => match input {
            Some(input) => Want::Hole(Hole::Content(message(2), Some(input.after()))),
            None => Want::Empty,
        },
        Field::Output => Want::Hole(Hole::Content(message(1), None)),
        Field::History => there(n > 2, Hole::History),
        Field::Pairs => Want::Hole(Hole::Pairs),
        Field::Prompt if are_strings(schema, row) => text(List::Messages, 0),
        Field::Prompt if schema == RowSchema::Preference => turns(system, List::Messages, 0, n),
        Field::Prompt => turns(system, List::Messages, 0, n.saturating_sub(1)),
        Field::Completion if are_strings(schema, row) => text(List::Messages, 1),
        Field::Completion => turns(false, List::Messages, n.saturating_sub(1), n),
        Field::Chosen if are_strings(schema, row) => text(List::Chosen, 0),
        Field::Chosen => turns(false, List::Chosen, 0, chosen),
        Field::Rejected if are_strings(schema, row) => text(List::Rejected, 0),
        Field::Rejected => turns(false, List::Rejected, 0, rejected),
    }
}

/// Whether a schema has tools as JSON and not as a string that holds JSON.
fn writes_json(schema: RowSchema) -> bool {
    matches!(schema, RowSchema::OpenAi | RowSchema::PromptCompletion | RowSchema::Preference | RowSchema::Kto)
}

/// Whether a text is a JSON list or object.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_ascii_start().starts_with(['[', '{'])
        && Node::parse_own(text).is_ok_and(|node| matches!(node.value, Value::Array(_) | Value::Object(_)))
}

/// Whether prompt and answers are strings: one question, one answer, nothing beside them.
pub(crate) fn are_strings(schema: RowSchema, row: &RowView<'_>) -> bool {
    let plain = |list: List, i: u32, role: &str| {
        row.turn(Who::At(list, i)).is_some_and(|turn: Spoken<'_>| turn.role == role && turn.is_plain())
    };
    let answers = match (schema, row.counts()) {
        (RowSchema::Preference, [1, 1, 1]) => {
            plain(List::Chosen, 0, "assistant") && plain(List::Rejected, 0, "assistant")
        }
        (RowSchema::Preference, _) => false,
        (_, [messages, chosen, _]) => messages + chosen == 2 && plain(List::Messages, 1, "assistant"),
    };
    answers && !row.has_system() && plain(List::Messages, 0, "user")
}
