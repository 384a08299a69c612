//! From a conversation to token ids, and which of them are trained on.

use std::ops::Range;

use minijinja::Value;

use super::Message;
use super::template::{Conversation, GenerationPrompt};
use super::tokenizer::{Core, Token, Tokenizer, ids};
use crate::error::{Error, Result};

/// A row to train on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Example {
    /// The tokens, `[T]`.
    pub ids: Vec<u32>,
    /// Which of them the model learns to say, `[T]`.
    pub trained: Vec<bool>,
}

impl Example {
    /// The number of tokens T.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The number of tokens that enter the loss. The first token of a row never does, as nothing
    /// comes before it.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().skip(1).filter(|trained| **trained).count()
    }
}

impl Tokenizer {
    /// The tokens of a conversation, of which those that the assistant says are trained on: its text
    /// and the token that ends its turn, neither the header before nor the line break after.
    ///
    /// The ids are those of Hugging Face's `apply_chat_template`, with two exceptions. A special
    /// token's name inside a message (a person who writes `<|im_end|>`) stays text. And a token
    /// never spans the border between header and answer, as it cannot when the model answers: an
    /// answer that begins with a line break begins with a token of its own.
    ///
    /// An assistant's turn is found by rendering: it begins where the messages before it and a
    /// generation prompt end (without the reasoning block that some templates open there, if the
    /// turn has none), and ends where the messages up to it end.
    ///
    /// # Errors
    /// Those of [`render`](Self::render); a template that does not begin with the same text when
    /// later messages are left away, so that the assistant's part cannot be told.
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/smollm2")?;
    /// use lorascope::text::Message;
    ///
    /// let example = tokenizer.example(&[Message::user("3 + 5?"), Message::assistant("8")], None)?;
    /// let said: Vec<u32> =
    ///     example.ids.iter().zip(&example.trained).filter(|(_, t)| **t).map(|(id, _)| *id).collect();
    /// assert_eq!(tokenizer.decode(&said)?, "8<|im_end|>");
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn example(&self, messages: &[Message], tools: Option<&str>) -> Result<Example> {
        let rendering = Rendering::new(self, messages, tools)?;
        let text = rendering.upto(messages.len(), GenerationPrompt::Omit)?;
        let spans = rendering.spans(messages, &text)?;
        let tokens = rendering.tokens(&text, &spans)?;
        let said =
            |token: &Token| spans.iter().any(|s| s.start <= token.range.start && token.range.end <= s.end);
        let trained = tokens.iter().map(said).collect();
        Ok(Example { ids: ids(tokens), trained })
    }

    /// The tokens that the model goes on from to answer these messages.
    ///
    /// # Errors
    /// Those of [`render`](Self::render).
    pub fn prompt(&self, messages: &[Message], tools: Option<&str>) -> Result<Vec<u32>> {
        let rendering = Rendering::new(self, messages, tools)?;
        let text = rendering.upto(messages.len(), GenerationPrompt::Add)?;
        Ok(ids(rendering.tokens(&text, &[])?))
    }

    /// The tokens of a plain text, all trained on: `bos` where the model was trained so, the text,
    /// `eos`.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn document(&self, text: &str) -> Result<Example> {
        let mut ids = self.encode("")?;
        ids.extend(self.encode_plain(text)?);
        ids.extend(self.eos());
        Ok(Example { trained: vec![true; ids.len()], ids })
    }
}

/// A conversation on its way through the template.
struct Rendering<'a> {
    tokenizer: &'a Tokenizer,
    messages: Vec<Value>,
    tools: Value,
    /// The character that breaks up the names of special tokens inside messages, if any has one.
    mark: Option<char>,
}

impl<'a> Rendering<'a> {
    fn new(tokenizer: &'a Tokenizer, messages: &[Message], tools: Option<&str>) -> Result<Self> {
        let mut conversation = Conversation::new(messages, tools)?;
        let mark = break_up(&tokenizer.core.specials, &mut conversation)?;
        let (messages, tools) = conversation.values();
        Ok(Self { tokenizer, messages, tools, mark })
    }

    /// The text of the first `n` messages.
    fn upto(&self, n: usize, prompt: GenerationPrompt) -> Result<String> {
        self.tokenizer.template()?.render(&self.messages[..n], &self.tools, prompt)
    }

    /// The bytes of `text` that the assistant says, one span for each turn that is trained on.
    fn spans(&self, messages: &[Message], text: &str) -> Result<Vec<Range<usize>>> {
        let mut spans = Vec::new();
        for n in (0..messages.len()).filter(|&n| messages[n].is_trained()) {
            let start = self.turn_start(text, n)?;
            spans.push(start..self.turn_end(text, start, n)?);
        }
        Ok(spans)
    }

    /// Where message `n` begins to say something: after the header of its turn.
    fn turn_start(&self, text: &str, n: usize) -> Result<usize> {
        let header = self.upto(n, GenerationPrompt::Add)?;
        if text.starts_with(&header) {
            return Ok(header.len());
        }
        let before = self.upto(n, GenerationPrompt::Omit)?;
        if !text.starts_with(&before) {
            return Err(rewrites(n));
        }
        // The generation prompt also opens a reasoning block, which this turn does not have: the
        // turn begins where the tokens of both part.
        let (header, text) = (self.tokens(&header, &[])?, self.tokens(text, &[])?);
        let shared =
            header.iter().zip(&text).take_while(|(a, b)| a == b).map(|(token, _)| token.range.end).last();
        shared.filter(|&end| end > before.len()).ok_or_else(|| rewrites(n))
    }

