//! Frozen weights W₀ of adapted layers, for comparison with the spectra of ΔW.

use super::decoder::Decoder;
use super::model::Model;
use crate::error::{Error, Result};
use crate::lora::{Adapter, Adapters, Base, Beside};
use crate::ops;
use crate::spectrum::{BaseWeight, Spectrum, called};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;

impl Decoder {
    /// W₀ of the layer with this path or end of a path (`layers.3.self_attn.q_proj`), in the shape of its adapter's
    /// B·A: `[out, in]`; for an embedding `[D, V]`.
    ///
    /// # Errors
    /// When no layer has this path, or several end in it; the error names similar ones.
    pub fn base_weight(&self, name: &str) -> Result<BaseWeight> {
        let targets = self.targets();
        let path = called(targets.iter().map(|target| target.path.as_str()), name)?.unwrap_or(name);
        BaseWeight::new(path, &self.weight_beside(path)?)
    }

    /// W₀ of one ΔW by its name in [`Adapters::spectra`]: like [`base_weight`](Self::base_weight); for a part of a
    /// merged layer, `c_attn[0]`, the rows of that part.
    ///
    /// # Errors
    /// When there is no such adapter or part, or the adapters belong to another model.
    pub fn base_weight_of(&self, adapters: &Adapters, name: &str) -> Result<BaseWeight> {
        let name = whole(adapters, name)?;
        let (weight, _) = self.with_adapter(adapters, &name)?;
        BaseWeight::new(&name, &weight)
    }

    /// ‖W₀‖_F of each ΔW by its name in [`Adapters::spectra`]: the input of
    /// [`relative_norms`](crate::spectrum::Spectra::relative_norms).
    ///
    /// # Errors
    /// When the adapters belong to another model, or the device fails.
    pub fn weight_norms(&self, adapters: &Adapters) -> Result<BTreeMap<String, f64>> {
        self.check(adapters)?;
        let mut norms = BTreeMap::new();
        for (path, adapter) in adapters.iter() {
            let weight = self.matrix(path)?;
            for (name, part) in parts(path, adapter) {
                let weight = match part {
                    Some((first, rows)) => weight.narrow(0, first, rows)?,
                    None => weight.clone(),
                };
                norms.insert(name, frobenius(&weight)?);
            }
        }
        Ok(norms)
    }

    /// The effective change of a weight in f64, by the name in [`Adapters::spectra`]: scale·B·A, or
    /// with DoRA m ⊙ (W₀ + scale·B·A) / ‖W₀ + scale·B·A‖ − W₀, with the norm of each row (Liu et al. 2024,
    /// *DoRA: Weight-Decomposed Low-Rank Adaptation*, eq. 5).
    ///
    /// The result is dense: 8 bytes for each number of W₀.
    ///
    /// # Shapes
    /// `[out, in]`, of an embedding `[D, V]`.
    ///
    /// # Errors
    /// When there is no such adapter or part, or the adapters belong to another model.
    pub fn effective_delta(&self, adapters: &Adapters, name: &str) -> Result<Tensor> {
        let name = &whole(adapters, name)?;
        let (weight, adapter) = self.with_adapter(adapters, name)?;
        let compute = || {
            let (a, b, scale) = adapters.factors_of(name)?;
            let delta = (double(&b)?.matmul(&double(&a)?)? * scale)?;
            let Some(magnitude) = adapter.magnitude() else { return Ok(delta) };
            let weight = double(&weight)?;
            let moved = (&weight + delta)?;
            let lengths = moved.sqr()?.sum_keepdim(1)?.sqrt()?; // [out, 1]
            let factor = double(magnitude)?.unsqueeze(1)?.div(&lengths)?;
            Ok((moved.broadcast_mul(&factor)? - weight)?)
        };
        compute().map_err(|error: Error| error.layer(name))
    }

    /// The spectrum of [`effective_delta`](Self::effective_delta). Without DoRA it is the one in
    /// [`Adapters::spectra`], computed from the factors. **With DoRA it is slow**: the matrix has full rank and is
    /// decomposed whole, tens of seconds for 4096×4096.
    ///
    /// # Errors
    /// As [`effective_delta`](Self::effective_delta), and when a number is not finite.
    pub fn effective_spectrum(&self, adapters: &Adapters, name: &str) -> Result<Spectrum> {
        let name = &whole(adapters, name)?;
        let (_, adapter) = self.with_adapter(adapters, name)?;
        match adapter.magnitude() {
            Some(_) => Spectrum::of_matrix(name, &self.effective_delta(adapters, name)?),
            None => {
                let (a, b, scale) = adapters.factors_of(name)?;
                Spectrum::of(name, &a, &b, scale)
            }
        }
    }

    /// W₀ at a path, transposed if necessary to the shape of B·A.
    fn weight_beside(&self, path: &str) -> Result<Tensor> {
        let targets = self.targets();
        if !targets.iter().any(|target| target.path == path) {
            let paths: Vec<&str> = targets.iter().map(|target| target.path.as_str()).collect();
            return Err(Error::not_found(format!("this model has no layer at {path:?}"))
                .help(format!("ask for one such as {}", like(path, &paths).join(", "))));
        }
        let weight = self.matrix(path)?;
        let table = path == self.embedding.path();
        Ok(if table { weight.t()? } else { weight })
    }

