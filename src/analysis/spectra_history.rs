//! The singular values of every adapter along the steps of a run.

use crate::display::{Align, Bundle, Show, Table, Text, brief};
use crate::error::{Error, Result};
use crate::plot::{self, Figure, Measure, Series};
use crate::run::history::{OTHERS, TRAINING};
use crate::spectrum::{LayerPlace, Spectra, Spectrum, ends_in};
use crate::train::StepSpectra;
use polars::prelude::{DataFrame, df};
use std::sync::Arc;

/// The spectra of every adapter at the steps that kept them
/// ([`RunConfig::spectra_every`](crate::train::RunConfig::spectra_every)), beside the loss.
#[derive(Clone)]
pub struct SpectraHistory {
    /// The adapters as they are now: their names and shapes.
    spectra: Arc<[(Spectrum, LayerPlace)]>,
    steps: Vec<(u64, f64, StepSpectra)>,
    /// The loss of every step.
    losses: Vec<(f64, f64)>,
    footer: String,
}

const PLAIN: &str = "B·A";
const WEIGHTED: &str = "B·C^½";

/// Singular values after each step.
type OverSteps = Vec<(f64, Vec<f64>)>;

impl SpectraHistory {
    /// Those of the steps that kept some, with the adapters as they are now.
    pub(crate) fn of(
        now: &Spectra,
        mut steps: Vec<(u64, f64, StepSpectra)>,
        losses: Vec<(f64, f64)>,
        footer: String,
    ) -> Result<Self> {
        steps.retain(|(.., kept)| kept.plain.len() == now.len());
        if steps.is_empty() {
            return Err(Error::state("no singular values were kept with the steps so far").help(
                "run.step()? keeps some unless the run was made with spectra_every: None; run.spectra()? has those of now",
            ));
        }
        let spectra = now.iter().cloned().zip(now.places().iter().cloned()).collect();
        Ok(Self { spectra, steps, losses, footer })
    }

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

    /// The singular values of scale·B·A of one adapter over the steps as a map: `name` is its path or the
    /// end of it, `layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// When the name fits none or several adapters, or all values are zero.
    pub fn waterfall(&self, name: &str) -> Result<Figure> {
        let at = self.find(name)?;
        let title = format!("Singular values of {PLAIN} over the steps: {}", self.spectra[at].0.name);
        Ok(plot::waterfall(&title, &self.over_steps(at, |kept| &kept.plain))?.with_footer(&self.footer))
    }

    /// The same of scale·B·C^½, at the steps that know it.
    ///
    /// # Errors
    /// As [`waterfall`](Self::waterfall), and when no step knows it.
    pub fn weighted_waterfall(&self, name: &str) -> Result<Figure> {
        let at = self.find(name)?;
        let title = format!("Singular values of {WEIGHTED} over the steps: {}", self.spectra[at].0.name);
        let values = self.over_steps(at, |kept| &kept.weighted);
        if values.is_empty() {
            return Err(unweighted("waterfall(name)"));
        }
        Ok(plot::waterfall(&title, &values)?.with_footer(&self.footer))
    }

    /// As lines, σ_k over the steps: those of scale·B·A, and dashed those of scale·B·C^½ at the steps that
    /// know them.
    ///
    /// # Errors
    /// As [`waterfall`](Self::waterfall).
    pub fn traces(&self, name: &str) -> Result<Figure> {
        let at = self.find(name)?;
        let title =
            |what: &str| format!("Singular values of {what} over the steps: {}", self.spectra[at].0.name);
        let plain = self.over_steps(at, |kept| &kept.plain);
        let weighted = self.over_steps(at, |kept| &kept.weighted);
        let figure = match weighted.is_empty() {
            true => plot::traces(&title(PLAIN), &plain)?,
            false => {
                let both = title(&format!("{PLAIN} and {WEIGHTED}"));
                plot::traces_beside(&both, (PLAIN, &plain), (WEIGHTED, &weighted))?
            }
        };
        Ok(figure.with_footer(&self.footer))
    }

    /// The values of one adapter after each step that has them.
    fn over_steps(&self, at: usize, of: fn(&StepSpectra) -> &Vec<Vec<f32>>) -> OverSteps {
        let wide = |values: &Vec<f32>| values.iter().map(|sigma| f64::from(*sigma)).collect();
        self.steps
            .iter()
            .filter_map(|(step, _, kept)| Some((*step as f64, wide(of(kept).get(at)?))))
            .collect()
    }

