//! Files of rows: from a file to canonical rows, and from canonical rows to a file.
//!
//! A file is a container of records (JSON lines, an array, CSV, Parquet), and each record is laid out
//! in a schema ([`RowSchema`]), or as a [`Map`] says. Reading brings every record into one canonical form, whatever
//! its schema; what cannot be read is told by its [`ProblemKind`]. Writing lays canonical rows out in any schema,
//! and counts what that schema has no place for. [`convert`] does both without keeping the rows.

pub(crate) mod container;
mod convert;
pub(crate) mod fix;
mod map;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod pipeline;
pub(crate) mod problems;
mod python_repr;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod row;
mod row_schema;
pub(crate) mod row_view;
pub(crate) mod schema;
pub(crate) mod write;

pub use crate::files::Existing;
pub use convert::{Converted, convert};
pub use fix::{Fix, Fixes};
pub use map::Map;
pub(crate) use map::proposal;
pub use options::{Join, OnFault, ReadOptions};
pub use output::RowWriter;
pub use problems::{Outcome, ProblemKind};
pub use row::Role;
pub use row_schema::RowSchema;
pub use write::{Extra, Layout, Losses, Misfit, Misfits, WriteOptions, Written};
