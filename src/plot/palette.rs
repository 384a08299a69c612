//! Colours. Lines keep a contrast of about 3:1 to a white and to a near-black page.

use super::canvas::{Dash, Ink, Pen};

/// Colours for series that have no order (Okabe & Ito 2008, without black and yellow, which
/// vanish on one of the two kinds of pages).
const SERIES: [(u8, u8, u8); 6] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)];

/// Blue over violet to orange: order along the blue-yellow axis, which colour-blind readers see.
const DEPTH: [(u8, u8, u8); 5] =
    [(58, 110, 214), (126, 99, 208), (184, 84, 168), (221, 92, 104), (236, 131, 38)];

/// viridis (van der Walt & Smith 2015): perceptually uniform, dark to bright.
const HEAT: [(u8, u8, u8); 10] = [
    (68, 1, 84),
    (72, 40, 120),
    (62, 73, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (110, 206, 88),
    (181, 222, 43),
    (253, 231, 37),
];

pub(super) fn series(index: usize) -> Ink {
    Ink::solid(SERIES[index % SERIES.len()])
}

/// How the lines of a series are broken: two series differ by more than their colour.
pub(super) fn dash(index: usize) -> Dash {
    [Dash::Solid, Dash::Long, Dash::Dots, Dash::Mixed][index % 4]
}

/// The line of a series.
pub(super) fn pen(index: usize, width: f64) -> Pen {
    Pen::new(series(index), width).dashed(dash(index))
}

/// The colour of a layer at depth `t`, from 0 (first) to 1 (last).
pub(super) fn depth(t: f64) -> Ink {
    Ink::solid(between(&DEPTH, t))
}

/// The colour of a value at `t`, from 0 (smallest) to 1 (largest).
pub(super) fn heat(t: f64) -> Ink {
    // 128 shades: an eye sees no more, and cells of one shade can be drawn as one.
    Ink::solid(between(&HEAT, (t.clamp(0.0, 1.0) * 127.0).round() / 127.0))
}

/// Black or white, whichever reads better on `ink`.
pub(super) fn on(ink: Ink) -> Ink {
    let (r, g, b) = ink.rgb;
    let luma = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    Ink::solid(if luma > 125.0 { (16, 16, 16) } else { (255, 255, 255) })
}

fn between(stops: &[(u8, u8, u8)], t: f64) -> (u8, u8, u8) {
    let last = stops.len() - 1;
    let position = t.clamp(0.0, 1.0) * last as f64;
    let from = (position as usize).min(last);
    let (a, b) = (stops[from], stops[(from + 1).min(last)]);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * position.fract()).round() as u8;
    (mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}
