//! Lines and points over a common pair of axes: losses, learning rates.

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Pen};
use super::data::Data;
use super::figure::Figure;
use super::frame::{Frame, Legend};
use super::{drawable, nothing, palette, range, sparkline};
use crate::display::{Bundle, Show, failed};
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
    /// A thin line through the points and a thick one through their local mean: at each point the value of
    /// the straight line that fits its neighbours best (Cleveland 1979), of which one d points away weighs
    /// (1 − 2/(span + 1))^d. So it does not lag behind a loss that falls, and ends where the loss ends.
    Smoothed {
        /// Points that the mean reaches to each side, about.
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
    /// Which of the colours and dashes it has, from 0; `None` is that of its place among the others. What
    /// has one meaning in several figures has one colour by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<usize>,
}

impl Series {
    /// A series drawn as one line.
    pub fn line(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), style: Style::Line, colour: None }
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

    /// The same series in the colour of this number.
    #[must_use]
    pub fn coloured(self, colour: usize) -> Self {
        Self { colour: Some(colour), ..self }
    }

    fn mean(&self, span: f64) -> Vec<(f64, f64)> {
        let keep = 1.0 - 2.0 / (span.max(1.0) + 1.0);
        let finite: Vec<f64> = self.points.iter().map(|point| point.1).filter(|y| drawable(*y)).collect();
        let Some((low, high)) = range(finite.iter().copied()) else { return self.points.clone() };
        // Of numbers about 1 no product of sums overflows.
        let unit = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        let scaled = || finite.iter().map(|y| y / unit);
        let before = Moments::along(scaled(), keep);
        let mut after = Moments::along(scaled().rev(), keep);
        after.reverse();
        let sides = before.iter().zip(&after).zip(scaled());
        let mut fitted = sides.map(|((before, after), y)| (before.with(after, y) * unit).clamp(low, high));
        let mut value = |y: f64| if drawable(y) { fitted.next() } else { None };
        self.points.iter().map(|&(x, y)| (x, value(y).unwrap_or(f64::NAN))).collect()
    }
}

/// Sums over the points up to one of them, which is at a distance of 0: of the weights w, of w·d and w·d² of
/// the distances d, of w·y and w·d·y.
#[derive(Clone, Copy, Default)]
struct Moments {
    weight: f64,
    first: f64,
    second: f64,
    value: f64,
    moment: f64,
}

impl Moments {
    /// The sums at each point; a point further weighs `keep` times as much.
    fn along(values: impl Iterator<Item = f64>, keep: f64) -> Vec<Self> {
        let mut sums = Self::default();
        let step = |y: f64| {
            let Self { weight, first, second, value, moment } = sums;
            sums = Self {
                weight: keep * weight + 1.0,
                first: keep * (first + weight),
                second: keep * (second + 2.0 * first + weight),
                value: keep * value + y,
                moment: keep * (moment + value),
            };
            sums
        };
        values.map(step).collect()
    }

    /// The value at this point, which is y, of the line that fits the points on both sides best.
    fn with(&self, other: &Self, y: f64) -> f64 {
        let weight = self.weight + other.weight - 1.0;
        let first = other.first - self.first;
        let second = self.second + other.second;
        let (value, moment) = (self.value + other.value - y, other.moment - self.moment);
        let spread = weight * second - first * first;
        // A point without neighbours, or with one on one side, which the line meets.
        if spread < 1e-9 { value / weight } else { (second * value - first * moment) / spread }
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
pub(super) fn long(series: &[Series], x_label: &str, y_label: &str) -> Data {
    let points = || series.iter().flat_map(|series| &series.points);
    let names = series.iter().flat_map(|series| series.points.iter().map(|_| series.name.as_str()));
    Data::default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_mean_follows_a_line_and_ends_where_the_points_end() {
        let falling = Series::smoothed("", (0..40).map(|n| (f64::from(n), 2.0 - 0.05 * f64::from(n))), 8.0);
        for ((_, mean), (_, loss)) in falling.mean(8.0).iter().zip(&falling.points) {
            assert!((mean - loss).abs() < 1e-9, "{mean} at {loss}");
        }
        // Noise about it is smoothed away.
        let noisy = |n: i32| 2.0 - 0.05 * f64::from(n) + if n % 2 == 0 { 0.1 } else { -0.1 };
        let noisy = Series::smoothed("", (0..40).map(|n| (f64::from(n), noisy(n))), 8.0);
        for ((_, mean), (_, loss)) in noisy.mean(8.0).iter().zip(&falling.points).skip(4).take(32) {
            assert!((mean - loss).abs() < 0.03, "{mean} at {loss}");
        }
    }

    #[test]
    fn the_local_mean_is_the_weighted_least_squares_line_at_each_point() {
        let y: Vec<f64> = (0..12).map(|n| f64::from(n * n % 7)).collect();
        let series = Series::smoothed("", (0..).map(f64::from).zip(y.iter().copied()), 3.0);
        let keep: f64 = 0.5;
        for (i, (_, mean)) in series.mean(3.0).iter().enumerate() {
            let weighted = || {
                y.iter()
                    .enumerate()
                    .map(|(j, y)| (j as f64 - i as f64, y))
                    .map(|(d, y)| (keep.powf(d.abs()), d, y))
            };
            let sum =
                |of: &dyn Fn(f64, f64, f64) -> f64| weighted().map(|(w, d, y)| of(w, d, *y)).sum::<f64>();
            let (s0, s1, s2) = (sum(&|w, _, _| w), sum(&|w, d, _| w * d), sum(&|w, d, _| w * d * d));
            let (t0, t1) = (sum(&|w, _, y| w * y), sum(&|w, d, y| w * d * y));
            let fit = ((s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)).clamp(0.0, 6.0);
            assert!((mean - fit).abs() < 1e-9, "{mean} is not {fit} at {i}");
        }
    }

    #[test]
    fn the_local_mean_of_few_or_odd_points() {
        let mean = |y: &[f64]| -> Vec<f64> {
            let series = Series::smoothed("", (0..).map(f64::from).zip(y.iter().copied()), 8.0);
            series.mean(8.0).iter().map(|point| point.1).collect()
        };
        assert_eq!(mean(&[]), [0.0; 0]);
        assert_eq!(mean(&[2.5]), [2.5]);
        assert!((mean(&[2.0, 1.0])[1] - 1.0).abs() < 1e-9);
        let gap = mean(&[2.0, f64::NAN, 2.0]);
        assert!(gap[1].is_nan() && gap[0] == 2.0 && gap[2] == 2.0, "{gap:?}");
        assert!(mean(&[1e299, 1e298, 1e299]).iter().all(|value| (1e298..=1e299).contains(value)));
        assert_eq!(mean(&[0.0, 0.0, 0.0]), [0.0; 3]);
    }
}
