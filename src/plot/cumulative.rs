//! Cumulative distribution curves.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::frame::{AXIS, Legend, LegendSample, heading};
use super::line_chart::{curve, long};
use super::numbers::{drawable, nothing, range, sparkline};
use super::palette;
use super::pen::Ink;
use super::series::Series;
use crate::display::thousands;
use crate::error::Result;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;

/// Draws cumulative curves: points of a value above zero and the share, from 0 to 1, of what is at
/// most so large; the vertical axis, and with it the column of [`Figure::data`], is in per cent.
/// `marks` are values to compare with (context lengths), drawn as upright lines. The
/// value axis is logarithmic where the curves span more than a factor of 20.
///
/// # Errors
/// When no curve has a point with a positive value.
///
/// # Examples
/// ```
/// use lorascope::plot::{Series, cumulative};
///
/// let curve = Series::line("rows", [(100.0, 0.1), (400.0, 0.7), (900.0, 1.0)]);
/// let figure = cumulative("Length", "tokens", "rows", &[curve], &[512.0])?;
/// assert!(figure.svg().contains(">\n512\n</text>"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn cumulative(
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[Series],
    marks: &[f64],
) -> Result<Figure> {
    let points = || series.iter().flat_map(|series| &series.points);
    let visible = points().filter(|(x, y)| *x > 0.0 && drawable(*x) && (0.0..=1.0).contains(y));
    let Some((low, high)) = range(visible.map(|(x, _)| *x)) else {
        return Err(nothing(title, "no curve has a point with a positive value"));
    };
    let scale = if high / low > 20.0 { Scale::Log } else { Scale::Linear };
    // A mark near the curves is worth seeing; one far beyond them would squeeze them.
    let beyond = if scale == Scale::Log { 4.0 } else { 1.5 };
    let near = |mark: &&f64| (low..=high * beyond).contains(*mark);
    let end = marks.iter().filter(near).copied().fold(high, f64::max);
    let whole = points().all(|(x, _)| x.fract() == 0.0);
    let legend =
        Legend::of(series.iter().map(|series| (series.name.as_str(), LegendSample::Line)), WIDTH - 24.0);
    let top = 78.0 + legend.height();
    let bottom = HEIGHT + legend.height() - 46.0;
    let y = Axis::new((0.0, 100.0), Scale::Linear).over(bottom, top);
    let left = 22.0 + y.label_width(34.0);
    let x = Axis::new((low, end), scale).padded(0.01).whole(whole).over(left, WIDTH - 24.0);
    let size = (WIDTH, HEIGHT + legend.height());
    let percent = |series: &Series| {
        let points = series.points.iter().map(|(x, y)| (*x, y * 100.0));
        Series { points: points.collect(), ..series.clone() }
    };
    let drawn: Vec<Series> = series.iter().map(percent).collect();
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        legend.draw(canvas, 12.0, 36.0)?;
        canvas.text(y_label, (12.0, top - 32.0), AXIS)?;
        y.draw_left(canvas, left, x.to, true)?;
        x.draw_below(canvas, bottom, 64.0, true)?;
        let mut free = f64::NEG_INFINITY;
        for &mark in marks.iter().filter(near) {
            let Some(at) = x.at(mark) else { continue };
            canvas.line((at, top), (at, bottom), Ink::text(0.45), 1.0)?;
            let label = thousands(mark.round() as u64);
            let half = Label::SMALL.width(&label) / 2.0;
            let middle = at.min(WIDTH - 12.0 - half);
            if middle - half > free {
                free = middle + half + 4.0;
                canvas.text(&label, (middle, top - 9.0), Label::SMALL.at(HPos::Center, VPos::Center))?;
            }
        }
        for (index, series) in drawn.iter().enumerate() {
            curve(canvas, &series.points, palette::pen(index, 2.0), &x, &y)?;
        }
        let middle = (x.from + x.to) / 2.0;
        canvas.text(x_label, (middle, bottom + 26.0), AXIS.at(HPos::Center, VPos::Top))
    })?;
    let line = |series: &Series| {
        let at = |share: f64| series.points.iter().find(|(_, y)| *y >= share).map_or(f64::NAN, |(x, _)| *x);
        let shares: Vec<f64> = series.points.iter().map(|(_, y)| *y).collect();
        let [half, most] = [0.5, 0.99].map(|share| short(at(share)));
        format!("{}: half within {half}, 99 % within {most} {x_label} {}\n", series.name, sparkline(&shares))
    };
    let text = series.iter().map(line).collect();
    Ok(Figure::new(title, size, body, text, long(&drawn, x_label, y_label)))
}
