//! Preferences: a prompt, the answer that was chosen and the one that was rejected.

use std::borrow::Cow;

use super::layout::{Hole, List, Piece, Shape, Style, Who};
use super::reader::{Reader, wrong};
use super::transcript::{Told, shared, transcript};
use super::turns::{Heard, hear, hear_all, shape_of};
use super::{Fault, Turn};
use crate::dataset::record::Value;
use crate::text::Role;

/// An answer as it stands in the file.
enum Answer<'a> {
    Text(Cow<'a, str>),
    Turn(Heard<'a>),
    Turns(Vec<Heard<'a>>),
}

impl<'a> Answer<'a> {
    fn turns(&self) -> &[Heard<'a>] {
        match self {
            Self::Turns(turns) => turns,
            _ => &[],
        }
    }
}

/// Turns of a transcript.
fn turns_of<'a>(text: &Cow<'a, str>, told: &[Told]) -> Vec<Turn<'a>> {
    let said = |told: &Told| match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[told.text.clone()]),
        Cow::Owned(text) => Cow::Owned(text[told.text.clone()].to_string()),
    };
    told.iter().map(|told| Turn::new(told.role, said(told))).collect()
}

/// A transcript with holes where its turns speak; those after the first `lead` are of the list.
fn pieces<'a>(text: &str, told: &[Told], lead: usize, list: List) -> Shape<'a> {
    let (mut pieces, mut done) = (Vec::new(), 0);
    for (n, turn) in told.iter().enumerate() {
        pieces.push(Piece::Text(text[done..turn.text.start].to_string()));
        let who = match n < lead {
            true => Who::At(List::Messages, n as u32),
            false => Who::At(list, (n - lead) as u32),
        };
        pieces.push(Piece::Hole(Hole::Content(who, None)));
        done = turn.text.end;
    }
    pieces.push(Piece::Text(text[done..].to_string()));
    Shape::Pieces(pieces)
}

impl<'a> Reader<'a> {
    /// Reads prompt and answers. The answers may repeat the prompt, or even be the only place where
    /// it stands: then it is what both begin with.
    pub fn preference(&mut self, chosen: usize, rejected: usize) -> Result<(), Fault> {
        let asked = self.asked_before()?;
        let answers = [self.answer(chosen)?, self.answer(rejected)?];
        if let (false, [Answer::Text(one), Answer::Text(other)]) = (asked, &answers)
            && let (Some(one_told), Some(other_told)) = (transcript(one), transcript(other))
        {
            let lead = shared(one, other, &one_told);
            if lead > 0 {
                let (one, other) = (one.clone(), other.clone());
                self.row.turns = turns_of(&one, &one_told[..lead]);
                self.row.chosen = Some(turns_of(&one, &one_told[lead..]));
                self.row.rejected = Some(turns_of(&other, &other_told[lead..]));
                self.shapes[chosen] = Some(pieces(&one, &one_told, lead, List::Chosen));
                self.shapes[rejected] = Some(pieces(&other, &other_told, lead, List::Rejected));
                return Ok(());
            }
        }
        let (lead, system) = self.lead(answers[0].turns(), answers[1].turns(), asked);
        if !asked && lead == 0 {
            return wrong("there is no `prompt`, and `chosen` and `rejected` do not begin with one".into());
        }
        if !asked {
            let prompt = &answers[0].turns()[..lead];
            self.row.turns.extend(prompt[usize::from(system)..].iter().map(|heard| heard.turn.clone()));
        }
        if system {
            let (text, others) = answers[0].turns()[0].turn.clone().into_system();
            self.row.system = Some(text);
            self.row.system_extra = self.row.system_extra.take().or(others);
        }
        let places = [(chosen, List::Chosen), (rejected, List::Rejected)];
        let mut answered = answers.into_iter().zip(places).map(|(answer, (i, list))| {
            let who = |n: usize| match n {
                0 if system => Who::System,
                n if n < lead => Who::At(List::Messages, n as u32 - u32::from(system)),
                n => Who::At(list, (n - lead) as u32),
            };
            match answer {
                Answer::Text(text) => {
                    self.fill(i, Hole::Content(who(0), None));
                    vec![Turn::new(Role::Assistant, text)]
                }
                Answer::Turn(heard) => {
                    let heard = [heard];
                    self.shapes[i] = Some(shape_of(&heard, &who, self.style(), true));
                    heard.into_iter().map(|heard| heard.turn).collect()
                }
                Answer::Turns(mut heard) => {
                    for (n, heard) in heard.iter_mut().enumerate().take(lead).skip(usize::from(system)) {
                        let asked = self.row.turns.get(n - usize::from(system));
                        if asked.is_some_and(|turn| heard.turn != *turn) {
                            heard.differs();
                        }
                    }
                    self.shapes[i] = Some(shape_of(&heard, &who, self.style(), false));
                    heard.into_iter().skip(lead).map(|heard| heard.turn).collect()
                }
            }
        });
        let (chosen, rejected) = (answered.next(), answered.next());
        drop(answered);
        (self.row.chosen, self.row.rejected) = (chosen, rejected);
        Ok(())
    }

