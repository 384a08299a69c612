//! Panels beside and under each other that share both axes.

use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::canvas::{Canvas, Label};
use super::frame::{AXIS, heading};
use crate::error::Result;

const WIDTH: f64 = 760.0;
const GAP: f64 = 14.0;
const HEADING: f64 = 20.0;

/// Where the panels stand.
pub(super) struct Grid {
    count: usize,
    columns: usize,
    left: f64,
    right: f64,
    top: f64,
}

impl Grid {
    /// Places for `count` panels left of `right` free pixels, with room for the labels of `y`.
    pub(super) fn new(count: usize, y: &Axis, right: f64) -> Self {
        let columns = match count {
            0 => 1,
            1..=3 => count,
            4 => 2,
            5 | 6 => 3,
            _ => 4,
        };
        Self {
            count,
            columns,
            left: 24.0 + y.over(200.0, 0.0).label_width(34.0),
            right: WIDTH - right,
            top: 62.0,
        }
    }

    /// The same, further down by a legend's height.
    pub(super) fn below(self, height: f64) -> Self {
        Self { top: self.top + height, ..self }
    }

    fn rows(&self) -> usize {
        self.count.div_ceil(self.columns)
    }

    /// The right end of the panels.
    pub(super) fn right(&self) -> f64 {
        self.right
    }

    /// The upper end of the first panel and the lower one of the last.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.top + HEADING, self.size().1 - 44.0 - GAP)
    }

    /// Pixels of one panel's plot.
    fn panel_size(&self) -> (f64, f64) {
        let gaps = (self.columns - 1) as f64 * GAP;
        let height = match self.rows() {
            1 => 270.0,
            2 => 165.0,
            _ => 130.0,
        };
        ((self.right - self.left - gaps) / self.columns as f64, height)
    }

    pub(super) fn size(&self) -> (f64, f64) {
        (WIDTH, self.top + self.rows() as f64 * (self.panel_size().1 + HEADING + GAP) + 44.0)
    }

    /// The title, and the names of the shared axes.
    pub(super) fn frame(
        &self,
        canvas: &mut Canvas<'_>,
        title: &str,
        x_label: &str,
        y_label: &str,
    ) -> Result<()> {
        heading(canvas, title, WIDTH)?;
        canvas.text(&AXIS.fit(y_label, WIDTH - 24.0), (12.0, self.top - 19.0), AXIS)?;
        let middle = (self.left + self.right) / 2.0;
        let label = AXIS.at(HPos::Center, VPos::Center);
        canvas.text(&label.fit(x_label, self.right - self.left), (middle, self.size().1 - 18.0), label)
    }

    /// The heading and the axes of one panel; gives the axes on its pixels.
    pub(super) fn panel(
        &self,
        canvas: &mut Canvas<'_>,
        index: usize,
        name: &str,
        (x, y): (Axis, Axis),
    ) -> Result<(Axis, Axis)> {
        let (row, column) = (index / self.columns, index % self.columns);
        let (width, height) = self.panel_size();
        let left = self.left + column as f64 * (width + GAP);
        let top = self.top + row as f64 * (height + HEADING + GAP) + HEADING;
        let (x, y) = (x.over(left, left + width), y.over(top + height, top));
        let label = Label { size: 12.0, bold: true, ..Label::SMALL };
        canvas.text(&label.fit_end(name, width), (left, top - 11.0), label)?;
        y.draw_left(canvas, left, left + width, column == 0)?;
        // Labels where no panel stands below.
        x.draw_below(canvas, top + height, 34.0, index + self.columns >= self.count)?;
        Ok((x, y))
    }
}
