//! AdamW, and SGD with momentum, over the trained tensors.

use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The hyperparameters of AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// β₁, the decay of the mean of gradients.
    pub beta1: f64,
    /// β₂, the decay of the mean of their squares.
    pub beta2: f64,
    /// ε, added to the root.
    pub epsilon: f64,
    /// λ, decoupled from the gradient.
    pub weight_decay: f64,
    /// The learning rate of B divided by that of the other tensors (Hayou et al. 2024, *LoRA+*): 1 is plain
    /// AdamW, the paper takes 16.
    pub lora_plus: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, lora_plus: 1.0 }
    }
}

/// The optimiser and its hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// AdamW, perhaps with LoRA+; see [`Optimizer`].
    AdamW(AdamWConfig),
    /// Stochastic gradient descent with momentum (Polyak 1964): b ← μb + g + λθ, θ ← θ − lr·b.
    Sgd(SgdConfig),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::AdamW(AdamWConfig::default())
    }
}

impl OptimizerConfig {
    /// Whether there is a mean of squares beside that of gradients.
    pub fn has_square(&self) -> bool {
        matches!(self, Self::AdamW(_))
    }

    /// Fails where another config cannot go on with the moments of this one.
    pub(crate) fn goes_on_as(&self, other: &Self) -> Result<()> {
        match self.has_square() == other.has_square() {
            true => Ok(()),
            false => Err(Error::input("another optimiser cannot continue with these moments")
                .help("begin a new run from this one's adapters: RunConfig::default().init_from(folder)")),
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    /// When a value makes no sense; the error names them all.
    pub fn check(&self) -> Result<()> {
        let in_range = |share: f64| (0.0..1.0).contains(&share);
        let fine = match self {
            Self::AdamW(o) => {
                in_range(o.beta1)
                    && in_range(o.beta2)
                    && o.epsilon > 0.0
                    && o.weight_decay >= 0.0
                    && o.lora_plus > 0.0
                    && o.lora_plus.is_finite()
            }
            Self::Sgd(o) => in_range(o.momentum) && o.weight_decay >= 0.0,
        };
        match fine {
            true => Ok(()),
            false => Err(Error::input(format!("{self:?}")).help(
                "betas and momentum lie in [0, 1), epsilon and lora_plus above 0, weight decay is not negative",
            )),
        }
    }
}

impl fmt::Display for OptimizerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdamW(AdamWConfig { beta1, beta2, epsilon, weight_decay, lora_plus }) => {
                write!(f, "AdamW has β₁ {beta1}, β₂ {beta2}, ε {epsilon:e}, weight decay {weight_decay}")?;
                if *lora_plus == 1.0 { Ok(()) } else { write!(f, ", and B learns {lora_plus} times as fast") }
            }
            Self::Sgd(SgdConfig { momentum, weight_decay }) => {
                write!(f, "SGD has momentum {momentum}, weight decay {weight_decay}")
            }
        }
    }
}

/// The hyperparameters of SGD with momentum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// μ, how much of the last update goes into the next.
    pub momentum: f64,
    /// λ, added to the gradient.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { momentum: 0.9, weight_decay: 0.0 }
    }
}

/// AdamW (Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*, alg. 2):
/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
/// θ ← θ − lr·λ·θ − lr·m̂/(√v̂ + ε) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).
///
/// t counts the updates of each tensor. The moments are f32 tensors, under the tensor's name.
/// [SGD](OptimizerConfig::Sgd) has one moment, the running sum b.
#[derive(Debug, Clone, Default)]
pub struct Optimizer {
    updates: u64,
    moments: BTreeMap<String, Moments>,
}

/// The running means of one trained tensor.
#[derive(Debug, Clone)]
pub struct Moments {
    /// m, or b of SGD.
    pub mean: Tensor,
    /// v; SGD has none.
    pub square: Option<Tensor>,
    /// Updates of this tensor: fewer than the optimiser's where it was frozen for a while.
    pub updates: u64,
}

