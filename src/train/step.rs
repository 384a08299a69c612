//! The training step: forward, loss over trained tokens, backward, clip, update.

use super::batches::Batch;
use super::memory::advised;
use super::optimizer::{Optimizer, OptimizerConfig};
use crate::error::{Error, Result};
use crate::lora::{Activations, Adapters, DropoutPass, Gradients};
use crate::model::{Counted, Decoder, Tokens};
use crate::text::Pack;
use serde::{Deserialize, Serialize};

/// What a step changes: the trained tensors and the optimiser's moments.
///
/// Cheap to clone; a step makes a new one and leaves the old as it was.
#[derive(Debug, Clone)]
pub struct Learned {
    /// The adapters.
    pub adapters: Adapters,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// The seed of dropout.
    pub seed: u64,
    /// C = E[(A x)(A x)ᵀ] of each adapter: which of its directions the data use.
    pub activations: Activations,
}

impl Learned {
    /// Adapters before their first step.
    pub fn new(adapters: Adapters, seed: u64) -> Self {
        Self { adapters, optimizer: Optimizer::new(), seed, activations: Activations::default() }
    }

    /// The same with each tensor on the device of its layer.
    ///
    /// # Errors
    /// When a device has no room.
    pub fn on(&self, model: &Decoder) -> Result<Self> {
        let optimizer = self.optimizer.map(|name, tensor| Ok(tensor.to_device(model.device_of(name))?))?;
        Ok(Self { adapters: model.place(&self.adapters)?, optimizer, ..self.clone() })
    }

    /// Bytes of the trained tensors and their moments.
    pub fn bytes(&self) -> u64 {
        let moments = self.optimizer.moments().values();
        let moments: usize =
            moments.map(|m| m.mean.elem_count() * (1 + usize::from(m.square.is_some()))).sum();
        4 * (self.adapters.parameters() + moments) as u64
    }
}

/// Numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepNumbers {
    /// Mean cross-entropy over the trained tokens, in nats.
    pub loss: f64,
    /// √Σg² over all adapters, before clipping.
    pub gradient_norm: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Tokens whose loss counted.
    pub trained_tokens: usize,
}

/// The loss of one row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, f32)", into = "(u32, u32, f32)")]
pub struct RowLoss {
    /// Its number in the dataset, from 0.
    pub row: u32,
    /// Tokens whose loss counted.
    pub tokens: u32,
    /// Mean cross-entropy over them, in nats.
    pub loss: f32,
}

impl From<(u32, u32, f32)> for RowLoss {
    fn from((row, tokens, loss): (u32, u32, f32)) -> Self {
        Self { row, tokens, loss }
    }
}

impl From<RowLoss> for (u32, u32, f32) {
    fn from(row: RowLoss) -> Self {
        (row.row, row.tokens, row.loss)
    }
}

/// The sums of the forward and backward passes for one update, over the trained tokens. [`update`] divides them by
/// the number of these tokens, so the result does not depend on how rows are cut into batches.
#[derive(Debug, Default)]
pub struct Accumulated {
    /// Σ of the gradients.
    pub gradients: Gradients,
    /// Σ of the cross-entropy.
    pub sum: f64,
    /// Tokens that went through the model.
    pub tokens: usize,
    /// Tokens whose loss counted.
    pub trained_tokens: usize,
    /// The loss of each row.
    pub rows: Vec<RowLoss>,
    /// Micro-batches so far.
    packs: u64,
    /// The tokens that went through the model.
    ids: Vec<u32>,
}

impl Accumulated {
    /// Mean cross-entropy over the trained tokens, in nats.
    pub fn loss(&self) -> f64 {
        self.sum / self.trained_tokens.max(1) as f64
    }

    /// Micro-batches so far: the number of the next one, by which dropout is drawn.
    pub(crate) fn packs(&self) -> u64 {
        self.packs
    }

    /// The same, with gradients that more passes leave as they are.
    pub(crate) fn copied(&self) -> Result<Self> {
        Ok(Self {
            gradients: self.gradients.copied()?,
            rows: self.rows.clone(),
            ids: self.ids.clone(),
            ..*self
        })
    }

    /// Counts micro-batches.
    pub(crate) fn count(&mut self, packs: usize) {
        self.packs += packs as u64;
    }

    /// Adds the losses of a micro-batch, of its trained tokens and of its rows; its gradients are added apart.
    pub(crate) fn add(&mut self, pack: &Pack, losses: &[f32], rows: Vec<RowLoss>) {
        self.sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
        self.ids.extend(&pack.ids);
        self.tokens += pack.len();
        self.trained_tokens += losses.len();
        self.rows.extend(rows);
    }

