//! THE step: forward, loss over trained tokens, backward, clip, update.

use super::batches::Batch;
use super::optimizer::{Optimizer, OptimizerConfig};
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients, Pass};
use crate::model::{Decoder, Tokens};
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
}

impl Learned {
    /// The adapters for a micro-batch of the next step, by its number in the batch.
    fn training(&self, pack: u64) -> Adapters {
        self.adapters.training(Pass { seed: self.seed, step: self.optimizer.updates() + 1, pack })
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

/// What forward and backward passes found so far for one update: sums over the trained tokens, that
/// [`update`] divides by their number. So the result does not depend on how rows are cut into batches.
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
}

/// Forward and backward through a batch; sums are added to `into`. `go_on` is asked between blocks.
///
/// # Errors
/// When the batch trains no token, when a loss is not finite (the error names the rows and the first
/// layer), and an interrupted error when `go_on` says no. `into` is of no use then.
pub fn forward_backward(
    model: &Decoder,
    learned: &Learned,
    batch: &Batch,
    into: &mut Accumulated,
    go_on: &dyn Fn() -> bool,
) -> Result<()> {
    if batch.packs.iter().all(|pack| pack.trained_tokens() == 0) {
        return Err(
            Error::input("no token of this batch is trained on").help("check that the rows have an answer")
        );
    }
    let scale = 1.0 / trained_tokens as f64;
    let (mut sum, mut gradients) = (0f64, Gradients::new());
    for (number, pack) in (0..).zip(batch).filter(|(_, pack)| pack.trained_tokens() > 0) {
        let adapters = learned.training(number);
        let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
        let (hidden, saved) = model.forward(tokens, &adapters, go_on)?;
        let (rows, targets) = trained(pack);
        let (losses, dhidden) =
            model.loss_backward(&hidden, &rows, &targets, scale, &adapters, &mut gradients)?;
        drop(hidden);
        model.backward(saved, &dhidden, &pack.borders, &adapters, &mut gradients, go_on)?;
        sum += total(&losses);
    }
    Ok(())
}

const LOWER: &str = "nothing was updated: rewind() to an earlier step, or set_lr() lower and resume()";

/// One update with what was accumulated. Gradients longer than `clip` are scaled down to it (Pascanu et
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
    let loss = accumulated.loss();
    let gradient_norm = accumulated.gradients.norm()? * scale;
    if !(loss.is_finite() && gradient_norm.is_finite()) {
        let error = Error::compute(format!("the loss is {loss} and the gradient norm {gradient_norm}"))
            .help("begin a new run with a lower learning rate: RunConfig::default().lr(…)");
        return Err(match broken_layer(model, learned, batch, &gradients)? {
            Some(layer) => error.layer(layer),
            None => error,
        });
    }
    let factor = match clip {
        Some(limit) if gradient_norm > limit => scale * limit / gradient_norm,
        _ => scale,
    };
    let Accumulated { gradients, tokens, trained_tokens, ids, .. } = accumulated;
    let before = model.settled(ids.into_iter(), &learned.adapters)?;
    let (adapters, optimizer) = learned.optimizer.update(&before, gradients, factor, lr, config, frozen)?;
    Ok((
        Learned { adapters, optimizer, seed: learned.seed },
        StepNumbers { loss, gradient_norm, tokens, trained_tokens },
    ))
}

/// The name that the backward pass met first: that of the last block.
fn first_of(adapters: &Adapters, names: &[&str]) -> Option<String> {
    let block = |name: &str| name.split('.').find_map(|part| part.parse::<usize>().ok());
    let known = adapters.tensors().map(|(name, _)| name).filter(|name| names.contains(&name.as_str()));
    known.max_by_key(|name| block(name))
}

/// One optimiser step over a batch that is packed into micro-batches: [`forward_backward`] and
/// [`update`].
///
/// loss = Σ over trained tokens / number of trained tokens in the whole batch, so the result does
/// not depend on how the batch is cut into micro-batches. A step that `go_on` stops has changed nothing.
///
/// # Errors
/// As the two.
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
/// When there is no trained token, and as the model's forward pass.
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
        let (rows, targets) = trained(pack);
        sum += total(&model.loss(&hidden, &rows, &targets, adapters)?);
        count += targets.len();
    }
    if rows.is_empty() {
        return Err(Error::input("there is no token to evaluate on"));
    }
    Ok(rows)
}

/// Mean over the tokens of all rows, and how many tokens that are.
pub fn mean(rows: &[RowLoss]) -> (f64, usize) {
    let tokens: u64 = rows.iter().map(|row| u64::from(row.tokens)).sum();
    let sum: f64 = rows.iter().map(|row| f64::from(row.loss) * f64::from(row.tokens)).sum();
    (sum / tokens.max(1) as f64, tokens as usize)
}

/// The layer at which the numbers of a step stopped being finite: the first one in the forward pass of a
/// micro-batch, or else the first that the backward pass met.
fn broken_layer(
    model: &Decoder,
    learned: &Learned,
    batch: &[Pack],
    gradients: &Gradients,
) -> Result<Option<String>> {
    for (number, pack) in (0..).zip(batch).filter(|(_, pack)| pack.trained_tokens() > 0) {
        let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
        if let Some(layer) = model.first_not_finite(tokens, &learned.training(number))? {
            return Ok(Some(layer));
        }
    }
    model.last_not_finite(gradients)
}

/// Σ in f64.
fn total(losses: &[f32]) -> f64 {
    losses.iter().map(|loss| f64::from(*loss)).sum()
}

/// The places of a pack whose next token is trained on, and those tokens.
fn trained(pack: &Pack) -> (Vec<u32>, Vec<u32>) {
    (0..).zip(&pack.targets).filter_map(|(place, target)| Some((place, (*target)?))).unzip()
}

/// The mean loss of each row of a pack.
fn row_losses(pack: &Pack, rows: &[u32], places: &[u32], losses: &[f64]) -> Vec<RowLoss> {
    let mut at = 0;
    let each = pack.rows().zip(&pack.examples).map(|(range, example)| {
        let begin = at;
        while at < places.len() && (places[at] as usize) < range.end {
            at += 1;
        }
        let own = &losses[begin..at];
        let sum: f64 = own.iter().sum();
        let row = rows.get(*example).copied().unwrap_or(*example as u32);
        RowLoss { row, tokens: own.len() as u32, loss: (sum / own.len().max(1) as f64) as f32 }
    });
    each.filter(|row| row.tokens > 0).collect()
}
