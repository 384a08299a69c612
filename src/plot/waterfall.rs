//! A spectrum that moves: singular values over the steps of a run.

use super::axis::{Axis, Scale, short};
use super::canvas::Canvas;
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{AXIS, Frame, Legend, LegendSample, below, heading, key, key_width};
use super::line_chart::curve;
use super::numbers::{drawable, nothing, range, sparkline};
use super::palette;
use super::pen::{Dash, Ink, Pen};
use crate::error::Result;

const WIDTH: f64 = 720.0;
/// Decades below the largest value that have colours of their own.
const DECADES: i32 = 6;
/// Cells that a picture may have at most: a long run is drawn in fewer columns.
const CELLS: usize = 8000;
const COLUMNS: usize = 240;

const INDEX: &str = "index k of the singular value";
const SIGMA: &str = "singular value σ, log scale";

/// The least and the greatest positive value, of those no more than `decades` below the greatest.
fn positive<'a>(
    title: &str,
    spectra: impl Iterator<Item = &'a (f64, Vec<f64>)> + Clone,
    decades: i32,
) -> Result<(f64, f64)> {
    let all = spectra.filter(|(step, _)| drawable(*step)).flat_map(|(_, values)| values);
    let all = all.copied().filter(|&s| s > 0.0);
    let high = range(all.clone()).map_or(0.0, |(_, high)| high);
    let floor = high * 10f64.powi(-decades);
    range(all.filter(|&s| s >= floor)).ok_or_else(|| nothing(title, "no singular value is above zero"))
}

/// Draws spectra over steps as a map: steps to the right, the index k of the singular value
/// downwards, log σ as colour. `spectra` holds (step, σ₁ ≥ σ₂ ≥ …). Zeros and NaN are
/// gaps; values more than six decades below the largest have the last colour. Of a long run
/// each column is the geometric mean of some steps.
///
/// # Errors
/// When no value is above zero.
///
/// # Examples
/// ```
/// use lorascope::plot::waterfall;
///
/// let spectra = [(0.0, vec![0.0, 0.0]), (1.0, vec![0.2, 0.1]), (2.0, vec![0.9, 0.1])];
/// let figure = waterfall("layers.3 q_proj", &spectra)?;
/// assert_eq!(figure.data()?.height(), 6);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn waterfall(title: &str, spectra: &[(f64, Vec<f64>)]) -> Result<Figure> {
    let values = positive(title, spectra.iter(), DECADES)?;
    let mut kept: Vec<&(f64, Vec<f64>)> = spectra.iter().filter(|(step, _)| drawable(*step)).collect();
    // Columns lie between their neighbours, so that a table in any other order would tear the map.
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rows = kept.iter().map(|(_, values)| values.len()).max().unwrap_or(1);
    let share = kept.len().div_ceil(COLUMNS.min((CELLS / rows).max(1)));
    let columns: Vec<(f64, Vec<f64>)> = kept.chunks(share).map(|part| mean(part, rows)).collect();
    let borders = borders(&columns);

    let (top, height) = (64.0, (rows as f64 * 18.0).clamp(120.0, 320.0));
    let bottom = top + height;
    let size = (WIDTH, bottom + 46.0);
    let colours = Axis::new(values, Scale::Log).over(bottom, top);
    // Half a row beyond the first and the last index.
    let y = Axis::new((0.5, rows as f64 + 0.5), Scale::Linear).whole(true).over(top, bottom);
    let left = 22.0 + y.label_width(18.0);
    let ends = (borders[0], borders[borders.len() - 1]);
    let whole = kept.iter().all(|(step, _)| step.fract() == 0.0);
    let x = Axis::new(ends, Scale::Linear).whole(whole).over(left, WIDTH - 22.0 - key_width(&colours));
    let ink = |value: f64| match colours.at(value.max(values.0)) {
        Some(at) if value > 0.0 => palette::heat((bottom - at) / height),
        _ => Ink::text(0.07),
    };
    let body = Canvas::draw(size, |canvas| {
        heading(canvas, title, WIDTH)?;
        canvas.text(INDEX, (12.0, top - 17.0), AXIS)?;
        for row in 0..rows {
            let (above, under) = (y.at(row as f64 + 0.5), y.at(row as f64 + 1.5));
            let (Some(above), Some(under)) = (above, under) else { continue };
            let mut column = 0;
            while column < columns.len() {
                let here = ink(columns[column].1[row]);
                let same =
                    columns[column..].iter().take_while(|(_, values)| ink(values[row]) == here).count();
                let (from, to) = (x.at(borders[column]), x.at(borders[column + same]));
                if let (Some(from), Some(to)) = (from, to) {
                    // A little under its neighbours, so that no page shines through between them.
                    canvas.rect((from, above), ((to + 0.6).min(x.to), (under + 0.6).min(bottom)), here)?;
                }
                column += same;
            }
        }
        for (value, label) in y.ticks(18.0) {
            let Some(at) = y.at(value) else { continue };
            let small = super::canvas::Label::SMALL;
            canvas.text(
                &label,
                (left - 7.0, at),
                small.at(plotters::style::text_anchor::HPos::Right, small.down),
            )?;
        }
        x.draw_below(canvas, bottom, 64.0, true)?;
        below(canvas, "step", &x, bottom)?;
        key(canvas, x.to + 22.0, &colours, "singular value σ", palette::heat)
    })?;
    Ok(Figure::new(title, size, body, text(spectra), data(spectra)))
}

