//! Charts of spectra: each a thin layer over a chart of [`plot`].

use super::captions::{capital, digits, evenly, some};
use super::layer_place::LayerPlace;
use super::spectra::{Spectra, SpectrumKind, layer_name};
use super::spectral_measure::SpectralMeasure;
use super::{Advice, Amplification, Intruders, Spectrum, SubspaceOverlap};
use crate::display::{Bundle, Show, Table, brief};
use crate::error::{Error, Result};
use crate::plot::{self, Curve, Figure, HeatPanel, Panel, Scale, Series, SpectraStyle};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most lines in one panel that stay distinguishable.
const LINES: usize = 16;
/// The most lines with a legend.
const NAMED: usize = 8;
/// Singular values below this share of σ₁ are rounding errors and not drawn on a log scale.
const ROUNDING: f64 = 1e-13;

impl Spectra {
    /// The spectra on a log scale: one panel for each module, one line for each layer, coloured by
    /// depth. Of a module in more than 16 layers, 16 are drawn, evenly spaced from its first to its last:
    /// the footer says which, and [`plot_all`](Self::plot_all) draws all. Those [weighted](Self::weighted) by activations have a picture of their own.
    ///
    /// # Errors
    /// When there is no adapter.
    pub fn plot(&self) -> Result<Figure> {
        self.plot_as(SpectraStyle::default())
    }

    /// The same on a linear scale, where the first directions are seen and the last are flat.
    ///
    /// # Errors
    /// When there is no adapter.
    pub fn plot_linear(&self) -> Result<Figure> {
        self.plot_as(SpectraStyle { scale: Scale::Linear, ..SpectraStyle::default() })
    }

