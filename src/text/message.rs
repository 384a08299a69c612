//! One message of a conversation.

use serde::{Deserialize, Serialize};

use crate::display::{Bundle, Show, escape, neutral};
use crate::format::Role;

/// A message of a conversation.
///
/// # Examples
/// ```
/// use lorascope::text::Message;
///
/// let messages = [Message::user("3 + 5?"), Message::assistant("8")];
/// assert_eq!(serde_json::to_string(&messages[1])?, r#"{"role":"assistant","content":"8"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; `None` if the file has null or no content, as for tool calls. Chat templates distinguish it from an
    /// empty text.
    #[serde(default)]
    pub content: Option<String>,
    /// The name of the speaker or of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tools that the assistant calls: a JSON array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<String>,
    /// The call that a tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// 0 for an assistant's message that is context only and not trained on; anything else trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f32>,
    /// All other keys of the message, such as `reasoning_content`: a JSON object, whose keys the chat
    /// template sees beside the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
}

impl Message {
    /// A message that has a role and a text, and nothing else.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
            name: None,
            tool_calls: None,
            tool_call_id: None,
            weight: None,
            extra: None,
        }
    }

    /// The text; empty where there is none.
    ///
    /// # Examples
    /// ```
    /// use lorascope::text::Message;
    ///
    /// assert_eq!(Message::user("3 + 5?").text(), "3 + 5?");
    /// assert_eq!(Message { content: None, ..Message::assistant("") }.text(), "");
    /// ```
    pub fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }

    /// Instructions that stand above the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// What the person says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// What a tool answers.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new(Role::Tool, content)
    }

    /// Whether its tokens are trained on: an assistant's message whose weight is not 0.
    pub fn is_trained(&self) -> bool {
        self.role == Role::Assistant && self.weight != Some(0.0)
    }
}

/// Who speaks, and under it what is said, with the calls of tools.
impl Show for Message {
    fn show(&self) -> Bundle {
        let name = self.name.as_deref().map(|name| format!(" · {name}")).unwrap_or_default();
        let calls = self.tool_calls.as_deref().map(|calls| format!("\ncalls {calls}")).unwrap_or_default();
        let (who, said) = (format!("{}{name}", self.role), format!("{}{calls}", self.text()));
        let html = format!(
            "<div dir=\"auto\" style=\"max-width:60em;margin:0.3em 0;white-space:pre-wrap;overflow-wrap:anywhere\">\
             <small><b>{}</b></small>\n{}</div>",
            escape(&who),
            escape(&said)
        );
        Bundle { html, text: neutral(&format!("[{who}] {said}")) }
    }

    /// One below the other: a conversation.
    fn show_all(messages: &[Self]) -> Bundle {
        let shown: Vec<Bundle> = messages.iter().map(Show::show).collect();
        Bundle {
            html: shown.iter().map(|message| message.html.as_str()).collect(),
            text: shown.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n"),
        }
    }
}
