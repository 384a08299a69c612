//! How fast each pair of a head turns, and how models for longer contexts slow them down.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// The rotary position embedding of a model: the base θ of its frequencies and their scaling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frequencies {
    /// θ.
    pub theta: f64,
    /// What was done to them for a longer context.
    pub scaling: FrequencyScaling,
}

/// What was done to the frequencies f_j = θ^(−2j/W) for a longer context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrequencyScaling {
    /// Nothing.
    None,
    /// f_j/s (Chen et al. 2023, *Extending Context Window via Positional Interpolation*, eq. 4).
    Linear {
        /// s.
        factor: f64,
    },
    /// Llama 3.1 (Grattafiori et al. 2024; `apply_scaling` of Meta's reference): a pair whose wave of
    /// 2π/f_j tokens is longer than `original/low` turns at f_j/s, one whose wave is shorter than
    /// `original/high` at f_j, and those between at ((1 − m)/s + m)·f_j with
    /// m = (original·f_j/2π − low)/(high − low).
    Llama3 {
        /// s.
        factor: f64,
        /// `low_freq_factor`.
        low: f64,
        /// `high_freq_factor`.
        high: f64,
        /// `original_max_position_embeddings`, in tokens.
        original: f64,
    },
    /// f_j/d_j with a divisor for each pair, as GGUF's `rope_freqs.weight` holds them.
    Divisors(Vec<f64>),
}

impl Frequencies {
    /// The W/2 angles by which the pairs of a head of width W turn from one token to the next.
    ///
    /// # Errors
    /// When the divisors are not W/2 positive numbers, or a factor is no positive number.
    ///
    /// # Examples
    /// ```
    /// use lorascope::model::layers::frequencies::{Frequencies, FrequencyScaling};
    ///
    /// let linear = Frequencies { theta: 100.0, scaling: FrequencyScaling::Linear { factor: 2.0 } };
    /// assert_eq!(linear.of(4)?, [0.5, 0.05]); // (1, 1/10) at half speed
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn of(&self, head_width: usize) -> Result<Vec<f64>> {
        self.check(head_width)?;
        let plain = (0..head_width / 2).map(|j| self.theta.powf(-2.0 * j as f64 / head_width as f64));
        Ok(match &self.scaling {
            FrequencyScaling::None => plain.collect(),
            FrequencyScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            FrequencyScaling::Divisors(divisors) => plain.zip(divisors).map(|(f, d)| f / d).collect(),
            FrequencyScaling::Llama3 { factor, low, high, original } => plain
                .map(|f| {
                    let turns = original * f / TAU; // in the original context
                    let m = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    ((1.0 - m) / factor + m) * f
                })
                .collect(),
        })
    }

    pub(crate) fn check(&self, head_width: usize) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.theta) {
            return Err(Error::format(format!("the rotary base is {}: it must be positive", self.theta)));
        }
        let fine = match &self.scaling {
            FrequencyScaling::None => true,
            FrequencyScaling::Linear { factor } => positive(*factor),
            FrequencyScaling::Divisors(d) => d.len() == head_width / 2 && d.iter().all(|d| positive(*d)),
            FrequencyScaling::Llama3 { factor, low, high, original } => {
                [*factor, *low, *original, high - low].into_iter().all(positive)
            }
        };
        if fine {
            return Ok(());
        }
        let wrong = match &self.scaling {
            FrequencyScaling::Divisors(d) => format!("{} divisors", d.len()),
            other => format!("{other:?}"),
        };
        Err(Error::format(format!("rotary scaling by {wrong} for heads of {head_width} makes no sense"))
            .help("factors are positive, high is above low, and each pair of a head has one divisor"))
    }
}
