//! The same of a prompt with two answers: each of the three lists is repaired by itself.

use super::{Fix, Fixes, examine, same_role, silent, tidy};
use crate::format::Role;
use crate::format::problems::{Noted, Outcome, ProblemKind};
use crate::format::row::{Fault, Turn};

/// Repairs a prompt and its `chosen` and its `rejected` answer as `fixes` says, and looks at both conversations
/// that are left.
pub(crate) fn examine_choice<'a>(
    prompt: &mut Vec<Turn<'a>>,
    chosen: &mut Vec<Turn<'a>>,
    rejected: &mut Vec<Turn<'a>>,
    fixes: Fixes,
) -> Result<Vec<Noted>, Fault> {
    let mut noted = Vec::new();
    for turns in [&mut *prompt, &mut *chosen, &mut *rejected] {
        noted.extend(tidy(turns, fixes));
        drop_silent(turns, fixes, &mut noted);
    }
    start(prompt, fixes, &mut noted);
    for (name, answer) in [("chosen", &mut *chosen), ("rejected", &mut *rejected)] {
        end(name, answer, fixes, &mut noted);
    }
    if fixes.has(Fix::MergeSameRole) {
        for turns in [&mut *prompt, &mut *chosen, &mut *rejected] {
            same_role(turns, fixes, &mut noted);
        }
    }
    let mut found: Vec<Vec<Noted>> = Vec::new();
    for (name, answer) in [("chosen", chosen), ("rejected", rejected)] {
        let mut turns: Vec<Turn<'_>> = prompt.iter().chain(answer.iter()).cloned().collect();
        let left = examine(&mut turns, Fixes::default());
        found.push(left.map_err(|(kind, what)| (kind, format!("{name}: {what}").into()))?);
    }
    // A fault of the prompt is found twice.
    for (n, name) in ["chosen", "rejected"].into_iter().enumerate() {
        noted.extend(found[n].iter().map(|(kind, what, outcome)| {
            match found[1 - n].iter().any(|f| f.1 == *what) {
                true => (*kind, what.clone(), *outcome),
                false => (*kind, format!("{name}: {what}").into(), *outcome),
            }
        }));
    }
    // One that is left counts before those that are repaired.
    noted.sort_by_key(|(kind, _, outcome)| (*kind, *outcome));
    noted.dedup_by_key(|(kind, _, outcome)| (*kind, *outcome));
    Ok(noted)
}

fn drop_silent(turns: &mut Vec<Turn<'_>>, fixes: Fixes, noted: &mut Vec<Noted>) {
    if fixes.has(Fix::DropEmptyTurns)
        && let Some(at) = turns.iter().position(silent)
    {
        let what = format!("turn {} of {} says nothing", at + 1, turns.len());
        turns.retain(|turn| !silent(turn));
        noted.push((ProblemKind::EmptyTurn, what.into(), Outcome::Repaired));
    }
}

/// Drops what stands before the user's first turn; a system's turn is none that stands too early.
fn start(prompt: &mut Vec<Turn<'_>>, fixes: Fixes, noted: &mut Vec<Noted>) {
    let first = prompt.iter().position(|turn| turn.role == Role::User).filter(|first| *first > 0);
    if let Some(first) = first.filter(|_| fixes.has(Fix::DropLeadingAssistant))
        && !prompt[..first].iter().any(|turn| turn.role == Role::System)
    {
        let what = format!("the first turn is of the role {}", prompt[0].role);
        prompt.drain(..first);
        noted.push((ProblemKind::StartsWrong, what.into(), Outcome::Repaired));
    }
}

/// Drops what stands after the assistant's last turn.
fn end(name: &str, answer: &mut Vec<Turn<'_>>, fixes: Fixes, noted: &mut Vec<Noted>) {
    let last = answer.iter().rposition(|turn| turn.role == Role::Assistant);
    if let Some(last) = last.filter(|last| fixes.has(Fix::DropTrailingUser) && last + 1 < answer.len()) {
        let what = format!("{name}: the last turn is of the role {}", answer[answer.len() - 1].role);
        answer.truncate(last + 1);
        noted.push((ProblemKind::EndsWrong, what.into(), Outcome::Repaired));
    }
}
