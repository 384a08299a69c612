//! Colours, line widths and dashes.

use plotters::style::RGBAColor;

/// A colour and how much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ink {
    pub rgb: (u8, u8, u8),
    pub alpha: f64,
}

/// Stands for the page's text colour until the drawing is done; no palette contains it.
pub(super) const TEXT: (u8, u8, u8) = (1, 2, 3);

impl Ink {
    /// The page's text colour.
    pub(super) const fn text(alpha: f64) -> Self {
        Self { rgb: TEXT, alpha }
    }

    pub(super) const fn solid(rgb: (u8, u8, u8)) -> Self {
        Self { rgb, alpha: 1.0 }
    }

    pub(super) fn faded(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }
}

impl From<Ink> for RGBAColor {
    fn from(ink: Ink) -> Self {
        let (red, green, blue) = ink.rgb;
        Self(red, green, blue, ink.alpha)
    }
}

/// The style of a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pen {
    pub ink: Ink,
    pub width: f64,
    pub dash: Dash,
}

impl Pen {
    pub(super) const fn new(ink: Ink, width: f64) -> Self {
        Self { ink, width, dash: Dash::Solid }
    }

    pub(super) fn dashed(self, dash: Dash) -> Self {
        Self { dash, ..self }
    }
}

/// How a line is broken: series differ in it as well as in their colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dash {
    Solid,
    Long,
    Dots,
    Mixed,
}

impl Dash {
    /// Units of stroke and gap in turn. Round ends lengthen each stroke by the width of the line.
    pub(super) fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Solid => None,
            Self::Long => Some("70 55"),
            Self::Dots => Some("1 42"),
            Self::Mixed => Some("90 50 1 50"),
        }
    }
}
