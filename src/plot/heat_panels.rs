//! Maps beside each other that share one colour scale: a measurement and its control.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{AXIS, heading, key, key_width};
use super::heat_map::{CELL, cell_text};
use super::numbers::{drawable, nothing, range};
use super::palette;
use super::pen::Ink;
use crate::error::{Error, Result};

/// One of the maps of [`heat_panels`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HeatPanel {
    /// Its heading.
    pub name: String,
    /// `values[row][column]`, both counted from 1 on the axes; None, NaN and infinity are gaps.
    pub values: Vec<Vec<Option<f64>>>,
}

impl HeatPanel {
    fn columns(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }
}

const GAP: f64 = 34.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 72.0;
/// The heading of a map.
const NAME: Label = Label { size: 12.0, bold: true, ..Label::SMALL };
/// Pixels of a cell from which on the page shines through between cells.
const GRID: f64 = 10.0;

/// Draws maps beside each other on one colour scale, which is that of `scale` (for a subspace
/// similarity 0 to 1) or, without it, that of the values; values beyond it have its last colour. The
/// first row is at the top. Numbers stand in the cells where they fit.
///
/// # Errors
/// When the rows of a panel differ in length, `scale` is not a range, or there is no finite value.
///
/// # Examples
/// ```
/// use lorascope::plot::{HeatPanel, heat_panels};
///
/// let panel = |name: &str, phi: f64| HeatPanel {
///     name: name.into(),
///     values: vec![vec![Some(phi), Some(0.5)], vec![Some(0.5), Some(0.6)]],
/// };
/// let panels = [panel("rank 8 and rank 64", 0.9), panel("Gaussian control", 0.1)];
/// let figure = heat_panels("Subspace similarity", "j", "i", "φ(i, j)", Some((0.0, 1.0)), &panels)?;
/// assert!(figure.svg().contains("Gaussian control"));
/// assert_eq!(figure.data()?.height(), 8);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn heat_panels(
    title: &str,
    x_label: &str,
    y_label: &str,
    unit: &str,
    scale: Option<(f64, f64)>,
    panels: &[HeatPanel],
) -> Result<Figure> {
    if let Some(panel) =
        panels.iter().find(|panel| panel.values.iter().any(|row| row.len() != panel.columns()))
    {
        let lengths: Vec<usize> = panel.values.iter().map(Vec::len).collect();
        return Err(Error::input(format!(
            "panel {:?} of {title:?} has rows of {lengths:?} values",
            panel.name
        ))
        .help("give each row the same number of values"));
    }
    if let Some((low, high)) = scale.filter(|(low, high)| !(low < high && drawable(*low) && drawable(*high)))
    {
        return Err(Error::input(format!("{low} to {high} is no range for the colours of {title:?}"))
            .help("give a smaller and a larger number, or None"));
    }
    let all = panels.iter().flat_map(|panel| &panel.values).flatten().flatten().copied();
    let Some(found) = range(all) else {
        return Err(nothing(title, "no cell has a finite number"));
    };
    let (low, high) = scale.unwrap_or(found);
    let layout = Layout::new(panels);
    let colours = Axis::new((low, high), Scale::Linear).over(TOP + layout.height.clamp(110.0, 260.0), TOP);
    let key_left = layout.right(panels.len()) + 22.0;
    let size = ((key_left + key_width(&colours)).max(420.0), TOP + layout.height.max(110.0) + 46.0);
    let number = |value: f64| cell_text(value, low.abs().max(high.abs()));
    let ink = |value: Option<f64>| match value.filter(|value| drawable(*value)) {
        Some(value) => palette::heat(colours.share(value)),
        None => Ink::text(0.07),
    };
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, size.0)?;
        canvas.text(&AXIS.fit(y_label, size.0 - 24.0), (12.0, 44.0), AXIS)?;
        for (index, panel) in panels.iter().enumerate() {
            let left = layout.left(index);
            canvas.text(&NAME.fit(&panel.name, layout.width), (left, TOP - 11.0), NAME)?;
            layout.axes(canvas, panel, left, x_label)?;
            for (row, values) in panel.values.iter().enumerate() {
                let mut column = 0;
                while column < values.len() {
                    let here = ink(values[column]);
                    let alike = || values[column..].iter().take_while(|value| ink(**value) == here).count();
                    // Small cells of one colour are drawn as one: a large map stays a small picture.
                    let count = if layout.cell < GRID { alike() } else { 1 };
                    let (from, to) = layout.cells(left, row, column, count);
                    canvas.rect(from, to, here)?;
                    let text =
                        values[column].filter(|value| drawable(*value)).map(&number).unwrap_or_default();
                    if layout.cell >= 15.0 && CELL.width(&text) + 3.0 <= layout.cell {
                        let middle = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
                        canvas.text(&text, middle, Label { ink: palette::on(here), ..CELL })?;
                    }
                    column += count;
                }
            }
        }
        key(canvas, key_left, &colours, unit, palette::heat)
    })?;
    let text = panels.iter().map(|panel| summary(panel, unit)).collect();
    Ok(Figure::new(title, size, body, text, data(panels, x_label, y_label, unit)))
}

