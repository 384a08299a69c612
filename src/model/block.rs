//! One block of a decoder: attention and a feed-forward layer, each with a norm before it and a residual
//! connection around it.

use super::layers::attention::{self, AttentionSaved};
use super::layers::blocked_attention::{self, Blocks};
use super::layers::linear::Wanted;
use super::layers::{Gelu, KeyValues, Linear, Rotary, fused, rotary, swiglu};
use super::trainable_norm::TrainableNorm;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use crate::ops::{self, Kernels, Precision};
use candle_core::{DType, Device, Tensor};

/// What all blocks of one pass share.
pub(crate) struct BlockPass<'a> {
    /// `None` if the model adds positions to the embedding instead.
    pub(crate) rotary: Option<&'a Rotary>,
    /// Where each row of the pack begins; the last entry is the number of tokens.
    pub(crate) borders: &'a [usize],
    /// The same in blocks of queries, where attention runs in candle's operations.
    pub(crate) blocks: Option<Blocks>,
    pub(crate) adapters: &'a Adapters,
    pub(crate) kernels: Kernels,
    /// The type P of the products.
    pub(crate) precision: Precision,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(super) attention_norm: TrainableNorm,
    pub(super) projections: QkvLayers,
    /// Widths of the queries, keys and values of one token.
    pub(super) widths: [usize; 3],
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// The norms of the heads of q and k.
    pub(super) head_norms: Option<[TrainableNorm; 2]>,
    pub(super) o: Linear,
    pub(super) mlp_norm: TrainableNorm,
    pub(super) activation: Activation,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

#[derive(Debug, Clone)]
pub(super) enum QkvLayers {
    Separate { q: Linear, k: Linear, v: Linear },
    Fused(Linear),
}

#[derive(Debug, Clone)]
pub(super) enum Activation {
    /// With its gate.
    SwiGlu(Linear),
    Gelu(Gelu),
}

/// The tensors that a block keeps for its backward pass; H query heads, G key-value heads of width W. P is the type of
/// the products; what has none stated is f32.
#[derive(Debug)]
pub(crate) struct BlockSaved {
    x: Tensor,                 // [T, D]
    q: Tensor,                 // [H, T, W] in P; with norms of heads [T, H·W], before them
    k: Tensor,                 // [G, T, W] in P; with norms of heads [T, G·W], before them
    v: Tensor,                 // [G, T, W] in P
    attended: Tensor,          // [H, T, W] in P
    attention: AttentionSaved, // [H, T]
    middle: Tensor,            // [T, D]
    gate: Option<Tensor>,      // [T, F] in P
    up: Tensor,                // [T, F] in P
}

impl BlockPass<'_> {
    /// The norm of x as the products of the block read it, in P.
    fn normed(&self, norm: &TrainableNorm, x: &Tensor) -> Result<Tensor> {
        self.precision.cast(&norm.forward(x, self.adapters, self.kernels)?)
    }

    /// The sum of two gradients of P that meet at a norm, in f32.
    fn sum(&self, y: Tensor, x: &Tensor) -> Result<Tensor> {
        match self.precision.is_f32() {
            true => ops::add(y, x),
            false => ops::add(y.to_dtype(DType::F32)?, x),
        }
    }

    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<(Tensor, AttentionSaved)> {
        match &self.blocks {
            Some(blocks) => Ok((blocked_attention::forward(q, k, v, blocks)?, AttentionSaved::NOTHING)),
            None => attention::forward(q, k, v, self.borders, self.kernels),
        }
    }

    /// The gradients of q, k and v of [`attend`](Self::attend).
    fn attend_back(
        &self,
        [q, k, v, y, dy]: [&Tensor; 5],
        saved: &AttentionSaved,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        match &self.blocks {
            Some(blocks) => blocked_attention::backward(q, k, v, y, dy, blocks),
            None => attention::backward(q, k, v, y, saved, dy, self.borders, self.kernels),
        }
    }

    /// Reshapes queries or keys `[T, H·W]` to `[H, T, W]`, applies the norm of the heads if there is one, and rotates.
    fn turn(&self, x: &Tensor, norm: Option<&TrainableNorm>, heads: usize) -> Result<Tensor> {
        let normed = norm.map(|norm| norm.forward(x, self.adapters, self.kernels)).transpose()?;
        let x = normed.as_ref().unwrap_or(x);
        match self.rotary {
            Some(rotary) => rotary.forward(x, heads, self.kernels),
            None => rotary::split_heads(x, heads, self.kernels),
        }
    }

    /// The gradient of [`turn`](Self::turn), `[H, T, W]` to `[T, H·W]`; `before` is what the norm read.
    fn turn_back(
        &self,
        dy: &Tensor,
        before: Option<(&TrainableNorm, &Tensor)>,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let dx = match self.rotary {
            Some(rotary) => rotary.backward(dy, self.kernels)?,
            None => rotary::merge_heads(dy, self.kernels)?,
        };
        match before {
            Some((norm, x)) => norm.backward(x, &dx, self.adapters, gradients, self.kernels),
            None => Ok(dx),
        }
    }
}

