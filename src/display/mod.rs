//! Everything that a notebook sees: HTML tables, escaping, the mime bundle, progress.
//!
//! These are the only files of the library that print. evcxr reads a cell's standard output line by
//! line and takes a line that holds `EVCXR_BEGIN_CONTENT` for the start of rich output, so text
//! that comes from data or from a model goes through [`neutral`] or [`escape`] first.

mod audience;
mod dashboard;
mod live;
mod page;
mod progress;
mod table;
mod untrusted;
mod values;
mod words;

pub(crate) use audience::advice;
pub use audience::{Audience, speak_to};
pub use dashboard::{Dashboard, dashboard};
pub use live::Live;
pub use page::{Cards, Page};
pub use progress::{Progress, Stream, progress_on};
pub use table::{Align, Table};
pub(crate) use values::{brief, failed};
use words::fitted;
pub use words::{attribute, bytes, counted, cut, duration, escape, neutral, thousands};
pub(crate) use words::{in_line, width};

use std::fmt::Write as _;
use std::io::Write as _;

const BEGIN: &str = "EVCXR_BEGIN_CONTENT";
const END: &str = "EVCXR_END_CONTENT";
/// Classes of an element in which nothing is taken for mathematics. JupyterLab 4 knows the first,
/// the classic notebook and nbconvert's pages the second; KaTeX knows none, so [`escape`] breaks up
/// the marks themselves.
const NO_MATH: &str = "mathjax_ignore tex2jax_ignore";

/// Pixels that a figure has at least beside others, where the page has them: 720 are what it is drawn in, and
/// with fewer than these its small text, of 11, would be hard to read.
const FIGURE: u32 = 620;

/// What a value looks like in a notebook: HTML, and the same as plain text.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// A fragment of HTML in which everything that comes from outside is escaped.
    pub html: String,
    /// The plain twin, for terminals and for notebooks read as text.
    pub text: String,
}

impl Bundle {
    /// The HTML as a notebook gets it: in an element that MathJax 2 and 3 leave alone, with pictures that are
    /// seen without trust.
    fn guarded(&self) -> String {
        format!("<div class=\"{NO_MATH}\">{}</div>", untrusted::with_images(&self.html))
    }

    /// What evcxr's protocol wants on the standard output: one block for each mime type; nothing for a
    /// bundle of nothing.
    ///
    /// # Examples
    /// ```
    /// use lorascope::display::{Show, Text};
    ///
    /// let printed = Text::new("3 < 5").show().printed();
    /// assert!(printed.starts_with("EVCXR_BEGIN_CONTENT text/html\n<div class=\"mathjax_ignore"));
    /// assert!(printed.ends_with("EVCXR_BEGIN_CONTENT text/plain\n3 < 5\nEVCXR_END_CONTENT\n"));
    /// assert_eq!(().show().printed(), "");
    /// ```
    pub fn printed(&self) -> String {
        let mut out = String::new();
        if self.html.is_empty() && self.text.is_empty() {
            return out;
        }
        for (mime, body) in [("text/html", &self.guarded()), ("text/plain", &self.text)] {
            let _ = write!(out, "{BEGIN} {mime}\n{}\n{END}\n", neutral(body));
        }
        out
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (html, text) = (cut(&self.html, 60), cut(&self.text, 60));
        f.debug_struct("Bundle").field("html", &html).field("text", &text).finish()
    }
}

/// Something that a notebook can show.
pub trait Show {
    /// HTML and text of this value.
    fn show(&self) -> Bundle;

    /// HTML and text of a list of such values: beside each other, of many the first.
    fn show_all(values: &[Self]) -> Bundle
    where
        Self: Sized,
    {
        const SHOWN: usize = 24;
        let shown = values.iter().take(SHOWN).map(Show::show);
        let more = values.len().saturating_sub(SHOWN) as u64;
        let more = (more > 0).then(|| Text::new(format!("… and {} more", thousands(more))).show());
        side_by_side(shown.chain(more))
    }
}

/// Gives every [`Show`] the method that evcxr calls on the last expression of a cell.
///
/// In the prelude; not meant to be called by hand.
pub trait EvcxrDisplay {
    /// Prints the value as evcxr's mime bundle.
    fn evcxr_display(&self);
}

impl<T: Show + ?Sized> EvcxrDisplay for T {
    fn evcxr_display(&self) {
        // Shown first: what is worked out for it may print as well.
        let printed = self.show().printed();
        let mut stdout = std::io::stdout().lock();
        // A notebook that went away is no reason to fail a computation.
        let _ = stdout.write_all(printed.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// An answer in words: a model's output, a status line. Shows as text, not as a quoted string.
///
/// # Examples
/// ```
/// use lorascope::display::{Show, Text};
///
/// let text = Text::new("3 < 5");
/// assert_eq!(text.as_str(), "3 < 5");
/// assert!(text.show().html.contains("3 &lt; 5"));
/// assert!(!Text::new("EVCXR_BEGIN_CONTENT").to_string().contains("EVCXR_BEGIN_CONTENT"));
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&neutral(&self.0))
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Show for Text {
    fn show(&self) -> Bundle {
        Bundle {
            html: format!(
                "<div dir=\"auto\" style=\"white-space:pre-wrap;overflow-wrap:anywhere;max-width:60em\">{}</div>",
                escape(&self.0)
            ),
            text: neutral(&self.0),
        }
    }
}

macro_rules! show_tuple {
    ($($name:ident)+) => {
        impl<$($name: Show),+> Show for ($($name,)+) {
            #[allow(non_snake_case)]
            fn show(&self) -> Bundle {
                let ($($name,)+) = self;
                side_by_side([$($name.show()),+])
            }
        }
    };
}
show_tuple!(A B);
show_tuple!(A B C);
show_tuple!(A B C D);

fn side_by_side(bundles: impl IntoIterator<Item = Bundle>) -> Bundle {
    let mut html =
        String::from("<div style=\"display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start\">");
    let mut texts = Vec::new();
    for bundle in bundles {
        let style = match bundle.html.contains("<svg ") {
            true => format!("min-width:min(100%,{FIGURE}px)"),
            false => "min-width:0;max-width:100%".to_string(),
        };
        let _ = write!(html, "<div style=\"{style}\">{}</div>", bundle.html);
        texts.push(bundle.text);
    }
    html.push_str("</div>");
    Bundle { html, text: texts.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_notebook_gets_is_in_an_element_without_mathematics() {
        let guarded = Text::new("$5 and $7").show().guarded();
        assert!(guarded.starts_with("<div class=\"mathjax_ignore tex2jax_ignore\"><div "), "{guarded}");
        assert!(guarded.ends_with("</div></div>") && !guarded.contains("$5"), "{guarded}");
    }
}
