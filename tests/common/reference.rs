//! The reference numbers in tests/golden.

/// The path of a file of theirs.
pub fn file(name: &str) -> String {
    format!("{}/tests/golden/{name}", super::root().display())
}

/// The content of one that is JSON.
pub fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(file(name)).unwrap()).unwrap()
}
