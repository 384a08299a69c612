//! Rank advice: the smallest rank of each module that keeps a share of the energy of ΔW.

use super::spectral_measure::percent;
use super::{Spectra, Spectrum};
use crate::display::{Table, thousands};
use crate::error::Result;
use indexmap::IndexMap;
use polars::prelude::{DataFrame, df};
use std::collections::HashMap;

/// How the factor in front of B·A follows from alpha and r.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scaling {
    /// alpha / r
    #[default]
    Rank,
    /// alpha / √r (rsLoRA, Kalajdzievski 2023)
    Root,
}

/// The rank of one module that keeps the energy asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Advised {
    /// The module's path, of a part of a merged layer with its number: `c_attn[0]`.
    pub name: String,
    /// The rank that it has.
    pub rank: usize,
    /// The smallest rank that keeps the energy of scale·B·A.
    pub plain: usize,
    /// The smallest rank that keeps the energy of scale·B·C^½, where there is a C.
    pub weighted: Option<usize>,
    /// The share of energy that [`advised`](Self::advised) directions keep, in the spectrum that decided.
    pub energy: f64,
    /// The factor before B·A, which stays.
    pub scale: f64,
}

impl Advised {
    /// The rank by output error if it is known, otherwise by ΔW; 0 if ΔW is zero.
    pub fn advised(&self) -> usize {
        self.weighted.unwrap_or(self.plain)
    }
}

/// For each module the smallest rank that keeps a share of the energy.
///
/// It describes truncations of these adapters; an adapter that is trained at that rank is different.
#[derive(Clone)]
pub struct Advice {
    /// The share of Σ σ² that is to be kept.
    pub energy: f64,
    /// One for each adapter, in their order.
    pub modules: Vec<Advised>,
    spectra: Spectra,
}

impl Spectra {
    /// For each adapter the smallest k with Σ_{i≤k} σᵢ² ≥ energy·Σ σᵢ², by the weighted spectrum where
    /// there is one.
    ///
    /// # Errors
    /// When the energy is not in (0, 1].
    ///
    /// # Examples
    /// ```
    /// use lorascope::spectrum::{Scaling, Spectra, Spectrum};
    ///
    /// // B = diag(3, 1), A = identity, scale 2: one of two directions has 9/10 of the energy.
    /// let spectrum = Spectrum::from_slices("layers.0.q_proj", &[1., 0., 0., 1.], &[3., 0., 0., 1.], 2, 2.0)?;
    /// let advice = Spectra::from(vec![spectrum]).advise(0.9)?;
    /// assert_eq!(advice.rank_pattern()["layers.0.q_proj"], 1);
    /// assert_eq!(advice.alpha_pattern(Scaling::Rank)["layers.0.q_proj"], 2.0); // alpha / 1 = the scale
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn advise(&self, energy: f64) -> Result<Advice> {
        let modules = self.iter().map(|plain| {
            let own = plain.energy_rank(energy)?;
            let weighted = self.weighted_of(&plain.name);
            let by_output = weighted
                .map(|w| Ok::<_, crate::error::Error>(w.energy_rank(energy)?.max(own.min(1))))
                .transpose()?;
            Ok(Advised {
                name: plain.name.clone(),
                rank: plain.rank,
                plain: own,
                weighted: by_output,
                energy: weighted.unwrap_or(plain).energy(by_output.unwrap_or(own)),
                scale: plain.scale,
            })
        });
        Ok(Advice { energy, modules: modules.collect::<Result<_>>()?, spectra: self.clone() })
    }
}

impl Advice {
    /// The rank of each layer, for `LoraConfig::rank_pattern` and PEFT; of a merged layer the
    /// largest of its parts. At least 1, as no configuration can say 0: a layer that is not named has the
    /// full rank.
    pub fn rank_pattern(&self) -> IndexMap<String, usize> {
        let mut ranks = IndexMap::new();
        for module in &self.modules {
            let rank = ranks.entry(layer(&module.name).to_string()).or_insert(0);
            *rank = module.advised().max(*rank).max(1);
        }
        ranks
    }

