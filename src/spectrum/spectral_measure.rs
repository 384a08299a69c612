//! What one number says of a spectrum.

use super::Spectrum;
use crate::error::Result;

/// A number of each spectrum, to be shown by layer and module
/// ([`Spectra::heat_map_of`](super::Spectra::heat_map_of)).
///
/// # Examples
/// ```
/// use lorascope::spectrum::{SpectralMeasure, Spectrum};
///
/// let spectrum = Spectrum::from_slices("q_proj", &[1., 0., 0., 1.], &[3., 0., 0., 4.], 2, 1.0)?;
/// assert!((SpectralMeasure::NuclearNorm.of(&spectrum)? - 7.0).abs() < 1e-14);
/// assert_eq!(SpectralMeasure::EnergyRank(0.9).of(&spectrum)?, 2.0);
/// assert_eq!(SpectralMeasure::EnergyRank(0.9).name(), "rank that keeps 90 % of the energy");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpectralMeasure {
    /// [`Spectrum::effective_rank`]
    #[default]
    EffectiveRank,
    /// [`Spectrum::stable_rank`]
    StableRank,
    /// [`Spectrum::participation_ratio`]
    ParticipationRatio,
    /// [`Spectrum::numerical_rank`] at the usual tolerance.
    NumericalRank,
    /// [`Spectrum::energy_rank`] of this share, above 0 and at most 1.
    EnergyRank(f64),
    /// [`Spectrum::first_share`]
    FirstShare,
    /// [`Spectrum::spectral_norm`]
    SpectralNorm,
    /// [`Spectrum::frobenius_norm`]
    FrobeniusNorm,
    /// [`Spectrum::nuclear_norm`]
    NuclearNorm,
    /// [`Spectrum::condition`]; a gap in a map where it is infinite.
    Condition,
}

impl SpectralMeasure {
    /// What titles and axes call it.
    pub fn name(self) -> String {
        match self {
            Self::EffectiveRank => "effective rank".to_string(),
            Self::StableRank => "stable rank".to_string(),
            Self::ParticipationRatio => "participation ratio".to_string(),
            Self::NumericalRank => "numerical rank".to_string(),
            Self::EnergyRank(share) => format!("rank that keeps {} of the energy", percent(share)),
            Self::FirstShare => "share of the first direction".to_string(),
            Self::SpectralNorm => "spectral norm".to_string(),
            Self::FrobeniusNorm => "Frobenius norm".to_string(),
            Self::NuclearNorm => "nuclear norm".to_string(),
            Self::Condition => "condition".to_string(),
        }
    }

    /// Whether it counts directions, of which an adapter has its rank.
    pub(super) fn is_rank(self) -> bool {
        matches!(
            self,
            Self::EffectiveRank
                | Self::StableRank
                | Self::ParticipationRatio
                | Self::NumericalRank
                | Self::EnergyRank(_)
        )
    }

    /// The number.
    ///
    /// # Errors
    /// When the share of an [`EnergyRank`](Self::EnergyRank) is not in (0, 1].
    pub fn of(self, spectrum: &Spectrum) -> Result<f64> {
        Ok(match self {
            Self::EffectiveRank => spectrum.effective_rank(),
            Self::StableRank => spectrum.stable_rank(),
            Self::ParticipationRatio => spectrum.participation_ratio(),
            Self::NumericalRank => spectrum.numerical_rank(None) as f64,
            Self::EnergyRank(share) => spectrum.energy_rank(share)? as f64,
            Self::FirstShare => spectrum.first_share(),
            Self::SpectralNorm => spectrum.spectral_norm(),
            Self::FrobeniusNorm => spectrum.frobenius_norm(),
            Self::NuclearNorm => spectrum.nuclear_norm(),
            Self::Condition => spectrum.condition(),
        })
    }
}

/// 0.9 as `90 %`.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
