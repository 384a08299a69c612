//! How rows are written.

use serde::{Deserialize, Serialize};

use crate::files::Existing;

/// How [`Dataset::write_with`](crate::dataset::Dataset::write_with) writes rows.
///
/// # Examples
/// ```
/// use lorascope::format::{Extra, WriteOptions};
///
/// let options = WriteOptions { extra: Extra::Keep, ..Default::default() };
/// assert_eq!(serde_json::to_string(&options)?, r#"{"extra":"keep","layout":"schema","misfits":"fail","existing":"refuse"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// What to do with what the schema has no place for.
    pub extra: Extra,
    /// How rows of the same schema are laid out.
    pub layout: Layout,
    /// What to do with rows that the schema cannot hold.
    pub misfits: Misfits,
    /// What to do where the file exists.
    pub existing: Existing,
}

/// What to do with what a schema has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Leaves it out and counts it.
    #[default]
    Drop,
    /// Adds one key to the row, `lorascope`, that carries it: read again and written in its first
    /// schema, the row is what it was. What was edited in between stays as it was edited, and is noted.
    Keep,
}

/// How rows are laid out that are written in the schema that they were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// With the keys, the roles and the forms that readers of the schema expect; keys that no schema
    /// knows stay. A row of which this would lose something is written as it was.
    #[default]
    Schema,
    /// As they were: their order of keys, names of keys and roles, forms of values.
    Keep,
}

/// What to do with rows that a schema cannot hold, such as a turn of a tool in `alpaca`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfits {
    /// Writes nothing, and says which they are.
    #[default]
    Fail,
    /// Leaves them out and lists them.
    LeaveOut,
}
