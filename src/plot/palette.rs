//! Colours. Those of lines have a contrast of at least 3:1 to a white and to a near-black page (WCAG
//! 2.1, 1.4.11).

use super::pen::{Dash, Ink, Pen};

/// Colours for series that have no order: Okabe & Ito (2008) without black and yellow, which vanish
/// on one of the two kinds of pages. Their orange and sky blue are too bright for white; the ochre
/// and the blue in their place stay apart from the other four in the colour vision that Machado et
/// al. (2009) simulate.
const SERIES: [(u8, u8, u8); 6] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (159, 142, 39), (46, 147, 220)];

/// Blue over violet to orange: order along the blue-yellow axis, which colour-blind readers see.
const DEPTH: [(u8, u8, u8); 5] =
    [(58, 110, 214), (126, 99, 208), (184, 84, 168), (221, 92, 104), (222, 116, 24)];

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

/// Which of four dashes or marks a series has: two neighbours differ by more than their colour, and
/// colour and pattern together repeat after 24 series.
pub(super) fn pattern(index: usize) -> usize {
    (index + index / SERIES.len()) % 4
}

/// How the lines of a series are broken.
pub(super) fn dash(index: usize) -> Dash {
    [Dash::Solid, Dash::Long, Dash::Dots, Dash::Mixed][pattern(index)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.1).
    fn luminance((r, g, b): (u8, u8, u8)) -> f64 {
        let linear = |c: u8| match f64::from(c) / 255.0 {
            c if c <= 0.04045 => c / 12.92,
            c => ((c + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    #[test]
    fn lines_are_seen_on_light_and_on_dark_pages() {
        let lines = (0..SERIES.len()).map(series).chain((0..=100).map(|t| depth(f64::from(t) / 100.0)));
        for ink in lines {
            for page in [(0xff, 0xff, 0xff), (0x0d, 0x11, 0x17)] {
                let (a, b) = (luminance(ink.rgb), luminance(page));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 3.0, "{:?} on {page:?}: {contrast}", ink.rgb);
            }
        }
    }

    #[test]
    fn twenty_four_series_differ_in_colour_or_dash() {
        let look = |index: usize| (series(index).rgb, pattern(index));
        for index in 0..24 {
            assert!((0..index).all(|other| look(other) != look(index)), "{index}");
        }
        assert_eq!(look(24), look(0));
    }
}
