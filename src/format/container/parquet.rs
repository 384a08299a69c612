//! Parquet, some rows of a row group at a time, each row as a JSON object.

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use polars_arrow::array::Array;
use polars_arrow::datatypes::ArrowSchema;
use polars_parquet::read::{
    BasicDecompressor, ColumnChunkMetadata, FileMetadata, Filter, PageReader, column_iter_to_arrays,
    infer_schema, read_metadata,
};
use polars_parquet_format::PageHeader;
use polars_parquet_format::thrift::protocol::TCompactInputProtocol;

use super::arrow::{Cells, Column, Met, Texts, unreadable};
use super::json::quote;
use super::records::{BLOCK, LARGEST, Record, RecordPiece};
use crate::error::{Error, Result};
use crate::format::problems::{Problem, ProblemKind};

/// Unpacked bytes of a row group that are looked at together.
const SLICE: usize = 32 << 20;
/// Rows that are looked at together.
const ROWS: usize = 1 << 16;
/// Values that a row group may have whatever its size: run lengths make many of few bytes.
const VALUES: u64 = 1 << 26;

/// The key under which a file of ours says which of its columns and fields hold JSON.
pub(crate) const JSON: &str = "lorascope.json";

/// The rows of a file, in their order.
pub(super) struct Rows {
    file: File,
    size: u64,
    about: FileMetadata,
    schema: ArrowSchema,
    /// The columns and fields that hold JSON, where the file says so.
    json: Option<Vec<Vec<String>>>,
    group: usize,
    /// The next row within the group.
    row: usize,
    /// Rows that have been handed out.
    done: u32,
    /// The row of its group at which the latest slice begins, and whether any slice was given.
    begun: usize,
    gave: bool,
    slice: Option<Slice>,
    /// Stored bytes of the groups that have been read.
    read: u64,
    faults: Vec<Problem>,
    met: Met,
}

/// Some rows, unpacked.
struct Slice {
    columns: Vec<(Vec<u8>, Box<dyn Array>)>,
    rows: usize,
    at: usize,
}

/// Runs code that panics where a file is damaged in a way that it does not foresee.
fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged("its parts contradict each other")))
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::format(format_args!("the Parquet file is damaged: {what}")).help("fetch or write the file again")
}

impl Rows {
    pub fn open(mut file: File, path: &Path) -> Result<Self> {
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let open = |file: &mut File| {
            let about = read_metadata(file).map_err(damaged)?;
            let schema = infer_schema(&about).map_err(damaged)?;
            Ok((about, schema))
        };
        let (about, schema) = guard(|| open(&mut file)).map_err(|e| e.path(path))?;
        let said = about.key_value_metadata().iter().flatten().find(|said| said.key == JSON);
        let json = said.and_then(|said| serde_json::from_str(said.value.as_deref()?).ok());
        Ok(Self {
            file,
            size,
            about,
            schema,
            json,
            group: 0,
            row: 0,
            done: 0,
            begun: 0,
            gave: false,
            slice: None,
            read: 0,
            faults: Vec::new(),
            met: Met::default(),
        })
    }

