//! Axes: map values to pixels, choose ticks and their labels.

use super::canvas::{Canvas, Label};
use super::pen::Ink;
use crate::display::thousands;
use crate::error::Result;
use plotters::style::text_anchor::{HPos, VPos};

/// How an axis spreads its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Scale {
    /// Equal distances are equal differences.
    #[default]
    Linear,
    /// Equal distances are equal ratios; values of zero and below are gaps.
    Log,
}

/// Values that an axis keeps for ticks of their own.
const GIVEN: usize = 12;

/// Where the ticks of an axis may stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ticks {
    /// At round numbers.
    Round,
    /// At whole numbers: steps, indices, counts.
    Whole,
    /// At powers of two: ranks.
    Doubling,
    /// At these values in ascending order; NaN is none.
    Given([f64; GIVEN]),
}

/// One axis: values from `low` to `high` on the pixels from `from` to `to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    ticks: Ticks,
    pub from: f64,
    pub to: f64,
}

impl Axis {
    /// An axis that holds `range` tightly. A range of one value is widened: that of zero to 0 to 1,
    /// another by a tenth of the value at both ends, or by a factor of 2 on a log scale.
    pub(super) fn new((low, high): (f64, f64), scale: Scale) -> Self {
        let (low, high) = match scale {
            Scale::Linear if low == high && low == 0.0 => (0.0, 1.0),
            Scale::Linear if low == high => (low - low.abs() * 0.1, high + high.abs() * 0.1),
            Scale::Log if low == high => (low / 2.0, high * 2.0),
            _ => (low, high),
        };
        Self { low, high, scale, ticks: Ticks::Round, from: 0.0, to: 1.0 }
    }

    /// The same with a margin of `share` of its length at both ends.
    pub(super) fn padded(mut self, share: f64) -> Self {
        match self.scale {
            Scale::Linear => {
                let margin = (self.high - self.low) * share;
                // A loss or a count that touches zero keeps zero as its end.
                let floor = if self.low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
                self.low = (self.low - margin).max(floor);
                self.high += margin;
            }
            Scale::Log => {
                // By logarithms: the ratio of the ends may be more than a number can hold.
                let margin = ((self.high.ln() - self.low.ln()) * share).exp();
                self.low = (self.low / margin).max(f64::MIN_POSITIVE);
                self.high = (self.high * margin).min(f64::MAX);
            }
        }
        self
    }

    /// Ticks at whole numbers only, where that is so.
    pub(super) fn whole(self, whole: bool) -> Self {
        if whole { self.at_ticks(Ticks::Whole) } else { self }
    }

    fn at_ticks(self, ticks: Ticks) -> Self {
        Self { ticks, ..self }
    }

    /// Ticks at powers of two; at some of `values` where this axis holds fewer than two powers.
    pub(super) fn at_ranks(self, values: impl Iterator<Item = f64>) -> Self {
        let mut held: Vec<f64> = values.filter(|value| self.at(*value).is_some()).collect();
        held.sort_unstable_by(f64::total_cmp);
        held.dedup();
        let (first, last) = self.powers();
        if held.is_empty() || last > first {
            return self.at_ticks(Ticks::Doubling);
        }
        let share = held.len().div_ceil(GIVEN);
        let mut given = [f64::NAN; GIVEN];
        given.iter_mut().zip(held.into_iter().step_by(share)).for_each(|(slot, value)| *slot = value);
        self.at_ticks(Ticks::Given(given))
    }

