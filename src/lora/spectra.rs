//! The spectra of a model's adapters.

use super::{Adapter, Adapters, Beside};
use crate::error::{Error, Result};
use crate::spectrum::{Spectra, Vectors, called};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// One product B·A of an adapter: all of it, or that of one part of a merged layer.
pub(super) struct DeltaPiece {
    /// The path of the layer; for a part with its index, `c_attn[0]`.
    pub name: String,
    /// `[r, in]`
    pub a: Tensor,
    /// `[out, r]`
    pub b: Tensor,
    pub scale: f64,
    /// Where its components begin among those of the adapter.
    first: usize,
    /// How many the adapter has.
    components: usize,
    /// Whether A₀ and B₀ stand beside A and B.
    stacked: bool,
}

impl DeltaPiece {
    pub(super) fn all(path: &str, pair: &Adapter) -> Result<Vec<Self>> {
        let (a, mut b, scale) = pair.factors()?;
        if pair.is_at_start()? {
            // B·A − B₀·A₀ = 0, of which reflections would leave rounding.
            b = b.zeros_like()?;
        }
        let Beside::Parts(enabled) = pair.beside() else {
            let (components, stacked) = (a.dims()[0], pair.start().is_some());
            return Ok(vec![Self { name: path.to_string(), a, b, scale, first: 0, components, stacked }]);
        };
        let (rank, width) = (pair.rank(), b.dims()[0] / enabled.len().max(1));
        let on = enabled.iter().enumerate().filter(|(_, on)| **on).enumerate();
        on.map(|(done, (part, _))| {
            let first = done * rank;
            Ok(Self {
                name: format!("{path}[{part}]"),
                a: a.narrow(0, first, rank)?,
                b: b.narrow(0, part * width, width)?.narrow(1, first, rank)?.contiguous()?,
                scale,
                first,
                components: a.dims()[0],
                stacked: false,
            })
        })
        .collect()
    }

    /// The block of E[(A x)(A x)ᵀ] that belongs to it; `None` if only that of A without A₀ is known.
    pub(super) fn own(&self, c: &Tensor) -> Result<Option<Tensor>> {
        let rank = self.a.dims()[0];
        let (dims, all) = (c.dims(), self.components);
        if self.stacked && dims == [all / 2, all / 2] {
            return Ok(None);
        }
        if dims != [all, all] {
            return Err(Error::input(format!("C is {dims:?} beside an A of {all} rows"))
                .layer(&self.name)
                .help("pass E[(A x)(A x)ᵀ] of the same adapter"));
        }
        Ok(Some(c.narrow(0, self.first, rank)?.narrow(1, self.first, rank)?.contiguous()?))
    }
}

impl Adapters {
    /// The singular values of every ΔW = scale·B·A, computed from the factors.
    ///
    /// A merged layer has one spectrum for each of its enabled parts, `c_attn[0]`; if an initial pair is
    /// subtracted ([`Adapter::starting_from`]) it is that of scale·(B·A − B₀·A₀); with DoRA it is that of scale·B·A,
    /// without the magnitudes.
    ///
    /// # Errors
    /// When an adapter holds a value that is not finite; the error names it.
    ///
    /// # Examples
    /// ```
    /// use lorascope::candle_core::Device;
    /// use lorascope::lora::{Adapters, LoraConfig, Target};
    ///
    /// let layer = [Target::linear("model.layers.0.mlp.up_proj", [32, 16])];
    /// let adapters = Adapters::new(&LoraConfig { rank: 4, ..Default::default() }, &layer, 0, &Device::Cpu)?;
    /// let spectrum = adapters.spectra()?.get("model.layers.0.mlp.up_proj")?;
    /// assert_eq!(spectrum.singular_values, [0.0; 4]); // B begins with zeros
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn spectra(&self) -> Result<Spectra> {
        self.spectra_weighted(&BTreeMap::new())
    }

    /// The same with the spectra of scale·B·C^½ beside them, where C = E\[(A x)(A x)ᵀ\] `[r, r]` of a layer's
    /// inputs x is given by its path; of a merged layer `[n·r, n·r]`.
    ///
    /// # Errors
    /// As [`spectra`](Self::spectra), and when a C does not fit its adapter, or belongs to none.
    pub fn spectra_weighted(&self, c: &BTreeMap<String, Tensor>) -> Result<Spectra> {
        self.known(c.keys())?;
        let mut all = Vec::new();
        for (path, pair) in self.iter() {
            for piece in DeltaPiece::all(path, pair)? {
                let own = c.get(path).map(|c| piece.own(c)).transpose()?.flatten();
                all.push((piece, own));
            }
        }
        Spectra::of_weighted(
            all.iter().map(|(piece, c)| (piece.name.as_str(), &piece.a, &piece.b, piece.scale, c.as_ref())),
        )
    }

    /// U, σ and V of one ΔW by its name in [`spectra`](Self::spectra), a path that may have `c_attn[0]` at its
    /// end, or by the end of that name.
    ///
    /// # Errors
    /// When there is no such adapter, or it holds a value that is not finite.
    pub fn vectors(&self, name: &str) -> Result<Vectors> {
        let (a, b, scale) = self.factors_of(name)?;
        Vectors::of(name, &a, &b, scale)
    }

    /// A, B and scale of one ΔW by its name in [`spectra`](Self::spectra).
    pub(crate) fn factors_of(&self, name: &str) -> Result<(Tensor, Tensor, f64)> {
        let (path, part) = name.split_at(name.find('[').unwrap_or(name.len()));
        let path = called(self.iter().map(|(path, _)| path), path)?.unwrap_or(path);
        let name = format!("{path}{part}");
        self.known([path].into_iter())?;
        let pieces = self.get(path).map(|pair| DeltaPiece::all(path, pair)).transpose()?.unwrap_or_default();
        let names: Vec<String> = pieces.iter().map(|piece| piece.name.clone()).collect();
        match pieces.into_iter().find(|piece| piece.name == name) {
            Some(DeltaPiece { a, b, scale, .. }) => Ok((a, b, scale)),
            None => Err(Error::not_found(format!("no adapter is called {name:?}"))
                .help(format!("ask for {}", names.join(" or ")))),
        }
    }

    /// Refuses paths at which there is no adapter.
    pub(super) fn known<S: AsRef<str>>(&self, paths: impl Iterator<Item = S>) -> Result<()> {
        for path in paths {
            let path = path.as_ref();
            if self.get(path).is_none() {
                let some: Vec<&str> = self.iter().take(3).map(|(path, _)| path).collect();
                return Err(Error::not_found(format!("no adapter stands at {path:?}")).help(format!(
                    "there are {}: {}, …",
                    self.len(),
                    some.join(", ")
                )));
            }
        }
        Ok(())
    }
}