    /// W₀ and its adapter, by the name of a ΔW.
    fn with_adapter<'a>(&self, adapters: &'a Adapters, name: &str) -> Result<(Tensor, &'a Adapter)> {
        self.check(adapters)?;
        let found = adapters.iter().find_map(|(path, adapter)| {
            let (_, part) = parts(path, adapter).into_iter().find(|(own, _)| own == name)?;
            Some((path, adapter, part))
        });
        let Some((path, adapter, part)) = found else {
            let names = names(adapters);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let error = Error::not_found(format!("no adapter is called {name:?}"));
            return Err(match names.is_empty() {
                true => error.help("these adapters are empty: train or open some"),
                false => error.help(format!("ask for one such as {}", like(name, &names).join(", "))),
            });
        };
        let weight = self.weight_beside(path)?;
        Ok((
            match part {
                Some((first, rows)) => weight.narrow(0, first, rows)?,
                None => weight,
            },
            adapter,
        ))
    }
}

/// The names of all ΔW.
fn names(adapters: &Adapters) -> Vec<String> {
    adapters.iter().flat_map(|(path, adapter)| parts(path, adapter)).map(|(name, _)| name).collect()
}

/// The full name of the ΔW with this name or end of a name; the name itself if there is none.
fn whole(adapters: &Adapters, name: &str) -> Result<String> {
    let names = names(adapters);
    Ok(called(names.iter().map(String::as_str), name)?.unwrap_or(name).to_string())
}

/// Shortcuts to the methods of the [decoder](Model::decoder).
impl Model {
    /// W₀ of the layer at a path: [`Decoder::base_weight`].
    ///
    /// # Errors
    /// When no layer has this path; the error names similar ones.
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::model::Model;
    /// use lorascope::spectrum::Amplification;
    ///
    /// let model = Model::open("models/smollm2-135m")?;
    /// let adapters = model.adapters("adapter")?;
    /// let path = "model.layers.3.self_attn.q_proj";
    /// let (weight, delta) = (model.base_weight(path)?, adapters.vectors(path)?);
    /// Amplification::of(&weight, &delta, 4, 42)?.plot()?;
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn base_weight(&self, path: &str) -> Result<BaseWeight> {
        self.decoder().base_weight(path)
    }

    /// W₀ of one ΔW, also of a part of a merged layer: [`Decoder::base_weight_of`].
    ///
    /// # Errors
    /// When there is no such adapter or part, or the adapters belong to another model.
    pub fn base_weight_of(&self, adapters: &Adapters, name: &str) -> Result<BaseWeight> {
        self.decoder().base_weight_of(adapters, name)
    }

    /// ‖W₀‖_F of each ΔW: [`Decoder::weight_norms`].
    ///
    /// # Errors
    /// When the adapters belong to another model, or the device fails.
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::model::Model;
    ///
    /// let model = Model::open("models/smollm2-135m")?;
    /// let adapters = model.adapters("adapter")?;
    /// adapters.spectra()?.relative_heat_map(&model.weight_norms(&adapters)?)?;
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn weight_norms(&self, adapters: &Adapters) -> Result<BTreeMap<String, f64>> {
        self.decoder().weight_norms(adapters)
    }

    /// The effective change of a weight, dense, including DoRA: [`Decoder::effective_delta`].
    ///
    /// # Errors
    /// When there is no such adapter or part, or the adapters belong to another model.
    pub fn effective_delta(&self, adapters: &Adapters, name: &str) -> Result<Tensor> {
        self.decoder().effective_delta(adapters, name)
    }

    /// The spectrum of the effective change, **slow** with DoRA: [`Decoder::effective_spectrum`].
    ///
    /// # Errors
    /// As [`effective_delta`](Self::effective_delta), and when a number is not finite.
    pub fn effective_spectrum(&self, adapters: &Adapters, name: &str) -> Result<Spectrum> {
        self.decoder().effective_spectrum(adapters, name)
    }
}

/// The names of the ΔW of an adapter; for the parts of a merged layer also their rows (first, count).
fn parts(path: &str, adapter: &Adapter) -> Vec<(String, Option<(usize, usize)>)> {
    let Beside::Parts(enabled) = adapter.beside() else { return vec![(path.to_string(), None)] };
    let rows = adapter.b().dims()[0] / enabled.len().max(1);
    let on = enabled.iter().enumerate().filter(|(_, on)| **on);
    on.map(|(part, _)| (format!("{path}[{part}]"), Some((part * rows, rows)))).collect()
}

fn double(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?)
}

/// ‖·‖_F, summed in f64 in pieces of a fixed size: the result does not depend on threads.
fn frobenius(matrix: &Tensor) -> Result<f64> {
    const PIECE: usize = 64 * 1024;
    let matrix = matrix.to_device(&Device::Cpu)?.contiguous()?;
    let values = ops::values(&matrix)?;
    let square = |piece: &[f32]| piece.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let sums: Vec<f64> = values.par_chunks(PIECE).map(square).collect();
    Ok(sums.iter().sum::<f64>().sqrt())
}

/// The three most similar paths: by the number of shared dotted parts, then by the common prefix of the last part.
fn like<'a>(path: &str, paths: &[&'a str]) -> Vec<&'a str> {
    let wanted: Vec<&str> = path.split('.').collect();
    let last = |path: &'_ str| path.rsplit('.').next().unwrap_or_default().to_string();
    let end = last(path);
    let alike = |other: &str| {
        let shared = other.split('.').filter(|part| wanted.contains(part)).count();
        let begins = last(other).chars().zip(end.chars()).take_while(|(a, b)| a == b).count();
        (shared, begins)
    };
    let mut paths = paths.to_vec();
    paths.sort_by_key(|other| std::cmp::Reverse(alike(other))); // stable: the first layers first
    paths.truncate(3);
    paths
}
