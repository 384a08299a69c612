//! Instruction-tuning data in one canonical table: opening, inspecting, cleaning, writing.
//!
//! [`Dataset::open`] detects the container and the row schema of a file from its content. Every row becomes a
//! conversation in one polars table, whatever its schema. [`Dataset::problems`] lists the records that cannot be
//! read, with their line and how to fix them.

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
