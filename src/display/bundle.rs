//! The output of a value for evcxr: HTML and its plain twin.

use super::escaping::{cut, neutral};
use super::untrusted;
use std::fmt::Write as _;
use std::io::Write as _;

const BEGIN: &str = "EVCXR_BEGIN_CONTENT";
const END: &str = "EVCXR_END_CONTENT";
/// Classes of an element in which nothing is taken for mathematics. JupyterLab 4 knows the first,
/// the classic notebook and nbconvert's pages the second; KaTeX knows none, so [`escape`](super::escape) breaks up
/// the marks themselves.
pub(super) const NO_MATH: &str = "mathjax_ignore tex2jax_ignore";

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
    pub(super) fn guarded(&self) -> String {
        format!("<div class=\"{NO_MATH}\">{}</div>", untrusted::with_images(&self.html))
    }

    /// The lines of evcxr's protocol for the standard output: one block for each mime type; nothing for an empty
    /// bundle.
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

    /// Prints these lines.
    pub(super) fn print(&self) {
        let mut stdout = std::io::stdout().lock();
        // A notebook that went away is no reason to fail a computation.
        let _ = stdout.write_all(self.printed().as_bytes()).and_then(|()| stdout.flush());
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (html, text) = (cut(&self.html, 60), cut(&self.text, 60));
        f.debug_struct("Bundle").field("html", &html).field("text", &text).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::display::{Show, Text};

    #[test]
    fn what_a_notebook_gets_is_in_an_element_without_mathematics() {
        let guarded = Text::new("$5 and $7").show().guarded();
        assert!(guarded.starts_with("<div class=\"mathjax_ignore tex2jax_ignore\"><div "), "{guarded}");
        assert!(guarded.ends_with("</div></div>") && !guarded.contains("$5"), "{guarded}");
    }
}
