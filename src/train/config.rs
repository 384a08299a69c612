//! The settings of a run.

use super::devices::{Devices, Placement, Reduction};
use super::optimizer::OptimizerConfig;
use super::schedule::{ReachesZero, Schedule};
use crate::dataset::Dataset;
use crate::display::advice;
use crate::error::{Error, Result};
use crate::files::Existing;
use crate::format::OnFault;
use crate::lora::LoraConfig;
use crate::model::{Decoder, Model, Recompute};
use crate::ops::Precision;
use crate::text::{PromptAnswers, SpecialTokens, Trained, Training};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Tokens of a micro-batch, unless a single row is longer: enough to spread the cost of expanding the
/// weights, which each micro-batch pays once, few enough to keep its activations below a gigabyte in
/// a small model.
pub(crate) const MICRO_BATCH: usize = 1024;

/// Which snapshots of a run are taken and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshots {
    /// Seconds of training between two of them; there is one on every pause and at the end.
    pub every_seconds: f64,
    /// How many of the latest stay on disk.
    pub keep: usize,
    /// Those of every so many steps stay, too, if a step has one. The best by evaluation always does.
    pub keep_every: Option<u64>,
    /// Bytes of memory for the states of earlier steps, to which [`Run::rewind`](crate::run::Run::rewind)
    /// goes back at once.
    pub memory: u64,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { every_seconds: 60.0, keep: 3, keep_every: None, memory: 128 << 20 }
    }
}

/// What a run trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adaptation {
    /// Adapters beside frozen weights.
    #[default]
    Lora,
    /// All weights, in f32: the baseline that LoRA is compared with.
    Full,
}

/// The settings of a run, with defaults that suit a first try.
///
/// # Examples
/// ```
/// use lorascope::train::RunConfig;
///
/// let config = RunConfig::default().rank(8).lr(1e-4);
/// assert_eq!((config.lora.rank, config.lora.alpha), (8, 16.0)); // alpha stays twice the rank
/// assert_eq!(config.check().unwrap(), ());
/// assert!(RunConfig::default().rank(0).check().is_err());
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// What is trained.
    pub adaptation: Adaptation,
    /// Rank, alpha and target modules.
    pub lora: LoraConfig,
    /// Peak learning rate.
    pub lr: f64,
    /// The schedule of the learning rate.
    pub schedule: Schedule,
    /// Rows of one optimiser step.
    pub batch: usize,
    /// Tokens of a micro-batch, unless a single row is longer: a step goes through the model in so many
    /// tokens at a time, and sums the gradients. More are faster, and take more memory.
    pub micro_batch: usize,
    /// Tokens of a row at most; `None` takes the model's context, at most 2,048. Longer rows are left out
    /// and reported, never cut.
    pub context: Option<usize>,
    /// Which tokens of a conversation are trained on. Plain texts are trained on whole.
    pub trained: Trained,
    /// Whether the answers inside a preference's prompt are trained on, too.
    pub prompt_answers: PromptAnswers,
    /// Whether the names of special tokens in a plain text are these tokens.
    pub special_tokens: SpecialTokens,
    /// What to do with a record that is no row (where the run opens the file itself) and with a row that
    /// the chat template refuses: leave it out and say so, or fail at the first. Rows of a dataset that was
    /// opened with [`OnFault::Fail`] fail in any case.
    pub faults: OnFault,
    /// The optimiser's hyperparameters.
    pub optimizer: OptimizerConfig,
    /// The largest gradient norm; `None` does not clip.
    pub clip: Option<f64>,
    /// What the backward pass computes again instead of keeping it: less memory, more time, the same
    /// numbers to the bit.
    pub recompute: Recompute,
    /// The type of the matrix products: bf16 on a GPU takes half of the time and memory of f32 or less. It belongs to
    /// the run for good.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The devices to train on. The numbers of a run do not depend on how many there are: it goes on with others.
    #[serde(skip_serializing_if = "Devices::is_model")]
    pub devices: Devices,
    /// How the model lies on them.
    #[serde(skip_serializing_if = "Placement::is_replicate")]
    pub placement: Placement,
    /// Where the gradients of the micro-batches are added. It belongs to the run: [`Reduction::OnDevices`] is faster
    /// between many devices, and gives other last bits for another number of them.
    #[serde(skip_serializing_if = "Reduction::is_ordered")]
    pub reduction: Reduction,
    /// The seed of the adapters' first values and of the order of the rows.
    pub seed: u64,
    /// Steps between two evaluations while training; `None` evaluates only when asked.
    pub eval_every: Option<u64>,
    /// Evaluations in a row that may be no better than the best before: then the run is finished, and
    /// the best snapshot is kept. `None` does not stop early.
    pub patience: Option<u64>,
    /// Pauses after a step whose loss is more than this many times the median of the twenty before.
    pub spike: Option<f64>,
    /// Steps between two spectra of the adapters, which are kept with the history; 0, the default, is every step up
    /// to rank 32 and every ⌈(r/32)²⌉ steps above, where a spectrum takes longer; `None` keeps none, which a file
    /// writes as `spectra_every = false`.
    #[serde(with = "super::or_false")]
    pub spectra_every: Option<u64>,
    /// What is kept of earlier steps.
    pub snapshots: Snapshots,
    /// The folder of adapters that training begins with: a warm start, in which nothing of another
    /// run is kept but its adapters.
    pub init_from: Option<PathBuf>,
    /// The step at which a rate that falls to 0 reaches it; it differs in runs of earlier versions.
    #[serde(skip)]
    pub reaches_zero: ReachesZero,
    /// Rows to evaluate on; the first 200 of them are used.
    #[serde(skip)]
    pub eval: Option<Dataset>,
    /// What to do when a run of the same name exists: refuse, or replace it once the new run is ready, as
    /// [`overwrite`](Self::overwrite) says.
    #[serde(skip)]
    pub existing: Existing,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            lora: LoraConfig::default(),
            lr: 2e-4,
            schedule: Schedule::default(),
            batch: 16,
            micro_batch: MICRO_BATCH,
            patience: None,
            spike: None,
            spectra_every: Some(0),
            snapshots: Snapshots::default(),
            init_from: None,
            context: None,
            trained: Trained::default(),
            prompt_answers: PromptAnswers::default(),
            special_tokens: SpecialTokens::default(),
            faults: OnFault::default(),
            optimizer: OptimizerConfig::default(),
            adaptation: Adaptation::Lora,
            clip: Some(1.0),
            recompute: Recompute::Nothing,
            precision: Precision::F32,
            devices: Devices::default(),
            placement: Placement::default(),
            reduction: Reduction::default(),
            seed: 42,
            eval_every: None,
            reaches_zero: ReachesZero::AfterLastStep,
            eval: None,
            existing: Existing::Refuse,
        }
    }
}

