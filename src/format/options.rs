//! How a file is read.

use serde::{Deserialize, Serialize};

use super::RowSchema;
use super::fix::Fixes;
use super::map::Map;

/// How [`Dataset::open_with`](crate::dataset::Dataset::open_with) reads a file; the default finds everything
/// by looking.
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
    /// Takes every record for a row of this schema; `None` looks at each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<RowSchema>,
    /// Which list of rows is read of a file that is an object with several, such as `train` and `test`;
    /// `None` reads the first, and [`problems`](crate::dataset::Dataset::problems) says which are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// What stands between an instruction and its input.
    pub join: Join,
    /// What to do at a fault.
    pub faults: OnFault,
    /// What is repaired.
    pub fixes: Fixes,
}

/// What stands between an instruction and its input where the input is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// A line break.
    #[default]
    LineBreak,
    /// Nothing: the two follow each other.
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

/// What to do with a record that is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFault {
    /// Leaves it out and lists it in [`problems`](crate::dataset::Dataset::problems).
    #[default]
    List,
    /// Fails at the first.
    Fail,
}
