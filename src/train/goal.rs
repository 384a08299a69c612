//! When training stops.

use crate::display::duration;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What ends the training that [`Run::start_until`](crate::run::Run::start_until) begins: whichever comes
/// first.
///
/// # Examples
/// ```
/// use lorascope::train::Until;
///
/// let until = Until::loss_below(1.5).max_steps(2000);
/// assert_eq!(until.to_string(), "until the loss is below 1.5 or after 2000 steps");
/// assert!(Until::loss_below(f64::NAN).check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Until {
    /// So many steps more.
    pub steps: Option<u64>,
    /// So many seconds of training more; pauses do not count.
    pub seconds: Option<f64>,
    /// The mean loss of the latest ten steps is below this, in nats.
    pub loss: Option<f64>,
    /// The loss on the evaluation rows is below this, in nats.
    pub eval_loss: Option<f64>,
}

impl Until {
    /// So many steps.
    pub fn steps(steps: u64) -> Self {
        Self { steps: Some(steps), ..Self::default() }
    }

    /// Until the mean loss of the latest ten steps is below this.
    pub fn loss_below(loss: f64) -> Self {
        Self { loss: Some(loss), ..Self::default() }
    }

    /// Until the loss on the evaluation rows is below this.
    pub fn eval_loss_below(loss: f64) -> Self {
        Self { eval_loss: Some(loss), ..Self::default() }
    }

    /// So long, as `20min`, `1h30min`, `45 s`, or a number of seconds.
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn time(text: &str) -> Result<Self> {
        Ok(Self { seconds: Some(seconds(text)?), ..Self::default() })
    }

    /// At most so many steps.
    #[must_use]
    pub fn max_steps(mut self, steps: u64) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Validates the values.
    ///
    /// # Errors
    /// When nothing is asked for, or a number is not positive.
    pub fn check(&self) -> Result<()> {
        let numbers = [self.seconds, self.loss, self.eval_loss];
        if numbers.iter().flatten().any(|number| !(number.is_finite() && *number > 0.0)) {
            return Err(Error::input(format!("{self}")).help("give positive numbers"));
        }
        match *self == Self::default() {
            true => Err(Error::input("nothing says when to stop").help("Until::steps(100) does")),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.loss.map(|loss| format!("until the loss is below {loss}")),
            self.eval_loss.map(|loss| format!("until the loss in evaluation is below {loss}")),
            self.seconds
                .and_then(|s| Duration::try_from_secs_f64(s).ok())
                .map(|s| format!("for {}", duration(s))),
            self.steps.map(|steps| format!("after {steps} steps")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" or "))
    }
}

/// The end of a training, counted from the run's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Goal {
    /// After this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// When so many seconds were spent in steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// When the mean loss of the latest ten steps is below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// When the loss on the evaluation rows is below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
}

/// Steps whose mean loss counts.
const RECENT: usize = 10;

impl Goal {
    /// The goal of a run that has done `step` steps in `seconds`.
    pub fn from(step: u64, seconds: f64, until: Until) -> Self {
        Self {
            step: until.steps.map(|steps| step.saturating_add(steps)),
            seconds: until.seconds.map(|more| seconds + more),
            loss: until.loss,
            eval_loss: until.eval_loss,
        }
    }

    /// No step is to be done.
    pub fn none(step: u64) -> Self {
        Self { step: Some(step), ..Self::default() }
    }

    /// Whether it is reached after `step` steps with these latest losses.
    pub fn is_reached(&self, step: u64, seconds: f64, losses: &[f64], eval_loss: Option<f64>) -> bool {
        let recent = &losses[losses.len().saturating_sub(RECENT)..];
        let mean = recent.iter().sum::<f64>() / recent.len().max(1) as f64;
        *self == Self::default()
            || self.step.is_some_and(|last| step >= last)
            || self.seconds.is_some_and(|limit| seconds >= limit)
            || self.loss.is_some_and(|limit| recent.len() == RECENT && mean < limit)
            || self.eval_loss.zip(eval_loss).is_some_and(|(limit, loss)| loss < limit)
    }
}

/// The seconds of `20min`, `1h 30min`, `45s` or `90`.
fn seconds(text: &str) -> Result<f64> {
    let wrong = || Error::input(format!("{text:?} is no duration")).help("say 45s, 20min, 2h or 1h30min");
    let mut rest = text.trim();
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        sum += number
            * match &rest[..letters] {
                "" | "s" | "sec" | "seconds" => 1.0,
                "m" | "min" | "minutes" => 60.0,
                "h" | "hours" | "hour" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = rest[letters..].trim_start();
    }
    if sum > 0.0 && sum.is_finite() { Ok(sum) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected) in
            [("20min", 1200.0), ("1h30min", 5400.0), ("45 s", 45.0), ("90", 90.0), ("0.5h", 1800.0)]
        {
            assert_eq!(seconds(text).unwrap(), expected, "{text}");
        }
        for text in ["", "min", "-3s", "3 weeks", "1..5h", "0s"] {
            assert!(seconds(text).unwrap_err().to_string().contains("is no duration"), "{text}");
        }
    }

    #[test]
    fn whichever_comes_first() {
        let goal = Goal::from(
            10,
            5.0,
            Until { steps: Some(20), seconds: Some(60.0), loss: Some(1.0), eval_loss: None },
        );
        let high = [2.0; 10];
        assert!(!goal.is_reached(29, 64.0, &high, None));
        assert!(goal.is_reached(30, 6.0, &high, None));
        assert!(goal.is_reached(11, 65.0, &high, None));
        assert!(goal.is_reached(11, 6.0, &[0.9; 10], None));
        assert!(!goal.is_reached(11, 6.0, &[0.9; 9], None), "nine steps say too little");
    }
}
