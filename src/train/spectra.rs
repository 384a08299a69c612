//! The singular values of every adapter along the steps of a run.

use super::run::Run;
use super::step::Learned;
use crate::display::{Align, Bundle, Show, Table, Text};
use crate::error::{Error, Result};
use crate::plot::{self, Figure, Measure, Series};
use crate::spectrum::{Place, Spectra, Spectrum};
use polars::prelude::{DataFrame, df};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Singular values after one step: those of each adapter in the order of
/// [`Adapters::spectra`](crate::lora::Adapters::spectra), rounded to f32.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpectra {
    /// Of scale·B·A.
    pub plain: Vec<Vec<f32>>,
    /// Of scale·B·C^½ with C = E[(A x)(A x)ᵀ], where it is known.
    pub weighted: Vec<Vec<f32>>,
}

impl StepSpectra {
    pub(super) fn of(learned: &Learned) -> Result<Self> {
        let spectra = learned.adapters.spectra_weighted(learned.activations.by_path())?;
        let rounded = |s: &Spectrum| s.singular_values.iter().map(|sigma| *sigma as f32).collect();
        let weighted = spectra.weighted();
        let weighted = weighted.iter().filter(|weighted| weighted.len() == spectra.len());
        Ok(Self {
            plain: spectra.iter().map(rounded).collect(),
            weighted: weighted.flat_map(Spectra::iter).map(rounded).collect(),
        })
    }
}

/// The spectra of every adapter along the steps at which they were looked at
/// ([`RunConfig::spectra_every`](super::RunConfig::spectra_every)), beside the loss.
#[derive(Debug, Clone)]
pub struct SpectraHistory {
    /// The adapters as they are now: their names and shapes.
    spectra: Arc<[(Spectrum, Place)]>,
    steps: Vec<(u64, f64, StepSpectra)>,
    /// The loss of every step.
    losses: Vec<(f64, f64)>,
    footer: String,
}

/// Singular values after each step.
type OverSteps = Vec<(f64, Vec<f64>)>;

impl Run {
    /// The singular values of every adapter along the steps so far.
    ///
    /// # Errors
    /// When none were kept, or an adapter holds a value that is not finite.
    pub fn spectra_history(&self) -> Result<SpectraHistory> {
        let now = self.adapters().spectra()?;
        let spectra: Vec<_> = now.iter().map(|spectrum| (spectrum.clone(), spectrum.place())).collect();
        let history = self.history();
        let steps: Vec<_> = history
            .steps()
            .iter()
            .filter_map(|step| Some((step.step, step.loss, step.spectra.clone()?)))
            .filter(|(.., kept)| kept.plain.len() == spectra.len())
            .collect();
        if steps.is_empty() {
            return Err(Error::state("no singular values were kept with the steps so far").help(
                "run.step()? keeps some unless the run was made with spectra_every: None; run.spectra()? has those of now",
            ));
        }
        let losses = history.steps().iter().map(|step| (step.step as f64, step.loss)).collect();
        Ok(SpectraHistory { spectra: spectra.into(), steps, losses, footer: self.footer() })
    }
}

impl SpectraHistory {
    /// The number of steps that have spectra.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// One row for each singular value: step, loss (of that step, in nats), name, layer, module, k from 1,
    /// sigma, weighted_sigma (of scale·B·C^½; missing where it is not known).
    ///
    /// # Errors
    /// When polars fails.
    pub fn frame(&self) -> Result<DataFrame> {
        let mut step_of = Vec::new();
        let (mut losses, mut names, mut layers, mut modules) = (vec![], vec![], vec![], vec![]);
        let (mut index, mut sigmas, mut weighted) = (vec![], vec![], vec![]);
        for (step, loss, kept) in &self.steps {
            for (i, ((spectrum, place), values)) in self.spectra.iter().zip(&kept.plain).enumerate() {
                for (k, sigma) in values.iter().enumerate() {
                    step_of.push(*step);
                    losses.push(*loss);
                    names.push(spectrum.name.as_str());
                    layers.push(place.layer.map(|layer| layer as u32));
                    modules.push(place.module.as_str());
                    index.push(k as u32 + 1);
                    sigmas.push(*sigma);
                    weighted.push(kept.weighted.get(i).and_then(|values| values.get(k)).copied());
                }
            }
        }
        Ok(df!(
            "step" => step_of, "loss" => losses, "name" => names, "layer" => layers, "module" => modules,
            "k" => index, "sigma" => sigmas, "weighted_sigma" => weighted,
        )?)
    }

