//! Where the prompt of a row ends.

use super::extras::Extras;
use crate::format::record::Node;
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;
use crate::format::schema::layout::{Hole, List, Who};

/// The keys of a prompt, and those of its completion.
const PROMPTS: [&str; 3] = ["prompt", "question", "query"];
const COMPLETIONS: [&str; 3] = ["completion", "response", "answer"];

/// How many turns at the beginning are a prompt, whose answers are context: of a preference those before
/// the chosen answer, of a labelled row those before the answer that is judged, of a prompt that is a
/// list of turns or a transcript all of it. A `history` beside a prompt is conversation, as other
/// trainers have it.
pub(crate) fn prompt_turns(row: &RowView<'_>) -> usize {
    let [messages, chosen, _] = row.counts();
    if chosen > 0 {
        return messages;
    }
    // A question and its answer.
    if messages <= 2 {
        return 0;
    }
    let source = row.source();
    let labelled = source == RowSchema::Kto.name() || row.label().is_some();
    if !labelled && source != RowSchema::PromptCompletion.name() {
        return 0;
    }
    let extras = Extras::of(row.extra());
    // Where turns were taken out since, the last answer is what is left to go by.
    let fits = extras.fits(row);
    let shape = |names: &[&str]| {
        let named = |(name, _): &(&str, &Node<'_>)| names.contains(&&*name.to_ascii_lowercase());
        extras.shapes().find(named).map(|(_, shape)| span(shape))
    };
    let end = if labelled {
        shape(&COMPLETIONS).map(|span| span.filter(|_| fits).map_or(messages - 1, |(start, _)| start))
    } else {
        shape(&PROMPTS).map(|span| span.map_or(0, |(_, end)| if fits { end } else { messages - 1 }))
    };
    end.unwrap_or(messages - 1).min(messages - 1)
}

/// Where the first and after the last turn of a list or of a transcript are; `None` of a text.
fn span(shape: &Node<'_>) -> Option<(usize, usize)> {
    if let Some(Hole::Turns { start, end, .. }) = shape.str().and_then(Hole::parse) {
        return Some((start as usize, end as usize));
    }
    let parts = shape.array().or_else(|| shape.get("+")?.array())?;
    let mut turns = Vec::new();
    parts.iter().for_each(|part| turns_of(part, &mut turns));
    Some((*turns.iter().min()?, turns.iter().max()? + 1))
}

/// The turns of the conversation that a shape names.
fn turns_of(shape: &Node<'_>, turns: &mut Vec<usize>) {
    let hole = shape.str().and_then(Hole::parse);
    if let Some(Hole::Turn(who, _) | Hole::Content(who, _) | Hole::Call(who)) = hole
        && let Who::At(List::Messages, turn) = who
    {
        turns.push(turn as usize);
    }
    let keys = shape.object().into_iter().flatten().filter(|(key, _)| key != "=");
    keys.for_each(|(_, value)| turns_of(value, turns));
    shape.array().into_iter().flatten().for_each(|value| turns_of(value, turns));
}