    /// Bytes of the file that have been read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next rows, as many as make a block.
    pub fn piece(&mut self) -> Result<Option<RecordPiece>> {
        let mut piece = RecordPiece { bytes: Vec::with_capacity(BLOCK), ..RecordPiece::default() };
        while piece.bytes.len() < BLOCK {
            if self.slice.as_ref().is_none_or(|slice| slice.at == slice.rows) {
                self.slice = None;
                match self.next_slice() {
                    Ok(Some(slice)) => {
                        self.slice = Some(slice);
                        self.gave = true;
                    }
                    Ok(None) => break,
                    // What stands before and after the damaged group is whole.
                    Err(error) if error.is_format() => {
                        let groups = &self.about.row_groups;
                        let rows = groups.get(self.group).map_or(0, |group| group.num_rows());
                        if self.group + 1 >= groups.len() && !self.gave {
                            return Err(error);
                        }
                        let first = self.done.saturating_add(1);
                        self.done = self.done.saturating_add((rows - self.begun.min(rows)) as u32);
                        self.row = rows;
                        let what = format!("{}: the rows {first} to {} are lost", error.message(), self.done);
                        self.faults.push(Problem::new(first, ProblemKind::BrokenFile, what));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(slice) = &mut self.slice else { break };
            self.done = slice.objects(self.done, self.json.as_deref(), &self.met, &mut piece)?;
        }
        if self.slice.is_none() {
            self.faults.extend(self.met.take());
        }
        piece.faults.append(&mut self.faults);
        Ok((!piece.records.is_empty() || !piece.faults.is_empty()).then_some(piece))
    }

    fn next_slice(&mut self) -> Result<Option<Slice>> {
        while let Some(group) = self.about.row_groups.get(self.group) {
            let rows = group.num_rows();
            if self.row >= rows {
                self.read += group.compressed_size() as u64;
                self.group += 1;
                self.row = 0;
                continue;
            }
            let parts = group.total_byte_size() / SLICE + 1;
            let end = rows.min(self.row + ROWS.min(rows / parts + 1));
            let range = self.row..end;
            self.begun = self.row;
            self.row = end;
            let (file, size, schema) = (&mut self.file, self.size, &self.schema);
            let columns = guard(|| {
                let mut columns = Vec::new();
                let mut values = 0;
                for field in schema.iter_values() {
                    let Some(chunks) = group.columns_under_root_iter(&field.name) else { continue };
                    let chunks: Vec<&ColumnChunkMetadata> = chunks.collect();
                    let mut readers = Vec::new();
                    for chunk in &chunks {
                        let bytes = bytes_of(file, size, chunk)?;
                        values += values_of(&bytes)?;
                        let pages = PageReader::new(Cursor::new(bytes.into()), chunk, Vec::new(), usize::MAX);
                        readers.push(BasicDecompressor::new(pages, Vec::new()));
                    }
                    if values > VALUES + 8 * group.total_byte_size() as u64 {
                        return Err(damaged(format_args!("it claims {values} values in one row group")));
                    }
                    let types = chunks.iter().map(|c| &c.descriptor().descriptor.primitive_type).collect();
                    let filter = Filter::new_ranged(range.start, range.end);
                    let (arrays, _) = column_iter_to_arrays(readers, types, field.clone(), Some(filter))
                        .map_err(damaged)?;
                    let [array] = <[Box<dyn Array>; 1]>::try_from(arrays)
                        .map_err(|arrays| damaged(format_args!("a column in {} parts", arrays.len())))?;
                    if array.len() != range.len() {
                        return Err(damaged(format_args!(
                            "the column {} has {} rows where {} are expected",
                            field.name,
                            array.len(),
                            range.len()
                        )));
                    }
                    let mut key = Vec::new();
                    quote(&mut key, field.name.as_bytes());
                    columns.push((key, array));
                }
                Ok(columns)
            })?;
            for (key, array) in &columns {
                if self.done > 0 {
                    break;
                }
                for (path, what) in unreadable(array.dtype(), &name_of(key)) {
                    let what =
                        format!("the column `{path}` holds {what}, which has no place in a row of text");
                    self.faults.push(Problem::new(1, ProblemKind::LeftOut, what));
                }
            }
            return Ok(Some(Slice { columns, rows: range.len(), at: 0 }));
        }
        Ok(None)
    }
}

/// A column's name out of its key.
fn name_of(key: &[u8]) -> String {
    serde_json::from_slice(key).unwrap_or_else(|_| String::from_utf8_lossy(key).into_owned())
}

/// The stored bytes of a column of a row group.
fn bytes_of(file: &mut File, size: u64, chunk: &ColumnChunkMetadata) -> Result<Vec<u8>> {
    let range = chunk.byte_range();
    if range.end > size || range.start > range.end {
        return Err(damaged(format_args!("a column ends at byte {} of {size}", range.end)));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(range.start)).map_err(|e| Error::io("", e))?;
    file.take(range.end - range.start).read_to_end(&mut bytes).map_err(|e| Error::io("", e))?;
    if bytes.len() as u64 != range.end - range.start {
        return Err(damaged("it was cut off while it was read"));
    }
    Ok(bytes)
}

/// The values of a column, by the headers of its pages: what they claim is allocated without a look
/// at whether it is there.
fn values_of(bytes: &[u8]) -> Result<u64> {
    let mut values = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut protocol = TCompactInputProtocol::new(&mut rest, LARGEST);
        let header = PageHeader::read_from_in_protocol(&mut protocol).map_err(damaged)?;
        let unpacked = header.uncompressed_page_size;
        if !usize::try_from(unpacked).is_ok_and(|unpacked| unpacked <= LARGEST) {
            return Err(damaged(format_args!("a page claims to unpack to {unpacked} bytes")));
        }
        let count =
            match (&header.data_page_header, &header.data_page_header_v2, &header.dictionary_page_header) {
                (Some(page), _, _) => page.num_values,
                (_, Some(page), _) => page.num_values,
                (_, _, Some(page)) if page.num_values <= unpacked => page.num_values,
                (_, _, Some(page)) => {
                    return Err(damaged(format_args!(
                        "it claims {} values in {unpacked} bytes",
                        page.num_values
                    )));
                }
                _ => 0,
            };
        values += u64::try_from(count).map_err(damaged)?;
        let length = usize::try_from(header.compressed_page_size).map_err(damaged)?;
        rest = rest.get(length..).ok_or_else(|| damaged("a page is longer than its column"))?;
    }
    Ok(values)
}

impl Slice {
    /// Appends rows until the piece is full; gives the number of the last one.
    fn objects(
        &mut self,
        mut done: u32,
        json: Option<&[Vec<String>]>,
        met: &Met,
        piece: &mut RecordPiece,
    ) -> Result<u32> {
        let mut cells: Vec<(&[u8], Cells<'_>)> = self
            .columns
            .iter()
            .map(|(key, array)| {
                let column = Column { path: name_of(key), met };
                (key.as_slice(), Cells::of(array.as_ref(), column))
            })
            .collect();
        for path in json.unwrap_or_default() {
            let Some((name, rest)) = path.split_first() else { continue };
            let mut key = Vec::new();
            quote(&mut key, name.as_bytes());
            cells.iter_mut().filter(|(known, _)| *known == key).for_each(|(_, cells)| cells.mark_json(rest));
        }
        let texts = if json.is_some() { Texts::Plain } else { Texts::MayBeJson };
        while self.at < self.rows && piece.bytes.len() < BLOCK {
            done = done.checked_add(1).ok_or_else(|| {
                Error::format("the file has more than 4,294,967,295 rows").help("cut it into several files")
            })?;
            met.row.set(done);
            let start = piece.bytes.len();
            Cells::object(&cells, self.at, texts, &mut piece.bytes);
            self.at += 1;
            if piece.bytes.len() - start > LARGEST {
                piece.bytes.truncate(start);
                let what = format!("the record is larger than {}", crate::display::bytes(LARGEST as u64));
                let fault = Problem::new(done, ProblemKind::TooLarge, what);
                piece.faults.push(fault);
                continue;
            }
            piece.bytes.push(b'\n');
            piece.records.push(Record { bytes: start..piece.bytes.len(), line: done, number: done });
        }
        Ok(done)
    }
}
