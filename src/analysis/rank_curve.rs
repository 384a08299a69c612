//! The loss on held-out rows over the rank of truncated adapters.

use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Progress, Show, Table, Text, stop_requested, thousands};
use crate::error::{Error, Result};
use crate::lora::Truncation;
use crate::ops::random::{Random, Stream};
use crate::plot::{self, Figure, NoisyPoint, Series};
use crate::run::Run;
use crate::train::step::{self, RowLoss};
use polars::prelude::{DataFrame, df};

/// Samples of rows that the noise is measured with.
const SAMPLES: u64 = 1000;

/// How much worse than the whole adapter a truncated one may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Within {
    /// Within the noise of the held-out rows: the 95 % interval of the difference contains 0.
    Noise,
    /// This much loss, in nats per token.
    Loss(f64),
}

/// The adapter truncated to one rank, on held-out rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankPoint {
    /// The rank that every layer was cut to; of the whole adapter the largest of its ΔW, twice that of
    /// B·A where a start is taken off (PiSSA).
    pub rank: usize,
    /// Mean cross-entropy over the trained tokens, in nats.
    pub loss: f64,
    /// The loss minus that of the whole adapter.
    pub worse: f64,
    /// The 95 % interval of that difference over samples of the rows, drawn with replacement: the rows are
    /// the same in both, so that hard rows do not hide it (the paired bootstrap, Efron and Tibshirani 1993,
    /// chapter 8).
    pub interval: (f64, f64),
    /// How many numbers the adapter has.
    pub parameters: usize,
}

/// The loss of adapters truncated to smaller ranks, on held-out rows.
///
/// A truncated adapter is not one that was trained at its rank, which may well be better.
#[derive(Debug, Clone)]
pub struct RankCurve {
    /// In ascending order; the last is the whole adapter.
    pub points: Vec<RankPoint>,
    /// Rows that they were evaluated on.
    pub rows: usize,
    /// Tokens whose loss counted.
    pub tokens: usize,
    /// Runs trained at other ranks, for comparison: (name, rank, loss on the same rows).
    trained: Vec<(String, usize, f64)>,
    footer: String,
}

impl Run {
    /// Evaluates the adapters cut to each of `ranks`, and whole, on held-out rows (the first 200 of them).
    /// The cut is the one of least error in the layers' outputs on the run's data
    /// ([`Adapters::truncate_weighted`](crate::lora::Adapters::truncate_weighted)), or in ΔW where no step
    /// was made yet.
    ///
    /// # Errors
    /// When a rank is 0 or none is given, the run has no adapters, or a row does not fit.
    pub fn rank_curve(&self, test: &Dataset, ranks: &[usize]) -> Result<RankCurve> {
        if ranks.is_empty() || ranks.contains(&0) {
            return Err(Error::input(format!("ranks {ranks:?}"))
                .help("give ranks of 1 and more, such as [2, 4, 8, 16]"));
        }
        let learned = self.0.shared.read().learned.clone();
        let (adapters, seen) = (&learned.adapters, learned.activations.by_path());
        let Some(all) = adapters.iter().map(|(_, pair)| pair.delta_rank()).max() else {
            return Err(Error::state("this run trains all weights: it has no adapters to cut"));
        };
        let mut ranks: Vec<usize> = ranks.iter().copied().filter(|rank| *rank < all).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let rows = self.held_out(test)?;
        let decoder = &self.0.config.decoder_of(&self.0.model);
        let mut progress = Progress::new("evaluating ranks", ranks.len() as u64 + 1);
        let mut evaluated = Vec::new();
        ranks.push(all);
        for rank in ranks {
            let cut = match rank == all {
                true => adapters.clone(),
                false => adapters.truncate_weighted(&Truncation::Rank(rank), seen)?,
            };
            let losses = step::evaluate(decoder, &cut, &rows.all()?, &|| !stop_requested())?;
            progress.try_advance(1, &format!("rank {rank}, loss {:.4}", step::mean(&losses).0))?;
            evaluated.push((rank, cut.parameters(), losses));
        }
        let whole = evaluated.last().map(|(.., losses)| losses.clone()).unwrap_or_default();
        let points = evaluated.into_iter().map(|(rank, parameters, losses)| {
            let loss = step::mean(&losses).0;
            let worse = loss - step::mean(&whole).0;
            RankPoint { rank, loss, worse, interval: interval(&losses, &whole), parameters }
        });
        let points: Vec<RankPoint> = points.collect();
        let tokens = step::mean(&whole).1;
        Ok(RankCurve { points, rows: rows.rows(), tokens, trained: Vec::new(), footer: self.footer() })
    }
}

