//! Rows on their way to a container with columns, which are known when the last row is.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _};

use tempfile::NamedTempFile;

use super::columns::Objects;
use crate::error::{Error, Result};
use crate::files;

/// What will not be read again as it was, and in how many rows.
pub(super) type LostValues = BTreeMap<String, u64>;

/// Rows as JSON lines in a temporary file beside the output, and the columns that they make.
pub(super) struct Spool {
    file: BufWriter<NamedTempFile>,
    columns: Objects,
}

impl Spool {
    pub fn new(file: NamedTempFile) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), columns: Objects::default() }
    }

    pub fn rows(&mut self, json: &[u8]) -> std::io::Result<()> {
        self.columns.rows(json);
        self.file.write_all(json)?;
        self.file.write_all(b"\n")
    }

    /// What was seen of the columns, and the rows from the first on.
    pub fn read(self) -> Result<(Objects, Pieces)> {
        let io = |e| Error::io("", files::cause(e)); // the path is that of the output
        let mut file = self.file.into_inner().map_err(|e| io(e.into_error()))?;
        file.rewind().map_err(io)?;
        Ok((self.columns, Pieces(BufReader::with_capacity(1 << 20, file))))
    }
}

/// Rows, some at a time.
pub(super) struct Pieces(BufReader<NamedTempFile>);

impl Pieces {
    /// As many pieces as threads, each of about `bytes` bytes; empty at the end.
    pub fn next(&mut self, bytes: usize) -> Result<Vec<Vec<u8>>> {
        const ROWS: usize = 1 << 16;
        let mut pieces = Vec::new();
        for _ in 0..rayon::current_num_threads() {
            let mut piece = Vec::new();
            let mut rows = 0;
            while piece.len() < bytes && rows < ROWS {
                let read =
                    self.0.read_until(b'\n', &mut piece).map_err(|e| Error::io("", files::cause(e)))?;
                if read == 0 {
                    break;
                }
                rows += 1;
            }
            if piece.is_empty() {
                break;
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }
}