    pub(super) fn over(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    /// Where a value lies between the ends of the axis, which are 0 and 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
        }
    }

    /// The pixel of a value; None for one that the axis does not hold.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let share = self.share(value);
        (-1e-9..=1.0 + 1e-9).contains(&share).then_some(self.from + share * (self.to - self.from))
    }

    /// Values and labels, at least `gap` pixels apart.
    pub(super) fn ticks(&self, gap: f64) -> Vec<(f64, String)> {
        let room = ((self.to - self.from).abs() / gap).max(1.0);
        match (self.ticks, self.scale) {
            (Ticks::Doubling, _) => self.doubling_ticks(room),
            (Ticks::Given(values), _) => {
                let named = values.into_iter().filter(|value| !value.is_nan());
                self.apart(named.map(|value| (value, short(value))), room)
            }
            (_, Scale::Log) if self.high / self.low >= 8.0 => self.log_ticks(room),
            _ => self.linear_ticks(room),
        }
    }

    /// The exponents of the least and the greatest power of two that the axis holds.
    fn powers(&self) -> (i32, i32) {
        ((self.low.log2() - 1e-9).ceil() as i32, (self.high.log2() + 1e-9).floor() as i32)
    }

    /// Of ascending ticks those that leave the room between them.
    fn apart(&self, ticks: impl Iterator<Item = (f64, String)>, room: f64) -> Vec<(f64, String)> {
        let mut free = f64::NEG_INFINITY;
        let mut fits = |(value, _): &(f64, String)| {
            let share = self.share(*value);
            let fits = share >= free - 1e-9;
            if fits {
                free = share + 1.0 / room;
            }
            fits
        };
        ticks.filter(|tick| fits(tick)).collect()
    }

    fn doubling_ticks(&self, room: f64) -> Vec<(f64, String)> {
        let (first, last) = self.powers();
        let every = (f64::from(last - first + 1) / room).ceil().max(1.0) as usize;
        (first..=last)
            .step_by(every)
            .map(|power| 2f64.powi(power))
            .map(|value| (value, short(value)))
            .collect()
    }

    fn linear_ticks(&self, room: f64) -> Vec<(f64, String)> {
        let mut step = nice((self.high - self.low) / room);
        if self.ticks == Ticks::Whole {
            step = step.max(1.0);
        }
        let ticks = self.multiples(step);
        // One number alone says no scale: some of the next finer ones.
        let finer = nice(step / 2.6);
        if ticks.len() > 1 || (self.ticks == Ticks::Whole && finer < 1.0) {
            return ticks;
        }
        self.apart(self.multiples(finer).into_iter(), room)
    }

    /// Ticks at the multiples of `step`.
    fn multiples(&self, step: f64) -> Vec<(f64, String)> {
        let first = (self.low / step - 1e-9).ceil();
        let count = ((self.high / step + 1e-9).floor() - first).clamp(-1.0, 200.0) as i64 + 1;
        (0..count.max(0))
            .map(|i| (first + i as f64) * step)
            .map(|value| (value, number(value, step)))
            .collect()
    }

    fn log_ticks(&self, room: f64) -> Vec<(f64, String)> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let (first, last) = ((low - 1e-9).ceil() as i32, (high + 1e-9).floor() as i32);
        let plain = first >= -3 && last <= 3;
        let every = ((f64::from(last - first + 1) / room).ceil() as i32).max(1);
        let at = |multiples: &'static [f64]| {
            (first - 1..=last)
                .filter(move |exponent| exponent.rem_euclid(every) == 0)
                .flat_map(move |exponent| multiples.iter().map(move |m| (*m, exponent)))
                .filter(move |(m, exponent)| {
                    (low - 1e-9..=high + 1e-9).contains(&(m.log10() + f64::from(*exponent)))
                })
                .map(move |(m, exponent)| (m * 10f64.powi(exponent), power(m, exponent, plain)))
        };
        let decades: Vec<(f64, String)> = at(&[1.0]).collect();
        // 2 and 5 as well when there is room, and where one power of ten alone would say no scale.
        match every == 1 && (high - low) * 3.0 <= room {
            true => at(&[1.0, 2.0, 5.0]).collect(),
            false if decades.len() < 2 && every == 1 => self.apart(at(&[1.0, 2.0, 5.0]), room),
            false => decades,
        }
    }

    /// Draws this axis vertically: grid lines to `right`, and labels left of the axis.
    pub(super) fn draw_left(
        &self,
        canvas: &mut Canvas<'_>,
        left: f64,
        right: f64,
        labels: bool,
    ) -> Result<()> {
        for (value, label) in self.ticks(34.0) {
            let Some(y) = self.at(value) else { continue };
            canvas.line((left, y), (right, y), Ink::text(0.13), 1.0)?;
            if labels {
                canvas.text(&label, (left - 7.0, y), Label::SMALL.at(HPos::Right, VPos::Center))?;
            }
        }
        Ok(())
    }

    /// Draws this axis vertically with labels right of `x`, and without a grid: that of the axis on
    /// the left is enough.
    pub(super) fn draw_right(&self, canvas: &mut Canvas<'_>, x: f64) -> Result<()> {
        for (value, label) in self.ticks(34.0) {
            let Some(y) = self.at(value) else { continue };
            canvas.line((x, y), (x + 4.0, y), Ink::text(0.55), 1.0)?;
            canvas.text(&label, (x + 7.0, y), Label::SMALL)?;
        }
        Ok(())
    }

    /// Draws this axis horizontally at the height `y`, with labels at least `gap` pixels apart
    /// below it.
    pub(super) fn draw_below(&self, canvas: &mut Canvas<'_>, y: f64, gap: f64, labels: bool) -> Result<()> {
        canvas.line((self.from, y), (self.to, y), Ink::text(0.55), 1.0)?;
        for (value, label) in self.ticks(gap) {
            let Some(x) = self.at(value) else { continue };
            canvas.line((x, y), (x, y + 4.0), Ink::text(0.55), 1.0)?;
            if labels {
                // A long label at the end of the axis stays within the margin beside the plot.
                let middle = x.min(self.to + 20.0 - Label::SMALL.width(&label) / 2.0);
                canvas.text(&label, (middle, y + 7.0), Label::SMALL.at(HPos::Center, VPos::Top))?;
            }
        }
        Ok(())
    }

    /// Pixels that the longest label takes.
    pub(super) fn label_width(&self, gap: f64) -> f64 {
        self.ticks(gap).iter().map(|(_, label)| Label::SMALL.width(label)).fold(0.0, f64::max)
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `step`.
pub(super) fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let nice =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= step * (1.0 - 1e-9)).unwrap_or(10.0) * power;
    if nice.is_normal() { nice } else { f64::MIN_POSITIVE }
}

