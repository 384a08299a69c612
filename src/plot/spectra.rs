//! Singular values by index on a log scale, a panel for each module and a line for each layer.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::{Canvas, Ink, Label};
use super::data::Data;
use super::figure::Figure;
use super::lines::{AXIS, curve, heading};
use super::{drawable, nothing, palette, range, sparkline};
use crate::error::Result;

/// One line of a [`spectra`] chart.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Curve {
    /// What the plain twin calls it.
    pub name: String,
    /// Where its colour lies between those of the first and the last layer.
    pub depth: f64,
    /// σ₁ ≥ σ₂ ≥ …; zeros, NaN and infinity are gaps.
    pub values: Vec<f64>,
}

/// One of the charts beside each other in a [`spectra`] figure.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Panel {
    /// The heading of the panel: a module.
    pub name: String,
    /// Its lines.
    pub curves: Vec<Curve>,
}

/// Decades below the largest value that are drawn; beyond them lies rounding.
const DECADES: i32 = 13;
const WIDTH: f64 = 760.0;
const GAP: f64 = 14.0;
const TOP: f64 = 62.0;
const HEADING: f64 = 20.0;

/// Draws spectra on a common log axis. The colour runs from blue (first layer) to orange (last).
/// Where no value is above zero (B at its start) the panel stays empty and says so.
///
/// # Errors
/// When there is no curve with a value.
///
/// # Examples
/// ```
/// use lorascope::plot::{Curve, Panel, spectra};
///
/// let curve = |depth: f64| Curve {
///     name: format!("layer {depth}"),
///     depth,
///     values: (0..8).map(|i| (-f64::from(i)).exp()).collect(),
/// };
/// let panel = Panel { name: "q_proj".into(), curves: vec![curve(0.0), curve(1.0)] };
/// assert!(spectra("Spectra", &[panel])?.svg().contains("q_proj"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn spectra(title: &str, panels: &[Panel]) -> Result<Figure> {
    let curves = || panels.iter().flat_map(|panel| &panel.curves);
    let longest = curves().map(|curve| curve.values.len()).max().unwrap_or(0);
    if longest == 0 {
        return Err(nothing(title, "no spectrum was given"));
    }
    let positive = curves().flat_map(|curve| &curve.values).copied().filter(|&s| s > 0.0 && drawable(s));
    let (low, high) = range(positive).unwrap_or((0.1, 1.0));
    let floor = high * 10f64.powi(-DECADES);
    let y = Axis::new((low.max(floor), high), Scale::Log).padded(0.04);
    let x = Axis::new((1.0, longest as f64), Scale::Linear).padded(0.02).whole(true);
    let depths = range(curves().map(|curve| curve.depth)).unwrap_or((0.0, 0.0));

    let layout = Layout::new(panels.len(), y.over(200.0, 0.0).label_width(34.0), depths.0 < depths.1);
    let body = Canvas::draw(layout.size(), |canvas| {
        heading(canvas, title, WIDTH)?;
        canvas.text("singular value σ, log scale", (12.0, 43.0), AXIS)?;
        for (index, panel) in panels.iter().enumerate() {
            layout.panel(canvas, index, panel, x, y, depths)?;
        }
        if layout.key {
            depth_key(canvas, WIDTH - 46.0, (TOP + HEADING, layout.size().1 - 52.0), depths)?;
        }
        let middle = (layout.left + layout.right()) / 2.0;
        canvas.text(
            "index of the singular value",
            (middle, layout.size().1 - 18.0),
            AXIS.at(HPos::Center, VPos::Center),
        )
    })?;
    let text = panels.iter().map(summary).collect();
    Ok(Figure::new(title, layout.size(), body, text, data(panels)))
}

/// Where the panels stand.
struct Layout {
    count: usize,
    columns: usize,
    left: f64,
    key: bool,
}

impl Layout {
    fn new(count: usize, labels: f64, key: bool) -> Self {
        let columns = match count {
            1..=3 => count,
            4 => 2,
            5 | 6 => 3,
            _ => 4,
        };
        Self { count, columns, left: 24.0 + labels, key }
    }

    fn rows(&self) -> usize {
        self.count.div_ceil(self.columns)
    }

    fn right(&self) -> f64 {
        if self.key { WIDTH - 84.0 } else { WIDTH - 20.0 }
    }

    /// Pixels of one panel's plot.
    fn panel_size(&self) -> (f64, f64) {
        let gaps = (self.columns - 1) as f64 * GAP;
        let height = match self.rows() {
            1 => 270.0,
            2 => 165.0,
            _ => 130.0,
        };
        ((self.right() - self.left - gaps) / self.columns as f64, height)
    }

