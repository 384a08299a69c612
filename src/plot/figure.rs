//! A finished picture.

use std::path::Path;

use super::canvas::{Label, UNIT, one_line};
use crate::display::{Bundle, Show, escape, neutral};
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};

/// Height of the line that a footer adds, in pixels.
const FOOTER: f64 = 22.0;

/// A picture as SVG text, with a title and a plain-text twin. Owned, cheap enough to clone, and
/// serialisable, so that a run can keep it.
///
/// # Examples
/// ```
/// use lorascope::plot::{Scale, Series, lines};
///
/// let loss = Series::line("loss", [(1.0, 2.5), (2.0, 2.1), (3.0, 1.9)]);
/// let figure = lines("Loss", "step", "nats per token", &[loss], Scale::Linear)?.with_footer("seed 42");
/// assert!(figure.svg().contains("seed 42"));
/// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("/tmp", e))?;
/// # let path = folder.path().join("loss.svg");
/// figure.save(&path)?;
/// assert!(figure.save(&path).is_err()); // it exists: `overwrite` replaces it
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    title: String,
    width: f64,
    height: f64,
    /// SVG elements without the root.
    body: String,
    text: String,
    footer: Option<String>,
}

impl Figure {
    pub(super) fn new(title: &str, (width, height): (f64, f64), body: String, text: String) -> Self {
        let text = format!("{title}\n{text}");
        Self { title: title.to_string(), width, height, body, text, footer: None }
    }

    /// The title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Adds a small line below the picture: how it came about, for example `seed 42`.
    #[must_use]
    pub fn with_footer(&self, footer: impl Into<String>) -> Self {
        Self { footer: Some(footer.into()), ..self.clone() }
    }

    /// The picture as it is shown in a notebook: `<svg>…</svg>` in the page's text colour.
    pub fn svg(&self) -> String {
        self.document("")
    }

    fn document(&self, style: &str) -> String {
        let mut height = self.height;
        let mut footer = String::new();
        if let Some(text) = &self.footer {
            let (x, y, size) = (12.0 * UNIT, (height + 8.0) * UNIT, Label::SMALL.size * UNIT);
            let text = escape(&Label::SMALL.fit(text, self.width - 24.0));
            footer = format!(
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" opacity=\"0.65\" fill=\"currentColor\">{text}</text>\n"
            );
            height += FOOTER;
        }
        let (wide, high) = (self.width * UNIT, height * UNIT);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" width=\"{}\" height=\"{height}\" \
             viewBox=\"0 0 {wide} {high}\" font-family=\"system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\" style=\"max-width:100%;height:auto\">\n\
             {style}{}{footer}</svg>\n",
            escape(&one_line(&self.title)),
            self.width,
            self.body,
        )
    }

    /// Writes the picture as an `.svg` file. On its own it follows the reader's light or dark
    /// setting.
    ///
    /// # Errors
    /// When the name does not end in `.svg`, the file exists, or it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(path.as_ref(), Existing::Refuse)
    }

    /// As [`Figure::save`], and replaces a file that exists.
    ///
    /// # Errors
    /// When the name does not end in `.svg` or the file cannot be written.
    pub fn overwrite(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(path.as_ref(), Existing::Replace)
    }

    fn write(&self, path: &Path, existing: Existing) -> Result<()> {
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            return Err(Error::input("a figure is written as SVG").path(path).help("end the name in .svg"));
        }
        // Only a file of its own may carry a style sheet: in a notebook it would reach the page.
        const STYLE: &str =
            "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>\n";
        write_whole(path, self.document(STYLE).as_bytes(), existing)
    }
}

impl Show for Figure {
    fn show(&self) -> Bundle {
        let footer = self.footer.as_deref().unwrap_or_default();
        let text = neutral(format!("{}{footer}", self.text).trim_end());
        Bundle { html: self.svg(), text }
    }
}
