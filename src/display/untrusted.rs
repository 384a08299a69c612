//! Pictures that are seen in a notebook that is not trusted, too.

use std::fmt::Write as _;

/// In trusted output the drawing itself is shown, in the page's own colours, and its twin is not. JupyterLab
/// drops this element, `<svg>` (but not the texts in it) and attributes without a value from output that it does
/// not trust, and leaves `<img>`, classes, `hidden="hidden"` and `display:none` as they are: there the twin is shown.
const STYLE: &str = "<style>.lorascope-drawing[hidden]{display:block!important}\
                     .lorascope-image{display:none!important}</style>";
/// An image cannot follow the page's colours: dark text on white.
const TEXT: &str = "#1f2328";
const PAGE: &str = "#ffffff";

/// Puts beside each `<svg>` of a fragment of HTML an `<img>` with the same drawing, of which exactly one is
/// seen.
pub(super) fn with_images(html: &str) -> String {
    const BEGIN: &str = "<svg ";
    const END: &str = "</svg>";
    let mut out = String::new();
    let mut rest = html;
    while let Some(begin) = rest.find(BEGIN)
        && let Some(length) = rest[begin..].find(END)
    {
        let end = begin + length + END.len();
        let svg = &rest[begin..end];
        if out.is_empty() {
            out.push_str(STYLE);
        }
        let _ = write!(
            out,
            "{}<div class=\"lorascope-drawing\" hidden=\"hidden\" style=\"display:none\">{svg}</div>\
             <img class=\"lorascope-image\" alt=\"{}\" style=\"max-width:100%;height:auto\" src=\"{}\">",
            &rest[..begin],
            between(svg, " aria-label=\"", "\""),
            address(&on_white(svg))
        );
        rest = &rest[end..];
    }
    out + rest
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let after = text.split_once(begin).map_or("", |(_, after)| after);
    after.split_once(end).map_or("", |(inside, _)| inside)
}

/// The drawing on a white page, unless it has a page of its own.
fn on_white(svg: &str) -> String {
    match svg.split_once('>') {
        Some((root, inside)) if !root.contains(" color=\"") => {
            let page = format!("<rect width=\"100%\" height=\"100%\" fill=\"{PAGE}\"/>");
            format!("{root} color=\"{TEXT}\">{page}{inside}")
        }
        _ => svg.to_string(),
    }
}

/// A `data:` address of an SVG document. Only what would end the attribute or the address is escaped: a tenth
/// longer than the document, where base64 is a third longer.
fn address(svg: &str) -> String {
    let mut out = String::with_capacity(svg.len() + svg.len() / 8);
    out.push_str("data:image/svg+xml,");
    for c in svg.chars() {
        match c {
            '"' => out.push('\''),
            '\'' => out.push_str("%26apos;"),
            ' ' | '/' | ':' | ';' | '=' | ',' | '(' | ')' | '-' | '.' | '_' => out.push(c),
            c if c.is_ascii_alphanumeric() => out.push(c),
            c => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "%{byte:02X}");
                }
            }
        }
    }
    out
}
