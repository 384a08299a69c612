//! Which tokens of a row are trained on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which tokens of a conversation are trained on.
///
/// A message of the assistant whose weight is 0 is never trained on; any other weight counts as 1. All tokens of a
/// plain text are trained on. `Display` and `FromStr` use the names in files.
///
/// # Examples
/// ```
/// use lorascope::text::Trained;
///
/// assert_eq!("last-assistant".parse::<Trained>()?, Trained::LastAssistant);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// The text of the assistant, and the token that ends its turn.
    #[default]
    Assistant,
    /// The same, only in the last message of the assistant.
    LastAssistant,
    /// Every token, including the template and the other roles.
    All,
}

/// Whether answers inside a prompt are trained on: before the chosen one of a preference, before
/// the one that a label judges, in a `prompt` that is a list of turns or a transcript. With
/// [`Trained::All`] every token of them is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptAnswers {
    /// They are context and not trained on, as in TRL: only the last answer is trained on.
    #[default]
    Context,
    /// They are trained on, like the last answer.
    Train,
}

/// Whether the names of special tokens in a plain text stand for these tokens. In the messages of a
/// conversation they never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecialTokens {
    /// They do in a text that is a rendered chat: one that begins with a special token (`<s>`,
    /// `<|im_start|>`), or in which a token that ends a turn ends something, so that a line break,
    /// another special token, the next word or nothing follows it. In other texts, which only speak of
    /// such tokens, they are ordinary characters.
    #[default]
    Auto,
    /// They do in every text.
    Tokens,
    /// They do in no text.
    Text,
}

/// What is trained on in each kind of row.
///
/// # Examples
/// ```
/// use lorascope::text::{PromptAnswers, Trained, Training};
///
/// let training = Training { trained: Trained::LastAssistant, ..Training::default() };
/// assert_eq!(training.prompt_answers, PromptAnswers::Context);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Of conversations.
    pub trained: Trained,
    /// Of prompts with answers in them.
    pub prompt_answers: PromptAnswers,
    /// How plain texts are read.
    pub special_tokens: SpecialTokens,
}

/// The one of `all` that is called so.
fn named<T: fmt::Display>(
    all: impl IntoIterator<Item = T>,
    text: &str,
    wrong: &str,
    help: &str,
) -> Result<T> {
    let found = all.into_iter().find(|one| one.to_string() == text);
    found.ok_or_else(|| Error::input(format!("{text:?} {wrong}")).help(help))
}

impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assistant => "assistant",
            Self::LastAssistant => "last-assistant",
            Self::All => "all",
        })
    }
}

impl FromStr for Trained {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Assistant, Self::LastAssistant, Self::All];
        named(all, text, "does not say what is trained on", "say assistant, last-assistant or all")
    }
}

impl fmt::Display for PromptAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Context => "context",
            Self::Train => "train",
        })
    }
}

impl FromStr for PromptAnswers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = "does not say what becomes of the answers in a prompt";
        named([Self::Context, Self::Train], text, wrong, "say context or train")
    }
}

impl fmt::Display for SpecialTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tokens => "tokens",
            Self::Text => "text",
        })
    }
}

impl FromStr for SpecialTokens {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Auto, Self::Tokens, Self::Text];
        named(all, text, "does not say how special tokens are read", "say auto, tokens or text")
    }
}
