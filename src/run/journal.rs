//! The changes made while a run trained. A run is a function of its config, its seed and its journal.

use crate::dataset::Recipe;
use crate::train::{Filling, OptimizerConfig, ReachesZero, RunConfig, Schedule};
use serde::{Deserialize, Serialize};

/// A change of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Peak learning rate. It ends a cooldown.
    Lr(f64),
    /// The learning rate falls to zero over this many steps, and the run is finished.
    Cooldown(u64),
    /// The schedule of the learning rate. It ends a cooldown.
    Schedule(Schedule),
    /// Rows of one step.
    Batch(usize),
    /// Tokens of a micro-batch.
    MicroBatch(usize),
    /// The largest gradient norm.
    Clip(Option<f64>),
    /// The optimiser's hyperparameters.
    Optimizer(OptimizerConfig),
    /// Steps between two evaluations.
    EvalEvery(Option<u64>),
    /// Evaluations that may be no better than the best before; `None` does not stop early.
    Patience(Option<u64>),
    /// Steps between two spectra of the adapters; 0 chooses by the rank, `None` keeps none.
    SpectraEvery(Option<u64>),
    /// Training goes on with other rows, from their beginning.
    Data(Box<Rows>),
    /// The modules that are not trained from now on, all of them.
    Frozen(Vec<String>),
    /// Prompts that are answered every so many steps; an empty list ends it.
    Watch {
        /// What is asked.
        prompts: Vec<String>,
        /// Steps between two answers.
        every: u64,
    },
    /// The step after this one was made manually, from rows that are not the run's.
    ByHand,
}

/// The source of rows that a run trains on, by which they are found again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Where they come from.
    pub data: Recipe,
    /// The most tokens of a row.
    pub context: usize,
    /// The fingerprint of all tokens.
    pub tokens: String,
    /// How full their micro-batches get.
    #[serde(default)]
    pub filling: Filling,
}

/// A change and when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Steps done, or begun, when it was made: it holds from the next one on.
    pub at: u64,
    /// What was changed.
    pub change: Change,
}

/// All changes, in the order in which they hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Journal(Vec<Entry>);

impl Journal {
    /// The changes.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Adds a change. Changes that were made later, in steps that were lost, are dropped.
    #[must_use]
    pub fn with(&self, at: u64, change: Change) -> Self {
        let mut journal = self.until(at);
        journal.0.push(Entry { at, change });
        journal
    }

    /// Moves the last `count` changes to another step.
    #[must_use]
    pub fn redated(&self, count: usize, at: u64) -> Self {
        let mut journal = self.clone();
        let from = journal.0.len().saturating_sub(count);
        journal.0[from..].iter_mut().for_each(|entry| entry.at = at);
        journal
    }

    /// The changes made up to a step, without that of a manual step after it.
    #[must_use]
    pub fn until(&self, step: u64) -> Self {
        let made = |entry: &&Entry| entry.at < step || (entry.at == step && entry.change != Change::ByHand);
        Self(self.0.iter().filter(made).cloned().collect())
    }

    /// The changes that hold, in order: the last of each kind.
    pub fn standing(&self) -> Vec<&Entry> {
        let ends_cooldown = |change: &Change| matches!(change, Change::Lr(_) | Change::Schedule(_));
        let undone = |change: &Change, later: &Change| {
            std::mem::discriminant(change) == std::mem::discriminant(later)
                || (matches!(change, Change::Cooldown(_)) && ends_cooldown(later))
        };
        let says_nothing = |change: &Change| match change {
            Change::ByHand => true,
            Change::Frozen(modules) => modules.is_empty(),
            Change::Watch { prompts, .. } => prompts.is_empty(),
            _ => false,
        };
        let stands = |(i, entry): &(usize, &Entry)| {
            !self.0[i + 1..].iter().any(|later| undone(&entry.change, &later.change))
                && !says_nothing(&entry.change)
        };
        self.0.iter().enumerate().filter(stands).map(|(_, entry)| entry).collect()
    }

    /// The first manual step after `from`, up to `to`.
    pub fn by_hand(&self, from: u64, to: u64) -> Option<u64> {
        let by_hand = self.0.iter().filter(|entry| entry.change == Change::ByHand);
        by_hand.map(|entry| entry.at + 1).find(|step| (from + 1..=to).contains(step))
    }

