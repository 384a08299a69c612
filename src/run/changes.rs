//! Changing a run while it trains. Each change is on disk before it holds.

use super::disk::folder::Folder;
use super::disk::identity::rows_of;
use super::handle::Run;
use super::journal::{Change, Rows};
use super::segments::Segment;
use super::state::status::{State, Status};
use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table};
use crate::error::{Error, Result};
use crate::train::batches::Batches;
use crate::train::{Goal, OptimizerConfig, RunConfig, Schedule};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// The changes that were made to a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes(Vec<(u64, Change)>);

impl Changes {
    /// Each change, and the step that it holds from.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Change)> {
        self.0.iter().map(|(step, change)| (*step, change))
    }
}

impl Run {
    /// Sets the peak learning rate; the schedule goes on from it, and a cooldown ends. It holds from the
    /// next step that begins, also while the run trains.
    ///
    /// # Errors
    /// When it is not positive, or cannot be written down.
    pub fn set_lr(&self, lr: f64) -> Result<Status> {
        self.checked(|config| config.lr = lr)?;
        self.change(Change::Lr(lr))?;
        Ok(self.status())
    }

    /// Lets the learning rate fall to zero over the next steps; then the run is finished. The k-th of n
    /// steps has 1 − (k − 1)/n of the rate now: a run that is trained step by step needs no end that
    /// is known in advance (Hägele et al. 2024). [`resume`](Self::resume) does them.
    ///
    /// # Errors
    /// When no step is asked for, or it cannot be written down.
    pub fn cooldown(&self, steps: u64) -> Result<Status> {
        if steps == 0 {
            return Err(
                Error::input("a cooldown of 0 steps").help("give some, such as a fifth of those done")
            );
        }
        self.change(Change::Cooldown(steps))?;
        self.0.shared.update(|current| {
            current.goal = Goal { step: current.end(&self.0.config), ..Goal::default() };
            if current.state != State::Running {
                current.rest(&self.0.config);
            }
        });
        Ok(self.status())
    }

    /// Sets the schedule of the learning rate. A cooldown ends. Where the rate jumps to more than twice or less
    /// than half of what it was, the [notes](Status::notes) say so: a schedule whose warm-up has yet to begin
    /// rises slowly.
    ///
    /// # Errors
    /// When it cannot be used, or cannot be written down.
    pub fn set_schedule(&self, schedule: Schedule) -> Result<Status> {
        self.checked(|config| config.schedule = schedule.clone())?;
        self.change(Change::Schedule(schedule))?;
        let jump = {
            let current = self.0.shared.read();
            let next = current.begun + 1;
            let settings = current.journal.settings(&self.0.config, next);
            let (before, after) =
                (current.history.last().map(|step| step.lr), settings.lr * settings.factor(next));
            before
                .filter(|before| *before * 2.0 < after || after * 2.0 < *before)
                .map(|before| format!("the learning rate goes from {before:e} to {after:e} at step {next}"))
        };
        if let Some(jump) = jump {
            self.0.shared.note(jump);
        }
        Ok(self.status())
    }

    /// Sets how many evaluations in a row may be no better than the best before; `None` does not stop early.
    ///
    /// # Errors
    /// When it is 0, when no evaluations are made, or it cannot be written down.
    pub fn set_patience(&self, evaluations: Option<u64>) -> Result<Status> {
        let eval_every = self.settings().eval_every;
        self.checked(|config| (config.patience, config.eval_every) = (evaluations, eval_every))?;
        self.change(Change::Patience(evaluations))?;
        Ok(self.status())
    }

