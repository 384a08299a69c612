//! A number of steps, or none, which files write as `false`: TOML has no null.

use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of steps, or false")]
enum Steps {
    Every(u64),
    Never(bool),
}

/// The steps, or `false`.
pub fn serialize<S: Serializer>(steps: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match steps {
        Some(steps) => serializer.serialize_u64(*steps),
        None => serializer.serialize_bool(false),
    }
}

/// The steps; none of `false`, and of the null of earlier versions.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<Steps>::deserialize(deserializer)? {
        Some(Steps::Every(steps)) => Ok(Some(steps)),
        None | Some(Steps::Never(false)) => Ok(None),
        Some(Steps::Never(true)) => Err(serde::de::Error::custom("give a number of steps, or false")),
    }
}