    /// [`plot`](Self::plot) on the scale of `style`, with a line fitted to each spectrum if it says so.
    ///
    /// # Errors
    /// When there is no adapter.
    ///
    /// # Examples
    /// ```
    /// use lorascope::display::Show;
    /// use lorascope::plot::{Fit, SpectraStyle};
    /// use lorascope::spectrum::{Spectra, Spectrum};
    ///
    /// // σ = 100 and 10: an exponential decay to a tenth.
    /// let spectrum = Spectrum::from_slices("layers.0.q_proj", &[1., 0., 0., 1.], &[100., 0., 0., 10.], 2, 1.0)?;
    /// let style = SpectraStyle { fit: Fit::Line, ..Default::default() };
    /// let figure = Spectra::from(vec![spectrum]).plot_as(style)?;
    /// assert!(figure.show().text.contains("log₁₀ σ falls by 1 from k to k + 1"));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn plot_as(&self, style: SpectraStyle) -> Result<Figure> {
        self.drawn(style, LINES)
    }

    /// [`plot`](Self::plot) with a line for every layer, however many there are.
    ///
    /// # Errors
    /// When there is no adapter.
    ///
    /// # Examples
    /// ```
    /// use lorascope::spectrum::{Spectra, Spectrum};
    ///
    /// let of = |layer: usize| {
    ///     Spectrum::from_slices(&format!("layers.{layer}.q_proj"), &[1., 0., 0., 1.], &[3., 0., 0., 1.], 2, 1.0)
    /// };
    /// let spectra = Spectra::from((0..30).map(of).collect::<lorascope::error::Result<Vec<_>>>()?);
    /// assert!(spectra.plot()?.svg().contains("layers 0, 2, 4, 6, 8, 10, 12, 14, 15, 17"));
    /// assert_eq!(spectra.plot_all()?.data()?.height(), 60);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn plot_all(&self) -> Result<Figure> {
        self.drawn(SpectraStyle::default(), usize::MAX)
    }

    fn drawn(&self, style: SpectraStyle, most: usize) -> Result<Figure> {
        let all = self.by_layer();
        let curve = |(spectrum, place): (&Spectrum, &LayerPlace)| Curve {
            name: place.layer.map_or_else(|| place.module.clone(), |layer| format!("layer {layer}")),
            depth: place.layer.unwrap_or(0) as f64,
            values: spectrum.singular_values.clone(),
        };
        let own = |module: &str| -> Vec<(&Spectrum, &LayerPlace)> {
            all.iter().filter(|(_, place)| place.module == module).copied().collect()
        };
        let modules: Vec<(&str, Vec<_>)> =
            self.modules().into_iter().map(|module| (module, own(module))).collect();
        let counts: BTreeSet<usize> = modules.iter().map(|(_, own)| own.len()).collect();
        let some = match (counts.first(), counts.last()) {
            (Some(least), Some(&all)) if *least == all => some(most.min(all), all, "layers"),
            (_, Some(all)) if *all > most => format!(", at most {most} layers of each module"),
            _ => String::new(),
        };
        let widest =
            modules.iter().map(|(_, own)| own).max_by_key(|own| own.len()).filter(|own| own.len() > most);
        let footer = widest.map(|own| {
            let number =
                |(_, place): &(&Spectrum, &LayerPlace)| place.layer.map_or("–".into(), |l| l.to_string());
            let drawn: Vec<String> = evenly(own, most).iter().map(number).collect();
            let all = crate::display::advice("; plot_all() draws all", "");
            format!("layers {} of {}{all}", drawn.join(", "), own.len())
        });
        let panel = |(module, own): (&str, Vec<_>)| Panel {
            name: module.to_string(),
            curves: evenly(&own, most).into_iter().map(curve).collect(),
        };
        let panels: Vec<Panel> = modules.into_iter().map(panel).collect();
        let title = format!("Singular values of {}{some}", self.kind().name());
        let figure = plot::spectra_as(&title, &panels, style)?.with_columns(["module", "layer"]);
        Ok(match footer {
            Some(footer) => figure.with_footer(footer),
            None => figure,
        })
    }

    /// Cumulative energy Σ_{i≤k} σᵢ² / Σ σᵢ² over k of the adapters that [`select`](Self::select) finds for
    /// `part`, with a line at τ and the k at which each first reaches it; beside scale·B·A the
    /// [weighted](Self::weighted) spectrum where there is one. Of many adapters 8 are drawn (4 with
    /// the weighted ones beside them), evenly spaced from the first to the last.
    ///
    /// # Errors
    /// When no adapter is called so, all of them are zero, or τ is not in (0, 1].
    ///
    /// # Examples
    /// ```
    /// use lorascope::display::Show;
    /// use lorascope::spectrum::{Spectra, Spectrum};
    ///
    /// // σ = 3 and 1: the first direction has 9/10 of the energy.
    /// let spectrum = Spectrum::from_slices("layers.0.q_proj", &[1., 0., 0., 1.], &[3., 0., 0., 1.], 2, 1.0)?;
    /// let figure = Spectra::from(vec![spectrum]).energy_plot("q_proj", 0.9)?;
    /// assert!(figure.show().text.contains("0.9 within k = 1"));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn energy_plot(&self, part: &str, tau: f64) -> Result<Figure> {
        let chosen = self.select(part)?;
        let mut moved = chosen.by_layer();
        moved.retain(|(spectrum, _)| spectrum.spectral_norm() > 0.0);
        if moved.is_empty() {
            return Err(zero(part));
        }
        let weighted = moved.iter().any(|(spectrum, _)| chosen.weighted_of(&spectrum.name).is_some());
        let drawn = evenly(&moved, if weighted { NAMED / 2 } else { NAMED });
        let line = |name: String, spectrum: &Spectrum| {
            Series::line(name, (1..).map(f64::from).zip(spectrum.cumulative_energy()))
        };
        let mut series = Vec::new();
        for (spectrum, place) in &drawn {
            let name = called(place);
            let by_output = chosen.weighted_of(&spectrum.name).filter(|w| w.spectral_norm() > 0.0);
            if let Some(by_output) = by_output {
                series.push(line(format!("{name}, {}", self.kind().name()), spectrum));
                series.push(line(format!("{name}, {}", SpectrumKind::Weighted.name()), by_output));
            } else {
                series.push(line(name, spectrum));
            }
        }
        let some = some(drawn.len(), moved.len(), "adapters");
        let title = format!("Energy of {} kept by k directions{some}", self.kind().name());
        Ok(plot::energy(&title, &series, Some(tau))?.with_columns(["adapter"]))
    }

    /// The singular values of one module in a small plot for each layer, all on the same axes and on a
    /// log scale; beside scale·B·A the [weighted](Self::weighted) spectrum where there is one. Values
    /// below 10⁻¹³ of the largest are rounding and left out.
    ///
    /// # Errors
    /// When no adapter is called so, or all of them are zero.
    pub fn small_multiples(&self, module: &str) -> Result<Figure> {
        let selected = self.select(module)?;
        let chosen = selected.by_layer();
        let modules = selected.modules();
        let weighted: Vec<Option<&Spectrum>> =
            chosen.iter().map(|(spectrum, _)| selected.weighted_of(&spectrum.name)).collect();
        let any = weighted.iter().any(Option::is_some);
        let both = || chosen.iter().map(|(spectrum, _)| *spectrum).chain(weighted.iter().copied().flatten());
        let floor = floor(both(), module)?;
        let panels: Vec<(String, Vec<Series>)> = chosen
            .iter()
            .zip(&weighted)
            .map(|((spectrum, place), weighted)| {
                let name = match (modules.len(), place.layer) {
                    (1, Some(layer)) => format!("layer {layer}"),
                    _ => called(place),
                };
                let mut series = vec![sigma(self.kind().name(), spectrum, floor)];
                if any {
                    // A panel without one has the name too: the legend is that of the first.
                    let none = || Series::line(SpectrumKind::Weighted.name(), []);
                    series
                        .push(weighted.map_or_else(none, |w| sigma(SpectrumKind::Weighted.name(), w, floor)));
                }
                (name, series)
            })
            .collect();
        let title = match modules.as_slice() {
            [one] => format!("Singular values of {}, {one} of each layer", self.kind().name()),
            _ => format!("Singular values of {}, {module}", self.kind().name()),
        };
        let figure = plot::multiples(&title, "k", "singular value σ, log scale", &panels, Scale::Log)?;
        Ok(figure.with_columns(["spectrum", "k", "singular value", "layer"]))
    }

    /// Effective rank over layers and modules.
    ///
    /// # Errors
    /// When there is no adapter.
    pub fn heat_map(&self) -> Result<Figure> {
        self.heat_map_of(SpectralMeasure::EffectiveRank)
    }

    /// A measure over layers (rows) and modules (columns).
    ///
    /// # Errors
    /// When there is no adapter, no value is finite, or the share of an energy rank is not in (0, 1].
    ///
    /// # Examples
    /// ```
    /// use lorascope::spectrum::{SpectralMeasure, Spectra, Spectrum};
    ///
    /// let spectrum = Spectrum::from_slices("layers.0.q_proj", &[1., 0., 0., 1.], &[3., 0., 0., 4.], 2, 1.0)?;
    /// let figure = Spectra::from(vec![spectrum]).heat_map_of(SpectralMeasure::FrobeniusNorm)?;
    /// let data = figure.data()?; // layer, module, Frobenius norm
    /// assert!((data.column("Frobenius norm")?.f64()?.get(0).unwrap() - 5.0).abs() < 1e-14);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn heat_map_of(&self, measure: SpectralMeasure) -> Result<Figure> {
        let values = self.iter().map(|spectrum| measure.of(spectrum)).collect::<Result<Vec<f64>>>()?;
        let name = measure.name();
        let title = format!("{} of {} by layer and module", capital(&name), self.kind().name());
        self.map(&title, &values, &name, measure.is_rank())
    }

    /// ‖ΔW‖_F / ‖W₀‖_F over layers (rows) and modules (columns), given ‖W₀‖_F by module path: how far each
    /// weight has moved, measured by itself.
    ///
    /// # Errors
    /// As [`relative_norms`](Self::relative_norms), and when there is no adapter.
    pub fn relative_heat_map(&self, weight_norms: &BTreeMap<String, f64>) -> Result<Figure> {
        let frame = self.relative_norms(weight_norms)?;
        let values: Vec<f64> = frame.column("relative_norm")?.f64()?.into_no_null_iter().collect();
        self.map("‖ΔW‖ / ‖W₀‖ by layer and module", &values, "‖ΔW‖ / ‖W₀‖", false)
    }

    /// The singular values of one adapter in several trainings, on a log scale over each other: runs of two
    /// ranks, two seeds, two steps. Values below 10⁻¹³ of the largest are rounding and left out.
    ///
    /// # Errors
    /// When one of them has no adapter at this path (the error says which), or all are zero.
    ///
    /// # Examples
    /// ```
    /// use lorascope::spectrum::{Spectra, Spectrum};
    ///
    /// let of = |b: &[f64]| Spectrum::from_slices("layers.0.q_proj", &[1., 0., 0., 1.], b, 2, 1.0);
    /// let (one, other) = (Spectra::from(vec![of(&[3., 0., 0., 1.])?]), Spectra::from(vec![of(&[2., 0., 0., 2.])?]));
    /// let figure = Spectra::compare("layers.0.q_proj", &[("seed 1", &one), ("seed 2", &other)])?;
    /// assert_eq!(figure.data()?.column("singular value")?.f64()?.get(0), Some(3.0));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn compare(path: &str, named: &[(&str, &Self)]) -> Result<Figure> {
        let one = |name: &str, spectra: &Self| {
            spectra.get(path).map_err(|error| Error::not_found(format!("in {name:?} {error}")))
        };
        let chosen = named
            .iter()
            .map(|(name, spectra)| Ok((*name, one(name, spectra)?)))
            .collect::<Result<Vec<(&str, Spectrum)>>>()?;
        let floor = floor(chosen.iter().map(|(_, spectrum)| spectrum), path)?;
        let series: Vec<Series> =
            chosen.iter().map(|(name, spectrum)| sigma(name, spectrum, floor)).collect();
        let title = format!("Singular values of {path}");
        let figure = plot::lines(&title, "index k", "singular value σ, log scale", &series, Scale::Log)?;
        Ok(figure.with_columns(["spectrum", "k", "singular value"]))
    }

    /// Layer 2 before layer 10, whatever the order of the paths.
    fn by_layer(&self) -> Vec<(&Spectrum, &LayerPlace)> {
        let mut all: Vec<_> = self.iter().zip(self.places()).collect();
        all.sort_by_key(|(_, place)| place.layer);
        all
    }

    /// A map of one number for each adapter, in their order; of a rank the key says what it is a part of.
    fn map(&self, title: &str, values: &[f64], name: &str, is_rank: bool) -> Result<Figure> {
        let ranks: BTreeSet<usize> = self.iter().map(|spectrum| spectrum.rank).collect();
        let unit = match (ranks.first(), ranks.last()) {
            (Some(least), Some(most)) if is_rank && least == most => format!("{name} (of {most})"),
            (Some(least), Some(most)) if is_rank => format!("{name} (of {least} to {most})"),
            _ => name.to_string(),
        };
        let by_name: HashMap<&str, f64> =
            self.iter().map(|spectrum| spectrum.name.as_str()).zip(values.iter().copied()).collect();
        let number = |spectrum: &Spectrum| by_name.get(spectrum.name.as_str()).copied().unwrap_or(f64::NAN);
        let layers: Vec<String> = self.layers().into_iter().map(layer_name).collect();
        let modules: Vec<String> = self.modules().into_iter().map(str::to_string).collect();
        let (rows, columns) = (("layer", &layers[..]), ("module", &modules[..]));
        let figure = plot::heat_map_of(title, rows, columns, &self.grid(number), &unit)?;
        Ok(figure.with_columns(["layer", "module", name]))
    }
}