    /// The alpha of each layer that keeps its scale at the rank of [`rank_pattern`](Self::rank_pattern).
    pub fn alpha_pattern(&self, scaling: Scaling) -> IndexMap<String, f64> {
        let scales: HashMap<&str, f64> =
            self.modules.iter().map(|module| (layer(&module.name), module.scale)).collect();
        let alpha = |path: &str, rank: usize| {
            let by = match scaling {
                Scaling::Rank => rank as f64,
                Scaling::Root => (rank as f64).sqrt(),
            };
            scales.get(path).copied().unwrap_or(1.0) * by
        };
        self.rank_pattern()
            .into_iter()
            .map(|(path, rank)| {
                let alpha = alpha(&path, rank);
                (path, alpha)
            })
            .collect()
    }

    /// The spectra that the advice is for.
    pub(super) fn spectra(&self) -> &Spectra {
        &self.spectra
    }

    /// Numbers in A and B now, and at the ranks of [`rank_pattern`](Self::rank_pattern). A pair whose start is
    /// taken off (PiSSA) counts with what its ΔW is made of, at twice its rank.
    pub fn parameters(&self) -> (u64, u64) {
        let pattern = self.rank_pattern();
        let size = |spectrum: &Spectrum| (spectrum.in_features + spectrum.out_features) as u64;
        let then = |spectrum: &Spectrum| pattern.get(layer(&spectrum.name)).map_or(0, |rank| *rank as u64);
        let now = self.spectra.iter().map(|s| size(s) * s.rank as u64).sum();
        (now, self.spectra.iter().map(|s| size(s) * then(s)).sum())
    }

    /// One row for each adapter: name, layer, module, rank, advised_rank, plain_rank, weighted_rank, energy,
    /// scale.
    ///
    /// # Errors
    /// When polars refuses to build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let count = |of: fn(&Advised) -> usize| self.modules.iter().map(|m| of(m) as u32).collect::<Vec<_>>();
        let places = self.spectra.places();
        Ok(df!(
            "name" => self.modules.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
            "layer" => places.iter().map(|place| place.layer.map(|layer| layer as u32)).collect::<Vec<_>>(),
            "module" => places.iter().map(|place| place.module.as_str()).collect::<Vec<_>>(),
            "rank" => count(|m| m.rank),
            "advised_rank" => count(Advised::advised),
            "plain_rank" => count(|m| m.plain),
            "weighted_rank" => self.modules.iter().map(|m| m.weighted.map(|k| k as u32)).collect::<Vec<_>>(),
            "energy" => self.modules.iter().map(|m| m.energy).collect::<Vec<_>>(),
            "scale" => self.modules.iter().map(|m| m.scale).collect::<Vec<_>>(),
        )?)
    }

    /// The advised rank for each layer (row) and module (column), and the mean of each module.
    pub fn table(&self) -> Table {
        let ranks: HashMap<&str, usize> =
            self.modules.iter().map(|module| (module.name.as_str(), module.advised())).collect();
        let (now, then) = self.parameters();
        let by = match self.modules.iter().filter(|module| module.weighted.is_some()).count() {
            0 => "of ΔW".to_string(),
            all if all == self.modules.len() => "of the output's change".to_string(),
            some => format!("of the output's change in {some} modules, of ΔW in the others"),
        };
        let nothing = match self.modules.iter().filter(|module| module.advised() == 0).count() {
            0 => String::new(),
            all if all == self.modules.len() => "; every ΔW is 0: nothing was learned".to_string(),
            some => format!("; in {some} modules ΔW is 0: nothing was learned there, and rank 0 keeps all"),
        };
        let caption = format!(
            "ranks that keep {} of the energy {by}: {} numbers instead of {}; a truncated adapter keeps this much, one trained at these ranks may differ{nothing}",
            percent(self.energy),
            thousands(then),
            thousands(now),
        );
        let rank = |spectrum: &Spectrum| ranks.get(spectrum.name.as_str()).map_or(0.0, |rank| *rank as f64);
        self.spectra.table_of(caption, rank, 0)
    }
}

/// The layer that a part belongs to: `c_attn` of `c_attn[0]`.
fn layer(name: &str) -> &str {
    name.split_once('[').map_or(name, |(layer, _)| layer)
}
