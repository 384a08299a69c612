//! What to advise where a loss or a gradient is not finite.

use super::shared::RunState;
use crate::display::advice;
use crate::train::RunConfig;

/// The usual loss is the median of this many steps.
const RECENT: usize = 20;
/// A loss above this multiple of the usual one has diverged.
const FAR: f64 = 2.0;
/// The factor by which a rate is lowered that was always the same.
const LOWER: f64 = 10.0;

/// What happened to the update of the step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// There was none: the parameters before the step give these numbers.
    None,
    /// It was dropped, and the parameters before the step are sound.
    ThrownAway,
}

impl RunState {
    /// Advice that works as it is given: changes that hold at a step stay in force when a run goes back to it, so
    /// going back alone would repeat the same steps.
    pub fn way_on(&self, config: &RunConfig, update: Update) -> String {
        let done = self.place.step;
        let now = self.journal.settings(config, done + 1).lr;
        if update == Update::ThrownAway {
            let lr = lower(now, self.journal.settings(config, done.max(1)).lr);
            let code = format!("run.set_lr({lr})?; run.resume()? does it again at a lower learning rate");
            let command = format!("--resume --lr {lr} does it again at a lower learning rate");
            return format!("the step was thrown away: {}", advice(code, command));
        }
        if done == 0 {
            return "no step was done yet: the model or this row gives it, not the training".to_string();
        }
        let to = self.last_usual() - 1;
        let lr = lower(now, self.journal.settings(config, to.max(1)).lr);
        let code = format!(
            "run.rewind({to})?; run.set_lr({lr})?; run.resume()? goes back to step {to} and on at a lower learning rate"
        );
        let command = format!(
            "--resume --rewind {to} --lr {lr} goes back to step {to} and on at a lower learning rate"
        );
        advice(code, command)
    }

    /// The latest step whose loss was not far above the usual one: the parameters before it are sound.
    fn last_usual(&self) -> u64 {
        let recent = &self.history[self.history.len().saturating_sub(RECENT)..];
        let mut losses: Vec<f64> = recent.iter().map(|step| step.loss).collect();
        losses.sort_by(f64::total_cmp);
        let median = losses.get((losses.len().max(1) - 1) / 2).copied().unwrap_or(f64::INFINITY);
        // Where most of the latest have diverged, they are far above the first.
        let usual = self.history.first().map_or(median, |first| first.loss.min(median));
        let usual = self.history.iter().rev().find(|step| step.loss <= FAR * usual);
        usual.map_or(1, |step| step.step)
    }
}

/// A lower rate: that of earlier steps where it was lower, or else a tenth of the rate now.
pub(crate) fn lower(now: f64, before: f64) -> String {
    match before < now {
        true => format!("{before:e}"),
        false => format!("{:.1e}", (now / LOWER).min(RunConfig::default().lr)),
    }
}
