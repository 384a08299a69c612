//! A frozen table of rows with what is trained beside it.

use crate::error::Result;
use crate::lora::{Adapters, Gradients};
use crate::model::weight::Weight;
use candle_core::{DType, Tensor};

/// y = `E[ids]`, plus what the adapter at this path adds. E is frozen, unless it is trained whole.
#[derive(Debug, Clone)]
pub struct Embedding {
    path: String,
    name: String,
    weight: Weight,
    padding: Option<u32>,
}

impl Embedding {
    /// A table `[V, D]` at a path in the weights.
    pub fn new(path: impl Into<String>, weight: Weight) -> Self {
        let path = path.into();
        Self { name: format!("{path}.weight"), path, weight, padding: None }
    }

    /// The same with a token whose row, and whose column of an adapter's A, has no gradient (PyTorch's
    /// `padding_idx`).
    #[must_use]
    pub fn with_padding(self, token: Option<u32>) -> Self {
        Self { padding: token, ..self }
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
        match adapters.get(&self.path) {
            Some(adapter) => {
                adapter.look_up(y, &Tensor::new(ids, adapter.a().device())?).map_err(|e| e.layer(&self.path))
            }
            None => Ok(y),
        }
    }

    /// Adds the gradients of what is trained, for dy `[T, D]`.
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
                let gradient = adapter.look_up_backward(&ids, dy, counted.as_ref())?;
                gradients.add(&self.path, adapter, gradient)
            }
            None => Ok(()),
        }
    }

    /// The same table with what is trained in a copy of it.
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
        if let Some(adapter) = adapters.get(&self.path) {
            merged = (merged + adapter.delta()?)?;
        }
        Ok(Self { weight: Weight::dense(merged)?, ..self.clone() })
    }
}
