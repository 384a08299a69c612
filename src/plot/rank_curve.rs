//! The rank curve: a measurement over ranks with its noise band.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{Frame, Legend, LegendSample};
use super::line_chart::{draw, summary};
use super::numbers::{drawable, nothing, range};
use super::palette;
use super::pen::{Dash, Ink, Pen};
use super::series::{Series, Style};
use crate::error::Result;

/// A measurement with its noise at one rank of a [`rank_curve`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NoisyPoint {
    /// The rank.
    pub x: f64,
    /// The lower end of the noise.
    pub low: f64,
    /// The measurement.
    pub middle: f64,
    /// The upper end of the noise.
    pub high: f64,
}

/// Draws a measurement (an evaluation loss) over ranks in the band of its noise, on a log axis with ticks
/// at powers of two, or at the ranks measured where it holds fewer than two of them. `chosen` is a rank
/// that an upright line marks; `further` are series for comparison, drawn as marks: runs trained at those
/// ranks.
///
/// # Errors
/// When no point has a positive rank and a finite measurement.
///
/// # Examples
/// ```
/// use lorascope::plot::{Series, NoisyPoint, rank_curve};
///
/// let at = |rank: f64, loss: f64| NoisyPoint { x: rank, low: loss - 0.02, middle: loss, high: loss + 0.02 };
/// let curve = [at(1.0, 1.4), at(2.0, 1.2), at(4.0, 1.11), at(8.0, 1.10)];
/// let trained = Series::marks("trained at this rank", [(4.0, 1.09)]);
/// let figure = rank_curve("Rank", "nats per token", "cut to this rank", &curve, Some(4.0), &[trained])?;
/// assert!(figure.svg().contains("rank 4"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn rank_curve(
    title: &str,
    y_label: &str,
    name: &str,
    curve: &[NoisyPoint],
    chosen: Option<f64>,
    further: &[Series],
) -> Result<Figure> {
    let marks = further.iter().map(|series| Series { style: Style::Marks, ..series.clone() });
    let middle = Series::marks(name, curve.iter().map(|spread| (spread.x, spread.middle)));
    let series: Vec<Series> = std::iter::once(middle).chain(marks).collect();
    let visible = |(x, y): &&(f64, f64)| *x > 0.0 && drawable(*x) && drawable(*y);
    let points = || series.iter().flat_map(|series| &series.points).filter(visible);
    let noise = curve.iter().filter(|spread| spread.x > 0.0).flat_map(|spread| [spread.low, spread.high]);
    let (Some(xs), Some(ys)) = (range(points().map(|p| p.0)), range(points().map(|p| p.1).chain(noise)))
    else {
        return Err(nothing(title, "no point has a positive rank and a finite measurement"));
    };
    let chosen = chosen.filter(|rank| *rank > 0.0 && drawable(*rank));
    let xs = chosen.map_or(xs, |rank| (xs.0.min(rank), xs.1.max(rank)));
    let ranks = points().map(|p| p.0).chain(chosen);
    let x = Axis::new(xs, Scale::Log).padded(0.03).at_ranks(ranks);
    let y = Axis::new(ys, Scale::Linear).padded(0.05);
    let banded = format!("{name}, with its noise");
    let names = std::iter::once((banded.as_str(), LegendSample::Mark))
        .chain(series[1..].iter().map(|series| (series.name.as_str(), LegendSample::Mark)));
    let frame = Frame::new((720.0, 380.0), Legend::of(names, 696.0), x, y, 24.0).with_room(16.0);
    let (top, bottom) = frame.ends();
    let body = Canvas::draw(frame.size, |canvas| {
        frame.draw(canvas, title, "rank r, log scale", y_label)?;
        ribbon(canvas, curve, &frame)?;
        if let Some((rank, at)) = chosen.and_then(|rank| Some((rank, frame.x.at(rank)?))) {
            let pen = Pen::new(Ink::text(0.7), 1.2).dashed(Dash::Long);
            canvas.path(&[(at, top), (at, bottom)], pen)?;
            // Above the plot, where no point lies.
            let text = format!("rank {}", short(rank));
            let half = Label::SMALL.width(&text) / 2.0;
            let label = Label { bold: true, ..Label::SMALL.at(HPos::Center, VPos::Center) };
            canvas.text(&text, (at.min(frame.size.0 - 12.0 - half * 1.1), top - 12.0), label)?;
        }
        series
            .iter()
            .enumerate()
            .try_for_each(|(index, series)| draw(canvas, series, index, &frame.x, &frame.y))
    })?;
    let said = chosen.map_or_else(String::new, |rank| format!("chosen: rank {}\n", short(rank)));
    let lines: String = curve
        .iter()
        .map(|s| {
            format!("rank {}: {} ({} to {})\n", short(s.x), short(s.middle), short(s.low), short(s.high))
        })
        .collect();
    let text = format!("{y_label}\n{lines}{}{said}", series[1..].iter().map(summary).collect::<String>());
    Ok(Figure::new(title, frame.size, body, text, data(name, curve, further, y_label)))
}

/// The noise as a filled shape for each run of points that have it.
fn ribbon(canvas: &mut Canvas<'_>, curve: &[NoisyPoint], frame: &Frame) -> Result<()> {
    let place = |spread: &NoisyPoint| {
        Some((frame.x.at(spread.x)?, frame.y.at(spread.low)?, frame.y.at(spread.high)?))
    };
    let places: Vec<Option<(f64, f64, f64)>> = curve.iter().map(place).collect();
    for part in places.split(Option::is_none) {
        let part: Vec<(f64, f64, f64)> = part.iter().flatten().copied().collect();
        let ink = palette::series(0).faded(0.22);
        if let [(x, low, high)] = part[..] {
            canvas.rect((x - 3.0, high.min(low)), (x + 3.0, low.max(high)), ink)?;
            continue;
        }
        let lower = part.iter().map(|&(x, low, _)| (x, low));
        let upper = part.iter().rev().map(|&(x, _, high)| (x, high));
        let around: Vec<(f64, f64)> = lower.chain(upper).collect();
        if !around.is_empty() {
            canvas.shape(&around, ink)?;
        }
    }
    Ok(())
}

fn data(name: &str, curve: &[NoisyPoint], further: &[Series], y_label: &str) -> FigureData {
    let more = || {
        further
            .iter()
            .flat_map(|series| series.points.iter().map(move |&(x, y)| (series.name.as_str(), x, y)))
    };
    let rows: Vec<(&str, f64, f64, f64, f64)> = curve
        .iter()
        .map(|spread| (name, spread.x, spread.middle, spread.low, spread.high))
        .chain(more().map(|(name, x, y)| (name, x, y, f64::NAN, f64::NAN)))
        .collect();
    FigureData::default()
        .text("series", rows.iter().map(|row| row.0))
        .number("rank", rows.iter().map(|row| row.1))
        .number(y_label, rows.iter().map(|row| row.2))
        .number("low", rows.iter().map(|row| row.3))
        .number("high", rows.iter().map(|row| row.4))
}
