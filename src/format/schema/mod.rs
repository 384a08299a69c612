//! The schemas of rows: how a record becomes a canonical row, and how a schema lays out a row.

mod aside;
pub(crate) mod calls;
pub(crate) mod default;
mod extra_column;
mod flags;
mod labels;
pub(crate) mod layout;
mod pairs;
mod preference;
mod preserved;
mod read;
mod reader;
mod recognise;
mod seal;
mod speaker;
mod transcript;
mod turns;

pub(super) use calls::calls_of_text;
pub(crate) use flags::mark;
pub(super) use flags::{LABELS, label, lesser, means_more, weight as flag_weight};
pub(super) use read::{Rejected, read, seals};
pub(super) use seal::Seals;
pub(super) use speaker::{calls_tools, role_by_name};
pub(super) use transcript::several;
pub(super) use turns::with_keys;