impl Block {
    /// The device of its weights.
    pub(crate) fn device(&self) -> &Device {
        self.attention_norm.device()
    }

    /// The same block on a device.
    pub(crate) fn to_device(&self, device: &Device) -> Result<Self> {
        if self.device().same_device(device) {
            return Ok(self.clone());
        }
        let to = |linear: &Linear| linear.to_device(device);
        Ok(Self {
            attention_norm: self.attention_norm.to_device(device)?,
            projections: match &self.projections {
                QkvLayers::Separate { q, k, v } => QkvLayers::Separate { q: to(q)?, k: to(k)?, v: to(v)? },
                QkvLayers::Fused(qkv) => QkvLayers::Fused(to(qkv)?),
            },
            head_norms: match &self.head_norms {
                Some([q, k]) => Some([q.to_device(device)?, k.to_device(device)?]),
                None => None,
            },
            o: to(&self.o)?,
            mlp_norm: self.mlp_norm.to_device(device)?,
            activation: match &self.activation {
                Activation::SwiGlu(gate) => Activation::SwiGlu(to(gate)?),
                Activation::Gelu(gelu) => Activation::Gelu(*gelu),
            },
            up: to(&self.up)?,
            down: to(&self.down)?,
            ..*self
        })
    }

    /// Whether anything of this block is trained.
    pub(crate) fn is_trained(&self, adapters: &Adapters) -> bool {
        self.linears().iter().any(|linear| linear.is_trained(adapters))
            || self.norms().iter().any(|norm| norm.is_trained(adapters))
    }

    /// Whether the first norm of the block is trained: its gradient needs that of its output.
    pub(crate) fn first_norm_is_trained(&self, adapters: &Adapters) -> bool {
        self.attention_norm.is_trained(adapters)
    }

    pub(crate) fn norms(&self) -> Vec<&TrainableNorm> {
        let heads = self.head_norms.iter().flatten();
        [&self.attention_norm, &self.mlp_norm].into_iter().chain(heads).collect()
    }

    /// Merges the adapters into copies of the weights that they adapt.
    pub(crate) fn merged(&self, adapters: &Adapters) -> Result<Self> {
        let of = |linear: &Linear| linear.merged(adapters);
        Ok(Self {
            attention_norm: self.attention_norm.merged(adapters),
            projections: match &self.projections {
                QkvLayers::Separate { q, k, v } => QkvLayers::Separate { q: of(q)?, k: of(k)?, v: of(v)? },
                QkvLayers::Fused(qkv) => QkvLayers::Fused(of(qkv)?),
            },
            head_norms: self.head_norms.as_ref().map(|norms| norms.each_ref().map(|n| n.merged(adapters))),
            o: of(&self.o)?,
            mlp_norm: self.mlp_norm.merged(adapters),
            activation: match &self.activation {
                Activation::SwiGlu(gate) => Activation::SwiGlu(of(gate)?),
                Activation::Gelu(gelu) => Activation::Gelu(*gelu),
            },
            up: of(&self.up)?,
            down: of(&self.down)?,
            ..*self
        })
    }

