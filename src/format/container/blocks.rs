//! Reads a file in blocks of whole JSON records, whatever its container.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::detect::{Detection, Start, detect};
use super::form::{Container, Form, Packing};
use super::records::{BLOCK, Block, BufferPool, LARGEST, RecordPiece, newlines};
use super::source::Source;
use super::tail::Seek;
use super::text::{Stage, Text};
use super::{csv, parquet};
use crate::error::{Error, Result};
use crate::format::problems::{Problem, ProblemKind};
use crate::format::row::RecordPlace;

/// Bytes that a packed Parquet file may have when it is unpacked.
const UNPACKED: u64 = 64 << 30;

/// Reads a file block by block, and hashes its bytes.
///
/// The content decides the container, not the file's name; only where both CSV and plain text are possible does
/// the name decide.
pub(crate) struct Blocks {
    path: PathBuf,
    container: Container,
    source: Source,
    rows: Rows,
    spare: Arc<BufferPool>,
}

enum Rows {
    Text(Box<Text>),
    Parquet(Box<parquet::Rows>),
    /// All have been handed out.
    Ended,
}

impl Blocks {
    /// Opens a file and finds out what it is. `list` names one of several lists of rows.
    ///
    /// # Errors
    /// If there is no such file, if it is empty, or if it is something else than JSON, CSV or Parquet; if
    /// there is no such list.
    pub fn open(path: &Path, list: Option<&str>) -> Result<Self> {
        let mut source = Source::open(path)?;
        source.fill(BLOCK)?;
        let packing = source.packing();
        let new = |form, source, rows| {
            let container = Container { form, packing };
            Ok(Self { path: path.to_path_buf(), container, source, rows, spare: Arc::default() })
        };
        if source.rest.is_empty()
            && let Some(damage) = source.damage
        {
            return Err(Error::format(damage).path(path).help("fetch the file again"));
        }
        if source.rest.starts_with(b"PAR1") {
            list.map_or(Ok(()), |list| Err(no_lists(path, list)))?;
            let file = match packing {
                Packing::Plain => std::fs::File::open(path).map_err(|e| Error::io(path, e))?,
                _ => unpack(&mut source, path)?,
            };
            let rows = parquet::Rows::open(file, path)?;
            return new(Form::Parquet, source, Rows::Parquet(Box::new(rows)));
        }
        let mut place = RecordPlace { line: 1, number: 1 };
        if source.rest.starts_with(b"\xef\xbb\xbf") {
            source.rest.drain(..3);
        }
        // However much white space there is, it is not kept.
        while !source.ended && source.rest.iter().all(u8::is_ascii_whitespace) {
            place.pass(&source.rest);
            source.rest.clear();
            source.fill(BLOCK)?;
        }
        let Start { mut form, at: start, beside } = match list {
            Some(list) => seek(list, &mut source, &mut place, path)?,
            None => look_at(&mut source, path)?,
        };
        place.pass(&source.rest[..start]);
        source.rest.drain(..start);
        let mut header = None;
        if let Form::Csv { delimiter } = form {
            match csv::rows(&source.rest, delimiter, place, source.ended, false) {
                found
                    if !found.records.is_empty()
                        && found.faults.iter().all(|f| f.line > found.records[0].line) =>
                {
                    let row = found.records[0].bytes.clone();
                    header = Some(
                        csv::Header::of(&source.rest[row.clone()], delimiter).map_err(|e| e.path(path))?,
                    );
                    place.pass(&source.rest[..row.end]);
                    source.rest.drain(..row.end);
                }
                _ => form = Form::Lines,
            }
        }
        let faults = beside.iter().map(|key| {
            let what = format!("`{key}` stands beside the list of rows, not in a row: it is not read");
            Problem::new(place.line, ProblemKind::LeftOut, what)
        });
        let faults = faults.collect();
        let asked = list.is_some();
        let text = Text { place, header, stage: Stage::Rows, largest: LARGEST, asked, faults };
        new(form, source, Rows::Text(Box::new(text)))
    }

    /// Does not compute the [fingerprint](Self::fingerprint).
    pub fn unhashed(mut self) -> Self {
        self.source.unhashed();
        self
    }

    /// What the file is.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Where the buffers of used blocks go, and come from.
    pub fn spare(&self) -> Arc<BufferPool> {
        Arc::clone(&self.spare)
    }

    /// The size and the fingerprint of what was read: all of the file, once the blocks are used up.
    pub fn fingerprint(&self) -> (u64, String) {
        self.source.fingerprint()
    }

    /// Bytes of the file that have been read, and its size.
    pub fn progress(&self) -> (u64, u64) {
        let (read, total) = self.source.progress();
        match &self.rows {
            Rows::Parquet(rows) => (rows.read().min(total), total),
            _ => (read, total),
        }
    }

