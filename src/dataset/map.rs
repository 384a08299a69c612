//! Where the turns are in a file of no known schema.

use serde::{Deserialize, Serialize};

/// Tells which keys hold what, in a file of no known schema.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Map {}
