//! A frozen linear layer with a trained adapter beside it.

use crate::error::Result;
use crate::lora::{Adapters, Gradients};
use crate::model::weight::Weight;
use candle_core::Tensor;

/// y = W x + b, plus what the adapter at this layer's path adds. W and b are frozen.
#[derive(Debug, Clone)]
pub struct Linear {
    path: String,
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer at a path in the weights, with W `[out, in]` and perhaps b `[out]`.
    pub fn new(path: impl Into<String>, weight: Weight, bias: Option<Tensor>) -> Self {
        Self { path: path.into(), weight, bias }
    }

    /// Its path in the weights, such as `model.layers.3.self_attn.q_proj`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// W.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// b.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// x `[T, in]` to y `[T, out]`.
    ///
    /// # Errors
    /// When x has another width; the error names the layer.
    pub fn forward(&self, x: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        self.try_forward(x, adapters).map_err(|e| e.layer(&self.path))
    }

    fn try_forward(&self, x: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        let mut y = self.weight.forward(x)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        match adapters.get(&self.path) {
            Some(adapter) => adapter.forward(y, x),
            None => Ok(y),
        }
    }

    /// dx = Wᵀ dy and what the adapter adds; the adapter's gradient goes into `gradients`. `None`
    /// when `wanted` says that nothing below is trained.
    ///
    /// # Errors
    /// When the shapes do not fit; the error names the layer.
    pub fn backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        adapters: &Adapters,
        gradients: &mut Gradients,
        wanted: Wanted,
    ) -> Result<Option<Tensor>> {
        self.try_backward(x, dy, adapters, gradients, wanted).map_err(|e| e.layer(&self.path))
    }

    fn try_backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        adapters: &Adapters,
        gradients: &mut Gradients,
        wanted: Wanted,
    ) -> Result<Option<Tensor>> {
        let dx = match wanted {
            Wanted::Input => Some(self.weight.backward(dy)?),
            Wanted::AdaptersOnly => None,
        };
        let Some(adapter) = adapters.get(&self.path) else { return Ok(dx) };
        let (gradient, dx) = adapter.backward(x, dy, dx)?;
        gradients.add(&self.path, gradient)?;
        Ok(dx)
    }
}

/// Which gradients a backward pass is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those of the input, and of the adapters.
    Input,
    /// Those of the adapters; nothing below is trained.
    AdaptersOnly,
}
