//! Heat maps: a table of numbers as colours.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Label};
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{heading, key, key_width};
use super::numbers::{drawable, nothing, range};
use super::palette;
use super::pen::Ink;
use crate::error::{Error, Result};

/// Text in a cell.
pub(super) const CELL: Label = Label { size: 10.0, across: HPos::Center, ..Label::SMALL };

/// Draws `values[row][column]` as colours with a key, and as numbers where they fit. None, NaN and
/// infinity are empty cells. The first row is at the top.
///
/// # Errors
/// When the sizes of names and values differ, or there is no finite value.
///
/// # Examples
/// ```
/// use lorascope::plot::heat_map;
///
/// let rows = ["0".to_string(), "1".to_string()];
/// let columns = ["q_proj".to_string()];
/// let figure = heat_map("Effective rank", &rows, &columns, &[vec![Some(7.25)], vec![None]], "rank")?;
/// assert!(figure.svg().contains("7.25"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn heat_map(
    title: &str,
    rows: &[String],
    columns: &[String],
    values: &[Vec<Option<f64>>],
    unit: &str,
) -> Result<Figure> {
    heat_map_of(title, ("", rows), ("", columns), values, unit)
}

/// [`heat_map`] with a name for what the rows are, above theirs, and for what the columns are, in the numbers.
///
/// # Errors
/// As [`heat_map`].
///
/// # Examples
/// ```
/// use lorascope::plot::heat_map_of;
///
/// let (rows, columns) = (["0".to_string()], ["q_proj".to_string()]);
/// let figure = heat_map_of("Rank", ("layer", &rows), ("module", &columns), &[vec![Some(7.25)]], "rank (of 8)")?;
/// assert!(figure.svg().contains("layer"));
/// assert_eq!(figure.data()?.get_column_names(), ["layer", "module", "rank (of 8)"]);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn heat_map_of(
    title: &str,
    (row_name, rows): (&str, &[String]),
    (column_name, columns): (&str, &[String]),
    values: &[Vec<Option<f64>>],
    unit: &str,
) -> Result<Figure> {
    if values.len() != rows.len() || values.iter().any(|row| row.len() != columns.len()) {
        let widths: Vec<usize> = values.iter().map(Vec::len).collect();
        return Err(Error::input(format!(
            "{title:?} has {} row names and {} column names, but {} rows of {widths:?} values",
            rows.len(),
            columns.len(),
            values.len(),
        ))
        .help("give one row of values for each row name and one value for each column name"));
    }
    let value = |row: usize, column: usize| values[row][column].filter(|value| drawable(*value));
    let Some((low, high)) = range(values.iter().flatten().flatten().copied()) else {
        return Err(nothing(title, "no cell has a finite number"));
    };
    let layout = Layout::new(title, (row_name, rows), columns, (low, high));
    let whole = values.iter().flatten().flatten().all(|value| value.fract() == 0.0 || !drawable(*value));
    let peak = low.abs().max(high.abs());
    // Counts, such as ranks, need no decimals.
    let number =
        |value: f64| if whole && peak < 1e6 { format!("{value:.0}") } else { cell_text(value, peak) };
    let widest = values.iter().flatten().flatten().map(|v| CELL.width(&number(*v))).fold(0.0, f64::max);
    let numbers = layout.cell.1 >= 13.0 && widest + 4.0 <= layout.cell.0;
    let body = Canvas::draw(layout.size(), |canvas| {
        heading(canvas, title, layout.size().0)?;
        layout.names(canvas, (row_name, rows), columns)?;
        for row in 0..rows.len() {
            for column in 0..columns.len() {
                let (from, to) = layout.cell(row, column);
                let Some(value) = value(row, column) else {
                    canvas.rect(from, to, Ink::text(0.07))?;
                    continue;
                };
                let ink = palette::heat(layout.colours.share(value));
                canvas.rect(from, to, ink)?;
                if numbers {
                    let middle = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
                    canvas.text(&number(value), middle, Label { ink: palette::on(ink), ..CELL })?;
                }
            }
        }
        key(canvas, layout.key_left, &layout.colours, unit, palette::heat)
    })?;
    let cells = || (0..rows.len()).flat_map(|row| (0..columns.len()).map(move |column| (row, column)));
    let data = FigureData::default()
        .text(if row_name.is_empty() { "row" } else { row_name }, cells().map(|(row, _)| rows[row].as_str()))
        .text(
            if column_name.is_empty() { "column" } else { column_name },
            cells().map(|(_, column)| columns[column].as_str()),
        )
        .number(unit, cells().map(|(row, column)| value(row, column).unwrap_or(f64::NAN)));
    Ok(Figure::new(title, layout.size(), body, summary(columns, values, unit), data))
}

