//! The learning rate along the steps.

use serde::{Deserialize, Serialize};

/// Linear warm-up, then constant; or, when the total is known, a cosine down to a tenth
/// (Loshchilov & Hutter 2017, *SGDR*, eq. 5).
///
/// # Examples
/// ```
/// use lorascope::train::Schedule;
///
/// let constant = Schedule { warmup: 10, total: None };
/// assert_eq!(constant.factor(5), 0.5);
/// assert_eq!(constant.factor(1000), 1.0);
/// let cosine = Schedule { warmup: 0, total: Some(100) };
/// assert!((cosine.factor(50) - 0.55).abs() < 1e-12);
/// assert!((cosine.factor(100) - 0.1).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Steps in which the rate rises from 0 to its height.
    pub warmup: u64,
    /// The step at which the cosine ends; `None` stays constant.
    pub total: Option<u64>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warmup: 10, total: None }
    }
}

impl Schedule {
    /// The step at which it ends, where it does.
    pub fn end(&self) -> Option<u64> {
        self.total
    }

    /// What the learning rate is multiplied with at a step, counted from 1.
    pub fn factor(&self, step: u64) -> f64 {
        const LAST: f64 = 0.1;
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let Some(total) = self.total.filter(|total| *total > self.warmup) else { return 1.0 };
        let along = ((step - self.warmup) as f64 / (total - self.warmup) as f64).min(1.0);
        LAST + (1.0 - LAST) * 0.5 * (1.0 + (std::f64::consts::PI * along).cos())
    }
}
