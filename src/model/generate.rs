//! Autoregressive generation of tokens.

use super::decoder::{Cache, Decoder};
use crate::display::advice;
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::ops::random::{Random, Stream};
use crate::ops::vector;
use serde::{Deserialize, Serialize};

/// Sampling settings and stop conditions.
///
/// The scores go through these in Hugging Face's order: repetition penalty, temperature, the `top_k`
/// best, the nucleus of `top_p`.
///
/// # Examples
/// ```
/// use lorascope::model::GenerateConfig;
///
/// let config = GenerateConfig { temperature: 0.7, top_k: 40, seed: 7, ..Default::default() };
/// assert_eq!((config.max_tokens, config.repetition_penalty), (200, 1.0));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// 0 takes the most likely token; above, logits are divided by it and a token is drawn.
    pub temperature: f64,
    /// Draws from so many of the most likely tokens (Fan et al. 2018, §5.2), and from those that are
    /// as likely as the last of them; 0 draws from all.
    pub top_k: usize,
    /// Draws from the most likely tokens whose probabilities sum to this (Holtzman et al. 2020).
    pub top_p: f64,
    /// θ of Keskar et al. 2019 (*CTRL*, §4.1), as Hugging Face applies it: the score of each token that
    /// is in the prompt or was generated is divided by θ where it is positive and multiplied by θ
    /// where it is negative. 1 changes nothing.
    pub repetition_penalty: f64,
    /// Further tokens to stop at, beside those of the tokenizer; they are left out.
    pub stop_tokens: Vec<u32>,
    /// Texts to stop at, wherever tokens begin and end; they are left out. Only where text is made:
    /// [`generate`] knows tokens alone.
    pub stop: Vec<String>,
    /// Seed of the sampling.
    pub seed: u64,
    /// Whether adapters are first merged into a copy of the weights that they adapt, as Microsoft's loralib does for
    /// evaluation: worth it for long answers. The model does not change.
    pub merge: bool,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self {
            max_tokens: 200,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            stop_tokens: Vec::new(),
            stop: Vec::new(),
            merge: false,
            seed: 42,
        }
    }
}

impl GenerateConfig {
    pub(super) fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::input(format!("temperature is {}", self.temperature)).help("give 0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(
                Error::input(format!("top_p is {}", self.top_p)).help("give a share above 0, up to 1")
            );
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return Err(Error::input(format!("repetition_penalty is {}", self.repetition_penalty))
                .help("give a number above 0: 1 changes nothing, 1.2 is usual"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::input("a stop text is empty").help("every text contains it: leave it out"));
        }
        Ok(())
    }
}

/// The tokens that follow `ids`, up to one of `stop` (left out), the limit, or the model's context.
///
/// # Errors
/// When the config is invalid, or the prompt is empty, too long, or outside the vocabulary.
pub fn generate(
    model: &Decoder,
    adapters: &Adapters,
    ids: &[u32],
    stop: &[u32],
    config: &GenerateConfig,
) -> Result<Vec<u32>> {
    let mut new = Vec::new();
    generate_each(model, adapters, ids, stop, config, &mut |token| {
        new.push(token);
        Ok(true)
    })?;
    Ok(new)
}

/// Like [`generate`], but passes each token to `on_token` as soon as it is chosen; `on_token` returns false to stop.
///
/// # Errors
/// As [`generate`], and what `on_token` fails with.
pub fn generate_each(
    model: &Decoder,
    adapters: &Adapters,
    ids: &[u32],
    stop: &[u32],
    config: &GenerateConfig,
    on_token: &mut dyn FnMut(u32) -> Result<bool>,
) -> Result<()> {
    config.check()?;
    let merged = match config.merge && !adapters.is_empty() {
        true => Some(model.merged(adapters)?),
        false => None,
    };
    let none = Adapters::default();
    let (model, adapters) = merged.as_ref().map_or((model, adapters), |merged| (merged, &none));
    let mut cache = Cache::default();
    let mut seen = ids.to_vec();
    let mut hidden = model.extend(ids, &mut cache, adapters)?;
    for index in 0..config.max_tokens {
        let mut logits = model.logits(&hidden, adapters)?.flatten_all()?.to_vec1::<f32>()?;
        penalise(&mut logits, &seen, config.repetition_penalty);
        let next = choose(&logits, config, index as u64)?;
        if stop.contains(&next) || config.stop_tokens.contains(&next) {
            break;
        }
        seen.push(next);
        let last = cache.len() == model.config().context || index + 1 == config.max_tokens;
        if !on_token(next)? || last {
            break;
        }
        hidden = model.extend(&[next], &mut cache, adapters)?;
    }
    Ok(())
}

