//! Counts and amounts as bars.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, nice, short};
use super::canvas::{Canvas, Ink, Label};
use super::figure::Figure;
use super::lines::{AXIS, heading};
use super::{drawable, nothing, palette, range, sparkline};
use crate::display::thousands;
use crate::error::Result;

const WIDTH: f64 = 720.0;

/// Draws how often values occur: bins of a round width, about as many as Freedman and Diaconis
/// (1981) advise, 8 to 60 of them. A tail beyond twice the 99th percentile is left out and said so.
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
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| drawable(*value)).collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(&low), Some(&largest)) = (sorted.first(), sorted.last()) else {
        return Err(nothing(title, "no value is a finite number"));
    };
    let quantile = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    let limit = low + 2.0 * (quantile(0.99) - low);
    let high = if limit > low { largest.min(limit) } else { largest };
    let kept = &sorted[..sorted.partition_point(|&value| value <= high)];
    let whole = kept.iter().all(|value| value.fract() == 0.0);
    let spread = 2.0 * (quantile(0.75) - quantile(0.25)) / (kept.len() as f64).cbrt();
    let mut width = nice(spread.clamp((high - low) / 60.0, (high - low) / 20.0).max(f64::MIN_POSITIVE));
    if whole {
        width = width.max(1.0);
    }
    if high == low {
        width = if whole { 1.0 } else { nice(low.abs() / 100.0) };
    }
    let begin = (low / width).floor();
    let bin = |value: f64| ((value / width).floor() - begin).max(0.0) as usize;
    let mut counts = vec![0.0; bin(high) + 1];
    kept.iter().for_each(|&value| counts[bin(value)] += 1.0);

    let left_out = sorted.len() - kept.len();
    let note = match left_out {
        0 => String::new(),
        n => {
            format!("{} above {} not drawn, the largest {}", thousands(n as u64), short(high), short(largest))
        }
    };
    let size = (WIDTH, 320.0);
    let most = counts.iter().copied().fold(0.0, f64::max);
    let y = Axis::new((0.0, most * 1.04), Scale::Linear).whole(true).over(size.1 - 46.0, 64.0);
    let left = 22.0 + y.label_width(34.0);
    let end = (begin + counts.len() as f64) * width;
    let x = Axis::new((begin * width, end), Scale::Linear).whole(whole).over(left, WIDTH - 24.0);
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        canvas.text(y_label, (12.0, 46.0), AXIS)?;
        canvas.text(&note, (WIDTH - 24.0, 46.0), Label::SMALL.at(HPos::Right, VPos::Center))?;
        y.draw_left(canvas, left, x.to, true)?;
        for (index, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let at = |edge: usize| x.at((begin + edge as f64) * width).unwrap_or(x.to);
            let top = y.at(count).unwrap_or(y.to);
            canvas.rect((at(index) + 0.5, top), (at(index + 1) - 0.5, y.from), palette::series(0))?;
        }
        x.draw_below(canvas, y.from, 64.0, true)?;
        let middle = (x.from + x.to) / 2.0;
        canvas.text(x_label, (middle, y.from + 26.0), AXIS.at(HPos::Center, VPos::Top))
    })?;
    let text = format!(
        "{} {y_label}: {x_label} {} to {}, median {} {}\n",
        thousands(sorted.len() as u64),
        short(low),
        short(largest),
        short(quantile(0.5)),
        sparkline(&counts)
    );
    Ok(Figure::new(title, size, body, text))
}

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
    const ROW: f64 = 24.0;
    const NAMES: f64 = 220.0;
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
    Ok(Figure::new(title, size, body, text))
}
