//! One step: on the run's next rows, or with a manually accumulated gradient.

use super::process::memory;
use super::thread::{GoOn, Worker};
use crate::error::{Error, Result};
use crate::run::disk::folder::Folder;
use crate::run::disk::snapshot::RunProgress;
use crate::run::journal::{Change, Settings};
use crate::run::state::diverged::Update;
use crate::run::state::shared::Held;
use crate::train::step::{self, Accumulated, is_frozen};
use crate::train::{Adaptation, Batch, StepReport, StepSpectra};
use std::sync::Arc;
use std::time::Instant;

impl Worker {
    /// Makes one optimiser step. Until it is complete, nothing of the run has changed.
    pub(super) fn one_step(&mut self, go_on: GoOn) -> Result<()> {
        let begun = Instant::now();
        let step = self.place.step + 1;
        let turn = self.shared.changing();
        let settings = self.shared.update(|current| {
            (current.begun, current.recent) = (step, 0);
            current.journal.settings(&self.config, step)
        });
        drop(turn);
        let segment = self.segments.get(settings.segment)?;
        let position = self.place.position.in_segment(settings.segment);
        let batch = segment.batches.at(position, settings.batch, settings.micro_batch, self.config.seed)?;
        let mut accumulated = Accumulated::default();
        self.passes(&batch, &mut accumulated, go_on).map_err(|e| self.advised(e, Update::None).step(step))?;
        self.complete(accumulated, batch, &settings, begun, go_on).map(drop)
    }

    /// Adds the advice on how to go on where numbers are not finite.
    fn advised(&self, error: Error, update: Update) -> Error {
        match error.is_not_finite() {
            true => error.help(self.shared.read().way_on(&self.config, update)),
            false => error,
        }
    }

    /// Makes the update and the evaluation, and logs the step.
    fn complete(
        &mut self,
        accumulated: Accumulated,
        batch: Batch,
        settings: &Settings,
        begun: Instant,
        go_on: GoOn,
    ) -> Result<StepReport> {
        let step = self.place.step + 1;
        let lr = settings.lr * settings.factor(step);
        let rows = accumulated.rows.clone();
        // Of all weights they would be as large as the model.
        let held = (self.config.adaptation == Adaptation::Lora).then(|| {
            Arc::new(Held { gradients: accumulated.gradients.clone(), tokens: accumulated.trained_tokens })
        });
        let frozen = |name: &str| is_frozen(&settings.frozen, name);
        let (learned, numbers) = step::update(
            self.model.decoder(),
            &self.learned,
            accumulated,
            lr,
            settings.clip,
            &settings.optimizer,
            &frozen,
        )
        .map_err(|e| self.advised(e, Update::None).step(step))?;
        let seconds = begun.elapsed().as_secs_f64();
        let due = settings.eval_every.is_some_and(|every| step.is_multiple_of(every));
        let eval_loss = match self.eval.clone() {
            Some(eval) if due => {
                // A step after which it is not finite is none: what was learned before it stays.
                let rows = self
                    .losses_on(&learned.adapters, &eval.all()?, go_on)
                    .map_err(|e| self.advised(e, Update::ThrownAway).step(step))?;
                Some(step::mean(&rows).0)
            }
            _ => None,
        };
        let position = batch.next.unwrap_or_else(|| self.place.position.in_segment(settings.segment));
        let count = self.segments.get(position.segment)?.batches.rows();
        let logged = self.config.adaptation == Adaptation::Lora
            && self
                .config
                .spectra_interval(settings.spectra_every)
                .is_some_and(|every| step.is_multiple_of(every));
        let spectra = logged
            .then(|| StepSpectra::of(&learned))
            .transpose()
            .map_err(|e| if e.is_compute() { Error::not_finite(e) } else { e })
            // They are of what was learned before as well: another rate alone gives them again.
            .map_err(|e| self.advised(e, Update::None).step(step))?;
        let report = StepReport {
            spectra,
            step,
            epoch: position.epoch as f64 + position.consumed as f64 / count as f64,
            loss: numbers.loss,
            gradient_norm: numbers.gradient_norm,
            lr,
            tokens: numbers.tokens,
            trained_tokens: numbers.trained_tokens,
            seconds,
            memory: memory(),
            eval_loss,
            segment: batch.segment,
            rows,
        };
        self.steps += 1;
        self.folder.append(&report)?;
        self.place = RunProgress { step, position, seconds: self.place.seconds + seconds, eval_loss };
        self.learned = learned;
        self.cache.push(&self.learned, &self.place);
        self.shared.update(|current| {
            current.place = self.place;
            current.learned = self.learned.clone();
            current.gradients = held;
            current.batch = Some(Arc::new(batch));
            current.history.push(report.clone());
        });
        Ok(report)
    }

    /// Applies a manually accumulated gradient. Where its rows are not the run's next ones, the step cannot be
    /// repeated, and a snapshot is taken.
    pub(super) fn by_hand(&mut self) -> Result<StepReport> {
        let shared = self.shared.clone();
        let _turn = shared.changing();
        let step = self.place.step + 1;
        let (partial, settings, journal) = self.shared.update(|current| {
            (current.partial.take(), current.journal.settings(&self.config, step), current.journal.clone())
        });
        let Some(partial) = partial else {
            return Err(
                Error::state("there is no gradient to apply").help("run.forward_backward(&batch)? first")
            );
        };
        let segment = self.segments.get(settings.segment)?;
        let position = self.place.position.in_segment(settings.segment);
        let expected =
            segment.batches.at(position, settings.batch, settings.micro_batch, self.config.seed)?;
        let ours = partial.batches == [expected.clone()];
        let next = if partial.batches.contains(&expected) { expected.next } else { None };
        let packs = partial.batches.iter().flat_map(|batch| batch.packs.clone()).collect();
        let rows = partial.batches.iter().flat_map(|batch| batch.rows.clone()).collect();
        let batch = Batch { packs, rows, segment: settings.segment, next };
        if !ours {
            let journal = journal.with(self.place.step, Change::ByHand);
            Folder::write_journal(self.folder.path(), &journal)?;
            self.shared.update(|current| current.journal = journal);
        }
        let report = match self.complete(partial.accumulated, batch, &settings, Instant::now(), &|| true) {
            Ok(report) => report,
            Err(error) => {
                // There is no such step: the entry would stand in the way of a rewind.
                self.shared.update(|current| current.journal = journal.clone());
                if !ours && let Err(unwritten) = Folder::write_journal(self.folder.path(), &journal) {
                    self.shared.note(format!("changes were not written down: {unwritten}"));
                }
                return Err(error);
            }
        };
        if !ours {
            self.save()?;
        }
        Ok(report)
    }
}
