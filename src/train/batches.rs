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
    /// Times that all rows were seen.
    pub epoch: u64,
    /// Rows of this epoch that were seen.
    pub consumed: usize,
}

/// The rows of a run as tokens.
#[derive(Debug)]
pub struct Rows {
    /// Those that it trains on.
    pub train: Batches,
    /// Those that it is evaluated on.
    pub eval: Option<Batches>,
}

/// The tokens of a dataset's rows, those that can be trained on.
#[derive(Debug)]
pub struct Batches {
    examples: Vec<Example>,
    /// The number of each example's row in the dataset.
    numbers: Vec<usize>,
    /// The numbers of the rows without a token to train on.
    untrained: Vec<usize>,
    /// Of the rows that are longer than the context the longest: its number and its tokens.
    longest: Option<(usize, usize)>,
    context: usize,
    left_out: LeftOut,
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

impl Rows {
    /// Tokenises the rows to train on and the first [`EVAL_ROWS`] for evaluation, which get the same
    /// context.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn new(
        data: &Dataset,
        eval: Option<&Dataset>,
        model: &Model,
        context: Option<usize>,
    ) -> Result<Self> {
        let train = Batches::new(data, model, context)?;
        let eval = eval
            .map(|data| Batches::new(&data.head(EVAL_ROWS)?, model, Some(train.context())))
            .transpose()?;
        Ok(Self { train, eval })
    }

    /// XXH3 of all ids and masks, 128 bits in hexadecimal: the same rows give other tokens when the
    /// tokenizer or the chat template is another, or when the template writes today's date.
    pub fn fingerprint(&self) -> String {
        let mut hash = Xxh3::new();
        for batches in std::iter::once(&self.train).chain(&self.eval) {
            hash.update(&batches.examples.len().to_le_bytes());
            for example in &batches.examples {
                let ids: Vec<u8> = example.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                let mask: Vec<u8> = example.trained.iter().map(|trained| u8::from(*trained)).collect();
                hash.update(&example.ids.len().to_le_bytes());
                hash.update(&ids);
                hash.update(&mask);
            }
        }
        format!("{:032x}", hash.digest128())
    }
}

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
        let (mut examples, mut numbers) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        let (mut untrained, mut longest) = (Vec::new(), None);
        for (row, example) in all.into_iter().enumerate() {
            if example.trained_tokens() == 0 {
                left_out.untrained += 1;
                untrained.push(row);
            } else if example.len() > context {
                left_out.too_long += 1;
                if longest.is_none_or(|(_, tokens)| tokens < example.len()) {
                    longest = Some((row, example.len()));
                }
            } else {
                examples.push(example);
                numbers.push(row);
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
        Ok(Self { examples, numbers, untrained, longest, context, left_out })
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

    /// The tokens of each row that is trained on, and its number in the dataset.
    pub fn examples(&self) -> impl ExactSizeIterator<Item = (usize, &Example)> {
        self.numbers.iter().copied().zip(&self.examples)
    }

    /// The numbers of the rows without a token to train on.
    pub fn untrained(&self) -> &[usize] {
        &self.untrained
    }

    /// Of the rows that are longer than the context the longest: its number and its tokens.
    pub fn longest_left_out(&self) -> Option<(usize, usize)> {
        self.longest
    }

    /// The batch of `rows` rows at a position, packed, and the position after it. A batch at the end
    /// of an epoch goes on into the next one.
    ///
    /// # Errors
    /// Never for the rows that [`new`](Self::new) let through.
    pub fn at(&self, position: Position, rows: usize, seed: u64) -> Result<(Vec<Pack>, Position)> {
        let Position { mut epoch, mut consumed } = position;
        let mut order = permutation(self.rows(), seed, epoch);
        let mut batch = Vec::with_capacity(rows);
        for _ in 0..rows {
            if consumed >= order.len() {
                (epoch, consumed) = (epoch + 1, 0);
                order = permutation(self.rows(), seed, epoch);
            }
            batch.push(&self.examples[order[consumed]]);
            consumed += 1;
        }
        Ok((pack(&batch, self.context.max(MICRO_BATCH))?, Position { epoch, consumed }))
    }

    /// All rows in the order of the file, packed, for evaluation.
    ///
    /// # Errors
    /// Never for the rows that [`new`](Self::new) let through.
    pub fn all(&self) -> Result<Vec<Pack>> {
        let batch: Vec<&Example> = self.examples.iter().collect();
        pack(&batch, self.context.max(MICRO_BATCH))
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