    /// The next piece of the file exactly as stored; for Parquet, rows as JSON.
    fn piece(&mut self) -> Result<Option<RecordPiece>> {
        let piece = match &mut self.rows {
            Rows::Ended => return Ok(None),
            Rows::Text(text) => text.piece(&mut self.source, &self.container.form, &self.spare)?,
            Rows::Parquet(rows) => rows.piece().map_err(|e| e.path(&self.path))?,
        };
        if piece.is_some() {
            return Ok(piece);
        }
        let line = match &self.rows {
            Rows::Text(text) => text.place.line,
            _ => 1,
        };
        self.rows = Rows::Ended;
        self.source.drain()?;
        Ok(self.source.damage.take().map(|damage| {
            let problem = Problem::new(line, ProblemKind::BrokenFile, damage);
            RecordPiece { faults: vec![problem], ..RecordPiece::default() }
        }))
    }

    fn block(&mut self) -> Result<Option<Block>> {
        let Some(mut piece) = self.piece()? else { return Ok(None) };
        if let Rows::Text(text) = &self.rows
            && let Some(header) = &text.header
        {
            piece = header.objects(piece);
        }
        let RecordPiece { bytes, records, faults } = piece;
        Ok(Some(Block { bytes, records, faults }))
    }
}

impl Iterator for Blocks {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.block().transpose();
        if matches!(next, Some(Err(_))) {
            self.rows = Rows::Ended;
            self.source.damage = None;
        }
        next
    }
}

/// Returns the record that line `line` of a file belongs to, exactly as stored, and the line on which it begins.
/// For Parquet, row `line` as JSON. `None` where there is no record.
pub(crate) fn raw_line(path: &Path, list: Option<&str>, line: u32) -> Result<Option<(Vec<u8>, u32)>> {
    let mut blocks = Blocks::open(path, list)?;
    while let Some(piece) = blocks.piece()? {
        for record in piece.records.iter().take_while(|record| record.line <= line) {
            let bytes = &piece.bytes[record.bytes.clone()];
            if record.line.saturating_add(newlines(bytes.trim_ascii_end())) >= line {
                return Ok(Some((bytes.trim_ascii_end().to_vec(), record.line)));
            }
        }
        if piece.records.last().is_some_and(|record| record.line > line) {
            break;
        }
    }
    Ok(None)
}

/// Finds out how the records stand in a file; the first of them are in the buffer then.
fn look_at(source: &mut Source, path: &Path) -> Result<Start> {
    let mut wanted = BLOCK;
    loop {
        match detect(&source.rest, source.ended, path)? {
            Detection::Found(start) => return Ok(start),
            Detection::More if wanted >= LARGEST => {
                return Ok(Start { form: Form::Lines, at: 0, beside: Vec::new() });
            }
            Detection::More => {
                wanted *= 2;
                source.fill(wanted)?;
            }
        }
    }
}

/// Goes to the list under a key of the object that is the file.
fn seek(list: &str, source: &mut Source, place: &mut RecordPlace, path: &Path) -> Result<Start> {
    if source.rest.first() != Some(&b'{') {
        return Err(no_lists(path, list));
    }
    source.rest.drain(..1);
    let mut seek = Seek::new(list);
    loop {
        if let Some(at) = seek.feed(&source.rest) {
            return Ok(Start { form: Form::Field(list.to_string()), at, beside: Vec::new() });
        }
        place.pass(&source.rest);
        source.rest.clear();
        if source.ended {
            let there: Vec<String> =
                seek.passed().map(|key| format!("`{}`", crate::display::cut(key, 40))).collect();
            return match there.is_empty() {
                true => Err(no_lists(path, list)),
                false => Err(Error::input(format_args!("the file has no list of rows `{list}`"))
                    .path(path)
                    .help(format_args!("there are {}", there.join(", ")))),
            };
        }
        source.fill(BLOCK)?;
    }
}

fn no_lists(path: &Path, list: &str) -> Error {
    Error::input(format_args!(
        "the file is not an object that holds lists of rows, so it has no list `{list}`"
    ))
    .path(path)
    .help("open it without naming a list")
}