    /// Fails where the loss of a row is not finite, and names the row and the first layer.
    pub(crate) fn check_finite(
        &self,
        model: &Decoder,
        learned: &Learned,
        pack: &Pack,
        number: u64,
        rows: &[RowLoss],
    ) -> Result<()> {
        let Some(row) = rows.iter().find(|row| !row.loss.is_finite()) else { return Ok(()) };
        let bad = rows.iter().filter(|row| !row.loss.is_finite()).count();
        let step = learned.optimizer.updates() + 1;
        let adapters = learned.adapters.training(DropoutPass { seed: learned.seed, step, pack: number });
        let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
        let error = Error::not_finite(format!(
            "the loss of row {} is {} ({bad} of {} rows are not finite)",
            row.row,
            row.loss,
            rows.len()
        ));
        Err(match model.first_not_finite(tokens, &adapters)? {
            Some(layer) => error.layer(layer),
            None => error,
        })
    }
}

/// Makes the forward and the backward pass of a batch and adds its sums to `into`. `go_on` is asked between
/// blocks; it returns false to cancel.
///
/// # Errors
/// When the batch trains no token, when a loss is not finite (the error names the rows and the first
/// layer), and an interrupted error when `go_on` returns false. `into` is of no use then.
pub fn forward_backward(
    model: &Decoder,
    learned: &Learned,
    batch: &Batch,
    into: &mut Accumulated,
    go_on: &dyn Fn() -> bool,
) -> Result<()> {
    batch.check_trained()?;
    let step = learned.optimizer.updates() + 1;
    for pack in &batch.packs {
        let number = into.packs;
        into.count(1);
        if pack.trained_tokens() == 0 {
            continue;
        }
        one_pack(model, learned, batch, pack, (step, number), into, go_on).map_err(|e| advised(e, pack))?;
    }
    Ok(())
}

/// Makes the passes of one micro-batch with this number in its step.
fn one_pack(
    model: &Decoder,
    learned: &Learned,
    batch: &Batch,
    pack: &Pack,
    (step, number): (u64, u64),
    into: &mut Accumulated,
    go_on: &dyn Fn() -> bool,
) -> Result<()> {
    let adapters = learned.adapters.training(DropoutPass { seed: learned.seed, step, pack: number });
    let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
    let (hidden, saved) = model.forward(tokens, &adapters, go_on)?;
    let (places, targets) = trained(pack);
    let counted = Counted { places: &places, targets: &targets };
    let (losses, dhidden) =
        model.loss_backward(&hidden, counted, 1.0, &adapters, &mut into.gradients, go_on)?;
    drop(hidden);
    let rows = row_losses(pack, &batch.rows, &places, &losses);
    into.check_finite(model, learned, pack, number, &rows)?;
    model.backward(saved, &dhidden, &pack.borders, &adapters, &mut into.gradients, go_on)?;
    into.add(pack, &losses, rows);
    Ok(())
}

/// Makes one update with the accumulated gradients. A gradient norm above `clip` is scaled down to it (Pascanu et
/// al. 2013). Tensors that are `frozen` stay as they are.
///
/// # Errors
/// When a gradient is missing or not finite; the error names the first layer that the backward pass met.
pub fn update(
    model: &Decoder,
    learned: &Learned,
    mut accumulated: Accumulated,
    lr: f64,
    clip: Option<f64>,
    config: &OptimizerConfig,
    frozen: &dyn Fn(&str) -> bool,
) -> Result<(Learned, StepNumbers)> {
    let scale = 1.0 / accumulated.trained_tokens.max(1) as f64;
    for (name, _) in learned.adapters.tensors().filter(|(name, _)| frozen(name)) {
        accumulated.gradients.take(&name);
    }
    // Those of several devices come in memory: their norm is that of one device to the bit only where they lie there.
    accumulated.gradients = accumulated.gradients.beside(|name| model.device_of(name))?;
    let loss = accumulated.loss();
    let gradient_norm = accumulated.gradients.norm()? * scale;
    if !(loss.is_finite() && gradient_norm.is_finite()) {
        let error = Error::not_finite(format!("the loss is {loss} and the gradient norm {gradient_norm}"));
        return Err(match model.last_not_finite(&accumulated.gradients)? {
            Some(layer) => error.layer(layer),
            None => error,
        });
    }
    let factor = match clip {
        Some(limit) if gradient_norm > limit => scale * limit / gradient_norm,
        _ => scale,
    };
    let Accumulated { gradients, tokens, trained_tokens, ids, .. } = accumulated;
    let activations = learned.activations.with(&gradients)?;
    let before = model.settled(ids, &learned.adapters)?;
    let (adapters, optimizer) = learned.optimizer.update(&before, gradients, factor, lr, config, frozen)?;
    Ok((
        Learned { adapters, optimizer, seed: learned.seed, activations },
        StepNumbers { loss, gradient_norm, tokens, trained_tokens },
    ))
}