/// Makes each token in `seen` less likely by θ; a token that occurs several times counts once.
fn penalise(logits: &mut [f32], seen: &[u32], penalty: f64) {
    if penalty == 1.0 {
        return;
    }
    let penalty = penalty as f32;
    let mut ids = seen.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

fn choose(logits: &[f32], config: &GenerateConfig, index: u64) -> Result<u32> {
    let (best, largest) = most_likely(logits);
    if largest.is_nan() {
        return Err(Error::not_finite("the model's logits are not numbers")
            .help(advice(
                "the adapter has diverged: run.rewind(step)?; run.set_lr(lr)?; run.resume()? goes back and continues at a lower learning rate",
                "the adapter has diverged: lorascope train RUN --resume --rewind STEP --lr RATE goes back and continues at a lower learning rate",
            )));
    }
    if config.temperature == 0.0 {
        return Ok(best);
    }
    let (weights, kept) = candidates(logits, config, f64::from(largest));
    let mut draw = Random::at(config.seed, Stream::Sampling, 0, index).unit() * kept;
    for (token, weight) in &weights {
        draw -= weight;
        if draw < 0.0 {
            return Ok(*token);
        }
    }
    Ok(best)
}

/// The last of the tokens with the largest score, and that score; NaN if any score is.
fn most_likely(logits: &[f32]) -> (u32, f32) {
    let largest = vector::simd(
        #[inline(always)]
        || vector::max(logits),
    );
    let best = logits.iter().rposition(|logit| *logit == largest);
    (best.map_or(0, |best| best as u32), largest)
}

/// The tokens that may be drawn, the most likely first, with weights in proportion to their
/// probabilities, and the sum of those.
fn candidates(logits: &[f32], config: &GenerateConfig, largest: f64) -> (Vec<(u32, f64)>, f64) {
    let weight = |l: f32| ((f64::from(l) - largest) / config.temperature).exp();
    let mut sorted: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
    let by_score = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if config.top_k > 0 && config.top_k < sorted.len() {
        let (_, last, _) = sorted.select_nth_unstable_by(config.top_k - 1, by_score);
        let last = last.1;
        sorted.retain(|(_, logit)| *logit >= last);
    }
    sorted.sort_unstable_by(by_score);
    let mut weights: Vec<(u32, f64)> = sorted.into_iter().map(|(token, l)| (token, weight(l))).collect();
    let total: f64 = weights.iter().map(|(_, w)| w).sum();
    let mut kept = 0.0;
    let end = weights.iter().position(|(_, w)| {
        kept += w;
        kept >= config.top_p * total
    });
    weights.truncate(end.map_or(weights.len(), |end| end + 1));
    (weights, kept)
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
        // Of the best two, 0.665 / (0.665 + 0.245) = 0.731 fall on the first.
        let [a, b, c] = count(&GenerateConfig { temperature: 1.0, top_k: 2, ..Default::default() });
        assert!(a == 0 && (1400..1525).contains(&b) && c == 2000 - b, "{a} {b} {c}");
        let one = GenerateConfig { temperature: 3.0, top_k: 1, ..Default::default() };
        assert_eq!(count(&one), [0, 2000, 0]);
    }

    /// By hand: e^0 = 1, e^-1 = 0.3679, e^-2 = 0.1353; halves at temperature 2.
    #[test]
    fn candidates_by_hand() {
        let of = |config: GenerateConfig| {
            let (weights, kept) = candidates(&[1.0, 3.0, 2.0, 1.0], &config, 3.0);
            assert!((weights.iter().map(|(_, w)| w).sum::<f64>() - kept).abs() < 1e-12);
            weights.into_iter().map(|(token, w)| (token, (w * 1e4).round() / 1e4)).collect::<Vec<_>>()
        };
        let warm = |temperature| GenerateConfig { temperature, ..Default::default() };
        assert_eq!(of(warm(1.0)), [(1, 1.0), (2, 0.3679), (0, 0.1353), (3, 0.1353)]);
        assert_eq!(of(GenerateConfig { top_k: 2, ..warm(1.0) }), [(1, 1.0), (2, 0.3679)]);
        // The third and the fourth are equally likely: neither is taken before the other.
        assert_eq!(of(GenerateConfig { top_k: 3, ..warm(1.0) }).len(), 4);
        assert_eq!(of(GenerateConfig { top_k: 99, ..warm(2.0) })[1], (2, 0.6065));
        // 1 / 1.6385 = 0.610 of all, but 1 / 1.3679 = 0.731 of the best two.
        assert_eq!(of(GenerateConfig { top_p: 0.7, ..warm(1.0) }).len(), 2);
        assert_eq!(of(GenerateConfig { top_p: 0.7, top_k: 2, ..warm(1.0) }).len(), 1);
    }

    /// By hand, θ = 1.25: 2 / 1.25 = 1.6, -1 · 1.25 = -1.25, each once though token 0 is there twice.
    #[test]
    fn penalties_by_hand() {
        let mut logits = [2.0f32, -1.0, 1.75, 0.0];
        penalise(&mut logits, &[0, 1, 0, 3, 9], 1.25);
        assert_eq!(logits, [1.6, -1.25, 1.75, 0.0]);
        assert_eq!(choose(&logits, &GenerateConfig::default(), 0).unwrap(), 2, "before, it was 0");
    }
}
