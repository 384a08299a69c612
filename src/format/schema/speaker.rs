//! Who speaks: the names that files give the roles.

use std::borrow::Cow;

use crate::format::Role;

/// A speaker by the name that a file has.
pub(super) enum Speaker {
    Role(Role),
    /// The assistant, calling a tool: the turn's text is the call.
    Call,
}

impl Speaker {
    pub fn of(name: &str) -> Option<Self> {
        Some(Self::Role(match name {
            "human" | "user" | "prompter" => Role::User,
            "gpt" | "assistant" | "bot" | "model" | "chatgpt" | "bing" | "bard" | "claude" | "ai" => {
                Role::Assistant
            }
            "system" | "developer" => Role::System,
            "tool" | "observation" | "function" | "function_response" | "tool_response" | "tool_result"
            | "ipython" => Role::Tool,
            "function_call" | "tool_call" => return Some(Self::Call),
            _ if name.bytes().any(|b| b.is_ascii_uppercase()) => {
                return Self::of(&name.to_ascii_lowercase());
            }
            _ => return None,
        }))
    }
}

/// Whether a turn by this name is a call of tools.
pub(crate) fn calls_tools(name: &str) -> bool {
    matches!(Speaker::of(name), Some(Speaker::Call))
}

/// The role that a file means by a name.
pub(crate) fn role_by_name(name: &str) -> Option<Role> {
    Some(match Speaker::of(name)? {
        Speaker::Role(role) => role,
        Speaker::Call => Role::Assistant,
    })
}

/// A key by the name that it has in lower case.
pub(super) fn lower<'k>(key: &'k str) -> Cow<'k, str> {
    match key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(key.to_ascii_lowercase()),
        false => Cow::Borrowed(key),
    }
}
