//! When training ends by itself: goal, end of the schedule, patience, a spike. (`Run::stop` is in `control.rs`.)

use super::diverged::lower;
use super::shared::RunState;
use super::status::{Ending, State};
use crate::display::advice;
use crate::train::RunConfig;

/// Steps whose losses a spike is measured against.
const BEFORE: usize = 20;

impl RunState {
    /// The step after which the run is finished, if it has an end of its own.
    pub fn end(&self, config: &RunConfig) -> Option<u64> {
        self.journal.settings(config, self.place.step + 1).end()
    }

    /// Whether the end of the schedule is reached.
    pub fn has_ended(&self, config: &RunConfig) -> bool {
        self.end(config).is_some_and(|end| self.place.step >= end)
    }

    /// The evaluations so far: step and loss. Losses that are not finite do not count.
    fn evaluations(&self) -> impl Iterator<Item = (u64, f64)> {
        let all = self.history.iter().filter_map(|step| Some((step.step, step.eval_loss?)));
        all.filter(|(_, loss)| loss.is_finite())
    }

    /// The step with the best evaluation and how many evaluations came after it; the first of equal ones.
    pub fn best(&self) -> Option<(u64, u64)> {
        let all: Vec<(u64, f64)> = self.evaluations().collect();
        let best = all.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
        Some((best.1.0, (all.len() - 1 - best.0) as u64))
    }

    /// Why the run is finished, whatever its goal: its schedule has ended, or as many evaluations in a row as its
    /// patience were no better than the best before.
    pub fn ending(&self, config: &RunConfig) -> Option<Ending> {
        if self.has_ended(config) {
            return Some(Ending::Rate { step: self.place.step });
        }
        let patience = self.journal.settings(config, self.place.step + 1).patience?;
        let now = self.history.last().is_some_and(|step| step.eval_loss.is_some());
        let (best, evaluations) = self.best().filter(|_| now)?;
        (evaluations >= patience).then_some(Ending::Early { evaluations, best })
    }

    /// Whether the goal is reached.
    pub fn is_reached(&self) -> bool {
        let recent = &self.history[self.history.len().saturating_sub(BEFORE)..];
        let losses: Vec<f64> = recent.iter().map(|step| step.loss).collect();
        self.goal.is_reached(self.place.step, self.place.seconds, &losses, self.place.eval_loss)
    }

    /// Whether there is nothing more to do.
    pub fn is_over(&self, config: &RunConfig) -> bool {
        self.ending(config).is_some() || self.is_reached()
    }

    /// Sets the state of a run that does not train.
    pub fn rest(&mut self, config: &RunConfig) {
        self.state = match () {
            () if self.ending(config).is_some() => State::Finished,
            () if self.is_reached() => State::Idle,
            () => State::Paused,
        };
    }

    /// Whether the last evaluation was the best so far.
    pub fn is_best(&self) -> bool {
        let Some((last, earlier)) = self.history.split_last() else { return false };
        let mut earlier = earlier.iter().filter_map(|step| step.eval_loss.filter(|loss| loss.is_finite()));
        last.eval_loss.is_some_and(|loss| loss.is_finite() && earlier.all(|other| loss < other))
    }

    /// A note where the loss of the last step is far above those before it, and the config asks for it.
    pub fn spike(&self, config: &RunConfig) -> Option<String> {
        let factor = config.spike?;
        let (last, earlier) = self.history.split_last()?;
        let mut before: Vec<f64> = earlier.iter().rev().take(BEFORE).map(|step| step.loss).collect();
        if before.len() < BEFORE {
            return None;
        }
        before.sort_by(f64::total_cmp);
        let median = before[BEFORE / 2];
        (last.loss > factor * median).then(|| {
            let back = last.step - 1;
            let now = self.journal.settings(config, last.step + 1).lr;
            let lr = lower(now, self.journal.settings(config, back.max(1)).lr);
            format!(
                "paused: the loss of step {} is {:.3}, {:.1} times the median of the {BEFORE} before; {}",
                last.step,
                last.loss,
                last.loss / median,
                advice(
                    format!(
                        "run.resume()? goes on; run.rewind({back})?; run.set_lr({lr})?; run.resume()? goes back and continues at a lower learning rate"
                    ),
                    format!(
                        "--resume goes on, --resume --rewind {back} --lr {lr} goes back and continues at a lower learning rate"
                    )
                )
            )
        })
    }
}
