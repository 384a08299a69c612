//! From rows of a dataset to packed batches, as a pure function of the position.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::ops::random::permutation;
use crate::text::{Example, Pack, pack};
use rayon::prelude::*;
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

/// The tokens of a dataset's rows, those that can be trained on.
#[derive(Debug)]
pub struct Batches {
    examples: Vec<Example>,
    /// The number of each in the dataset.
    numbers: Vec<u32>,
    context: usize,
    left_out: LeftOut,
    /// The numbers of the rows without a token to train on.
    untrained: Vec<usize>,
    /// The longest row that is longer than the context: its number and its tokens.
    longest: Option<(usize, usize)>,
}

/// Rows that are not trained on, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Longer than the context.
    pub too_long: usize,
    /// Without a token to train on.
    pub untrained: usize,
}

/// Tokens of a micro-batch, unless a single row is longer: enough to spread the cost of expanding the
/// weights, which each micro-batch pays once, few enough to keep its activations below a gigabyte in
/// a small model.
pub(super) const MICRO_BATCH: usize = 1024;

/// Tokens that a row has at most when nobody says otherwise.
pub const CONTEXT: usize = 2048;

/// Rows that an evaluation uses at most.
const EVAL_ROWS: usize = 200;

impl Batches {
    /// Tokenises all rows. `context` as in [`RunConfig`](super::RunConfig).
    ///
    /// # Errors
    /// When the context is longer than the model's, a row does not fit the chat template, or no row
    /// is left.
    pub fn new(data: &Dataset, model: &Model, context: Option<usize>) -> Result<Self> {
        let most = model.config().context;
        if let Some(context) = context.filter(|context| *context > most) {
            return Err(Error::input(format!("a context of {context} tokens"))
                .help(format!("{} was made for at most {most}", model.name())));
        }
        let all = tokenised(data, model)?;
        let context = context.unwrap_or_else(|| usual_context(&all).min(most));
        let mut left_out = LeftOut::default();
        let mut examples = Vec::with_capacity(all.len());
        let mut numbers = Vec::with_capacity(all.len());
        let (mut untrained, mut longest) = (Vec::new(), None::<(usize, usize)>);
        for (number, example) in (0..).zip(all) {
            if example.trained_tokens() == 0 {
                left_out.untrained += 1;
                untrained.push(number as usize);
            } else if example.len() > context {
                left_out.too_long += 1;
                if longest.is_none_or(|(_, tokens)| tokens < example.len()) {
                    longest = Some((number as usize, example.len()));
                }
            } else {
                examples.push(example);
                numbers.push(number);
            }
        }
        if examples.is_empty() {
            return Err(Error::input(format!(
                "no row can be trained on: of {}, {} are longer than {context} tokens and {} have no answer",
                data.len(),
                left_out.too_long,
                left_out.untrained
            ))
            .path(data.path())
            .help("raise the context, or look at data.report()"));
        }
        Ok(Self { examples, numbers, context, left_out, untrained, longest })
    }

    /// Rows that are trained on, at least one.
    pub fn rows(&self) -> usize {
        self.examples.len()
    }

    /// Tokens of a row at most.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Rows that are not trained on.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Rows to evaluate on: the first [`EVAL_ROWS`] of a dataset.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_evaluation(data: &Dataset, model: &Model, context: usize) -> Result<Self> {
        Self::new(&data.head(EVAL_ROWS)?, model, Some(context))
    }

    /// The tokens of the rows that are trained on, each with its number in the dataset.
    pub fn examples(&self) -> impl Iterator<Item = (usize, &Example)> {
        self.numbers.iter().map(|number| *number as usize).zip(&self.examples)
    }

    /// The numbers of the rows without a token to train on.
    pub fn untrained(&self) -> &[usize] {
        &self.untrained
    }

    /// The longest row that is longer than the context: its number and its tokens.
    pub fn longest_left_out(&self) -> Option<(usize, usize)> {
        self.longest
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
            packs: pack(&examples, self.context.max(micro_batch))?,
            rows: chosen.iter().map(|row| self.numbers[*row]).collect(),
            segment,
            next: Some(Position { segment, epoch, consumed }),
        })
    }

    /// All rows in the order of the file, packed.
    ///
    /// # Errors
    /// Never for the rows that [`new`](Self::new) let through.
    pub fn all(&self) -> Result<Batch> {
        let examples: Vec<&Example> = self.examples.iter().collect();
        let packs = pack(&examples, self.context.max(MICRO_BATCH))?;
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
    pub(super) next: Option<Position>,
}

impl Batch {
    /// A batch of packs whose examples are numbered as they come.
    pub fn of(packs: Vec<Pack>) -> Self {
        let rows = packs.iter().flat_map(|pack| &pack.examples).map(|n| n + 1).max().unwrap_or(0) as u32;
        Self { packs, rows: (0..rows).collect(), segment: 0, next: None }
    }

    /// Tokens that go through the model.
    pub fn tokens(&self) -> usize {
        self.packs.iter().map(Pack::len).sum()
    }
}

fn tokenised(data: &Dataset, model: &Model) -> Result<Vec<Example>> {
    let tokenizer = model.tokenizer();
    (0..data.len())
        .into_par_iter()
        .map(|row| {
            tokenizer.example(&data.conversation(row)?, data.tools(row)?.as_deref()).map_err(|e| {
                match line(data, row) {
                    Some(line) => e.path(data.path()).line(line),
                    None => e.path(data.path()),
                }
            })
        })
        .collect()
}

/// The line of the file that a row stands on.
fn line(data: &Dataset, row: usize) -> Option<u64> {
    data.place(row).ok().map(|(_, line)| line)
}

/// The 99th percentile of the rows' lengths, at most [`CONTEXT`].
fn usual_context(examples: &[Example]) -> usize {
    let mut lengths: Vec<usize> = examples.iter().map(Example::len).collect();
    lengths.sort_unstable();
    let at = (lengths.len() * 99).div_ceil(100).saturating_sub(1);
    lengths.get(at).copied().unwrap_or(CONTEXT).clamp(2, CONTEXT)
}
