//! Histograms.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, nice, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{AXIS, heading};
use super::numbers::{drawable, nothing, sparkline};
use super::palette;
use crate::display::thousands;
use crate::error::Result;

const WIDTH: f64 = 720.0;

/// Draws how often values occur, in the bins of [`Histogram::of`].
///
/// # Errors
/// When no value is finite.
///
/// # Examples
/// ```
/// use lorascope::plot::histogram;
///
/// let lengths: Vec<f64> = (0..500).map(|i| 100.0 + f64::from(i * i % 97)).collect();
/// let figure = histogram("Lengths", "tokens", "rows", &lengths)?;
/// assert!(figure.svg().contains("tokens"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn histogram(title: &str, x_label: &str, y_label: &str, values: &[f64]) -> Result<Figure> {
    match Histogram::of(values) {
        Some(histogram) => histogram.figure(title, x_label, y_label),
        None => Err(nothing(title, "no value is a finite number")),
    }
}

/// How many values lie in each of some bins of equal width.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Histogram {
    /// Where the first bin begins.
    pub begin: f64,
    /// The width of a bin; the first holds `begin <= value < begin + width`.
    pub width: f64,
    /// Values in each bin.
    pub counts: Vec<u64>,
    /// Values above the last bin.
    pub above: u64,
    /// The least value.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The greatest value.
    pub greatest: f64,
    /// Whether all values in bins are whole numbers.
    pub whole: bool,
}

impl Histogram {
    /// Bins of the width that Freedman and Diaconis (1981) advise, held between a 60th and a 20th of
    /// the range and rounded up to 1, 2 or 5 times a power of ten: about 8 to 60 of them, and fewer
    /// where values are whole, whose bins are no narrower than 1, or all the same. A tail that lies
    /// more than twice as far above the least value as the 99th percentile does is left out and
    /// counted in [`above`](Self::above). `None` when no value is finite.
    ///
    /// # Examples
    /// ```
    /// use lorascope::plot::Histogram;
    ///
    /// let dice = Histogram::of(&[1.0, 2.0, 2.0, 3.0, 6.0]).unwrap();
    /// assert_eq!((dice.begin, dice.width), (1.0, 1.0));
    /// assert_eq!(dice.counts, [1, 2, 1, 0, 0, 1]);
    /// ```
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| drawable(*value)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let quantile = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
        let limit = least + 2.0 * (quantile(0.99) - least);
        let high = if limit > least { greatest.min(limit) } else { greatest };
        let drawn = sorted.partition_point(|&value| value <= high);
        let size = least.abs().max(high.abs());
        let whole = size < 1e12 && sorted[..drawn].iter().all(|value| value.fract() == 0.0);
        let spread = 2.0 * (quantile(0.75) - quantile(0.25)) / (drawn as f64).cbrt();
        // Never so narrow that the edges of a bin are the same number.
        let finest = (size * 1e-12).max(f64::MIN_POSITIVE);
        let mut width = nice(spread.clamp((high - least) / 60.0, (high - least) / 20.0).max(finest));
        if whole {
            width = width.max(1.0);
        }
        if high == least {
            width = if whole { 1.0 } else { nice(size / 100.0) };
        }
        let begin = (least / width).floor();
        let bin = |value: f64| ((value / width).floor() - begin).max(0.0) as usize;
        let mut counts = vec![0; bin(high) + 1];
        // The last bin is full too: what is left out lies above it.
        let kept = sorted.iter().map(|&value| bin(value)).take_while(|&bin| bin < counts.len());
        let kept: Vec<usize> = kept.collect();
        kept.iter().for_each(|&bin| counts[bin] += 1);
        Some(Self {
            begin: begin * width,
            width,
            counts,
            above: (sorted.len() - kept.len()) as u64,
            least,
            // By the nearest rank, as in the tables of lengths.
            median: sorted[sorted.len().div_ceil(2) - 1],
            greatest,
            whole,
        })
    }

    /// Draws the bins; a tail that is left out is said so.
    ///
    /// # Errors
    /// When there is no bin.
    pub fn figure(&self, title: &str, x_label: &str, y_label: &str) -> Result<Figure> {
        if self.counts.is_empty() {
            return Err(nothing(title, "there is no bin"));
        }
        let note = match self.above {
            0 => String::new(),
            n => format!(
                "{} above {} not drawn, the largest {}",
                thousands(n),
                short(self.begin + self.counts.len() as f64 * self.width),
                short(self.greatest)
            ),
        };
        let counts: Vec<f64> = self.counts.iter().map(|&count| count as f64).collect();
        let size = (WIDTH, 320.0);
        let most = counts.iter().copied().fold(0.0, f64::max);
        let y = Axis::new((0.0, most * 1.04), Scale::Linear).whole(true).over(size.1 - 46.0, 64.0);
        let left = 22.0 + y.label_width(34.0);
        let edge = |index: usize| (self.begin / self.width + index as f64) * self.width;
        let ends = (edge(0), edge(counts.len()));
        let x = Axis::new(ends, Scale::Linear).whole(self.whole).over(left, WIDTH - 24.0);
        let body = Canvas::draw(size, |canvas| {
            heading(canvas, title, WIDTH)?;
            canvas.text(y_label, (12.0, 46.0), AXIS)?;
            canvas.text(&note, (WIDTH - 24.0, 46.0), Label::SMALL.at(HPos::Right, VPos::Center))?;
            y.draw_left(canvas, left, x.to, true)?;
            for (index, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
                let at = |index: usize| x.at(edge(index)).unwrap_or(x.to);
                let top = y.at(count).unwrap_or(y.to);
                canvas.rect((at(index) + 0.5, top), (at(index + 1) - 0.5, y.from), palette::series(0))?;
            }
            x.draw_below(canvas, y.from, 64.0, true)?;
            let middle = (x.from + x.to) / 2.0;
            canvas.text(x_label, (middle, y.from + 26.0), AXIS.at(HPos::Center, VPos::Top))
        })?;
        let text = format!(
            "{} {y_label}: {x_label} {} to {}, median {} {}\n",
            thousands(self.counts.iter().sum::<u64>() + self.above),
            short(self.least),
            short(self.greatest),
            short(self.median),
            sparkline(&counts)
        );
        let count = self.counts.len();
        let tail = (self.above > 0).then_some((edge(count), self.greatest, self.above as f64));
        let rows: Vec<(f64, f64, f64)> =
            (0..count).map(|bin| (edge(bin), edge(bin + 1), counts[bin])).chain(tail).collect();
        let data = FigureData::default()
            .number(&format!("{x_label} from"), rows.iter().map(|row| row.0))
            .number(&format!("{x_label} to"), rows.iter().map(|row| row.1))
            .number(y_label, rows.iter().map(|row| row.2));
        Ok(Figure::new(title, size, body, text, data))
    }
}
