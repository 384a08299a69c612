//! The preflight of a run: the checks of its rows, and two measured steps on a copy.

use super::preflight::Preflight;
use crate::display::{bytes, duration, stop_requested};
use crate::error::{Error, Result};
use crate::run::worker::process::memory;
use crate::run::{Run, State};
use crate::train::row_checks::{Checked, check_rows};
use crate::train::step::{self, Accumulated, is_frozen};
use crate::train::{Finding, RunConfig, Severity};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

impl Run {
    /// Checks the run before its first step: whether each answer teaches the model to stop, rows that are left
    /// out, prompts that differ from those at inference, evaluation rows that are trained on; and, by two steps
    /// on a copy that is thrown away, adapters that get no gradient, time and memory. [`Run::new`] checks the
    /// rows by itself and refuses what is fatal.
    ///
    /// # Errors
    /// When the run is training, or a step fails.
    pub fn preflight(&self) -> Result<Preflight> {
        if self.status().state == State::Running {
            return Err(Error::state("this run is training").help("run.pause()? first"));
        }
        let settings = self.settings();
        let segment = self.0.segments.get(settings.segment)?;
        let eval = self.0.eval.as_deref().zip(self.0.config.eval.as_ref());
        let checked = Checked { rows: &segment.batches, data: &segment.data, eval };
        let config = RunConfig { micro_batch: settings.micro_batch, ..self.0.config.clone() };
        let findings = check_rows(checked, &config, self.0.model.tokenizer())?;
        let mut found = Preflight { findings, left_out: self.left_out()? };

        let mut learned = self.0.shared.read().learned.clone();
        let model = &self.0.config.decoder_of(&self.0.model);
        let frozen = |name: &str| is_frozen(&settings.frozen, name);
        let names = || learned.adapters.tensors().map(|(name, _)| name).filter(|name| !frozen(name));
        let mut without: BTreeSet<String> = names().collect();
        let trained = without.len();
        let mut batch = self.next_batch()?;
        // The first update is what gives A a gradient, where B begins with zeros.
        let mut seconds = Vec::new();
        for _ in 0..2 {
            let begun = Instant::now();
            let mut accumulated = Accumulated::default();
            step::forward_backward(model, &learned, &batch, &mut accumulated, &|| !stop_requested())?;
            for (name, gradient) in accumulated.gradients.tensors() {
                if gradient.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0 {
                    without.remove(name);
                }
            }
            let (lr, clip) = (settings.lr, settings.clip);
            learned = step::update(model, &learned, accumulated, lr, clip, &settings.optimizer, &frozen)?.0;
            seconds.push(begun.elapsed().as_secs_f64() / batch.tokens().max(1) as f64);
            if let Some(next) = batch.next {
                let (rows, tokens) = (settings.batch, settings.micro_batch);
                batch = segment.batches.at(next, rows, tokens, self.0.config.seed)?;
            }
        }
        found.push(match without.first() {
            None => {
                Finding::new("gradients", Severity::Fine, format!("all {trained} trained tensors get one"))
            }
            Some(first) => {
                let what = format!("{} of {trained} trained tensors get none, {first} first", without.len());
                let severity = if without.len() == trained { Severity::Fatal } else { Severity::Warning };
                Finding::new("gradients", severity, what).help("look at run.gradients() after some steps")
            }
        });
        let lengths: usize = segment.batches.examples().map(|(_, example)| example.len()).sum();
        let mean = lengths as f64 / segment.batches.rows() as f64 * settings.batch as f64;
        let a_step = mean * seconds[1];
        let said =
            |seconds: f64| Duration::try_from_secs_f64(seconds).map_or_else(|_| "long".to_string(), duration);
        let epoch = a_step * segment.batches.rows() as f64 / settings.batch as f64;
        let time =
            format!("{} a step, {} for all rows once, as measured in two steps", said(a_step), said(epoch));
        found.push(Finding::new("time", Severity::Fine, time));
        if let Some(resident) = memory() {
            let what = format!("{} of this process after two steps", bytes(resident));
            found.push(Finding::new("memory", Severity::Fine, what));
        }
        Ok(found)
    }
}