    /// The linear layers in the order of the forward pass.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = match &self.projections {
            QkvLayers::Separate { q, k, v } => vec![q, k, v],
            QkvLayers::Fused(qkv) => vec![qkv],
        };
        all.push(&self.o);
        if let Activation::SwiGlu(gate) = &self.activation {
            all.push(gate);
        }
        all.extend([&self.up, &self.down]);
        all
    }

    /// The paths of all layers in the order of the forward pass.
    pub(crate) fn in_order(&self) -> Vec<&str> {
        let mut all = vec![self.attention_norm.path()];
        match &self.projections {
            QkvLayers::Separate { q, k, v } => all.extend([q, k, v].map(Linear::path)),
            QkvLayers::Fused(qkv) => all.push(qkv.path()),
        }
        all.extend(self.head_norms.iter().flatten().map(TrainableNorm::path));
        all.extend([self.o.path(), self.mlp_norm.path()]);
        if let Activation::SwiGlu(gate) = &self.activation {
            all.push(gate.path());
        }
        all.extend([self.up.path(), self.down.path()]);
        all
    }

    /// Projects `[T, D]` to q `[T, H·W]`, k and v `[T, G·W]`.
    fn project(&self, normed: &Tensor, pass: &BlockPass) -> Result<[Tensor; 3]> {
        match &self.projections {
            QkvLayers::Separate { q, k, v } => all_of([q, k, v], normed, pass),
            QkvLayers::Fused(qkv) => {
                fused::split(&qkv.forward(normed, pass.adapters)?, self.widths, pass.kernels)
            }
        }
    }

    /// Computes queries, keys and values by heads, and returns the inputs of the heads' norms if there are any.
    fn heads_of(&self, normed: &Tensor, pass: &BlockPass) -> Result<(Option<[Tensor; 2]>, [Tensor; 3])> {
        let [q, k, v] = self.project(normed, pass)?;
        let heads = [
            pass.turn(&q, self.norm_of(0), self.heads)?,
            pass.turn(&k, self.norm_of(1), self.kv_heads)?,
            rotary::split_heads(&v, self.kv_heads, pass.kernels)?,
        ];
        Ok((self.head_norms.is_some().then_some([q, k]), heads))
    }

    fn norm_of(&self, which: usize) -> Option<&TrainableNorm> {
        self.head_norms.as_ref().map(|norms| &norms[which])
    }

    /// Computes the inputs of the feed-forward activation from the output of attention.
    fn gate_and_up(&self, middle: &Tensor, pass: &BlockPass) -> Result<(Option<Tensor>, Tensor)> {
        let normed = pass.normed(&self.mlp_norm, middle)?;
        match &self.activation {
            Activation::SwiGlu(gate) => {
                let [gate, up] = all_of([gate, &self.up], &normed, pass)?;
                Ok((Some(gate), up))
            }
            Activation::Gelu(_) => Ok((None, self.up.forward(&normed, pass.adapters)?)),
        }
    }

    /// Computes the output of the block: the last product of the feed-forward layer plus the residual.
    fn leave(&self, middle: &Tensor, gate: Option<&Tensor>, up: &Tensor, pass: &BlockPass) -> Result<Tensor> {
        let active = self.active(gate, up, pass.kernels)?;
        ops::add(self.down.forward(&active, pass.adapters)?, middle)
    }

    fn active(&self, gate: Option<&Tensor>, up: &Tensor, kernels: Kernels) -> Result<Tensor> {
        match (&self.activation, gate) {
            (Activation::SwiGlu(_), Some(gate)) => swiglu::forward(gate, up, kernels),
            (Activation::SwiGlu(_), None) => Err(Error::compute("a gate was not kept")),
            (Activation::Gelu(gelu), _) => gelu.forward(up, kernels),
        }
    }

    pub(crate) fn forward(&self, x: Tensor, pass: &BlockPass) -> Result<(Tensor, BlockSaved)> {
        let saved = self.save(x, pass)?;
        let y = self.leave(&saved.middle, saved.gate.as_ref(), &saved.up, pass)?;
        Ok((y, saved))
    }

    /// Computes what [`backward`](Self::backward) needs from the input of the block: the forward pass without its
    /// last product.
    pub(crate) fn save(&self, x: Tensor, pass: &BlockPass) -> Result<BlockSaved> {
        let kernels = pass.kernels;
        let normed = pass.normed(&self.attention_norm, &x)?;
        let (before, [q, k, v]) = self.heads_of(&normed, pass)?;
        drop(normed);
        let (attended, attention) = pass.attend(&q, &k, &v)?;
        // A norm's backward needs what it read; what it gave is cheap to make again.
        let [q, k] = before.unwrap_or([q, k]);
        let merged = rotary::merge_heads(&attended, kernels)?;
        let middle = ops::add(self.o.forward(&merged, pass.adapters)?, &x)?;
        drop(merged);
        let (gate, up) = self.gate_and_up(&middle, pass)?;
        Ok(BlockSaved { x, q, k, v, attended, attention, middle, gate, up })
    }

    /// Finds the first layer (norm, linear layer, or the operation between two of them) whose output has a NaN
    /// or an infinity, for an input that has none.
    pub(crate) fn first_not_finite(&self, x: &Tensor, pass: &BlockPass) -> Result<Option<String>> {
        let kernels = pass.kernels;
        let broken = |path: &str, y: &Tensor| Ok((!ops::is_finite(y)?).then(|| path.to_string()));
        let all = |layers: &[(&str, &Tensor)]| -> Result<Option<String>> {
            layers.iter().find_map(|(path, y)| broken(path, y).transpose()).transpose()
        };
        let above = |linear: &Linear| linear.path().rsplit_once('.').map_or("", |(path, _)| path).to_string();

        let normed = pass.normed(&self.attention_norm, x)?;
        let (before, [q, k, v]) = self.heads_of(&normed, pass)?;
        let paths = match &self.projections {
            QkvLayers::Separate { q, k, v } => [q, k, v].map(Linear::path),
            QkvLayers::Fused(qkv) => [qkv.path(); 3],
        };
        let turned = match (&before, &self.head_norms) {
            (Some([before_q, before_k]), Some([q_norm, k_norm])) => {
                let read = [(paths[0], before_q), (paths[1], before_k)];
                let gave = [(q_norm.path(), &q), (k_norm.path(), &k)];
                [read, gave].concat()
            }
            _ => vec![(paths[0], &q), (paths[1], &k)],
        };
        let first = [vec![(self.attention_norm.path(), &normed)], turned, vec![(paths[2], &v)]].concat();
        if let Some(found) = all(&first)? {
            return Ok(Some(found));
        }
        let BlockSaved { attended, middle, gate, up, .. } = self.save(x.clone(), pass)?;
        let normed = pass.normed(&self.mlp_norm, &middle)?;
        let active = self.active(gate.as_ref(), &up, kernels)?;
        let (attention, mlp) = (above(&self.o), above(&self.down));
        let mut then = vec![
            (attention.as_str(), &attended),
            (self.o.path(), &middle),
            (self.mlp_norm.path(), &normed),
            (self.up.path(), &up),
            (&mlp, &active),
        ];
        if let (Activation::SwiGlu(linear), Some(gate)) = (&self.activation, &gate) {
            then.insert(3, (linear.path(), gate));
        }
        if let Some(found) = all(&then)? {
            return Ok(Some(found));
        }
        all(&[(self.down.path(), &self.leave(&middle, gate.as_ref(), &up, pass)?)])
    }

    /// Computes dx for dy and adds the gradients of the adapters to `gradients`. Returns `None` if `wanted` says
    /// that nothing below is trained.
    pub(crate) fn backward(
        &self,
        saved: BlockSaved,
        dy: Tensor,
        pass: &BlockPass,
        gradients: &mut Gradients,
        wanted: Wanted,
    ) -> Result<Option<Tensor>> {
        let BlockSaved { x, q, k, v, attended, attention, middle, gate, up } = saved;
        let kernels = pass.kernels;
        let back = |linear: &Linear, x: &Tensor, dy: &Tensor, gradients: &mut Gradients, wanted| {
            linear.backward(x, dy, pass.adapters, gradients, wanted)
        };
        let input = |dx: Option<Tensor>| dx.ok_or_else(|| Error::compute("a gradient is missing"));

        let active = self.active(gate.as_ref(), &up, kernels)?;
        let low = |dy: &Tensor| pass.precision.cast(dy);
        let dactive = input(back(&self.down, &active, &low(&dy)?, gradients, Wanted::Input)?)?;
        drop(active);
        let normed = pass.normed(&self.mlp_norm, &middle)?;
        let dnormed = match (&self.activation, gate) {
            (Activation::SwiGlu(linear), Some(gate)) => {
                let (dgate, dup) = swiglu::backward(&gate, &up, &dactive, kernels)?;
                drop((dactive, gate, up));
                let dnormed = input(back(linear, &normed, &dgate, gradients, Wanted::Input)?)?;
                pass.sum(dnormed, &input(back(&self.up, &normed, &dup, gradients, Wanted::Input)?)?)?
            }
            (Activation::SwiGlu(_), None) => return Err(Error::compute("a gate was not kept")),
            (Activation::Gelu(gelu), _) => {
                let dup = gelu.backward(&up, &dactive, kernels)?;
                drop((dactive, up));
                input(back(&self.up, &normed, &dup, gradients, Wanted::Input)?)?
            }
        };
        drop(normed);
        let dmiddle =
            ops::add(dy, &self.mlp_norm.backward(&middle, &dnormed, pass.adapters, gradients, kernels)?)?;
        drop((dnormed, middle));

        let merged = rotary::merge_heads(&attended, kernels)?;
        let dmerged = input(back(&self.o, &merged, &low(&dmiddle)?, gradients, Wanted::Input)?)?;
        let dattended = rotary::split_heads(&dmerged, self.heads, kernels)?;
        drop((merged, dmerged));
        let (q, k, before) = match &self.head_norms {
            None => (q, k, None),
            Some([q_norm, k_norm]) => {
                let turned_q = pass.turn(&q, Some(q_norm), self.heads)?;
                let turned_k = pass.turn(&k, Some(k_norm), self.kv_heads)?;
                (turned_q, turned_k, Some([(q_norm, q), (k_norm, k)]))
            }
        };
        let (dq, dk, dv) = pass.attend_back([&q, &k, &v, &attended, &dattended], &attention)?;
        drop((q, k, v, attended, dattended));
        let before = |which: usize| before.as_ref().map(|b| (b[which].0, &b[which].1));
        let dq = pass.turn_back(&dq, before(0), gradients)?;
        let dk = pass.turn_back(&dk, before(1), gradients)?;
        let dv = rotary::merge_heads(&dv, kernels)?;

        let normed = pass.normed(&self.attention_norm, &x)?;
        let dnormed = match &self.projections {
            QkvLayers::Separate { q, k, v } => {
                let from_q = back(q, &normed, &dq, gradients, wanted)?;
                let from_k = back(k, &normed, &dk, gradients, wanted)?;
                let from_v = back(v, &normed, &dv, gradients, wanted)?;
                match (from_q, from_k, from_v) {
                    (Some(q), Some(k), Some(v)) => Some(pass.sum(pass.sum(q, &k)?, &v)?),
                    _ => None,
                }
            }
            QkvLayers::Fused(qkv) => {
                back(qkv, &normed, &fused::join([&dq, &dk, &dv], kernels)?, gradients, wanted)?
            }
        };
        let Some(dnormed) = dnormed else { return Ok(None) };
        Ok(Some(ops::add(
            dmiddle,
            &self.attention_norm.backward(&x, &dnormed, pass.adapters, gradients, kernels)?,
        )?))
    }

    /// Computes the output for tokens that follow those in the cache; `borders` is not used.
    pub(crate) fn extend(&self, x: Tensor, cached: &mut KeyValues, pass: &BlockPass) -> Result<Tensor> {
        let normed = pass.normed(&self.attention_norm, &x)?;
        let (_, [q, k, v]) = self.heads_of(&normed, pass)?;
        let attended = cached.attend(&q, &k, &v, pass.kernels)?;
        let merged = rotary::merge_heads(&attended, pass.kernels)?;
        let middle = ops::add(self.o.forward(&merged, pass.adapters)?, &x)?;
        let (gate, up) = self.gate_and_up(&middle, pass)?;
        self.leave(&middle, gate.as_ref(), &up, pass)
    }
}

/// The outputs of layers that read the same x.
fn all_of<const N: usize>(layers: [&Linear; N], x: &Tensor, pass: &BlockPass) -> Result<[Tensor; N]> {
    let outputs = Linear::forward_all(&layers, x, pass.adapters)?;
    outputs.try_into().map_err(|_| Error::compute("a layer gave no output"))
}
