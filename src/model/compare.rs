//! Compares the answers of a model without and with adapters.

use super::generate::GenerateConfig;
use super::model::Model;
use crate::display::{Bundle, Progress, Show, brief, escape, in_line, neutral};
use crate::error::Result;
use crate::format::Role;
use crate::lora::Adapters;
use crate::text::Message;
use std::fmt::Write as _;

/// The answers of a model to the same questions without and with adapters; shows as two columns.
#[derive(Clone, PartialEq, Eq)]
pub struct Comparison {
    /// One entry for each question, in their order.
    pub rows: Vec<Compared>,
}

/// One question and its two answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The last message before the answer.
    pub question: String,
    /// The answer of the base model.
    pub base: String,
    /// The answer of the model with the adapters.
    pub adapted: String,
}

impl Model {
    /// Asks each question twice, without and with the adapters: before and after, in one call.
    ///
    /// # Errors
    /// As [`chat_with`](Self::chat_with).
    ///
    /// # Examples
    /// ```no_run
    /// use lorascope::lora::Adapters;
    /// use lorascope::model::{GenerateConfig, Model};
    ///
    /// let model = Model::open("models/smollm2-135m.gguf")?;
    /// let adapters = Adapters::open("adapter", model.decoder().device())?;
    /// model.compare(&adapters, &["3 + 5 = ?", "小明有3个苹果,又买了5个,一共几个?"], &GenerateConfig::default())?
    /// # ; Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn compare<S: AsRef<str>>(
        &self,
        adapters: &Adapters,
        questions: &[S],
        config: &GenerateConfig,
    ) -> Result<Comparison> {
        let conversations: Vec<Vec<Message>> =
            questions.iter().map(|question| vec![Message::user(question.as_ref())]).collect();
        self.compare_conversations(adapters, &conversations, config)
    }

    /// Like [`compare`](Self::compare), for conversations that end in a question.
    ///
    /// # Errors
    /// As [`chat_with`](Self::chat_with).
    pub fn compare_conversations(
        &self,
        adapters: &Adapters,
        conversations: &[Vec<Message>],
        config: &GenerateConfig,
    ) -> Result<Comparison> {
        let mut progress = Progress::new("answering", 2 * conversations.len() as u64);
        let mut answer = |adapters: &Adapters, messages: &[Message]| -> Result<String> {
            let made = self.chat_each(adapters, messages, config, &mut |_| true)?.whole()?;
            progress.advance(1, "");
            Ok(made.text)
        };
        let none = Adapters::default();
        let mut compared = |messages: &Vec<Message>| -> Result<Compared> {
            let asked = messages.iter().rev().find(|m| m.role == Role::User).or(messages.last());
            Ok(Compared {
                question: asked.map(|m| m.text().to_string()).unwrap_or_default(),
                base: answer(&none, messages)?,
                adapted: answer(adapters, messages)?,
            })
        };
        Ok(Comparison { rows: conversations.iter().map(&mut compared).collect::<Result<_>>()? })
    }
}

brief!(Comparison);

impl Show for Comparison {
    fn show(&self) -> Bundle {
        const CELL: &str = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere;\
                            padding:0.3em 0.8em;width:50%";
        const RULE: &str = "border-top:1px solid rgba(128,128,128,0.35)";
        let mut html = String::from(
            "<table style=\"border-collapse:collapse;table-layout:fixed;width:100%;max-width:80em\">\
             <thead><tr>",
        );
        for name in ["base", "with the adapter"] {
            let _ = write!(html, "<th style=\"{CELL}\">{name}</th>");
        }
        html.push_str("</tr></thead><tbody>");
        let mut text = String::new();
        for row in &self.rows {
            let _ = write!(
                html,
                "<tr><td colspan=\"2\" dir=\"auto\" style=\"{CELL};{RULE};opacity:0.8\">{}</td></tr>\
                 <tr><td dir=\"auto\" style=\"{CELL}\">{}</td><td dir=\"auto\" style=\"{CELL}\">{}</td></tr>",
                escape(&row.question),
                escape(&row.base),
                escape(&row.adapted)
            );
            for (name, said) in [("asked", &row.question), ("base", &row.base), ("adapter", &row.adapted)] {
                // Its own lines stand under its first one.
                let said = in_line(said, "\n         ");
                let _ = writeln!(text, "{name:<8} {}", neutral(&said));
            }
            text.push('\n');
        }
        html.push_str("</tbody></table>");
        Bundle { html, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_columns_are_escaped() {
        let row = Compared {
            question: "<b>?".to_string(),
            base: "<script>1</script>\nEVCXR_END_CONTENT".to_string(),
            adapted: "8 & more".to_string(),
        };
        let shown = Comparison { rows: vec![row] }.show();
        assert!(shown.html.contains("&lt;script&gt;1") && shown.html.contains("8 &amp; more"));
        assert!(!shown.html.contains("<script>") && !shown.html.contains("EVCXR_END"));
        assert!(!shown.text.contains("EVCXR_END"));
        assert!(shown.text.starts_with("asked    <b>?\nbase     <script>1</script>\n         EVCXR"));
    }
}
