//! When a run has come to an end, and what state it is in then.

use super::config::RunConfig;
use super::shared::Public;
use super::status::State;

/// Steps whose losses a spike is measured against.
const BEFORE: usize = 20;

impl Public {
    /// The step after which the run is finished, if it has an end of its own.
    pub fn end(&self, config: &RunConfig) -> Option<u64> {
        self.journal.settings(config, self.place.step + 1).end()
    }

    /// Whether the end of the schedule is reached.
    pub fn has_ended(&self, config: &RunConfig) -> bool {
        self.end(config).is_some_and(|end| self.place.step >= end)
    }

    /// The evaluations so far: step and loss. One that is not a number is as none.
    fn evaluations(&self) -> impl Iterator<Item = (u64, f64)> {
        let all = self.history.iter().filter_map(|step| Some((step.step, step.eval_loss?)));
        all.filter(|(_, loss)| loss.is_finite())
    }

    /// Whether the last evaluation was the last that was waited for: so many in a row were no better
    /// than the best before.
    fn is_early(&self, config: &RunConfig) -> bool {
        let Some(patience) = config.patience else { return false };
        let losses: Vec<f64> = self.evaluations().map(|(_, loss)| loss).collect();
        let best = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let now = self.history.last().is_some_and(|step| step.eval_loss.is_some());
        now && best.is_some_and(|(best, _)| (losses.len() - 1 - best) as u64 >= patience)
    }

    /// Whether the goal is reached.
    pub fn is_reached(&self) -> bool {
        let recent = &self.history[self.history.len().saturating_sub(BEFORE)..];
        let losses: Vec<f64> = recent.iter().map(|step| step.loss).collect();
        self.goal.is_reached(self.place.step, self.place.seconds, &losses, self.place.eval_loss)
    }

    /// Whether there is nothing more to do.
    pub fn is_over(&self, config: &RunConfig) -> bool {
        self.has_ended(config) || self.is_early(config) || self.is_reached()
    }

    /// The state of a run that does nothing.
    pub fn rest(&mut self, config: &RunConfig) {
        self.state = match () {
            () if self.has_ended(config) || self.is_early(config) => State::Finished,
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

    /// Says that the loss of the last step is far above those before it, if that is to be said.
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
            format!(
                "paused: the loss of step {} is {:.3}, {:.1} times the median of the {BEFORE} before; rewind({}) goes back, resume() goes on",
                last.step,
                last.loss,
                last.loss / median,
                last.step - 1
            )
        })
    }
}