    /// Sets how many steps lie between two spectra of the adapters, which are kept with the history; 0 chooses by the
    /// rank, `None` keeps none.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn set_spectra_every(&self, steps: Option<u64>) -> Result<Status> {
        self.change(Change::SpectraEvery(steps))?;
        Ok(self.status())
    }

    /// Sets the rows of one step.
    ///
    /// # Errors
    /// When it is none, or cannot be written down.
    pub fn set_batch(&self, rows: usize) -> Result<Status> {
        self.checked(|config| config.batch = rows)?;
        self.change(Change::Batch(rows))?;
        Ok(self.status())
    }

    /// Sets the tokens that go through the model at a time: how a step is accumulated.
    ///
    /// # Errors
    /// When it is none, or cannot be written down.
    pub fn set_micro_batch(&self, tokens: usize) -> Result<Status> {
        self.checked(|config| config.micro_batch = tokens)?;
        self.change(Change::MicroBatch(tokens))?;
        Ok(self.status())
    }

    /// Sets the largest gradient norm; `None` does not clip.
    ///
    /// # Errors
    /// When it is not positive, or cannot be written down.
    pub fn set_clip(&self, norm: Option<f64>) -> Result<Status> {
        self.checked(|config| config.clip = norm)?;
        self.change(Change::Clip(norm))?;
        Ok(self.status())
    }

    /// Sets the optimiser's hyperparameters. Its moments stay.
    ///
    /// # Errors
    /// When they cannot be used, when it is another optimiser, or it cannot be written down.
    pub fn set_optimizer(&self, optimizer: OptimizerConfig) -> Result<Status> {
        self.settings().optimizer.goes_on_as(&optimizer)?;
        self.checked(|config| config.optimizer = optimizer.clone())?;
        self.change(Change::Optimizer(optimizer))?;
        Ok(self.status())
    }

    /// Sets the steps between two evaluations; `None` evaluates only when asked.
    ///
    /// # Errors
    /// When it is 0, or cannot be written down.
    pub fn set_eval_every(&self, steps: Option<u64>) -> Result<Status> {
        self.checked(|config| config.eval_every = steps)?;
        self.change(Change::EvalEvery(steps))?;
        Ok(self.status())
    }

    /// Goes on with other rows, from their beginning, in the context that the run has.
    ///
    /// # Errors
    /// When no row can be trained on, or it cannot be written down.
    pub fn set_data(&self, data: &Dataset) -> Result<Status> {
        let (rows, segment) = self.segment_of(data)?;
        self.change_data(rows, segment)?;
        Ok(self.status())
    }

    pub(crate) fn segment_of(&self, data: &Dataset) -> Result<(Rows, Arc<Segment>)> {
        let batches = Batches::new(data, &self.0.model, self.0.segments.preparing())?;
        Ok((rows_of(data, &batches)?, Arc::new(Segment { data: data.clone(), batches })))
    }

    pub(crate) fn change_data(&self, rows: Rows, segment: Arc<Segment>) -> Result<()> {
        let turn = self.0.shared.changing();
        // Changes after this one are dropped, and with them their data.
        let number = {
            let current = self.0.shared.read();
            1 + current.journal.until(current.begun).data().count()
        };
        self.0.segments.put(number, rows.clone(), segment);
        self.change_in_turn(&turn, Change::Data(Box::new(rows)))
            .inspect_err(|_| self.0.segments.truncate(number))?;
        // The findings are about the rows before.
        self.0.shared.update(|current| current.about_rows.clear());
        self.0.shared.told.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Stops training modules whose path ends in one of these names, or lies below one: `q_proj`,
    /// `model.layers.3`. They and their moments stay as they are.
    ///
    /// # Errors
    /// When a name fits none that is trained, nothing would be trained any longer, or it cannot be
    /// written down.
    pub fn freeze<S: AsRef<str>>(&self, names: &[S]) -> Result<Status> {
        let trained = self.modules();
        let turn = self.0.shared.changing();
        let mut frozen = self.settings().frozen;
        for name in names {
            frozen.extend(fitting(&trained, name.as_ref())?);
        }
        frozen.sort();
        frozen.dedup();
        if frozen.len() == trained.len() {
            return Err(Error::input("no module would be trained").help("leave some modules out"));
        }
        self.change_in_turn(&turn, Change::Frozen(frozen))?;
        drop(turn);
        Ok(self.status())
    }

    /// Trains modules again that were frozen.
    ///
    /// # Errors
    /// When a name fits none that is frozen, or it cannot be written down.
    pub fn unfreeze<S: AsRef<str>>(&self, names: &[S]) -> Result<Status> {
        let turn = self.0.shared.changing();
        let mut frozen = self.settings().frozen;
        for name in names {
            let fits = fitting(&frozen, name.as_ref())?;
            frozen.retain(|module| !fits.contains(module));
        }
        self.change_in_turn(&turn, Change::Frozen(frozen))?;
        drop(turn);
        Ok(self.status())
    }

    /// The paths of the trained modules.
    pub(crate) fn modules(&self) -> Vec<String> {
        let adapters = self.adapters();
        let pairs = adapters.iter().map(|(path, _)| path.to_string());
        pairs.chain(adapters.wholes().map(|(name, _)| name.to_string())).collect()
    }

    /// Answers these prompts every so many steps, at most 64 tokens each, while the run trains;
    /// [`answers`](Self::answers) shows them along the steps. No prompt ends it.
    ///
    /// # Errors
    /// When `every` is 0, or it cannot be written down.
    pub fn watch<S: AsRef<str>>(&self, prompts: &[S], every: u64) -> Result<Status> {
        if every == 0 {
            return Err(Error::input("answering every 0 steps").help("give at least 1"));
        }
        let prompts = prompts.iter().map(|prompt| prompt.as_ref().to_string()).collect();
        self.change(Change::Watch { prompts, every })?;
        Ok(self.status())
    }

    /// The changes that were made, and from which step on they hold.
    pub fn changes(&self) -> Changes {
        let current = self.0.shared.read();
        Changes(current.journal.entries().iter().map(|entry| (entry.at + 1, entry.change.clone())).collect())
    }

    /// The changes that hold where the run is now, as a note. Going back to a step keeps those that were made after
    /// it and before the next one.
    pub(crate) fn standing(&self) -> String {
        let current = self.0.shared.read();
        let step = current.place.step;
        let standing: Vec<String> = current
            .journal
            .standing()
            .iter()
            .map(|entry| format!("{} (from step {})", said(&entry.change), entry.at + 1))
            .collect();
        match standing.is_empty() {
            true => format!("back at step {step}; the settings are those that the run was made with"),
            false => format!("back at step {step}; changes that still hold: {}", standing.join("; ")),
        }
    }

    /// Makes a change and writes it down. It holds from the next step that begins.
    pub(crate) fn change(&self, change: Change) -> Result<()> {
        self.change_in_turn(&self.0.shared.changing(), change)
    }

    /// The same where the caller holds the turn.
    pub(crate) fn change_in_turn(&self, _turn: &MutexGuard<'_, ()>, change: Change) -> Result<()> {
        let journal = {
            let current = self.0.shared.read();
            if current.state == State::Closed {
                return Err(self.ended());
            }
            current.journal.with(current.begun, change)
        };
        Folder::write_journal(&self.0.folder, &journal)?;
        self.0.shared.update(|current| {
            current.journal = journal;
            current.recent += 1;
            if matches!(current.state, State::Finished | State::Idle | State::Paused) {
                current.rest(&self.0.config);
            }
        });
        Ok(())
    }

    /// Validates a value as a config does.
    fn checked(&self, set: impl FnOnce(&mut RunConfig)) -> Result<()> {
        let mut config = self.0.config.clone();
        set(&mut config);
        config.check()
    }
}

