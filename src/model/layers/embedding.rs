//! The embedding: a frozen table with its adapter.

use crate::error::Result;
use crate::lora::{Adapters, EMBEDDING_A, Gradients};
use crate::model::weight::Weight;
use crate::ops::shortened;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeSet;

/// y = `E[ids]`, plus the output of the adapter at this path. E is frozen unless it is trained in full.
#[derive(Debug, Clone)]
pub struct Embedding {
    path: String,
    name: String,
    weight: Weight,
    padding: Option<u32>,
    max_norm: Option<f64>,
}

impl Embedding {
    /// A table `[V, D]` at a path in the weights.
    pub fn new(path: impl Into<String>, weight: Weight) -> Self {
        let path = path.into();
        Self { name: format!("{path}.weight"), path, weight, padding: None, max_norm: None }
    }

    /// The same table on a device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let weight = self.weight.to_device(device).map_err(|e| e.layer(&self.path))?;
        Ok(Self { weight, ..self.clone() })
    }

    /// Sets the padding token: its row, and its column in the A of an adapter, has no gradient (PyTorch's
    /// `padding_idx`).
    #[must_use]
    pub fn with_padding(self, token: Option<u32>) -> Self {
        Self { padding: token, ..self }
    }

    /// The same where a looked-up row longer than `max_norm`, and a looked-up column of an adapter's A,
    /// counts as one of that length (PyTorch's `max_norm`, with its 2-norm):
    /// y = s(`E[ids]`) + scale·s(`A[:, ids]`ᵀ) Bᵀ, s(v) = v · min(1, max_norm / (‖v‖ + 10⁻⁷)).
    ///
    /// PyTorch shortens the stored rows in place whenever they are looked up. Here nothing changes in a
    /// forward pass: the frozen table stays as it is, a head tied to it sees its own rows, and the trained
    /// tensors are shortened by the training step, before their update ([`settled`](Self::settled)). As in
    /// PyTorch, no gradient goes through the factor.
    #[must_use]
    pub fn with_max_norm(self, max_norm: Option<f64>) -> Self {
        Self { max_norm, ..self }
    }

    /// Its path in the weights: `model.embed_tokens`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name of its weight in the model's files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// E.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Whether anything of this layer is trained.
    pub fn is_trained(&self, adapters: &Adapters) -> bool {
        adapters.get(&self.path).is_some() || adapters.whole(&self.name).is_some()
    }

    /// The rows of these tokens, `[T, D]`.
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    pub fn forward(&self, ids: &[u32], adapters: &Adapters) -> Result<Tensor> {
        let y = match adapters.whole(&self.name) {
            Some(whole) => Weight::dense(whole.clone())?.rows(ids)?,
            None => self.weight.rows(ids)?,
        };
        let y = shortened(y, self.max_norm)?;
        match adapters.get(&self.path) {
            Some(adapter) => {
                let ids = Tensor::new(ids, adapter.a().device())?;
                adapter.look_up(y, &ids, self.max_norm).map_err(|e| e.layer(&self.path))
            }
            None => Ok(y),
        }
    }

    /// Adds the gradients of what is trained for dy `[T, D]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn backward(
        &self,
        ids: &[u32],
        dy: &Tensor,
        adapters: &Adapters,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let counted = match self.padding {
            Some(padding) if ids.contains(&padding) => {
                let counted = ids.iter().map(|id| if *id == padding { 0f32 } else { 1.0 }).collect();
                Some(Tensor::from_vec(counted, (ids.len(), 1), dy.device())?)
            }
            _ => None,
        };
        let ids = Tensor::new(ids, dy.device())?;
        if adapters.whole(&self.name).is_some() {
            let zeros = Tensor::zeros(&self.weight.shape()[..], DType::F32, dy.device())?;
            let rows = match &counted {
                Some(counted) => dy.broadcast_mul(counted)?,
                None => dy.clone(),
            };
            gradients.add_tensor(self.name.clone(), zeros.index_add(&ids, &rows, 0)?)?;
        }
        match adapters.get(&self.path) {
            Some(adapter) => {
                let gradient = adapter.look_up_backward(&ids, dy, counted.as_ref(), self.max_norm)?;
                gradients.add(&self.path, adapter, gradient)
            }
            None => Ok(()),
        }
    }

    /// The adapters as PyTorch leaves them after a forward pass over these tokens: trained rows and columns that were
    /// looked up are at most `max_norm` long. The update starts from these.
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    pub fn settled(&self, ids: impl IntoIterator<Item = u32>, adapters: &Adapters) -> Result<Adapters> {
        if self.max_norm.is_none() || !self.is_trained(adapters) {
            return Ok(adapters.clone());
        }
        let ids: Vec<u32> = BTreeSet::from_iter(ids).into_iter().collect();
        let a = format!("{}.{EMBEDDING_A}", self.path);
        adapters.map(|name, tensor| {
            let along = match name {
                name if name == a => 1,
                name if name == self.name => 0,
                _ => return Ok(tensor.clone()),
            };
            let rows = if along == 1 { tensor.t()?.contiguous()? } else { tensor.clone() };
            let ids = Tensor::new(&ids[..], tensor.device())?;
            let index = ids.unsqueeze(1)?.broadcast_as((ids.elem_count(), rows.dim(1)?))?.contiguous()?;
            let short = shortened(rows.index_select(&ids, 0)?, self.max_norm)?;
            let rows = rows.scatter(&index, &short, 0)?;
            Ok(if along == 1 { rows.t()?.contiguous()? } else { rows })
        })
    }

    /// Merges what is trained into a copy of the table. Its rows have the length that they are looked up with, and it
    /// has no `max_norm` any more, which would shorten the sum.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn merged(&self, adapters: &Adapters) -> Result<Self> {
        if !self.is_trained(adapters) {
            return Ok(self.clone());
        }
        let mut merged = match adapters.whole(&self.name) {
            Some(whole) => whole.clone(),
            None => self.weight.expand()?,
        };
        merged = shortened(merged, self.max_norm)?;
        if let Some(adapter) = adapters.get(&self.path) {
            let delta = match self.max_norm {
                Some(max_norm) => adapter.with_max_norm(max_norm)?.delta()?,
                None => adapter.delta()?,
            };
            merged = (merged + delta)?;
        }
        Ok(Self { weight: Weight::dense(merged)?, max_norm: None, ..self.clone() })
    }
}
