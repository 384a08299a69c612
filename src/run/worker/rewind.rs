//! Rewinding, and snapshots.

use super::thread::Worker;
use crate::display::advice;
use crate::error::{Error, Result};
use crate::run::disk::snapshot::{Context, RunProgress};
use crate::run::state::status::State;
use crate::train::step::Learned;
use std::time::Instant;

impl Worker {
    /// Goes back to a step: to the latest state kept before it, and from there by repeating the steps, which gives
    /// the same bits.
    pub(super) fn rewind(&mut self, to: u64) -> Result<()> {
        let kept = self.cache.latest(to).cloned();
        let newest = self.folder.snapshots()?.into_iter().rfind(|step| *step <= to);
        let (learned, place) = match kept {
            Some(kept) if newest.is_none_or(|newest| newest <= kept.1.step) => kept,
            _ => {
                let device = self.model.decoder().device();
                let (found, notes) = self.folder.load(to, &self.fresh, &self.config, device)?;
                notes.into_iter().for_each(|note| self.shared.note(note));
                match found {
                    Some((learned, place)) => (learned.on(self.model.decoder())?, place),
                    None => self.first(),
                }
            }
        };
        let shared = self.shared.clone();
        let turn = shared.changing();
        let journal = self.shared.read().journal.until(to);
        if let Some(step) = journal.by_hand(place.step, to) {
            return Err(Error::state(format!("step {step} was applied by hand, and cannot be repeated"))
                .help(format!(
                    "step {0} is kept: {1}{0}{2}",
                    place.step,
                    advice("run.rewind(", "--resume --rewind "),
                    advice(")", "")
                )));
        }
        self.folder.begin_rewind(to)?;
        self.segments.truncate(1 + journal.data().count());
        let history = self.folder.history(place.step)?;
        self.folder.forget_after(place.step, &journal)?;
        self.cache.forget_after(place.step);
        (self.learned, self.place) = (learned, place);
        let snapshot = self.folder.snapshots()?.pop();
        let answers = self.shared.update(|current| {
            current.place = place;
            (current.begun, current.recent) = (place.step, 0);
            current.learned = self.learned.clone();
            current.history = history;
            current.journal = journal;
            current.snapshot = snapshot;
            current.gradients = None;
            current.batch = None;
            current.partial = None;
            current.answers.retain(|answer| answer.step <= to);
            if current.state != State::Running {
                current.rest(&self.config); // a failure lies in what is left behind
            }
            current.answers.clone()
        });
        drop(turn);
        self.folder.write_answers(&answers)?;
        while self.place.step < to {
            self.one_step(&|| true)?;
        }
        self.save()?;
        self.folder.end_rewind()
    }

    /// The state before the first step.
    fn first(&self) -> (Learned, RunProgress) {
        (Learned::new(self.fresh.clone(), self.config.seed), RunProgress::default())
    }

    /// Writes a snapshot, unless this step has one.
    pub(super) fn save(&mut self) -> Result<()> {
        let (goal, snapshot, journal) = {
            let current = self.shared.read();
            (current.goal, current.snapshot, current.journal.clone())
        };
        if self.folder.goal() != Some(goal) {
            self.folder.write_goal(&goal)?;
        }
        if snapshot != Some(self.place.step) {
            let tokens =
                self.segments.rows(self.place.position.segment).map(|rows| rows.tokens).unwrap_or_default();
            let base = self.model.name();
            let context = Context { config: &self.config, journal: &journal, tokens: &tokens, base: &base };
            let begun = Instant::now();
            self.folder.save(&self.learned, &self.place, context)?;
            self.shared.update(|current| {
                current.snapshot = Some(self.place.step);
                current.snapshot_seconds = Some(begun.elapsed().as_secs_f64());
            });
        }
        self.saved = Instant::now();
        Ok(())
    }
}
