//! A finished picture.

use std::path::Path;

use polars::prelude::DataFrame;

use super::canvas::{Label, UNIT, one_line};
use super::figure_data::FigureData;
use super::raster;
use crate::display::{Bundle, Show, attribute, neutral};
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};

/// Height of the line that a footer adds, in pixels.
const FOOTER: f64 = 22.0;

/// The page that a figure stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// The reader's: no background of its own, text in the colour of the page, and in an `.svg` file
    /// light or dark as the reader has set it. A PNG, which cannot follow, is light.
    #[default]
    Page,
    /// Dark text on white.
    Light,
    /// Light text on near-black.
    Dark,
}

impl Theme {
    /// Text and background.
    fn colours(self) -> (&'static str, [u8; 3]) {
        match self {
            Self::Page | Self::Light => ("#1f2328", [0xff; 3]),
            Self::Dark => ("#e6edf3", [0x0d, 0x11, 0x17]),
        }
    }
}

/// A picture as SVG text, with a title, a plain-text twin and the numbers behind it. Owned, cheap
/// enough to clone, and serialisable, so that a run can keep it.
///
/// # Examples
/// ```
/// use lorascope::plot::{Scale, Series, lines};
///
/// let loss = Series::line("loss", [(1.0, 2.5), (2.0, 2.1), (3.0, 1.9)]);
/// let figure = lines("Loss", "step", "nats per token", &[loss], Scale::Linear)?.with_footer("seed 42");
/// assert!(figure.svg().contains("seed 42"));
/// let data = figure.data()?; // one row for each point
/// assert_eq!(data.get_column_names(), ["series", "step", "nats per token"]);
/// assert_eq!(data.column("nats per token")?.f64()?.get(2), Some(1.9));
/// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("/tmp", e))?;
/// # let path = folder.path().join("loss.svg");
/// figure.save(&path)?;
/// assert!(figure.save(&path).is_err()); // it exists: `overwrite` replaces it
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    title: String,
    width: f64,
    height: f64,
    /// SVG elements without the root.
    body: String,
    text: String,
    footer: Option<String>,
    #[serde(default)]
    theme: Theme,
    #[serde(default)]
    data: FigureData,
}

impl Figure {
    pub(super) fn new(
        title: &str,
        (width, height): (f64, f64),
        body: String,
        text: String,
        data: FigureData,
    ) -> Self {
        let text = format!("{title}\n{text}");
        let (footer, theme) = (None, Theme::Page);
        Self { title: title.to_string(), width, height, body, text, footer, theme, data }
    }

    /// The title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Adds to the small line below the picture: how it came about, for example `seed 42`.
    #[must_use]
    pub fn with_footer(&self, footer: impl Into<String>) -> Self {
        let footer = footer.into();
        let footer = self.footer.as_ref().map_or(footer.clone(), |before| format!("{before} · {footer}"));
        Self { footer: Some(footer), ..self.clone() }
    }

    /// Puts the picture on a page of its own: dark for slides, light for print.
    #[must_use]
    pub fn with_theme(&self, theme: Theme) -> Self {
        Self { theme, ..self.clone() }
    }

    /// Renames the first columns of [`Figure::data`], for a chart that cannot know what its rows and
    /// columns are.
    ///
    /// # Examples
    /// ```
    /// use lorascope::plot::heat_map;
    ///
    /// let (rows, columns) = (["0".to_string()], ["q_proj".to_string()]);
    /// let figure = heat_map("Rank", &rows, &columns, &[vec![Some(7.25)]], "effective rank")?;
    /// let data = figure.with_columns(["layer", "module"]).data()?;
    /// assert_eq!(data.get_column_names(), ["layer", "module", "effective rank"]);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    #[must_use]
    pub fn with_columns<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { data: self.data.clone().renamed(names), ..self.clone() }
    }

    /// The numbers behind the picture, all of those that were given, as a long table: one row for
    /// each number, with columns named after the axes. NaN and infinity are missing values.
    ///
    /// # Errors
    /// When polars refuses the columns.
    pub fn data(&self) -> Result<DataFrame> {
        self.data.frame()
    }

    /// The picture as it is shown in a notebook: `<svg>…</svg>`, in the page's text colour unless
    /// [`Figure::with_theme`] says otherwise.
    pub fn svg(&self) -> String {
        match self.theme {
            Theme::Page => self.document("", ""),
            theme => self.painted(theme),
        }
    }

    /// With a background, and with colours that depend on nothing outside.
    fn painted(&self, theme: Theme) -> String {
        let (text, [red, green, blue]) = theme.colours();
        let page = format!("#{red:02x}{green:02x}{blue:02x}");
        let background = format!("<rect width=\"100%\" height=\"100%\" fill=\"{page}\"/>\n");
        self.document(&format!(" color=\"{text}\""), &background)
    }

    /// The whole document, with more attributes in its root and more elements before the drawing.
    fn document(&self, attributes: &str, before: &str) -> String {
        let mut height = self.height;
        let mut footer = String::new();
        if let Some(text) = &self.footer {
            let (x, y, size) = (12.0 * UNIT, (height + 8.0) * UNIT, Label::SMALL.size * UNIT);
            let text = attribute(&Label::SMALL.fit(text, self.width - 24.0));
            footer = format!(
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" opacity=\"0.65\" fill=\"currentColor\">{text}</text>\n"
            );
            height += FOOTER;
        }
        let (wide, high) = (self.width * UNIT, height * UNIT);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" width=\"{}\" height=\"{height}\" \
             viewBox=\"0 0 {wide} {high}\" font-family=\"system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\" style=\"max-width:100%;height:auto\"{attributes}>\n\
             {before}{}{footer}</svg>\n",
            attribute(&one_line(&self.title)),
            self.width,
            self.body,
        )
    }

    /// Writes the picture as an `.svg` or a `.png` file. An SVG follows the reader's light or dark
    /// setting and leaves fonts to the reader; a PNG is the same SVG drawn with the fonts of this
    /// machine, two pixels for each one of the figure, on white or on the page of
    /// [`Figure::with_theme`].
    ///
    /// # Errors
    /// When the name ends in neither, the file exists, it cannot be written, or the fonts on this
    /// machine lack a character that a PNG needs.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(path.as_ref(), Existing::Refuse)
    }

    /// As [`Figure::save`], and replaces a file that exists.
    ///
    /// # Errors
    /// As [`Figure::save`], except for the file that exists.
    pub fn overwrite(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(path.as_ref(), Existing::Replace)
    }

    fn write(&self, path: &Path, existing: Existing) -> Result<()> {
        // Only a file of its own may carry a style sheet: in a notebook it would reach the page.
        const STYLE: &str =
            "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>\n";
        let ends =
            |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
        let bytes = match self.theme {
            theme if ends("png") => raster::png(&self.painted(theme), theme.colours().1, path)?,
            _ if !ends("svg") => {
                return Err(Error::input("a figure is written as SVG or PNG")
                    .path(path)
                    .help("end the name in .svg or .png"));
            }
            Theme::Page => self.document("", STYLE).into_bytes(),
            theme => self.painted(theme).into_bytes(),
        };
        write_whole(path, &bytes, existing)
    }
}

impl std::fmt::Debug for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Figure({:?}, {} × {})", self.title, self.width, self.height)
    }
}

impl Show for Figure {
    fn show(&self) -> Bundle {
        let footer = self.footer.as_deref().unwrap_or_default();
        let text = neutral(format!("{}{footer}", self.text).trim_end());
        Bundle { html: self.svg(), text }
    }
}