    /// The data that were changed to, in order: segment 1 and later ones.
    pub fn data(&self) -> impl Iterator<Item = &Rows> {
        self.0.iter().filter_map(|entry| match &entry.change {
            Change::Data(rows) => Some(&**rows),
            _ => None,
        })
    }

    /// What holds for a step, counted from 1.
    pub fn settings(&self, config: &RunConfig, step: u64) -> Settings {
        let mut s = Settings {
            lr: config.lr,
            schedule: config.schedule.clone(),
            cooldown: None,
            reaches_zero: config.reaches_zero,
            batch: config.batch,
            micro_batch: config.micro_batch,
            clip: config.clip,
            optimizer: config.optimizer.clone(),
            eval_every: config.eval_every,
            patience: config.patience,
            spectra_every: config.spectra_every,
            segment: 0,
            frozen: Vec::new(),
            watch: None,
        };
        for Entry { at, change } in self.0.iter().filter(|entry| entry.at < step) {
            match change {
                Change::Lr(lr) => (s.lr, s.cooldown) = (*lr, None),
                Change::Schedule(schedule) => (s.schedule, s.cooldown) = (schedule.clone(), None),
                Change::Cooldown(steps) => {
                    let from = s.factor(*at);
                    s.cooldown = Some(Cooldown { at: *at, steps: *steps, from });
                }
                Change::Batch(rows) => s.batch = *rows,
                Change::MicroBatch(tokens) => s.micro_batch = *tokens,
                Change::Clip(clip) => s.clip = *clip,
                Change::Optimizer(optimizer) => s.optimizer = optimizer.clone(),
                Change::EvalEvery(every) => s.eval_every = *every,
                Change::Patience(patience) => s.patience = *patience,
                Change::SpectraEvery(every) => s.spectra_every = *every,
                Change::Data(_) => s.segment += 1,
                Change::Frozen(modules) => s.frozen = modules.clone(),
                Change::Watch { prompts, every } => {
                    s.watch = (!prompts.is_empty()).then(|| (prompts.clone(), *every));
                }
                Change::ByHand => {}
            }
        }
        s
    }
}

/// What holds for a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Peak learning rate.
    pub lr: f64,
    /// Its schedule.
    pub schedule: Schedule,
    /// The step at which a rate that falls to 0 reaches it.
    pub reaches_zero: ReachesZero,
    /// The cooldown, where one was asked for.
    pub cooldown: Option<Cooldown>,
    /// Rows of one step.
    pub batch: usize,
    /// Tokens of a micro-batch.
    pub micro_batch: usize,
    /// The largest gradient norm.
    pub clip: Option<f64>,
    /// The optimiser's hyperparameters.
    pub optimizer: OptimizerConfig,
    /// Steps between two evaluations.
    pub eval_every: Option<u64>,
    /// Evaluations that may be no better than the best before.
    pub patience: Option<u64>,
    /// Steps between two spectra of the adapters; 0 chooses by the rank.
    pub spectra_every: Option<u64>,
    /// Which of the data that the run had so far, from 0.
    pub segment: usize,
    /// Modules that are not trained.
    pub frozen: Vec<String>,
    /// Prompts that are answered, and every how many steps.
    pub watch: Option<(Vec<String>, u64)>,
}

/// The learning rate falls to zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cooldown {
    /// Steps done when it was asked for.
    pub at: u64,
    /// How many steps it takes.
    pub steps: u64,
    /// The factor before it.
    pub from: f64,
}

impl Settings {
    /// The factor on the peak learning rate at a step, counted from 1. The k-th of n steps of a cooldown has
    /// f·(1 − (k − 1)/n): from f, the factor of the step before it, down to f/n.
    pub fn factor(&self, step: u64) -> f64 {
        match self.cooldown {
            Some(Cooldown { at, steps, from }) if step > at => {
                let along = (step - at - 1) as f64 / steps as f64;
                from * (1.0 - along).max(0.0)
            }
            _ => self.schedule.factor_as(step, self.reaches_zero),
        }
    }

    /// The step after which the run is finished, if it has an end of its own.
    pub fn end(&self) -> Option<u64> {
        self.cooldown.map(|cooldown| cooldown.at + cooldown.steps).or_else(|| self.schedule.end())
    }
}
