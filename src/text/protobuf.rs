//! The few things of protocol buffers that SentencePiece's files need: reading the fields of a
//! message one after the other.
//!
//! A library would bring a runtime and code made from a schema for what is two wire formats and a
//! dozen fields here.

use crate::error::{Error, Result};

/// The value of a field, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    /// An integer, a truth value or an enumeration.
    Number(u64),
    /// A string, bytes, or a message in the message.
    Bytes(&'a [u8]),
    /// Four bytes, such as those of an `f32`.
    Four([u8; 4]),
    /// Eight bytes.
    Eight,
}

/// The fields of a message, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(ends)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for n in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::format("a number of more than ten bytes"))
    }

    fn field(&mut self) -> Result<(u64, Field<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Eight)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).map_err(|_| ends())?)?)
            }
            5 => Field::Four(self.take(4)?.try_into().map_err(|_| ends())?),
            other => return Err(Error::format(format!("a field of wire type {other}"))),
        };
        Ok((key >> 3, value))
    }
}

fn ends() -> Error {
    Error::format("ends in the middle of a field")
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Field<'_>)>> {
        Fields::of(message).collect()
    }

    #[test]
    fn each_wire_type_is_read() {
        let message =
            [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 0, 0, 0x80, 0x3f, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let one = Field::Four(1f32.to_le_bytes());
        assert_eq!(
            read(&message).unwrap(),
            [(1, Field::Number(150)), (2, Field::Bytes(b"hi")), (3, one), (4, Field::Eight)]
        );
    }

    #[test]
    fn what_is_broken_is_an_error() {
        let cases: [(&[u8], &str); 5] = [
            (&[0x12, 200], "middle of a field"),
            (&[0x12, 5, b'h'], "middle of a field"),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "middle of a field"),
            (&[0x0b], "wire type 3"),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], "more than ten bytes"),
        ];
        for (message, what) in cases {
            assert!(read(message).unwrap_err().to_string().contains(what), "{message:?}");
        }
    }
}
