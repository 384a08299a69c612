//! A text of a record, and how its file writes it.

use std::borrow::Cow;

/// A text, and the JSON that its file has for it where that is what this crate writes: most texts go from file
/// to file, and what was escaped once need not be read and escaped again. Another text has no such JSON.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content<'a> {
    text: Cow<'a, str>,
    json: Option<&'a str>,
}

impl<'a> Content<'a> {
    /// A text with its JSON, if that is what this crate writes for it.
    pub(super) fn written(text: Cow<'a, str>, json: Option<&'a str>) -> Self {
        Self { text, json }
    }

    /// The JSON string, with its quotes.
    pub fn json(&self) -> Option<&'a str> {
        self.json
    }

    pub fn into_text(self) -> Cow<'a, str> {
        self.text
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Content<'a> {
    fn from(text: T) -> Self {
        Self { text: text.into(), json: None }
    }
}

impl std::ops::Deref for Content<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Content<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use crate::format::record::Node;
    use crate::format::write::json::string;

    /// The JSON that goes to a new file as it stands is what this crate writes for the text.
    #[test]
    fn json_is_kept_where_it_is_what_this_crate_writes() {
        let kept = [
            "",
            "a",
            "数 \u{7f}",
            r#"\n\t\r\b\f\"\\"#,
            r#"a line\nand \"one\" more, long enough to be read in wide steps"#,
        ];
        for inner in kept {
            let json = format!("\"{inner}\"");
            let content = Node::parse(&json).unwrap().take_content().unwrap();
            assert_eq!(content.json(), Some(json.as_str()));
            let mut written = Vec::new();
            string(&mut written, &content);
            assert_eq!(written, json.as_bytes());
        }
        for other in [r"\/", r"\u0041", r"\u000a", r"a\n\u00e9", r"\ud83d\udc4b"] {
            let json = format!("\"{other}\"");
            let content = Node::parse(&json).unwrap().take_content().unwrap();
            assert_eq!(content.json(), None, "{other}");
        }
        // Nothing else is taken for a text that is known as JSON.
        assert_eq!(super::Content::from("a").json(), None);
    }
}
