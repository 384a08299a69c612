//! What the model answers with a run's adapters: asked now, and along the steps.

use super::answers::Answers;
use super::handle::Run;
use crate::display::Text;
use crate::error::Result;
use crate::model::{Comparison, GenerateConfig, Model};
use crate::text::Message;

impl Run {
    /// What the model answers with the adapters as they are now, taking the most likely tokens, in the precision that
    /// the run trains in.
    ///
    /// # Errors
    /// As [`Model::chat`](crate::model::Model::chat).
    pub fn sample(&self, question: &str) -> Result<Text> {
        self.chat(&[Message::user(question)], &GenerateConfig::default())
    }

    /// What the model with the adapters answers to a conversation.
    ///
    /// # Errors
    /// As [`Model::chat`](crate::model::Model::chat).
    pub fn chat(&self, messages: &[Message], config: &GenerateConfig) -> Result<Text> {
        self.computing().chat_with(&self.adapters(), messages, config)
    }

    /// What the model answers to each question without and with the adapters as they are now.
    ///
    /// # Errors
    /// As [`Model::compare`](crate::model::Model::compare).
    pub fn compare<S: AsRef<str>>(&self, questions: &[S]) -> Result<Comparison> {
        self.computing().compare(&self.adapters(), questions, &GenerateConfig::default())
    }

    /// The model in the precision that this run trains in.
    fn computing(&self) -> Model {
        self.0.config.model_of(&self.0.model)
    }

    /// The answers to the prompts that are [watched](Self::watch), along the steps.
    pub fn answers(&self) -> Answers {
        Answers(self.0.shared.read().answers.clone())
    }
}
