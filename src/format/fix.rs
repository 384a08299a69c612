//! The rules that every conversation must follow, and the repairs for those that do not.

mod choice;

use std::borrow::Cow;
use std::ops::BitOr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Role;
use super::problems::{Noted, Outcome, ProblemKind};
use super::record::Node;
use super::row::{Fault, REASONING, Turn};
use crate::display::advice;
use crate::error::Error;
pub(crate) use choice::examine_choice;

/// A repair of rows, applied by [`Dataset::fix`](crate::dataset::Dataset::fix).
///
/// # Examples
/// ```
/// use lorascope::format::{Fix, Fixes};
///
/// let fixes = Fix::Trim | Fix::DropTrailingUser;
/// assert!(fixes.has(Fix::Trim) && !fixes.has(Fix::MergeSameRole));
/// assert_eq!(serde_json::to_string(&fixes)?, r#"["trim","drop_trailing_user"]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fix {
    /// Replaces what JSON does not allow: invalid UTF-8 and unpaired surrogates by U+FFFD; NaN and the infinities, as
    /// Python writes them, by null.
    ReplaceInvalidUtf8,
    /// Removes control characters other than tab and line breaks.
    StripControl,
    /// Trims white space at both ends of every turn.
    Trim,
    /// Removes empty turns.
    DropEmptyTurns,
    /// Removes the turns before the user's first one.
    DropLeadingAssistant,
    /// Removes the turns after the assistant's last one.
    DropTrailingUser,
    /// Joins consecutive turns of the same speaker, with a line break between.
    MergeSameRole,
}

impl Fix {
    /// All repairs, in the order in which they are applied.
    pub const ALL: [Self; 7] = [
        Self::ReplaceInvalidUtf8,
        Self::StripControl,
        Self::Trim,
        Self::DropEmptyTurns,
        Self::DropLeadingAssistant,
        Self::DropTrailingUser,
        Self::MergeSameRole,
    ];

    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::ReplaceInvalidUtf8 => "replace-invalid-utf8",
            Self::StripControl => "strip-control",
            Self::Trim => "trim",
            Self::DropEmptyTurns => "drop-empty-turns",
            Self::DropLeadingAssistant => "drop-leading-assistant",
            Self::DropTrailingUser => "drop-trailing-user",
            Self::MergeSameRole => "merge-same-role",
        }
    }

    /// The repair that removes a problem.
    pub(crate) fn of(kind: ProblemKind) -> Option<Self> {
        Some(match kind {
            ProblemKind::InvalidUtf8 | ProblemKind::HalfSurrogate | ProblemKind::NotANumber => {
                Self::ReplaceInvalidUtf8
            }
            ProblemKind::ControlCharacters => Self::StripControl,
            ProblemKind::LeadingBreaks | ProblemKind::OuterSpace => Self::Trim,
            ProblemKind::EmptyTurn => Self::DropEmptyTurns,
            ProblemKind::StartsWrong => Self::DropLeadingAssistant,
            ProblemKind::EndsWrong => Self::DropTrailingUser,
            ProblemKind::SameRole => Self::MergeSameRole,
            _ => return None,
        })
    }

    /// Its name for the reader: in code, or as an option.
    pub(crate) fn name(self) -> &'static str {
        advice(self.code(), self.word())
    }

    fn code(self) -> &'static str {
        match self {
            Self::ReplaceInvalidUtf8 => "Fix::ReplaceInvalidUtf8",
            Self::StripControl => "Fix::StripControl",
            Self::Trim => "Fix::Trim",
            Self::DropEmptyTurns => "Fix::DropEmptyTurns",
            Self::DropLeadingAssistant => "Fix::DropLeadingAssistant",
            Self::DropTrailingUser => "Fix::DropTrailingUser",
            Self::MergeSameRole => "Fix::MergeSameRole",
        }
    }
}

impl FromStr for Fix {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|fix| fix.word() == word).ok_or_else(|| {
            Error::input(format_args!("no repair is called {word:?}"))
                .help(format_args!("there are {}", Self::ALL.map(Self::word).join(", ")))
        })
    }
}

