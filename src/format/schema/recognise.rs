//! Tells values that hold turns without naming their speakers from other values.

use crate::format::record::Node;

/// Whether a value is an object of turns as MOSS has them.
pub(super) fn is_moss(node: &Node<'_>) -> bool {
    let turn = node.object().and_then(|turns| turns.first());
    turn.is_some_and(|(_, turn)| turn.get("Human").is_some() && turn.get("MOSS").is_some())
}

/// Whether a list holds texts only, and some.
pub(super) fn texts(values: &[Node<'_>]) -> bool {
    !values.is_empty() && values.iter().all(|value| value.str().is_some())
}
