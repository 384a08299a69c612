//! A frozen linear layer with its adapter.

use crate::error::Result;
use crate::lora::{Adapter, Adapters, Dropout, Gradients};
use crate::model::weight::Weight;
use crate::ops::matmul::{Form, matmul};
use candle_core::{DType, Device, Tensor};
use std::sync::{Arc, OnceLock};

/// y = W x + b, plus the output of the adapter at the path of this layer. W and b are frozen unless they are
/// trained in full.
#[derive(Debug, Clone)]
pub struct Linear {
    names: Arc<Names>,
    weight: Weight,
    bias: Option<Tensor>,
    drops: bool,
    /// ‖Wᵢ‖ of each row `[out, 1]` as the model's files have it, where W is used with rows of length 1.
    lengths: Option<Tensor>,
    /// ‖Wᵢ‖² of each row, computed when DoRA first needs it.
    squares: Arc<OnceLock<Tensor>>,
}

/// The path of a layer, and what the model's files call its tensors.
#[derive(Debug)]
struct Names {
    path: String,
    weight: String,
    bias: String,
}

impl Names {
    fn of(path: String) -> Arc<Self> {
        Arc::new(Self { weight: format!("{path}.weight"), bias: format!("{path}.bias"), path })
    }
}

impl Linear {
    /// A layer at a path in the weights, with W `[out, in]` and perhaps b `[out]`.
    pub fn new(path: impl Into<String>, weight: Weight, bias: Option<Tensor>) -> Self {
        Self {
            names: Names::of(path.into()),
            weight,
            bias,
            drops: true,
            lengths: None,
            squares: Arc::default(),
        }
    }

