//! Files of rows, written in any container: JSON lines, an array, CSV, Parquet; packed or not.

mod columns;
mod csv;
mod parquet;
mod row_writer;
mod shape;
mod sink;
mod spool;

pub use row_writer::RowWriter;
pub(crate) use row_writer::container;