    /// Which adapter has this path or end of a path.
    fn find(&self, name: &str) -> Result<usize> {
        let fits = |spectrum: &Spectrum| ends_in(&spectrum.name, name);
        let found: Vec<usize> = (0..self.spectra.len()).filter(|i| fits(&self.spectra[*i].0)).collect();
        let [at] = found[..] else {
            let what = if found.is_empty() { "no adapter" } else { "more than one adapter" };
            let near: Vec<&str> = match found.is_empty() {
                true => self.spectra.iter().take(3).map(|(s, _)| s.name.as_str()).collect(),
                false => found.iter().take(3).map(|i| self.spectra[*i].0.name.as_str()).collect(),
            };
            let layers = || self.spectra.iter().filter_map(|(_, place)| place.layer);
            let range = match (layers().min(), layers().max()) {
                (Some(first), Some(last)) if found.is_empty() => {
                    format!(", in the layers {first} to {last}")
                }
                _ => String::new(),
            };
            return Err(Error::not_found(format!("{what} is called {name:?}"))
                .help(format!("say one of {}, …{range}", near.join(", "))));
        };
        Ok(at)
    }

    /// A measure of the spectra over the steps that have them: its mean over the adapters of each module.
    fn means(
        &self,
        of: fn(&StepSpectra) -> &Vec<Vec<f32>>,
        measure: fn(&Spectrum) -> f64,
    ) -> Vec<(String, Vec<(f64, f64)>)> {
        let mut modules: Vec<&str> = Vec::new();
        for (_, place) in self.spectra.iter() {
            if !modules.contains(&place.module.as_str()) {
                modules.push(&place.module);
            }
        }
        let mean = |module: &str, kept: &StepSpectra| {
            let own = self.spectra.iter().zip(of(kept)).filter(|((_, place), _)| place.module == module);
            let (count, sum) = own.fold((0.0, 0.0), |(count, sum), ((spectrum, _), values)| {
                let singular_values = values.iter().map(|sigma| f64::from(*sigma)).collect();
                (count + 1.0, sum + measure(&Spectrum { singular_values, ..spectrum.clone() }))
            });
            sum / count
        };
        let known = || self.steps.iter().filter(|(.., kept)| of(kept).len() == self.spectra.len());
        let over = |module: &str| known().map(|(step, _, kept)| (*step as f64, mean(module, kept))).collect();
        modules.into_iter().map(|module| (module.to_string(), over(module))).collect()
    }

    /// Whether some step knows the spectra of scale·B·C^½.
    fn weighted(&self) -> bool {
        self.steps.iter().any(|(.., kept)| kept.weighted.len() == self.spectra.len())
    }

    /// The effective rank of scale·B·A over the steps, its mean over the layers of each module, with the loss
    /// on a second axis.
    ///
    /// # Errors
    /// When nothing can be drawn.
    pub fn plot(&self) -> Result<Figure> {
        self.beside_loss(PLAIN, |kept| &kept.plain)
    }

    /// The same of scale·B·C^½, at the steps that know it.
    ///
    /// # Errors
    /// When no step knows it.
    pub fn weighted_plot(&self) -> Result<Figure> {
        if !self.weighted() {
            return Err(unweighted("plot()"));
        }
        self.beside_loss(WEIGHTED, |kept| &kept.weighted)
    }

    fn beside_loss(&self, what: &str, of: fn(&StepSpectra) -> &Vec<Vec<f32>>) -> Result<Figure> {
        let means = self.means(of, Spectrum::effective_rank);
        let ranks = means
            .into_iter()
            .zip(OTHERS..)
            .map(|((module, points), colour)| Series::line(module, points).coloured(colour));
        let ranks = Measure::new(format!("effective rank of {what}"), ranks);
        let loss = Measure::new(
            "cross-entropy (nats per token)",
            [Series::smoothed("loss", self.losses.clone(), 8.0).coloured(TRAINING)],
        );
        let title = format!("Effective rank of {what} and loss");
        Ok(plot::two_axes(&title, "step", &ranks, &loss)?.with_footer(&self.footer))
    }
}

fn unweighted(instead: &str) -> Error {
    Error::state("no spectra weighted by activations were kept with the steps so far")
        .help(format!("{instead} has those of {PLAIN}"))
}

brief!(SpectraHistory);