    fn size(&self) -> (f64, f64) {
        (WIDTH, TOP + self.rows() as f64 * (self.panel_size().1 + HEADING + GAP) + 44.0)
    }

    fn panel(
        &self,
        canvas: &mut Canvas<'_>,
        index: usize,
        panel: &Panel,
        x: Axis,
        y: Axis,
        depths: (f64, f64),
    ) -> Result<()> {
        let (row, column) = (index / self.columns, index % self.columns);
        let (width, height) = self.panel_size();
        let left = self.left + column as f64 * (width + GAP);
        let top = TOP + row as f64 * (height + HEADING + GAP) + HEADING;
        let (x, y) = (x.over(left, left + width), y.over(top + height, top));
        let name = Label { size: 12.0, bold: true, ..Label::SMALL };
        canvas.text(&name.fit(&panel.name, width), (left, top - 11.0), name)?;
        y.draw_left(canvas, left, left + width, column == 0)?;
        // Labels where no panel stands below.
        x.draw_below(canvas, top + height, 34.0, index + self.columns >= self.count)?;
        let mut drawn = false;
        for line in &panel.curves {
            let t = (line.depth - depths.0) / (depths.1 - depths.0);
            let ink = palette::depth(if t.is_finite() { t } else { 0.0 }).faded(0.9);
            let points: Vec<(f64, f64)> =
                line.values.iter().enumerate().map(|(k, &s)| (k as f64 + 1.0, s)).collect();
            drawn |= points.iter().any(|&(_, s)| s > 0.0);
            curve(canvas, &points, ink, if panel.curves.len() > 6 { 1.4 } else { 2.0 }, &x, &y)?;
        }
        if !drawn {
            let middle = (left + width / 2.0, top + height / 2.0);
            canvas.text("all zero", middle, AXIS.at(HPos::Center, VPos::Center))?;
        }
        Ok(())
    }
}

/// The strip that says which colour is which layer.
fn depth_key(
    canvas: &mut Canvas<'_>,
    left: f64,
    (top, bottom): (f64, f64),
    depths: (f64, f64),
) -> Result<()> {
    const STRIPS: usize = 40;
    let bottom = bottom.min(top + 220.0);
    let height = (bottom - top - 20.0) / STRIPS as f64;
    let begin = top + 20.0;
    canvas.text("layer", (left, top + 4.0), Label::SMALL)?;
    for strip in 0..STRIPS {
        let y = begin + strip as f64 * height;
        let ink = palette::depth(strip as f64 / (STRIPS - 1) as f64);
        canvas.rect((left, y), (left + 12.0, y + height + 0.6), ink)?;
    }
    let axis = Axis::new(depths, Scale::Linear).whole(true).over(begin + 4.0, bottom - 4.0);
    for (value, label) in axis.ticks(26.0) {
        let Some(y) = axis.at(value) else { continue };
        canvas.line((left + 12.0, y), (left + 15.0, y), Ink::text(0.55), 1.0)?;
        canvas.text(&label, (left + 18.0, y), Label::SMALL)?;
    }
    Ok(())
}

fn data(panels: &[Panel]) -> Data {
    let curves = || panels.iter().flat_map(|panel| panel.curves.iter().map(move |curve| (panel, curve)));
    let rows = || {
        curves()
            .flat_map(|(panel, curve)| curve.values.iter().zip(1u32..).map(move |row| (panel, curve, row)))
    };
    Data::default()
        .text("panel", rows().map(|(panel, _, _)| panel.name.as_str()))
        .text("curve", rows().map(|(_, curve, _)| curve.name.as_str()))
        .number("k", rows().map(|(_, _, (_, k))| f64::from(k)))
        .number("singular value", rows().map(|(_, _, (value, _))| *value))
}

fn summary(panel: &Panel) -> String {
    let line = |curve: &Curve| {
        let logs: Vec<f64> = curve.values.iter().map(|s| s.log10()).collect();
        let first = curve.values.first().copied().unwrap_or(0.0);
        let last = curve.values.last().copied().unwrap_or(0.0);
        format!(
            "  {}: σ₁ {}, σ_{} {} {}\n",
            curve.name,
            short(first),
            curve.values.len(),
            short(last),
            sparkline(&logs)
        )
    };
    let lines: String = panel.curves.iter().map(line).collect();
    format!("{}\n{lines}", panel.name)
}
