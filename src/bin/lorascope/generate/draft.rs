//! A problem before it is put in words.

use super::draw::Draw;

/// A kind of problem: its name, and what makes one.
pub(super) struct ExerciseKind(pub &'static str, pub fn(&mut Draw) -> Draft);

/// A problem before it is put in words: steps end in an equation, `done` in the value.
pub(super) struct Draft {
    pub question: String,
    pub steps: Vec<String>,
    pub done: String,
    pub value: String,
}

pub(super) fn draft<const N: usize>(question: String, steps: [String; N], done: String, value: i64) -> Draft {
    Draft { question, steps: steps.into(), done, value: value.to_string() }
}

/// A number of tenths as a decimal.
pub(super) fn tenths(number: i64) -> String {
    match number % 10 {
        0 => (number / 10).to_string(),
        rest => format!("{}.{rest}", number / 10),
    }
}
