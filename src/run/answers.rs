//! The answers to the prompts that a run is asked while it trains.

use crate::display::{Align, Bundle, Show, Table, Text, brief};
use serde::{Deserialize, Serialize};

/// What a run answered to a watched prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// After which step.
    pub step: u64,
    /// What was asked.
    pub prompt: String,
    /// What the model with the adapters of that step said.
    pub answer: String,
}

/// Answers to watched prompts along the steps; shows as a timeline.
#[derive(Clone, PartialEq, Eq)]
pub struct Answers(pub Vec<Answer>);

brief!(Answers);

impl Show for Answers {
    fn show(&self) -> Bundle {
        if self.0.is_empty() {
            return Text::new("no answers yet: run.watch(&[\"a question\"], 20)? asks every 20 steps").show();
        }
        let mut table =
            Table::new([("step", Align::Right), ("prompt", Align::Left), ("answer", Align::Left)]);
        for answer in &self.0 {
            table.row([answer.step.to_string(), answer.prompt.clone(), answer.answer.clone()]);
        }
        table.show()
    }
}
