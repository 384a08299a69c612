//! The spectra of all adapters of a model: tables and pictures.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::Tensor;
use polars::prelude::{DataFrame, df};
use rayon::prelude::*;

use super::Spectrum;
use super::place::{self, Place, contains};
use crate::display::{Align, Bundle, Show, Table, thousands};
use crate::error::{Error, Result};
use crate::plot::{self, Curve, Figure, Panel};

/// Lines in one panel that an eye can still tell apart.
const LINES: usize = 16;

/// The spectra of many adapters, in the order in which they came. Cheap to clone.
///
/// # Examples
/// ```
/// use lorascope::candle_core::{Device, Tensor};
/// use lorascope::spectrum::Spectra;
///
/// let a = Tensor::new(&[[1f32, 0.0, 0.0], [0.0, 1.0, 0.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[3f32, 0.0], [0.0, 3.0]], &Device::Cpu)?;
/// let spectra = Spectra::of([
///     ("model.layers.0.self_attn.q_proj", &a, &b, 2.0),
///     ("model.layers.1.self_attn.q_proj", &a, &b, 1.0),
/// ])?;
/// assert_eq!(spectra.select("layers.1")?.len(), 1);
/// let rank = spectra.get("model.layers.0.self_attn.q_proj")?.effective_rank();
/// assert!((rank - 2.0).abs() < 1e-12); // two equal singular values
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Spectra {
    spectra: Arc<[Spectrum]>,
    places: Arc<[Place]>,
}

impl Spectra {
    /// Computes the spectra of adapters given as (module path, A, B, scale), in parallel.
    ///
    /// # Shapes
    /// Each A is [r, in] and each B is [out, r]; ranks may differ between adapters.
    ///
    /// # Errors
    /// As [`Spectrum::of`], for the first adapter in order that fails.
    pub fn of<'a>(
        adapters: impl IntoIterator<Item = (&'a str, &'a Tensor, &'a Tensor, f64)>,
    ) -> Result<Self> {
        let adapters: Vec<_> = adapters.into_iter().collect();
        let computed: Vec<Result<Spectrum>> =
            adapters.into_par_iter().map(|(name, a, b, scale)| Spectrum::of(name, a, b, scale)).collect();
        Ok(Self::from(computed.into_iter().collect::<Result<Vec<_>>>()?))
    }

    /// The number of adapters.
    pub fn len(&self) -> usize {
        self.spectra.len()
    }

    /// Whether there is no adapter.
    pub fn is_empty(&self) -> bool {
        self.spectra.is_empty()
    }

