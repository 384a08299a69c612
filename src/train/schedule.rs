//! The schedule of the learning rate.

use crate::display::advice;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Linear warm-up, then a [shape](Shape) that ends at `total`; after it the rate stays what it is there.
///
/// With w = `warmup`, T = `total`, e = `last` and the step s counted from 1, the factor on the peak rate is
/// s/w up to step w, and then e + (1 − e)·f(x): f(x) = 1 − x of a line, ½(1 + cos πx) of a cosine. A rate that
/// ends above 0 has reached it at the last step: x = (s − b)/(T − b), where b is w, and T − `decay` of
/// [`Wsd`](Shape::Wsd). One that falls to 0 would train its last step for nothing; its line reaches 0 one step
/// later: x = (s − 1 − b)/(T − b), so that the last step has 1/(T − b). This is what
/// `get_linear_schedule_with_warmup` and `get_wsd_schedule` of Hugging Face transformers do, and
/// [`Run::cooldown`](crate::run::Run::cooldown). Runs whose folder was made before keep their rates ([`ReachesZero`]).
///
/// # Examples
/// ```
/// use lorascope::train::{Schedule, Shape};
///
/// let constant = Schedule::default();
/// assert_eq!((constant.factor(5), constant.factor(1000)), (0.5, 1.0));
/// let cosine = Schedule { warmup: 0, ..Schedule::to(Shape::Cosine, 100) };
/// assert!((cosine.factor(50) - 0.55).abs() < 1e-12 && (cosine.factor(100) - 0.1).abs() < 1e-12);
/// let linear = Schedule { warmup: 0, ..Schedule::to(Shape::Linear, 100) };
/// assert_eq!((linear.factor(1), linear.factor(26)), (1.0, 0.75));
/// assert!((linear.factor(100) - 1.0 / 100.0).abs() < 1e-12);
/// let wsd = Schedule::to(Shape::Wsd { decay: None }, 100);
/// assert_eq!((wsd.factor(81), wsd.factor(91)), (1.0, 0.5));
/// assert!((wsd.factor(100) - 1.0 / 20.0).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Steps of the linear warm-up, from 0 to the peak learning rate.
    pub warmup: u64,
    /// The shape after the warm-up.
    pub shape: Shape,
    /// The step at which the shape ends; a constant rate has none.
    pub total: Option<u64>,
    /// The factor on the peak rate at `total`; `None` is the default: 0.1 for a cosine, 0 for the
    /// other shapes, which is reached one step later.
    pub last: Option<f64>,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// It stays constant.
    #[default]
    Constant,
    /// It falls linearly.
    Linear,
    /// It falls along half a cosine (Loshchilov & Hutter 2017, *SGDR*, eq. 5).
    Cosine,
    /// Warm-up, stable, decay: it stays, and falls along a line in the last steps (Hu et al. 2024,
    /// *MiniCPM*, §4.2; Hägele et al. 2024, *Scaling Laws and Compute-Optimal Training Beyond Fixed
    /// Training Durations*, §3).
    Wsd {
        /// How many steps those are; `None` takes a fifth of the total.
        decay: Option<u64>,
    },
}

/// The step at which a learning rate that falls to 0 reaches it. It is part of what a run is: one that an earlier
/// version began goes on bit by bit as it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReachesZero {
    /// At the last step, which then changes nothing. Runs whose folder does not say did so.
    #[default]
    AtLastStep,
    /// One step after the last.
    AfterLastStep,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warmup: 10, shape: Shape::Constant, total: None, last: None }
    }
}

impl Schedule {
    /// A shape that ends at a step, after the default warm-up.
    pub fn to(shape: Shape, total: u64) -> Self {
        Self { shape, total: Some(total), ..Self::default() }
    }

    /// The step at which it ends; `None` where it has no end.
    pub fn end(&self) -> Option<u64> {
        self.total.filter(|_| self.shape != Shape::Constant)
    }

    /// The factor on the peak learning rate at a step, counted from 1.
    pub fn factor(&self, step: u64) -> f64 {
        self.factor_as(step, ReachesZero::AfterLastStep)
    }

