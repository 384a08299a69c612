//! The formula behind a divisor for each frequency, where there is one that gives the same frequencies.

use super::frequencies::{Frequencies, FrequencyScaling};
use crate::error::Result;
use std::f64::consts::TAU;

/// How far two frequencies may be apart, of their size: the divisors have 32 bits.
const CLOSE: f64 = 1e-6;
/// `low_freq_factor` and `high_freq_factor` of every Llama so far.
const USUAL: (f64, f64) = (1.0, 4.0);

impl Frequencies {
    /// The same frequencies by a formula that config.json can say (none, linear, Llama 3), `None` where
    /// the divisors follow none of them.
    ///
    /// # Errors
    /// When the divisors do not fit the width.
    pub fn as_formula(&self, head_width: usize) -> Result<Option<FrequencyScaling>> {
        let FrequencyScaling::Divisors(divisors) = &self.scaling else {
            return Ok(Some(self.scaling.clone()));
        };
        let wanted = self.of(head_width)?;
        let plain = Self { theta: self.theta, scaling: FrequencyScaling::None }.of(head_width)?;
        for scaling in guesses(&plain, divisors) {
            let guess = Self { theta: self.theta, scaling };
            let same = |all: Vec<f64>| all.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= CLOSE * b);
            if guess.of(head_width).is_ok_and(same) {
                return Ok(Some(guess.scaling));
            }
        }
        Ok(None)
    }
}

/// Formulas to be tried, those with round numbers first.
fn guesses(plain: &[f64], divisors: &[f64]) -> Vec<FrequencyScaling> {
    let largest = divisors.iter().copied().fold(1.0, f64::max);
    let mut all = vec![
        FrequencyScaling::None,
        FrequencyScaling::Linear { factor: divisors.first().copied().unwrap_or(1.0) },
    ];
    for factor in [largest.round(), largest] {
        let (low, high) = USUAL;
        let mut push =
            |low, high, original| all.push(FrequencyScaling::Llama3 { factor, low, high, original });
        (10..=20).for_each(|power| push(low, high, f64::from(1 << power)));
        // The share m of a pair's own frequency; between 0 and 1 it is a line over f.
        let share = |d: f64| (1.0 / d - 1.0 / factor) / (1.0 - 1.0 / factor);
        let between: Vec<(f64, f64)> = plain
            .iter()
            .zip(divisors)
            .map(|(f, d)| (*f, share(*d)))
            .filter(|(_, m)| *m > 1e-6 && *m < 1.0 - 1e-6)
            .collect();
        let fastest_slow = plain.iter().zip(divisors).find(|(_, d)| share(**d) <= 1e-6).map(|(f, _)| *f);
        let slowest_fast =
            plain.iter().zip(divisors).rfind(|(_, d)| share(**d) >= 1.0 - 1e-6).map(|(f, _)| *f);
        match (between.first(), between.last()) {
            (Some((f, m)), Some((g, n))) if f != g => {
                let slope = (m - n) / (f - g);
                let cross = n - slope * g; // m where f = 0: −low/(high − low)
                // original : high − low : low are known to a common factor; `original` is made whole.
                let width = -USUAL.0 / cross;
                for original in [(TAU * slope * width).round(), TAU * slope * width] {
                    let width = original / (TAU * slope);
                    let low = -cross * width;
                    push(low.round(), (low + width).round(), original);
                    push(low, low + width, original);
                }
            }
            (Some((f, m)), _) => {
                let original = TAU / f * (low + m * (high - low));
                [original.round(), original].into_iter().for_each(|original| push(low, high, original));
            }
            (None, _) => {
                if let (Some(slow), Some(fast)) = (fastest_slow, slowest_fast) {
                    push(low, high, (TAU * (low / slow * high / fast).sqrt()).round());
                }
            }
        }
    }
    all
}
