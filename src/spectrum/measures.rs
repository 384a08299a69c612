//! Measures of a spectrum: norms, effective rank, stable rank, energy.

use super::Spectrum;
use crate::error::{Error, Result};

impl Spectrum {
    /// ‖·‖₂ = σ₁.
    pub fn spectral_norm(&self) -> f64 {
        self.singular_values.first().copied().unwrap_or(0.0)
    }

    /// ‖·‖_F = √(Σ σᵢ²).
    pub fn frobenius_norm(&self) -> f64 {
        self.spectral_norm() * self.stable_rank().sqrt()
    }

    /// Effective rank: exp(H(p)) with p = σ/Σσ and H(p) = -Σ pᵢ ln pᵢ (Roy & Vetterli 2007, "The
    /// effective rank", section 2). Between 1 and r; 0 for a zero matrix.
    pub fn effective_rank(&self) -> f64 {
        let first = self.spectral_norm();
        if first == 0.0 {
            return 0.0;
        }
        let sum: f64 = self.singular_values.iter().map(|s| s / first).sum();
        let entropy: f64 = self
            .singular_values
            .iter()
            .map(|s| s / first / sum)
            .filter(|&p| p > 0.0)
            .map(|p| -p * p.ln())
            .sum();
        entropy.exp()
    }

    /// Stable rank: ‖·‖_F²/σ₁² = Σ σᵢ²/σ₁² (Rudelson & Vershynin 2007, "Sampling from large
    /// matrices", section 1). Between 1 and r; 0 for a zero matrix.
    pub fn stable_rank(&self) -> f64 {
        let first = self.spectral_norm();
        if first == 0.0 {
            return 0.0;
        }
        self.singular_values.iter().map(|s| (s / first).powi(2)).sum()
    }

    /// ‖·‖_* = Σ σᵢ, the nuclear norm (also trace norm).
    pub fn nuclear_norm(&self) -> f64 {
        self.singular_values.iter().sum()
    }

    /// Participation ratio: (Σ σᵢ²)² / Σ σᵢ⁴, that of the eigenvalues of ΔW·ΔWᵀ (Gao et al. 2017, "A theory
    /// of multineuronal dimensionality, dynamics and measurement"). Between 1 and r; 0 for a zero
    /// matrix.
    pub fn participation_ratio(&self) -> f64 {
        let first = self.spectral_norm();
        if first == 0.0 {
            return 0.0;
        }
        let power = |p: i32| self.singular_values.iter().map(|s| (s / first).powi(p)).sum::<f64>();
        power(2).powi(2) / power(4)
    }

    /// Numerical rank: how many σᵢ lie above a tolerance, σ₁·max(in, out)·2⁻⁵² where none is given (Golub &
    /// Van Loan 2013, *Matrix Computations*, 5.4.1). Rounding of factors in f32 alone leaves singular values of
    /// about σ₁·10⁻⁷.
    pub fn numerical_rank(&self, tolerance: Option<f64>) -> usize {
        let size = self.in_features.max(self.out_features) as f64;
        let tolerance = tolerance.unwrap_or(self.spectral_norm() * size * f64::EPSILON);
        self.singular_values.iter().filter(|s| **s > tolerance).count()
    }

    /// Condition: σ₁ / σ_k, k = min(in, out, r); infinite where σ_k is 0.
    pub fn condition(&self) -> f64 {
        match self.singular_values.last() {
            Some(last) if *last > 0.0 => self.spectral_norm() / last,
            _ => f64::INFINITY,
        }
    }

    /// Share of the first direction in the energy: σ₁² / Σ σᵢ², the inverse of the stable rank. 0 for a zero
    /// matrix.
    pub fn first_share(&self) -> f64 {
        match self.stable_rank() {
            0.0 => 0.0,
            rank => 1.0 / rank,
        }
    }

    /// ‖ΔW‖_F / ‖W₀‖_F: the relative change of the weight.
    ///
    /// # Errors
    /// When ‖W₀‖_F is not a positive number.
    pub fn relative_norm(&self, weight_norm: f64) -> Result<f64> {
        if !(weight_norm.is_finite() && weight_norm > 0.0) {
            return Err(Error::input(format!("the norm of the weight is {weight_norm}"))
                .layer(&self.name)
                .help("pass ‖W₀‖_F of the frozen weight, a positive number"));
        }
        Ok(self.frobenius_norm() / weight_norm)
    }

    /// Energy of the first k directions: Σ_{i≤k} σᵢ² / Σ σᵢ², the share of ‖·‖_F² that the best
    /// rank-k matrix keeps (Eckart & Young 1936). 1 for a zero matrix, which is kept whole by any k.
    pub fn energy(&self, k: usize) -> f64 {
        self.cumulative_energy().take(k).last().unwrap_or(if self.spectral_norm() == 0.0 { 1.0 } else { 0.0 })
    }

    /// Energy rank: the smallest k with Σ_{i≤k} σᵢ² ≥ share·Σ σᵢ². 0 for a zero matrix.
    ///
    /// # Errors
    /// When the share is not in (0, 1].
    pub fn energy_rank(&self, share: f64) -> Result<usize> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::input(format!("an energy of {share}"))
                .help("ask for a share above 0 and up to 1, for example 0.9"));
        }
        if self.spectral_norm() == 0.0 {
            return Ok(0);
        }
        // σ = (3, 1) keeps exactly 0.9 in one direction; rounding must not make it two.
        let enough = share - 1e-12;
        Ok(1 + self.cumulative_energy().take_while(|&energy| energy < enough).count())
    }

    /// Σ_{i≤k} σᵢ² / Σ σᵢ² for k = 1, 2, …, exactly 1 at the end.
    pub(super) fn cumulative_energy(&self) -> impl Iterator<Item = f64> {
        let first = self.spectral_norm();
        let square = move |s: &f64| if first == 0.0 { 0.0 } else { (s / first).powi(2) };
        // Summed in the same order, so that the last share is the total by itself.
        let total: f64 = self.singular_values.iter().map(square).sum();
        self.singular_values.iter().scan(0.0, move |sum, s| {
            *sum += square(s);
            Some(if total == 0.0 { 1.0 } else { *sum / total })
        })
    }
}
