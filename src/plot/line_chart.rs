//! Lines and points over a common pair of axes: losses, learning rates.

use super::axis::{Axis, Scale, short};
use super::canvas::Canvas;
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{Frame, Legend};
use super::numbers::{drawable, nothing, range, sparkline};
use super::palette;
use super::pen::Pen;
use super::series::{Series, Style};
use crate::display::{Bundle, Show, failed};
use crate::error::Result;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;

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
    let (x, y) = axes(title, series, scale)?;
    let legend = Legend::lines(series, WIDTH - 24.0);
    let frame = Frame::new((WIDTH, HEIGHT), legend, x, y, 24.0);
    let body = Canvas::draw(frame.size, |canvas| {
        frame.draw(canvas, title, x_label, y_label)?;
        series
            .iter()
            .enumerate()
            .try_for_each(|(index, series)| draw(canvas, series, index, &frame.x, &frame.y))
    })?;
    let text = series.iter().map(summary).collect();
    Ok(Figure::new(title, frame.size, body, text, long(series, x_label, y_label)))
}

/// Axes that hold all points; the upper end of y has a margin.
pub(super) fn axes<'a>(
    title: &str,
    series: impl IntoIterator<Item = &'a Series>,
    scale: Scale,
) -> Result<(Axis, Axis)> {
    let series: Vec<&Series> = series.into_iter().collect();
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
    Ok((Axis::new(xs, Scale::Linear).whole(whole), Axis::new(ys, scale).padded(0.05)))
}

/// The points of all series under each other.
pub(super) fn long(series: &[Series], x_label: &str, y_label: &str) -> FigureData {
    let points = || series.iter().flat_map(|series| &series.points);
    let names = series.iter().flat_map(|series| series.points.iter().map(|_| series.name.as_str()));
    FigureData::default()
        .text("series", names)
        .number(x_label, points().map(|p| p.0))
        .number(y_label, points().map(|p| p.1))
}

/// Draws one series with the colour, the dashes and the marks of its own or of its index.
pub(super) fn draw(canvas: &mut Canvas<'_>, series: &Series, index: usize, x: &Axis, y: &Axis) -> Result<()> {
    let index = series.colour.unwrap_or(index);
    let ink = palette::series(index);
    match series.style {
        Style::Line => curve(canvas, &series.points, palette::pen(index, 2.0), x, y),
        Style::Marks => {
            curve(canvas, &series.points, Pen::new(ink.faded(0.6), 1.2), x, y)?;
            for &(a, b) in &series.points {
                if let (Some(a), Some(b)) = (x.at(a), y.at(b)) {
                    canvas.mark(index, (a, b), 3.6, ink)?;
                }
            }
            Ok(())
        }
        Style::Smoothed { span } => {
            curve(canvas, &series.points, Pen::new(ink.faded(0.55), 1.0), x, y)?;
            curve(canvas, &series.mean(span), palette::pen(index, 2.4), x, y)
        }
    }
}

/// A polyline with gaps where a point does not fit the axes; a point between two gaps is a dot.
pub(super) fn curve(
    canvas: &mut Canvas<'_>,
    points: &[(f64, f64)],
    pen: Pen,
    x: &Axis,
    y: &Axis,
) -> Result<()> {
    let pixels: Vec<Option<(f64, f64)>> = points.iter().map(|&(a, b)| Some((x.at(a)?, y.at(b)?))).collect();
    for part in pixels.split(Option::is_none) {
        let part: Vec<(f64, f64)> = thin(part.iter().flatten().copied());
        match part[..] {
            [] => {}
            [point] => canvas.dot(point, pen.width * 1.2, pen.ink)?,
            _ => canvas.path(&part, pen)?,
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

pub(super) fn summary(series: &Series) -> String {
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

impl Show for Series {
    /// Drawn alone.
    fn show(&self) -> Bundle {
        match lines(&self.name, "x", "y", std::slice::from_ref(self), Scale::Linear) {
            Ok(figure) => figure.show(),
            Err(error) => failed(error, ""),
        }
    }
}
