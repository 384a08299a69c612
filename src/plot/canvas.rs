//! Lines, shapes and text in pixels, through plotters' SVG backend.

use plotters::backend::{DrawingBackend as _, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, FontTransform, RGBAColor, ShapeStyle, TextStyle};

use crate::display::{cut, neutral, width};
use crate::error::{Error, Result};

/// Backend units in one pixel: the backend takes whole numbers, curves want tenths.
pub(super) const UNIT: f64 = 10.0;

/// A colour and how much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ink {
    pub rgb: (u8, u8, u8),
    pub alpha: f64,
}

/// Stands for the page's text colour until the drawing is done; no palette contains it.
const TEXT: (u8, u8, u8) = (1, 2, 3);

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

fn stroke(ink: Ink, width: f64) -> ShapeStyle {
    ShapeStyle { color: ink.into(), filled: true, stroke_width: units(width).unsigned_abs() }
}

/// Where a text stands relative to its point, and how large.
#[derive(Clone, Copy)]
pub(super) struct Label {
    pub size: f64,
    pub ink: Ink,
    pub bold: bool,
    pub across: HPos,
    pub down: VPos,
    pub upright: bool,
}

impl Label {
    /// Small text: tick labels, legends.
    pub(super) const SMALL: Self = Self {
        size: 11.0,
        ink: Ink::text(0.85),
        bold: false,
        across: HPos::Left,
        down: VPos::Center,
        upright: false,
    };
    /// The title of a figure.
    pub(super) const TITLE: Self = Self { size: 15.0, ink: Ink::text(1.0), bold: true, ..Self::SMALL };

    pub(super) fn at(self, across: HPos, down: VPos) -> Self {
        Self { across, down, ..self }
    }

    /// Pixels that a text takes at this size. SVG leaves fonts to the reader, so this is a guess
    /// on the wide side; East Asian characters are one em.
    pub(super) fn width(&self, text: &str) -> f64 {
        let em = if self.bold { 0.62 } else { 0.57 };
        width(text) as f64 * em * self.size
    }

    /// The text, or as much of its beginning as fits into so many pixels.
    pub(super) fn fit(&self, text: &str, pixels: f64) -> String {
        let text = one_line(text);
        let count = text.chars().count();
        (0..=count)
            .rev()
            .map(|limit| cut(&text, limit))
            .find(|text| self.width(text) <= pixels)
            .unwrap_or_default()
    }
}

/// Text without line breaks, without the characters that XML forbids and without evcxr's markers.
pub(super) fn one_line(text: &str) -> String {
    let replace = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    neutral(&text.chars().map(replace).collect::<String>())
}

pub(super) struct Canvas<'a>(SVGBackend<'a>);

impl Canvas<'_> {
    /// Paints and returns the SVG elements, without the root.
    pub(super) fn draw(
        size: (f64, f64),
        paint: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
    ) -> Result<String> {
        let mut svg = String::new();
        let size = (units(size.0).unsigned_abs(), units(size.1).unsigned_abs());
        let mut canvas = Canvas(SVGBackend::with_string(&mut svg, size));
        paint(&mut canvas)?;
        canvas.0.present().map_err(failed)?;
        drop(canvas);
        let body = svg.split_once('\n').map_or("", |(_, rest)| rest).trim_end();
        let body = body.strip_suffix("</svg>").unwrap_or(body);
        // Quotes in texts are escaped, so these match attributes only.
        let (red, green, blue) = TEXT;
        Ok(body
            .replace(&format!("=\"#{red:02X}{green:02X}{blue:02X}\""), "=\"currentColor\"")
            .replace(" opacity=\"1\"", "")
            .replace(" font-family=\"inherit\"", "")
            .replace(" \"/>", "\"/>"))
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) -> Result<()> {
        self.0.draw_line(point(from), point(to), &stroke(ink, width)).map_err(failed)
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) -> Result<()> {
        self.0.draw_path(points.iter().copied().map(point), &stroke(ink, width)).map_err(failed)
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) -> Result<()> {
        self.0.draw_rect(point(from), point(to), &stroke(ink, 0.0), true).map_err(failed)
    }

    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink) -> Result<()> {
        let radius = units(radius).unsigned_abs();
        self.0.draw_circle(point(at), radius, &stroke(ink, 0.0), true).map_err(failed)
    }

    pub(super) fn text(&mut self, text: &str, at: (f64, f64), label: Label) -> Result<()> {
        let style = if label.bold { FontStyle::Bold } else { FontStyle::Normal };
        // The backend divides by this factor.
        let size = label.size * UNIT * 1.24;
        let mut font = FontDesc::new(FontFamily::Name("inherit"), size, style);
        if label.upright {
            font = font.transform(FontTransform::Rotate270);
        }
        let color: RGBAColor = label.ink.into();
        let style = TextStyle::from(font).color(&color).pos(Pos::new(label.across, label.down));
        self.0.draw_text(&one_line(text), &style, point(at)).map_err(failed)
    }
}

fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

fn point((x, y): (f64, f64)) -> (i32, i32) {
    (units(x), units(y))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::compute(format!("drawing failed: {error}"))
}
