//! The `Show` trait: values alone, in tuples and in lists; the `Text` type.

use super::bundle::Bundle;
use super::channel;
use super::escaping::{escape, neutral};
use super::number_format::thousands;
use std::fmt::Write as _;

/// Pixels that a figure has at least beside others, where the page has them: 720 are what it is drawn in, and
/// with fewer than these its small text, of 11, would be hard to read.
pub(super) const FIGURE: u32 = 620;

/// Something that a notebook can show.
pub trait Show {
    /// HTML and text of this value.
    fn show(&self) -> Bundle;

    /// The error that this value is: the lorascope kernel fails a cell whose last expression has one. The stock kernel
    /// shows it.
    fn error(&self) -> Option<String> {
        None
    }

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
        if self.error().is_some_and(|error| channel::fail(&error)) {
            return;
        }
        self.show().print();
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
