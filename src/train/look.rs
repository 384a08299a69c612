//! Looking inside a run, also while it trains.

use super::batches::Batches;
use super::diverged::Update;
use super::evaluation::Evaluation;
use super::history::{History, StepReport};
use super::inspect::{Gradient, GradientTable, Inspection};
use super::left_out::{RowsLeftOut, lists_not_read};
use super::run::Run;
use super::shared::Answer;
use super::step;
use crate::dataset::{Chat, Dataset};
use crate::display::{Align, Bundle, Dashboard, Show, Table, Text, brief, dashboard};
use crate::error::{Error, Result};
use crate::lora::{Activations, Adapters, Truncation};
use crate::model::{Comparison, GenerateConfig};
use crate::plot::Figure;
use crate::spectrum::{Spectra, ends_in};
use crate::text::Message;
use std::path::Path;

impl Run {
    /// All steps so far.
    pub fn history(&self) -> History {
        let footer = self.footer(); // it looks at what is shared, too
        let history = self.0.shared.read().history.clone();
        let evaluated = self.0.shared.evaluated(&history);
        History::new(history, footer).with_evaluations(evaluated)
    }

    /// The adapters as they are after the latest step. They are a copy: training goes on beside it.
    pub fn adapters(&self) -> Adapters {
        self.0.shared.read().learned.adapters.clone()
    }

    /// What the model answers with the adapters as they are now, taking the most likely tokens.
    ///
    /// # Errors
    /// As [`Model::chat`](crate::model::Model::chat).
    pub fn sample(&self, question: &str) -> Result<Text> {
        self.chat(&[Message::user(question)], &GenerateConfig::default())
    }

    /// What the model with the adapters answers to a conversation.
    ///
    /// # Errors
    /// As [`Model::chat`](crate::model::Model::chat).
    pub fn chat(&self, messages: &[Message], config: &GenerateConfig) -> Result<Text> {
        self.0.model.chat_with(&self.adapters(), messages, config)
    }

