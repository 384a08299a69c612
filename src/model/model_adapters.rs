//! The adapters of a model: initialisation, merging, export, status table.

use super::export::{ExportOptions, Exported};
use super::model::Model;
use crate::display::{Align, Bundle, Show, Table, brief, thousands};
use crate::error::Result;
use crate::lora::{AdapterSets, Adapters, Beside, LoraConfig};
use crate::spectrum::Spectrum;
use candle_core::{DType, Tensor};
use std::path::Path;

impl Model {
    /// Initialises adapters for this model; its answers do not change before they are trained.
    ///
    /// # Errors
    /// When the config is invalid or does not fit the model.
    pub fn new_adapters(&self, config: &LoraConfig, seed: u64) -> Result<Adapters> {
        self.decoder().new_adapters(config, seed)
    }

    /// An empty collection of named adapters for this model.
    pub fn adapter_sets(&self) -> AdapterSets {
        AdapterSets::new(&self.decoder().targets())
    }

    /// Merges the adapters into copies of the weights that they adapt, W + ΔW in f32: they then cost nothing. This
    /// model does not change; [`unmerged`](Self::unmerged) returns it, bit for bit.
    ///
    /// # Errors
    /// When the adapters belong to another model, or there is not enough memory.
    pub fn merged(&self, adapters: &Adapters) -> Result<Self> {
        Ok(self.with_decoder(self.decoder().merged(adapters)?))
    }

    /// Writes the model with the adapters merged into it as a Hugging Face folder. In 16 bits a small
    /// ΔW is partly rounded away: [`Exported::kept`](Exported) and a note say how much of it survives.
    ///
    /// # Errors
    /// As [`merged`](Self::merged) and [`export`](Self::export).
    pub fn export_merged(
        &self,
        adapters: &Adapters,
        folder: impl AsRef<Path>,
        options: &ExportOptions,
    ) -> Result<Exported> {
        let mut exported = self.export_as(&self.decoder().merged(adapters)?, folder, options)?;
        exported.notes.extend(adapters.notes().iter().map(|note| format!("of the adapters: {note}")));
        Ok(exported)
    }

    /// A table of the adapters of this model: shapes, ranks, norms, and the number of trained parameters.
    ///
    /// # Errors
    /// When the adapters belong to another model, or hold a number that is not finite.
    pub fn adapter_status(&self, adapters: &Adapters) -> Result<AdapterStatus> {
        self.decoder().check(adapters)?;
        let targets = self.decoder().targets();
        let mut layers = Vec::new();
        for (path, pair) in adapters.iter() {
            let (a, b, scale) = pair.factors()?;
            let delta = Spectrum::of(path, &a, &b, scale)?.frobenius_norm();
            layers.push(LayerStatus {
                path: path.to_string(),
                shape: pair.shape(),
                kind: kind(pair.beside(), pair.magnitude().is_some()),
                rank: pair.rank(),
                scale: pair.scale(),
                parameters: pair.parameters(),
                norms: [norm(pair.a())?, norm(pair.b())?, delta],
                dtype: pair.a().dtype().as_str().to_string(),
                device: format!("{:?}", pair.a().device().location()),
            });
        }
        // As the forward pass meets them: block 2 before block 10.
        layers.sort_by_cached_key(|layer| targets.iter().position(|target| target.path == layer.path));
        for (name, tensor) in adapters.wholes() {
            layers.push(LayerStatus {
                path: name.to_string(),
                shape: [tensor.dims()[0], tensor.dims().get(1).copied().unwrap_or(1)],
                kind: "whole",
                rank: 0,
                scale: 0.0,
                parameters: tensor.elem_count(),
                norms: [0.0, 0.0, norm(tensor)?],
                dtype: tensor.dtype().as_str().to_string(),
                device: format!("{:?}", tensor.device().location()),
            });
        }
        let pairs: usize = adapters.iter().map(|(_, pair)| pair.parameters()).sum();
        Ok(AdapterStatus {
            layers,
            trained: adapters.parameters() as u64,
            all: self.config().parameters() + pairs as u64,
            merged: self.is_merged(),
            notes: adapters.notes().to_vec(),
        })
    }
}

