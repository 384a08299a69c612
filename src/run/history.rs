//! The history of a run: the numbers of every step.

use crate::display::{Bundle, Show, Text};
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};
use crate::plot::{Figure, Measure, Scale, Series, lines, stack};
use crate::train::StepReport;
use crate::train::step_report::table;
use polars::prelude::{AnyValue, DataFrame, IntoColumn, NamedFrom, ParquetWriter, Series as Values};
use std::collections::BTreeMap;
use std::path::Path;

/// The colours of losses, in all figures.
pub(crate) const TRAINING: usize = 0;
const EVALUATION: usize = 1;
/// Green and ochre without dashes, which a line alone needs not.
const RATE: usize = 14;
const NORM: usize = 4;
/// The first colour that no loss has.
pub(crate) const OTHERS: usize = 2;
const LOSS: &str = "cross-entropy (nats per token)";

/// Steps of a run, in order.
#[derive(Clone, Default)]
pub struct History {
    steps: Vec<StepReport>,
    /// Evaluations outside of the steps: after which step, and the loss.
    evaluated: Vec<(u64, f64)>,
    footer: String,
}

impl History {
    /// Steps, and the line below their figures.
    pub fn new(steps: Vec<StepReport>, footer: impl Into<String>) -> Self {
        Self { steps, evaluated: Vec::new(), footer: footer.into() }
    }

    /// The steps.
    pub fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// One row for each step.
    ///
    /// # Errors
    /// When polars fails.
    pub fn frame(&self) -> Result<DataFrame> {
        let s = &self.steps;
        let f = |value: fn(&StepReport) -> f64| s.iter().map(value).collect::<Vec<f64>>();
        let u = |value: fn(&StepReport) -> u64| s.iter().map(value).collect::<Vec<u64>>();
        Ok(DataFrame::new(
            s.len(),
            vec![
                Values::new("step".into(), u(|s| s.step)).into_column(),
                Values::new("epoch".into(), f(|s| s.epoch)).into_column(),
                Values::new("loss".into(), f(|s| s.loss)).into_column(),
                Values::new("eval_loss".into(), s.iter().map(|s| s.eval_loss).collect::<Vec<_>>())
                    .into_column(),
                Values::new("gradient_norm".into(), f(|s| s.gradient_norm)).into_column(),
                Values::new("lr".into(), f(|s| s.lr)).into_column(),
                Values::new("tokens".into(), u(|s| s.tokens as u64)).into_column(),
                Values::new("trained_tokens".into(), u(|s| s.trained_tokens as u64)).into_column(),
                Values::new("seconds".into(), f(|s| s.seconds)).into_column(),
                Values::new("tokens_per_second".into(), f(StepReport::tokens_per_second)).into_column(),
                Values::new("memory".into(), s.iter().map(|s| s.memory).collect::<Vec<_>>()).into_column(),
            ],
        )?)
    }