/// The modules that a name matches.
fn fitting(modules: &[String], name: &str) -> Result<Vec<String>> {
    let fits = |module: &&String| {
        let (inside, after) = (format!(".{module}."), format!(".{name}."));
        !name.is_empty() && inside.contains(&after)
    };
    let found: Vec<String> = modules.iter().filter(fits).cloned().collect();
    match found.is_empty() {
        true => {
            let some: Vec<&str> = modules.iter().take(3).map(String::as_str).collect();
            Err(Error::input(format!("no module is called {name:?}"))
                .help(format!("there are {}, …", some.join(", "))))
        }
        false => Ok(found),
    }
}

impl Show for Changes {
    fn show(&self) -> Bundle {
        let mut table = Table::new([("from step", Align::Right), ("change", Align::Left)]).caption(
            if self.0.len() == 1 { "1 change".to_string() } else { format!("{} changes", self.0.len()) },
        );
        for (step, change) in &self.0 {
            table.row([step.to_string(), said(change)]);
        }
        table.show()
    }
}

fn said(change: &Change) -> String {
    let number = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match change {
        Change::Lr(lr) => format!("the peak learning rate is {lr:e}"),
        Change::Cooldown(steps) => {
            format!(
                "the learning rate falls over {}, and the run is finished",
                number(*steps as usize, "step")
            )
        }
        Change::Schedule(schedule) => schedule.to_string(),
        Change::Batch(rows) => format!("a step has {}", number(*rows, "row")),
        Change::MicroBatch(tokens) => {
            format!("{} at a time go through the model", number(*tokens, "token"))
        }
        Change::Clip(Some(norm)) => format!("gradients are clipped to the norm {norm}"),
        Change::Clip(None) => "gradients are not clipped".to_string(),
        Change::Optimizer(optimizer) => optimizer.to_string(),
        Change::EvalEvery(Some(steps)) => {
            format!("the run is evaluated every {}", number(*steps as usize, "step"))
        }
        Change::EvalEvery(None) => "the run is evaluated on request".to_string(),
        Change::Patience(Some(evaluations)) => {
            let evaluations = number(*evaluations as usize, "evaluation");
            format!("the run stops after {evaluations} no better than the best before")
        }
        Change::Patience(None) => "the run does not stop early".to_string(),
        Change::SpectraEvery(Some(0)) => "singular values are kept as often as the rank allows".to_string(),
        Change::SpectraEvery(Some(steps)) => {
            format!("singular values are kept every {}", number(*steps as usize, "step"))
        }
        Change::SpectraEvery(None) => "singular values are not kept".to_string(),
        Change::Data(rows) => format!("the run goes on with the rows of {}", rows.data.path.display()),
        Change::Frozen(modules) if modules.is_empty() => "no module is frozen".to_string(),
        Change::Frozen(modules) => {
            let are = if modules.len() == 1 { "is" } else { "are" };
            format!("{} {are} frozen: {}", number(modules.len(), "module"), modules.join(", "))
        }
        Change::Watch { prompts, .. } if prompts.is_empty() => "no prompt is answered".to_string(),
        Change::Watch { prompts, every } => {
            let are = if prompts.len() == 1 { "is" } else { "are" };
            format!(
                "{} {are} answered every {}",
                number(prompts.len(), "prompt"),
                number(*every as usize, "step")
            )
        }
        Change::ByHand => "the step was made by hand".to_string(),
    }
}
