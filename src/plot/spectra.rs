//! Singular values by index on a log scale, a panel for each module and a line for each layer.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Scale, short};
use super::canvas::Canvas;
use super::figure::Figure;
use super::figure_data::FigureData;
use super::frame::{AXIS, key};
use super::grid::Grid;
use super::line_chart::curve;
use super::numbers::{nothing, range, sparkline};
use super::palette;
use super::pen::{Dash, Ink, Pen};
use crate::error::Result;

/// One line of a [`spectra`] chart.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Curve {
    /// What the plain twin calls it.
    pub name: String,
    /// Where its colour lies between those of the first and the last layer.
    pub depth: f64,
    /// σ₁ ≥ σ₂ ≥ …; NaN and infinity are gaps; on a log axis zeros are rings at its foot.
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

impl Curve {
    /// (k, σ_k), k from 1.
    fn points(&self) -> Vec<(f64, f64)> {
        self.values.iter().enumerate().map(|(k, &s)| (k as f64 + 1.0, s)).collect()
    }
}

/// Decades below the largest value that are drawn; beyond them lies rounding.
const DECADES: i32 = 13;

/// Draws spectra on a common log axis; values below 10⁻¹³ of the largest are rounding; they and
/// zeros are rings on the foot of the panel.
/// The colour runs from blue (first layer) to orange (last).
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
    spectra_as(title, panels, SpectraStyle::default())
}

/// How [`spectra_as`] draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpectraStyle {
    /// The axis of the singular values; logarithmic by default.
    pub scale: Scale,
    /// Whether a line is fitted to each curve; none by default.
    pub fit: Fit,
}

impl Default for SpectraStyle {
    fn default() -> Self {
        Self { scale: Scale::Log, fit: Fit::None }
    }
}

/// Whether a line is fitted to a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// None.
    #[default]
    None,
    /// A straight one, in least squares.
    Line,
}

/// [`spectra`] on the scale of `style`, with a fitted line if it says so.
///
/// The line is the least-squares fit through the values that are drawn: of σ over k on a linear axis,
/// where zeros count, and of log₁₀ σ over k on a logarithmic one, where it is an exponential decay
/// and what lies below 10⁻¹³ of the largest value does not count.
///
/// # Errors
/// When there is no curve with a value.
///
/// # Examples
/// ```
/// use lorascope::display::Show;
/// use lorascope::plot::{Curve, Fit, Panel, SpectraStyle, spectra_as};
///
/// // A tenth from one to the next.
/// let curve = Curve { name: "layer 0".into(), depth: 0.0, values: vec![1.0, 0.1, 0.01, 0.001] };
/// let panel = Panel { name: "q_proj".into(), curves: vec![curve] };
/// let style = SpectraStyle { fit: Fit::Line, ..SpectraStyle::default() };
/// assert!(spectra_as("Spectra", &[panel], style)?.show().text.contains("log₁₀ σ falls by 1 from k to k + 1"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn spectra_as(title: &str, panels: &[Panel], style: SpectraStyle) -> Result<Figure> {
    let curves = || panels.iter().flat_map(|panel| &panel.curves);
    let longest = curves().map(|curve| curve.values.len()).max().unwrap_or(0);
    if longest == 0 {
        return Err(nothing(title, "no spectrum was given"));
    }
    let positive = || curves().flat_map(|curve| &curve.values).copied().filter(|&s| s > 0.0);
    let high = range(positive()).map_or(1.0, |(_, high)| high);
    let floor = high * 10f64.powi(-DECADES);
    let low = range(positive().filter(|&s| s >= floor)).map_or(0.1, |(low, _)| low);
    let y = match style.scale {
        Scale::Log => Axis::new((low, high), Scale::Log),
        Scale::Linear => Axis::new((0.0, high), Scale::Linear),
    };
    let y = y.padded(0.04);
    let x = Axis::new((1.0, longest as f64), Scale::Linear).padded(0.02).whole(true);
    let depths = range(curves().map(|curve| curve.depth)).unwrap_or((0.0, 0.0));
    let keyed = depths.0 < depths.1;

    let grid = Grid::new(panels.len(), &y, if keyed { 84.0 } else { 20.0 });
    let y_label = match style.scale {
        Scale::Log => "singular value σ, log scale",
        Scale::Linear => "singular value σ",
    };
    let body = Canvas::draw(grid.size(), |canvas| {
        grid.frame(canvas, title, "index k of the singular value", y_label)?;
        for (index, one) in panels.iter().enumerate() {
            panel(canvas, &grid, index, one, (x, y), style, depths)?;
        }
        if !keyed {
            return Ok(());
        }
        let (top, bottom) = grid.ends();
        // The first layer on top, as in a table.
        let axis = Axis::new(depths, Scale::Linear).whole(true).over(top, bottom.min(top + 200.0));
        key(canvas, grid.right() + 24.0, &axis, "layer", palette::depth)
    })?;
    let text = panels.iter().map(|panel| summary(panel, style, &y)).collect();
    Ok(Figure::new(title, grid.size(), body, text, data(panels)))
}