    /// The spectra in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Spectrum> {
        self.spectra.iter()
    }

    /// The spectrum of the adapter with this module path.
    ///
    /// # Errors
    /// When there is none; the error says which there are.
    pub fn get(&self, name: &str) -> Result<Spectrum> {
        self.iter().find(|spectrum| spectrum.name == name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// The adapters whose module path has these dotted parts: a module (`q_proj`, `self_attn`), a
    /// layer (`layers.3`, or just `3`), or a whole path.
    ///
    /// # Errors
    /// When there is none; the error says which modules and layers there are.
    pub fn select(&self, part: &str) -> Result<Self> {
        let chosen: Vec<Spectrum> =
            self.iter().filter(|spectrum| contains(&spectrum.name, part)).cloned().collect();
        if chosen.is_empty() { Err(self.unknown(part)) } else { Ok(Self::from(chosen)) }
    }

    fn unknown(&self, name: &str) -> Error {
        let error = Error::not_found(format!("no adapter is called {name:?}"));
        let layers: BTreeSet<usize> = self.places.iter().filter_map(|place| place.layer).collect();
        let known = match (layers.first(), layers.last()) {
            (Some(first), Some(last)) => {
                format!("one of {} in the layers {first} to {last}", self.modules().join(", "))
            }
            _ => format!("one of {}", self.modules().join(", ")),
        };
        if self.is_empty() { error } else { error.help(format!("ask for {known}")) }
    }

    /// Module names in the order that data flows.
    fn modules(&self) -> Vec<&str> {
        let mut modules: Vec<&str> = self.places.iter().map(|place| place.module.as_str()).collect();
        modules.sort_by_key(|module| (place::order(module), *module));
        modules.dedup();
        modules
    }

    /// Layers in ascending order, None (modules outside the layers) first.
    fn layers(&self) -> Vec<Option<usize>> {
        self.places.iter().map(|place| place.layer).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// One number for each layer (row) and module (column); None where there is no such adapter.
    fn grid(&self, measure: impl Fn(&Spectrum) -> f64) -> Vec<Vec<Option<f64>>> {
        let (layers, modules) = (self.layers(), self.modules());
        let mut grid = vec![vec![None; modules.len()]; layers.len()];
        for (spectrum, place) in self.iter().zip(self.places.iter()) {
            let row = layers.iter().position(|layer| *layer == place.layer);
            let column = modules.iter().position(|module| *module == place.module);
            if let (Some(row), Some(column)) = (row, column) {
                grid[row][column] = Some(measure(spectrum));
            }
        }
        grid
    }

    /// Every singular value: name, layer, module, index (from 1), singular_value, and the energy
    /// Σ_{i≤index} σᵢ² / Σ σᵢ².
    ///
    /// # Errors
    /// When polars refuses to build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = || {
            self.iter().zip(self.places.iter()).flat_map(|(spectrum, place)| {
                (0..spectrum.singular_values.len()).map(move |k| (spectrum, place, k))
            })
        };
        Ok(df!(
            "name" => rows().map(|(spectrum, ..)| spectrum.name.as_str()).collect::<Vec<_>>(),
            "layer" => rows().map(|(_, place, _)| place.layer.map(|layer| layer as u32)).collect::<Vec<_>>(),
            "module" => rows().map(|(_, place, _)| place.module.as_str()).collect::<Vec<_>>(),
            "index" => rows().map(|(.., k)| k as u32 + 1).collect::<Vec<_>>(),
            "singular_value" => rows().map(|(spectrum, _, k)| spectrum.singular_values[k]).collect::<Vec<_>>(),
            "energy" => self.iter().flat_map(Spectrum::cumulative_energy).collect::<Vec<_>>(),
        )?)
    }

    /// One row for each adapter: its shape and its measures.
    ///
    /// # Errors
    /// When polars refuses to build the frame.
    pub fn measures(&self) -> Result<DataFrame> {
        let number = |measure: fn(&Spectrum) -> f64| self.iter().map(measure).collect::<Vec<_>>();
        let count =
            |measure: fn(&Spectrum) -> usize| self.iter().map(|s| measure(s) as u32).collect::<Vec<_>>();
        let energy =
            |share| self.iter().map(|s| Ok(s.energy_rank(share)? as u32)).collect::<Result<Vec<_>>>();
        Ok(df!(
            "name" => self.iter().map(|spectrum| spectrum.name.as_str()).collect::<Vec<_>>(),
            "layer" => self.places.iter().map(|place| place.layer.map(|layer| layer as u32)).collect::<Vec<_>>(),
            "module" => self.places.iter().map(|place| place.module.as_str()).collect::<Vec<_>>(),
            "in_features" => count(|s| s.in_features),
            "out_features" => count(|s| s.out_features),
            "rank" => count(|s| s.rank),
            "scale" => number(|s| s.scale),
            "spectral_norm" => number(Spectrum::spectral_norm),
            "frobenius_norm" => number(Spectrum::frobenius_norm),
            "effective_rank" => number(Spectrum::effective_rank),
            "stable_rank" => number(Spectrum::stable_rank),
            "energy_rank_90" => energy(0.9)?,
            "energy_rank_99" => energy(0.99)?,
        )?)
    }

    /// Effective rank for each layer (row) and module (column), and the mean of each module.
    pub fn table(&self) -> Table {
        let modules = self.modules();
        let columns =
            std::iter::once(("layer", Align::Left)).chain(modules.iter().map(|m| (*m, Align::Right)));
        let mut table = Table::new(columns).caption(self.summary());
        let grid = self.grid(Spectrum::effective_rank);
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        for (layer, values) in self.layers().iter().zip(&grid) {
            let cells = values.iter().map(|value| number(*value));
            table.row(std::iter::once(layer_name(*layer)).chain(cells));
        }
        if grid.len() > 1 {
            let means =
                (0..modules.len()).map(|column| number(mean(grid.iter().filter_map(|row| row[column]))));
            table.row(std::iter::once("mean".to_string()).chain(means));
        }
        table
    }

    fn summary(&self) -> String {
        let ranks: BTreeSet<usize> = self.iter().map(|spectrum| spectrum.rank).collect();
        let rank = match (ranks.first(), ranks.last()) {
            (Some(first), Some(last)) if first == last => format!("of rank {first}"),
            (Some(first), Some(last)) => format!("of ranks {first} to {last}"),
            _ => return "no adapters".to_string(),
        };
        let zero = self.iter().filter(|spectrum| spectrum.spectral_norm() == 0.0).count();
        let moved = match zero {
            0 => String::new(),
            all if all == self.len() => "; B·A is still zero".to_string(),
            some => format!("; {some} still zero"),
        };
        let effective = mean(self.iter().map(Spectrum::effective_rank)).unwrap_or(0.0);
        let energy =
            mean(self.iter().filter_map(|s| s.energy_rank(0.9).ok()).map(|k| k as f64)).unwrap_or(0.0);
        format!(
            "effective rank of B·A: {} adapters {rank}, mean {effective:.2}; 90 % of the energy in {energy:.1} directions on average{moved}",
            thousands(self.len() as u64),
        )
    }

    /// The spectra on a log scale: one panel for each module, one line for each layer, coloured by
    /// depth. Of more than 16 layers, 16 are drawn, evenly spaced from the first to the last.
    ///
    /// # Errors
    /// When there is no adapter.
    pub fn plot(&self) -> Result<Figure> {
        let layers = evenly(&self.layers(), LINES);
        let curve = |(spectrum, place): (&Spectrum, &Place)| Curve {
            name: place.layer.map_or_else(|| place.module.clone(), |layer| format!("layer {layer}")),
            depth: place.layer.unwrap_or(0) as f64,
            values: spectrum.singular_values.clone(),
        };
        let panels: Vec<Panel> = self
            .modules()
            .into_iter()
            .map(|module| Panel {
                name: module.to_string(),
                curves: self
                    .iter()
                    .zip(self.places.iter())
                    .filter(|(_, place)| place.module == module && layers.contains(&place.layer))
                    .map(curve)
                    .collect(),
            })
            .filter(|panel| !panel.curves.is_empty())
            .collect();
        let of = match self.layers().len() {
            all if all > layers.len() => format!(", {} of {all} layers", layers.len()),
            _ => String::new(),
        };
        plot::spectra(&format!("Singular values of B·A{of}"), &panels)
    }

    /// Effective rank over layers and modules.
    ///
    /// # Errors
    /// When there is no adapter.
    pub fn heat_map(&self) -> Result<Figure> {
        let layers: Vec<String> = self.layers().into_iter().map(layer_name).collect();
        let modules: Vec<String> = self.modules().into_iter().map(str::to_string).collect();
        plot::heat_map(
            "Effective rank of B·A by layer and module",
            &layers,
            &modules,
            &self.grid(Spectrum::effective_rank),
            "effective rank",
        )
    }
}

impl From<Vec<Spectrum>> for Spectra {
    fn from(spectra: Vec<Spectrum>) -> Self {
        let places = Place::of_all(spectra.iter().map(|spectrum| spectrum.name.as_str()));
        Self { spectra: spectra.into(), places: places.into() }
    }
}

impl Show for Spectra {
    fn show(&self) -> Bundle {
        self.table().show()
    }
}

fn layer_name(layer: Option<usize>) -> String {
    layer.map_or_else(|| "–".to_string(), |layer| layer.to_string())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

/// At most `limit` of the items, evenly spaced, the first and the last among them.
fn evenly<T: Copy>(items: &[T], limit: usize) -> Vec<T> {
    if items.len() <= limit {
        return items.to_vec();
    }
    let last = items.len() - 1;
    (0..limit).map(|i| items[(i * last + (limit - 1) / 2) / (limit - 1)]).collect()
}
