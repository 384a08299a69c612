//! What travels between two processes: a text and plain numbers, in pieces of a limited size.

use crate::error::{Error, Result};
use std::sync::Arc;

/// Bytes of a piece at most. Each that comes is a sign of life: on a slow network it is not long under way.
pub(super) const PIECE: usize = 1 << 20;
/// Bytes of a text at most.
const TEXT: usize = 1 << 28;
/// Numbers of a message at most: 32 GiB.
const NUMBERS: usize = 1 << 33;
/// Bytes before the text: its length, and how many numbers follow it.
const LENGTHS: usize = 16;

/// A message: JSON, and numbers in the order that it says. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    /// Both lengths as 64 bits each, least byte first, and the text.
    text: Arc<Vec<u8>>,
    numbers: Arc<Vec<f32>>,
}

/// A part of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    Text(&'a [u8]),
    Numbers(&'a [f32]),
}

impl Frame {
    pub fn new(text: &[u8], numbers: Vec<f32>) -> Result<Self> {
        if text.len() > TEXT || numbers.len() > NUMBERS {
            return Err(Error::compute(format!(
                "a message of {} bytes and {} numbers is too long for another process",
                text.len(),
                numbers.len()
            )));
        }
        let lengths = [text.len() as u64, numbers.len() as u64];
        let text = lengths.iter().flat_map(|n| n.to_le_bytes()).chain(text.iter().copied()).collect();
        Ok(Self { text: Arc::new(text), numbers: Arc::new(numbers) })
    }

    pub fn text(&self) -> &[u8] {
        &self.text[LENGTHS..]
    }

    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// Its pieces, in the order in which they are sent.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let numbers = self.numbers.chunks(PIECE / size_of::<f32>());
        self.text.chunks(PIECE).map(Piece::Text).chain(numbers.map(Piece::Numbers))
    }
}

/// A message of which some pieces have come.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: Vec<u8>,
    numbers: Vec<f32>,
    /// The lengths, from the first piece on.
    lengths: Option<[usize; 2]>,
}

impl Assembly {
    /// Adds a piece, and gives the message when it is whole. Memory is taken for what has come, whatever lengths the
    /// first piece claims.
    ///
    /// # Errors
    /// When the lengths are larger than any message's, or a piece is longer than what is left or comes out of order.
    pub fn add(&mut self, piece: Piece) -> Result<Option<Frame>> {
        let lengths = match (self.lengths, piece) {
            (Some(lengths), _) => lengths,
            (None, Piece::Text(bytes)) => lengths_of(bytes)?,
            (None, Piece::Numbers(_)) => return Err(broken("numbers without a text")),
        };
        self.lengths = Some(lengths);
        let [text, numbers] = lengths;
        match piece {
            Piece::Text(bytes) if bytes.len() <= text - self.text.len() => self.text.extend_from_slice(bytes),
            Piece::Numbers(more) if self.text.len() == text && more.len() <= numbers - self.numbers.len() => {
                if self.numbers.try_reserve(more.len()).is_err() {
                    return Err(Error::compute(format!("out of memory for a message of {numbers} numbers")));
                }
                self.numbers.extend_from_slice(more);
            }
            Piece::Text(bytes) => return Err(broken(format!("{} bytes too many", bytes.len()))),
            Piece::Numbers(more) => return Err(broken(format!("{} numbers too many", more.len()))),
        }
        if self.text.len() < text || self.numbers.len() < numbers {
            return Ok(None);
        }
        let Self { text, numbers, .. } = std::mem::take(self);
        Ok(Some(Frame { text: Arc::new(text), numbers: Arc::new(numbers) }))
    }
}

/// The length of the text with what stands before it, and the number of numbers.
fn lengths_of(first: &[u8]) -> Result<[usize; 2]> {
    let Some((lengths, _)) = first.split_first_chunk::<LENGTHS>() else {
        return Err(broken(format!("a first piece of {} bytes", first.len())));
    };
    let half =
        |at: usize| lengths[at..at + 8].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (text, numbers) = (half(0), half(8));
    if text > TEXT as u64 || numbers > NUMBERS as u64 {
        return Err(broken(format!("it claims {text} bytes and {numbers} numbers")));
    }
    Ok([LENGTHS + text as usize, numbers as usize])
}

fn broken(what: impl std::fmt::Display) -> Error {
    Error::format(format!("a message of another process is broken: {what}"))
        .help("start the same version of lorascope on every machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_put_together_from_their_pieces() -> Result<()> {
        let floats = |count: usize| (0..count).map(|i| i as f32 * 0.1 - 7.0).collect::<Vec<_>>();
        for (text, count) in
            [(0, 0), (5, 0), (PIECE - 16, 1), (PIECE, PIECE / 4), (2 * PIECE + 7, PIECE / 4 + 3)]
        {
            let frame = Frame::new(&vec![b'x'; text], floats(count))?;
            let mut assembly = Assembly::default();
            // Twice: nothing is left of the first.
            for _ in 0..2 {
                let pieces: Vec<Piece> = frame.pieces().collect();
                let (last, before) = pieces.split_last().unwrap();
                for piece in before {
                    assert_eq!(assembly.add(*piece)?, None);
                }
                let whole = assembly.add(*last)?.unwrap();
                assert_eq!((whole.text().len(), whole.numbers().len()), (text, count));
                assert!(whole == frame);
            }
        }
        Ok(())
    }

    #[test]
    fn messages_that_lie_are_refused() {
        let refused = |pieces: &[Piece]| {
            let mut assembly = Assembly::default();
            let mut all = pieces.iter().map(|piece| assembly.add(*piece));
            all.find_map(Result::err).unwrap().to_string()
        };
        let claims = |text: u64, numbers: u64| [text.to_le_bytes(), numbers.to_le_bytes()].concat();
        assert!(refused(&[Piece::Text(&[1; 15])]).contains("a first piece of 15 bytes"));
        assert!(refused(&[Piece::Numbers(&[1.0])]).contains("numbers without a text"));
        let long = refused(&[Piece::Text(&claims(u64::MAX, 0))]);
        assert!(long.contains("it claims 18446744073709551615 bytes and 0 numbers"), "{long}");
        assert!(refused(&[Piece::Text(&claims(0, 1 << 40))]).contains("numbers"));
        assert!(refused(&[Piece::Text(&claims(0, 1)), Piece::Text(b"a")]).contains("1 bytes too many"));
        assert!(
            refused(&[Piece::Text(&claims(4, 1)), Piece::Numbers(&[1.0])]).contains("1 numbers too many")
        );
        assert!(
            refused(&[Piece::Text(&claims(0, 1)), Piece::Numbers(&[1.0; 2])]).contains("2 numbers too many")
        );
    }
}