impl Advice {
    /// The advised rank over layers (rows) and modules (columns).
    ///
    /// # Errors
    /// When there is no adapter.
    pub fn heat_map(&self) -> Result<Figure> {
        let ranks: Vec<f64> = self.modules.iter().map(|module| module.advised() as f64).collect();
        let title =
            format!("Rank that keeps {} of the energy", super::spectral_measure::percent(self.energy));
        self.spectra().map(&title, &ranks, "advised rank", true)
    }
}

brief!(Advice, SubspaceOverlap, Intruders);

impl Show for Advice {
    /// The map beside the table, where there is more than one layer.
    fn show(&self) -> Bundle {
        match self.spectra().layers().len() {
            0 | 1 => self.table().show(),
            _ => beside(self.heat_map(), self.table()),
        }
    }
}

impl SubspaceOverlap {
    /// φ(i, j), of the first i vectors of the one and the first j of the other, as colours from 0 to 1, and
    /// beside it that of the Gaussian control (Hu et al. 2021, figures 3 and 4).
    ///
    /// # Errors
    /// When the grid is empty.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::spectrum::{SubspaceOverlap, Side, Vectors};
    ///
    /// let (a, b) = (Tensor::new(&[[1f64, 0.]], &Device::Cpu)?, Tensor::new(&[[1f64], [0.]], &Device::Cpu)?);
    /// let one = Vectors::of("q", &a, &b, 1.0)?;
    /// let data = SubspaceOverlap::of(&one, &one, Side::Right, (1, 1), 0)?.plot()?.data()?; // panel, i, j, φ(i, j)
    /// assert!((data.column("φ(i, j)")?.f64()?.get(0).unwrap() - 1.0).abs() < 1e-15);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn plot(&self) -> Result<Figure> {
        let panel = |name: &str, grid: &[Vec<f64>]| HeatPanel {
            name: name.to_string(),
            values: grid.iter().map(|row| row.iter().copied().map(Some).collect()).collect(),
        };
        let panels = [panel("measured", &self.grid), panel("Gaussian control", &self.control)];
        let title = format!("Overlap of the {}", self.side.called());
        plot::heat_panels(&title, "j", "i", "φ(i, j)", Some((0.0, 1.0)), &panels)
    }
}

