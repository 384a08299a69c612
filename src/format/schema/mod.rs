//! The schemas of rows: how a record becomes a canonical row, and how a schema lays out a row.
//!
//! | file | what |
//! |---|---|
//! | `read.rs` | the entry: a record's JSON to a checked row |
//! | `reader.rs` | which schema the keys are, and where the turns stand |
//! | `labels.rs`, `flags.rs` | KTO's labels; weights and other marks of what is trained |
//! | `preference.rs`, `turns.rs`, `pairs.rs`, `transcript.rs`, `calls.rs` | prompts with two answers, lists of turns, pairs, transcripts in one text, tool calls |
//! | `aside.rs`, `preserved.rs`, `seal.rs` | contexts and reasoning beside the turns; what another schema had no place for |
//! | `default.rs`, `layout.rs` | the keys that a schema is written with; the layout that a record had |

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
