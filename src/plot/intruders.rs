//! The chart of intruder dimensions: cosines as points against a threshold.

use super::axis::{Axis, Scale};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{Frame, Legend, LegendSample, level};
use super::numbers::{drawable, nothing};
use super::palette;
use super::pen::Ink;
use crate::error::{Error, Result};
use plotters::style::text_anchor::{HPos, VPos};

/// Draws for each left singular vector of W₀ + ΔW the highest cosine to one of W₀, in the order of
/// the singular values. Those below `threshold` are marked: the intruder dimensions of Shuttleworth
/// et al. (2024, section 3).
///
/// # Errors
/// When `threshold` does not lie between 0 and 1, or no cosine does.
///
/// # Examples
/// ```
/// use lorascope::display::Show;
/// use lorascope::plot::intruders;
///
/// let figure = intruders("layers.3 q_proj", &[0.99, 0.21, 0.98, 0.35], 0.5)?;
/// assert!(figure.show().text.contains("2 of 4 below 0.5: 2, 4"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn intruders(title: &str, cosines: &[f64], threshold: f64) -> Result<Figure> {
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Error::input(format!("a threshold of {threshold} is no cosine"))
            .help("give a number from 0 to 1, for example 0.5"));
    }
    // Rounding may lift the cosine of equal directions over 1.
    let cosine = |value: f64| ((-1e-6..=1.0 + 1e-6).contains(&value)).then_some(value.clamp(0.0, 1.0));
    let points: Vec<(usize, f64)> =
        cosines.iter().enumerate().filter_map(|(i, &value)| Some((i + 1, cosine(value)?))).collect();
    if points.is_empty() {
        return Err(nothing(title, "no cosine lies between 0 and 1"));
    }
    let found: Vec<usize> = points.iter().filter(|(_, value)| *value < threshold).map(|(k, _)| *k).collect();
    let last = cosines.len() as f64;
    let x = Axis::new((1.0, last), Scale::Linear).padded(0.02).whole(true);
    let y = Axis::new((0.0, 1.0), Scale::Linear);
    let right = (Label::SMALL.width(&threshold.to_string()) + 18.0).max(74.0);
    let names = [("as in W₀", LegendSample::Point), ("intruder", LegendSample::Point)];
    let frame = Frame::new((720.0, 340.0), Legend::of(names.into_iter(), 696.0), x, y, right);
    let body = Canvas::draw(frame.size, |canvas| {
        let y_label = "highest cosine to a singular vector of W₀";
        frame.draw(canvas, title, "index of the singular vector of W₀ + ΔW", y_label)?;
        if let Some(at) = frame.y.at(threshold) {
            level(canvas, &frame.x, at, &threshold.to_string())?;
        }
        let mut free = f64::NEG_INFINITY;
        for &(k, value) in &points {
            let (Some(at), Some(height)) = (frame.x.at(k as f64), frame.y.at(value)) else { continue };
            let intruder = value < threshold;
            let radius = if points.len() > 100 { 2.4 } else { 3.6 };
            let index = usize::from(intruder);
            canvas.mark(
                index,
                (at, height),
                radius + if intruder { 1.2 } else { 0.0 },
                palette::series(index),
            )?;
            let label = Label { ink: Ink::text(0.85), ..Label::SMALL.at(HPos::Center, VPos::Bottom) };
            let text = k.to_string();
            let half = label.width(&text) / 2.0;
            if intruder && at - half > free {
                canvas.text(&text, (at, height - 8.0), label)?;
                free = at + half + 3.0;
            }
        }
        Ok(())
    })?;
    let listed: Vec<String> = found.iter().take(20).map(usize::to_string).collect();
    let more = if found.len() > 20 { ", …" } else { "" };
    let colon = if found.is_empty() { "" } else { ": " };
    let text = format!(
        "{} of {} below {}{colon}{}{more}\n",
        found.len(),
        points.len(),
        threshold,
        listed.join(", ")
    );
    let data = FigureData::default()
        .number("index", (1..=cosines.len()).map(|k| k as f64))
        .number("cosine", cosines.iter().map(|&value| if drawable(value) { value } else { f64::NAN }));
    Ok(Figure::new(title, frame.size, body, text, data))
}
