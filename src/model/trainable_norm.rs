//! A norm of either kind whose weight and bias may be trained.

use super::layers::{LayerNorm, RmsNorm};
use crate::error::Result;
use crate::lora::{Adapters, Gradients};
use crate::ops::Kernels;
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;

/// A norm at its path in the weights.
#[derive(Debug, Clone)]
pub(crate) struct TrainableNorm {
    /// The names of weight and bias in the model's files.
    names: [String; 2],
    layer: NormLayer,
}

#[derive(Debug, Clone)]
pub(crate) enum NormLayer {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl TrainableNorm {
    pub(crate) fn new(path: &str, layer: NormLayer) -> Self {
        Self { names: [format!("{path}.weight"), format!("{path}.bias")], layer }
    }

    /// The device of its weights.
    pub(crate) fn device(&self) -> &Device {
        match &self.layer {
            NormLayer::Rms(norm) => norm.weight().device(),
            NormLayer::Layer(norm) => norm.weight().device(),
        }
    }

    /// The same norm on a device.
    pub(crate) fn to_device(&self, device: &Device) -> Result<Self> {
        let layer = match &self.layer {
            NormLayer::Rms(norm) => NormLayer::Rms(norm.with_weight(norm.weight().to_device(device)?)),
            NormLayer::Layer(norm) => NormLayer::Layer(
                norm.with_weights(norm.weight().to_device(device)?, norm.bias().to_device(device)?),
            ),
        };
        Ok(Self { layer, names: self.names.clone() })
    }

    /// Its path in the weights.
    pub(crate) fn path(&self) -> &str {
        self.names[0].trim_end_matches(".weight")
    }

    /// The weights with their names.
    pub(crate) fn vectors(&self) -> Vec<(String, Tensor)> {
        let [weight, bias] = &self.names;
        match &self.layer {
            NormLayer::Rms(norm) => vec![(weight.clone(), norm.weight().clone())],
            NormLayer::Layer(norm) => {
                vec![(weight.clone(), norm.weight().clone()), (bias.clone(), norm.bias().clone())]
            }
        }
    }

    pub(crate) fn is_trained(&self, adapters: &Adapters) -> bool {
        self.names.iter().any(|name| adapters.whole(name).is_some())
    }

    /// The layer with its trained values, if it has any.
    fn with<'a>(&'a self, adapters: &Adapters) -> Cow<'a, NormLayer> {
        if !self.is_trained(adapters) {
            return Cow::Borrowed(&self.layer);
        }
        let [weight, bias] = self.names.each_ref().map(|name| adapters.whole(name).cloned());
        Cow::Owned(match &self.layer {
            NormLayer::Rms(norm) => NormLayer::Rms(norm.with_weight(weight.unwrap_or(norm.weight().clone()))),
            NormLayer::Layer(norm) => {
                NormLayer::Layer(norm.with_weights(
                    weight.unwrap_or(norm.weight().clone()),
                    bias.unwrap_or(norm.bias().clone()),
                ))
            }
        })
    }

    pub(crate) fn merged(&self, adapters: &Adapters) -> Self {
        Self { layer: self.with(adapters).into_owned(), names: self.names.clone() }
    }

    /// Normalises x `[T, D]`, or `[T, H·D]` if each of H heads has this norm.
    pub(crate) fn forward(&self, x: &Tensor, adapters: &Adapters, kernels: Kernels) -> Result<Tensor> {
        match &*self.with(adapters) {
            NormLayer::Rms(norm) => norm.forward_heads(x, kernels),
            NormLayer::Layer(norm) => norm.forward(x, kernels),
        }
    }

    /// Computes dx and adds the gradients of trained weights to `gradients`.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        adapters: &Adapters,
        gradients: &mut Gradients,
        kernels: Kernels,
    ) -> Result<Tensor> {
        let layer = self.with(adapters);
        let [weight, bias] = &self.names;
        if adapters.whole(weight).is_some() {
            let gradient = match &*layer {
                NormLayer::Rms(norm) => norm.weight_gradient(x, dy)?,
                NormLayer::Layer(norm) => norm.weight_gradient(x, dy)?,
            };
            gradients.add_tensor(weight.clone(), gradient)?;
        }
        if adapters.whole(bias).is_some() {
            gradients.add_tensor(bias.clone(), dy.to_dtype(DType::F32)?.sum(0)?)?;
        }
        match &*layer {
            NormLayer::Rms(norm) => norm.backward_heads(x, dy, kernels),
            NormLayer::Layer(norm) => norm.backward(x, dy, kernels),
        }
    }
}