/// The least-squares line log₁₀ σ = a + b·k, or σ = a + b·k on a linear axis, through the values
/// that `y` holds, which are those that are drawn; None for fewer than two.
fn line(points: &[(f64, f64)], scale: Scale, y: &Axis) -> Option<(f64, f64)> {
    let kept = points.iter().filter(|(_, s)| y.at(*s).is_some());
    let kept: Vec<(f64, f64)> =
        kept.map(|&(k, s)| (k, if scale == Scale::Log { s.log10() } else { s })).collect();
    let count = kept.len() as f64;
    let (k, s) =
        (kept.iter().map(|p| p.0).sum::<f64>() / count, kept.iter().map(|p| p.1).sum::<f64>() / count);
    let spread: f64 = kept.iter().map(|p| (p.0 - k).powi(2)).sum();
    let slope = kept.iter().map(|p| (p.0 - k) * (p.1 - s)).sum::<f64>() / spread;
    slope.is_finite().then_some((s - slope * k, slope))
}

/// Whether a value is 0, or so near it that it is rounding and below the axis.
fn is_zero(s: f64, y: &Axis) -> bool {
    (0.0..1e300).contains(&s) && y.at(s).is_none()
}

fn panel(
    canvas: &mut Canvas<'_>,
    grid: &Grid,
    index: usize,
    panel: &Panel,
    axes: (Axis, Axis),
    style: SpectraStyle,
    depths: (f64, f64),
) -> Result<()> {
    let (x, y) = grid.panel(canvas, index, &panel.name, axes)?;
    let mut drawn = false;
    for one in &panel.curves {
        let t = (one.depth - depths.0) / (depths.1 - depths.0);
        let ink = palette::depth(if t.is_finite() { t } else { 0.0 }).faded(0.9);
        let points = one.points();
        drawn |= points.iter().any(|&(_, s)| s > 0.0);
        let width = if panel.curves.len() > 6 { 1.4 } else { 2.0 };
        curve(canvas, &points, Pen::new(ink, width), &x, &y)?;
        if style.scale == Scale::Log && points.iter().any(|&(_, s)| s > 0.0) {
            // A log axis has no zero: a mark on its foot says that there is one.
            for at in points.iter().filter(|&&(_, s)| is_zero(s, &y)).filter_map(|&(k, _)| x.at(k)) {
                canvas.ring((at, y.from.max(y.to) - 3.0), 2.4, ink)?;
            }
        }
        let fit = (style.fit == Fit::Line).then(|| line(&points, style.scale, &y)).flatten();
        let Some((begin, slope)) = fit else { continue };
        let at = |k: f64| {
            if style.scale == Scale::Log { 10f64.powf(begin + slope * k) } else { begin + slope * k }
        };
        // In small steps: what leaves the panel is cut off there.
        let steps = (0..=100).map(|i| 1.0 + f64::from(i) / 100.0 * (points.len() as f64 - 1.0));
        let fitted: Vec<(f64, f64)> = steps.map(|k| (k, at(k))).collect();
        curve(canvas, &fitted, Pen::new(Ink::text(0.7), 1.2).dashed(Dash::Long), &x, &y)?;
    }
    if !drawn {
        let middle = ((x.from + x.to) / 2.0, (y.from + y.to) / 2.0);
        canvas.text("all zero", middle, AXIS.at(HPos::Center, VPos::Center))?;
    }
    Ok(())
}

fn data(panels: &[Panel]) -> FigureData {
    let curves = || panels.iter().flat_map(|panel| panel.curves.iter().map(move |curve| (panel, curve)));
    let rows = || {
        curves()
            .flat_map(|(panel, curve)| curve.values.iter().zip(1u32..).map(move |row| (panel, curve, row)))
    };
    FigureData::default()
        .text("panel", rows().map(|(panel, _, _)| panel.name.as_str()))
        .text("curve", rows().map(|(_, curve, _)| curve.name.as_str()))
        .number("k", rows().map(|(_, _, (_, k))| f64::from(k)))
        .number("singular value", rows().map(|(_, _, (value, _))| *value))
}

fn summary(panel: &Panel, style: SpectraStyle, y: &Axis) -> String {
    let summary = |curve: &Curve| {
        let log = style.scale == Scale::Log;
        let heights: Vec<f64> = curve.values.iter().map(|s| if log { s.log10() } else { *s }).collect();
        let first = curve.values.first().copied().unwrap_or(0.0);
        let last = curve.values.last().copied().unwrap_or(0.0);
        let fit = (style.fit == Fit::Line).then(|| line(&curve.points(), style.scale, y)).flatten();
        let fit = fit.map_or_else(String::new, |(_, slope)| {
            let (name, verb) =
                (if log { "log₁₀ σ" } else { "σ" }, if slope > 0.0 { "rises" } else { "falls" });
            format!(", {name} {verb} by {} from k to k + 1", short(slope.abs()))
        });
        let zeros = match curve.values.iter().filter(|s| log && is_zero(**s, y)).count() {
            0 => String::new(),
            zeros => format!(", {zeros} of them 0"),
        };
        format!(
            "  {}: σ₁ {}, σ_{} {}{zeros}{fit} {}\n",
            curve.name,
            short(first),
            curve.values.len(),
            short(last),
            sparkline(&heights)
        )
    };
    let lines: String = panel.curves.iter().map(summary).collect();
    format!("{}\n{lines}", panel.name)
}