    /// The same factor in a run of this or of an earlier version.
    pub(crate) fn factor_as(&self, step: u64, reaches_zero: ReachesZero) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let Some(total) = self.total else { return 1.0 };
        let begin = match self.shape {
            Shape::Constant => return 1.0,
            Shape::Linear | Shape::Cosine => self.warmup,
            Shape::Wsd { decay } => total.saturating_sub(decay.unwrap_or_else(|| usual_decay(total))),
        };
        let span = total.saturating_sub(begin).max(1) as f64;
        let last = self.last.unwrap_or(if self.shape == Shape::Cosine { 0.1 } else { 0.0 });
        let later = u64::from(last == 0.0 && reaches_zero == ReachesZero::AfterLastStep);
        let along = (step.saturating_sub(begin + later) as f64 / span).min(1.0);
        let left = match self.shape {
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * along).cos()),
            _ => 1.0 - along,
        };
        last + (1.0 - last) * left
    }

    /// Validates the values.
    ///
    /// # Errors
    /// When a shape has no end or a constant rate has one, when the steps do not fit into the total, and
    /// when the last share does not lie between 0 and 1; the error names the values.
    pub fn check(&self) -> Result<()> {
        let Self { warmup, shape, total, last } = self;
        if let Some(last) = last.filter(|last| !(0.0..=1.0).contains(last)) {
            return Err(Error::input(format!("the learning rate ends at {last} of its peak"))
                .help("give a share from 0 to 1"));
        }
        let total = match (shape, total) {
            (Shape::Constant, None) => return Ok(()),
            (Shape::Constant, Some(total)) => {
                return Err(Error::input(format!(
                    "a constant learning rate has no end, not at step {total}"
                ))
                .help(advice(
                    format!("RunConfig::default().cosine({total}) lets it fall along a cosine"),
                    format!("cosine:{total} lets it fall along a cosine"),
                )));
            }
            (shape, None) => {
                return Err(Error::input(format!(
                    "the learning rate falls ({shape:?}), but no step ends it"
                ))
                .help("give the total"));
            }
            (_, Some(total)) => *total,
        };
        if total <= *warmup {
            return Err(Error::input(format!(
                "the learning rate rises for {warmup} steps, but training ends at step {total}"
            ))
            .help("give a total above the warm-up"));
        }
        let decay = match shape {
            Shape::Wsd { decay } => decay.unwrap_or_else(|| usual_decay(total)),
            _ => return Ok(()),
        };
        if decay == 0 {
            return Err(Error::input("the learning rate falls in 0 steps").help("give at least 1"));
        }
        if warmup.saturating_add(decay) > total {
            return Err(Error::input(format!(
                "the learning rate rises for {warmup} steps and falls for {decay}, more than the {total} that there are"
            ))
            .help("give a smaller warm-up or decay, or a larger total"));
        }
        Ok(())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { warmup, shape, total, last } = self;
        let last = last.unwrap_or(if *shape == Shape::Cosine { 0.1 } else { 0.0 });
        let to = match last {
            0.0 => "0".to_string(),
            last => format!("{last} of its peak"),
        };
        let total = total.unwrap_or_default();
        match shape {
            Shape::Constant => f.write_str("the learning rate is constant")?,
            Shape::Linear => write!(f, "the learning rate falls along a line to {to} until step {total}")?,
            Shape::Cosine => write!(f, "the learning rate falls along a cosine to {to} until step {total}")?,
            Shape::Wsd { decay } => {
                let decay = decay.unwrap_or_else(|| usual_decay(total));
                write!(
                    f,
                    "the learning rate stays, and falls in the last {decay} steps to {to} until step {total}"
                )?;
            }
        }
        match warmup {
            0 => Ok(()),
            1 => f.write_str(", after 1 step of warm-up"),
            warmup => write!(f, ", after {warmup} steps of warm-up"),
        }
    }
}

