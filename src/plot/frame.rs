//! The frame of a plot: title, legend, axes with their names, the key of a colour scale.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::canvas::{Canvas, Label};
use super::palette;
use super::pen::{Dash, Ink, Pen};
use super::series::{Series, Style};
use crate::error::Result;

/// The name of an axis.
pub(super) const AXIS: Label = Label { size: 12.0, ink: Ink::text(0.75), ..Label::SMALL };

/// The title of a figure, cut where it would leave the picture.
pub(super) fn heading(canvas: &mut Canvas<'_>, title: &str, width: f64) -> Result<()> {
    canvas.text(&Label::TITLE.fit(title, width - 24.0), (12.0, 20.0), Label::TITLE)
}

/// A plot under its title and its legend.
pub(super) struct Frame {
    pub size: (f64, f64),
    pub x: Axis,
    pub y: Axis,
    legend: Legend,
    /// Pixels between the name of the vertical axis and the plot.
    above: f64,
}

impl Frame {
    /// A frame of `size`, made higher by what the legend takes, with `right` pixels beside the plot.
    pub(super) fn new(size: (f64, f64), legend: Legend, x: Axis, y: Axis, right: f64) -> Self {
        let size = (size.0, size.1 + legend.height());
        let y = y.over(size.1 - 46.0, 64.0 + legend.height());
        let x = x.over(22.0 + y.label_width(34.0), size.0 - right);
        Self { size, x, y, legend, above: 0.0 }
    }

    /// The same with so many more pixels above the plot, for names of what stands in it.
    pub(super) fn with_room(self, above: f64) -> Self {
        let y = self.y.over(self.y.from + above, self.y.to + above);
        Self { size: (self.size.0, self.size.1 + above), y, above: self.above + above, ..self }
    }

    /// The upper and the lower end of the plot.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.y.to.min(self.y.from), self.y.to.max(self.y.from))
    }

    pub(super) fn draw(
        &self,
        canvas: &mut Canvas<'_>,
        title: &str,
        x_label: &str,
        y_label: &str,
    ) -> Result<()> {
        let (top, bottom) = self.ends();
        heading(canvas, title, self.size.0)?;
        self.legend.draw(canvas, 12.0, 36.0)?;
        let name = AXIS.fit(y_label, self.size.0 - 24.0);
        canvas.text(&name, (12.0, top - 17.0 - self.above), AXIS)?;
        self.y.draw_left(canvas, self.x.from, self.x.to, true)?;
        self.x.draw_below(canvas, bottom, 64.0, true)?;
        below(canvas, x_label, &self.x, bottom)
    }
}

/// The name of a horizontal axis that lies at the height `y`, below its labels.
pub(super) fn below(canvas: &mut Canvas<'_>, name: &str, x: &Axis, y: f64) -> Result<()> {
    let middle = (x.from + x.to) / 2.0;
    let name = AXIS.fit(name, x.to - x.from);
    canvas.text(&name, (middle, y + 26.0), AXIS.at(HPos::Center, VPos::Top))
}

/// A dashed line across the plot at the height `y`, with its name right of the plot.
pub(super) fn level(canvas: &mut Canvas<'_>, x: &Axis, y: f64, name: &str) -> Result<()> {
    let pen = Pen::new(Ink::text(0.7), 1.2).dashed(Dash::Long);
    canvas.path(&[(x.from, y), (x.to, y)], pen)?;
    canvas.text(name, (x.to + 6.0, y), Label::SMALL)
}

/// Draws the key of a colour scale: a strip from `axis.from` to `axis.to`, its labels, and upright
/// beside them what the values are. `ink` gives the colour at a share of the strip.
pub(super) fn key(
    canvas: &mut Canvas<'_>,
    left: f64,
    axis: &Axis,
    name: &str,
    ink: impl Fn(f64) -> Ink,
) -> Result<()> {
    const STRIPS: usize = 60;
    let step = (axis.to - axis.from) / STRIPS as f64;
    for strip in 0..STRIPS {
        let y = axis.from + strip as f64 * step;
        let (top, bottom) = (y.min(y + step), y.max(y + step));
        // A little beyond its end, so that no page shines through between two strips.
        let bottom = (bottom + 0.6).min(axis.from.max(axis.to));
        canvas.rect((left, top), (left + 12.0, bottom), ink(strip as f64 / (STRIPS - 1) as f64))?;
    }
    for (value, label) in axis.ticks(30.0) {
        let Some(y) = axis.at(value) else { continue };
        canvas.line((left + 12.0, y), (left + 15.0, y), Ink::text(0.55), 1.0)?;
        canvas.text(&label, (left + 18.0, y), Label::SMALL)?;
    }
    let upright = Label { upright: true, ..Label::SMALL.at(HPos::Center, VPos::Center) };
    let x = left + 24.0 + axis.label_width(30.0) + 6.0;
    // A little beyond the ends of a short strip, where nothing else stands.
    canvas.text(
        &upright.fit(name, (axis.to - axis.from).abs() + 36.0),
        (x, (axis.from + axis.to) / 2.0),
        upright,
    )
}

