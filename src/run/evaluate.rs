//! The loss of a run on held-out rows.

use super::handle::Run;
use super::state::diverged::Update;
use crate::dataset::Dataset;
use crate::display::stop_requested;
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::train::batches::Batches;
use crate::train::{Evaluation, StepReport, step};

impl Run {
    /// The loss on the rows given to [`RunConfig::eval`](crate::train::RunConfig::eval), with the adapters as they are now.
    ///
    /// # Errors
    /// When the run has no such rows.
    pub fn evaluate(&self) -> Result<Evaluation> {
        let Some(eval) = &self.0.eval else {
            return Err(Error::state("this run has no rows for evaluation")
                .help("give some when it is made: RunConfig::default().eval(&test)"));
        };
        // One look: the next step may be done in between two.
        let (step, last, adapters) = {
            let current = self.0.shared.read();
            (current.place.step, current.history.last().cloned(), current.learned.adapters.clone())
        };
        let evaluation = self.loss_on(eval, &adapters, step).map_err(|e| self.advised(e))?;
        self.0.shared.evaluate(step, last, evaluation.loss);
        Ok(evaluation)
    }

    /// Adds the advice on how to go on where what the run has learned gives numbers that are not finite.
    pub(crate) fn advised(&self, error: Error) -> Error {
        match error.is_not_finite() {
            true => error.help(self.0.shared.read().way_on(&self.0.config, Update::None)),
            false => error,
        }
    }

    fn loss_on(&self, rows: &Batches, adapters: &Adapters, step: u64) -> Result<Evaluation> {
        let losses =
            step::evaluate(&self.0.config.decoder_of(&self.0.model), adapters, &rows.all()?, &|| {
                !stop_requested()
            })
            .map_err(|e| e.step(step))?;
        let (loss, tokens) = step::mean(&losses);
        Ok(Evaluation { step, loss, rows: rows.rows(), tokens, left_out: rows.counts() })
    }

    /// The loss of other adapters of this run's model on held-out rows, the first 200 of them: truncated
    /// ones, those of another run, or none at all (`Adapters::default()`).
    ///
    /// # Errors
    /// When the adapters do not fit the model, or no row does.
    pub fn evaluate_with(&self, adapters: &Adapters, test: &Dataset) -> Result<Evaluation> {
        self.0.model.decoder().check(adapters)?;
        let step = self.0.shared.read().place.step;
        self.loss_on(&self.held_out(test)?, adapters, step)
    }

    /// The loss on these rows, the first 200 of them, with the adapters as they are now.
    ///
    /// # Errors
    /// When no row fits.
    pub fn evaluate_on(&self, test: &Dataset) -> Result<Evaluation> {
        // One look: the next step may be done in between two.
        let (step, adapters) = {
            let current = self.0.shared.read();
            (current.place.step, current.learned.adapters.clone())
        };
        self.loss_on(&self.held_out(test)?, &adapters, step).map_err(|e| self.advised(e))
    }

    /// The step with the best evaluation so far, the first of equal ones; its snapshot stays on disk.
    pub fn best(&self) -> Option<StepReport> {
        let current = self.0.shared.read();
        let (best, _) = current.best()?;
        current.history.iter().find(|step| step.step == best).cloned()
    }

    /// Rows to evaluate on, no longer than those that the run trains on.
    pub(crate) fn held_out(&self, test: &Dataset) -> Result<Batches> {
        let segment = self.0.segments.get(self.settings().segment).ok();
        let trained = segment.as_ref().map(|segment| &segment.data);
        Batches::for_evaluation(test, trained, &self.0.model, self.0.segments.preparing())
    }
}
