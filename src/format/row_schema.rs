//! The row schemas that are read and written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How a row is laid out in a file.
///
/// | schema | a row |
/// |---|---|
/// | `alpaca` | `{"instruction": …, "input": …, "output": …}`, also `system` and `history` |
/// | `sharegpt` | `{"id": …, "conversations": [{"from": "human", "value": …}, {"from": "gpt", …}]}` |
/// | `belle-chat` | the same with `"from": "assistant"` |
/// | `openai` | `{"messages": [{"role": "user", "content": …}, {"role": "assistant", …}]}` |
/// | `firefly` | `{"conversation": [{"human": …, "assistant": …}]}` |
/// | `prompt-completion` | `{"prompt": …, "completion": …}`, as strings or as lists of turns |
/// | `text` | `{"text": …}` |
/// | `preference` | `{"prompt": …, "chosen": …, "rejected": …}` |
/// | `kto` | `{"prompt": …, "completion": …, "label": true}` |
///
/// Reading accepts more variants of these: several turns as `Human:…\nAssistant:…` in an instruction, in
/// a prompt or in both answers of a preference; question and answer, prompt and response, with a
/// `history` before them; lists of texts in turn, and lists of turns without an object around them;
/// `instances`; `system_prompt`, keys in capitals, other names of roles, parts of content. Labels and
/// weights are read in every spelling of yes and no. A row that is written in the schema that it was
/// read from gets the standard keys; with [`Layout::Keep`](crate::format::Layout::Keep) it is written as it was.
///
/// # Examples
/// ```
/// use lorascope::format::RowSchema;
///
/// assert_eq!("belle-chat".parse::<RowSchema>()?, RowSchema::BelleChat);
/// let error = "csv".parse::<RowSchema>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "no schema is called csv; known are alpaca, sharegpt, belle-chat, openai, firefly, \
///      prompt-completion, text, preference, kto"
/// );
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowSchema {
    /// instruction, input, output.
    Alpaca,
    /// conversations of human and gpt.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// conversations of human and assistant.
    BelleChat,
    /// messages of user and assistant.
    #[serde(rename = "openai")]
    OpenAi,
    /// a conversation of pairs of human and assistant.
    Firefly,
    /// a prompt and its completion.
    PromptCompletion,
    /// a text that is not a conversation.
    Text,
    /// a prompt, the answer that was chosen, and the one that was rejected.
    Preference,
    /// a prompt, its completion, and whether it is a good one.
    Kto,
}

impl RowSchema {
    /// All schemas.
    pub const ALL: [Self; 9] = [
        Self::Alpaca,
        Self::ShareGpt,
        Self::BelleChat,
        Self::OpenAi,
        Self::Firefly,
        Self::PromptCompletion,
        Self::Text,
        Self::Preference,
        Self::Kto,
    ];

    /// The name on the command line and in the column `source`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::ShareGpt => "sharegpt",
            Self::BelleChat => "belle-chat",
            Self::OpenAi => "openai",
            Self::Firefly => "firefly",
            Self::PromptCompletion => "prompt-completion",
            Self::Text => "text",
            Self::Preference => "preference",
            Self::Kto => "kto",
        }
    }
}

impl fmt::Display for RowSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RowSchema {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|schema| schema.name() == name).ok_or_else(|| {
            Error::input(format_args!("no schema is called {name}"))
                .help(format_args!("known are {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

/// The keys that identify each schema, for messages.
pub(crate) const KNOWN: &str = "instruction and output (alpaca), conversations of from and value (sharegpt, belle-chat), messages of role and content (openai), conversation of human and assistant (firefly), prompt and completion or question and answer (prompt-completion), prompt, chosen and rejected (preference), these with a label of true or false (kto), text";
