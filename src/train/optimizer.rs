//! AdamW over the adapters' tensors.

use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW (Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*, alg. 2):
/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
/// θ ← θ − lr·λ·θ − lr·m̂/(√v̂ + ε) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).
///
/// The moments are f32 tensors beside each trained tensor, under its name.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    updates: u64,
    moments: BTreeMap<String, Moments>,
}

/// The two running means of one trained tensor.
#[derive(Debug, Clone)]
pub struct Moments {
    /// m
    pub mean: Tensor,
    /// v
    pub square: Tensor,
}

impl AdamW {
    /// No update made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state after `updates` updates, as it was saved.
    pub fn from_moments(updates: u64, moments: BTreeMap<String, Moments>) -> Self {
        Self { updates, moments }
    }

    /// Updates made so far, t in the formula.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The moments, by the names of [`Adapters::tensors`].
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// The adapters after one update with `factor`·gradient (the factor clips), and the optimiser's
    /// next state. Neither `self` nor `adapters` changes, so an update that fails leaves the run as
    /// it was.
    ///
    /// # Errors
    /// When a gradient is missing or of another shape.
    pub fn update(
        &self,
        adapters: &Adapters,
        gradients: &Gradients,
        factor: f64,
        lr: f64,
        config: &AdamWConfig,
    ) -> Result<(Adapters, Self)> {
        let updates = self.updates + 1;
        let bias1 = 1.0 - config.beta1.powf(updates as f64);
        let bias2 = 1.0 - config.beta2.powf(updates as f64);
        let gradients: BTreeMap<String, &Tensor> = gradients.tensors().collect();
        let mut moments = BTreeMap::new();
        let adapters = adapters.map(|name, theta| {
            let gradient = gradients.get(name).ok_or_else(|| Error::compute("no gradient").layer(name))?;
            let g = (gradient.to_dtype(DType::F32)? * factor)?;
            let (mean, square) = match self.moments.get(name) {
                Some(Moments { mean, square }) => (
                    ((mean * config.beta1)? + (&g * (1.0 - config.beta1))?)?,
                    ((square * config.beta2)? + (g.sqr()? * (1.0 - config.beta2))?)?,
                ),
                None => ((&g * (1.0 - config.beta1))?, (g.sqr()? * (1.0 - config.beta2))?),
            };
            let root = ((&square / bias2)?.sqrt()? + config.epsilon)?;
            let step = ((&mean * (lr / bias1))? / root)?;
            let new = ((theta * (1.0 - lr * config.weight_decay))? - step)?;
            moments.insert(name.to_string(), Moments { mean, square });
            Ok(new)
        })?;
        Ok((adapters, Self { updates, moments }))
    }
}
