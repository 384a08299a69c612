//! Packs the rows of a dataset into batches, as a pure function of the position.

use super::config::{MICRO_BATCH, RunConfig};
use super::left_out::{LeftOut, RowsFor, RowsLeftOut, Why};
use crate::dataset::{Dataset, Lesson};
use crate::display::advice;
use crate::error::{Error, Result};
use crate::format::OnFault;
use crate::model::Model;
use crate::ops::random::permutation;
use crate::text::{Example, Pack, Training, pack};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// Where a run is in its data. The next batch follows from it, the seed and the rows alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Which of the datasets that the run had so far, from 0.
    pub segment: usize,
    /// Times that all rows were seen.
    pub epoch: u64,
    /// Rows of this epoch that were seen.
    pub consumed: usize,
}

impl Position {
    /// This position, if it lies in this segment; otherwise the segment's beginning.
    #[must_use]
    pub fn in_segment(self, segment: usize) -> Self {
        if self.segment == segment { self } else { Self { segment, ..Self::default() } }
    }
}

/// The tokens of those rows of a dataset that can be trained on.
#[derive(Debug)]
pub struct Batches {
    examples: Vec<Example>,
    /// The number of each in the dataset.
    numbers: Vec<u32>,
    context: usize,
    filling: Filling,
    counts: LeftOut,
    /// The rows that are left out, by their numbers.
    left_out: Vec<(u32, Why)>,
}

/// How rows are made into batches.
#[derive(Debug, Clone, Copy)]
pub struct Preparing {
    /// Tokens of a row at most; `None` takes the model's context, at most [`CONTEXT`].
    pub context: Option<usize>,
    /// Which tokens of a row are trained on.
    pub training: Training,
    /// What to do with a row that the chat template refuses.
    pub faults: OnFault,
    /// How full a micro-batch gets.
    pub filling: Filling,
}

impl Preparing {
    /// What a config says of it.
    pub fn of(config: &RunConfig) -> Self {
        let (context, training, faults) = (config.context, config.training(), config.faults);
        Self { context, training, faults, filling: Filling::MicroBatch }
    }
}

/// How full a micro-batch gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// Up to the context, where that is more than the tokens of a micro-batch. Runs whose folder does not say
    /// did so, and go on bit by bit as they would have.
    #[default]
    Context,
    /// Up to the tokens of a micro-batch, unless a single row is longer.
    MicroBatch,
}

/// The default of the most tokens of a row.
pub const CONTEXT: usize = 2048;

/// The most rows that an evaluation uses.
const EVAL_ROWS: usize = 200;

impl Batches {
    /// Tokenises all rows.
    ///
    /// # Errors
    /// When the context is longer than the model's, no row is left, or the chat template refuses one and
    /// faults are to fail.
    pub fn new(data: &Dataset, model: &Model, how: Preparing) -> Result<Self> {
        Self::of(data, data, model, how, (RowsFor::Training, None))
    }