/// Where the maps stand: square cells, as large in each map.
struct Layout {
    cell: f64,
    width: f64,
    height: f64,
}

impl Layout {
    fn new(panels: &[HeatPanel]) -> Self {
        let columns = panels.iter().map(HeatPanel::columns).max().unwrap_or(0).max(1) as f64;
        let rows = panels.iter().map(|panel| panel.values.len()).max().unwrap_or(0).max(1) as f64;
        let room = match panels.len() {
            1 => 420.0,
            2 => 280.0,
            count => (640.0 / count as f64).max(120.0),
        };
        let cell = (room / columns).min(room / rows).clamp(1.5, 40.0);
        // A small map is not a reason to cut its heading.
        let names = panels.iter().map(|panel| NAME.width(&panel.name)).fold(90.0, f64::max);
        Self { cell, width: (cell * columns).max(names.min(180.0)), height: cell * rows }
    }

    fn left(&self, index: usize) -> f64 {
        LEFT + index as f64 * (self.width + GAP)
    }

    fn right(&self, count: usize) -> f64 {
        self.left(count) - GAP
    }

    /// The corners of `count` cells beside each other: half a pixel inside where cells are large, so that the page shines
    /// through as a grid.
    fn cells(&self, left: f64, row: usize, column: usize, count: usize) -> ((f64, f64), (f64, f64)) {
        let (x, y) = (left + column as f64 * self.cell, TOP + row as f64 * self.cell);
        // Small cells lie a little under their neighbours, so that no page shines through.
        let inside = if self.cell >= GRID { 0.5 } else { -0.2 };
        ((x + inside, y + inside), (x + self.cell * count as f64 - inside, y + self.cell - inside))
    }

    /// Indices below and left of a map, and the name of the horizontal one.
    fn axes(&self, canvas: &mut Canvas<'_>, panel: &HeatPanel, left: f64, x_label: &str) -> Result<()> {
        let (rows, columns) = (panel.values.len(), panel.columns());
        let bottom = TOP + rows as f64 * self.cell;
        for index in ticks(rows, (13.0 / self.cell).ceil() as usize) {
            let y = TOP + (index as f64 - 0.5) * self.cell;
            canvas.text(&index.to_string(), (left - 6.0, y), Label::SMALL.at(HPos::Right, VPos::Center))?;
        }
        for index in ticks(columns, (22.0 / self.cell).ceil() as usize) {
            let x = left + (index as f64 - 0.5) * self.cell;
            canvas.text(&index.to_string(), (x, bottom + 6.0), Label::SMALL.at(HPos::Center, VPos::Top))?;
        }
        let label = AXIS.at(HPos::Center, VPos::Top);
        canvas.text(&label.fit(x_label, self.width), (left + self.width / 2.0, bottom + 24.0), label)
    }
}

/// 1 and the multiples of a round number that is at least `every`, up to `count`.
fn ticks(count: usize, every: usize) -> impl Iterator<Item = usize> {
    let round = [1, 2, 4, 8, 16, 32, 64, 128].into_iter().find(|&step| step >= every).unwrap_or(256);
    (1..=count).filter(move |&index| index == 1 || (index.is_multiple_of(round) && index > round / 2 + 1))
}

fn data(panels: &[HeatPanel], x_label: &str, y_label: &str, unit: &str) -> FigureData {
    let cells = || {
        panels.iter().flat_map(|panel| {
            panel.values.iter().enumerate().flat_map(move |(row, values)| {
                values.iter().enumerate().map(move |(column, value)| (panel, row + 1, column + 1, *value))
            })
        })
    };
    FigureData::default()
        .text("panel", cells().map(|(panel, ..)| panel.name.as_str()))
        .number(y_label, cells().map(|(_, row, ..)| row as f64))
        .number(x_label, cells().map(|(_, _, column, _)| column as f64))
        .number(unit, cells().map(|(.., value)| value.unwrap_or(f64::NAN)))
}

fn summary(panel: &HeatPanel, unit: &str) -> String {
    let all: Vec<f64> =
        panel.values.iter().flatten().flatten().copied().filter(|value| drawable(*value)).collect();
    let Some((low, high)) = range(all.iter().copied()) else {
        return format!("{}: no finite number\n", panel.name);
    };
    let mean = all.iter().map(|value| value / all.len() as f64).sum::<f64>();
    let (rows, columns) = (panel.values.len(), panel.columns());
    format!(
        "{}: {rows} × {columns}, {unit} {} to {}, mean {}\n",
        panel.name,
        short(low),
        short(high),
        short(mean)
    )
}
