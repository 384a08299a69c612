//! The datasets of a run, one after the other: each is read and tokenised when it is needed.

use super::journal::Rows;
use crate::dataset::Dataset;
use crate::display::advice;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::RunConfig;
use crate::train::batches::{Batches, Preparing};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows and their tokens.
#[derive(Debug)]
pub struct Segment {
    /// The rows.
    pub data: Dataset,
    /// Their tokens.
    pub batches: Batches,
}

/// All datasets that a run had.
#[derive(Debug)]
pub struct Segments {
    model: Model,
    how: Preparing,
    slots: Mutex<Vec<Slot>>,
}

#[derive(Debug, Clone)]
struct Slot {
    rows: Rows,
    read: Option<Arc<Segment>>,
}

impl Segments {
    /// Segments of which none is read yet.
    pub fn new<'a>(model: &Model, config: &RunConfig, rows: impl IntoIterator<Item = &'a Rows>) -> Self {
        let slots = rows.into_iter().map(|rows| Slot { rows: rows.clone(), read: None }).collect();
        Self { model: model.clone(), how: Preparing::of(config), slots: Mutex::new(slots) }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them, read where it was not.
    ///
    /// # Errors
    /// When its file is gone or has changed, or its rows give other tokens than they did.
    pub fn get(&self, number: usize) -> Result<Arc<Segment>> {
        let slot = self.slots().get(number).cloned();
        let Some(slot) = slot else { return Err(Error::compute(format!("no data {number}"))) };
        if let Some(read) = slot.read {
            return Ok(read);
        }
        let data = Dataset::from_recipe(&slot.rows.data)?;
        let batches = Batches::new(&data, &self.model, self.how(&slot.rows))?;
        same_tokens(&batches, &slot.rows)?;
        let read = Arc::new(Segment { data, batches });
        if let Some(slot) = self.slots().get_mut(number) {
            slot.read = Some(read.clone());
        }
        Ok(read)
    }

    /// One of them, where it was read.
    pub fn read(&self, number: usize) -> Option<Arc<Segment>> {
        self.slots().get(number).and_then(|slot| slot.read.clone())
    }

    /// How the rows of one of them become batches.
    fn how(&self, rows: &Rows) -> Preparing {
        Preparing { context: Some(rows.context), filling: rows.filling, ..self.how }
    }

    /// How all rows of the run become batches: those to come, and those to evaluate on, as the first.
    pub fn preparing(&self) -> Preparing {
        self.rows(0).map_or(self.how, |rows| self.how(&rows))
    }

    /// How the rows of one of them are found.
    pub fn rows(&self, number: usize) -> Option<Rows> {
        self.slots().get(number).map(|slot| slot.rows.clone())
    }

    /// Adds one as number `number`; what stood there and after it is forgotten.
    pub fn put(&self, number: usize, rows: Rows, segment: Arc<Segment>) {
        let mut slots = self.slots();
        slots.truncate(number);
        slots.push(Slot { rows, read: Some(segment) });
    }

    /// Gives one that is known what was read of it elsewhere, if it is the same.
    pub fn fill(&self, number: usize, rows: &Rows, segment: Arc<Segment>) {
        if let Some(slot) = self.slots().get_mut(number).filter(|slot| slot.rows == *rows) {
            slot.read = Some(segment);
        }
    }

    /// Forgets all but the first `number`.
    pub fn truncate(&self, number: usize) {
        self.slots().truncate(number);
    }
}

/// Fails where rows give other tokens than when they were first used.
pub(crate) fn same_tokens(batches: &Batches, rows: &Rows) -> Result<()> {
    match batches.fingerprint() == rows.tokens {
        true => Ok(()),
        false => Err(Error::state(
            "the rows give other tokens than when this run was made (tokenizer, template or its date changed; or the \
             run is of an earlier version, which trained on rows that are labelled bad and on answers in a prompt, \
             and not on plain text)",
        )
        .path(&rows.data.path)
        .help(advice(
            "put the old files back, or accept the new rows: Run::open_with(folder, &OpenRun::accept())",
            "put the old files back, or accept the new rows: --resume --accept",
        ))),
    }
}
