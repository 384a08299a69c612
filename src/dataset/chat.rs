//! Shows one conversation as a chat.

use std::fmt::Write as _;

use super::Dataset;
use super::tokens::example;
use crate::display::{Bundle, Show, brief, escape, neutral, thousands};
use crate::error::Result;
use crate::format::Role;
use crate::text::{Example, Message, Tokenizer};

/// One row as a notebook shows it; returned by [`Dataset::row`].
#[derive(Clone, PartialEq)]
pub struct Chat {
    /// The file and the line that it comes from.
    pub place: String,
    /// The turns; a system text comes first.
    pub messages: Vec<Message>,
    /// The tools that the assistant may call, as JSON.
    pub tools: Option<String>,
    /// The text of a row that is no conversation.
    pub text: Option<String>,
    /// Whether the answer is labelled good or bad.
    pub label: Option<bool>,
    /// What the model sees, in pieces: the text of some tokens, how many they are, and whether they
    /// are trained on. Empty without a tokenizer.
    pub pieces: Vec<(String, usize, bool)>,
    /// Why the chat template refuses the row, where it does.
    pub refused: Option<String>,
}

impl Dataset {
    /// Returns row `i` as a chat, or as its plain text. With a tokenizer it also shows what the model sees, with
    /// the trained tokens shaded, or why the chat template refuses the row.
    ///
    /// # Errors
    /// If there is no row `i`.
    pub fn row(&self, i: usize) -> Result<Chat> {
        let (messages, tools) = (self.conversation(i)?, self.tools(i)?);
        let (path, line) = self.place(i)?;
        let place = format!("row {i}: {}, line {line}", path.display());
        let (pieces, refused) = match self.tokenizer() {
            None => (Vec::new(), None),
            Some(tokenizer) => match self.at(i, |rows, i| example(rows, i, tokenizer, &self.training()))? {
                Ok(example) => (pieces(tokenizer, &example)?, None),
                Err(why) => (Vec::new(), Some(why.to_string())),
            },
        };
        Ok(Chat { place, messages, tools, text: self.text(i)?, label: self.label(i)?, pieces, refused })
    }
}

/// The tokens that are alike, as their text.
fn pieces(tokenizer: &Tokenizer, example: &Example) -> Result<Vec<(String, usize, bool)>> {
    let mut start = 0;
    let alike = example.trained.chunk_by(|a, b| a == b);
    let piece = |trained: &[bool]| {
        let ids = &example.ids[start..start + trained.len()];
        start += trained.len();
        Ok((tokenizer.decode(ids)?, ids.len(), trained[0]))
    };
    alike.map(piece).collect()
}

/// What a row is labelled, in words.
fn label(good: bool) -> &'static str {
    if good { "labelled good" } else { "labelled bad: it is not trained on" }
}

brief!(Chat);

impl Show for Chat {
    fn show(&self) -> Bundle {
        Bundle { html: self.html(), text: self.to_string() }
    }
}