    /// The loss on the rows given to [`RunConfig::eval`](super::RunConfig::eval), with the adapters as they are now.
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
            let public = self.0.shared.read();
            (public.place.step, public.history.last().cloned(), public.learned.adapters.clone())
        };
        let evaluation = self.loss_on(eval, &adapters, step).map_err(|e| self.advised(e))?;
        self.0.shared.evaluate(step, last, evaluation.loss);
        Ok(evaluation)
    }

    /// Says the way on where numbers of what the run has learned are not finite.
    pub(super) fn advised(&self, error: Error) -> Error {
        match error.is_not_finite() {
            true => error.help(self.0.shared.read().way_on(&self.0.config, Update::None)),
            false => error,
        }
    }

    fn loss_on(&self, rows: &Batches, adapters: &Adapters, step: u64) -> Result<Evaluation> {
        let losses = step::evaluate(self.0.model.decoder(), adapters, &rows.all()?, &|| true)
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
            let public = self.0.shared.read();
            (public.place.step, public.learned.adapters.clone())
        };
        self.loss_on(&self.held_out(test)?, &adapters, step).map_err(|e| self.advised(e))
    }

    /// The step with the best evaluation so far, the first of equal ones; its snapshot stays on disk.
    pub fn best(&self) -> Option<StepReport> {
        let public = self.0.shared.read();
        let (best, _) = public.best()?;
        public.history.iter().find(|step| step.step == best).cloned()
    }

    /// The singular values of every adapter's B·A as they are now, and beside them those of B·C^½ with
    /// C = E[(A x)(A x)ᵀ] over the latest steps ([`Activations`](crate::lora::Activations)).
    ///
    /// # Errors
    /// When an adapter holds a value that is not finite.
    pub fn spectra(&self) -> Result<Spectra> {
        let learned = self.0.shared.read().learned.clone();
        learned.adapters.spectra_weighted(learned.activations.by_path())
    }

    /// The adapters as they are now, cut to a smaller rank with the least error in the layers' outputs on
    /// this run's data ([`truncate_weighted`](crate::lora::Adapters::truncate_weighted)), as
    /// [`rank_curve`](Self::rank_curve) cuts them; in ΔW where no step was made yet.
    ///
    /// # Errors
    /// As of [`truncate`](crate::lora::Adapters::truncate).
    pub fn truncate(&self, cut: &Truncation) -> Result<Adapters> {
        let learned = self.0.shared.read().learned.clone();
        learned.adapters.truncate_weighted(cut, learned.activations.by_path())
    }

    /// C = E[(A x)(A x)ᵀ] of each layer, which spectra and cuts are weighted by.
    pub fn activations(&self) -> Activations {
        self.0.shared.read().learned.activations.clone()
    }

    /// Loss, spectra of B·A and of B·C^½, effective ranks and the ranks that keep 95 % of the energy, in one
    /// block.
    ///
    /// # Errors
    /// As [`spectra`](Self::spectra).
    pub fn dashboard(&self) -> Result<Dashboard> {
        let (spectra, history) = (self.spectra()?, self.history());
        let mut parts: Vec<Box<dyn Show>> = Vec::new();
        let mut put = |figure: Result<Figure>| {
            // Before the first step there is no loss, and all singular values are zero.
            parts.push(match figure {
                Ok(figure) => Box::new(figure),
                Err(error) => Box::new(Text::new(error.to_string())),
            });
        };
        put(history.plot());
        put(self.spectra_history().and_then(|history| history.plot()));
        put(spectra.plot());
        if let Some(weighted) = spectra.weighted() {
            put(weighted.plot());
        }
        put(spectra.heat_map());
        parts.push(Box::new(spectra.advise(0.95)?.table()));
        let parts: Vec<&dyn Show> = parts.iter().map(Box::as_ref).collect();
        Ok(dashboard(self.footer(), &parts))
    }

    /// Saves the adapters in a folder that PEFT loads; it appears whole or not at all.
    ///
    /// # Errors
    /// When the folder exists, or cannot be written.
    pub fn save_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().save(folder, &self.0.model.name())?;
        Ok(Text::new(format!("adapter saved in {}", path.display())))
    }

    /// Like [`save_adapter`](Self::save_adapter), but replaces a folder that exists.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn overwrite_adapter(&self, folder: impl AsRef<Path>) -> Result<Text> {
        let path = self.adapters().overwrite(folder, &self.0.model.name())?;
        Ok(Text::new(format!("adapter saved in {}", path.display())))
    }

    /// What the model answers to each question without and with the adapters as they are now.
    ///
    /// # Errors
    /// As [`Model::compare`](crate::model::Model::compare).
    pub fn compare<S: AsRef<str>>(&self, questions: &[S]) -> Result<Comparison> {
        self.0.model.compare(&self.adapters(), questions, &GenerateConfig::default())
    }

    /// The answers to the prompts that are [watched](Self::watch), along the steps.
    pub fn answers(&self) -> Answers {
        Answers(self.0.shared.read().answers.clone())
    }

    /// The rows of the latest step as the model saw them, the trained tokens shaded.
    ///
    /// # Errors
    /// When no step was done since the run was opened or rewound.
    pub fn batch(&self) -> Result<Seen> {
        let batch = self.0.shared.read().batch.clone();
        let Some(batch) = batch else {
            return Err(
                Error::state("no step was done yet since the run was opened").help("run.step()? does one")
            );
        };
        let segment = self.0.segments.get(batch.segment)?;
        let data = segment.data.for_training(self.0.model.tokenizer(), &self.0.config.training());
        Ok(Seen(batch.rows.iter().map(|row| data.row(*row as usize)).collect::<Result<_>>()?))
    }

    /// The rows that are left out, of those to train on and to evaluate on: file, line and why.
    ///
    /// # Errors
    /// When the data can no longer be read.
    pub fn left_out(&self) -> Result<RowsLeftOut> {
        let mut all = RowsLeftOut::default();
        let segment = self.0.segments.get(self.settings().segment)?;
        all.lists = lists_not_read(&segment.data, self.0.config.eval.as_ref())?;
        segment.batches.add_left_out(&segment.data, &mut all)?;
        if let (Some(batches), Some(data)) = (&self.0.eval, &self.0.config.eval) {
            batches.add_left_out(data, &mut all)?;
        }
        Ok(all)
    }

    /// The gradients of the latest step, or those that wait for their update, by module: their norms,
    /// and which are zero or not finite.
    ///
    /// # Errors
    /// When there are none: no step was done since the run was opened, or all weights are trained and
    /// their gradients were not kept.
    pub fn gradients(&self) -> Result<GradientTable> {
        let mut names: Vec<String> = self.adapters().tensors().map(|(name, _)| name).collect();
        // As the forward pass meets them: block 2 before block 10.
        let targets = self.0.model.decoder().targets();
        let place = |name: &str| {
            let inside = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
            targets.iter().position(|target| inside(&target.path)).unwrap_or(targets.len())
        };
        names.sort_by_cached_key(|name| (place(name), name.clone()));
        let public = self.0.shared.read();
        let (gradients, tokens) = match (&public.partial, &public.gradients) {
            (Some(partial), _) => (&partial.accumulated.gradients, partial.accumulated.trained_tokens),
            (None, Some(held)) => (&held.gradients, held.tokens),
            (None, None) => {
                return Err(Error::state("there are no gradients now")
                    .help("run.step()? or run.forward_backward(&batch)? makes some; those of all weights are kept by the latter only"));
            }
        };
        let rows = names.iter().map(|name| Gradient::of(name, gradients.get(name), tokens));
        Ok(GradientTable(rows.collect::<Result<_>>()?))
    }

    /// One module from inside: A, B and what else is trained in it, with their gradients and the
    /// optimiser's moments as norms and histograms. `name` is its path or the end of it:
    /// `layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// When the name fits none or several of the trained modules.
    pub fn inspect(&self, name: &str) -> Result<Inspection> {
        let modules = self.modules();
        let fits = |module: &&String| ends_in(module, name);
        let found: Vec<&String> = modules.iter().filter(fits).collect();
        let [module] = found.as_slice() else {
            let near: Vec<&str> = match found.is_empty() {
                true => modules.iter().take(3).map(String::as_str).collect(),
                false => found.iter().take(3).map(|module| module.as_str()).collect(),
            };
            let what = if found.is_empty() { "no trained module" } else { "more than one trained module" };
            return Err(Error::input(format!("{what} is called {name:?}"))
                .help(format!("say one of {}, …", near.join(", "))));
        };
        let (learned, held) = {
            let public = self.0.shared.read();
            (public.learned.clone(), public.gradients.clone())
        };
        Inspection::of(module, &learned, held.as_deref())
    }
}

/// Answers to watched prompts along the steps; shows as a timeline.
#[derive(Clone, PartialEq, Eq)]
pub struct Answers(pub Vec<Answer>);

brief!(Answers);

impl Show for Answers {
    fn show(&self) -> Bundle {
        if self.0.is_empty() {
            return Text::new("no answers yet: run.watch(&[\"a question\"], 20)? has them made").show();
        }
        let mut table =
            Table::new([("step", Align::Right), ("prompt", Align::Left), ("answer", Align::Left)]);
        for answer in &self.0 {
            table.row([answer.step.to_string(), answer.prompt.clone(), answer.answer.clone()]);
        }
        table.show()
    }
}

/// Rows as the model saw them.
#[derive(Clone, PartialEq)]
pub struct Seen(pub Vec<Chat>);

brief!(Seen);

impl Show for Seen {
    fn show(&self) -> Bundle {
        let shown: Vec<Bundle> = self.0.iter().map(Show::show).collect();
        Bundle {
            html: shown.iter().map(|b| b.html.as_str()).collect::<Vec<_>>().join("<hr>"),
            text: shown.iter().map(|b| b.text.as_str()).collect::<Vec<_>>().join("\n\n"),
        }
    }
}