impl Show for SpectraHistory {
    fn show(&self) -> Bundle {
        let weighted = self.weighted();
        let mut columns = vec!["module", "effective rank, first", "last", "‖ΔW‖, first", "last"];
        if weighted {
            columns.extend(["effective rank of B·C^½, first", "last"]);
        }
        let align = |name: &str| if name == "module" { Align::Left } else { Align::Right };
        let mut table = Table::new(columns.into_iter().map(|name| (name, align(name)))).caption(format!(
            "spectra of {} adapters at {} steps; means over the layers",
            self.spectra.len(),
            self.len()
        ));
        let ends = |points: &[(f64, f64)], decimals: usize| {
            [points.first(), points.last()]
                .map(|end| end.map_or(String::new(), |p| format!("{:.decimals$}", p.1)))
        };
        let ranks = self.means(|kept| &kept.plain, Spectrum::effective_rank);
        let norms = self.means(|kept| &kept.plain, Spectrum::frobenius_norm);
        let outputs = self.means(|kept| &kept.weighted, Spectrum::effective_rank);
        for (((module, ranks), (_, norms)), (_, outputs)) in ranks.into_iter().zip(norms).zip(outputs) {
            let cells = [vec![module], ends(&ranks, 2).into(), ends(&norms, 3).into()].concat();
            table.row(cells.into_iter().chain(if weighted { ends(&outputs, 2).into() } else { Vec::new() }));
        }
        match (self.plot(), self.weighted_plot()) {
            (Ok(plain), Ok(weighted)) => (plain, weighted, table).show(),
            (Ok(plain), Err(_)) => (plain, table).show(),
            (Err(error), _) => (Text::new(error.to_string()), table).show(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The projections of attention and of the MLP in two layers of GPT-2, at rank 2, after two steps; the
    /// weighted values are known after the second.
    fn history() -> SpectraHistory {
        let names: Vec<String> =
            (0..2).flat_map(|l| ["attn", "mlp"].map(|part| format!("h.{l}.{part}.c_proj"))).collect();
        let spectrum = |name: &String| {
            Spectrum::from_slices(name, &[1., 0., 0., 1.], &[1., 0., 0., 1.], 2, 1.0).unwrap()
        };
        let now = Spectra::from(names.iter().map(spectrum).collect::<Vec<_>>());
        // Effective rank 1 in attention and 2 in the MLP.
        let plain = vec![vec![2.0, 0.0], vec![3.0, 3.0], vec![4.0, 0.0], vec![5.0, 5.0]];
        let weighted = vec![vec![8.0, 8.0], vec![6.0, 0.0], vec![8.0, 8.0], vec![6.0, 0.0]];
        let first = StepSpectra { plain: plain.clone(), weighted: Vec::new() };
        let steps = vec![(1, 2.5, first), (2, 2.0, StepSpectra { plain, weighted })];
        SpectraHistory::of(&now, steps, vec![(1.0, 2.5), (2.0, 2.0)], "seed 42".into()).unwrap()
    }

    fn column(figure: &Figure, name: &str) -> Vec<Option<f64>> {
        figure.data().unwrap().column(name).unwrap().f64().unwrap().iter().collect()
    }

    #[test]
    fn modules_of_one_name_stay_apart() {
        let history = history();
        let figure = history.plot().unwrap();
        for text in ["h.attn.c_proj", "h.mlp.c_proj"] {
            assert!(figure.svg().contains(text), "{text}");
            assert!(history.show().text.contains(text), "{text}");
        }
        let ranks: Vec<f64> = column(&figure, "effective rank of B·A").into_iter().flatten().collect();
        assert_eq!(ranks, [1.0, 1.0, 2.0, 2.0]);
        let frame = history.frame().unwrap();
        assert_eq!(frame.column("module").unwrap().str().unwrap().get(2), Some("h.mlp.c_proj"));
    }

    #[test]
    fn weighted_spectra_stand_beside_the_plain_ones() {
        let history = history();
        let ranks = column(&history.weighted_plot().unwrap(), "effective rank of B·C^½");
        assert_eq!(ranks.into_iter().flatten().collect::<Vec<_>>(), [2.0, 1.0]);
        let shown = history.show().text;
        assert!(shown.contains("effective rank of B·C^½, first"), "{shown}");

        let traces = history.traces("h.1.attn.c_proj").unwrap();
        assert!(traces.svg().contains("stroke-dasharray") && traces.title().contains("B·A and B·C^½"));
        assert_eq!(column(&traces, "singular value"), [4.0, 0.0, 4.0, 0.0, 8.0, 8.0].map(Some));
        assert_eq!(column(&traces, "step")[4..], [Some(2.0), Some(2.0)]);
        let map = history.weighted_waterfall("h.1.attn.c_proj").unwrap();
        assert_eq!(column(&map, "singular value"), [8.0, 8.0].map(Some));
        assert_eq!(column(&history.waterfall("h.1.attn.c_proj").unwrap(), "singular value")[2], Some(4.0));

        for figure in [history.plot().unwrap(), history.weighted_plot().unwrap()] {
            assert!(figure.svg().contains("loss (right axis)"));
        }

        // Without them nothing speaks of C.
        let (step, loss, kept) = history.steps[0].clone();
        let plain = SpectraHistory { steps: vec![(step, loss, kept)], ..history };
        assert!(!plain.traces("h.0.mlp.c_proj").unwrap().svg().contains("C^½"));
        assert!(plain.weighted_plot().unwrap_err().is_state());
        assert!(!plain.show().text.contains("C^½"));
        assert!(plain.weighted_waterfall("h.0.mlp.c_proj").unwrap_err().is_state());
    }

    #[test]
    fn a_name_that_none_has_is_answered_with_the_layers() {
        let error = history().waterfall("h.99.attn.c_proj").unwrap_err().to_string();
        assert!(error.contains("no adapter") && error.contains("in the layers 0 to 1"), "{error}");
        let error = history().traces("c_proj").unwrap_err().to_string();
        assert!(error.contains("more than one adapter") && !error.contains("layers 0"), "{error}");
    }
}
