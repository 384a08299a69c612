//! Lines and points over a common pair of axes: losses, learning rates.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Ink, Label};
use super::data::Data;
use super::figure::Figure;
use super::{drawable, nothing, palette, range, sparkline};
use crate::error::Result;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;

/// How a [`Series`] is drawn.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Style {
    /// One line through the points.
    Line,
    /// The points themselves, joined by a thin line: evaluations.
    Marks,
    /// A thin line through the points and a thick one through their running mean, an exponential
    /// one with weight 2/(span + 1) and corrected for its start.
    Smoothed {
        /// Points that the mean reaches back.
        span: f64,
    },
}

/// Named points of a chart.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// (x, y) in ascending x; NaN and infinity are gaps.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
}

impl Series {
    /// A series drawn as one line.
    pub fn line(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), style: Style::Line }
    }

    /// A series drawn as marks.
    pub fn marks(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { style: Style::Marks, ..Self::line(name, points) }
    }

    /// A series drawn thin, with its running mean over about `span` points drawn thick.
    pub fn smoothed(
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64)>,
        span: f64,
    ) -> Self {
        Self { style: Style::Smoothed { span }, ..Self::line(name, points) }
    }

    fn mean(&self, span: f64) -> Vec<(f64, f64)> {
        let keep = 1.0 - 2.0 / (span.max(1.0) + 1.0);
        let (mut sum, mut weight) = (0.0, 0.0);
        let mut step = |(x, y): &(f64, f64)| {
            if !drawable(*y) {
                return (*x, f64::NAN);
            }
            sum = keep * sum + (1.0 - keep) * y;
            weight = keep * weight + (1.0 - keep);
            (*x, sum / weight)
        };
        self.points.iter().map(&mut step).collect()
    }
}

/// Draws series over a common x axis, with the legend above the plot.
///
/// # Errors
/// When no series has a point that can be drawn (on a log scale: a positive one).
///
/// # Examples
/// ```
/// use lorascope::plot::{Scale, Series, lines};
///
/// let train = Series::smoothed("training", (0..50).map(|i| (i as f64, 3.0 / (1.0 + i as f64))), 10.0);
/// let test = Series::marks("evaluation", [(0.0, 3.1), (49.0, 0.2)]);
/// let figure = lines("Loss", "step", "nats per token", &[train, test], Scale::Log)?;
/// assert!(figure.svg().contains("evaluation"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn lines(title: &str, x_label: &str, y_label: &str, series: &[Series], scale: Scale) -> Result<Figure> {
    let visible = |&(x, y): &(f64, f64)| drawable(x) && drawable(y) && (scale == Scale::Linear || y > 0.0);
    let points = || series.iter().flat_map(|series| &series.points).copied().filter(visible);
    let (Some(xs), Some(ys)) = (range(points().map(|p| p.0)), range(points().map(|p| p.1))) else {
        let missing = match (series.is_empty(), scale) {
            (true, _) => "no series was given",
            (_, Scale::Log) => "no series has a positive number, which a log scale needs",
            _ => "no series has a finite number",
        };
        return Err(nothing(title, missing));
    };
    let whole = points().all(|(x, _)| x.fract() == 0.0);
    let x = Axis::new(xs, Scale::Linear).whole(whole);
    let y = Axis::new(ys, scale).padded(0.05);
    let legend = Legend::new(series.iter().map(|series| series.name.as_str()), WIDTH - 24.0);
    let top = 64.0 + legend.height();
    let bottom = HEIGHT + legend.height() - 46.0;
    let y = y.over(bottom, top);
    let left = 22.0 + y.label_width(34.0);
    let x = x.over(left, WIDTH - 24.0);
    let size = (WIDTH, HEIGHT + legend.height());
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        legend.draw(canvas, 12.0, 36.0)?;
        canvas.text(y_label, (12.0, top - 14.0), AXIS)?;
        y.draw_left(canvas, left, x.to, true)?;
        x.draw_below(canvas, bottom, 64.0, true)?;
        let middle = (x.from + x.to) / 2.0;
        canvas.text(x_label, (middle, bottom + 26.0), AXIS.at(HPos::Center, VPos::Top))?;
        for (index, series) in series.iter().enumerate() {
            draw(canvas, series, palette::series(index), &x, &y)?;
        }
        Ok(())
    })?;
    let text = series.iter().map(summary).collect();
    Ok(Figure::new(title, size, body, text, long(series, x_label, y_label)))
}

/// The points of all series under each other.
pub(super) fn long(series: &[Series], x_label: &str, y_label: &str) -> Data {
    let points = || series.iter().flat_map(|series| &series.points);
    let names = series.iter().flat_map(|series| series.points.iter().map(|_| series.name.as_str()));
    Data::default()
        .text("series", names)
        .number(x_label, points().map(|p| p.0))
        .number(y_label, points().map(|p| p.1))
}

