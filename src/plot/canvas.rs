//! Lines, shapes and text in pixels, through plotters' SVG backend.

use plotters::backend::{DrawingBackend as _, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, FontTransform, RGBAColor, ShapeStyle, TextStyle};

use super::palette;
use super::pen::{Dash, Ink, Pen, TEXT};
use crate::display::{cut, in_line, neutral, width};
use crate::error::{Error, Result};

/// Backend units in one pixel: the backend takes whole numbers, curves want tenths.
pub(super) const UNIT: f64 = 10.0;

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

    /// The text, or as much of its beginning as fits into so many pixels. Of a text that ends in a
    /// dotted path it is the path's end that stays: there paths differ.
    pub(super) fn fit(&self, text: &str, pixels: f64) -> String {
        let text = one_line(text);
        let Some(count) = self.kept(text.chars(), pixels) else { return text };
        let path = text.rfind(' ').map_or(0, |space| space + 1);
        if !is_path(&text[path..]) {
            return count.map_or_else(String::new, |count| cut(&text, count));
        }
        // The words before the path stay where they leave a third of the room to it.
        let (words, path) = text.split_at(path);
        let room = pixels - self.width(words);
        if room >= pixels / 3.0 {
            format!("{words}{}", self.fit_end(path, room))
        } else {
            self.fit_end(&text, pixels)
        }
    }

    /// The text, or as much of its end as fits into so many pixels: names of modules and layers
    /// differ there.
    pub(super) fn fit_end(&self, text: &str, pixels: f64) -> String {
        let text = one_line(text);
        match self.kept(text.chars().rev(), pixels) {
            None => text,
            Some(None) => String::new(),
            Some(Some(count)) => {
                let begin = text.char_indices().rev().take(count).last().map_or(text.len(), |(at, _)| at);
                format!("…{}", &text[begin..])
            }
        }
    }

    /// How many of these characters fit beside an ellipsis, if that itself does; `None` where all fit
    /// without one. Looks no further than what fits.
    fn kept(&self, text: impl Iterator<Item = char>, pixels: f64) -> Option<Option<usize>> {
        let em = self.width("n");
        let fits = |columns: usize| columns as f64 * em <= pixels + 1e-9;
        let (mut columns, mut kept) = (0, fits(1).then_some(0));
        for (index, c) in text.enumerate() {
            columns += width(c.encode_utf8(&mut [0; 4]));
            if fits(columns + 1) {
                kept = Some(index + 1);
            }
            if !fits(columns) {
                return Some(kept);
            }
        }
        None
    }
}

/// Whether a word is dotted like the path of a module: `layers.3.q_proj`, but no number or end of a
/// sentence.
fn is_path(word: &str) -> bool {
    let mut parts = word.split('.');
    word.contains('.')
        && parts.clone().all(|part| !part.is_empty())
        && parts.any(|part| part.starts_with(char::is_alphabetic))
}

/// Text without line breaks, without the characters that XML forbids and without evcxr's markers.
pub(super) fn one_line(text: &str) -> String {
    let replace = |c: char| match c {
        '\t' => ' ',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    neutral(&in_line(text, " ").chars().map(replace).collect::<String>())
}

pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
    /// For each path drawn, whether it is broken: the backend draws unbroken ones only.
    paths: Vec<Dash>,
}

impl Canvas<'_> {
    /// Paints and returns the SVG elements, without the root.
    pub(super) fn draw(
        size: (f64, f64),
        paint: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
    ) -> Result<String> {
        let mut svg = String::new();
        let size = (units(size.0).unsigned_abs(), units(size.1).unsigned_abs());
        let mut canvas = Canvas { backend: SVGBackend::with_string(&mut svg, size), paths: Vec::new() };
        paint(&mut canvas)?;
        canvas.backend.present().map_err(failed)?;
        let paths = std::mem::take(&mut canvas.paths);
        drop(canvas);
        let body = svg.split_once('\n').map_or("", |(_, rest)| rest).trim_end();
        let body = body.strip_suffix("</svg>").unwrap_or(body);
        // Quotes in texts are escaped, so these match attributes only.
        let (red, green, blue) = TEXT;
        let body = body
            .replace(&format!("=\"#{red:02X}{green:02X}{blue:02X}\""), "=\"currentColor\"")
            .replace(" opacity=\"1\"", "")
            .replace(" stroke=\"none\"", "")
            .replace(" font-family=\"inherit\"", "")
            .replace(" \"/>", "\"/>");
        Ok(dashed(&body, &paths))
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) -> Result<()> {
        self.backend.draw_line(point(from), point(to), &stroke(ink, width)).map_err(failed)
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], pen: Pen) -> Result<()> {
        self.paths.push(pen.dash);
        let style = stroke(pen.ink, pen.width);
        self.backend.draw_path(points.iter().copied().map(point), &style).map_err(failed)
    }

    /// A filled shape.
    pub(super) fn shape(&mut self, points: &[(f64, f64)], ink: Ink) -> Result<()> {
        self.backend.fill_polygon(points.iter().copied().map(point), &stroke(ink, 0.0)).map_err(failed)
    }

    /// A point of the series with this index: round, diamond, square or triangle. As dashes, marks
    /// shift by one whenever the colours begin again.
    pub(super) fn mark(&mut self, index: usize, (x, y): (f64, f64), radius: f64, ink: Ink) -> Result<()> {
        let r = radius * 1.2;
        match palette::pattern(index) {
            0 => self.dot((x, y), radius, ink),
            1 => self.shape(&[(x - r, y), (x, y - r), (x + r, y), (x, y + r)], ink),
            2 => self.rect((x - radius * 0.9, y - radius * 0.9), (x + radius * 0.9, y + radius * 0.9), ink),
            _ => self.shape(&[(x - r, y + r * 0.8), (x, y - r), (x + r, y + r * 0.8)], ink),
        }
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) -> Result<()> {
        self.backend.draw_rect(point(from), point(to), &stroke(ink, 0.0), true).map_err(failed)
    }

    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink) -> Result<()> {
        let radius = units(radius).unsigned_abs();
        self.backend.draw_circle(point(at), radius, &stroke(ink, 0.0), true).map_err(failed)
    }

    /// A circle that is not filled.
    pub(super) fn ring(&mut self, at: (f64, f64), radius: f64, ink: Ink) -> Result<()> {
        let radius = units(radius).unsigned_abs();
        self.backend.draw_circle(point(at), radius, &stroke(ink, 1.0), false).map_err(failed)
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
        self.backend.draw_text(&one_line(text), &style, point(at)).map_err(failed)
    }
}

/// Breaks the lines of those paths that want it. Texts are escaped, so that a `<polyline` is one.
fn dashed(body: &str, paths: &[Dash]) -> String {
    const PATH: &str = "<polyline ";
    let mut parts = body.split(PATH);
    let mut out = parts.next().unwrap_or_default().to_string();
    for (part, dash) in parts.zip(paths) {
        out.push_str(PATH);
        if let Some(pattern) = dash.pattern() {
            out.push_str(&format!("stroke-dasharray=\"{pattern}\" "));
        }
        out.push_str(part);
    }
    out
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
