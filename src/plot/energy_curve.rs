//! Cumulative energy of singular values.

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::frame::{Frame, Legend, LegendSample, level};
use super::line_chart::{curve, long};
use super::numbers::{drawable, nothing, range, sparkline};
use super::palette;
use super::series::Series;
use crate::error::{Error, Result};

/// Draws cumulative energy, Σ_{i≤k} σᵢ² / Σ σᵢ², over k, with a line at `tau` and a point on each
/// curve where it first reaches it: k(τ), the rank that keeps so much. Each series has points (k,
/// share from 0 to 1).
///
/// # Errors
/// When `tau` does not lie above 0 and at most at 1, or no curve has a share.
///
/// # Examples
/// ```
/// use lorascope::display::Show;
/// use lorascope::plot::{Series, energy};
///
/// let curve = Series::line("q_proj", [(1.0, 0.7), (2.0, 0.92), (3.0, 0.99), (4.0, 1.0)]);
/// let figure = energy("Energy", &[curve], Some(0.95))?;
/// assert!(figure.show().text.contains("q_proj: 0.95 within k = 3"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn energy(title: &str, series: &[Series], tau: Option<f64>) -> Result<Figure> {
    if let Some(tau) = tau.filter(|tau| !(*tau > 0.0 && *tau <= 1.0)) {
        return Err(Error::input(format!("τ of {tau} is no share of the energy"))
            .help("give a number above 0 and at most 1, for example 0.95"));
    }
    let share = |(_, y): &&(f64, f64)| (0.0..=1.0 + 1e-9).contains(y);
    let points = || series.iter().flat_map(|series| &series.points).filter(share);
    let Some((first, last)) = range(points().map(|(k, _)| *k)) else {
        return Err(nothing(title, "no curve has a share between 0 and 1"));
    };
    let names = series.iter().map(|series| (series.name.as_str(), LegendSample::Line));
    let x = Axis::new((first.min(1.0), last), Scale::Linear).whole(true);
    let y = Axis::new((0.0, 1.0), Scale::Linear);
    let named = tau.map(|tau| format!("τ = {tau}"));
    let right = named.as_ref().map_or(24.0, |name| (Label::SMALL.width(name) + 18.0).max(74.0));
    let frame = Frame::new((720.0, 360.0), Legend::of(names, 696.0), x, y, right);
    let reached = |series: &Series, tau: f64| {
        series.points.iter().find(|(_, y)| *y >= tau - 1e-12 && drawable(*y)).copied()
    };
    let body = Canvas::draw(frame.size, |canvas| {
        frame.draw(canvas, title, "rank kept, k", "share of the energy Σσ²")?;
        if let (Some(name), Some(at)) = (&named, tau.and_then(|tau| frame.y.at(tau))) {
            level(canvas, &frame.x, at, name)?;
        }
        for (index, series) in series.iter().enumerate() {
            curve(canvas, &series.points, palette::pen(index, 2.0), &frame.x, &frame.y)?;
            let Some((k, share)) = tau.and_then(|tau| reached(series, tau)) else { continue };
            if let (Some(x), Some(y)) = (frame.x.at(k), frame.y.at(share)) {
                canvas.mark(index, (x, y), 4.0, palette::series(index))?;
            }
        }
        Ok(())
    })?;
    let line = |series: &Series| {
        let shares: Vec<f64> = series.points.iter().map(|(_, y)| *y).collect();
        let said = |tau: f64| match reached(series, tau) {
            Some((k, _)) => format!("{tau} within k = {}", short(k)),
            None => format!("{tau} not reached"),
        };
        let said: Vec<String> =
            tau.map_or_else(|| vec![0.5, 0.9, 0.99], |tau| vec![tau]).into_iter().map(said).collect();
        format!("{}: {} {}\n", series.name, said.join(", "), sparkline(&shares))
    };
    let text = series.iter().map(line).collect();
    Ok(Figure::new(title, frame.size, body, text, long(series, "k", "share of the energy")))
}
