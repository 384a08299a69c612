//! Repairs of rows, and what every row must hold to.

use serde::{Deserialize, Serialize};

use super::problems::ProblemKind;
use super::schema::{Fault, Turn};
use crate::text::Role;

/// A set of repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fixes(u32);

/// What every conversation that is trained on must hold to.
pub(super) fn check(turns: &[Turn<'_>]) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else {
        return Err((ProblemKind::EmptyTurn, "the conversation has no turns".into()));
    };
    // A tool may well answer with nothing.
    let silent = |turn: &Turn<'_>| {
        turn.role != Role::Tool && turn.tool_calls.is_none() && turn.content.trim().is_empty()
    };
    if let Some(at) = turns.iter().position(silent) {
        let what = format!("turn {} of {} says nothing", at + 1, turns.len());
        return Err((ProblemKind::EmptyTurn, what.into()));
    }
    if first.role != Role::User {
        let what = format!("the first turn is of the role {}", first.role);
        return Err((ProblemKind::StartsWrong, what.into()));
    }
    if last.role != Role::Assistant {
        let what = format!("the last turn is of the role {}", last.role);
        return Err((ProblemKind::EndsWrong, what.into()));
    }
    Ok(())
}
