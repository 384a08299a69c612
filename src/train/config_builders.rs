//! Sets the settings of a run one by one: `RunConfig::default().rank(8).lr(1e-4)`.

use super::config::{Adaptation, RunConfig, Snapshots};
use super::devices::{Devices, Placement, Reduction};
use super::optimizer::OptimizerConfig;
use super::schedule::{Schedule, Shape};
use crate::dataset::Dataset;
use crate::files::Existing;
use crate::format::OnFault;
use crate::lora::{LoraConfig, TargetModules};
use crate::model::Recompute;
use crate::ops::Precision;
use crate::text::{PromptAnswers, SpecialTokens, Trained};
use std::path::PathBuf;

impl RunConfig {
    /// Sets all of LoRA: rank, alpha, target modules, dropout and the rest.
    #[must_use]
    pub fn lora(mut self, lora: LoraConfig) -> Self {
        self.lora = lora;
        self
    }

    /// Sets the share of an adapter's inputs that is left out at random in each step.
    #[must_use]
    pub fn dropout(mut self, share: f64) -> Self {
        self.lora.dropout = share;
        self
    }

    /// Sets the largest gradient norm; `None` does not clip.
    #[must_use]
    pub fn clip(mut self, norm: impl Into<Option<f64>>) -> Self {
        self.clip = norm.into();
        self
    }

    /// Sets the rank, and alpha to keep the scale alpha / rank.
    #[must_use]
    pub fn rank(mut self, rank: usize) -> Self {
        let ratio = self.lora.alpha / self.lora.rank.max(1) as f64;
        self.lora.alpha = if rank == 0 { self.lora.alpha } else { ratio * rank as f64 };
        self.lora.rank = rank;
        self
    }

    /// Sets alpha.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.lora.alpha = alpha;
        self
    }

    /// Adapts the layers whose path ends in one of these names: `q_proj`, `down_proj`.
    #[must_use]
    pub fn targets<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.lora.target_modules = TargetModules::Named(names.into_iter().map(Into::into).collect());
        self
    }

    /// Trains all weights instead of adapters.
    #[must_use]
    pub fn full(mut self) -> Self {
        self.adaptation = Adaptation::Full;
        self
    }

    /// Sets the optimiser.
    #[must_use]
    pub fn optimizer(mut self, optimizer: OptimizerConfig) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Sets what the backward pass computes again.
    #[must_use]
    pub fn recompute(mut self, recompute: Recompute) -> Self {
        self.recompute = recompute;
        self
    }

    /// Sets the type of the matrix products: `Precision::Bf16` on a GPU.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets the devices to train on: `Devices::auto()` for all GPUs of the machine.
    #[must_use]
    pub fn devices(mut self, devices: Devices) -> Self {
        self.devices = devices;
        self
    }

    /// Sets how the model lies on the devices.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Sets where the gradients of the micro-batches are added: `Reduction::OnDevices` moves fewer bytes between many
    /// devices.
    #[must_use]
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets the peak learning rate.
    #[must_use]
    pub fn lr(mut self, lr: f64) -> Self {
        self.lr = lr;
        self
    }

    /// Sets the rows of one step.
    #[must_use]
    pub fn batch(mut self, rows: usize) -> Self {
        self.batch = rows;
        self
    }

    /// Sets the tokens that go through the model at a time.
    #[must_use]
    pub fn micro_batch(mut self, tokens: usize) -> Self {
        self.micro_batch = tokens;
        self
    }

    /// Stops early, when this many evaluations in a row were no better than the best before.
    #[must_use]
    pub fn patience(mut self, evaluations: u64) -> Self {
        self.patience = Some(evaluations);
        self
    }

    /// Pauses after a loss above this multiple of the median of the twenty before.
    #[must_use]
    pub fn spike(mut self, factor: f64) -> Self {
        self.spike = Some(factor);
        self
    }

    /// Sets the steps between two spectra of the adapters, which are kept with the history; `None` keeps none.
    #[must_use]
    pub fn spectra_every(mut self, steps: impl Into<Option<u64>>) -> Self {
        self.spectra_every = steps.into();
        self
    }

    /// Sets which snapshots are taken and kept.
    #[must_use]
    pub fn snapshots(mut self, snapshots: Snapshots) -> Self {
        self.snapshots = snapshots;
        self
    }

    /// Begins with adapters from a folder.
    #[must_use]
    pub fn init_from(mut self, folder: impl Into<PathBuf>) -> Self {
        self.init_from = Some(folder.into());
        self
    }

    /// Sets the longest row, in tokens.
    #[must_use]
    pub fn context(mut self, tokens: usize) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Sets which tokens of a conversation are trained on.
    #[must_use]
    pub fn trained(mut self, trained: Trained) -> Self {
        self.trained = trained;
        self
    }

    /// Sets whether the answers inside a preference's prompt are trained on.
    #[must_use]
    pub fn prompt_answers(mut self, answers: PromptAnswers) -> Self {
        self.prompt_answers = answers;
        self
    }

    /// Sets whether the names of special tokens in a plain text are these tokens.
    #[must_use]
    pub fn special_tokens(mut self, special: SpecialTokens) -> Self {
        self.special_tokens = special;
        self
    }

    /// Fails at the first row that the chat template refuses, instead of leaving it out.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.faults = OnFault::Fail;
        self
    }

    /// Sets the steps of the linear warm-up.
    #[must_use]
    pub fn warmup(mut self, steps: u64) -> Self {
        self.schedule.warmup = steps;
        self
    }

    /// Sets the schedule of the learning rate. Where the schedule has the default warm-up, one that was set
    /// [before](Self::warmup) stays.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        let usual = Schedule::default().warmup;
        let warmup = if schedule.warmup == usual { self.schedule.warmup } else { schedule.warmup };
        self.schedule = Schedule { warmup, ..schedule };
        self
    }

    /// Sets a cosine schedule that ends at this step, at a tenth of the peak learning rate.
    #[must_use]
    pub fn cosine(self, steps: u64) -> Self {
        self.ending(Shape::Cosine, steps)
    }

    /// The same as [`cosine`](Self::cosine), the clearer name.
    #[must_use]
    pub fn total(self, steps: u64) -> Self {
        self.cosine(steps)
    }

    /// Sets a linear schedule that ends at this step; the rate would reach 0 one step later.
    #[must_use]
    pub fn linear(self, steps: u64) -> Self {
        self.ending(Shape::Linear, steps)
    }

    /// Sets a warm-up, stable, decay schedule: the rate falls in the last fifth of this many steps, as in
    /// [`linear`](Self::linear).
    #[must_use]
    pub fn wsd(self, steps: u64) -> Self {
        self.ending(Shape::Wsd { decay: None }, steps)
    }

    fn ending(mut self, shape: Shape, steps: u64) -> Self {
        self.schedule = Schedule { warmup: self.schedule.warmup, shape, total: Some(steps), last: None };
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Evaluates on these rows.
    #[must_use]
    pub fn eval(mut self, data: &Dataset) -> Self {
        self.eval = Some(data.clone());
        self
    }

    /// Evaluates each time this many steps are done.
    #[must_use]
    pub fn eval_every(mut self, steps: u64) -> Self {
        self.eval_every = Some(steps);
        self
    }

    /// Replaces a run of the same name. The old one moves to the folder `NAME.1`, or the next number that is
    /// free, and can be opened there; what else lies in its folder stays. It is refused while that run trains.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.existing = Existing::Replace;
        self
    }
}
