//! One turn of a conversation.

use serde::{Deserialize, Serialize};

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model; its tokens are trained on.
    Assistant,
    /// What a tool answered.
    Tool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// The speaker's name, where one is given.
    pub name: Option<String>,
    /// The calls of tools, as JSON.
    pub tool_calls: Option<String>,
    /// How much the turn counts in the loss; `None` is 1.
    pub weight: Option<f32>,
}

impl Message {
    /// A turn with nothing but a role and a content.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), name: None, tool_calls: None, weight: None }
    }
}
