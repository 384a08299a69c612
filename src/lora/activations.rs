//! Second moments of A x over the data, for spectra weighted by activations.

use super::Gradients;
use crate::error::Result;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The decay of the running mean per step.
const KEEP: f64 = 0.9;

/// C = E[(A x)(A x)ᵀ] over the inputs x of each adapted layer, `[r, r]`, by its path: a running mean over
/// steps, C₁ = c₁ and Cₙ = 0.9·Cₙ₋₁ + 0.1·cₙ, where cₙ is the mean over the tokens that went through the
/// layer in step n, before dropout: all of them, in the head those with a loss. Beside an embedding A x is
/// the column of A that a token looks up.
///
/// The singular values of scale·B·C^½ say how much each direction of ΔW changes the layer's output on
/// this data: E‖ΔW x‖² = Σ σᵢ². Cheap to clone.
#[derive(Clone, Default)]
pub struct Activations(Arc<BTreeMap<String, Tensor>>);

impl Activations {
    /// Those of a file.
    pub(crate) fn from_map(means: BTreeMap<String, Tensor>) -> Self {
        Self(Arc::new(means))
    }

    /// Adds the sums of the backward passes of one step.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with(&self, gradients: &Gradients) -> Result<Self> {
        let mut means = BTreeMap::new();
        for (path, (sum, tokens)) in gradients.seen() {
            let mean = (sum / (*tokens).max(1) as f64)?;
            let mean = match self.0.get(path) {
                Some(before) if before.dims() == mean.dims() => {
                    // One that was read from a file lies in memory.
                    let before = before.to_device(mean.device())?;
                    ((before * KEEP)? + (mean * (1.0 - KEEP))?)?
                }
                _ => mean,
            };
            means.insert(path.clone(), mean);
        }
        Ok(Self(Arc::new(means)))
    }

    /// C of each layer that was trained, by its path: for
    /// [`Adapters::spectra_weighted`](super::Adapters::spectra_weighted) and
    /// [`Adapters::truncate_weighted`](super::Adapters::truncate_weighted).
    pub fn by_path(&self) -> &BTreeMap<String, Tensor> {
        &self.0
    }
}