fn kind(beside: &Beside, magnitude: bool) -> &'static str {
    match beside {
        Beside::Linear if magnitude => "DoRA",
        Beside::Linear => "LoRA",
        Beside::Embedding => "embedding",
        Beside::Parts(_) => "parts",
    }
}

fn norm(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// One adapted layer, or one weight that is trained in full.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerStatus {
    /// Its path, or the weight's name.
    pub path: String,
    /// `[out, in]` of the weight.
    pub shape: [usize; 2],
    /// The kind: LoRA, DoRA, embedding, parts, whole.
    pub kind: &'static str,
    /// r; 0 for a whole weight.
    pub rank: usize,
    /// The factor in front of B·A; α is this times r (times √r for rsLoRA).
    pub scale: f64,
    /// Trained parameters.
    pub parameters: usize,
    /// ‖A‖, ‖B‖ and ‖ΔW‖ = ‖scale·B·A‖, Frobenius norms; for a whole weight the last is the norm of the weight.
    pub norms: [f64; 3],
    /// The dtype.
    pub dtype: String,
    /// The device.
    pub device: String,
}

/// The result of [`Model::adapter_status`].
#[derive(Clone, PartialEq)]
pub struct AdapterStatus {
    /// Each adapted layer, then each whole weight.
    pub layers: Vec<LayerStatus>,
    /// Trained parameters.
    pub trained: u64,
    /// Parameters of the model and the adapters together.
    pub all: u64,
    /// Whether the model is a [merged](Model::merged) one.
    pub merged: bool,
    /// Notes from reading the adapters ([`Adapters::notes`]).
    pub notes: Vec<String>,
}

impl std::fmt::Display for AdapterStatus {
    /// As PEFT prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "trainable params: {} || all params: {} || trainable%: {:.4}",
            thousands(self.trained),
            thousands(self.all),
            100.0 * self.trained as f64 / self.all.max(1) as f64
        )
    }
}

brief!(AdapterStatus);

impl Show for AdapterStatus {
    fn show(&self) -> Bundle {
        let names = [
            ("layer", Align::Left),
            ("kind", Align::Left),
            ("shape", Align::Right),
            ("r", Align::Right),
            ("scale", Align::Right),
            ("parameters", Align::Right),
            ("‖A‖", Align::Right),
            ("‖B‖", Align::Right),
            ("‖ΔW‖", Align::Right),
            ("type", Align::Left),
            ("device", Align::Left),
        ];
        /// Layers at each end that the table shows: more than a block of the usual models.
        const SHOWN: usize = 10;
        let merged = if self.merged { ", merged" } else { "" };
        let notes: String = self.notes.iter().map(|note| format!("; {note}")).collect();
        let mut table = Table::new(names).caption(format!("{self}{merged}{notes}"));
        let cut = self.layers.len() > 2 * SHOWN + 1;
        for (i, layer) in self.layers.iter().enumerate() {
            if cut && (SHOWN..self.layers.len() - SHOWN).contains(&i) {
                if i == SHOWN {
                    table.row(["…"; 11]);
                }
                continue;
            }
            let [a, b, delta] = layer.norms;
            let whole = layer.kind == "whole";
            let number = |x: f64| if whole { String::new() } else { format!("{x:.4}") };
            table.row([
                layer.path.clone(),
                layer.kind.to_string(),
                format!("{}×{}", layer.shape[0], layer.shape[1]),
                if whole { String::new() } else { layer.rank.to_string() },
                number(layer.scale),
                thousands(layer.parameters as u64),
                number(a),
                number(b),
                format!("{delta:.4}"),
                layer.dtype.clone(),
                layer.device.clone(),
            ]);
        }
        table.show()
    }
}
