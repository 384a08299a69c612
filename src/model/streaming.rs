//! Streaming of generated text: turns tokens into whole characters and stops at stop texts.

use super::decoder::Decoder;
use super::generate::{GenerateConfig, generate_each};
use crate::display::{counted, cut, stop_requested};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::text::Tokenizer;

/// Characters of a text that was stopped which its error shows.
const SHOWN: usize = 200;

/// Decodes tokens one at a time and never splits a character: a Chinese character often takes several tokens.
/// The pieces together are the text of all tokens.
///
/// A window of the last tokens is decoded twice, without and with the new one, because the text of a token
/// may depend on those before it (the space that a SentencePiece text begins with).
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    begin: usize,
    read: usize,
}

impl<'a> TextStream<'a> {
    /// Starts a stream at the beginning of an answer.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), begin: 0, read: 0 }
    }

    /// Adds a token and returns the text that it completes; empty while a character lacks bytes.
    ///
    /// # Errors
    /// Returns the error of the tokenizer.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let (before, now) = self.window()?;
        if now.len() <= before || now.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        (self.begin, self.read) = (self.read, self.ids.len());
        Ok(now.get(before..).unwrap_or_default().to_string())
    }

    /// Returns the rest of the text; bytes that are no whole character are dropped.
    ///
    /// # Errors
    /// Returns the error of the tokenizer.
    pub fn finish(self) -> Result<String> {
        let (before, now) = self.window()?;
        let now = now.trim_end_matches(char::REPLACEMENT_CHARACTER);
        Ok(now.get(before..).unwrap_or_default().to_string())
    }

    /// Bytes of text in the window before the latest token, and the text of the window now.
    fn window(&self) -> Result<(usize, String)> {
        let before = self.tokenizer.decode(&self.ids[self.begin..self.read])?.len();
        Ok((before, self.tokenizer.decode(&self.ids[self.begin..])?))
    }
}

/// Holds back text that may be the beginning of a stop text.
#[derive(Debug)]
struct Stops<'a> {
    stops: &'a [String],
    held: String,
}

impl Stops<'_> {
    /// Returns the text that may be shown, and whether a stop text was found; the stop text is left out.
    fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let may_begin = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let keep = self.held.char_indices().map(|(at, _)| at).find(may_begin);
        let rest = self.held.split_off(keep.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, rest), false)
    }
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model generated its end token or one of the stop tokens of the config.
    StopToken,
    /// The text contains one of the stop texts of the config.
    StopText,
    /// [`GenerateConfig::max_tokens`] or the context of the model was reached.
    Length,
    /// The callback returned false, or a person pressed stop.
    Interrupted,
}

/// A generated text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The text, as it was streamed.
    pub text: String,
    /// The tokens, including those of a stop text.
    pub tokens: Vec<u32>,
    /// Why generation ended.
    pub finish: Finish,
}

impl Generated {
    /// The same, for a caller that asked for all of it.
    ///
    /// # Errors
    /// An interrupted error where a person pressed stop.
    pub(super) fn whole(self) -> Result<Self> {
        match self.finish {
            Finish::Interrupted => {
                let tokens = counted(self.tokens.len() as u64, "token");
                Err(Error::interrupted_at(format!("stopped after {tokens}: {:?}", cut(&self.text, SHOWN))))
            }
            _ => Ok(self),
        }
    }
}

/// Generates the text that follows `ids` and passes each piece to `on_text` as soon as its characters are whole.
/// `on_text` returns false to stop.
///
/// # Errors
/// When the config is invalid, or the prompt is empty, too long, or outside the vocabulary.
pub fn generate_with(
    model: &Decoder,
    adapters: &Adapters,
    tokenizer: &Tokenizer,
    ids: &[u32],
    config: &GenerateConfig,
    on_text: &mut dyn FnMut(&str) -> bool,
) -> Result<Generated> {
    let mut stream = TextStream::new(tokenizer);
    let mut stops = Stops { stops: &config.stop, held: String::new() };
    let (mut text, mut tokens, mut ended) = (String::new(), Vec::new(), None);
    let mut show = |piece: &str, text: &mut String| {
        text.push_str(piece);
        piece.is_empty() || on_text(piece)
    };
    generate_each(model, adapters, ids, tokenizer.stop_ids(), config, &mut |token| {
        tokens.push(token);
        let (piece, stopped) = stops.push(&stream.push(token)?);
        let go_on = show(&piece, &mut text) && !stop_requested();
        ended = match (stopped, go_on) {
            (true, _) => Some(Finish::StopText),
            (_, false) => Some(Finish::Interrupted),
            _ => None,
        };
        Ok(ended.is_none())
    })?;
    if ended.is_none() {
        let (piece, stopped) = stops.push(&stream.finish()?);
        // What was held back as the begin of a stop is text after all.
        let rest = if stopped { String::new() } else { std::mem::take(&mut stops.held) };
        show(&(piece + &rest), &mut text);
        let full = tokens.len() >= config.max_tokens || ids.len() + tokens.len() > model.config().context;
        ended = Some(match (stopped, full) {
            (true, _) => Finish::StopText,
            (_, true) => Finish::Length,
            _ => Finish::StopToken,
        });
    }
    Ok(Generated { text, tokens, finish: ended.unwrap_or(Finish::Length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is shown, piece by piece, until a stop.
    fn through(stops: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut holding = Stops { stops: &stops, held: String::new() };
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, stopped) = holding.push(piece);
            shown.push(text);
            if stopped {
                return (shown, holding.held, true);
            }
        }
        (shown, holding.held, false)
    }

    #[test]
    fn stop_texts_are_found_across_pieces() {
        let shown = |pieces: &[&str]| through(&["\nUser:", "完了"], pieces);
        assert_eq!(shown(&["a\nUs", "er: b"]).0, ["a", ""]);
        assert!(shown(&["a\nUs", "er: b"]).2);
        // What only began like a stop comes with the next piece.
        assert_eq!(
            shown(&["a\nUs", "ed", "\n"]),
            (vec!["a".into(), "\nUsed".into(), String::new()], "\n".into(), false)
        );
        assert_eq!(shown(&["一完", "成", "完", "了x"]).0, ["一", "完成", "", ""]);
        assert_eq!(through(&[], &["abc"]), (vec!["abc".into()], String::new(), false));
        // The one that comes first, whichever is named first.
        assert_eq!(through(&["cd", "b"], &["abcd"]).0, ["a"]);
        assert_eq!(through(&["aab"], &["aaa", "b"]).0, ["a", ""]);
    }
}