/// A tick label with the decimals that `step` needs.
fn number(value: f64, step: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_string();
    }
    if !(1e-4..1e7).contains(&size) {
        let decimals = (decade(size) - decade(step)).clamp(0, 15) as usize;
        return format!("{value:.decimals$e}");
    }
    let decimals = (-decade(step)).clamp(0, 15) as usize;
    if decimals > 0 {
        return format!("{value:.decimals$}").replace('-', "−");
    }
    format!("{}{}", if value < 0.0 { "−" } else { "" }, thousands(size.round() as u64))
}

/// The exponent of the power of ten at or below a number, to rounding.
fn decade(size: f64) -> i32 {
    (size.log10() + 1e-9).floor() as i32
}

/// m·10^exponent, plain or with a superscript.
fn power(m: f64, exponent: i32, plain: bool) -> String {
    if plain || exponent == 0 {
        return short(m * 10f64.powi(exponent));
    }
    let superscript = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32(c as u32 - '0' as u32 + '⁰' as u32).unwrap_or(c),
    };
    let ten = format!("10{}", exponent.to_string().chars().map(superscript).collect::<String>());
    if m == 1.0 { ten } else { format!("{m}·{ten}") }
}

/// A number in three digits, without zeros at the end; from 100 to a million rounded to a whole one.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if !value.is_finite() => return value.to_string(),
        0.0 => return "0".to_string(),
        1e6.. => return scientific(value),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        1e-3.. => format!("{value:.0$}", (2 - decade(size)).max(0) as usize),
        _ => return scientific(value),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// Three digits and an exponent: `1.25e-5`.
fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        None => text,
    }
}