    fn style(&self) -> Style {
        if self.find("conversations").is_some() { Style::ShareGpt } else { Style::OpenAi }
    }

    /// Reads the prompt where it has a key of its own, and says whether it has.
    fn asked_before(&mut self) -> Result<bool, Fault> {
        if let Some(i) = self.find_any(&["prompt", "question", "query"]) {
            if let Value::Array(_) = self.keys[i].1.value {
                self.history()?;
                self.after_history = self.history > 0;
                self.list(i, Style::OpenAi)?;
                if self.row.turns.len() as u32 != self.history + 1 {
                    self.name_history();
                }
            } else {
                self.history()?;
                let about = self.about();
                if !self.several(i, about)? {
                    self.question(i, about)?;
                }
            }
        } else if let Some(i) = self.find("instruction") {
            self.history()?;
            self.question(i, self.find("input").or_else(|| self.about()))?;
        } else if let Some(i) = self.find_any(&["conversations", "messages", "conversation"]) {
            self.history_beside()?;
            self.list(i, self.style())?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn answer(&mut self, i: usize) -> Result<Answer<'a>, Fault> {
        let key = self.keys[i].0.clone();
        Ok(match self.keys[i].1.value {
            Value::Array(_) => Answer::Turns(hear_all(self.node(i), &key)?),
            Value::Object(_) => Answer::Turn(hear(self.node(i), &|| format!("`{key}`"))?),
            _ => Answer::Text(self.text(i)?),
        })
    }

    /// How many turns at the start of both answers are the prompt's, and whether the first of them is
    /// the system's.
    fn lead(&self, chosen: &[Heard<'a>], rejected: &[Heard<'a>], asked: bool) -> (usize, bool) {
        let most = chosen.len().min(rejected.len()).saturating_sub(1);
        let same =
            chosen.iter().zip(rejected).take(most).take_while(|(a, b)| a.says_the_same_as(&b.turn)).count();
        let own = |heard: &Heard<'a>| {
            let is = |system: &str| heard.turn.content == system;
            heard.is_system() && self.row.system.as_deref().is_none_or(is)
        };
        // What differs beside the system's text is no part of a prompt that both share.
        let alike = chosen.first().zip(rejected.first()).is_some_and(|(a, b)| a.turn.extra == b.turn.extra);
        let system = same > 0 && alike && chosen.first().is_some_and(own);
        let first = usize::from(system);
        let lead = if asked {
            let lead = first + self.row.turns.len();
            let mut prompt = chosen.iter().skip(first).zip(&self.row.turns);
            if lead <= same && prompt.all(|(heard, turn)| heard.says_the_same_as(turn)) { lead } else { 0 }
        } else {
            // The answers begin where it is not the user who speaks.
            let answers =
                |lead: &usize| [chosen, rejected].iter().all(|turns| turns[*lead].turn.role != Role::User);
            (first + 1..=same).rev().find(answers).unwrap_or(0)
        };
        (lead, system && lead > 0)
    }
}