/// The name of an axis.
pub(super) const AXIS: Label = Label { size: 12.0, ink: Ink::text(0.75), ..Label::SMALL };

/// The title of a figure, cut where it would leave the picture.
pub(super) fn heading(canvas: &mut Canvas<'_>, title: &str, width: f64) -> Result<()> {
    canvas.text(&Label::TITLE.fit(title, width - 24.0), (12.0, 20.0), Label::TITLE)
}

fn draw(canvas: &mut Canvas<'_>, series: &Series, ink: Ink, x: &Axis, y: &Axis) -> Result<()> {
    match series.style {
        Style::Line => curve(canvas, &series.points, ink, 2.0, x, y),
        Style::Marks => {
            curve(canvas, &series.points, ink.faded(0.6), 1.2, x, y)?;
            for &(a, b) in &series.points {
                if let (Some(a), Some(b)) = (x.at(a), y.at(b)) {
                    canvas.dot((a, b), 3.6, ink)?;
                }
            }
            Ok(())
        }
        Style::Smoothed { span } => {
            curve(canvas, &series.points, ink.faded(0.55), 1.0, x, y)?;
            curve(canvas, &series.mean(span), ink, 2.4, x, y)
        }
    }
}

/// A polyline with gaps where a point does not fit the axes; a point between two gaps is a dot.
pub(super) fn curve(
    canvas: &mut Canvas<'_>,
    points: &[(f64, f64)],
    ink: Ink,
    width: f64,
    x: &Axis,
    y: &Axis,
) -> Result<()> {
    let pixels: Vec<Option<(f64, f64)>> = points.iter().map(|&(a, b)| Some((x.at(a)?, y.at(b)?))).collect();
    for part in pixels.split(Option::is_none) {
        let part: Vec<(f64, f64)> = thin(part.iter().flatten().copied());
        match part[..] {
            [] => {}
            [point] => canvas.dot(point, width * 1.2, ink)?,
            _ => canvas.path(&part, ink, width)?,
        }
    }
    Ok(())
}

/// Keeps of each half pixel's points the first, the lowest, the highest and the last: the picture
/// stays the same, and its size no longer grows with the run.
fn thin(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points: Vec<_> = points.collect();
    let same = |a: &(f64, f64), b: &(f64, f64)| (a.0 * 2.0).floor() == (b.0 * 2.0).floor();
    let mut kept = Vec::new();
    for part in points.chunk_by(same) {
        if part.len() <= 4 {
            kept.extend_from_slice(part);
            continue;
        }
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [part.first(), part.iter().min_by(by_height), part.iter().max_by(by_height), part.last()];
        kept.extend(ends.into_iter().flatten());
    }
    kept
}

/// Names beside strokes of their colours, in as many rows as they need.
pub(super) struct Legend {
    /// Name, column in pixels, row, index of the series.
    entries: Vec<(String, f64, usize, usize)>,
}

impl Legend {
    const ROW: f64 = 18.0;
    const STROKE: f64 = 26.0;

    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>, width: f64) -> Self {
        let (mut entries, mut column, mut row) = (Vec::new(), 0.0, 0);
        for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
            let name = Label::SMALL.fit(name, width - Self::STROKE);
            let length = Self::STROKE + Label::SMALL.width(&name) + 18.0;
            if column > 0.0 && column + length > width {
                (column, row) = (0.0, row + 1);
            }
            entries.push((name, column, row, index));
            column += length;
        }
        Self { entries }
    }

    /// Pixels that the rows take.
    pub(super) fn height(&self) -> f64 {
        self.entries.last().map_or(0.0, |(_, _, row, _)| (row + 1) as f64 * Self::ROW)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, left: f64, top: f64) -> Result<()> {
        for (name, column, row, index) in &self.entries {
            let (x, y) = (left + column, top + (*row as f64 + 0.5) * Self::ROW);
            canvas.line((x, y), (x + Self::STROKE - 8.0, y), palette::series(*index), 3.0)?;
            canvas.text(name, (x + Self::STROKE - 2.0, y), Label::SMALL)?;
        }
        Ok(())
    }
}

fn summary(series: &Series) -> String {
    let values: Vec<f64> = series.points.iter().map(|p| p.1).collect();
    let Some((low, high)) = range(values.iter().copied()) else {
        return format!("{}: no finite number\n", series.name);
    };
    let mut finite = values.iter().copied().filter(|value| drawable(*value));
    let first = finite.next().unwrap_or(low);
    let last = finite.next_back().unwrap_or(first);
    format!(
        "{}: {} → {} (least {}, most {}) {}\n",
        series.name,
        short(first),
        short(last),
        short(low),
        short(high),
        sparkline(&values)
    )
}
