//! Prompts that are answered while the run trains.

use super::thread::Worker;
use crate::model::{Finish, GenerateConfig};
use crate::run::answers::Answer;
use crate::run::state::shared::RunState;
use crate::text::Message;
use std::sync::atomic::Ordering;

/// Tokens of an answer to a prompt that is watched, at most.
const ANSWER: usize = 64;

impl Worker {
    /// Answers the watched prompts, when they are due and have no answer yet. An answer that fails stops nothing; one
    /// that a pause cuts short is dropped, and made when the run goes on.
    pub(super) fn watch(&self) {
        let step = self.place.step;
        let settings = self.shared.read().journal.settings(&self.config, step);
        let Some((prompts, _)) = settings.watch.filter(|(_, every)| step.is_multiple_of(*every)) else {
            return;
        };
        let config = GenerateConfig { max_tokens: ANSWER, ..Default::default() };
        let answered = |current: &RunState, prompt: &str| {
            current
                .answers
                .iter()
                .rev()
                .take_while(|answer| answer.step == step)
                .any(|answer| answer.prompt == prompt)
        };
        let model = self.config.model_of(&self.model);
        for prompt in prompts {
            if answered(&self.shared.read(), &prompt) {
                continue;
            }
            let mut on_text = |_: &str| !self.shared.stop.load(Ordering::Relaxed);
            let messages = [Message::user(prompt.as_str())];
            let answered = model.chat_each(&self.learned.adapters, &messages, &config, &mut on_text);
            if answered.as_ref().is_ok_and(|said| said.finish == Finish::Interrupted) {
                return;
            }
            let answered = answered.and_then(|said| {
                let answer = Answer { step, prompt, answer: said.text };
                self.folder.append_answer(&answer)?;
                Ok(answer)
            });
            match answered {
                Ok(answer) => self.shared.update(|current| current.answers.push(answer)),
                Err(error) => self.shared.note(format!("a watched prompt was not answered: {error}")),
            }
        }
    }
}
