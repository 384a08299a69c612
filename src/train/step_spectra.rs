//! The singular values of every adapter after one step, as they are logged with it.

use super::step::Learned;
use crate::error::Result;
use crate::spectrum::{Spectra, Spectrum};
use serde::{Deserialize, Deserializer, Serialize};

/// Singular values after one step: those of each adapter in the order of
/// [`Adapters::spectra`](crate::lora::Adapters::spectra), rounded to f32.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpectra {
    /// Of scale·B·A.
    #[serde(deserialize_with = "or_largest")]
    pub plain: Vec<Vec<f32>>,
    /// Of scale·B·C^½ with C = E[(A x)(A x)ᵀ], where it is known.
    #[serde(deserialize_with = "or_largest")]
    pub weighted: Vec<Vec<f32>>,
}

/// Reads the null that earlier versions wrote for a value beyond the range of f32: JSON has no infinity.
fn or_largest<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Vec<f32>>, D::Error> {
    let read = Vec::<Vec<Option<f32>>>::deserialize(deserializer)?;
    Ok(read
        .into_iter()
        .map(|values| values.into_iter().map(|value| value.unwrap_or(f32::MAX)).collect())
        .collect())
}

impl StepSpectra {
    /// Those of what a run has learned.
    pub(crate) fn of(learned: &Learned) -> Result<Self> {
        let spectra = learned.adapters.spectra_weighted(learned.activations.by_path())?;
        // Of adapters that have diverged a value may be beyond the range of f32.
        let in_f32 = |sigma: &f64| sigma.min(f64::from(f32::MAX)) as f32;
        let rounded = |s: &Spectrum| s.singular_values.iter().map(in_f32).collect();
        let weighted = spectra.weighted();
        let weighted = weighted.iter().filter(|weighted| weighted.len() == spectra.len());
        Ok(Self {
            plain: spectra.iter().map(rounded).collect(),
            weighted: weighted.flat_map(Spectra::iter).map(rounded).collect(),
        })
    }
}