/// Unpacks a file whose reader must be able to jump in it.
fn unpack(source: &mut Source, path: &Path) -> Result<std::fs::File> {
    let io = |e| Error::io(path, e);
    let mut file = tempfile::tempfile().map_err(io)?;
    let mut size = 0;
    loop {
        file.write_all(&source.rest).map_err(io)?;
        size += source.rest.len() as u64;
        source.rest.clear();
        if let Some(damage) = source.damage.take() {
            return Err(Error::format(damage).path(path).help("fetch the file again"));
        }
        if source.ended {
            return Ok(file);
        }
        if size > UNPACKED {
            return Err(Error::format(format_args!("unpacked, the file has more than {UNPACKED} bytes"))
                .path(path)
                .help("Parquet has its own compression: unpack the file on a disk with room for it"));
        }
        source.fill(BLOCK)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the records, and line and kind of the faults, where records may have `largest` bytes.
    fn read(text: &str, largest: usize) -> (Vec<u32>, Vec<(u32, ProblemKind)>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut blocks = Blocks::open(file.path(), None).unwrap();
        if let Rows::Text(text) = &mut blocks.rows {
            text.largest = largest;
        }
        let blocks: Vec<Block> = blocks.map(|block| block.unwrap()).collect();
        let lines = blocks.iter().flat_map(|b| b.records.iter().map(|r| r.line)).collect();
        let faults = blocks.iter().flat_map(|b| b.faults.iter().map(|f| (f.line, f.kind))).collect();
        (lines, faults)
    }

    #[test]
    fn a_record_that_is_too_large_is_left_out() {
        let long = "x".repeat(5 * BLOCK);
        let large = |line| vec![(line, ProblemKind::TooLarge)];
        let lines = format!("{{\"a\": 1}}\n{{\"a\": \"{long}\"}}\n{{\"a\": 2}}\n");
        assert_eq!(read(&lines, 2 * BLOCK), (vec![1, 3], large(2)));
        assert_eq!(read(&lines, LARGEST), (vec![1, 2, 3], vec![]));
        let array = format!("[{{\"a\": 1}},\n{{\"a\": \"{long}\", \"b\": [\n]}},\n{{\"a\": 2}}]\n");
        assert_eq!(read(&array, 2 * BLOCK), (vec![1, 4], large(2)));
        let values = format!("{{\n\"a\": 1}}\n{{\"a\": \"{long}\",\n\"b\": [\n]}} {{\"a\": 2}}");
        assert_eq!(read(&values, 2 * BLOCK), (vec![1, 5], large(3)));
        let csv = format!("a,b\n1,2\n\"{long}\",1\n3,4\n");
        assert_eq!(read(&csv, 2 * BLOCK), (vec![2, 4], large(3)));
        let csv = format!("a,b\n1,2\n\"open,1\n{}", "3,4\n".repeat(BLOCK));
        let (rows, faults) = read(&csv, 2 * BLOCK);
        assert_eq!((rows.len(), faults), (BLOCK + 1, vec![(3, ProblemKind::WrongCells)]));
        let csv = format!("a,b\n1,2\n{long},1\n3,4\n");
        assert_eq!(read(&csv, 2 * BLOCK), (vec![2, 4], large(3)));
    }

    #[test]
    fn an_array_ends_where_a_block_ends() {
        // What lacks is only the bracket, and the file is as long as a block.
        let row = "{\"a\": 1}\n,";
        let mut text = format!("[{}", row.repeat(BLOCK / row.len()));
        text.push_str(&" ".repeat(BLOCK - text.len()));
        let (lines, faults) = read(&text, LARGEST);
        assert_eq!(lines.len(), BLOCK / row.len());
        assert_eq!(faults.len(), 1, "{faults:?}");
    }

    #[test]
    fn a_line_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let find = |text: &str, line| {
            let path = folder.path().join("x");
            std::fs::write(&path, text).unwrap();
            raw_line(&path, None, line)
                .unwrap()
                .map(|(bytes, line)| (String::from_utf8(bytes).unwrap(), line))
        };
        let some = |text: &str, line| Some((text.to_string(), line));
        let lines = "{\"a\": 1}\n\n{broken\r\n{\"a\": 2}";
        assert_eq!(find(lines, 3), some("{broken", 3));
        assert_eq!(find(lines, 4), some("{\"a\": 2}", 4));
        assert_eq!((find(lines, 2), find(lines, 5)), (None, None));
        let array = "[\n{\"a\":\n1}, {\"a\": 2}\n]";
        assert_eq!(find(array, 3), some("{\"a\":\n1}", 2));
        let csv = "a,b\n\"x\ny\",1\nz,2\n";
        assert_eq!((find(csv, 3), find(csv, 4)), (some("\"x\ny\",1", 2), some("z,2", 4)));
        let long = format!("{}{lines}", "{\"a\": 1}\n".repeat(BLOCK / 4));
        assert_eq!(find(&long, BLOCK as u32 / 4 + 3), some("{broken", BLOCK as u32 / 4 + 3));
    }

    #[test]
    fn a_container_has_a_name() {
        let name = |path: &str| Container::of_name(Path::new(path)).map(|c| c.to_string());
        assert_eq!(name("a/b.JSONL.gz").as_deref(), Some("JSON lines, gzip"));
        assert_eq!(name("b.tsv.zst").as_deref(), Some("tab-separated values, zstd"));
        assert_eq!((name("b.txt"), name(".gz"), name("json")), (None, None, None));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "{\"data\": [{\"instruction\": \"a\"}]}").unwrap();
        let blocks = Blocks::open(&path, None).unwrap();
        assert_eq!(blocks.container().to_string(), "JSON object with the rows under `data`");
        assert_eq!(blocks.progress(), (32, 32));
    }
}
