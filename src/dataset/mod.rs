//! Instruction-tuning data in one canonical table: opening, looking, cleaning, cutting, converting.
//!
//! A [`Dataset`] is opened from files whose container and row schema are found by looking at the
//! content. Whatever the schema, every row becomes a conversation in one polars table; records that
//! cannot be are listed, with their line and the way out, by [`Dataset::problems`].

mod cache;
mod chat;
mod columns;
mod conversation;
mod counted;
mod data;
mod load;
mod open;
mod problems;
mod quality;
mod raw_line;
mod recipe;
mod show;
mod source;
mod split;
mod steps;
mod store;
mod table;
mod tokens;
mod write;

pub use chat::Chat;
pub use data::Dataset;
pub use quality::{
    Canned, Cluster, ColumnSummary, Duplicates, Labels, LengthSpread, LengthSummary, LongRows, Margin,
    Numbers, Opening, Packing, Padding, Places, Preferences, ProblemCount, Report, ReportConfig, RowBrief,
    Sample, SharedRow, SharedRows, ToolCounts, Unit, language, near,
};
pub use raw_line::RawLine;
pub use recipe::{Keep, Part, Recipe, Step};
pub use steps::Order;
pub(crate) use tokens::Lesson;