    /// The spectra of one adapter over the steps as a map: `name` is its path or the end of it,
    /// `layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// When the name fits none or several adapters, or all values are zero.
    pub fn waterfall(&self, name: &str) -> Result<Figure> {
        let (name, values) = self.of(name)?;
        let figure = plot::waterfall(&format!("Singular values of B·A over the steps: {name}"), &values)?;
        Ok(figure.with_footer(&self.footer))
    }

    /// The same as lines, σ_k over the steps.
    ///
    /// # Errors
    /// As [`waterfall`](Self::waterfall).
    pub fn traces(&self, name: &str) -> Result<Figure> {
        let (name, values) = self.of(name)?;
        let figure = plot::traces(&format!("Singular values of B·A over the steps: {name}"), &values)?;
        Ok(figure.with_footer(&self.footer))
    }

    fn of(&self, name: &str) -> Result<(&str, OverSteps)> {
        let fits =
            |spectrum: &Spectrum| spectrum.name == name || spectrum.name.ends_with(&format!(".{name}"));
        let found: Vec<usize> = (0..self.spectra.len()).filter(|i| fits(&self.spectra[*i].0)).collect();
        let [at] = found[..] else {
            let what = if found.is_empty() { "no adapter" } else { "more than one adapter" };
            let near: Vec<&str> = match found.is_empty() {
                true => self.spectra.iter().take(3).map(|(s, _)| s.name.as_str()).collect(),
                false => found.iter().take(3).map(|i| self.spectra[*i].0.name.as_str()).collect(),
            };
            return Err(Error::not_found(format!("{what} is called {name:?}"))
                .help(format!("say one of {}, …", near.join(", "))));
        };
        let wide = |values: &[f32]| values.iter().map(|sigma| f64::from(*sigma)).collect();
        let values = self.steps.iter().map(|(step, _, kept)| (*step as f64, wide(&kept.plain[at])));
        Ok((&self.spectra[at].0.name, values.collect()))
    }

    /// A measure of the spectra over the steps: its mean over the adapters of each module.
    fn means(&self, measure: fn(&Spectrum) -> f64) -> Vec<(String, Vec<(f64, f64)>)> {
        let mut modules: Vec<&str> = Vec::new();
        for (_, place) in self.spectra.iter() {
            if !modules.contains(&place.module.as_str()) {
                modules.push(&place.module);
            }
        }
        let mean = |module: &str, kept: &StepSpectra| {
            let own = self.spectra.iter().zip(&kept.plain).filter(|((_, place), _)| place.module == module);
            let (count, sum) = own.fold((0.0, 0.0), |(count, sum), ((spectrum, _), values)| {
                let singular_values = values.iter().map(|sigma| f64::from(*sigma)).collect();
                (count + 1.0, sum + measure(&Spectrum { singular_values, ..spectrum.clone() }))
            });
            sum / count
        };
        let over = |module: &str| {
            self.steps.iter().map(|(step, _, kept)| (*step as f64, mean(module, kept))).collect()
        };
        modules.into_iter().map(|module| (module.to_string(), over(module))).collect()
    }

    /// The effective rank over the steps, its mean over the layers of each module, with the loss on an axis
    /// of its own.
    ///
    /// # Errors
    /// When nothing can be drawn.
    pub fn plot(&self) -> Result<Figure> {
        let ranks = self.means(Spectrum::effective_rank);
        let ranks = Measure::new(
            "effective rank",
            ranks.into_iter().map(|(name, points)| Series::line(name, points)),
        );
        let loss = Measure::new(
            "cross-entropy (nats per token)",
            [Series::smoothed("loss", self.losses.clone(), 8.0)],
        );
        Ok(plot::two_axes("Effective rank and loss", "step", &ranks, &loss)?.with_footer(&self.footer))
    }
}

impl Show for SpectraHistory {
    fn show(&self) -> Bundle {
        let columns = ["module", "effective rank, first", "last", "‖ΔW‖, first", "last"];
        let mut table = Table::new(
            columns.map(|c| (c, if c == "module" { Align::Left } else { Align::Right })),
        )
        .caption(format!(
            "spectra of {} adapters at {} steps; means over the layers",
            self.spectra.len(),
            self.len()
        ));
        let norms = self.means(Spectrum::frobenius_norm);
        for ((module, ranks), (_, norms)) in self.means(Spectrum::effective_rank).into_iter().zip(norms) {
            let ends =
                |points: &[(f64, f64)]| [points.first(), points.last()].map(|p| p.map_or(0.0, |p| p.1));
            let ([first, last], [small, large]) = (ends(&ranks), ends(&norms));
            table.row([
                module,
                format!("{first:.2}"),
                format!("{last:.2}"),
                format!("{small:.3}"),
                format!("{large:.3}"),
            ]);
        }
        match self.plot() {
            Ok(figure) => (figure, table).show(),
            Err(error) => (Text::new(error.to_string()), table).show(),
        }
    }
}