impl RunConfig {
    /// Steps between two spectra.
    pub(crate) fn spectra_interval(&self, every: Option<u64>) -> Option<u64> {
        let rank = self.lora.rank.max(1) as u64;
        every.map(|every| if every == 0 { (rank * rank).div_ceil(32 * 32) } else { every })
    }

    /// The model's decoder with what this config says of precision and recomputing; the weights are shared.
    pub(crate) fn decoder_of(&self, model: &Model) -> Decoder {
        model.decoder().with_precision(self.precision).with_recompute(self.recompute)
    }

    /// The model as runs of this config compute with it, for what they generate; the weights are shared.
    pub(crate) fn model_of(&self, model: &Model) -> Model {
        match self.precision.is_f32() {
            true => model.clone(),
            false => model.placed(self.decoder_of(model)),
        }
    }

    /// Which tokens of each kind of row are trained on.
    pub fn training(&self) -> Training {
        let Self { trained, prompt_answers, special_tokens, .. } = *self;
        Training { trained, prompt_answers, special_tokens }
    }

    /// Validates the values.
    ///
    /// # Errors
    /// When a value makes no sense; the error names it.
    pub fn check(&self) -> Result<()> {
        self.lora.check()?;
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return Err(Error::input(format!("the learning rate is {}", self.lr))
                .help("give a positive number such as 2e-4"));
        }
        if self.batch == 0 {
            return Err(Error::input("a batch of 0 rows").help("give at least 1"));
        }
        if self.context.is_some_and(|context| context < 2) {
            return Err(Error::input("a context below 2 tokens leaves nothing to learn"));
        }
        if self.clip.is_some_and(|clip| !(clip.is_finite() && clip > 0.0)) {
            return Err(Error::input("the largest gradient norm must be positive").help("None does not clip"));
        }
        self.schedule.check()?;
        if self.placement.stages() == 0 {
            return Err(Error::input("a model split over 0 devices").help("split it over at least 2"));
        }
        if self.micro_batch == 0 {
            return Err(Error::input("a micro-batch of 0 tokens").help("give some hundreds"));
        }
        if self.patience == Some(0) {
            return Err(Error::input("a patience of 0 evaluations").help("give at least 1, or None"));
        }
        if self.patience.is_some() && self.eval_every.is_none() {
            return Err(Error::input("stopping early needs evaluations").help(advice(
                "RunConfig::default().eval(&test).eval_every(20).patience(3)",
                "say eval_every = 20 beside patience = 3",
            )));
        }
        if self.spike.is_some_and(|factor| !(factor > 1.0 && factor.is_finite())) {
            return Err(
                Error::input("a spike is a loss above the usual").help("give a factor above 1, such as 2")
            );
        }
        let Snapshots { every_seconds, keep, keep_every, .. } = self.snapshots;
        if !(every_seconds >= 0.0 && every_seconds.is_finite()) || keep == 0 || keep_every == Some(0) {
            return Err(Error::input(format!("{:?}", self.snapshots)).help(
                "keep at least 1, every so many seconds, 0 or more, and every so many steps, 1 or more",
            ));
        }
        if self.eval_every == Some(0) {
            return Err(Error::input("evaluating every 0 steps").help("give at least 1, or None"));
        }
        self.optimizer.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spectra_are_said_in_files() {
        for every in [None, Some(0), Some(5)] {
            let config = RunConfig::default().spectra_every(every);
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<RunConfig>(&text).unwrap().spectra_every, every, "{text}");
        }
        let read = |text: &str| serde_json::from_str::<RunConfig>(text).map(|config| config.spectra_every);
        // Earlier versions wrote null.
        assert_eq!(read(r#"{"spectra_every": null}"#).unwrap(), None);
        assert_eq!(read("{}").unwrap(), Some(0));
        assert!(read(r#"{"spectra_every": true}"#).is_err());
    }

    #[test]
    fn spectra_of_a_high_rank_are_looked_at_less_often() {
        let every = |rank: usize, every| RunConfig::default().rank(rank).spectra_interval(every);
        assert_eq!([1, 8, 32, 33, 64, 256].map(|rank| every(rank, Some(0))), [1, 1, 1, 2, 4, 64].map(Some));
        assert_eq!(every(256, RunConfig::default().spectra_every(1).spectra_every), Some(1));
        assert_eq!(every(8, RunConfig::default().spectra_every(None).spectra_every), None);
    }
}
