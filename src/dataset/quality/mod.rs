//! Data quality: the report, near-duplicates, languages, and rows that two datasets share.

mod answers;
mod column_summary;
mod duplicates;
mod gather;
pub mod language;
mod lengths;
pub mod near;
mod near_candidates;
mod near_rows;
mod near_signature;
mod overlap;
mod page;
mod places;
mod report;
mod report_config;
mod row_briefs;
mod spoils;
mod tables;
mod turn_text;
mod verdicts;

pub use answers::{Canned, Labels, Margin, Preferences, ToolCounts};
pub use column_summary::{ColumnSummary, Numbers};
pub use duplicates::{Cluster, Duplicates};
pub use lengths::{LengthSpread, LengthSummary, LongRows, Packing, Padding, Unit};
pub use overlap::{SharedRow, SharedRows};
pub use places::Places;
pub use report::{Opening, ProblemCount, Report};
pub use report_config::ReportConfig;
pub use row_briefs::{RowBrief, Sample};
