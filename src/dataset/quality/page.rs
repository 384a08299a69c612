//! The report as a page of cards, tables and figures, and as plain text.

use std::path::Path;

use super::lengths::{LengthSpread, share};
use super::report::Report;
use super::row_briefs::Sample;
use super::tables::{described, percent};
use crate::display::{
    Bundle, Cards, Page, Show, Text, brief, bytes, cut, escape, in_line, neutral, thousands,
};
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};
use crate::plot::{self, Figure, Series};
use crate::text::Message;

impl Report {
    /// The report as an HTML document that stands alone: it loads nothing and runs no script.
    pub fn html(&self) -> String {
        self.page().document()
    }

    /// Writes the report as an HTML document, and says where.
    ///
    /// # Errors
    /// If the name does not end in `.html` or `.htm`, if the file exists
    /// ([`overwrite_html`](Self::overwrite_html) replaces it), or if the disk refuses.
    pub fn save_html(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.write(path.as_ref(), Existing::Refuse)
    }

    /// Like [`save_html`](Self::save_html), but replaces an existing file.
    ///
    /// # Errors
    /// As for [`save_html`](Self::save_html).
    pub fn overwrite_html(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.write(path.as_ref(), Existing::Replace)
    }

    fn write(&self, path: &Path, existing: Existing) -> Result<Text> {
        let known = ["html", "htm"];
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !known.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            return Err(Error::input("a report is written as HTML").path(path).help("end the name in .html"));
        }
        let html = self.html();
        write_whole(path, html.as_bytes(), existing)?;
        let size = bytes(html.len() as u64);
        Ok(Text::new(format!("report written to {} ({size}); it opens in a browser", path.display())))
    }

    /// The report's pictures: how the rows' lengths spread, their cumulative curves, and padding
    /// against packing. Without rows there are none.
    pub fn figures(&self) -> Vec<Figure> {
        [self.histogram(), self.curves(), self.padding()].into_iter().flatten().collect()
    }

    fn spread(&self, of: &str) -> Option<&LengthSpread> {
        self.spreads.iter().find(|spread| spread.of == of)
    }

    fn histogram(&self) -> Option<Figure> {
        let row = self.spread("row")?;
        row.histogram.figure("Length of a conversation", row.unit.name(), "rows").ok()
    }

    fn curves(&self) -> Option<Figure> {
        let row = self.spread("row")?;
        // Only curves in the unit of the rows can be compared with them.
        let alike = self.spreads.iter().filter(|spread| spread.unit == row.unit && spread.of != "tool");
        let series: Vec<Series> = alike
            .map(|spread| {
                let points = spread.curve.iter().map(|&(length, share)| (length.max(1) as f64, share));
                Series::line(described(spread), points)
            })
            .collect();
        let marks: Vec<f64> = self.contexts.iter().map(|cut| cut.context as f64).collect();
        plot::cumulative("Cumulative length", row.unit.name(), "% at most this long", &series, &marks).ok()
    }

    fn padding(&self) -> Option<Figure> {
        let packing = &self.packing;
        let length = packing.length as f64;
        let mut bars: Vec<(String, Vec<f64>)> = packing
            .paddings
            .iter()
            .map(|padding| {
                let name = format!("padded, batch {}", padding.batch);
                (name, vec![length, padding.computed as f64 - length])
            })
            .collect();
        let name = format!("packed to {}", packing.context);
        bars.push((name, vec![length, packing.computed as f64 - length]));
        let parts = ["rows".to_string(), "padding".to_string()];
        plot::stacked("What is computed in one epoch", self.unit.name(), &parts, &bars).ok()
    }

    fn page(&self) -> Page {
        let figures = |figures: Vec<Option<Figure>>| beside(figures.into_iter().flatten().collect());
        let page = Page::new(if self.file.is_empty() { "Report" } else { self.file.as_str() })
            .section("", [self.summary()])
            .section("Problems", [self.faults()])
            .section("Answers that many prompts share", self.shared().map(|table| table.show()))
            .section("Columns", self.column_table().map(|table| table.show()))
            .section("Lengths", [self.lengths().show()])
            .section("", figures(vec![self.histogram(), self.curves()]))
            .section("", self.role_histograms())
            .section("Roles, schemas, languages", [self.kinds().show()])
            .section("Tools", self.tool_tables())
            .section("Chosen and rejected answers", self.pairs())
            .section("What a context leaves out", self.contexts().map(|table| table.show()))
            .section("Padding and packing", self.packed().map(|table| table.show()))
            .section("", figures(vec![self.padding()]))
            .section("Rows that say the same", self.clusters(&self.exact))
            .section("Rows that say nearly the same", self.clusters(&self.near))
            .section("How answers begin", self.beginnings().map(|table| table.show()));
        page.section("Shortest and longest rows", self.extremes("the shortest", &self.shortest))
            .section("", self.extremes("the longest", &self.longest))
            .section("One row of each schema", self.examples())
    }

    fn summary(&self) -> Bundle {
        let percent = |count: u64| percent(share(count, self.rows));
        let [exact, near] = [&self.exact, &self.near].map(|found| found.rows - found.groups);
        let length = self.tokens.unwrap_or(self.characters);
        let languages: Vec<String> = self
            .languages
            .iter()
            .take(3)
            .map(|(code, count)| format!("{code} {}", percent(*count)))
            .collect();
        let problems: Vec<String> =
            self.problems.iter().take(3).map(|p| format!("{} {}", p.kind, thousands(p.count))).collect();
        let problems = match problems.is_empty() {
            true => "none was found".to_string(),
            false => problems.join(", "),
        };
        let schemas: Vec<&str> = self.sources.keys().map(String::as_str).collect();
        let mut cards = vec![
            ("rows".to_string(), thousands(self.rows), format!("{} rejected", thousands(self.rejected))),
            (
                "turns of a row".into(),
                format!("{:.1}", self.turns.mean),
                format!("at most {}", thousands(self.turns.max)),
            ),
            (
                format!("{} of a row", self.unit.name()),
                thousands(length.p50),
                format!("median; 99 % within {}", thousands(length.p99)),
            ),
            ("duplicates".into(), thousands(exact), format!("{} of the rows", percent(exact))),
            (
                "near-duplicates".into(),
                thousands(near),
                format!("in {} groups, from {} on", thousands(self.near.groups), self.near.similarity),
            ),
            ("languages".into(), self.languages.len().to_string(), languages.join(", ")),
            ("schemas".into(), schemas.len().to_string(), schemas.join(", ")),
            ("problems".into(), self.problems.len().to_string(), problems),
        ];
        if let (Some(tokens), Some(trained)) = (&self.tokens, self.spread("trained")) {
            let total = trained.lengths.total;
            let note = format!("{} of all tokens", self::percent(share(total, tokens.total)));
            cards.insert(3, ("trained tokens".into(), thousands(total), note));
        }
        let mut text = format!(
            "{} rows · {} rejected · {} duplicates · {} near-duplicates",
            thousands(self.rows),
            thousands(self.rejected),
            thousands(exact),
            thousands(near)
        );
        if self.rendered > 0 {
            let note = "plain texts in which special tokens' names are the tokens".to_string();
            text += &format!(" · {} rendered chats", thousands(self.rendered));
            cards.push(("rendered chats".into(), thousands(self.rendered), note));
        }
        Bundle { html: Cards::new(cards).show().html, text }
    }

    fn role_histograms(&self) -> Option<Bundle> {
        let rest = self.spreads.iter().filter(|spread| spread.of != "row");
        let title = |spread: &LengthSpread| format!("Length of {}", described(spread));
        let figures: Vec<Figure> = rest
            .filter_map(|spread| {
                let ylabel = if spread.of == "trained" { "rows" } else { "turns" };
                spread.histogram.figure(&title(spread), spread.unit.name(), ylabel).ok()
            })
            .collect();
        let shown = beside(figures)?;
        let html =
            format!("<details><summary style=\"cursor:pointer\">by role</summary>{}</details>", shown.html);
        Some(Bundle { html, text: shown.text })
    }

    fn examples(&self) -> Vec<Bundle> {
        let said = |message: &Message| {
            let calls = message.tool_calls.iter().map(String::as_str);
            let parts = [message.text()].into_iter().chain(calls).filter(|part| !part.is_empty());
            parts.collect::<Vec<_>>().join("\n")
        };
        let example = |sample: &Sample| {
            let mut name = format!("{}, row {}", sample.source, sample.row);
            if let Some(good) = sample.label {
                name += if good { ", labelled good" } else { ", labelled bad" };
            }
            let text = sample.text.iter().map(|text| ("text".to_string(), text.clone()));
            let messages = sample.messages.iter().map(|message| (message.role.to_string(), said(message)));
            let rejected =
                sample.rejected.iter().map(|message| (format!("{}, rejected", message.role), said(message)));
            let mut html = format!("<p style=\"margin:0.3em 0;opacity:0.8\">{}</p>", escape(&name));
            let mut plain = name + "\n";
            for (role, said) in text.chain(messages).chain(rejected) {
                html += &format!(
                    "<div style=\"border-left:3px solid rgba(128,128,128,0.5);padding:0.1em 0.8em;margin:0.5em 0\">\
                     <div style=\"opacity:0.75;font-size:85%\">{role}</div>\
                     <div dir=\"auto\" style=\"white-space:pre-wrap;overflow-wrap:anywhere\">{}</div></div>",
                    escape(&said)
                );
                plain += &format!("  {role}: {}\n", cut(&in_line(&said, "⏎"), 160));
            }
            Bundle { html, text: neutral(&plain) }
        };
        self.examples.iter().map(example).collect()
    }
}

/// Figures beside each other where the page is wide enough.
fn beside(figures: Vec<Figure>) -> Option<Bundle> {
    if figures.is_empty() {
        return None;
    }
    let mut html = String::from("<div style=\"display:flex;flex-wrap:wrap;gap:1em\">");
    let mut texts = Vec::new();
    for figure in figures {
        let shown = figure.show();
        html += &format!("<div style=\"flex:1 1 26em;min-width:0;max-width:45em\">{}</div>", shown.html);
        texts.push(shown.text);
    }
    Some(Bundle { html: html + "</div>", text: texts.join("\n") })
}

brief!(Report);

impl Show for Report {
    fn show(&self) -> Bundle {
        self.page().show()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().text)
    }
}