    /// Writes the [frame](Self::frame) as the file's name says, `.parquet` or `.csv`, or the whole reports, one in
    /// a line, as `.jsonl`; the file appears whole or not at all.
    ///
    /// # Errors
    /// When the name says none of them, the file exists, or it cannot be written.
    ///
    /// # Examples
    /// ```
    /// use lorascope::run::History;
    /// use lorascope::train::StepReport;
    ///
    /// let step = StepReport { step: 1, loss: 2.5, lr: 2e-4, ..StepReport::default() };
    /// let history = History::new(vec![step], "");
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("/tmp", e))?;
    /// let path = folder.path().join("history.csv");
    /// history.save(&path)?;
    /// let text = std::fs::read_to_string(&path).unwrap();
    /// assert!(text.lines().nth(1).unwrap().starts_with("1,0.0,2.5,,0.0,0.0002,"));
    /// assert!(history.save(&path).is_err()); // it exists: `overwrite` replaces it
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.write(path.as_ref(), Existing::Refuse)
    }

    /// As [`save`](Self::save), and replaces a file that exists.
    ///
    /// # Errors
    /// When the name says none of these forms, or the file cannot be written.
    pub fn overwrite(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.write(path.as_ref(), Existing::Replace)
    }

    fn write(&self, path: &Path, existing: Existing) -> Result<Text> {
        let mut frame = self.frame()?;
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        let bytes = match ending.as_deref().and_then(|ending| ending.to_str()) {
            Some("parquet") => {
                let mut bytes = Vec::new();
                ParquetWriter::new(&mut bytes).finish(&mut frame)?;
                bytes
            }
            Some("csv") => csv_of(&frame)?,
            Some("jsonl") => {
                let lines = self.steps.iter().map(|step| Ok(step.json()? + "\n"));
                lines.collect::<Result<String>>()?.into_bytes()
            }
            _ => {
                return Err(Error::input("a history is written as Parquet, CSV or lines of JSON")
                    .path(path)
                    .help("end the name in .parquet, .csv or .jsonl"));
            }
        };
        write_whole(path, &bytes, existing)?;
        Ok(Text::new(format!("{} steps written to {}", self.len(), path.display())))
    }

    /// The loss curve: each step, a smoothed line, and the evaluations.
    ///
    /// # Errors
    /// When there is no step yet.
    pub fn plot(&self) -> Result<Figure> {
        self.begun()?;
        let figure = lines("Loss", "step", LOSS, &self.losses(), Scale::Linear)?;
        Ok(figure.with_footer(&self.footer))
    }

    /// Loss with the evaluations, learning rate and gradient norm over the same steps, one below the other.
    ///
    /// # Errors
    /// When there is no step yet.
    pub fn curves(&self) -> Result<Figure> {
        self.begun()?;
        let points =
            |value: fn(&StepReport) -> f64| self.steps.iter().map(move |s| (s.step as f64, value(s)));
        let measures = [
            Measure::new(LOSS, self.losses()),
            Measure::new("learning rate", [Series::line("learning rate", points(|s| s.lr)).coloured(RATE)]),
            Measure::new(
                "gradient norm",
                [Series::line("gradient norm", points(|s| s.gradient_norm)).coloured(NORM)],
            ),
        ];
        Ok(stack("Loss, learning rate, gradient norm", "step", &measures)?.with_footer(&self.footer))
    }
}

impl History {
    /// The loss of each step with its mean, and the evaluations in their own colour.
    fn losses(&self) -> Vec<Series> {
        let steps = self.steps.iter().map(|s| (s.step as f64, s.loss));
        let mut evaluated: BTreeMap<u64, f64> = self.evaluated.iter().copied().collect();
        evaluated.extend(self.steps.iter().filter_map(|s| Some((s.step, s.eval_loss?))));
        let mut series = vec![Series::smoothed("training", steps, 8.0).coloured(TRAINING)];
        if !evaluated.is_empty() {
            let evaluated = evaluated.into_iter().map(|(step, loss)| (step as f64, loss));
            series.push(Series::marks("evaluation", evaluated).coloured(EVALUATION));
        }
        series
    }

    /// Adds evaluations that were made outside of the steps: after which step, and the loss.
    pub(crate) fn with_evaluations(self, evaluated: Vec<(u64, f64)>) -> Self {
        Self { evaluated, ..self }
    }

    fn begun(&self) -> Result<()> {
        match self.steps.is_empty() {
            true => Err(Error::state("no step yet").help("run.step() or run.start(n)")),
            false => Ok(()),
        }
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "History({} steps)", self.len())
    }
}

impl Show for History {
    fn show(&self) -> Bundle {
        if self.steps.is_empty() {
            return Text::new("no step yet: run.step() or run.start(n)").show();
        }
        let table = table(&self.steps).caption(format!("{} steps", self.steps.len()));
        match self.plot() {
            Ok(figure) if self.steps.len() > 1 => (figure, table).show(),
            _ => table.show(),
        }
    }
}

/// Numbers in the shortest form that reads back as the same; nothing where there is none.
fn csv_of(frame: &DataFrame) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| Error::compute(format!("no CSV: {error}"));
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(frame.get_column_names().iter().map(|name| name.as_str())).map_err(|e| failed(&e))?;
    for row in 0..frame.height() {
        let cells = frame.columns().iter().map(|column| {
            Ok(match column.get(row)? {
                AnyValue::Null => String::new(),
                AnyValue::Float64(number) => format!("{number:?}"),
                other => other.to_string(),
            })
        });
        let cells: Vec<String> = cells.collect::<Result<_>>()?;
        out.write_record(&cells).map_err(|e| failed(&e))?;
    }
    out.into_inner().map_err(|e| failed(&e))
}