/// The 2.5th and the 97.5th percentile of the difference of mean losses over samples of the rows.
fn interval(losses: &[RowLoss], whole: &[RowLoss]) -> (f64, f64) {
    let rows: Vec<(f64, f64)> = losses
        .iter()
        .zip(whole)
        .map(|(a, b)| ((f64::from(a.loss) - f64::from(b.loss)) * f64::from(a.tokens), f64::from(a.tokens)))
        .collect();
    if rows.is_empty() {
        return (0.0, 0.0);
    }
    let mut means: Vec<f64> = (0..SAMPLES)
        .map(|sample| {
            let mut random = Random::at(0, Stream::Bootstrap, sample, 0);
            let (mut sum, mut tokens) = (0.0, 0.0);
            for _ in 0..rows.len() {
                let (difference, count) = rows[random.below(rows.len() as u64) as usize];
                sum += difference;
                tokens += count;
            }
            sum / tokens
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

impl RankCurve {
    /// The smallest rank at which the cut adapter is no worse than the whole one, within this much.
    ///
    /// # Errors
    /// When a loss is asked for that is no number of 0 or more.
    pub fn advise(&self, within: Within) -> Result<RankPoint> {
        if let Within::Loss(loss) = within
            && !(loss >= 0.0 && loss.is_finite())
        {
            return Err(Error::input(format!("within a loss of {loss}")).help("give 0 or more, such as 0.01"));
        }
        let enough = |point: &&RankPoint| match within {
            Within::Noise => point.interval.0 <= 0.0,
            Within::Loss(loss) => point.worse <= loss,
        };
        let found = self.points.iter().find(enough).or(self.points.last());
        found.copied().ok_or_else(|| Error::compute("a curve without a point"))
    }

    /// The same with a run that was trained at its rank, evaluated on the same rows.
    ///
    /// # Errors
    /// When the run has no adapters, or its model cuts these rows into other tokens or leaves some out.
    pub fn beside(&self, run: &Run, test: &Dataset) -> Result<Self> {
        let adapters = run.adapters();
        let Some(rank) = adapters.iter().map(|(_, pair)| pair.rank()).max() else {
            return Err(Error::state(format!("the run {:?} trains all weights: it has no rank", run.name())));
        };
        let found = run.evaluate_with(&adapters, test)?;
        if (found.rows, found.tokens) != (self.rows, self.tokens) {
            return Err(Error::input(format!(
                "the run {:?} was evaluated on {} rows with {} trained tokens, the curve on {} with {}",
                run.name(),
                found.rows,
                found.tokens,
                self.rows,
                self.tokens
            ))
            .help("give the rows that the curve was made with, and runs of one model and context"));
        }
        let mut curve = self.clone();
        curve.trained.push((run.name().to_string(), rank, found.loss));
        // Joined from the smallest rank on, in whatever order they were given.
        curve.trained.sort_by_key(|(_, rank, _)| *rank);
        Ok(curve)
    }

    /// One row for each rank: rank, loss, worse, low, high, parameters, kind (`cut`, or the name of a run).
    ///
    /// # Errors
    /// When polars fails.
    pub fn frame(&self) -> Result<DataFrame> {
        let (p, t) = (&self.points, &self.trained);
        let none = || vec![None; t.len()];
        let some =
            |value: fn(&RankPoint) -> f64| p.iter().map(|p| Some(value(p))).chain(none()).collect::<Vec<_>>();
        Ok(df!(
            "rank" => p.iter().map(|p| p.rank as u32).chain(t.iter().map(|t| t.1 as u32)).collect::<Vec<_>>(),
            "loss" => p.iter().map(|p| p.loss).chain(t.iter().map(|t| t.2)).collect::<Vec<_>>(),
            "worse" => some(|p| p.worse),
            "low" => some(|p| p.interval.0),
            "high" => some(|p| p.interval.1),
            "parameters" => p.iter().map(|p| Some(p.parameters as u64)).chain(vec![None; t.len()]).collect::<Vec<_>>(),
            "kind" => p.iter().map(|_| "cut").chain(t.iter().map(|t| t.0.as_str())).collect::<Vec<_>>(),
        )?)
    }

    /// The loss over the rank in the band of its noise, with the rank that [`Within::Noise`] advises.
    ///
    /// # Errors
    /// When no loss is finite.
    pub fn plot(&self) -> Result<Figure> {
        let spread = |p: &RankPoint| NoisyPoint {
            x: p.rank as f64,
            low: p.loss - p.worse + p.interval.0,
            middle: p.loss,
            high: p.loss - p.worse + p.interval.1,
        };
        let curve: Vec<NoisyPoint> = self.points.iter().map(spread).collect();
        let trained = self.trained.iter().map(|(_, rank, loss)| (*rank as f64, *loss));
        let trained = Series::marks("trained at that rank", trained);
        let further = if self.trained.is_empty() { Vec::new() } else { vec![trained] };
        let advised = self.advise(Within::Noise)?.rank as f64;
        let label = "cross-entropy on held-out rows (nats per token)";
        let figure = plot::rank_curve(
            "Loss of the truncated adapter",
            label,
            "truncated",
            &curve,
            Some(advised),
            &further,
        )?;
        Ok(figure.with_footer(&self.footer))
    }
}

impl Show for RankCurve {
    fn show(&self) -> Bundle {
        let columns = ["rank", "loss", "worse by", "95 % interval", "numbers", ""];
        let mut table =
            Table::new(columns.map(|c| (c, if c.is_empty() { Align::Left } else { Align::Right })));
        let advised = self.advise(Within::Noise).ok().map(|point| point.rank);
        for p in &self.points {
            let mark = if Some(p.rank) == advised { "the smallest within the noise" } else { "" };
            table.row([
                p.rank.to_string(),
                format!("{:.4}", p.loss),
                format!("{:+.4}", p.worse),
                format!("{:+.4} to {:+.4}", p.interval.0, p.interval.1),
                thousands(p.parameters as u64),
                mark.to_string(),
            ]);
        }
        for (name, rank, loss) in &self.trained {
            table.row([
                rank.to_string(),
                format!("{loss:.4}"),
                String::new(),
                String::new(),
                String::new(),
                format!("trained: {name}"),
            ]);
        }
        let table = table.caption(format!(
            "the adapter truncated to smaller ranks, on {} held-out rows; an adapter trained at a rank is different, and may be better",
            self.rows
        ));
        match self.plot() {
            Ok(figure) => (figure, table).show(),
            Err(error) => (Text::new(error.to_string()), table).show(),
        }
    }
}
