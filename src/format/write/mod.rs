//! Writing rows in any schema.

mod batch;
mod call_ids;
mod encode;
mod extras;
pub(super) mod json;
mod losses;
mod options;
mod preserved;
mod prompt;
mod text;
mod written;

pub(crate) use batch::{Batch, Tally};
pub(crate) use encode::Encoder;
pub use options::{Extra, Layout, Misfits, WriteOptions};
pub(crate) use prompt::prompt_turns;
pub use written::{Losses, Misfit, Written};