/// A set of repairs: `Fix::Trim | Fix::DropTrailingUser`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "Vec<Fix>", from = "Vec<Fix>")]
pub struct Fixes(u8);

impl Fixes {
    /// All repairs.
    pub fn all() -> Self {
        Fix::ALL.to_vec().into()
    }

    /// Whether a repair is in the set.
    pub fn has(self, fix: Fix) -> bool {
        self.0 & 1 << fix as u8 != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Fix> for Fixes {
    fn from(fix: Fix) -> Self {
        Self(1 << fix as u8)
    }
}

impl From<Vec<Fix>> for Fixes {
    fn from(fixes: Vec<Fix>) -> Self {
        fixes.into_iter().fold(Self::default(), |all, fix| all | fix)
    }
}

impl From<Fixes> for Vec<Fix> {
    fn from(fixes: Fixes) -> Self {
        Fix::ALL.into_iter().filter(|fix| fixes.has(*fix)).collect()
    }
}

impl<T: Into<Fixes>> BitOr<T> for Fix {
    type Output = Fixes;
    fn bitor(self, other: T) -> Fixes {
        Fixes::from(self) | other
    }
}

impl<T: Into<Fixes>> BitOr<T> for Fixes {
    type Output = Self;
    fn bitor(self, other: T) -> Self {
        Self(self.0 | other.into().0)
    }
}

/// Repairs turns as `fixes` says and looks at what is left: the faults that were repaired or may
/// stay, or the one for which the row cannot be used.
pub(crate) fn examine(turns: &mut Vec<Turn<'_>>, fixes: Fixes) -> Result<Vec<Noted>, Fault> {
    if fixes.is_empty() && is_plain(turns) {
        return Ok(Vec::new());
    }
    let mut noted = tidy(turns, fixes);
    empty(turns, fixes, &mut noted)?;
    ends(turns, fixes, &mut noted)?;
    same_role(turns, fixes, &mut noted);
    Ok(noted)
}

/// Looks at each turn's text alone.
fn tidy(turns: &mut [Turn<'_>], fixes: Fixes) -> Vec<Noted> {
    let mut noted = Vec::new();
    controls(turns, fixes, &mut noted);
    trim(turns, fixes, &mut noted);
    noted
}

/// Like [`tidy`], for what the system says.
pub(crate) fn tidy_system(text: &mut Cow<'_, str>, fixes: Fixes) -> Vec<Noted> {
    let mut turn = [Turn::new(Role::System, std::mem::take(text))];
    let mut noted = tidy(&mut turn, fixes);
    let [turn] = turn;
    *text = turn.content.into_text();
    for (_, what, _) in &mut noted {
        let said = what.strip_prefix("turn 1").or_else(|| what.strip_prefix("a turn"));
        *what = format!("the system text{}", said.unwrap_or(what)).into();
    }
    noted
}

/// Like [`examine`], for a text that is no conversation.
pub(crate) fn examine_text(text: &mut Cow<'_, str>, fixes: Fixes) -> Result<Vec<Noted>, Fault> {
    let mut turn = [Turn::new(Role::Assistant, std::mem::take(text))];
    let noted = tidy(&mut turn, fixes);
    let [turn] = turn;
    *text = turn.content.into_text();
    match text.trim().is_empty() {
        true => Err((ProblemKind::EmptyTurn, "the text says nothing".into())),
        false => Ok(noted),
    }
}

/// The ordinary row at a glance: user and assistant in turn, none empty, nothing odd in them.
fn is_plain(turns: &[Turn<'_>]) -> bool {
    let role = |n: usize| if n.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let plain = |(n, turn): (usize, &Turn<'_>)| {
        turn.role == role(n)
            && turn.content.bytes().next().is_some_and(|byte| byte > b' ' && byte < 0x80)
            && turn.content.bytes().next_back().is_some_and(|byte| byte > b' ' && byte < 0x80)
            && !has_controls(&turn.content)
    };
    !turns.is_empty() && turns.len().is_multiple_of(2) && turns.iter().enumerate().all(plain)
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// Like `any(is_control)`, over bytes: C0, DEL, and C1 as U+0080 to U+009F are encoded.
fn has_controls(text: &str) -> bool {
    // Without branches, so that the compiler makes vectors of it.
    let odd =
        |byte: u8| (byte < 0x20) as u8 & !matches!(byte, b'\n' | b'\r' | b'\t') as u8 | (byte == 0x7f) as u8;
    text.as_bytes().chunks(64).any(|part| part.iter().fold(0, |found, &byte| found | odd(byte)) != 0)
        || memchr::memchr_iter(0xc2, text.as_bytes())
            .any(|at| text.as_bytes().get(at + 1).is_some_and(|next| (0x80..0xa0).contains(next)))
}

fn controls(turns: &mut [Turn<'_>], fixes: Fixes, noted: &mut Vec<Noted>) {
    let odd: Vec<usize> = (0..turns.len()).filter(|&n| has_controls(&turns[n].content)).collect();
    let Some(&at) = odd.first() else { return };
    let found = turns[at].content.chars().find(|c| is_control(*c)).unwrap_or_default();
    let what = format!("turn {} holds the control character U+{:04X}", at + 1, found as u32);
    let repaired = fixes.has(Fix::StripControl);
    for n in odd.into_iter().filter(|_| repaired) {
        turns[n].content = turns[n].content.replace(is_control, "").into();
    }
    noted.push((ProblemKind::ControlCharacters, what.into(), Outcome::kept(repaired)));
}

fn trim(turns: &mut [Turn<'_>], fixes: Fixes, noted: &mut Vec<Noted>) {
    let repaired = fixes.has(Fix::Trim);
    if turns.iter().any(|turn| turn.content.starts_with(['\n', '\r'])) {
        let what = "a turn begins with line breaks".into();
        noted.push((ProblemKind::LeadingBreaks, what, Outcome::kept(repaired)));
    }
    let outer = |turn: &Turn<'_>| turn.content.trim_start_matches(['\n', '\r']) != turn.content.trim();
    if repaired && turns.iter().any(outer) {
        let what = "a turn begins or ends with white space".into();
        noted.push((ProblemKind::OuterSpace, what, Outcome::Repaired));
    }
    for turn in turns.iter_mut().filter(|_| repaired) {
        if turn.content.trim().len() < turn.content.len() {
            turn.content = match std::mem::take(&mut turn.content).into_text() {
                Cow::Borrowed(text) => text.trim().into(),
                Cow::Owned(text) => text.trim().to_string().into(),
            };
        }
    }
}

/// Whether a turn says nothing; a tool may well answer so.
fn silent(turn: &Turn<'_>) -> bool {
    let quiet = turn.role != Role::Tool && turn.tool_calls.is_none() && turn.content.trim().is_empty();
    quiet && !turn.extra.as_deref().is_some_and(thinks)
}

fn empty(turns: &mut Vec<Turn<'_>>, fixes: Fixes, noted: &mut Vec<Noted>) -> Result<(), Fault> {
    if let Some(at) = turns.iter().position(silent) {
        let what = format!("turn {} of {} says nothing", at + 1, turns.len());
        if !fixes.has(Fix::DropEmptyTurns) {
            return Err((ProblemKind::EmptyTurn, what.into()));
        }
        turns.retain(|turn| !silent(turn));
        noted.push((ProblemKind::EmptyTurn, what.into(), Outcome::Repaired));
    }
    match turns.is_empty() {
        true => Err((ProblemKind::EmptyTurn, "the conversation has no turns".into())),
        false => Ok(()),
    }
}

fn ends(turns: &mut Vec<Turn<'_>>, fixes: Fixes, noted: &mut Vec<Noted>) -> Result<(), Fault> {
    if turns[0].role != Role::User {
        let what = format!("the first turn is of the role {}", turns[0].role);
        let first = turns.iter().position(|turn| turn.role == Role::User);
        // What a system says is no answer that stands too early.
        if turns[..first.unwrap_or(turns.len())].iter().any(|turn| turn.role == Role::System) {
            let what = "a second system text stands before the user's first turn: put both into one";
            return Err((ProblemKind::WrongType, what.into()));
        }
        match first.filter(|_| fixes.has(Fix::DropLeadingAssistant)) {
            Some(first) => drop(turns.drain(..first)),
            None => return Err((ProblemKind::StartsWrong, what.into())),
        }
        noted.push((ProblemKind::StartsWrong, what.into(), Outcome::Repaired));
    }
    let last = turns.len() - 1;
    if turns[last].role != Role::Assistant {
        let what = format!("the last turn is of the role {}", turns[last].role);
        let answer = turns.iter().rposition(|turn| turn.role == Role::Assistant);
        match answer.filter(|_| fixes.has(Fix::DropTrailingUser)) {
            Some(answer) => turns.truncate(answer + 1),
            None => return Err((ProblemKind::EndsWrong, what.into())),
        }
        noted.push((ProblemKind::EndsWrong, what.into(), Outcome::Repaired));
    }
    Ok(())
}

/// Whether the other keys of a turn hold reasoning.
pub(crate) fn thinks(extra: &str) -> bool {
    let keys = Node::parse_own(extra).ok();
    let thought = |key: &str| keys.as_ref()?.get(key)?.str();
    REASONING.into_iter().filter_map(thought).any(|text| !text.trim().is_empty())
}

/// Tools may answer one after the other, and an assistant that called one may go on speaking.
fn same_role(turns: &mut Vec<Turn<'_>>, fixes: Fixes, noted: &mut Vec<Noted>) {
    let alike = |a: &Turn<'_>, b: &Turn<'_>| {
        a.role == b.role && a.role != Role::Tool && a.tool_calls.is_none() && b.tool_calls.is_none()
    };
    let Some(at) = turns.windows(2).position(|pair| alike(&pair[0], &pair[1])) else { return };
    let what = format!("turns {} and {} are both of the role {}", at + 1, at + 2, turns[at].role);
    let before = turns.len();
    if fixes.has(Fix::MergeSameRole) {
        let mut merged: Vec<Turn<'_>> = Vec::with_capacity(turns.len());
        for turn in turns.drain(..) {
            match merged.last_mut().filter(|last| alike(last, &turn) && is_same_beside(last, &turn)) {
                Some(last) => last.content = format!("{}\n{}", last.content, turn.content).into(),
                None => merged.push(turn),
            }
        }
        *turns = merged;
    }
    let merged = turns.len() < before;
    if merged {
        noted.push((ProblemKind::SameRole, what.into(), Outcome::Repaired));
    }
    // Turns that have different things beside their texts stay apart.
    if let Some(at) = turns.windows(2).position(|pair| alike(&pair[0], &pair[1])) {
        let beside = if merged || fixes.has(Fix::MergeSameRole) {
            ", and have other things beside their texts"
        } else {
            ""
        };
        let what = format!("turns {} and {} are both of the role {}{beside}", at + 1, at + 2, turns[at].role);
        noted.push((ProblemKind::SameRole, what.into(), Outcome::Kept));
    }
}

/// Whether two turns have the same beside their texts.
fn is_same_beside(a: &Turn<'_>, b: &Turn<'_>) -> bool {
    a.name == b.name
        && a.weight == b.weight
        && a.tool_call_id == b.tool_call_id
        && a.extra == b.extra
        && a.null_content == b.null_content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_found_in_every_place() {
        for text in ["a\u{1}", "\u{7f}", "é\u{85}", "\u{9f}x"] {
            assert!(has_controls(text) && text.chars().any(is_control), "{text:?}");
        }
        for text in ["", "a\tb\r\n", "é \u{a0}中文", "\u{c2}"] {
            assert!(!has_controls(text) && !text.chars().any(is_control), "{text:?}");
        }
        for c in (0..0x250).filter_map(char::from_u32) {
            assert_eq!(has_controls(&c.to_string()), is_control(c), "U+{:04X}", c as u32);
        }
    }
}
