//! Encodes a conversation as token ids with a mask of the trained tokens.

use std::borrow::Cow;
use std::ops::Range;

use minijinja::Value;

use super::conversation::Conversation;
use super::pipeline::{Pipeline, Token};
use super::template::GenerationPrompt;
use super::templates::ChatTemplate;
use super::word_cache::Special;
use super::{Message, Tokenizer, Trained};
use crate::error::{Error, Result};
use crate::format::Role;

/// A training row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Example {
    /// The tokens, `[T]`.
    pub ids: Vec<u32>,
    /// Which of them are trained on, `[T]`.
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

/// Token counts of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenCounts {
    /// All tokens.
    pub tokens: usize,
    /// Tokens that enter the loss, as [`Example::trained_tokens`] counts them.
    pub trained: usize,
}

impl Tokenizer {
    /// Encodes a conversation. Trained tokens are those of the assistant: its text and the token that ends its turn,
    /// neither the header before nor the line break after.
    ///
    /// The ids are those of Hugging Face's `apply_chat_template`, with two exceptions. A special
    /// token's name inside a message (a person who writes `<|im_end|>`) stays text. And a token
    /// never spans a border of an answer, as it cannot when the model answers: an answer that begins
    /// with a line break begins with a token of its own.
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
        self.example_with(messages, tools, Trained::Assistant)
    }

    /// Like [`example`](Self::example), with another choice of trained tokens.
    ///
    /// # Errors
    /// Those of [`example`](Self::example).
    ///
    /// # Examples
    /// ```no_run
    /// # let tokenizer = lorascope::text::Tokenizer::from_folder("models/smollm2")?;
    /// use lorascope::text::{Message, Trained};
    ///
    /// let messages = [Message::user("3 + 5?"), Message::assistant("8")];
    /// let example = tokenizer.example_with(&messages, None, Trained::All)?;
    /// assert_eq!(example.trained_tokens(), example.len() - 1);
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn example_with(
        &self,
        messages: &[Message],
        tools: Option<&str>,
        trained: Trained,
    ) -> Result<Example> {
        let mut example = Example::default();
        self.walk(messages, tools, trained, &mut |ids, trained| {
            example.ids.extend_from_slice(ids);
            example.trained.resize(example.ids.len(), trained);
        })?;
        Ok(example)
    }

    /// Counts the tokens of [`example_with`](Self::example_with).
    ///
    /// # Errors
    /// Those of [`example`](Self::example).
    pub fn lengths(
        &self,
        messages: &[Message],
        tools: Option<&str>,
        trained: Trained,
    ) -> Result<TokenCounts> {
        let mut lengths = TokenCounts::default();
        self.walk(messages, tools, trained, &mut |ids, trained| {
            // The first token of a row is never trained.
            let first = usize::from(lengths.tokens == 0 && !ids.is_empty());
            lengths.tokens += ids.len();
            lengths.trained += if trained { ids.len() - first } else { 0 };
        })?;
        Ok(lengths)
    }

    /// Passes the ids of a conversation to `each`, some at a time, and whether they are trained on.
    fn walk(
        &self,
        messages: &[Message],
        tools: Option<&str>,
        trained: Trained,
        each: &mut dyn FnMut(&[u32], bool),
    ) -> Result<()> {
        let rendering = Rendering::new(self, messages, tools)?;
        let text = rendering.upto(messages.len(), GenerationPrompt::Omit)?;
        let spans = match trained {
            Trained::Assistant => rendering.spans(messages, &text, |_, message| message.is_trained())?,
            Trained::LastAssistant => {
                let last = messages.iter().rposition(|message| message.role == Role::Assistant);
                rendering.spans(messages, &text, |n, message| Some(n) == last && message.is_trained())?
            }
            // The spans are those that are not trained on.
            Trained::All => rendering.spans(messages, &text, |_, message| message.weight == Some(0.0))?,
        };
        rendering.walk(&text, &spans, &mut |ids, inside| each(ids, inside != (trained == Trained::All)))
    }

    /// Encodes the prompt for an answer to these messages.
    ///
    /// # Errors
    /// Those of [`render`](Self::render).
    pub fn prompt(&self, messages: &[Message], tools: Option<&str>) -> Result<Vec<u32>> {
        let rendering = Rendering::new(self, messages, tools)?;
        let text = rendering.upto(messages.len(), GenerationPrompt::Add)?;
        let mut ids = Vec::new();
        rendering.walk(&text, &[], &mut |some, _| ids.extend_from_slice(some))?;
        Ok(ids)
    }
}

/// A conversation that is being rendered.
struct Rendering<'a> {
    pipeline: &'a Pipeline,
    template: &'a ChatTemplate,
    conversation: Conversation,
    messages: Vec<Value>,
    tools: Value,
    /// The character that breaks up the names of special tokens inside messages, if any has one.
    mark: Option<char>,
}

impl<'a> Rendering<'a> {
    fn new(tokenizer: &'a Tokenizer, messages: &[Message], tools: Option<&str>) -> Result<Self> {
        let pipeline = &tokenizer.pipeline;
        let mut conversation = Conversation::new(messages, tools)?;
        let template = tokenizer.template(&conversation)?;
        conversation.suit(template.needs());
        let mark = break_up(pipeline, &mut conversation)?;
        let (messages, tools) = conversation.values();
        Ok(Self { pipeline, template, conversation, messages, tools, mark })
    }