/// The geometric mean of each index over some steps, at the first of them.
fn mean(part: &[&(f64, Vec<f64>)], rows: usize) -> (f64, Vec<f64>) {
    let at = |row: usize| {
        let logs: Vec<f64> = part
            .iter()
            .filter_map(|(_, values)| values.get(row))
            .filter(|&&s| s > 0.0 && drawable(s))
            .map(|s| s.ln())
            .collect();
        (logs.iter().sum::<f64>() / logs.len() as f64).exp()
    };
    (part[0].0, (0..rows).map(at).collect())
}

/// Where columns begin and end: half way between two of them.
fn borders(columns: &[(f64, Vec<f64>)]) -> Vec<f64> {
    let steps: Vec<f64> = columns.iter().map(|column| column.0).collect();
    let between = |pair: &[f64]| pair[0] / 2.0 + pair[1] / 2.0;
    let middles: Vec<f64> = steps.windows(2).map(between).collect();
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    let begin = middles.first().map_or(first - 0.5, |middle| first - (middle - first));
    let end = middles.last().map_or(last + 0.5, |middle| last + (last - middle));
    std::iter::once(begin).chain(middles).chain([end]).collect()
}

/// Draws spectra over steps as lines: one for each index k, on a log axis, from blue (k = 1) to
/// orange (the last). `spectra` holds (step, σ₁ ≥ σ₂ ≥ …) in ascending steps; zeros, NaN and values
/// below 10⁻¹³ of the largest are gaps.
///
/// # Errors
/// When no value is above zero.
///
/// # Examples
/// ```
/// use lorascope::plot::traces;
///
/// let figure = traces("layers.3 q_proj", &[(1.0, vec![0.2, 0.1]), (2.0, vec![0.9, 0.1])])?;
/// assert!(figure.svg().contains("step"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn traces(title: &str, spectra: &[(f64, Vec<f64>)]) -> Result<Figure> {
    draw_traces(title, &[("", spectra)])
}

/// [`traces`] of two kinds of spectra on the same axes, each with its name: the first unbroken, the
/// second dashed, as those of B·A and of B·C^½. The first column of the figure's data has the names.
///
/// # Errors
/// When no value is above zero.
///
/// # Examples
/// ```
/// use lorascope::plot::traces_beside;
///
/// let plain = [(1.0, vec![0.2, 0.1]), (2.0, vec![0.9, 0.1])];
/// let weighted = [(2.0, vec![3.0, 0.2])];
/// let figure = traces_beside("layers.3 q_proj", ("B·A", &plain), ("B·C^½", &weighted))?;
/// assert!(figure.svg().contains("B·C^½") && figure.svg().contains("stroke-dasharray"));
/// assert_eq!(figure.data()?.column("singular value")?.f64()?.get(4), Some(3.0));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn traces_beside(
    title: &str,
    solid: (&str, &[(f64, Vec<f64>)]),
    dashed: (&str, &[(f64, Vec<f64>)]),
) -> Result<Figure> {
    draw_traces(title, &[solid, dashed])
}

