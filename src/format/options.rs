//! How a file is read.

use serde::{Deserialize, Serialize};

use super::RowSchema;
use super::fix::Fixes;
use super::map::Map;

/// How [`Dataset::open_with`](crate::dataset::Dataset::open_with) reads a file; by default
/// everything is detected.
///
/// # Examples
/// ```
/// use lorascope::format::{Join, ReadOptions};
///
/// let options = ReadOptions { join: Join::Nothing, ..Default::default() };
/// assert_eq!(options.schema, None);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Where the turns are, in a file of no known schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
    /// Reads every record as a row of this schema; `None` detects the schema of each record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<RowSchema>,
    /// Which list of rows to read from a file that is an object with several, such as `train` and `test`; `None`
    /// reads the first, and [`problems`](crate::dataset::Dataset::problems) says which are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The separator between an instruction and its input.
    pub join: Join,
    /// What to do with a record that cannot be used.
    pub faults: OnFault,
    /// The repairs to apply.
    pub fixes: Fixes,
}

/// The separator between an instruction and a non-empty input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// A line break.
    #[default]
    LineBreak,
    /// Nothing.
    Nothing,
}

impl Join {
    pub(crate) fn between(self) -> &'static str {
        match self {
            Self::LineBreak => "\n",
            Self::Nothing => "",
        }
    }
}

/// What to do with a record that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFault {
    /// Skips it and lists it in [`problems`](crate::dataset::Dataset::problems).
    #[default]
    List,
    /// Fails at the first one.
    Fail,
}