impl Optimizer {
    /// No update made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state after `updates` updates, as it was saved.
    pub fn from_moments(updates: u64, moments: BTreeMap<String, Moments>) -> Self {
        Self { updates, moments }
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The moments, by the names of [`Adapters::tensors`].
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// The same with other moments, by the names of their tensors.
    ///
    /// # Errors
    /// As `value`.
    pub(crate) fn map(&self, value: impl Fn(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let moments = self.moments.iter().map(|(name, moments)| {
            let square = moments.square.as_ref().map(|square| value(name, square)).transpose()?;
            let moments = Moments { mean: value(name, &moments.mean)?, square, updates: moments.updates };
            Ok((name.clone(), moments))
        });
        Ok(Self { updates: self.updates, moments: moments.collect::<Result<_>>()? })
    }

    /// The adapters after one update with `factor`·gradient (the factor clips), and the optimiser's
    /// next state. Tensors that are `frozen` and their moments stay. Neither `self` nor `adapters`
    /// changes, so an update that fails leaves the run as it was.
    ///
    /// # Errors
    /// When a gradient is missing or of another shape.
    pub fn update(
        &self,
        adapters: &Adapters,
        gradients: Gradients,
        factor: f64,
        lr: f64,
        config: &OptimizerConfig,
        frozen: &dyn Fn(&str) -> bool,
    ) -> Result<(Adapters, Self)> {
        let mut gradients = gradients;
        let mut moments = BTreeMap::new();
        let adapters = adapters.map(|name, theta| {
            let before = self.moments.get(name);
            if frozen(name) {
                moments.extend(before.map(|moments| (name.to_string(), moments.clone())));
                return Ok(theta.clone());
            }
            // Taken out, so that each gradient is freed as soon as it is used.
            let gradient = gradients.take(name).ok_or_else(|| Error::compute("no gradient").layer(name))?;
            let g = (gradient.to_device(theta.device())?.to_dtype(DType::F32)? * factor)?;
            let (new, after) = match config {
                OptimizerConfig::AdamW(config) => {
                    let ratio = if is_b(name) { config.lora_plus } else { 1.0 };
                    adamw(theta, &g, before, lr * ratio, config)?
                }
                OptimizerConfig::Sgd(config) => sgd(theta, g, before, lr, config)?,
            };
            moments.insert(name.to_string(), after);
            Ok(new)
        })?;
        Ok((adapters, Self { updates: self.updates + 1, moments }))
    }
}

/// Whether this is B of a pair. For an embedding, LoRA+ speeds up A, which begins at zero there.
fn is_b(name: &str) -> bool {
    name.ends_with(".lora_B") || name.ends_with(".lora_embedding_A")
}

fn adamw(
    theta: &Tensor,
    g: &Tensor,
    before: Option<&Moments>,
    lr: f64,
    config: &AdamWConfig,
) -> Result<(Tensor, Moments)> {
    let updates = before.map_or(0, |moments| moments.updates) + 1;
    let bias1 = 1.0 - config.beta1.powf(updates as f64);
    let bias2 = 1.0 - config.beta2.powf(updates as f64);
    let mut mean = (g * (1.0 - config.beta1))?;
    let mut square = (g.sqr()? * (1.0 - config.beta2))?;
    if let Some(before) = before {
        mean = ((&before.mean * config.beta1)? + mean)?;
        let before = before.square.as_ref().ok_or_else(|| Error::compute("a moment is missing"))?;
        square = ((before * config.beta2)? + square)?;
    }
    let root = ((&square / bias2)?.sqrt()? + config.epsilon)?;
    let step = ((&mean * (lr / bias1))? / root)?;
    let new = ((theta * (1.0 - lr * config.weight_decay))? - step)?;
    Ok((new, Moments { mean, square: Some(square), updates }))
}

fn sgd(
    theta: &Tensor,
    g: Tensor,
    before: Option<&Moments>,
    lr: f64,
    config: &SgdConfig,
) -> Result<(Tensor, Moments)> {
    let updates = before.map_or(0, |moments| moments.updates) + 1;
    let mut mean = g;
    if config.weight_decay > 0.0 {
        mean = (mean + (theta * config.weight_decay)?)?;
    }
    if let Some(before) = before {
        mean = ((&before.mean * config.momentum)? + mean)?;
    }
    let new = (theta - (&mean * lr)?)?;
    Ok((new, Moments { mean, square: None, updates }))
}