impl Chat {
    fn html(&self) -> String {
        let mut html = format!(
            "<div style=\"max-width:60em;overflow-wrap:anywhere\"><small>{}</small>",
            escape(&self.place)
        );
        for message in &self.messages {
            // Tints that leave the page's own text colour legible on light and on dark pages.
            let (side, tint) = match message.role {
                Role::System => ("0 auto", "rgba(128,128,128,.12)"),
                Role::User => ("0 4em 0 0", "rgba(86,180,233,.18)"),
                Role::Assistant => ("0 0 0 4em", "rgba(0,158,115,.18)"),
                Role::Tool => ("0 4em", "rgba(230,159,0,.18)"),
            };
            let name = message.name.as_deref().map(|name| format!(" · {name}")).unwrap_or_default();
            let calls =
                message.tool_calls.as_deref().map(|calls| format!("calls {calls}")).unwrap_or_default();
            let others: String = others(message)
                .iter()
                .map(|(key, text)| {
                    format!(
                        "<div style=\"opacity:.75\"><small>{}</small>\n{}</div>",
                        escape(key),
                        escape(text)
                    )
                })
                .collect();
            let _ = write!(
                html,
                "<div style=\"margin:{side}\"><div dir=\"auto\" style=\"background:{tint};border-radius:8px;padding:.4em .8em;\
                 margin:.3em 0;white-space:pre-wrap;text-align:start;overflow-wrap:anywhere\"><small><b>{}</b></small>\n{others}{}{}</div></div>",
                escape(&format!("{}{name}", message.role)),
                escape(message.text()),
                escape(&calls),
            );
        }
        if let Some(text) = &self.text {
            let _ = write!(
                html,
                "<div dir=\"auto\" style=\"white-space:pre-wrap;text-align:start;overflow-wrap:anywhere\">{}</div>",
                escape(text)
            );
        }
        for note in self.notes() {
            let _ = write!(html, "<small>{}</small>", escape(&note));
        }
        if let Some(tools) = &self.tools {
            let _ = write!(
                html,
                "<details><summary>tools</summary><pre style=\"white-space:pre-wrap;overflow-wrap:anywhere\">{}</pre></details>",
                escape(tools)
            );
        }
        if !self.pieces.is_empty() {
            let _ = write!(
                html,
                "<details open><summary>{}</summary><pre dir=\"auto\" style=\"white-space:pre-wrap;overflow-wrap:anywhere;text-align:start\">",
                self.counts()
            );
            let mut pieces = self.pieces.iter().peekable();
            while let Some((text, _, trained)) = pieces.next() {
                // A break of two characters may lie in two tokens.
                let split = pieces.peek().is_some_and(|(next, ..)| next.starts_with('\n'));
                let text = escape(if split { text.strip_suffix('\r').unwrap_or(text) } else { text });
                let _ = match trained {
                    true => write!(
                        html,
                        "<mark style=\"background:rgba(0,158,115,.35);color:inherit\">{text}</mark>"
                    ),
                    false => write!(html, "{text}"),
                };
            }
            html.push_str("</pre></details>");
        }
        html + "</div>"
    }

    /// What else is to say of the row, in words.
    fn notes(&self) -> impl Iterator<Item = String> {
        let refused = self.refused.as_ref().map(|why| format!("refused by the chat template: {why}"));
        self.label.map(|good| label(good).to_string()).into_iter().chain(refused)
    }

    fn counts(&self) -> String {
        let count = |wanted: fn(&bool) -> bool| {
            thousands(
                self.pieces.iter().filter(|(_, _, trained)| wanted(trained)).map(|(_, n, _)| *n as u64).sum(),
            )
        };
        format!("{} tokens, of which {} are trained on (shaded)", count(|_| true), count(|trained| *trained))
    }
}

/// The other keys of a message, such as its reasoning, and what they say.
fn others(message: &Message) -> Vec<(String, String)> {
    let parsed = message.extra.as_deref().map(serde_json::from_str::<serde_json::Map<_, _>>);
    let Some(Ok(keys)) = parsed else { return Vec::new() };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        json => json.to_string(),
    };
    keys.into_iter().map(|(key, value)| (key, text(value))).collect()
}

impl std::fmt::Display for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", neutral(&self.place))?;
        for message in &self.messages {
            write!(f, "\n[{}] {}", message.role, neutral(message.text()))?;
            for (key, text) in others(message) {
                write!(f, " {}: {}", neutral(&key), neutral(&text))?;
            }
            if let Some(calls) = &message.tool_calls {
                write!(f, " calls {}", neutral(calls))?;
            }
        }
        if let Some(text) = &self.text {
            write!(f, "\n{}", neutral(text))?;
        }
        if let Some(tools) = &self.tools {
            write!(f, "\ntools: {}", neutral(tools))?;
        }
        for note in self.notes() {
            write!(f, "\n{}", neutral(&note))?;
        }
        if !self.pieces.is_empty() {
            write!(f, "\n{}", self.counts())?;
        }
        Ok(())
    }
}
