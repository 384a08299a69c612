//! Several figures and tables in one block.

use super::show::FIGURE;
use super::{Bundle, Show, escape, in_line, neutral};

/// Figures, tables and texts in a grid: two or more columns on a wide page, one on a narrow one.
/// Made by [`dashboard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    title: String,
    parts: Vec<Bundle>,
}

/// Puts what is shown separately into one block under a title, in the order given.
///
/// # Examples
/// ```
/// use lorascope::display::{Show, Text, dashboard};
/// use lorascope::plot::{Scale, Series, lines};
///
/// let loss = Series::line("loss", [(1.0, 2.5), (2.0, 2.1)]);
/// let figure = lines("Loss", "step", "nats per token", &[loss], Scale::Linear)?;
/// let shown = dashboard("a < b", &[&figure, &Text::new("rank 4 is enough")]).show();
/// assert!(shown.html.contains("a &lt; b") && shown.html.contains("</svg>"));
/// assert!(shown.text.starts_with("a < b\n\nLoss\n") && shown.text.ends_with("rank 4 is enough\n"));
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn dashboard(title: impl Into<String>, parts: &[&dyn Show]) -> Dashboard {
    Dashboard { title: title.into(), parts: parts.iter().map(|part| part.show()).collect() }
}

impl Show for Dashboard {
    fn show(&self) -> Bundle {
        // Figures shrink with their column.
        let grid = format!(
            "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,{FIGURE}px),1fr));\
             gap:1.2em;align-items:start"
        );
        let cells: String = self
            .parts
            .iter()
            .map(|part| format!("<div style=\"min-width:0;overflow-x:auto\">{}</div>\n", part.html))
            .collect();
        let title = escape(&self.title);
        let html = format!(
            "<section><h3 style=\"margin:0.4em 0 0.8em;overflow-wrap:anywhere\">{title}</h3>\n\
             <div style=\"{grid}\">\n{cells}</div></section>"
        );
        let title = neutral(&in_line(&self.title, " "));
        let texts = self.parts.iter().map(|part| part.text.trim_end()).filter(|text| !text.is_empty());
        let texts: Vec<&str> = std::iter::once(title.as_str()).chain(texts).collect();
        Bundle { html, text: texts.join("\n\n") + "\n" }
    }
}