    /// Rows to evaluate on: the first [`EVAL_ROWS`] of a dataset that are not labelled bad. Records that the reader
    /// rejected in the files of the training rows are reported there, not here.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_evaluation(
        data: &Dataset,
        trained: Option<&Dataset>,
        model: &Model,
        how: Preparing,
    ) -> Result<Self> {
        Self::of(data, &data.first_good(EVAL_ROWS)?, model, how, (RowsFor::Evaluation, trained))
    }

    /// Tokenises `rows`, which are all or the first rows of `data`: what they are for, and the dataset beside them.
    fn of(
        data: &Dataset,
        rows: &Dataset,
        model: &Model,
        how: Preparing,
        (rows_for, beside): (RowsFor, Option<&Dataset>),
    ) -> Result<Self> {
        let most = model.config().context;
        if let Some(context) = how.context.filter(|context| *context > most) {
            return Err(Error::input(format!("a context of {context} tokens"))
                .help(format!("{} was made for at most {most}", model.name())));
        }
        let context = how.context.unwrap_or(CONTEXT).min(most);
        let strict = how.faults == OnFault::Fail || data.on_fault() == OnFault::Fail;
        let mut new = Self {
            examples: Vec::new(),
            numbers: Vec::new(),
            context,
            filling: how.filling,
            counts: LeftOut { rows_for, context, ..LeftOut::default() },
            left_out: Vec::new(),
        };
        let mut refused = None;
        for (number, lesson) in (0..).zip(rows.lessons(model.tokenizer(), &how.training)?) {
            let why = match lesson {
                Lesson::Bad => Why::LabelledBad,
                Lesson::Refused(error) => {
                    let why = Why::Refused(error.to_string());
                    if strict {
                        return Err(data.placed(number as usize, error));
                    }
                    refused.get_or_insert((number, error));
                    why
                }
                Lesson::Example(example) if example.trained_tokens() == 0 => Why::Untrained,
                Lesson::Example(example) if example.len() > context => Why::TooLong(example.len()),
                Lesson::Example(example) => {
                    new.examples.push(example);
                    new.numbers.push(number);
                    continue;
                }
            };
            new.left_out.push((number, why));
        }
        let count = |wanted: fn(&Why) -> bool| new.left_out.iter().filter(|(_, why)| wanted(why)).count();
        // Which of the rejected records stand between the first rows is not known.
        let some = rows.len() < data.len();
        let rejected = if some { 0 } else { data.rejected()? };
        new.counts = LeftOut {
            used: new.examples.len(),
            records: rows.len() + rejected,
            rejected,
            too_long: count(|why| matches!(why, Why::TooLong(_))),
            refused: count(|why| matches!(why, Why::Refused(_))),
            untrained: count(|why| *why == Why::Untrained),
            labelled_bad: count(|why| *why == Why::LabelledBad),
            rejected_of_files: match data.is_part() {
                // A part to evaluate on often stands beside one to train on, which says it.
                true => data.rejected_of_files(beside)?,
                false if some => data.rejected_of_files(None)?,
                false => 0,
            },
            ..new.counts
        };
        match new.examples.is_empty() {
            true => Err(new.nothing(data, refused)),
            false => Ok(new),
        }
    }

    /// The error where no row is left.
    fn nothing(&self, data: &Dataset, refused: Option<(u32, Error)>) -> Error {
        let what = self.counts.nothing();
        let all = self.left_out.len();
        match refused {
            Some((row, error)) if self.counts.refused == all => {
                // The words of the template say what is wrong with each of them.
                data.placed(row as usize, Error::input(format!("{what}; the first: {error}")))
            }
            _ if self.counts.labelled_bad == all => Error::input(what).path(data.path()).help(
                "a run learns answers that are labelled good: give it rows with the label true, or rows without a label",
            ),
            _ if self.counts.too_long == 0 => Error::input(what).path(data.path()).help(advice(
                "look at data.report() and data.row(), which shades what is trained on",
                "look at the rows with lorascope data report and data rows",
            )),
            _ => Error::input(what)
                .path(data.path())
                .help(advice(
                    "raise the context with RunConfig::default().context(n), or look at data.report() and data.row()",
                    "raise the context with --context N, or look at the rows with lorascope data report and data rows",
                )),
        }
    }

    /// Rows that are trained on, at least one.
    pub fn rows(&self) -> usize {
        self.examples.len()
    }

    /// The most tokens of a row.
    pub fn context(&self) -> usize {
        self.context
    }

    /// How many rows are used and left out.
    pub fn counts(&self) -> LeftOut {
        self.counts
    }

    /// How full a micro-batch gets.
    pub fn filling(&self) -> Filling {
        self.filling
    }

    /// The tokens of the rows that are trained on, each with its number in the dataset.
    pub fn examples(&self) -> impl Iterator<Item = (usize, &Example)> {
        self.numbers.iter().map(|number| *number as usize).zip(&self.examples)
    }

    /// The numbers of the rows that are left out for a reason.
    pub fn left_out(&self, wanted: fn(&Why) -> bool) -> impl Iterator<Item = (usize, &Why)> {
        let left_out = self.left_out.iter().filter(move |(_, why)| wanted(why));
        left_out.map(|(number, why)| (*number as usize, why))
    }

    /// Adds the rows that are left out, of the dataset that these are of.
    ///
    /// # Errors
    /// When the data can no longer be read.
    pub fn add_left_out(&self, data: &Dataset, into: &mut RowsLeftOut) -> Result<()> {
        into.add(data, self.counts, &self.left_out)
    }

    /// XXH3 of all ids and masks, 128 bits in hexadecimal: the same rows give other tokens when the
    /// tokenizer or the chat template is another, or when the template writes today's date.
    pub fn fingerprint(&self) -> String {
        let mut hash = Xxh3::new();
        hash.update(&self.examples.len().to_le_bytes());
        for example in &self.examples {
            let ids: Vec<u8> = example.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            let mask: Vec<u8> = example.trained.iter().map(|trained| u8::from(*trained)).collect();
            hash.update(&example.ids.len().to_le_bytes());
            hash.update(&ids);
            hash.update(&mask);
        }
        format!("{:032x}", hash.digest128())
    }

    /// The batch of `rows` rows at a position, packed into micro-batches of about `micro_batch`
    /// tokens. A batch at the end of an epoch goes on into the next one.
    ///
    /// # Errors
    /// Never for the rows that [`new`](Self::new) let through.
    pub fn at(&self, position: Position, rows: usize, micro_batch: usize, seed: u64) -> Result<Batch> {
        let Position { segment, mut epoch, mut consumed } = position;
        let mut order = permutation(self.rows(), seed, epoch);
        let mut chosen = Vec::with_capacity(rows);
        for _ in 0..rows {
            if consumed >= order.len() {
                (epoch, consumed) = (epoch + 1, 0);
                order = permutation(self.rows(), seed, epoch);
            }
            chosen.push(order[consumed]);
            consumed += 1;
        }
        let examples: Vec<&Example> = chosen.iter().map(|row| &self.examples[*row]).collect();
        Ok(Batch {
            packs: self.packs(&examples, micro_batch)?,
            rows: chosen.iter().map(|row| self.numbers[*row]).collect(),
            segment,
            next: Some(Position { segment, epoch, consumed }),
        })
    }

    /// Micro-batches of about so many tokens.
    fn packs(&self, examples: &[&Example], micro_batch: usize) -> Result<Vec<Pack>> {
        let most = match self.filling {
            Filling::Context => self.context,
            Filling::MicroBatch => examples.iter().map(|example| example.len()).max().unwrap_or(0),
        };
        pack(examples, most.max(micro_batch))
    }

    /// All rows in the order of the file, packed.
    ///
    /// # Errors
    /// Never for the rows that [`new`](Self::new) let through.
    pub fn all(&self) -> Result<Batch> {
        let examples: Vec<&Example> = self.examples.iter().collect();
        let packs = self.packs(&examples, MICRO_BATCH)?;
        Ok(Batch { packs, rows: self.numbers.clone(), segment: 0, next: None })
    }
}

/// Rows of one step, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The micro-batches. The examples of each are places in `rows`.
    pub packs: Vec<Pack>,
    /// The numbers of the rows in their dataset, from 0.
    pub rows: Vec<u32>,
    /// Which of the run's datasets that is.
    pub segment: usize,
    /// Where the run's data goes on after it; `None` for rows that are not the run's next ones.
    pub(crate) next: Option<Position>,
}

impl Batch {
    /// A batch of packs whose examples are numbered as they come.
    pub fn of(packs: Vec<Pack>) -> Self {
        let rows = packs.iter().flat_map(|pack| &pack.examples).map(|n| n + 1).max().unwrap_or(0) as u32;
        Self { packs, rows: (0..rows).collect(), segment: 0, next: None }
    }

    /// Fails where no token is trained on.
    pub(crate) fn check_trained(&self) -> Result<()> {
        match self.packs.iter().all(|pack| pack.trained_tokens() == 0) {
            true => Err(Error::input("no token of this batch is trained on")
                .help("check that the rows have an answer")),
            false => Ok(()),
        }
    }

    /// Tokens that go through the model.
    pub fn tokens(&self) -> usize {
        self.packs.iter().map(Pack::len).sum()
    }
}
