//! A learning rate range test.

use crate::display::{Bundle, Progress, Show, Text, stop_requested};
use crate::error::{Error, Result};
use crate::plot::{Figure, Scale, Series, lines};
use crate::run::{Run, State};
use crate::train::step::{self, Accumulated, is_frozen};

/// The lowest and the highest rate of the test.
const RANGE: (f64, f64) = (1e-6, 1e-1);
/// The test ends at a loss above this multiple of the lowest one.
const FAR: f64 = 4.0;

/// The losses over a learning rate that rises with every step.
#[derive(Debug, Clone, PartialEq)]
pub struct LrCurve {
    /// (learning rate, loss before the update at that rate), in nats.
    pub points: Vec<(f64, f64)>,
}

impl Run {
    /// Raises the learning rate from 1e-6 to 0.1 over `steps` steps and records the losses (Smith 2017,
    /// *Cyclical Learning Rates*, section 3.3). The steps are made on a copy of what the run has
    /// learned, which is thrown away: the run stays as it is.
    ///
    /// # Errors
    /// When fewer than 10 steps are asked for, the run is training, or a step fails.
    pub fn find_lr(&self, steps: u64) -> Result<LrCurve> {
        if steps < 10 {
            return Err(Error::input(format!("{steps} steps are too few for a curve"))
                .help("give 10 or more, such as 40"));
        }
        if self.status().state == State::Running {
            return Err(Error::state("this run is training").help("run.pause()? first"));
        }
        let (mut learned, place, settings) = {
            let current = self.0.shared.read();
            let settings = current.journal.settings(&self.0.config, current.place.step + 1);
            (current.learned.clone(), current.place, settings)
        };
        let segment = self.0.segments.get(settings.segment)?;
        let mut position = place.position.in_segment(settings.segment);
        let model = &self.0.config.decoder_of(&self.0.model);
        let mut progress = Progress::new("raising the learning rate", steps);
        let (mut points, mut least) = (Vec::new(), f64::INFINITY);
        let frozen = |name: &str| is_frozen(&settings.frozen, name);
        for i in 0..steps {
            let lr = RANGE.0 * (RANGE.1 / RANGE.0).powf(i as f64 / (steps - 1) as f64);
            let batch =
                segment.batches.at(position, settings.batch, settings.micro_batch, self.0.config.seed)?;
            let mut accumulated = Accumulated::default();
            let passed =
                step::forward_backward(model, &learned, &batch, &mut accumulated, &|| !stop_requested());
            match passed {
                Err(error) if error.is_compute() && !points.is_empty() => break, // it has run away
                passed => passed?,
            }
            let loss = accumulated.loss();
            points.push((lr, loss));
            progress.try_advance(1, &format!("lr {lr:.1e}, loss {loss:.3}"))?;
            least = least.min(loss);
            if loss > FAR * least {
                break;
            }
            match step::update(model, &learned, accumulated, lr, settings.clip, &settings.optimizer, &frozen)
            {
                Ok((next, _)) => learned = next,
                Err(_) => break,
            }
            position = batch.next.unwrap_or(position);
        }
        Ok(LrCurve { points })
    }
}

impl LrCurve {
    /// The rate at which the smoothed loss falls most steeply; `None` where it never falls.
    pub fn suggestion(&self) -> Option<f64> {
        let smooth = smoothed(&self.points);
        let slopes = smooth.windows(2).map(|w| (w[0].0, (w[1].1 - w[0].1) / (w[1].0 / w[0].0).ln()));
        slopes.filter(|(_, slope)| *slope < 0.0).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(lr, _)| lr)
    }

    /// The loss over the logarithm of the rate.
    ///
    /// # Errors
    /// When there is no point.
    pub fn plot(&self) -> Result<Figure> {
        let log =
            |points: &[(f64, f64)]| points.iter().map(|(lr, loss)| (lr.log10(), *loss)).collect::<Vec<_>>();
        let series = [
            Series::marks("loss", log(&self.points)),
            Series::line("smoothed", log(&smoothed(&self.points))),
        ];
        lines(
            "Learning rate",
            "log10 of the learning rate",
            "cross-entropy (nats per token)",
            &series,
            Scale::Linear,
        )
    }
}

/// A running mean over about five points, corrected for its start.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const KEEP: f64 = 1.0 - 2.0 / 6.0;
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = points.iter().map(|(lr, loss)| {
        sum = KEEP * sum + (1.0 - KEEP) * loss;
        weight = KEEP * weight + (1.0 - KEEP);
        (*lr, sum / weight)
    });
    mean.collect()
}

impl Show for LrCurve {
    fn show(&self) -> Bundle {
        let said = match self.suggestion() {
            Some(lr) => format!("the loss falls fastest at {lr:.1e}: run.set_lr({lr:.0e})? takes that"),
            None => "the loss never falls: more steps, or larger batches, may tell".to_string(),
        };
        match self.plot() {
            Ok(figure) => (figure, Text::new(said)).show(),
            Err(_) => Text::new(said).show(),
        }
    }
}
