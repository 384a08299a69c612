//! Several plots in one figure: under each other with one x axis, or a grid that shares both axes.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale};
use super::canvas::Canvas;
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{self, AXIS, Frame, Legend, below, heading};
use super::grid::Grid;
use super::line_chart::{axes, draw, long, summary};
use super::series::{Series, Style};
use crate::error::Result;

const WIDTH: f64 = 720.0;

/// What an axis measures, and the series drawn on it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Measure {
    /// The name of the axis, with its unit.
    pub label: String,
    /// How the axis spreads its values.
    pub scale: Scale,
    /// What is drawn.
    pub series: Vec<Series>,
}

impl Measure {
    /// A linear axis with series on it.
    pub fn new(label: impl Into<String>, series: impl IntoIterator<Item = Series>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, series: series.into_iter().collect() }
    }
}

/// A long table of several measures: each series' name, x, and the value in the column of its own
/// measure.
fn together(measures: &[&Measure], x_label: &str) -> FigureData {
    let rows = || {
        let all = measures
            .iter()
            .enumerate()
            .flat_map(|(index, measure)| measure.series.iter().map(move |series| (index, series)));
        all.flat_map(|(index, series)| series.points.iter().map(move |point| (index, series, *point)))
    };
    let start = FigureData::default()
        .text("series", rows().map(|(_, series, _)| series.name.as_str()))
        .number(x_label, rows().map(|(_, _, (x, _))| x));
    measures.iter().enumerate().fold(start, |data, (index, measure)| {
        let here = rows().map(|(of, _, (_, y))| if of == index { y } else { f64::NAN });
        data.number(&measure.label, here)
    })
}

/// Draws two measures over one x axis, the first on an axis at the left and the second on one at the
/// right. Colours and dashes go on from the left to the right, and the legend says which series
/// belong to the right axis.
///
/// # Errors
/// When a side has no point that can be drawn.
///
/// # Examples
/// ```
/// use lorascope::plot::{Measure, Series, two_axes};
///
/// let rank = Measure::new("effective rank", [Series::line("layer 3", [(0.0, 7.9), (50.0, 3.2)])]);
/// let loss = Measure::new("nats per token", [Series::line("loss", [(0.0, 2.4), (50.0, 1.1)])]);
/// let figure = two_axes("Rank and loss", "step", &rank, &loss)?;
/// assert!(figure.svg().contains("loss (right axis)"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn two_axes(title: &str, x_label: &str, left: &Measure, right: &Measure) -> Result<Figure> {
    let (_, y) = axes(title, &left.series, left.scale)?;
    let (_, second) = axes(title, &right.series, right.scale)?;
    let (x, _) = axes(title, left.series.iter().chain(&right.series), Scale::Linear)?;
    let both =
        left.series.iter().map(|one| (one, "")).chain(right.series.iter().map(|one| (one, " (right axis)")));
    let names = both.enumerate().flat_map(|(index, (one, note))| frame::named(one, index, note));
    let legend = Legend::placed(names, WIDTH - 24.0);
    let room = 22.0 + second.over(300.0, 0.0).label_width(34.0);
    let frame = Frame::new((WIDTH, 400.0), legend, x, y, room);
    let (top, bottom) = frame.ends();
    let second = second.over(bottom, top);
    let body = Canvas::draw(frame.size, |canvas| {
        // Each name has half of the width.
        frame.draw(canvas, title, x_label, &AXIS.fit(&left.label, WIDTH / 2.0 - 24.0))?;
        let label = AXIS.at(HPos::Right, VPos::Center);
        canvas.text(&label.fit(&right.label, WIDTH / 2.0 - 24.0), (WIDTH - 12.0, top - 17.0), label)?;
        second.draw_right(canvas, frame.x.to)?;
        for (index, series) in left.series.iter().chain(&right.series).enumerate() {
            let y = if index < left.series.len() { &frame.y } else { &second };
            draw(canvas, series, index, &frame.x, y)?;
        }
        Ok(())
    })?;
    let text = [left, right].map(text).concat();
    Ok(Figure::new(title, frame.size, body, text, together(&[left, right], x_label)))
}