    /// The same layer on a device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if self.weight.device().same_device(device) {
            return Ok(self.clone());
        }
        let to = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_device(device)).transpose();
        let weight = self.weight.to_device(device).map_err(|e| e.layer(&self.names.path))?;
        let (bias, lengths) = (to(&self.bias)?, to(&self.lengths)?);
        Ok(Self { weight, bias, lengths, squares: Arc::default(), ..self.clone() })
    }

    /// The same layer with another W: a head that shares the embedding's.
    #[must_use]
    pub(crate) fn with_weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// The same layer without dropout: the loss takes a trained head as one matrix.
    #[must_use]
    pub fn without_dropout(self) -> Self {
        Self { drops: false, ..self }
    }

    /// The layer with each row of W normalised to length 1: y = x (W / ‖W‖)ᵀ, Baichuan2's `NormHead`. If it is
    /// trained in full, W itself is trained: with Ŵ = W / ‖W‖ and dŴ = dyᵀ x, row by row
    /// dW = (dŴ − Ŵ (Ŵ·dŴ)) / ‖W‖.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_unit_rows(self) -> Result<Self> {
        let lengths = Some(self.weight.row_lengths()?);
        Ok(Self { weight: self.weight.unit_rows()?, lengths, ..self })
    }

    /// The trained W in f32; its rows have their own lengths even if they are used with length 1.
    ///
    /// # Errors
    /// When the device fails.
    pub fn matrix(&self) -> Result<Tensor> {
        match &self.lengths {
            Some(lengths) => Ok(self.weight.expand()?.broadcast_mul(lengths)?),
            None => self.weight.expand(),
        }
    }

    /// What W does where it is trained whole, and the lengths of its rows if these are brought to 1.
    fn used(&self, whole: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        if self.lengths.is_none() {
            return Ok((whole.clone(), None));
        }
        let lengths = Weight::dense(whole.clone())?.row_lengths()?;
        Ok((whole.broadcast_div(&lengths)?, Some(lengths)))
    }

    /// The same layer under another path: a head that is the embedding.
    pub(crate) fn called(self, path: &str) -> Self {
        Self { names: Names::of(path.to_string()), ..self }
    }

    fn dropout(&self, adapters: &Adapters) -> Option<Dropout> {
        if self.drops { adapters.dropout(&self.names.path) } else { None }
    }

    /// Its path in the weights, such as `model.layers.3.self_attn.q_proj`.
    pub fn path(&self) -> &str {
        &self.names.path
    }

    /// W.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// b.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Whether anything of this layer is trained.
    pub fn is_trained(&self, adapters: &Adapters) -> bool {
        let Names { weight, bias, path } = &*self.names;
        adapters.get(path).is_some() || [weight, bias].iter().any(|name| adapters.whole(name).is_some())
    }

    /// x `[T, in]` to y `[T, out]`, in the type of x.
    ///
    /// # Errors
    /// When x has another width; the error names the layer.
    pub fn forward(&self, x: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        self.named(self.try_forward(x, adapters))
    }

    /// The outputs of layers that read the same x, such as the projections to queries, keys and values.
    ///
    /// # Errors
    /// When x has another width; the error names the layer.
    pub(crate) fn forward_all(layers: &[&Self], x: &Tensor, adapters: &Adapters) -> Result<Vec<Tensor>> {
        let whole = |layer: &&Self| adapters.whole(&layer.names.weight).is_some();
        let weights: Vec<&Weight> = layers.iter().map(|layer| &layer.weight).collect();
        let products = if layers.iter().any(whole) { None } else { Weight::forward_few(&weights, x)? };
        match products {
            Some(products) => {
                layers.iter().zip(products).map(|(l, y)| l.named(l.adapted(y, x, adapters))).collect()
            }
            None => layers.iter().map(|layer| layer.forward(x, adapters)).collect(),
        }
    }

    /// An error of this layer with its path.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.layer(&self.names.path))
    }

    fn try_forward(&self, x: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        let y = match adapters.whole(&self.names.weight) {
            Some(weight) => matmul(x, &self.used(weight)?.0.to_dtype(x.dtype())?, Form::RightTransposed)?,
            None => self.weight.forward(x)?,
        };
        self.adapted(y, x, adapters)
    }

    /// y = W x with the output of the adapter and the bias.
    fn adapted(&self, mut y: Tensor, x: &Tensor, adapters: &Adapters) -> Result<Tensor> {
        let Names { bias, path, .. } = &*self.names;
        if let Some(adapter) = adapters.get(path) {
            y = adapter.forward_dropped(y, x, self.dropout(adapters))?;
            if let Some(magnitude) = adapter.magnitude() {
                y = scaled(&y, &(magnitude / self.norms(adapter, x.dtype())?)?)?;
            }
        }
        match adapters.whole(bias).or(self.bias.as_ref()) {
            Some(bias) => Ok(y.broadcast_add(&bias.to_dtype(y.dtype())?)?),
            None => Ok(y),
        }
    }

    /// Computes dx = Wᵀ dy plus the part of the adapter, in the type of x and dy, and adds the gradients of what is
    /// trained to `gradients`, in f32. Returns `None` if `wanted` says that nothing below is trained.
    ///
    /// With a magnitude m, y = (m / ‖W + s·B A‖) ⊙ z, and the norm counts as a constant in the
    /// backward pass (Liu et al. 2024, §4.3): dz = (m / ‖·‖) ⊙ dy, ∂m = Σ dy ⊙ z / ‖·‖.
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
        self.named(self.try_backward(x, dy, adapters, gradients, wanted))
    }

    fn try_backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        adapters: &Adapters,
        gradients: &mut Gradients,
        wanted: Wanted,
    ) -> Result<Option<Tensor>> {
        let Names { weight, bias, path } = &*self.names;
        if adapters.whole(bias).is_some() {
            gradients.add_tensor(bias.clone(), dy.to_dtype(DType::F32)?.sum(0)?)?;
        }
        let adapter = adapters.get(path);
        let dropout = self.dropout(adapters);
        let mut magnitude = None;
        let mut dz = dy.clone();
        if let Some((adapter, m)) = adapter.and_then(|a| Some((a, a.magnitude()?))) {
            let norms = self.norms(adapter, x.dtype())?;
            // The layer's product once more, instead of keeping it since the forward pass.
            let z = adapter.forward_dropped(self.weight.forward(x)?, x, dropout)?;
            let along = (dy.to_dtype(DType::F32)? * z.to_dtype(DType::F32)?)?;
            magnitude = Some((along.sum(0)? / &norms)?);
            dz = scaled(dy, &(m / norms)?)?;
        }
        let whole = adapters.whole(weight).map(|whole| self.used(whole)).transpose()?;
        if let Some((unit, lengths)) = &whole {
            let mut d = matmul(&dz, x, Form::LeftTransposed)?.to_dtype(DType::F32)?;
            if let Some(lengths) = lengths {
                let along = (unit * &d)?.sum_keepdim(1)?;
                d = (d - unit.broadcast_mul(&along)?)?.broadcast_div(lengths)?;
            }
            gradients.add_tensor(weight.clone(), d)?;
        }
        let dx = match (wanted, &whole) {
            (Wanted::AdaptersOnly, _) => None,
            (Wanted::Input, Some((weight, _))) => {
                Some(matmul(&dz, &weight.to_dtype(dz.dtype())?, Form::Plain)?)
            }
            (Wanted::Input, None) => Some(self.weight.backward(&dz)?),
        };
        let Some(adapter) = adapter else { return Ok(dx) };
        let (mut gradient, dx) = adapter.backward_dropped(x, &dz, dx, dropout)?;
        gradient.magnitude = magnitude;
        gradients.add(path, adapter, gradient)?;
        Ok(dx)
    }

    /// ‖Wᵢ + s·(B A)ᵢ‖ of each row, `[out]`, with A Wᵀ in the type of a product: a weight of that type is used as it is.
    fn norms(&self, adapter: &Adapter, dtype: DType) -> Result<Tensor> {
        let squares = match self.squares.get() {
            Some(squares) => squares,
            None => {
                let squares = self.weight.expand()?.to_dtype(DType::F64)?.sqr()?.sum(1)?;
                self.squares.get_or_init(|| squares)
            }
        };
        adapter.row_norms(squares, &self.weight.forward(&adapter.a().to_dtype(dtype)?)?)
    }

    /// Merges the adapter into a copy of the weight, in f32: the frozen weight does not change.
    ///
    /// # Errors
    /// When the shapes do not fit; the error names the layer.
    pub fn merged(&self, adapters: &Adapters) -> Result<Self> {
        if !self.is_trained(adapters) {
            return Ok(self.clone());
        }
        self.named(self.try_merged(adapters))
    }

    fn try_merged(&self, adapters: &Adapters) -> Result<Self> {
        let Names { weight, bias, path } = &*self.names;
        let (mut merged, lengths) = match adapters.whole(weight) {
            Some(weight) => self.used(weight)?,
            None => (self.weight.expand()?, self.lengths.clone()),
        };
        if let Some(adapter) = adapters.get(path) {
            merged = (merged + adapter.delta()?)?;
            if let Some(magnitude) = adapter.magnitude() {
                let rows = (magnitude / self.norms(adapter, DType::F32)?)?;
                merged = merged.broadcast_mul(&rows.unsqueeze(1)?)?;
            }
        }
        let bias = adapters.whole(bias).or(self.bias.as_ref()).cloned();
        Ok(Self { drops: self.drops, lengths, ..Self::new(path.clone(), Weight::dense(merged)?, bias) })
    }
}

/// y `[T, out]` with each column times a factor `[out]`, which is f32, in the type of y.
fn scaled(y: &Tensor, factors: &Tensor) -> Result<Tensor> {
    Ok(y.to_dtype(DType::F32)?.broadcast_mul(factors)?.to_dtype(y.dtype())?)
}

/// Which gradients a backward pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those of the input, and of what is trained.
    Input,
    /// Those of what is trained in this layer; nothing below is.
    AdaptersOnly,
}
