//! Pages of several parts: cards with one number each, and sections under headings.

use std::fmt::Write as _;

use super::bundle::NO_MATH;
use super::{Bundle, Show, attribute, escape, in_line, neutral};

/// Numbers that are seen first: each in a box of its own, with its name above and a note below.
///
/// # Examples
/// ```
/// use lorascope::display::{Cards, Show};
///
/// let cards = Cards::new([("rows", "1,999", "1 rejected"), ("languages", "2", "zh, <en>")]);
/// let shown = cards.show();
/// assert!(shown.html.contains("zh, &lt;en&gt;"));
/// assert_eq!(shown.text, "rows: 1,999 (1 rejected)\nlanguages: 2 (zh, <en>)\n");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cards(Vec<[String; 3]>);

impl Cards {
    /// Cards of a name, a number and a note, which may be empty.
    pub fn new<A, B, C>(cards: impl IntoIterator<Item = (A, B, C)>) -> Self
    where
        A: Into<String>,
        B: Into<String>,
        C: Into<String>,
    {
        Self(cards.into_iter().map(|(name, value, note)| [name.into(), value.into(), note.into()]).collect())
    }
}

impl Show for Cards {
    fn show(&self) -> Bundle {
        const GRID: &str = "display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5em,1fr));\
                            gap:0.7em;margin:0.7em 0";
        const BOX: &str = "border:1px solid rgba(128,128,128,0.35);border-radius:0.5em;padding:0.6em 0.9em;\
                           overflow-wrap:anywhere";
        let mut html = format!("<div style=\"{GRID}\">");
        let mut text = String::new();
        for [name, value, note] in &self.0 {
            let _ = write!(
                html,
                "<div style=\"{BOX}\"><div style=\"opacity:0.75;font-size:85%\">{}</div>\
                 <div style=\"font-size:150%;font-variant-numeric:tabular-nums\">{}</div>\
                 <div style=\"opacity:0.75;font-size:85%\">{}</div></div>",
                escape(name),
                escape(value),
                escape(note)
            );
            let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
            let line = in_line(&format!("{name}: {value}{note}"), " ");
            let _ = writeln!(text, "{}", neutral(&line));
        }
        html.push_str("</div>");
        Bundle { html, text }
    }
}

/// A page of headed sections: one block in a notebook, and on its own a document that needs nothing
/// else.
///
/// # Examples
/// ```
/// use lorascope::display::{Page, Show, Text};
///
/// let page = Page::new("a < b").section("Lengths", [Text::new("none").show()]);
/// assert!(page.show().html.contains("<h3"));
/// let document = page.document();
/// assert!(document.starts_with("<!doctype html>") && document.contains("<title>a &lt; b</title>"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    title: String,
    sections: Vec<(String, Vec<Bundle>)>,
}

impl Page {
    /// A page without sections.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), sections: Vec::new() }
    }

    /// Appends a section of some parts under each other; without parts it is left out. A section
    /// without a heading goes on with the one before.
    #[must_use]
    pub fn section(mut self, heading: &str, parts: impl IntoIterator<Item = Bundle>) -> Self {
        let parts: Vec<Bundle> = parts.into_iter().collect();
        if !parts.is_empty() {
            self.sections.push((heading.to_string(), parts));
        }
        self
    }

    /// The page as an HTML document: it follows the reader's light or dark setting, loads nothing
    /// and runs no script.
    pub fn document(&self) -> String {
        const STYLE: &str = ":root{color-scheme:light dark}\
            body{font-family:system-ui,'Noto Sans','Noto Sans CJK SC',sans-serif;line-height:1.45;\
            max-width:72em;margin:1.5em auto;padding:0 1.2em;background:#ffffff;color:#1f2328}\
            @media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}}";
        // Should anything slip through the escaping, the page's own policy refuses to run it.
        const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body class=\"{NO_MATH}\">\n{}</body>\n</html>\n",
            attribute(&self.title),
            self.show().html
        )
    }
}

impl Show for Page {
    fn show(&self) -> Bundle {
        let mut html =
            format!("<h2 style=\"margin:0.4em 0;overflow-wrap:anywhere\">{}</h2>\n", escape(&self.title));
        let mut texts = Vec::new();
        for (heading, parts) in &self.sections {
            html.push_str("<section>");
            if !heading.is_empty() {
                let _ = write!(
                    html,
                    "<h3 style=\"margin:1.4em 0 0.4em;overflow-wrap:anywhere\">{}</h3>",
                    escape(heading)
                );
            }
            for part in parts {
                let _ = writeln!(html, "<div style=\"margin:0.6em 0\">{}</div>", part.html);
                texts.push(part.text.trim_end().to_string());
            }
            html.push_str("</section>\n");
        }
        texts.retain(|text| !text.is_empty());
        Bundle { html, text: texts.join("\n\n") + "\n" }
    }
}
