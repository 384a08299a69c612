//! The spectra of all adapters of a model: selection, data frames, tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::Tensor;
use polars::prelude::{DataFrame, df};
use rayon::prelude::*;

use super::Spectrum;
use super::layer_place::{LayerPlace, called, contains, order};
use crate::display::{Align, Bundle, Show, StopButton, Table, brief, thousands};
use crate::error::{Error, Result};

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
#[derive(Clone, PartialEq)]
pub struct Spectra {
    spectra: Arc<[Spectrum]>,
    places: Arc<[LayerPlace]>,
    /// Those weighted by activations, of the adapters that have them.
    weighted: Arc<[Spectrum]>,
    kind: SpectrumKind,
}

/// Which matrix the singular values belong to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SpectrumKind {
    /// scale·B·A
    Plain,
    /// scale·B·C^½
    Weighted,
}

impl SpectrumKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "B·A",
            Self::Weighted => "B·C^½",
        }
    }
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
        let stop = StopButton::here();
        let computed: Vec<Result<Spectrum>> = adapters
            .into_par_iter()
            .map(|(name, a, b, scale)| stop.check().and_then(|()| Spectrum::of(name, a, b, scale)))
            .collect();
        Ok(Self::from(computed.into_iter().collect::<Result<Vec<_>>>()?))
    }

    /// The same with spectra [weighted by activations](Spectrum::weighted) beside those that have a
    /// C = E\[(A x)(A x)ᵀ\]: adapters given as (module path, A, B, scale, C).
    ///
    /// # Shapes
    /// Each A is [r, in], each B [out, r], each C [r, r]; ranks may differ between adapters.
    ///
    /// # Errors
    /// As [`Spectrum::of`] and [`Spectrum::weighted`], for the first adapter in order that fails.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::{Device, Tensor};
    /// use lorascope::spectrum::Spectra;
    ///
    /// let (a, b) = (Tensor::new(&[[1f32], [0.0]], &Device::Cpu)?, Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?);
    /// let c = Tensor::new(&[[9f32, 0.0], [0.0, 0.0]], &Device::Cpu)?;
    /// let spectra = Spectra::of_weighted([("layers.0.q_proj", &a, &b, 1.0, Some(&c))])?;
    /// assert_eq!(spectra.get("layers.0.q_proj")?.spectral_norm(), 1.0);
    /// let weighted = spectra.weighted().expect("one has a C");
    /// assert!((weighted.get("layers.0.q_proj")?.spectral_norm() - 3.0).abs() < 1e-14);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn of_weighted<'a>(
        adapters: impl IntoIterator<Item = (&'a str, &'a Tensor, &'a Tensor, f64, Option<&'a Tensor>)>,
    ) -> Result<Self> {
        let adapters: Vec<_> = adapters.into_iter().collect();
        let stop = StopButton::here();
        let computed: Vec<Result<(Spectrum, Option<Spectrum>)>> = adapters
            .into_par_iter()
            .map(|(name, a, b, scale, c)| match (stop.check()?, c) {
                ((), None) => Ok((Spectrum::of(name, a, b, scale)?, None)),
                ((), Some(c)) => Spectrum::both(name, a, b, scale, c).map(|(plain, own)| (plain, Some(own))),
            })
            .collect();
        let (plain, weighted): (Vec<_>, Vec<_>) =
            computed.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let weighted: Vec<Spectrum> = weighted.into_iter().flatten().collect();
        Ok(Self { weighted: weighted.into(), ..Self::from(plain) })
    }

    /// The spectra of scale·B·C^½ of the adapters that have a C; None where no adapter has one.
    pub fn weighted(&self) -> Option<Self> {
        if self.weighted.is_empty() {
            return None;
        }
        let place = |spectrum: &Spectrum| {
            let at = self.iter().position(|plain| plain.name == spectrum.name);
            at.map_or_else(|| spectrum.place(), |at| self.places[at].clone())
        };
        Some(Self {
            spectra: self.weighted.clone(),
            places: self.weighted.iter().map(place).collect(),
            weighted: Arc::from([]),
            kind: SpectrumKind::Weighted,
        })
    }

    /// The weighted spectrum of the adapter with this path, where it has one.
    pub(super) fn weighted_of(&self, name: &str) -> Option<&Spectrum> {
        self.weighted.iter().find(|spectrum| spectrum.name == name)
    }

    /// Which matrix the singular values belong to.
    pub(super) fn kind(&self) -> SpectrumKind {
        self.kind
    }

    /// The place of each adapter, in their order.
    pub fn places(&self) -> &[LayerPlace] {
        &self.places
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

    /// The spectrum of the adapter with this module path, or this end of it: `layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// When there is none, or several end so; the error says which there are.
    pub fn get(&self, name: &str) -> Result<Spectrum> {
        let path = called(self.iter().map(|spectrum| spectrum.name.as_str()), name)?;
        self.iter()
            .find(|spectrum| Some(spectrum.name.as_str()) == path)
            .cloned()
            .ok_or_else(|| self.unknown(name))
    }

    /// The adapters whose module path has these dotted parts: a module (`q_proj`, `self_attn`), a
    /// layer (`layers.3`, or just `3`), or a whole path.
    ///
    /// # Errors
    /// When there is none; the error says which modules and layers there are.
    pub fn select(&self, part: &str) -> Result<Self> {
        let chosen = self.keep(|spectrum, _| contains(&spectrum.name, part));
        if chosen.is_empty() { Err(self.unknown(part)) } else { Ok(chosen) }
    }

    /// The adapters of one layer.
    ///
    /// # Errors
    /// When it has none; the error says which layers there are.
    pub fn layer(&self, number: usize) -> Result<Self> {
        let chosen = self.keep(|_, place| place.layer == Some(number));
        if chosen.is_empty() {
            let layers: BTreeSet<usize> = self.places.iter().filter_map(|place| place.layer).collect();
            let error = Error::not_found(format!("no adapter is in layer {number}"));
            return Err(match (layers.first(), layers.last()) {
                (Some(first), Some(last)) => {
                    error.help(format!("ask for one of the layers {first} to {last}"))
                }
                _ => error.help("these adapters are in no numbered layer: select one by its name"),
            });
        }
        Ok(chosen)
    }

    fn keep(&self, which: impl Fn(&Spectrum, &LayerPlace) -> bool) -> Self {
        let of = |spectra: &[Spectrum]| -> Vec<Spectrum> {
            spectra.iter().filter(|spectrum| which(spectrum, &spectrum.place())).cloned().collect()
        };
        Self { weighted: of(&self.weighted).into(), kind: self.kind, ..Self::from(of(&self.spectra)) }
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
    pub(super) fn modules(&self) -> Vec<&str> {
        let mut modules: Vec<&str> = self.places.iter().map(|place| place.module.as_str()).collect();
        modules.sort_by_key(|module| (order(module), *module));
        modules.dedup();
        modules
    }

    /// Layers in ascending order, None (modules outside the layers) first.
    pub(super) fn layers(&self) -> Vec<Option<usize>> {
        self.places.iter().map(|place| place.layer).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// One number for each layer (row) and module (column); None where there is no such adapter.
    pub(super) fn grid(&self, measure: impl Fn(&Spectrum) -> f64) -> Vec<Vec<Option<f64>>> {
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
            "nuclear_norm" => number(Spectrum::nuclear_norm),
            "condition" => number(Spectrum::condition),
            "first_share" => number(Spectrum::first_share),
            "effective_rank" => number(Spectrum::effective_rank),
            "stable_rank" => number(Spectrum::stable_rank),
            "participation_ratio" => number(Spectrum::participation_ratio),
            "numerical_rank" => count(|s| s.numerical_rank(None)),
            "energy_rank_90" => energy(0.9)?,
            "energy_rank_99" => energy(0.99)?,
        )?)
    }

    /// ‖ΔW‖_F / ‖W₀‖_F of each adapter, given ‖W₀‖_F by module path: name, layer, module, frobenius_norm,
    /// weight_norm, relative_norm.
    ///
    /// # Errors
    /// When an adapter has no weight among these, or one is not a positive number.
    pub fn relative_norms(&self, weight_norms: &BTreeMap<String, f64>) -> Result<DataFrame> {
        let mut rows = Vec::with_capacity(self.len());
        for spectrum in self.iter() {
            let weight = weight_norms.get(&spectrum.name).ok_or_else(|| {
                Error::not_found("the norm of this weight was not given").layer(&spectrum.name)
            })?;
            rows.push((spectrum.frobenius_norm(), *weight, spectrum.relative_norm(*weight)?));
        }
        Ok(df!(
            "name" => self.iter().map(|spectrum| spectrum.name.as_str()).collect::<Vec<_>>(),
            "layer" => self.places.iter().map(|place| place.layer.map(|layer| layer as u32)).collect::<Vec<_>>(),
            "module" => self.places.iter().map(|place| place.module.as_str()).collect::<Vec<_>>(),
            "frobenius_norm" => rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            "weight_norm" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "relative_norm" => rows.iter().map(|row| row.2).collect::<Vec<_>>(),
        )?)
    }

    /// Effective rank for each layer (row) and module (column), and the mean of each module.
    pub fn table(&self) -> Table {
        self.table_of(self.summary(), Spectrum::effective_rank, 2)
    }

    /// A measure for each layer (row) and module (column) with so many decimals, and the mean of each module.
    pub(super) fn table_of(
        &self,
        caption: String,
        measure: impl Fn(&Spectrum) -> f64,
        decimals: usize,
    ) -> Table {
        let modules = self.modules();
        let columns =
            std::iter::once(("layer", Align::Left)).chain(modules.iter().map(|m| (*m, Align::Right)));
        let mut table = Table::new(columns).caption(caption);
        let grid = self.grid(measure);
        let with = |value: Option<f64>, decimals| {
            value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
        };
        let number = |value| with(value, decimals);
        for (layer, values) in self.layers().iter().zip(&grid) {
            let cells = values.iter().map(|value| number(*value));
            table.row(std::iter::once(layer_name(*layer)).chain(cells));
        }
        if grid.len() > 1 {
            let means =
                (0..modules.len()).map(|column| with(mean(grid.iter().filter_map(|row| row[column])), 2));
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
            all if all == self.len() => format!("; {} is still zero", self.kind.name()),
            some => format!("; {some} still zero"),
        };
        let effective = mean(self.iter().map(Spectrum::effective_rank)).unwrap_or(0.0);
        let energy =
            mean(self.iter().filter_map(|s| s.energy_rank(0.9).ok()).map(|k| k as f64)).unwrap_or(0.0);
        format!(
            "effective rank of {}: {} adapters {rank}, mean {effective:.2}; 90 % of the energy in {energy:.1} directions on average{moved}",
            self.kind.name(),
            thousands(self.len() as u64),
        )
    }
}

impl From<Vec<Spectrum>> for Spectra {
    fn from(spectra: Vec<Spectrum>) -> Self {
        let places = LayerPlace::of_all(spectra.iter().map(|spectrum| spectrum.name.as_str()));
        Self {
            spectra: spectra.into(),
            places: places.into(),
            weighted: Arc::from([]),
            kind: SpectrumKind::Plain,
        }
    }
}

brief!(Spectra);

impl Show for Spectra {
    fn show(&self) -> Bundle {
        self.table().show()
    }
}

pub(super) fn layer_name(layer: Option<usize>) -> String {
    layer.map_or_else(|| "–".to_string(), |layer| layer.to_string())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}