/// Where names, cells and key stand.
struct Layout {
    left: f64,
    top: f64,
    cell: (f64, f64),
    count: (usize, usize),
    upright: bool,
    width: f64,
    /// The colours' values, on the pixels of their key.
    colours: Axis,
    key_left: f64,
}

impl Layout {
    const NAMES: f64 = 180.0;

    fn new(title: &str, (row_name, rows): (&str, &[String]), columns: &[String], range: (f64, f64)) -> Self {
        let widest = |names: &[String]| {
            names.iter().map(|name| Label::SMALL.width(name)).fold(0.0, f64::max).min(Self::NAMES)
        };
        let left = 12.0 + widest(rows).max(Label::SMALL.width(row_name).min(Self::NAMES)) + 8.0;
        let width = (560.0 / columns.len() as f64).clamp(16.0, 76.0);
        let height = (560.0 / rows.len() as f64).clamp(7.0, 24.0);
        let upright = widest(columns) + 6.0 > width;
        let top = 48.0 + if upright { widest(columns) + 6.0 } else { 20.0 };
        let cells = left + width * columns.len() as f64;
        let bottom = (top + height * rows.len() as f64).clamp(top + 130.0, top + 260.0);
        let colours = Axis::new(range, Scale::Linear).over(bottom, top);
        let key_left = cells + 22.0;
        // A short map is not a reason to cut a title.
        let total =
            (key_left + key_width(&colours)).max((24.0 + Label::TITLE.width(title)).clamp(320.0, 720.0));
        let count = (rows.len(), columns.len());
        Self { left, top, cell: (width, height), count, upright, width: total, colours, key_left }
    }

    fn bottom(&self) -> f64 {
        self.top + self.cell.1 * self.count.0 as f64
    }

    fn size(&self) -> (f64, f64) {
        (self.width, self.bottom().max(self.top + 136.0) + 18.0)
    }

    /// The corners of a cell, half a pixel inside, so that the page shines through as a grid.
    fn cell(&self, row: usize, column: usize) -> ((f64, f64), (f64, f64)) {
        let (x, y) = (self.left + column as f64 * self.cell.0, self.top + row as f64 * self.cell.1);
        ((x + 0.5, y + 0.5), (x + self.cell.0 - 0.5, y + self.cell.1 - 0.5))
    }

    fn names(
        &self,
        canvas: &mut Canvas<'_>,
        (row_name, rows): (&str, &[String]),
        columns: &[String],
    ) -> Result<()> {
        if !row_name.is_empty() {
            let label = Label { bold: true, ..Label::SMALL.at(HPos::Right, VPos::Center) };
            canvas.text(&label.fit(row_name, Self::NAMES), (self.left - 7.0, self.top - 11.0), label)?;
        }
        let every = (12.0 / self.cell.1).ceil().max(1.0) as usize;
        for (row, name) in rows.iter().enumerate().step_by(every) {
            let y = self.top + (row as f64 + 0.5) * self.cell.1;
            let label = Label::SMALL.at(HPos::Right, VPos::Center);
            canvas.text(&label.fit_end(name, Self::NAMES), (self.left - 7.0, y), label)?;
        }
        for (column, name) in columns.iter().enumerate() {
            let x = self.left + (column as f64 + 0.5) * self.cell.0;
            let label = if self.upright {
                Label { upright: true, ..Label::SMALL }
            } else {
                Label::SMALL.at(HPos::Center, VPos::Center)
            };
            let y = self.top - if self.upright { 5.0 } else { 11.0 };
            canvas.text(&label.fit_end(name, Self::NAMES), (x, y), label)?;
        }
        Ok(())
    }
}

/// A number with the same decimals in all cells of a map whose largest magnitude is `peak`.
pub(super) fn cell_text(value: f64, peak: f64) -> String {
    match peak {
        100.0..1e6 => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        0.05..10.0 => format!("{value:.2}"),
        _ => short(value),
    }
}

fn summary(columns: &[String], values: &[Vec<Option<f64>>], unit: &str) -> String {
    let line = |(column, name): (usize, &String)| {
        let all = || values.iter().filter_map(move |row| row[column]).filter(|value| drawable(*value));
        let Some((low, high)) = range(all()) else { return format!("{name}: no finite number\n") };
        let mean = all().sum::<f64>() / all().count() as f64;
        format!("{name}: {unit} {} to {}, mean {}\n", short(low), short(high), short(mean))
    };
    columns.iter().enumerate().map(line).collect()
}
