//! Escapes strings for HTML and for the notebook, and cuts them to a width.

/// Escapes a string for HTML text. Nothing in it is taken for mathematics: an empty element stands
/// after each `$` and each `\`.
///
/// A notebook page looks for `$…$`, `$$…$$`, `\(…\)`, `\[…\]`, `\begin{…}`, `\ref{…}`, `\$` and `\\` in
/// the text of an output (MathJax 2 and 3, KaTeX). It joins the texts on both sides of `<br>`, `<wbr>`
/// and comments, and no others: an element with a content of nothing keeps every two characters of
/// such a mark apart, is not seen, and is not copied along.
///
/// ```
/// use lorascope::display::escape;
///
/// assert_eq!(escape("<b a='1'>&\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
/// assert_eq!(escape("$5, $7"), "$<span></span>5, $<span></span>7");
/// assert_eq!(escape(r"\(x\)"), r"\<span></span>(x\<span></span>)");
/// ```
pub fn escape(text: &str) -> String {
    const BREAK: &str = "<span></span>";
    let text = attribute(text);
    if memchr::memchr2(b'$', b'\\', text.as_bytes()).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 4 * BREAK.len());
    for c in text.chars() {
        out.push(c);
        if matches!(c, '$' | '\\') {
            out.push_str(BREAK);
        }
    }
    out
}

/// Escapes a string for attribute values in double or single quotes, for titles, and for SVG and
/// other XML: for all places that cannot hold the elements of [`escape`].
///
/// ```
/// assert_eq!(lorascope::display::attribute("<b a='1'>&\" $5"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot; $5");
/// ```
pub fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // One break, not two: a page shows an empty line between them otherwise.
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            // No characters at all, and XML forbids them.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    neutral(&out)
}

/// Breaks evcxr's output markers in a text with a word joiner, which has no width: it looks the same, and a
/// notebook no longer takes it for the begin or the end of rich output.
///
/// ```
/// let text = lorascope::display::neutral("EVCXR_END_CONTENT");
/// assert!(!text.contains("EVCXR_END_CONTENT"));
/// assert_eq!(text.replace('\u{2060}', ""), "EVCXR_END_CONTENT");
/// ```
pub fn neutral(text: &str) -> String {
    if text.contains("EVCXR_") { text.replace("EVCXR_", "EVCXR\u{2060}_") } else { text.to_string() }
}

/// A text in one line: `mark` stands for each of its line breaks, of which `\r\n` is one.
pub(crate) fn in_line(text: &str, mark: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\r' => out.push_str(mark),
            c => out.push(c),
        }
    }
    out
}

/// What of a text fits into so many columns of a fixed-width font, with an ellipsis where there is more.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += char_width(*c);
        used > columns
    });
    end.map_or_else(|| text.to_string(), |(end, _)| format!("{}…", &text[..end]))
}

/// The first `limit` characters, and an ellipsis when there are more.
///
/// ```
/// assert_eq!(lorascope::display::cut("一二三四", 3), "一二三…");
/// assert_eq!(lorascope::display::cut("一二三", 3), "一二三");
/// ```
pub fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// Columns that a text takes in a fixed-width font: two for the wide scripts of East Asia.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0x2060 | 0x200b..=0x200d | 0x0300..=0x036f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
