//! A step made part by part: batch, forward and backward, update.

use super::handle::Run;
use super::state::shared::Partial;
use super::state::status::State;
use super::worker::thread::Request;
use crate::dataset::Dataset;
use crate::display::{in_kernel, stop_requested};
use crate::error::{Error, Result};
use crate::train::batches::Batches;
use crate::train::step::{self, Accumulated, StepNumbers};
use crate::train::{Batch, StepReport};
use std::sync::mpsc::channel;

impl Run {
    /// The rows that the next step would train on.
    ///
    /// # Errors
    /// When the data cannot be read.
    pub fn next_batch(&self) -> Result<Batch> {
        let (settings, place) = {
            let current = self.0.shared.read();
            (current.journal.settings(&self.0.config, current.place.step + 1), current.place)
        };
        let position = place.position.in_segment(settings.segment);
        let segment = self.0.segments.get(settings.segment)?;
        segment.batches.at(position, settings.batch, settings.micro_batch, self.0.config.seed)
    }

    /// All rows of a dataset as one batch, in the run's context.
    ///
    /// # Errors
    /// When no row can be trained on.
    pub fn batch_of(&self, data: &Dataset) -> Result<Batch> {
        Batches::new(data, &self.0.model, self.0.segments.preparing())?.all()
    }

    /// Makes the forward and the backward pass of a batch. Gradients add up over several calls until
    /// [`optimizer_step`](Self::optimizer_step); [`gradients`](Self::gradients) shows them in between.
    /// With [`next_batch`](Self::next_batch) the two are the same as [`step`](Self::step), to the bit; with
    /// [`Reduction::OnDevices`](crate::train::Reduction::OnDevices) on several ranks but for the last bits.
    ///
    /// # Errors
    /// When the run is training, or as [`step::forward_backward`]; what was gathered before is
    /// forgotten in that case. The stop button of the notebook ends it with an interrupted error, and what was gathered
    /// before stays.
    pub fn forward_backward(&self, batch: &Batch) -> Result<StepNumbers> {
        let (partial, learned) = self.0.shared.update(|current| match current.state {
            State::Running => Err(Error::state("this run is training").help("run.pause()? first")),
            State::Closed => Err(self.ended()),
            _ => Ok((current.partial.take(), current.learned.clone())),
        })?;
        // Gradients are added in place: without a copy there is no way back for who presses stop.
        let before = match &partial {
            Some(partial) if in_kernel() => Some(partial.copied()?),
            _ => None,
        };
        let mut partial =
            partial.unwrap_or_else(|| Partial { accumulated: Accumulated::default(), batches: Vec::new() });
        let model = &self.0.config.decoder_of(&self.0.model);
        let go_on = || !stop_requested();
        let passed = step::forward_backward(model, &learned, batch, &mut partial.accumulated, &go_on);
        if passed.as_ref().is_err_and(Error::is_interrupted) {
            self.0.shared.update(|current| current.partial = before);
        }
        passed.map_err(|e| self.advised(e))?;
        partial.batches.push(batch.clone());
        let a = &partial.accumulated;
        let numbers = StepNumbers {
            loss: a.loss(),
            gradient_norm: a.gradients.norm()? / a.trained_tokens.max(1) as f64,
            tokens: a.tokens,
            trained_tokens: a.trained_tokens,
        };
        self.0.shared.update(|current| current.partial = Some(partial));
        Ok(numbers)
    }

    /// Applies the gradients that [`forward_backward`](Self::forward_backward) accumulated.
    ///
    /// # Errors
    /// When there are none, or as [`step`](Self::step).
    pub fn optimizer_step(&self) -> Result<StepReport> {
        let (answer, answered) = channel();
        self.send(Request::Update(answer))?;
        answered.recv().map_err(|_| self.ended())?
    }

    /// Forgets the gradients that wait for their update.
    pub fn clear_gradients(&self) {
        self.0.shared.update(|current| current.partial = None);
    }
}
