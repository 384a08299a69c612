//! Amounts as bars: side by side, or shares on top of each other.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{AXIS, Legend, heading};
use super::numbers::{drawable, nothing, range};
use super::palette;
use super::pen::Ink;
use crate::display::thousands;
use crate::error::Result;

const WIDTH: f64 = 720.0;
/// Pixels of one bar with its margins, and the most that its name takes.
const ROW: f64 = 24.0;
const NAMES: f64 = 220.0;

/// Draws named amounts as bars from zero to the right, in the order given.
///
/// # Errors
/// When no amount is finite.
///
/// # Examples
/// ```
/// use lorascope::plot::bars;
///
/// let figure = bars("Roles", "messages", &[("user".into(), 12.0), ("assistant".into(), 11.0)])?;
/// assert!(figure.svg().contains("assistant"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn bars(title: &str, x_label: &str, amounts: &[(String, f64)]) -> Result<Figure> {
    let Some((low, high)) = range(amounts.iter().map(|(_, amount)| *amount)) else {
        return Err(nothing(title, "no bar has a finite amount"));
    };
    let widest = amounts.iter().map(|(name, _)| Label::SMALL.width(name)).fold(0.0, f64::max).min(NAMES);
    // Room for the first tick label, which is centred on the axis.
    let left = 12.0 + widest.max(20.0) + 8.0;
    let size = (WIDTH, 44.0 + ROW * amounts.len() as f64 + 46.0);
    let bottom = size.1 - 46.0;
    let x = Axis::new((low.min(0.0), high.max(0.0)), Scale::Linear).over(left, WIDTH - 80.0);
    let zero = x.at(0.0).unwrap_or(left);
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        for (index, (name, amount)) in amounts.iter().enumerate() {
            let y = 44.0 + (index as f64 + 0.5) * ROW;
            let label = Label::SMALL.at(HPos::Right, VPos::Center);
            canvas.text(&label.fit(name, NAMES), (left - 7.0, y), label)?;
            let Some(end) = x.at(*amount) else { continue };
            canvas.rect((zero.min(end), y - 8.0), (zero.max(end), y + 8.0), palette::series(0))?;
            canvas.text(&short(*amount).replace('-', "−"), (zero.max(end) + 6.0, y), Label::SMALL)?;
        }
        canvas.line((zero, 44.0), (zero, bottom), Ink::text(0.55), 1.0)?;
        x.draw_below(canvas, bottom, 64.0, true)?;
        canvas.text(x_label, ((x.from + x.to) / 2.0, bottom + 26.0), AXIS.at(HPos::Center, VPos::Top))
    })?;
    let text =
        amounts.iter().map(|(name, amount)| format!("{name}: {} {x_label}\n", short(*amount))).collect();
    let data = FigureData::default()
        .text("name", amounts.iter().map(|(name, _)| name.as_str()))
        .number(x_label, amounts.iter().map(|(_, amount)| *amount));
    Ok(Figure::new(title, size, body, text, data))
}

/// Draws amounts that consist of parts, each as one bar from zero to the right whose parts follow
/// each other in the order of `parts`. Parts that are negative or not finite are left out.
///
/// # Errors
/// When no bar has a positive part.
///
/// # Examples
/// ```
/// use lorascope::plot::stacked;
///
/// let parts = ["rows".to_string(), "padding".to_string()];
/// let figure = stacked("Padding", "tokens", &parts, &[("batch of 8".into(), vec![700.0, 300.0])])?;
/// assert!(figure.svg().contains("batch of 8"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn stacked(title: &str, x_label: &str, parts: &[String], bars: &[(String, Vec<f64>)]) -> Result<Figure> {
    let kept = |part: &f64| if drawable(*part) { part.max(0.0) } else { 0.0 };
    let sum = |amounts: &[f64]| amounts.iter().map(kept).sum::<f64>();
    let most = bars.iter().map(|(_, amounts)| sum(amounts)).fold(0.0, f64::max);
    if !(most > 0.0 && drawable(most)) {
        return Err(nothing(title, "no bar has a positive part"));
    }
    let widest = bars.iter().map(|(name, _)| Label::SMALL.width(name)).fold(0.0, f64::max).min(NAMES);
    let left = 12.0 + widest.max(20.0) + 8.0;
    let legend = Legend::new(parts.iter().map(String::as_str), WIDTH - 24.0);
    let top = 44.0 + legend.height();
    let size = (WIDTH, top + ROW * bars.len() as f64 + 46.0);
    let bottom = size.1 - 46.0;
    let x = Axis::new((0.0, most), Scale::Linear).over(left, WIDTH - 80.0);
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        legend.draw(canvas, 12.0, 36.0)?;
        for (index, (name, amounts)) in bars.iter().enumerate() {
            let y = top + (index as f64 + 0.5) * ROW;
            let label = Label::SMALL.at(HPos::Right, VPos::Center);
            canvas.text(&label.fit(name, NAMES), (left - 7.0, y), label)?;
            let mut begin = 0.0;
            for (part, amount) in amounts.iter().map(kept).enumerate() {
                let (Some(from), Some(to)) = (x.at(begin), x.at((begin + amount).min(most))) else {
                    continue;
                };
                canvas.rect((from, y - 8.0), (to, y + 8.0), palette::series(part))?;
                begin += amount;
            }
            canvas.text(&amount(begin), (x.at(begin.min(most)).unwrap_or(left) + 6.0, y), Label::SMALL)?;
        }
        canvas.line((left, top), (left, bottom), Ink::text(0.55), 1.0)?;
        x.draw_below(canvas, bottom, 64.0, true)?;
        canvas.text(x_label, ((x.from + x.to) / 2.0, bottom + 26.0), AXIS.at(HPos::Center, VPos::Top))
    })?;
    let line = |(name, amounts): &(String, Vec<f64>)| {
        let named =
            parts.iter().zip(amounts).map(|(part, amount)| format!("{part} {}", self::amount(*amount)));
        format!("{name}: {} {x_label}\n", named.collect::<Vec<_>>().join(", "))
    };
    let all =
        || bars.iter().flat_map(|(name, amounts)| parts.iter().zip(amounts).map(move |pair| (name, pair)));
    let data = FigureData::default()
        .text("name", all().map(|(name, _)| name.as_str()))
        .text("part", all().map(|(_, (part, _))| part.as_str()))
        .number(x_label, all().map(|(_, (_, amount))| *amount));
    Ok(Figure::new(title, size, body, bars.iter().map(line).collect(), data))
}

/// An amount: large ones are whole numbers of which every digit counts.
fn amount(value: f64) -> String {
    if (1e3..1e15).contains(&value) { thousands(value.round() as u64) } else { short(value) }
}
