//! Amounts in groups: the same few things measured in several places.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{Legend, LegendSample, below, heading};
use super::numbers::{drawable, nothing, range};
use super::palette;
use super::pen::Ink;
use crate::error::{Error, Result};

const WIDTH: f64 = 720.0;
/// Pixels of one bar, of the gap between groups, and the most that a name takes.
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
const NAMES: f64 = 200.0;

/// Draws groups of amounts to the right, one bar for each of `parts` in each group. On a log scale,
/// where a bar has no beginning, an amount is a mark on a thin line; zeros and below are gaps there.
///
/// # Errors
/// When a group has not one amount for each part, or there is nothing to draw.
///
/// # Examples
/// ```
/// use lorascope::plot::{Scale, grouped};
///
/// // ‖UᵀW₀Vᵀ‖ for directions of ΔW, of W₀ and random ones (Hu et al. 2021, table 7).
/// let parts = ["ΔW".to_string(), "W₀".to_string(), "random".to_string()];
/// let groups = [("r = 4".to_string(), vec![0.32, 21.67, 0.02])];
/// let figure = grouped("W₀ in the directions of", "Frobenius norm", &parts, &groups, Scale::Log)?;
/// assert!(figure.svg().contains("21.7"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn grouped(
    title: &str,
    x_label: &str,
    parts: &[String],
    groups: &[(String, Vec<f64>)],
    scale: Scale,
) -> Result<Figure> {
    if let Some((name, amounts)) = groups.iter().find(|(_, amounts)| amounts.len() != parts.len()) {
        return Err(Error::input(format!(
            "group {name:?} of {title:?} has {} amounts for {} parts",
            amounts.len(),
            parts.len()
        ))
        .help("give each group one amount for each part, NaN where there is none"));
    }
    let visible = |value: &f64| drawable(*value) && (scale == Scale::Linear || *value > 0.0);
    let Some((low, high)) = range(groups.iter().flat_map(|(_, amounts)| amounts).copied().filter(visible))
    else {
        return Err(nothing(title, "no group has an amount that can be drawn"));
    };
    let widest = groups.iter().map(|(name, _)| Label::SMALL.width(name)).fold(0.0, f64::max).min(NAMES);
    let left = 12.0 + widest.max(20.0) + 8.0;
    let sample = match scale {
        Scale::Linear => LegendSample::Block,
        Scale::Log => LegendSample::Mark,
    };
    let legend = Legend::of(parts.iter().map(|part| (part.as_str(), sample)), WIDTH - 24.0);
    let top = 46.0 + legend.height();
    let group = BAR * parts.len() as f64 + GAP;
    let bottom = top + group * groups.len() as f64;
    let size = (WIDTH, bottom + 46.0);
    let x = match scale {
        Scale::Linear => Axis::new((low.min(0.0), high.max(0.0)), scale),
        Scale::Log => Axis::new((low, high), scale).padded(0.06),
    };
    let x = x.over(left, WIDTH - 80.0);
    let zero = if scale == Scale::Linear { x.at(0.0).unwrap_or(left) } else { left };
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        legend.draw(canvas, 12.0, 36.0)?;
        for (index, (name, amounts)) in groups.iter().enumerate() {
            let begin = top + index as f64 * group + GAP / 2.0;
            let label = Label::SMALL.at(HPos::Right, VPos::Center);
            let middle = begin + (group - GAP) / 2.0;
            canvas.text(&label.fit(name, NAMES), (left - 7.0, middle), label)?;
            for (part, amount) in amounts.iter().enumerate().filter(|(_, amount)| visible(amount)) {
                let y = begin + (part as f64 + 0.5) * BAR;
                let Some(end) = x.at(*amount) else { continue };
                let ink = palette::series(part);
                match scale {
                    Scale::Linear => {
                        canvas.rect((zero.min(end), y - 6.0), (zero.max(end), y + 6.0), ink)?;
                    }
                    Scale::Log => {
                        canvas.line((left, y), (end, y), ink.faded(0.5), 1.2)?;
                        canvas.mark(part, (end, y), 4.0, ink)?;
                    }
                }
                let text = short(*amount).replace('-', "−");
                canvas.text(&text, (zero.max(end) + 8.0, y), Label::SMALL)?;
            }
        }
        canvas.line((zero, top), (zero, bottom), Ink::text(0.55), 1.0)?;
        x.draw_below(canvas, bottom, 64.0, true)?;
        below(canvas, x_label, &x, bottom)
    })?;
    let all =
        || groups.iter().flat_map(|(name, amounts)| parts.iter().zip(amounts).map(move |pair| (name, pair)));
    let data = FigureData::default()
        .text("group", all().map(|(name, _)| name.as_str()))
        .text("part", all().map(|(_, (part, _))| part.as_str()))
        .number(x_label, all().map(|(_, (_, amount))| *amount));
    let line = |(name, amounts): &(String, Vec<f64>)| {
        let named = parts.iter().zip(amounts).map(|(part, amount)| format!("{part} {}", short(*amount)));
        format!("{name}: {}\n", named.collect::<Vec<_>>().join(", "))
    };
    let text = format!("{x_label}\n{}", groups.iter().map(line).collect::<String>());
    Ok(Figure::new(title, size, body, text, data))
}
