//! THE step: forward, loss over trained tokens, backward, clip, update.

use super::optimizer::{Optimizer, OptimizerConfig};
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients, Pass};
use crate::model::{Decoder, Tokens};
use crate::text::Pack;

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

/// One optimiser step over a batch that is packed into micro-batches.
///
/// loss = Σ over trained tokens / number of trained tokens in the whole batch, so the result does
/// not depend on how the batch is cut into micro-batches. Gradients longer than `clip` are scaled
/// down to it (Pascanu et al. 2013). `go_on` is asked between blocks; a step that it stops has
/// changed nothing.
///
/// # Errors
/// When the batch trains no token, when the loss or a gradient is not finite, and an interrupted
/// error when `go_on` says no.
pub fn step(
    model: &Decoder,
    learned: &Learned,
    batch: &[Pack],
    lr: f64,
    clip: Option<f64>,
    config: &OptimizerConfig,
    go_on: &dyn Fn() -> bool,
) -> Result<(Learned, StepNumbers)> {
    let trained_tokens: usize = batch.iter().map(Pack::trained_tokens).sum();
    if trained_tokens == 0 {
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
    let (loss, gradient_norm) = (sum * scale, gradients.norm()?);
    if !(loss.is_finite() && gradient_norm.is_finite()) {
        let error = Error::compute(format!("the loss is {loss} and the gradient norm {gradient_norm}"))
            .help("begin a new run with a lower learning rate: RunConfig::default().lr(…)");
        return Err(match broken_layer(model, learned, batch, &gradients)? {
            Some(layer) => error.layer(layer),
            None => error,
        });
    }
    let factor = match clip {
        Some(limit) if gradient_norm > limit => limit / gradient_norm,
        _ => 1.0,
    };
    let (adapters, optimizer) = learned.optimizer.update(&learned.adapters, gradients, factor, lr, config)?;
    let tokens = batch.iter().map(Pack::len).sum();
    Ok((
        Learned { adapters, optimizer, seed: learned.seed },
        StepNumbers { loss, gradient_norm, tokens, trained_tokens },
    ))
}

/// Mean cross-entropy over the trained tokens of all packs, in nats, and how many tokens that were.
///
/// # Errors
/// When there is no trained token, and as the model's forward pass.
pub fn evaluate(
    model: &Decoder,
    adapters: &Adapters,
    packs: &[Pack],
    go_on: &dyn Fn() -> bool,
) -> Result<(f64, usize)> {
    let (mut sum, mut count) = (0f64, 0usize);
    for pack in packs.iter().filter(|pack| pack.trained_tokens() > 0) {
        let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
        let hidden = model.hidden(tokens, adapters, go_on)?;
        let (rows, targets) = trained(pack);
        sum += total(&model.loss(&hidden, &rows, &targets, adapters)?);
        count += targets.len();
    }
    if count == 0 {
        return Err(Error::input("there is no token to evaluate on"));
    }
    Ok((sum / count as f64, count))
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
