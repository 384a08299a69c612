//! The object around the rows: what follows them there, and the way to one of several lists.

/// Bytes of a key that are kept.
const KEY: usize = 100;

/// Goes through the text of an object and notes the lists of rows in it.
#[derive(Debug, Default)]
struct Walk {
    /// Brackets that are still open.
    depth: usize,
    quoted: bool,
    escaped: bool,
    /// The key or the string that was read last.
    key: Vec<u8>,
    /// The lists of objects in the object itself, and how many objects they have.
    lists: Vec<(String, u64)>,
    /// A list in the object itself is open.
    list: bool,
}

/// What a byte outside of strings does.
enum Step {
    Inside,
    /// Outside of the object, or after the array.
    Outside,
    /// A list has begun under the key that was read last.
    List,
}

impl Walk {
    fn step(&mut self, byte: u8) -> Step {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ if self.key.len() < KEY => self.key.push(byte),
                _ => {}
            }
            return Step::Inside;
        }
        if byte.is_ascii_whitespace() {
            return Step::Inside;
        }
        if self.depth == 0 {
            return Step::Outside;
        }
        match byte {
            b'"' => {
                self.quoted = true;
                self.key.clear();
            }
            b'{' | b'[' => {
                let list = byte == b'[' && self.depth == 1;
                if self.list && self.depth == 2 && byte == b'{' {
                    self.row();
                }
                self.depth += 1;
                if list {
                    self.list = true;
                    self.lists.push((String::from_utf8_lossy(&self.key).into_owned(), 0));
                    return Step::List;
                }
            }
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 1 && std::mem::take(&mut self.list) {
                    self.lists.pop_if(|(_, rows)| *rows == 0);
                }
            }
            _ => {}
        }
        Step::Inside
    }

    fn row(&mut self) {
        if let Some((_, rows)) = self.lists.last_mut() {
            *rows += 1;
        }
    }
}

/// What follows the rows of an array, or of one inside an object: no more than its closing.
#[derive(Debug)]
pub(super) struct Tail {
    walk: Walk,
    stray: bool,
}

impl Tail {
    /// `depth` is 1 inside an object and 0 after an array.
    pub fn new(depth: usize) -> Self {
        Self { walk: Walk { depth, ..Walk::default() }, stray: false }
    }

    /// Takes in the next bytes. Says where something begins that does not belong there.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.stray {
            return None;
        }
        let at = bytes.iter().position(|&byte| matches!(self.walk.step(byte), Step::Outside))?;
        self.stray = true;
        Some(at)
    }

    /// Whether all brackets are closed.
    pub fn closed(&self) -> bool {
        self.walk.depth == 0
    }

    /// The keys of further arrays of objects beside the one that was read, and their numbers of objects.
    pub fn lists(&self) -> impl Iterator<Item = &(String, u64)> {
        self.walk.lists.iter().filter(|(_, rows)| *rows > 0)
    }
}

/// The way to the list under a key.
#[derive(Debug)]
pub(super) struct Seek<'a> {
    walk: Walk,
    key: &'a str,
}

impl<'a> Seek<'a> {
    pub fn new(key: &'a str) -> Self {
        Self { walk: Walk { depth: 1, ..Walk::default() }, key }
    }

    /// Takes in the next bytes after the object's brace. Says where the first element may begin.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let begins =
            |byte: &u8| matches!(self.walk.step(*byte), Step::List) && self.walk.key == self.key.as_bytes();
        bytes.iter().position(begins).map(|at| at + 1)
    }

    /// The lists that were passed.
    pub fn passed(&self) -> impl Iterator<Item = &str> {
        self.walk.lists.iter().map(|(key, _)| key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_beside_the_rows_are_counted() {
        let mut tail = Tail::new(1);
        let text = r#", "a": [1, [{}]], "b": [{"c": [{}]}, {"]": "}"}], "d": {"e": [{}]}, "f": []} "#;
        let parts = text.as_bytes().chunks(3);
        assert!(parts.map(|part| tail.feed(part)).all(|stray| stray.is_none()));
        assert_eq!(tail.lists().cloned().collect::<Vec<_>>(), [("b".to_string(), 2)]);
        assert!(tail.closed());
        assert_eq!((tail.feed(b" x"), tail.feed(b"y")), (Some(1), None));
    }

    #[test]
    fn a_list_is_found_by_its_key() {
        let text = br#" "a": "test", "b": {"test": [1]}, "train": [{"test": [2]}], "test": [{"x": 1}]}"#;
        let mut seek = Seek::new("test");
        let at = seek.feed(text).unwrap();
        assert_eq!(&text[at..], br#"{"x": 1}]}"#);
        let mut seek = Seek::new("none");
        assert_eq!(seek.feed(text), None);
        assert_eq!(seek.passed().collect::<Vec<_>>(), ["train", "test"]);
    }
}