impl Show for SubspaceOverlap {
    fn show(&self) -> Bundle {
        beside(self.plot(), self.table())
    }
}

impl Amplification {
    /// ‖Uᵀ W₀ V‖_F along the first directions of ΔW, of W₀ and of a random matrix, on a log scale (Hu et al.
    /// 2021, table 7).
    ///
    /// # Errors
    /// When W₀ is zero along all of them.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::spectrum::{Amplification, BaseWeight, Vectors};
    ///
    /// let weight = BaseWeight::new("q", &Tensor::new(&[[10f32, 0.], [0., 0.5]], &Device::Cpu)?)?;
    /// let (a, b) = (Tensor::new(&[[0f32, 1.]], &Device::Cpu)?, Tensor::new(&[[0f32], [4.]], &Device::Cpu)?);
    /// let figure = Amplification::of(&weight, &Vectors::of("q", &a, &b, 1.0)?, 1, 0)?.plot()?;
    /// assert!(figure.title().contains("factor 8 in q"));
    /// assert_eq!(figure.data()?.column("directions of")?.str()?.get(1), Some("W₀"));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn plot(&self) -> Result<Figure> {
        let parts = ["ΔW", "W₀", "chance"].map(str::to_string);
        let along = vec![self.along_delta, self.along_weight, self.along_random];
        let groups = [(format!("r = {}", self.rank), along)];
        let title = format!("Amplification factor {} in {}", digits(self.factor()), self.name);
        let figure = plot::grouped(
            &title,
            "‖UᵀW₀V‖ along directions of ΔW, of W₀, by chance",
            &parts,
            &groups,
            Scale::Log,
        )?;
        let footer = format!("‖ΔW‖ {}, ‖W₀‖ {}", digits(self.delta_norm), digits(self.weight_norm));
        Ok(figure.with_footer(footer).with_columns(["rank", "directions of", "norm"]))
    }
}

