//! Preferences: a prompt, the answer that was chosen and the one that was rejected.

use std::borrow::Cow;

use super::layout::{Hole, List, Shape, Style, TextPiece, Who};
use super::reader::{Reader, wrong};
use super::transcript::{Told, shared, transcript};
use super::turns::{Heard, hear, hear_all, shape_of};
use crate::format::Role;
use crate::format::fix::thinks;
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::record::{Node, Value};
use crate::format::row::{Fault, Turn};

/// An answer as it stands in the file.
enum Answer<'a> {
    Text(Cow<'a, str>),
    Turn(Box<Heard<'a>>),
    Turns(Vec<Heard<'a>>),
}

impl<'a> Answer<'a> {
    fn turns(&self) -> &[Heard<'a>] {
        match self {
            Self::Turns(turns) => turns,
            _ => &[],
        }
    }

    /// Its turns, but for the first ones.
    fn said(&self, skip: usize) -> Vec<Turn<'a>> {
        match self {
            Self::Text(text) => vec![Turn::new(Role::Assistant, text.clone())],
            Self::Turn(heard) => vec![heard.turn.clone()],
            Self::Turns(turns) => turns.iter().skip(skip).map(|heard| heard.turn.clone()).collect(),
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

/// A transcript with holes where its turns speak, of those that `who` names.
fn pieces<'a>(text: &str, told: &[Told], who: &dyn Fn(usize) -> Option<Who>) -> Shape<'a> {
    let (mut pieces, mut done) = (Vec::new(), 0);
    for (n, turn) in told.iter().enumerate() {
        let Some(who) = who(n) else { continue };
        pieces.push(TextPiece::Text(text[done..turn.text.start].to_string()));
        pieces.push(TextPiece::Hole(Hole::Content(who, None)));
        done = turn.text.end;
    }
    pieces.push(TextPiece::Text(text[done..].to_string()));
    Shape::Pieces(pieces)
}

/// What both answers begin with.
#[derive(Clone, Copy, Default)]
struct Lead {
    /// How many turns it has.
    turns: usize,
    /// The first of them is the system's.
    system: bool,
    /// The first message that they repeat; those of a history stand before it.
    from: usize,
}

impl Lead {
    /// The place of the turn `n` of an answer.
    fn who(self, n: usize, list: List) -> Who {
        match n {
            0 if self.system => Who::System,
            n if n < self.turns => Who::At(List::Messages, self.message(n) as u32),
            n => Who::At(list, (n - self.turns) as u32),
        }
    }

    /// The message that the turn `n` of an answer repeats.
    fn message(self, n: usize) -> usize {
        self.from + n - usize::from(self.system)
    }
}

impl<'a> Reader<'a> {
    /// Reads prompt and answers. The answers may repeat the prompt, or even be the only place where
    /// it stands: then it is what both begin with. The prompt may also hold one of the answers.
    pub fn preference(&mut self, chosen: usize, rejected: usize) -> Result<(), Fault> {
        let asked = self.asked_before()?;
        let answers = [self.answer(chosen)?, self.answer(rejected)?];
        if let [Answer::Text(one), Answer::Text(other)] = &answers
            && self.transcripts([one, other], [chosen, rejected], asked)
        {
            return Ok(());
        }
        let mut lead = self.lead(answers[0].turns(), answers[1].turns(), asked.is_some());
        if let Some(i) = asked.filter(|_| lead.turns == 0) {
            lead = self.held(&answers, i)?;
        }
        if asked.is_none() && lead.turns == 0 {
            return wrong("there is no `prompt`, and `chosen` and `rejected` do not begin with one".into());
        }
        let system = lead.system;
        if asked.is_none() {
            let prompt = &answers[0].turns()[..lead.turns];
            self.row.turns.extend(prompt[usize::from(system)..].iter().map(|heard| heard.turn.clone()));
        }
        if system {
            let (text, others) = answers[0].turns()[0].turn.clone().into_system();
            self.row.system = Some(text);
            self.row.system_extra = self.row.system_extra.take().or(others);
        }
        let places = [(chosen, List::Chosen), (rejected, List::Rejected)];
        let mut answered = answers.into_iter().zip(places).map(|(answer, (i, list))| {
            let who = |n: usize| lead.who(n, list);
            match answer {
                Answer::Text(text) => {
                    self.fill(i, Hole::Content(who(0), None));
                    vec![Turn::new(Role::Assistant, text)]
                }
                Answer::Turn(heard) => {
                    let heard = [*heard];
                    self.shapes[i] = Some(shape_of(&heard, &who, self.style(), true));
                    heard.into_iter().map(|heard| heard.turn).collect()
                }
                Answer::Turns(mut heard) => {
                    for (n, heard) in heard.iter_mut().enumerate().take(lead.turns).skip(usize::from(system))
                    {
                        let asked = self.row.turns.get(lead.message(n));
                        if asked.is_some_and(|turn| heard.turn != *turn) {
                            heard.differs();
                        }
                    }
                    self.shapes[i] = Some(shape_of(&heard, &who, self.style(), false));
                    heard.into_iter().skip(lead.turns).map(|heard| heard.turn).collect()
                }
            }
        });
        let (chosen, rejected) = (answered.next(), answered.next());
        drop(answered);
        (self.row.chosen, self.row.rejected) = (chosen, rejected);
        Ok(())
    }

    /// Reads two answers that are transcripts with the same beginning, which is the prompt; where that has a
    /// key of its own, `asked`, they must begin with it, or be the same as one of the answers.
    fn transcripts(&mut self, texts: [&Cow<'a, str>; 2], keys: [usize; 2], asked: Option<usize>) -> bool {
        let [one, other] = texts;
        let Some((one_told, other_told)) = transcript(one).zip(transcript(other)) else { return false };
        let mut lead = shared(one, other, &one_told);
        let from = if asked.is_some() { self.history as usize } else { 0 };
        let prompt = &self.row.turns[from..];
        // Where the prompt is a whole answer: whose.
        let whole = match prompt {
            [turn] => texts.iter().position(|text| *turn.content == ***text),
            _ => None,
        };
        if asked.is_some() && whole.is_none() {
            let begins = |(told, turn): (&Told, &Turn<'_>)| {
                told.role == turn.role && one[told.text.clone()] == *turn.content.trim_ascii()
            };
            let all = prompt.len() <= lead && one_told.iter().zip(prompt).all(begins);
            lead = if all && one_told[prompt.len()].role == Role::Assistant { prompt.len() } else { 0 };
        }
        if lead == 0 {
            return false;
        }
        let (one, other) = (one.clone(), other.clone());
        if asked.is_none() || whole.is_some() {
            self.row.turns.truncate(from);
            self.row.turns.extend(turns_of(&one, &one_told[..lead]));
            if self.row.turns.len() as u32 != self.history + 1 {
                self.name_history();
            }
        }
        let messages = &self.row.turns[from..];
        // White space around a turn of the prompt is no part of what its repetition says.
        let who = |n: usize, text: &str, list: List| match n < lead {
            true => (*messages[n].content == *text).then_some(Who::At(List::Messages, (from + n) as u32)),
            false => Some(Who::At(list, (n - lead) as u32)),
        };
        let shape = |text: &str, told: &[Told], list: List| {
            pieces(text, told, &|n| who(n, &text[told[n].text.clone()], list))
        };
        let shapes = [shape(&one, &one_told, List::Chosen), shape(&other, &other_told, List::Rejected)];
        if let Some((answer, i)) = whole.zip(asked) {
            self.shapes[i] = Some(shapes[answer].clone());
        }
        for (i, shape) in keys.into_iter().zip(shapes) {
            self.shapes[i] = Some(shape);
        }
        self.row.chosen = Some(turns_of(&one, &one_told[lead..]));
        self.row.rejected = Some(turns_of(&other, &other_told[lead..]));
        true
    }

    /// Takes the answer out of a prompt of key `i` that ends with one of the two, and says what these begin
    /// with: the prompt, or nothing.
    fn held(&mut self, answers: &[Answer<'a>; 2], i: usize) -> Result<Lead, Fault> {
        let count = self.row.turns.len();
        if self.row.turns.last().is_none_or(|turn| turn.role != Role::Assistant) {
            return Ok(Lead::default());
        }
        let bare = self.lead(answers[0].turns(), answers[1].turns(), false);
        let bare = Lead { from: self.history as usize, ..bare };
        for lead in [bare, Lead::default()] {
            let prompt = answers[0].turns().get(usize::from(lead.system)..lead.turns).unwrap_or_default();
            for (answer, list) in answers.iter().zip([List::Messages, List::Rejected]) {
                let said = answer.said(lead.turns);
                let rest = count.saturating_sub(said.len());
                let (before, after) = self.row.turns.split_at(rest);
                let alike = |(a, b): (&Turn<'_>, &Turn<'_>)| a.says_the_same_as(b);
                let repeats = match lead.turns {
                    0 => before.last().is_some_and(|turn| turn.role != Role::Assistant),
                    _ => before.get(lead.from..).is_some_and(|before| {
                        before.len() == prompt.len()
                            && prompt.iter().zip(before).all(|(h, t)| h.turn.says_the_same_as(t))
                    }),
                };
                if said.is_empty() || !repeats || !after.iter().zip(&said).all(alike) {
                    continue;
                }
                // A mark or a thought that stands only there is not to go with it.
                let adds = |(held, said): (&Turn<'_>, &Turn<'_>)| {
                    held.weight.is_some() && held.weight != said.weight
                        || held.extra != said.extra && held.extra.as_deref().is_some_and(thinks)
                };
                if after.iter().zip(&said).any(adds) {
                    let what = "the prompt ends with the answer itself, which has a mark or reasoning of its own there";
                    self.row.noted.push((ProblemKind::Aside, what.into(), Outcome::Kept));
                    return Ok(Lead::default());
                }
                // What stands there now is in the answer.
                let key = self.keys[i].0.clone();
                let node = Node::parse(self.keys[i].1.raw);
                let Ok(node) = node else { return wrong(format!("`{key}` is no JSON")) };
                let mut heard = hear_all(node, &key)?;
                let system = heard.len() + self.history as usize - count;
                let place = |n: usize| self.history as usize + n - system;
                for (n, heard) in heard.iter_mut().enumerate().skip(system) {
                    let said = place(n).checked_sub(rest).and_then(|n| said.get(n));
                    if said.is_some_and(|said| heard.turn != *said) {
                        heard.differs();
                    }
                }
                let who = |n: usize| match n {
                    n if n < system => Who::System,
                    n if place(n) < rest => Who::At(List::Messages, place(n) as u32),
                    // The chosen answer follows the messages.
                    n if list == List::Messages => Who::At(list, place(n) as u32),
                    n => Who::At(list, (place(n) - rest) as u32),
                };
                self.shapes[i] = Some(shape_of(&heard, &who, self.style(), false));
                self.row.turns.truncate(rest);
                if rest as u32 != self.history + 1 {
                    self.name_history();
                }
                return Ok(lead);
            }
        }
        Ok(Lead::default())
    }

    fn style(&self) -> Style {
        if self.find("conversations").is_some() { Style::ShareGpt } else { Style::OpenAi }
    }

    /// Reads the prompt where it has a key of its own, and says which.
    fn asked_before(&mut self) -> Result<Option<usize>, Fault> {
        let prompt = self.find_any(&["prompt", "question", "query"]);
        let instruction = || self.find("instruction");
        let lists = || self.find_any(&["conversations", "messages", "conversation"]);
        let Some(i) = prompt.or_else(instruction).or_else(lists) else { return Ok(None) };
        match (prompt, self.find("instruction")) {
            (Some(_), _) if self.is(i, |value| matches!(value, Value::Array(_))) => {
                self.history()?;
                self.after_history = self.history > 0;
                self.list(i, Style::OpenAi)?;
                if self.row.turns.len() as u32 != self.history + 1 {
                    self.name_history();
                }
            }
            (Some(_), _) => {
                self.history()?;
                let about = self.about(i);
                if !self.several(i, about)? {
                    self.question(i, about)?;
                }
            }
            (None, Some(_)) => {
                self.history()?;
                self.question(i, self.about(i))?;
            }
            (None, None) => {
                self.history_beside()?;
                self.list(i, self.style())?;
            }
        }
        Ok(Some(i))
    }

    fn answer(&mut self, i: usize) -> Result<Answer<'a>, Fault> {
        let key = self.keys[i].0.clone();
        Ok(match self.keys[i].1.value {
            Value::Array(_) => Answer::Turns(hear_all(self.node(i), &key)?),
            Value::Object(_) => Answer::Turn(Box::new(hear(self.node(i), &|| format!("`{key}`"))?)),
            _ => Answer::Text(self.text(i)?),
        })
    }

    /// How many turns at the start of both answers are the prompt's, and whether the first of them is
    /// the system's.
    fn lead(&self, chosen: &[Heard<'a>], rejected: &[Heard<'a>], asked: bool) -> Lead {
        let most = chosen.len().min(rejected.len()).saturating_sub(1);
        let same = chosen
            .iter()
            .zip(rejected)
            .take(most)
            .take_while(|(a, b)| a.turn.says_the_same_as(&b.turn))
            .count();
        let own = |heard: &Heard<'a>| {
            let is = |system: &str| *heard.turn.content == *system;
            heard.is_system() && self.row.system.as_deref().is_none_or(is)
        };
        // What differs beside the system's text is no part of a prompt that both share.
        let alike = chosen.first().zip(rejected.first()).is_some_and(|(a, b)| a.turn.extra == b.turn.extra);
        let system = same > 0 && alike && chosen.first().is_some_and(own);
        let first = usize::from(system);
        if asked {
            // With the history before the prompt, or without it.
            let repeated = |from: &usize| {
                let prompt = &self.row.turns[*from..];
                let said = chosen.iter().skip(first).zip(prompt);
                first + prompt.len() <= same && said.into_iter().all(|(a, b)| a.turn.says_the_same_as(b))
            };
            let from = [0, self.history as usize].into_iter().find(repeated);
            return from.map_or_else(Lead::default, |from| {
                let turns = first + self.row.turns.len() - from;
                Lead { turns, system: system && turns > 0, from }
            });
        }
        // The answers begin where it is not the user who speaks.
        let answers =
            |lead: &usize| [chosen, rejected].iter().all(|turns| turns[*lead].turn.role != Role::User);
        let turns = (first + 1..=same).rev().find(answers).unwrap_or(0);
        Lead { turns, system: system && turns > 0, from: 0 }
    }
}