    /// The text of the first `n` messages.
    fn upto(&self, n: usize, prompt: GenerationPrompt) -> Result<String> {
        self.template.render(&self.messages[..self.conversation.first(n)], &self.tools, prompt)
    }

    /// The byte ranges of the assistant in `text`, one for each selected message.
    fn spans(
        &self,
        messages: &[Message],
        text: &str,
        chosen: impl Fn(usize, &Message) -> bool,
    ) -> Result<Vec<Range<usize>>> {
        let mut spans = Vec::new();
        for n in (0..messages.len()).filter(|&n| chosen(n, &messages[n])) {
            if messages[n].role != Role::Assistant {
                // Nobody asks for such a turn: it is all that it adds to the text.
                let (before, with) =
                    (self.upto(n, GenerationPrompt::Omit)?, self.upto(n + 1, GenerationPrompt::Omit)?);
                if !with.starts_with(&before) || !text.starts_with(&with) {
                    return Err(rewrites(n));
                }
                spans.push(before.len()..with.len());
                continue;
            }
            let start = self.turn_start(text, n)?;
            spans.push(start..self.turn_end(text, start, n)?);
        }
        Ok(spans)
    }

    /// Passes the ids of a text to `each`, some at a time, and whether they are inside a span.
    ///
    /// Word by word where that is possible and no word spans a border, or else token by token.
    fn walk(&self, text: &str, spans: &[Range<usize>], each: &mut dyn FnMut(&[u32], bool)) -> Result<()> {
        let words = match self.mark {
            None => self.pipeline.word_ids(text, Special::Token)?,
            Some(_) => None,
        };
        if let Some(words) = words
            && let Some(borders) = places(spans, &words.ends)
        {
            let mut at = 0;
            for (border, inside) in borders.into_iter().zip([false, true].into_iter().cycle()) {
                each(&words.ids[at..border], inside);
                at = border;
            }
            each(&words.ids[at..], false);
            return Ok(());
        }
        for token in self.tokens(text, spans)? {
            let inside = |s: &Range<usize>| s.start <= token.range.start && token.range.end <= s.end;
            each(&[token.id], spans.iter().any(inside));
        }
        Ok(())
    }

    /// Where the content of message `n` begins: after the header of its turn.
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

    /// Where the turn of message `n` ends; its content begins at `start`.
    fn turn_end(&self, text: &str, start: usize, n: usize) -> Result<usize> {
        let pipeline = self.pipeline;
        let stops = |id: Option<u32>| id.is_some_and(|id| pipeline.stops.contains(&id));
        let whole = match self.conversation.first(n + 1) == self.messages.len() {
            true => Cow::Borrowed(text),
            false => Cow::Owned(self.upto(n + 1, GenerationPrompt::Omit)?),
        };
        if whole.len() < start || !text.starts_with(&*whole) {
            // Templates that drop the reasoning of earlier turns: up to the first end of a turn.
            let mut pieces = pipeline.pieces(&text[start..]).into_iter();
            let end = pieces.find(|(_, id)| stops(*id));
            return end.map(|(range, _)| start + range.end).ok_or_else(|| rewrites(n));
        }
        // Special tokens and white space at the end: the turn ends with the first token there at
        // which the model stops, or else with the last special one.
        let turn = &text[start..whole.len()];
        let pieces = pipeline.pieces(turn);
        let special = |id: &Option<u32>| id.is_some_and(|id| pipeline.is_special(id));
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
        let pipeline = self.pipeline;
        let tokens = marked_tokens(pipeline, text, self.mark)?;
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
                marked_tokens(pipeline, &text[start..end], self.mark)?.into_iter().map(|t| shifted(t, start)),
            );
        }
        Ok(tokens)
    }
}

/// How many ids come before each border of the spans; none where a word spans one of them. `ends`
/// are those of the words, in bytes and in ids.
fn places(spans: &[Range<usize>], ends: &[(usize, usize)]) -> Option<Vec<usize>> {
    let place = |border: usize| match border {
        0 => Some(0),
        _ => ends.binary_search_by_key(&border, |end| end.0).ok().map(|at| ends[at].1),
    };
    let ordered = spans.windows(2).all(|two| two[0].end <= two[1].start);
    let borders = spans.iter().flat_map(|span| [span.start, span.end]);
    if ordered { borders.map(place).collect() } else { None }
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
fn break_up(pipeline: &Pipeline, conversation: &mut Conversation) -> Result<Option<char>> {
    if !conversation.any_string(&|text| pipeline.has_special(text)) {
        return Ok(None);
    }
    // A name of a single character has no inside; no tokenizer in use has one.
    let names = pipeline.specials.iter().map(String::as_str);
    let specials: Vec<&str> = names.filter(|name| name.chars().nth(1).is_some()).collect();
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
fn marked_tokens(pipeline: &Pipeline, text: &str, mark: Option<char>) -> Result<Vec<Token>> {
    let Some(mark) = mark.filter(|mark| text.contains(*mark)) else { return pipeline.tokens(text) };
    let mut tokens = Vec::new();
    for (range, id) in pipeline.pieces(text) {
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
        let plain = pipeline.plain_tokens(&piece.replace(mark, ""))?;
        tokens.extend(
            plain.into_iter().map(|t| Token { id: t.id, range: place(t.range.start)..place(t.range.end) }),
        );
    }
    Ok(tokens)
}