impl Show for Amplification {
    fn show(&self) -> Bundle {
        beside(self.plot(), self.table())
    }
}

impl Intruders {
    /// The largest cosine of each vector of W₀ + ΔW with one of W₀, and ε; those below it are marked
    /// (Shuttleworth et al. 2024, section 3).
    ///
    /// # Errors
    /// When no vector was looked at.
    ///
    /// # Examples
    /// ```
    /// use lorascope::spectrum::{Intruder, Intruders};
    ///
    /// let row = |index, cosine| Intruder { index, singular_value: 1.0, cosine, nearest: index, left_out: 0.0 };
    /// let intruders =
    ///     Intruders { name: "q".into(), threshold: 0.5, rows: vec![row(1, 0.9), row(2, 0.25)], compared: 8, of: 8 };
    /// assert_eq!(intruders.plot()?.data()?.column("cosine")?.f64()?.get(1), Some(0.25));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn plot(&self) -> Result<Figure> {
        let cosines: Vec<f64> = self.rows.iter().map(|row| row.cosine).collect();
        let figure =
            plot::intruders(&format!("Intruder dimensions in {}", self.name), &cosines, self.threshold)?;
        let undecided = match self.undecided() {
            0 => String::new(),
            some => format!("; of those below, {some} may be near a vector that was left out"),
        };
        Ok(figure.with_footer(format!("compared with {} of {} of W₀{undecided}", self.compared, self.of)))
    }
}

impl Show for Intruders {
    fn show(&self) -> Bundle {
        beside(self.plot(), self.table())
    }
}

/// A figure beside its table; the table alone where there is nothing to draw.
fn beside(figure: Result<Figure>, table: Table) -> Bundle {
    match figure {
        Ok(figure) => (figure, table).show(),
        Err(_) => table.show(),
    }
}

/// (k, σ_k) with gaps below the floor.
fn sigma(name: &str, spectrum: &Spectrum, floor: f64) -> Series {
    let drawn = spectrum.singular_values.iter().map(|&s| if s > floor { s } else { f64::NAN });
    Series::line(name, (1..).map(f64::from).zip(drawn))
}

/// The value below which singular values are rounding errors.
fn floor<'a>(spectra: impl Iterator<Item = &'a Spectrum>, part: &str) -> Result<f64> {
    match spectra.map(Spectrum::spectral_norm).fold(0.0, f64::max) {
        0.0 => Err(zero(part)),
        first => Ok(first * ROUNDING),
    }
}

fn zero(part: &str) -> Error {
    Error::state(format!("nothing to draw of {part:?}: every ΔW is zero")).help("train a step first")
}

/// `layer 3 q_proj`.
fn called(place: &LayerPlace) -> String {
    let module = &place.module;
    place.layer.map_or_else(|| module.clone(), |layer| format!("layer {layer} {module}"))
}