/// What the singular values are of, and they themselves: (step, σ₁ ≥ σ₂ ≥ …).
type Kind<'a> = (&'a str, &'a [(f64, Vec<f64>)]);

fn draw_traces(title: &str, kinds: &[Kind<'_>]) -> Result<Figure> {
    let all = || kinds.iter().flat_map(|(_, spectra)| *spectra);
    let values = positive(title, all(), 13)?;
    let rows = all().map(|(_, values)| values.len()).max().unwrap_or(1);
    let steps = range(all().map(|(step, _)| *step)).unwrap_or((0.0, 0.0));
    let whole = all().all(|(step, _)| step.fract() == 0.0);
    let x = Axis::new(steps, Scale::Linear).whole(whole);
    let y = Axis::new(values, Scale::Log).padded(0.04);
    let dash = |kind: usize| if kind == 0 { Dash::Solid } else { Dash::Long };
    let names = kinds.iter().enumerate().map(|(kind, (name, _))| (*name, LegendSample::Plain(dash(kind))));
    let frame = Frame::new((WIDTH, 380.0), Legend::of(names, WIDTH - 24.0), x, y, 84.0);
    let body = Canvas::draw(frame.size, |canvas| {
        frame.draw(canvas, title, "step", SIGMA)?;
        for (row, (kind, (_, spectra))) in
            (0..rows).rev().flat_map(|row| kinds.iter().enumerate().map(move |kind| (row, kind)))
        {
            let at = |(step, values): &(f64, Vec<f64>)| (*step, values.get(row).copied().unwrap_or(f64::NAN));
            let points: Vec<(f64, f64)> = spectra.iter().map(at).collect();
            let ink = palette::depth(row as f64 / (rows.max(2) - 1) as f64);
            let pen = Pen::new(ink, if rows > 12 { 1.3 } else { 1.8 }).dashed(dash(kind));
            curve(canvas, &points, pen, &frame.x, &frame.y)?;
        }
        if rows == 1 {
            return Ok(());
        }
        let (top, bottom) = frame.ends();
        let axis = Axis::new((1.0, rows as f64), Scale::Linear).whole(true);
        let axis = axis.over(top, bottom.min(top + 200.0));
        key(canvas, frame.x.to + 24.0, &axis, "index k", palette::depth)
    })?;
    if let [(_, spectra)] = kinds {
        return Ok(Figure::new(title, frame.size, body, text(spectra), data(spectra)));
    }
    let said = kinds.iter().map(|(name, spectra)| format!("{name}\n{}", text(spectra))).collect();
    let count = |spectra: &[(f64, Vec<f64>)]| spectra.iter().map(|(_, values)| values.len()).sum();
    let named = kinds.iter().flat_map(|(name, spectra)| std::iter::repeat_n(*name, count(spectra)));
    let data = columns(FigureData::default().text("spectrum", named), all());
    Ok(Figure::new(title, frame.size, body, said, data))
}

fn data(spectra: &[(f64, Vec<f64>)]) -> FigureData {
    columns(FigureData::default(), spectra.iter())
}

/// `start` and the columns step, k and singular value.
fn columns<'a>(start: FigureData, spectra: impl Iterator<Item = &'a (f64, Vec<f64>)> + Clone) -> FigureData {
    let rows = || {
        let all = spectra.clone();
        let all = all.flat_map(|(step, values)| values.iter().zip(1u32..).map(move |row| (*step, row)));
        all.map(|(step, (value, k))| (step, f64::from(k), *value))
    };
    start
        .number("step", rows().map(|row| row.0))
        .number("k", rows().map(|row| row.1))
        .number("singular value", rows().map(|row| row.2))
}

fn text(spectra: &[(f64, Vec<f64>)]) -> String {
    let rows = spectra.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    let line = |row: usize| {
        let values: Vec<f64> =
            spectra.iter().map(|(_, values)| values.get(row).copied().unwrap_or(f64::NAN)).collect();
        let ends = [values.first(), values.last()].map(|end| short(end.copied().unwrap_or(f64::NAN)));
        let logs: Vec<f64> = values.iter().map(|s| s.ln()).collect();
        format!("σ_{}: {} → {} {}\n", row + 1, ends[0], ends[1], sparkline(&logs))
    };
    (0..rows).map(line).collect()
}