/// Draws measures under each other over one x axis: loss, learning rate, gradient norm. Series of one
/// name have one colour, so that two runs can be compared, and nameless ones that of their place. The
/// legend is left out where no measure has two lines: the axes say what is drawn. A measure without
/// a point that can be drawn is left out.
///
/// # Errors
/// When no measure has a point that can be drawn.
///
/// # Examples
/// ```
/// use lorascope::plot::{Measure, Series, stack};
///
/// let loss = Measure::new("loss (nats per token)", [Series::line("", [(1.0, 2.4), (2.0, 1.1)])]);
/// let lr = Measure::new("learning rate", [Series::line("", [(1.0, 1e-4), (2.0, 2e-4)])]);
/// let figure = stack("Run", "step", &[loss, lr])?;
/// assert!(figure.svg().contains("learning rate"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn stack(title: &str, x_label: &str, measures: &[Measure]) -> Result<Figure> {
    const PLOT: f64 = 110.0;
    const BETWEEN: f64 = 38.0;
    let mut shown = Vec::new();
    for measure in measures {
        if let Ok((_, y)) = axes(title, &measure.series, measure.scale) {
            shown.push((measure, y));
        }
    }
    let (x, _) = axes(title, shown.iter().flat_map(|(measure, _)| &measure.series), Scale::Linear)?;
    let named = named(&shown.iter().map(|(measure, _)| *measure).collect::<Vec<_>>());
    let legend = Legend::lines(&named, WIDTH - 24.0);
    let first = 64.0 + legend.height();
    let size = (WIDTH, first + shown.len() as f64 * (PLOT + BETWEEN) - BETWEEN + 46.0);
    let place = |index: usize, y: &Axis| {
        let top = first + index as f64 * (PLOT + BETWEEN);
        y.over(top + PLOT, top)
    };
    let widest = shown.iter().map(|(_, y)| y.over(PLOT, 0.0).label_width(34.0)).fold(0.0, f64::max);
    let x = x.over(22.0 + widest, WIDTH - 24.0);
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        legend.draw(canvas, 12.0, 36.0)?;
        for (index, (measure, y)) in shown.iter().enumerate() {
            let y = place(index, y);
            canvas.text(&AXIS.fit(&measure.label, WIDTH - 24.0), (12.0, y.to - 15.0), AXIS)?;
            y.draw_left(canvas, x.from, x.to, true)?;
            x.draw_below(canvas, y.from, 64.0, index + 1 == shown.len())?;
            for (index, series) in measure.series.iter().enumerate() {
                let same = |other: &Series| !series.name.is_empty() && other.name == series.name;
                let index = named.iter().position(same).unwrap_or(index);
                draw(canvas, series, index, &x, &y)?;
            }
        }
        below(canvas, x_label, &x, size.1 - 46.0)
    })?;
    let text = measures.iter().map(text).collect();
    Ok(Figure::new(title, size, body, text, together(&measures.iter().collect::<Vec<_>>(), x_label)))
}

/// The series of a legend, each name once: those of the first measure that has most, then what else
/// has a name; none where no measure has two lines.
fn named(measures: &[&Measure]) -> Vec<Series> {
    let most = measures.iter().rev().max_by_key(|measure| measure.series.len());
    let smoothed = |series: &Series| matches!(series.style, Style::Smoothed { .. });
    let two = |measure: &&&Measure| measure.series.len() > 1 || measure.series.iter().any(smoothed);
    if !measures.iter().any(|measure| two(&measure)) {
        return Vec::new();
    }
    let Some(most) = most else { return Vec::new() };
    let mut named = most.series.clone();
    for series in measures.iter().flat_map(|measure| &measure.series) {
        if !series.name.is_empty() && named.iter().all(|other| other.name != series.name) {
            named.push(series.clone());
        }
    }
    named
}

fn text(measure: &Measure) -> String {
    let lines: String = measure.series.iter().map(|series| format!("  {}", summary(series))).collect();
    format!("{}\n{lines}", measure.label)
}

/// Draws a small plot for each name, all on the same axes: the layers of one module. Series at the
/// same place in two panels have the same colour; the legend has the names of the first panel.
///
/// # Errors
/// When no panel has a point that can be drawn.
///
/// # Examples
/// ```
/// use lorascope::plot::{Scale, Series, multiples};
///
/// let panel = |layer: u32| (format!("layer {layer}"), vec![Series::line("", [(1.0, 1.0), (2.0, 0.1)])]);
/// let figure = multiples("q_proj", "k", "σ", &[panel(0), panel(1)], Scale::Log)?;
/// assert!(figure.svg().contains("layer 1"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn multiples(
    title: &str,
    x_label: &str,
    y_label: &str,
    panels: &[(String, Vec<Series>)],
    scale: Scale,
) -> Result<Figure> {
    let (x, y) = axes(title, panels.iter().flat_map(|(_, series)| series), scale)?;
    let x = x.padded(0.02);
    let legend = Legend::lines(panels.first().map_or(&[], |(_, series)| series), WIDTH - 24.0);
    let grid = Grid::new(panels.len(), &y, 20.0).below(legend.height() * 1.4);
    let body = Canvas::draw(grid.size(), |canvas| {
        grid.frame(canvas, title, x_label, y_label)?;
        legend.draw(canvas, 12.0, 36.0)?;
        for (index, (name, series)) in panels.iter().enumerate() {
            let (x, y) = grid.panel(canvas, index, name, (x, y))?;
            for (index, one) in series.iter().enumerate() {
                draw(canvas, one, index, &x, &y)?;
            }
        }
        Ok(())
    })?;
    let line = |(name, series): &(String, Vec<Series>)| {
        series.iter().map(|one| format!("{name} {}", summary(one))).collect::<String>()
    };
    let names = panels.iter().flat_map(|(name, series)| {
        series.iter().flat_map(move |one| one.points.iter().map(move |_| name.as_str()))
    });
    let all: Vec<Series> = panels.iter().flat_map(|(_, series)| series.clone()).collect();
    let data = long(&all, x_label, y_label).text("panel", names);
    Ok(Figure::new(title, grid.size(), body, panels.iter().map(line).collect(), data))
}