/// One optimiser step over a batch that is packed into micro-batches: [`forward_backward`] and
/// [`update`].
///
/// loss = Σ over trained tokens / number of trained tokens in the whole batch, so the result does
/// not depend on how the batch is cut into micro-batches. A step that `go_on` stops has changed nothing.
///
/// # Errors
/// As these two.
pub fn step(
    model: &Decoder,
    learned: &Learned,
    packs: &[Pack],
    lr: f64,
    clip: Option<f64>,
    config: &OptimizerConfig,
    go_on: &dyn Fn() -> bool,
) -> Result<(Learned, StepNumbers)> {
    let mut accumulated = Accumulated::default();
    forward_backward(model, learned, &Batch::of(packs.to_vec()), &mut accumulated, go_on)?;
    update(model, learned, accumulated, lr, clip, config, &|_| false)
}

/// The losses on held-out rows, in the order of the batch's packs.
///
/// # Errors
/// When there is no trained token, when a loss is not finite (the error names the rows), and as the model's
/// forward pass.
pub fn evaluate(
    model: &Decoder,
    adapters: &Adapters,
    batch: &Batch,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<RowLoss>> {
    let mut rows = Vec::with_capacity(batch.rows.len());
    for pack in batch.packs.iter().filter(|pack| pack.trained_tokens() > 0) {
        let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
        let hidden = model.hidden(tokens, adapters, go_on)?;
        let (places, targets) = trained(pack);
        let counted = Counted { places: &places, targets: &targets };
        let losses = model.loss(&hidden, counted, adapters)?;
        rows.extend(row_losses(pack, &batch.rows, &places, &losses));
    }
    check_evaluated(rows)
}

/// Fails where there is no trained token or a loss is not finite.
pub(crate) fn check_evaluated(rows: Vec<RowLoss>) -> Result<Vec<RowLoss>> {
    if rows.is_empty() {
        return Err(Error::input("there is no token to evaluate on"));
    }
    let bad: Vec<u32> = rows.iter().filter(|row| !row.loss.is_finite()).map(|row| row.row).collect();
    if let Some(first) = rows.iter().find(|row| !row.loss.is_finite()) {
        const NAMED: usize = 5;
        let named: Vec<String> = bad.iter().take(NAMED).map(u32::to_string).collect();
        let more = if bad.len() > NAMED { ", …" } else { "" };
        return Err(Error::not_finite(format!(
            "the loss in evaluation is {} ({} of {} rows are not finite: {}{more})",
            first.loss,
            bad.len(),
            rows.len(),
            named.join(", ")
        )));
    }
    Ok(rows)
}

/// Mean over the tokens of all rows, and how many tokens that are.
pub fn mean(rows: &[RowLoss]) -> (f64, usize) {
    let tokens: u64 = rows.iter().map(|row| u64::from(row.tokens)).sum();
    let sum: f64 = rows.iter().map(|row| f64::from(row.loss) * f64::from(row.tokens)).sum();
    (sum / tokens.max(1) as f64, tokens as usize)
}

/// Whether a trained tensor belongs to one of these frozen modules.
pub(crate) fn is_frozen(frozen: &[String], tensor: &str) -> bool {
    frozen.iter().any(|module| {
        tensor.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with('.') || rest.is_empty())
    })
}

/// The places of a pack whose next token is trained on, and those tokens.
pub(crate) fn trained(pack: &Pack) -> (Vec<u32>, Vec<u32>) {
    (0..).zip(&pack.targets).filter_map(|(place, target)| Some((place, (*target)?))).unzip()
}

/// The mean loss of each row of a pack.
pub(crate) fn row_losses(pack: &Pack, rows: &[u32], places: &[u32], losses: &[f32]) -> Vec<RowLoss> {
    let mut at = 0;
    let each = pack.rows().zip(&pack.examples).map(|(range, example)| {
        let begin = at;
        while at < places.len() && (places[at] as usize) < range.end {
            at += 1;
        }
        let own = &losses[begin..at];
        let sum: f64 = own.iter().map(|loss| f64::from(*loss)).sum();
        let row = rows.get(*example).copied().unwrap_or(*example as u32);
        RowLoss { row, tokens: own.len() as u32, loss: (sum / own.len().max(1) as f64) as f32 }
    });
    each.filter(|row| row.tokens > 0).collect()
}
