//! Containers: JSON lines, arrays and objects, CSV and Parquet, packed or not, read in blocks of JSON records.

mod arrow;
mod blocks;
mod csv;
mod detect;
mod files;
mod form;
mod json;
mod parquet;
mod records;
mod scalars;
mod source;
mod tail;
mod text;

pub(crate) use blocks::{Blocks, raw_line};
pub(super) use csv::{MISSING, reads_as_text};
pub(crate) use files::{absolute, files, folders_below, real, refuse_inside};
pub(super) use form::{Container, Form, Packing};
pub(super) use json::{Keys, items as elements};
pub(super) use parquet::JSON as PARQUET_JSON;
pub(crate) use records::Block;
pub(super) use records::{BufferPool, Record};
pub(crate) use source::hex;
