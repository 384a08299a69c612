//! Text from a model, token by token.

use super::decoder::{Cache, Decoder};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::ops::random::{Random, Stream};
use serde::{Deserialize, Serialize};

/// How tokens are chosen and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// 0 takes the most likely token; above, logits are divided by it and a token is drawn.
    pub temperature: f64,
    /// Draws from the most likely tokens whose probabilities sum to this (Holtzman et al. 2020).
    pub top_p: f64,
    /// Which of the possible draws.
    pub seed: u64,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self { max_tokens: 200, temperature: 0.0, top_p: 1.0, seed: 42 }
    }
}

impl GenerateConfig {
    fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::input(format!("temperature is {}", self.temperature)).help("give 0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(
                Error::input(format!("top_p is {}", self.top_p)).help("give a share above 0, up to 1")
            );
        }
        Ok(())
    }
}

/// The tokens that follow `ids`, up to one of `stop` (left out), the limit, or the model's context.
///
/// # Errors
/// When the config cannot be used, or the prompt is empty, too long, or outside the vocabulary.
pub fn generate(
    model: &Decoder,
    adapters: &Adapters,
    ids: &[u32],
    stop: &[u32],
    config: &GenerateConfig,
) -> Result<Vec<u32>> {
    config.check()?;
    let mut cache = Cache::default();
    let mut new = Vec::new();
    let mut hidden = model.extend(ids, &mut cache, adapters)?;
    while new.len() < config.max_tokens {
        let logits = model.logits(&hidden, adapters)?.flatten_all()?.to_vec1::<f32>()?;
        let next = choose(&logits, config, new.len() as u64)?;
        if stop.contains(&next) {
            break;
        }
        new.push(next);
        if cache.len() == model.config().context || new.len() == config.max_tokens {
            break;
        }
        hidden = model.extend(&[next], &mut cache, adapters)?;
    }
    Ok(new)
}

fn choose(logits: &[f32], config: &GenerateConfig, index: u64) -> Result<u32> {
    if logits.iter().any(|l| l.is_nan()) {
        return Err(Error::compute("the model's logits are not numbers")
            .help("the adapter has diverged: begin a new run with a lower learning rate: RunConfig::default().lr(…)"));
    }
    let best = (0u32..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(token, _)| token);
    if config.temperature == 0.0 {
        return Ok(best);
    }
    let largest = f64::from(logits[best as usize]);
    let weight = |l: f32| ((f64::from(l) - largest) / config.temperature).exp();
    let mut weights: Vec<(u32, f64)> = (0u32..).zip(logits.iter().map(|l| weight(*l))).collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = weights.iter().map(|(_, w)| w).sum();
    let mut kept = 0.0;
    let end = weights.iter().position(|(_, w)| {
        kept += w;
        kept >= config.top_p * total
    });
    weights.truncate(end.map_or(weights.len(), |end| end + 1));
    let mut draw = Random::at(config.seed, Stream::Sampling, 0, index).unit() * kept;
    for (token, weight) in &weights {
        draw -= weight;
        if draw < 0.0 {
            return Ok(*token);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_follows_the_probabilities() {
        let logits = [0.0f32, 2.0, 1.0]; // probabilities 0.090, 0.665, 0.245
        let count = |config: &GenerateConfig| {
            let mut counts = [0; 3];
            for i in 0..2000 {
                counts[choose(&logits, config, i).unwrap() as usize] += 1;
            }
            counts
        };
        assert_eq!(count(&GenerateConfig::default()), [0, 2000, 0]);
        let [a, b, c] = count(&GenerateConfig { temperature: 1.0, ..Default::default() });
        assert!(
            (130..230).contains(&a) && (1270..1390).contains(&b) && (430..550).contains(&c),
            "{a} {b} {c}"
        );
        let nucleus = GenerateConfig { temperature: 1.0, top_p: 0.9, ..Default::default() };
        assert_eq!(count(&nucleus)[0], 0);
        assert!(choose(&[f32::NAN], &nucleus, 0).is_err());
    }
}