    /// Where the turn of message `n` ends, which says something from `start` on.
    fn turn_end(&self, text: &str, start: usize, n: usize) -> Result<usize> {
        let core = &self.tokenizer.core;
        let stops = |id: Option<u32>| id.is_some_and(|id| core.stops.contains(&id));
        let whole = self.upto(n + 1, GenerationPrompt::Omit)?;
        if whole.len() < start || !text.starts_with(&whole) {
            // Templates that drop the reasoning of earlier turns: up to the first end of a turn.
            let mut pieces = core.pieces(&text[start..]).into_iter();
            let end = pieces.find(|(_, id)| stops(*id));
            return end.map(|(range, _)| start + range.end).ok_or_else(|| rewrites(n));
        }
        // Special tokens and white space at the end: the turn ends with the first token there at
        // which the model stops, or else with the last special one.
        let turn = &text[start..whole.len()];
        let pieces = core.pieces(turn);
        let special = |id: &Option<u32>| id.is_some_and(|id| core.is_special(id));
        let ending = pieces
            .iter()
            .rev()
            .take_while(|(range, id)| special(id) || turn[range.clone()].trim().is_empty());
        let ending: Vec<_> = ending.filter(|(_, id)| special(id)).collect();
        let end = ending.iter().rfind(|(_, id)| stops(*id)).or(ending.first());
        Ok(start + end.map_or(turn.len(), |(range, _)| range.end))
    }

    /// The tokens of `text`, none of which spans a border of a span.
    fn tokens(&self, text: &str, spans: &[Range<usize>]) -> Result<Vec<Token>> {
        let core = &self.tokenizer.core;
        let tokens = marked_tokens(core, text, self.mark)?;
        let spanned = |at: &usize| tokens.iter().any(|t| t.range.start < *at && *at < t.range.end);
        let cuts: Vec<usize> = spans.iter().flat_map(|span| [span.start, span.end]).filter(spanned).collect();
        if cuts.is_empty() {
            return Ok(tokens);
        }
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([text.len()]);
        let mut tokens = Vec::with_capacity(tokens.len());
        for (start, end) in starts.zip(ends) {
            tokens.extend(
                marked_tokens(core, &text[start..end], self.mark)?.into_iter().map(|t| shifted(t, start)),
            );
        }
        Ok(tokens)
    }
}

fn rewrites(n: usize) -> Error {
    Error::input(format!(
        "message {}: the chat template writes the messages before it differently once it is there, so what \
         the assistant says cannot be told from the rest",
        n + 1
    ))
    .help("begin with a user's message, or give a template that only appends with Tokenizer::with_template")
}

fn shifted(token: Token, by: usize) -> Token {
    Token { id: token.id, range: token.range.start + by..token.range.end + by }
}

/// Puts a character that occurs nowhere into every special token's name inside the messages, so
/// that only the template's own text has special tokens. Returns the character if it was needed.
///
/// The name is broken inside, not wrapped, because templates look at the ends of a text (trim it,
/// ask how it starts).
fn break_up(specials: &[String], conversation: &mut Conversation) -> Result<Option<char>> {
    // A name of a single character has no inside; no tokenizer in use has one.
    let specials: Vec<&str> =
        specials.iter().map(String::as_str).filter(|s| s.chars().nth(1).is_some()).collect();
    if !conversation.any_string(&|text| specials.iter().any(|special| text.contains(special))) {
        return Ok(None);
    }
    let mut private_use = '\u{e000}'..='\u{f8ff}';
    let mark = private_use.find(|c| !conversation.any_string(&|text| text.contains(*c)));
    let mark = mark.ok_or_else(|| Error::input("the messages use every private-use character"))?;
    conversation.change_strings(&|text| {
        specials.iter().fold(text.to_string(), |text, special| broken_up(text, special, mark))
    });
    Ok(Some(mark))
}

fn broken_up(mut text: String, special: &str, mark: char) -> String {
    let first = special.chars().next().map_or(0, char::len_utf8);
    // Again after each one, for names that overlap with themselves.
    while let Some(at) = text.find(special) {
        text.insert(at + first, mark);
    }
    text
}

/// The tokens of a text, marks taken out; what they broke up stays text.
fn marked_tokens(core: &Core, text: &str, mark: Option<char>) -> Result<Vec<Token>> {
    let Some(mark) = mark.filter(|mark| text.contains(*mark)) else { return core.tokens(text) };
    let mut tokens = Vec::new();
    for (range, id) in core.pieces(text) {
        if let Some(id) = id {
            tokens.push(Token { id, range });
            continue;
        }
        let piece = &text[range.clone()];
        let width = mark.len_utf8();
        // Where the marks stood, in bytes of the text without them.
        let marks: Vec<usize> =
            piece.match_indices(mark).enumerate().map(|(n, (at, _))| at - n * width).collect();
        let place = |at: usize| range.start + at + width * marks.iter().filter(|&&m| m < at).count();
        let plain = core.plain_tokens(&piece.replace(mark, ""))?;
        tokens.extend(
            plain.into_iter().map(|t| Token { id: t.id, range: place(t.range.start)..place(t.range.end) }),
        );
    }
    Ok(tokens)
}