/// The default length of the decay: a fifth of the steps.
fn usual_decay(total: u64) -> u64 {
    (total / 5).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(schedule: &Schedule, steps: &[u64]) -> Vec<f64> {
        steps.iter().map(|step| (schedule.factor(*step) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn each_shape_begins_and_ends_where_it_should() {
        let at = |shape, last| Schedule { warmup: 10, shape, total: Some(110), last };
        let steps = [0, 1, 9, 10, 60, 110, 111, u64::MAX];
        let of = |shape, last| factors(&at(shape, last), &steps);
        assert_eq!(of(Shape::Linear, None), [0.0, 0.1, 0.9, 1.0, 0.51, 0.01, 0.0, 0.0]);
        assert_eq!(of(Shape::Linear, Some(0.2)), [0.0, 0.1, 0.9, 1.0, 0.6, 0.2, 0.2, 0.2]);
        assert_eq!(of(Shape::Cosine, None), [0.0, 0.1, 0.9, 1.0, 0.55, 0.1, 0.1, 0.1]);
        let begin = 0.5 * (1.0 + (std::f64::consts::PI * 0.49).cos());
        let end = 0.5 * (1.0 + (std::f64::consts::PI * 0.99).cos());
        let rounded = |x: f64| (x * 1e6).round() / 1e6;
        let zero = [0.0, 0.1, 0.9, 1.0, rounded(begin), rounded(end), 0.0, 0.0];
        assert_eq!(of(Shape::Cosine, Some(0.0)), zero);
        let wsd = at(Shape::Wsd { decay: None }, None); // 22 steps
        assert_eq!(factors(&wsd, &[9, 10, 89, 100, 110, 111]), [0.9, 1.0, 1.0, 0.5, 0.045455, 0.0]);
        let wsd = at(Shape::Wsd { decay: Some(100) }, Some(0.1)); // nothing is stable
        assert_eq!(factors(&wsd, &[9, 10, 60, 110]), [0.9, 1.0, 0.55, 0.1]);
        let wsd = at(Shape::Wsd { decay: Some(1) }, None);
        assert_eq!(factors(&wsd, &[109, 110, 111]), [1.0, 1.0, 0.0]);
        let none = Schedule { warmup: 0, ..Schedule::default() };
        assert_eq!(factors(&none, &[0, 1, u64::MAX]), [1.0; 3]);
    }

    #[test]
    fn runs_of_earlier_versions_keep_their_rates() {
        let old = |shape, last, step| {
            let schedule = Schedule { warmup: 10, shape, total: Some(110), last };
            schedule.factor_as(step, ReachesZero::AtLastStep)
        };
        let wsd = Shape::Wsd { decay: Some(20) };
        assert_eq!([10, 60, 110].map(|s| old(Shape::Linear, None, s)), [1.0, 0.5, 0.0]);
        assert_eq!([90, 100, 110].map(|s| old(wsd, None, s)), [1.0, 0.5, 0.0]);
        // What ends above 0 is the same in both.
        for step in 1..=120 {
            for (shape, last) in [(Shape::Cosine, None), (Shape::Linear, Some(0.2)), (wsd, Some(0.1))] {
                let new = Schedule { warmup: 10, shape, total: Some(110), last }.factor(step);
                assert_eq!(new.to_bits(), old(shape, last, step).to_bits(), "{shape:?} {step}");
            }
        }
    }

    #[test]
    fn no_step_before_the_end_trains_at_rate_zero() {
        for shape in [Shape::Linear, Shape::Cosine, Shape::Wsd { decay: None }, Shape::Wsd { decay: Some(1) }]
        {
            for (warmup, total) in [(0, 1), (0, 7), (3, 4), (3, 50)] {
                let schedule = Schedule { warmup, shape, total: Some(total), last: Some(0.0) };
                let mut rates = (1..=total).map(|step| schedule.factor(step));
                assert!(rates.all(|rate| rate > 0.0), "{schedule:?}");
                assert_eq!(schedule.factor(total + 1), 0.0);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let said = |schedule: Schedule| schedule.check().unwrap_err().to_string();
        let to = Schedule::to;
        for fine in [
            Schedule::default(),
            to(Shape::Cosine, 11),
            to(Shape::Wsd { decay: Some(1) }, 11),
            to(Shape::Wsd { decay: None }, 13),
        ] {
            assert!(fine.check().is_ok(), "{fine:?}");
        }
        assert!(said(to(Shape::Cosine, 10)).contains("rises for 10 steps, but training ends at step 10"));
        assert!(said(to(Shape::Wsd { decay: Some(2) }, 11)).contains("rises for 10 steps and falls for 2"));
        assert!(said(to(Shape::Wsd { decay: None }, 11)).contains("falls for 2, more than the 11"));
        assert!(said(to(Shape::Wsd { decay: Some(0) }, 50)).contains("in 0 steps"));
        assert!(said(to(Shape::Constant, 50)).contains("RunConfig::default().cosine(50)"));
        assert!(said(Schedule { shape: Shape::Linear, ..Default::default() }).contains("(Linear)"));
        let last = |last| said(Schedule { last: Some(last), ..to(Shape::Linear, 50) });
        assert_eq!(last(1.5), "the learning rate ends at 1.5 of its peak; give a share from 0 to 1");
        assert!(last(f64::NAN).contains("NaN"));
    }

    #[test]
    fn files_say_it_in_words() {
        let schedule = Schedule::to(Shape::Wsd { decay: Some(30) }, 100);
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(text, r#"{"warmup":10,"shape":{"wsd":{"decay":30}},"total":100,"last":null}"#);
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
        let short: Schedule = serde_json::from_str(r#"{"shape":"linear","total":50}"#).unwrap();
        assert_eq!(short, Schedule::to(Shape::Linear, 50));
    }
}