/// Pixels that a key takes, from its left end on.
pub(super) fn key_width(axis: &Axis) -> f64 {
    38.0 + axis.label_width(30.0)
}

/// Names beside strokes of their colours, in as many rows as they need.
pub(super) struct Legend {
    /// Name, column in pixels, row, the series' place among the colours, what stands beside the name.
    entries: Vec<(String, f64, usize, usize, LegendSample)>,
}

/// The sample beside a name in a legend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LegendSample {
    /// A block of the series' colour.
    Block,
    /// A line, broken as that of the series.
    Line,
    /// A thin one: the points themselves beside their mean.
    Thin,
    /// A line with the mark of the series.
    Mark,
    /// The mark alone.
    Point,
    /// A line in the colour of the text, for what lines of any colour have in common.
    Plain(Dash),
}

impl Legend {
    const ROW: f64 = 18.0;
    const STROKE: f64 = 26.0;

    /// Blocks of colour with names.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>, width: f64) -> Self {
        Self::of(names.map(|name| (name, LegendSample::Block)), width)
    }

    /// The names and lines of series.
    pub(super) fn lines(series: &[Series], width: f64) -> Self {
        Self::placed(series.iter().enumerate().flat_map(|(index, series)| named(series, index, "")), width)
    }

    pub(super) fn of<'a>(names: impl Iterator<Item = (&'a str, LegendSample)>, width: f64) -> Self {
        Self::placed(
            names.enumerate().map(|(index, (name, sample))| (name.to_string(), sample, index)),
            width,
        )
    }

    /// Names with what stands beside them and its colour.
    pub(super) fn placed(names: impl Iterator<Item = (String, LegendSample, usize)>, width: f64) -> Self {
        let (mut entries, mut column, mut row) = (Vec::new(), 0.0, 0);
        for (name, sample, index) in names.filter(|(name, ..)| !name.is_empty()) {
            let name = Label::SMALL.fit(&name, width - Self::STROKE);
            let length = Self::STROKE + Label::SMALL.width(&name) + 18.0;
            if column > 0.0 && column + length > width {
                (column, row) = (0.0, row + 1);
            }
            entries.push((name, column, row, index, sample));
            column += length;
        }
        Self { entries }
    }

    /// Pixels that the rows take.
    pub(super) fn height(&self) -> f64 {
        self.entries.last().map_or(0.0, |(_, _, row, ..)| (row + 1) as f64 * Self::ROW)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, left: f64, top: f64) -> Result<()> {
        for (name, column, row, index, sample) in &self.entries {
            let (x, y) = (left + column, top + (*row as f64 + 0.5) * Self::ROW);
            let (ink, end) = (palette::series(*index), x + Self::STROKE - 8.0);
            match sample {
                LegendSample::Line => canvas.path(&[(x, y), (end, y)], palette::pen(*index, 2.4))?,
                LegendSample::Thin => canvas.path(&[(x, y), (end, y)], Pen::new(ink.faded(0.55), 1.0))?,
                LegendSample::Mark => {
                    canvas.path(&[(x, y), (end, y)], Pen::new(ink.faded(0.6), 1.2))?;
                    canvas.mark(*index, ((x + end) / 2.0, y), 3.6, ink)?;
                }
                LegendSample::Plain(dash) => {
                    canvas.path(&[(x, y), (end, y)], Pen::new(Ink::text(0.7), 2.0).dashed(*dash))?;
                }
                LegendSample::Point => canvas.mark(*index, ((x + end) / 2.0, y), 4.0, ink)?,
                LegendSample::Block => canvas.rect((x + 4.0, y - 5.0), (end, y + 5.0), ink)?,
            }
            canvas.text(name, (x + Self::STROKE - 2.0, y), Label::SMALL)?;
        }
        Ok(())
    }
}

/// What a legend says of a series in this place: its name, and of a smoothed one which line is the mean.
pub(super) fn named(series: &Series, index: usize, note: &str) -> Vec<(String, LegendSample, usize)> {
    let Series { name, style, colour, .. } = series;
    let index = colour.unwrap_or(index);
    let entry = |name: String, sample: LegendSample| (name, sample, index);
    match style {
        _ if name.is_empty() => Vec::new(),
        Style::Line => vec![entry(format!("{name}{note}"), LegendSample::Line)],
        Style::Marks => vec![entry(format!("{name}{note}"), LegendSample::Mark)],
        Style::Smoothed { span } => vec![
            entry(format!("{name}{note}"), LegendSample::Thin),
            entry(format!("{name}, mean over about {span:.0} points{note}"), LegendSample::Line),
        ],
    }
}
